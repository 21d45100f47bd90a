"""What to offer next: products like those a customer has, and how well that does beside what simply sells most.

Pure. Item-based neighbours of Sarwar, Karypis, Konstan & Riedl (2001), "Item-based collaborative filtering
recommendation algorithms", WWW, and Deshpande & Karypis (2004), "Item-based top-N recommendation algorithms", ACM
Transactions on Information Systems 22: similarities of products over customers, summed over what a customer has. Only
what it has not is offered. Intervals by the bootstrap over customers (Efron & Tibshirani 1993), in pairs: each draw
compares the methods on the same customers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from geocrm.errors import Invalid, TooLittleData

Likeness = Literal["cosine", "jaccard"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST_TESTED: Final = 50
"""So many customers with a new product it takes to judge offers."""
DRAWS: Final = 2_000
_CELLS: Final = 4_000_000  # scores held at once


@dataclass(frozen=True, eq=False)
class Judged:
    """Of `customers` who bought a product they had not had, by method (item-based first): `hit_rate`, who bought one of
    the k offered; `recall`, the mean share of new products that were among the k. `_low`, `_high`: 95 % intervals;
    `gain…` those of the item-based hit rate less each other method's (0 for itself), `recall_gain…` of recall."""

    k: int
    methods: tuple[str, ...]
    customers: int
    hit_rate: Floats
    hit_rate_low: Floats
    hit_rate_high: Floats
    recall: Floats
    recall_low: Floats
    recall_high: Floats
    gain: Floats
    gain_low: Floats
    gain_high: Floats
    recall_gain: Floats
    recall_gain_low: Floats
    recall_gain_high: Floats

    def sentence(self) -> str:
        """What it says, in words: plainly where it does not beat what sells most."""
        said = [
            f"Of {self.customers:,} customers who bought something new, {self.hit_rate[0]:.1%} bought one of the"
            f" {self.k} products offered by what goes together."
        ]
        for i in range(1, len(self.methods)):
            span = f"{100 * self.gain_low[i]:+.1f} to {100 * self.gain_high[i]:+.1f} points"
            if self.gain_low[i] > 0:
                verdict = f"That beats {self.methods[i]}"
            elif self.gain_high[i] < 0:
                verdict = f"That is worse than {self.methods[i]}: offer that instead"
            else:
                verdict = f"That does not beat {self.methods[i]} for sure"
            said.append(f"{verdict} ({self.hit_rate[i]:.1%}; difference {span}, 95 %).")
        return " ".join(said)


def likeness(
    first: Ints, second: Ints, dots: Floats, squares: Floats, *, kind: Likeness = "cosine", neighbours: int = 50
) -> sparse.csr_array:
    """Similarity of n products, sparse (n, n), zero on the diagonal, each row with its `neighbours` largest.

    `first`, `second` are positions of pairs, `dots` Σ w w′ over customers with both, `squares` Σ w² of each product
    (n,). cosine: dots ÷ √(squares squares′); jaccard (Tanimoto for weights): dots ÷ (squares + squares′ − dots)."""
    if neighbours < 1:
        raise Invalid("neighbours: expected a number of at least 1")
    n = len(squares)
    if kind == "cosine":
        values = dots / np.sqrt(squares[first] * squares[second])
    else:
        values = dots / (squares[first] + squares[second] - dots)
    rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
    values = np.concatenate([values, values])
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    begins = np.searchsorted(rows, np.arange(n))
    kept = np.arange(len(rows)) - begins[rows] < neighbours
    return sparse.csr_array((values[kept], (rows[kept], columns[kept])), shape=(n, n))


def regional_popularity(weights: Floats, customers: Floats, *, like_all: float = 20.0) -> Floats:
    """Popularity of products by region (regions, n) from summed weights (regions, n) and customers (regions,): each
    region as if it had `like_all` further customers who are like all, so that small ones do not follow a few."""
    overall = weights.sum(axis=0) / max(float(customers.sum()), 1.0)
    return (weights + like_all * overall) / (customers[:, None] + like_all)


