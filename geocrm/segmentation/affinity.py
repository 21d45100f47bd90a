"""Which products go together, where, and what to offer a customer next.

Pairs are counted in SQL (`db/sql/affinity.sql`), sparse and by region; what they say is in `lift.py`, offers in
`offers.py`. Nothing at the cutoff or later is read, save by `judge_offers`, which asks what was bought after it.
Returns are no purchases. Regions, categories and names are as known now.

Work is bounded: a basket of more than `most_items` different items makes no pairs, and items in fewer than `fewest`
baskets or beyond the `most_products` most frequent take no part; `Affinity.left_out` says how much that was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm.access import Actor, as_user
from geocrm.db.copying import driver, read_binary
from geocrm.db.engine import expecting_many_rows
from geocrm.db.models import Layer
from geocrm.db.queries import for_driver, named
from geocrm.errors import Invalid, NotFound, TooLittleData
from geocrm.segmentation import features, lift, offers, statistics
from geocrm.spatial import intervals, layers

SQL: Final = "affinity"
FEWEST_BASKETS: Final = 30
"""So many baskets it takes to speak of pairs."""
FEWEST_TOGETHER: Final = 10
"""So many baskets hold a pair that is compared between regions."""
HARDLY: Final = 1.25
"""A pair goes together in one region only where its lift elsewhere is surely under this."""
MOST_ITEMS: Final = 50
MOST_PRODUCTS: Final = 1_000
_CELLS: Final = 500_000

Basket = Literal["customer", "order"]
Item = Literal["product", "category"]
Regions = Literal["territory"] | int | None
"""The primary site's territory, the areas of the layer of this id, or none."""
Ids = NDArray[np.int64]
Weights = NDArray[np.float64]


@dataclass(frozen=True)
class LeftOut:
    """What was not counted: baskets with too many items, items in too few baskets (or beyond the most frequent),
    baskets with lines of something unknown (only those lines are left out), customers without a region (they count
    over all, not by region)."""

    large_baskets: int
    rare_items: int
    unknown_lines: int
    customers_without_region: int


@dataclass(frozen=True)
class Affinity:
    """Pairs of items in `baskets` of `customers`. Columns of the frames beside those of `lift.Association`:

    `pairs`: a row a pair seen together, most surely so first. first, second, first_name, second_name; both; shrunken
    and shrunken_low (NaN where too few pairs teach what is usual, see `notes`); lift_within, with what is expected
    summed over regions, so that two products that sell in the same regions do not go together for that alone;
    odds_ratio, regions_compared, p_regions, p_regions_adjusted, whether regions differ (NaN: it cannot be told).
    `by_region`: by region, region and region_name first; both_elsewhere; lift_elsewhere with elsewhere_low and _high;
    more_here where regions differ, it goes together here and more than elsewhere; only_here where elsewhere it surely
    hardly does.
    """

    pairs: pd.DataFrame
    by_region: pd.DataFrame
    baskets: int
    customers: int
    q: float
    left_out: LeftOut
    notes: tuple[str, ...]

    def sentences(self, most: int = 10) -> list[str]:
        """The surest pairs and regional differences, each in a sentence."""
        said = []
        who = "customers" if self.baskets == self.customers else "baskets"
        for row in self.pairs[self.pairs["p_adjusted"] <= self.q].head(most).itertuples():
            said.append(
                f"{row.first_name} and {row.second_name} are bought together {row.lift:.1f} times as often as by chance"
                f" ({row.lift_low:.1f} to {row.lift_high:.1f}; {row.both:,} of {self.baskets:,} {who})."
            )
        if not said:
            said.append(f"Of {len(self.pairs):,} pairs none goes together more than chance may make it.")
        here = self.by_region[self.by_region["more_here"]] if len(self.by_region) else self.by_region
        for row in here.head(most).itertuples():
            said.append(
                f"{row.first_name} and {row.second_name} go together in {row.region_name},"
                f" {'hardly' if row.only_here else 'less'} elsewhere: {row.lift:.1f} times as often as by chance"
                f" ({row.lift_low:.1f} to {row.lift_high:.1f}), elsewhere {row.lift_elsewhere:.1f}"
                f" ({row.elsewhere_low:.1f} to {row.elsewhere_high:.1f})."
            )
        return said