def rank_items(
    history: sparse.csr_array, popularity: Floats, *, k: int, similar: sparse.csr_array | None = None
) -> tuple[Ints, Floats]:
    """The k products (positions) to offer each customer, and their scores, (customers, k); −1 where there are no more.

    `history`: weights of what each has (customers, n); `popularity` (n,) or (customers, n). With `similar`, products
    that are like something the customer has come first, by score; all others follow by popularity, with score 0."""
    customers, n = history.shape
    if k < 1:
        raise Invalid("k: expected a number of offers of at least 1")
    items = np.full((customers, k), -1, dtype=np.int64)
    scores = np.zeros((customers, k))
    step, most = max(_CELLS // max(n, 1), 1), min(k, n)
    top = float(popularity.max()) if popularity.size else 0.0
    for start in range(0, customers, step):
        part = history[start : start + step]
        rows = part.shape[0]
        popular = popularity if popularity.ndim == 1 else popularity[start : start + step]
        value = np.broadcast_to(popular / (top or 1.0) - 2.0, (rows, n)).copy()  # −2 … −1: below all likeness
        if similar is not None:
            found = (part @ similar).toarray()
            value = np.where(found > 0, found, value)
        has = part.tocoo()
        value[has.row, has.col] = -np.inf
        order = np.argsort(-value, axis=1, kind="stable")[:, :most]
        best = np.take_along_axis(value, order, axis=1)
        items[start : start + step, :most] = np.where(np.isfinite(best), order, -1)
        scores[start : start + step, :most] = np.maximum(best, 0.0)
    return items, scores


def outcomes(items: Ints, bought: sparse.csr_array) -> Floats:
    """Per customer, whether one of the offered products (customers, k) is among those `bought` (customers, n) and which
    share of these was offered: (customers, 2)."""
    customers, k = items.shape
    rows = np.repeat(np.arange(customers), k)
    columns = items.ravel()
    real = columns >= 0
    offered = sparse.csr_array((np.ones(int(real.sum())), (rows[real], columns[real])), shape=bought.shape)
    there = (bought > 0).astype(np.float64)
    hits = np.asarray((offered * there).sum(axis=1)).ravel()
    return np.column_stack([hits > 0, hits / np.maximum(np.asarray(there.sum(axis=1)).ravel(), 1)])


def judge(results: Floats, methods: tuple[str, ...], *, k: int, seed: int, draws: int = DRAWS) -> Judged:
    """What `outcomes` of several methods on the same customers (customers, methods, 2) say, the item-based one first.

    Customers with equal outcomes are drawn together, which is the same bootstrap in less time. Raises
    errors.TooLittleData with fewer than 50 customers."""
    customers = len(results)
    if customers < FEWEST_TESTED:
        raise TooLittleData(
            f"To judge offers it takes at least {FEWEST_TESTED} customers who bought after the cutoff a product that"
            f" they had not had before; there are {customers}."
        )
    shape = results.shape[1:]
    kinds, counts = np.unique(results.reshape(customers, -1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [rng.multinomial(customers, counts / customers, size=50) @ kinds for _ in range(max(draws // 50, 1))]
    )
    means = (drawn / customers).reshape(-1, *shape)
    told = (counts @ kinds / customers).reshape(shape)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    gains = means[:, :1] - means
    gain_low, gain_high = np.quantile(gains, [0.025, 0.975], axis=0)
    gain = told[:1] - told
    return Judged(
        k, methods, customers,
        told[:, 0], low[:, 0], high[:, 0], told[:, 1], low[:, 1], high[:, 1],
        gain[:, 0], gain_low[:, 0], gain_high[:, 0], gain[:, 1], gain_low[:, 1], gain_high[:, 1],
    )  # fmt: skip