@dataclass(frozen=True, eq=False)
class OfferModel:
    """What was learnt before `cutoff`: `items` (n,) and their names, `similar` (n, n), the sums of `squares` of weights
    that it is made of (n,), without half-life how many customers have each; `popularity` (n,), that by
    region (regions, n) with the `regions` of its rows."""

    cutoff: datetime
    since: datetime
    items: Ids
    names: tuple[str, ...]
    similar: sparse.csr_array
    squares: Weights
    popularity: Weights
    regions: Ids
    by_region: NDArray[np.float64]
    customers: int
    half_life_days: float | None
    source: _Source

    def in_regions(self, regions: Ids) -> NDArray[np.float64]:
        """Popularity as customers of these regions see it, (customers, n)."""
        at = np.clip(np.searchsorted(self.regions, regions), 0, len(self.regions) - 1)
        known = self.regions[at] == regions
        return np.where(known[:, None], self.by_region[at], (self.popularity / self.customers)[None, :])


@dataclass(frozen=True, eq=False)
class _Source:
    """How purchases are read: as whom, what an item is, and what a region."""

    actor: Actor | None
    by: Item
    regions: Regions
    categories: tuple[str, ...]

    @property
    def schema(self) -> str:
        return "public" if self.actor is None else "visible"

    def rows(self, session: Session, query: str, fields: dict[str, str], **values: Any) -> NDArray[np.void]:
        """The rows of a query; `fields` are its columns with their types of numpy. `basket`, `chunk`, `weight` among
        the values are fragments."""
        bought = named(SQL, "bought").replace("{item}", named(SQL, f"item_{self.by}"))
        bought = bought.replace("{basket}", values.pop("basket", "CAST(0 AS bigint)"))
        bought = bought.replace("{chunk}", values.pop("chunk", ""))
        region = "none" if self.regions is None else "territory" if self.regions == "territory" else "layer"
        exact = self.actor is None or self.actor.exact
        statement = (
            named(SQL, query)
            .replace("{bought}", bought)
            .replace("{region}", named(SQL, f"region_{region}"))
            .replace("{weight}", values.pop("weight", ""))
            .replace("{schema}", self.schema)
            .replace("{point}", "t.location" if exact else "geocrm_snap(t.location)")
        )
        values |= {"categories": list(self.categories), "layer": self.regions}
        used = set(re.findall(r"(?<!:):([a-z_][a-z0-9_]*)", statement))
        layout = [("fields", ">i2")]
        for name, kind in fields.items():
            layout += [(f"size_{name}", ">i4"), (name, kind)]
        with nullcontext(session) if self.actor is None else as_user(session, self.actor):
            copy = f"COPY ({for_driver(statement)}) TO STDOUT (FORMAT binary)"
            bound = {name: value for name, value in values.items() if name in used}
            if self.actor is None:
                return read_binary(driver(session), copy, bound, np.dtype(layout))
            with expecting_many_rows(session):
                return read_binary(driver(session), copy, bound, np.dtype(layout))

    def names(self, session: Session, items: Ids) -> tuple[str, ...]:
        if self.by == "category":
            return tuple(self.categories[item - 1] for item in items)
        held: dict[int, str] = {row.id: row.name for row in session.execute(text(named(SQL, "products")))}
        return tuple(held.get(int(item), f"product {item}") for item in items)


def find_pairs(
    session: Session,
    cutoff: datetime,
    *,
    window_days: float = 365,
    basket: Basket = "customer",
    by: Item = "product",
    regions: Regions = None,
    actor: Actor | None = None,
    q: float = 0.05,
    fewest: int = 5,
    most_items: int = MOST_ITEMS,
    most_products: int = MOST_PRODUCTS,
    sized: bool = True,
) -> Affinity:
    """Which items go together before the cutoff: bought by one customer within the window, or in one order.

    Only pairs that both counts make testable are tested, whatever they did together: p-values are adjusted over all
    pairs of frequent items, those never seen together too, and by region over those of all regions. Orders of one
    customer are not independent: with `order` a pair's variance is that of a compound Poisson count (`clumping` of
    `lift.associate`). With `actor` only what that user sees is counted; without, the session is the worker's.
    `sized`: chance is given how many items each basket holds (`lift.expected_by_size`), as who buys much has more of
    everything; without it the lift is the usual one and p exact.

    Raises errors.Invalid, errors.NotFound (layer), errors.TooLittleData."""
    until, since = _window(cutoff, window_days)
    _check(q=q, fewest=fewest, most_items=most_items, most_products=most_products)
    source = _source(session, actor, by, regions)
    rows = source.rows(
        session, "count_pairs", dict.fromkeys(("kind", "region", "first", "second", "n", "squares"), ">i8"),
        since=since, until=until, fewest=fewest, most_items=most_items, most_products=most_products,
        basket="s.id" if basket == "order" else "CAST(0 AS bigint)",
    )  # fmt: skip
    names = ("region", "first", "second", "n", "squares")
    of = [
        pd.DataFrame({name: rows[name][rows["kind"] == kind].astype(np.int64) for name in names})
        for kind in (1, 2, 3, 4)
    ]
    sizes, margins, pairs, left = of
    baskets = int(sizes["n"].sum())
    if baskets < FEWEST_BASKETS:
        raise TooLittleData(
            f"Affinity needs at least {FEWEST_BASKETS} baskets with known {_plural(by)} between {since.date()} and"
            f" {until.date()}; there are {baskets}."
        )
    items = np.unique(margins["first"].to_numpy())
    if len(items) < 2:
        raise TooLittleData(
            f"Affinity needs at least two {_plural(by)} that are in {fewest} baskets or more; there is {len(items)}."
            if len(items) == 1
            else f"Affinity needs at least two {_plural(by)} that are in {fewest} baskets or more; there are none."
        )
    lost = dict(zip(left["first"], left["n"], strict=True))
    outside = sizes.loc[sizes["region"] == 0, "squares"].sum() if regions is not None else 0
    count = _Counts(sizes, margins, pairs, items, source.names(session, items), sized)
    whole, notes = _all_regions(count, baskets, basket == "order", regions is not None)
    by_region = _by_region(session, count, whole, fewest, q) if regions is not None else pd.DataFrame()
    order = np.lexsort((-whole["shrunken_low"].fillna(0), -whole["lift_low"], whole["p_adjusted"]))
    return Affinity(
        pairs=whole.iloc[order].drop(columns=["clumping", "expected_within"]).reset_index(drop=True),
        by_region=by_region,
        baskets=baskets,
        customers=int(sizes["squares"].sum()),
        q=q,
        left_out=LeftOut(int(lost.get(1, 0)), int(lost.get(2, 0)), int(lost.get(3, 0)), int(outside)),
        notes=notes,
    )


class _Counts:
    """Counts of items and pairs by region, with items as positions among `items`."""

    def __init__(
        self,
        sizes: pd.DataFrame,
        margins: pd.DataFrame,
        pairs: pd.DataFrame,
        items: Ids,
        names: tuple[str, ...],
        sized: bool,
    ) -> None:
        self.items, self.names = items, np.array(names, dtype=object)
        self.regions = sizes["region"].to_numpy()
        order = np.argsort(self.regions)
        self.regions, self.baskets = self.regions[order], sizes["n"].to_numpy()[order]
        self.alone = np.zeros((len(self.regions), len(items)), dtype=np.int64)
        at = np.searchsorted(self.regions, margins["region"])
        item = np.searchsorted(items, margins["first"])
        np.add.at(self.alone, (at, item), margins["n"])
        self.sized, self._margins = sized, (at, item, margins["second"].to_numpy(), margins["n"].to_numpy())
        self.of_region = np.searchsorted(self.regions, pairs["region"])
        first, second = np.searchsorted(items, pairs["first"]), np.searchsorted(items, pairs["second"])
        keys, self.of_pair = np.unique(first * len(items) + second, return_inverse=True)
        self.first, self.second = keys // len(items), keys % len(items)
        self.n, self.squares = pairs["n"].to_numpy(), pairs["squares"].to_numpy()

    def summed(self, values: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values by region and pair, summed by pair."""
        return np.bincount(self.of_pair, weights=values, minlength=len(self.first))

    def expected(self, first: Ids, second: Ids, region: int | None = None) -> NDArray[np.float64]:
        """Baskets of a region, or of all, with both of pairs by chance."""
        if not self.sized:
            if region is None:
                alone, baskets = self.alone.sum(axis=0), int(self.baskets.sum())
            else:
                alone, baskets = self.alone[region], int(self.baskets[region])
            return np.asarray(alone[first] * alone[second] / baskets)
        at, item, size, n = self._margins
        here = np.ones(len(at), dtype=np.bool_) if region is None else at == region
        sizes, of = np.unique(size[here], return_inverse=True)
        counts = np.zeros((len(sizes), len(self.items)))
        np.add.at(counts, (of, item[here]), n[here])
        return lift.expected_by_size(counts, sizes, first, second)

    def frame(self, first: Ids, second: Ids, both: NDArray[np.int64], found: lift.Association) -> pd.DataFrame:
        """The counts and statistics of pairs as a frame."""
        columns: dict[str, Any] = {
            "first": self.items[first],
            "second": self.items[second],
            "first_name": self.names[first],
            "second_name": self.names[second],
            "both": both,
        }
        held = {name: value for name, value in vars(found).items() if name != "tests"}
        return pd.DataFrame(columns | held)


def _all_regions(count: _Counts, baskets: int, clumped: bool, compared: bool) -> tuple[pd.DataFrame, tuple[str, ...]]:
    n, alone, k = count.summed(count.n), count.alone.sum(axis=0), len(count.items)
    clumping = lift.clumping_of(n, count.summed(count.squares)) if clumped else np.ones(len(n))
    found = lift.associate(
        n, alone[count.first], alone[count.second], baskets, tests=k * (k - 1) // 2, clumping=clumping,
        expected=count.expected(count.first, count.second) if count.sized else None,
    )  # fmt: skip
    frame = count.frame(count.first, count.second, n.astype(np.int64), found)
    notes: tuple[str, ...] = ()
    try:
        prior = lift.fit_prior(n / clumping, found.expected / clumping)
        drawn = lift.shrink(n / clumping, found.expected / clumping, prior)
        frame["shrunken"], frame["shrunken_low"] = drawn.lift, drawn.low
    except TooLittleData as why:
        frame["shrunken"] = frame["shrunken_low"] = np.nan
        notes = (why.detail,)
    within = np.zeros(len(n))
    for region in range(len(count.regions)):
        within += count.expected(count.first, count.second, region)
    frame["clumping"], frame["expected_within"], frame["lift_within"] = clumping, within, n / within
    frame["odds_ratio"] = frame["p_regions"] = frame["p_regions_adjusted"] = np.nan
    frame["regions_compared"] = 0
    if compared:
        _compare(count, frame)
    return frame, notes


def _compare(count: _Counts, frame: pd.DataFrame) -> None:
    """Whether pairs differ between regions, for those in enough baskets. No region is none."""
    real = np.flatnonzero(count.regions > 0)
    place = np.full(len(count.regions), -1)
    place[real] = np.arange(len(real))
    inside = place[count.of_region] >= 0
    pair, region, n = count.of_pair[inside], place[count.of_region[inside]], count.n[inside]
    order = np.argsort(pair, kind="stable")
    pair, region, n = pair[order], region[order], n[order]
    sums = np.bincount(pair, weights=n, minlength=len(frame))
    wanted = np.flatnonzero(sums >= FEWEST_TOGETHER)
    step = max(_CELLS // max(len(real), 1), 1)
    for start in range(0, len(wanted), step):
        chunk = wanted[start : start + step]
        rows = np.isin(pair, chunk)
        table = np.zeros((len(chunk), len(real)), dtype=np.int64)
        table[np.searchsorted(chunk, pair[rows]), region[rows]] = n[rows]
        found = lift.compare(
            table,
            count.alone[real][:, count.first[chunk]].T,
            count.alone[real][:, count.second[chunk]].T,
            count.baskets[real][None, :],
            clumping=frame["clumping"].to_numpy()[chunk],
        )
        frame.loc[chunk, "odds_ratio"], frame.loc[chunk, "p_regions"] = found.odds_ratio, found.p
        frame.loc[chunk, "regions_compared"] = found.regions
    p = frame["p_regions"].to_numpy()
    frame["p_regions_adjusted"] = lift.adjust_among(p, int((~np.isnan(p)).sum()))


def _by_region(session: Session, count: _Counts, whole: pd.DataFrame, fewest: int, q: float) -> pd.DataFrame:
    enough = count.alone >= fewest
    enough[count.regions == 0] = False
    usable = enough.sum(axis=1)
    tests = int((usable * (usable - 1) // 2).sum())
    first, second = count.first[count.of_pair], count.second[count.of_pair]
    rows = np.flatnonzero(enough[count.of_region, first] & enough[count.of_region, second])
    region, pair, first, second = count.of_region[rows], count.of_pair[rows], first[rows], second[rows]
    n = count.n[rows]
    clumping = whole["clumping"].to_numpy()[pair]
    found = lift.associate(
        n,
        count.alone[region, first],
        count.alone[region, second],
        count.baskets[region],
        tests=tests,
        clumping=clumping,
    )
    frame = count.frame(first, second, n, found)
    rest = whole["both"].to_numpy()[pair] - n
    expected = np.maximum(whole["expected_within"].to_numpy()[pair] - found.expected, 0.0)
    low, high = intervals.of_rate(rest / clumping, expected / clumping)
    ids = count.regions[region]
    held = session.execute(text(named(SQL, "areas_of")), {"areas": [int(i) for i in np.unique(ids)]})
    known = {row.id: row.name for row in held}
    frame.insert(0, "region", ids)
    frame.insert(1, "region_name", [known[int(i)] for i in ids])
    frame["both_elsewhere"] = rest
    with np.errstate(divide="ignore", invalid="ignore"):
        frame["lift_elsewhere"] = np.where(expected > 0, rest / expected, np.nan)
    frame["elsewhere_low"], frame["elsewhere_high"] = low, high
    differs = whole["p_regions_adjusted"].to_numpy()[pair] <= q
    frame["more_here"] = differs & (found.p_adjusted <= q) & (found.lift_low > high)
    frame["only_here"] = frame["more_here"] & (high <= HARDLY)
    order = np.lexsort((frame["second"], frame["first"], frame["region"], -frame["lift_low"], frame["p_adjusted"]))
    return frame.iloc[order].reset_index(drop=True)


# ---------------------------------------------------------------- what to offer next


def learn_offers(
    session: Session,
    cutoff: datetime,
    *,
    window_days: float = 730,
    by: Item = "product",
    regions: Regions = None,
    actor: Actor | None = None,
    likeness: offers.Likeness = "cosine",
    half_life_days: float | None = None,
    neighbours: int = 50,
    fewest: int = 5,
    most_items: int = 200,
    most_products: int = MOST_PRODUCTS,
) -> OfferModel:
    """Similarities and popularity of items, from what customers bought in the window before the cutoff. With
    `half_life_days` a purchase weighs half after so many days, in both. Customers with more than `most_items` items
    count for popularity alone. Raises errors.Invalid, errors.NotFound, errors.TooLittleData."""
    until, since = _window(cutoff, window_days)
    _check(fewest=fewest, most_items=most_items, most_products=most_products)
    if half_life_days is not None and not 0 < half_life_days < float("inf"):
        raise Invalid("half_life_days: expected a number of days above 0")
    source = _source(session, actor, by, regions)
    kinds = dict.fromkeys(("kind", "region", "first", "second", "n"), ">i8") | {"amount": ">f8", "squares": ">f8"}
    rows = source.rows(
        session, "learn", kinds, since=since, until=until, fewest=fewest, most_items=most_items,
        most_products=most_products, half_life=half_life_days, weight=_weight(half_life_days),
    )  # fmt: skip
    customers, margins, pairs = (rows[rows["kind"] == kind] for kind in (1, 2, 3))
    items = np.unique(margins["first"].astype(np.int64))
    if len(items) < 2 or not len(pairs):
        raise TooLittleData(
            f"Offers need at least two {_plural(by)} that {fewest} customers or more bought between {since.date()} and"
            f" {until.date()}, and a customer with both; there {'is' if len(items) == 1 else 'are'} {len(items)}"
            f" and {len(pairs)} pairs."
        )
    region_ids = customers["region"].astype(np.int64)
    at, item = np.searchsorted(region_ids, margins["region"]), np.searchsorted(items, margins["first"])
    weights = np.zeros((len(region_ids), len(items)))
    weights[at, item] = margins["amount"]
    squares = np.bincount(item, weights=margins["squares"], minlength=len(items))
    found = offers.likeness(
        np.searchsorted(items, pairs["first"]), np.searchsorted(items, pairs["second"]),
        pairs["amount"].astype(np.float64), squares, kind=likeness, neighbours=neighbours,
    )  # fmt: skip
    counts = customers["n"].astype(np.float64)
    return OfferModel(
        until, since, items, source.names(session, items), found, squares, weights.sum(axis=0), region_ids,
        offers.regional_popularity(weights, counts), int(counts.sum()), half_life_days, source,
    )  # fmt: skip


def next_offers(
    session: Session, model: OfferModel, *, k: int = 5, customer_id: int | None = None, chunk_rows: int = 5_000
) -> Iterator[pd.DataFrame]:
    """What to offer each customer with a purchase in the model's window, or one of them, in frames of chunks:
    customer_id, rank (from 1), item, name, score. Score 0: nothing the customer has is like it; it sells most, in its
    region where the model has regions."""
    for who, regions, history in _histories(session, model, model.since, model.cutoff, customer_id, chunk_rows):
        items, scores = offers.rank_items(history, model.in_regions(regions), k=k, similar=model.similar)
        row, column = np.nonzero(items >= 0)
        chosen = items[row, column]
        yield pd.DataFrame(
            {
                "customer_id": who[row],
                "rank": column + 1,
                "item": model.items[chosen],
                "name": np.array(model.names, dtype=object)[chosen],
                "score": scores[row, column],
            }
        )


def judge_offers(
    session: Session, model: OfferModel, *, seed: int, days: float = 90, k: int = 5, chunk_rows: int = 5_000
) -> offers.Judged:
    """How well offers of the model do in the days after its cutoff, which it has not seen, beside what sells most over
    all and by region: among customers who then bought an item of the model that they had not in its window.

    Raises errors.TooLittleData with fewer than 50 such customers."""
    if not 0 < days < float("inf"):
        raise Invalid("days: expected a number of days above 0")
    methods = ["what goes together", "what sells most"]
    if model.source.regions is not None:
        methods.append("what sells most in the region")
    end = model.cutoff + timedelta(days=days)
    results = []
    before = _histories(session, model, model.since, model.cutoff, None, chunk_rows)
    for who, regions, history in before:
        bought = _purchases(session, model, who, model.cutoff, end)
        new = bought - bought.multiply(history > 0)
        new.eliminate_zeros()
        testable = np.flatnonzero(np.diff(new.indptr) > 0)
        if not len(testable):
            continue
        had, test, local = history[testable], new[testable], model.in_regions(regions[testable])
        ranked = [
            offers.rank_items(had, local, k=k, similar=model.similar)[0],
            offers.rank_items(had, model.popularity, k=k)[0],
        ]
        if model.source.regions is not None:
            ranked.append(offers.rank_items(had, local, k=k)[0])
        results.append(np.stack([offers.outcomes(items, test) for items in ranked], axis=1))
    joined = np.concatenate(results) if results else np.zeros((0, len(methods), 2))
    return offers.judge(joined, tuple(methods), k=k, seed=seed)


def _histories(
    session: Session, model: OfferModel, since: datetime, until: datetime, customer_id: int | None, rows: int
) -> Iterator[tuple[Ids, Ids, sparse.csr_array]]:
    """Customers of a chunk with a known item, their regions and weights (customers, n)."""
    if rows < 1:
        raise Invalid("chunk_rows: expected a number of customers of at least 1")
    last = 2**62 if customer_id is None else customer_id
    after = -1 if customer_id is None else customer_id - 1
    for chunk in features.read_ids(session, rows, after=after, last=last):
        read = _read(session, model, since, until, int(chunk[0]) - 1, int(chunk[-1]))
        ids, first_rows, codes = np.unique(read[0], return_index=True, return_inverse=True)
        if len(ids):
            matrix = sparse.csr_array((read[3], (codes, read[2])), shape=(len(ids), len(model.items)))
            yield ids, read[1][first_rows], matrix


def _purchases(session: Session, model: OfferModel, who: Ids, since: datetime, until: datetime) -> sparse.csr_array:
    """What these customers bought in a window, 1 each, (customers, n)."""
    ids, _, items, _ = _read(session, model, since, until, int(who[0]) - 1, int(who[-1]))
    known = np.isin(ids, who)
    rows = np.searchsorted(who, ids[known])
    return sparse.csr_array((np.ones(len(rows)), (rows, items[known])), shape=(len(who), len(model.items)))


def _read(
    session: Session, model: OfferModel, since: datetime, until: datetime, after: int, upto: int
) -> tuple[Ids, Ids, Ids, NDArray[np.float64]]:
    fields = {"customer_id": ">i8", "region": ">i8", "item": ">i8", "weight": ">f8"}
    rows = model.source.rows(
        session, "histories", fields, since=since, until=until, after=after, upto=upto,
        chunk="AND s.customer_id > CAST(:after AS bigint) AND s.customer_id <= CAST(:upto AS bigint)",
        half_life=model.half_life_days, weight=_weight(model.half_life_days),
    )  # fmt: skip
    rows = rows[np.isin(rows["item"].astype(np.int64), model.items)]
    item = np.searchsorted(model.items, rows["item"].astype(np.int64))
    who, region = rows["customer_id"].astype(np.int64), rows["region"].astype(np.int64)
    return who, region, item, rows["weight"].astype(np.float64)


def _weight(half_life_days: float | None) -> str:
    return named(SQL, "weight_even" if half_life_days is None else "weight_recent")


def _source(session: Session, actor: Actor | None, by: Item, regions: Regions) -> _Source:
    if regions is not None and regions != "territory":
        layers.get_layer(session, regions)
    if regions == "territory" and actor is not None and not actor.exact:
        # without exact places a territory is that of the snapped point
        primary = session.scalar(select(Layer.id).where(Layer.is_primary))
        if primary is None:
            raise NotFound("There is no primary layer of territories.")
        regions = primary
    categories = tuple(session.scalars(text(named(SQL, "categories")))) if by == "category" else ()
    return _Source(actor, by, regions, categories)


def _window(cutoff: datetime, days: float) -> tuple[datetime, datetime]:
    until = statistics.cutoff_moment(cutoff)
    earliest = datetime(1900, 1, 1, tzinfo=UTC)
    if not 0 < days < float("inf"):
        raise Invalid("window_days: expected a number of days above 0")
    return until, max(until - timedelta(days=min(days, 100_000)), earliest)


def _check(*, q: float = 0.05, **least: int) -> None:
    if not 0 < q < 1:
        raise Invalid("q: expected a share between 0 and 1")
    for name, value in least.items():
        if value < (2 if name != "fewest" else 1):
            raise Invalid(f"{name}: expected a larger number")


def _plural(by: Item) -> str:
    return "products" if by == "product" else "categories"
