"""Is a model any good where and when it was not fitted, and does it gain by knowing the place?

Neighbours are alike, and the future is not the past: a model that is tested on customers drawn at random between those
it was fitted on looks better than it is (Roberts et al., Cross-validation strategies for data with temporal, spatial,
hierarchical, or phylogenetic structure, Ecography 40 (2017)). Here whole blocks of the map are held out, with a strip
round them that no model sees, and later windows are predicted from earlier ones. Places are metres on a plane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from geocrm.errors import Invalid, TooLittleData
from geocrm.spatial.intervals import LEVEL

FOLDS = 5
FEWEST_BLOCKS = 20
"""Fewer blocks give no interval worth the name."""
REPLICATES = 1_000
WORTHWHILE = 0.01
"""A gain under this share of the loss without the features is one that nobody needs."""
PAIRS_OF = 1_000
"""The correlogram is taken of at most so many customers."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Verdict = Literal["helps", "does not help", "cannot tell"]
Predict = Callable[[pd.DataFrame, Floats, pd.DataFrame], Floats]
"""Training frame, its outcomes, test frame → predicted outcomes (probabilities) of the test frame."""
Loss = Callable[[Floats, Floats], Floats]
"""Outcomes, predictions → loss of each customer."""


def log_loss(outcome: Floats, probability: Floats) -> Floats:
    """Minus the logarithm of the probability given to what happened; probabilities are kept off 0 and 1 by 1e-6."""
    p = np.clip(probability, 1e-6, 1 - 1e-6)
    return -np.where(outcome > 0, np.log(p), np.log1p(-p))


def squared_loss(outcome: Floats, prediction: Floats) -> Floats:
    """Square of the error: of probabilities the Brier score, of amounts the mean squared error."""
    return (outcome - prediction) ** 2


# --- blocks of the map


@dataclass(frozen=True)
class BlockSize:
    """How large blocks should be: twice the range over which residuals are alike, so that most customers of a block lie
    out of reach of those outside; with what was found and why."""

    size_m: float
    range_m: float
    reason: str
    distance_m: Floats
    correlation: Floats
    envelope: Floats


def choose_block_size(
    x_m: ArrayLike,
    y_m: ArrayLike,
    residual: ArrayLike,
    *,
    seed: int,
    bins: int = 15,
    permutations: int = 99,
    least_m: float = 1_000.0,
) -> BlockSize:
    """The size of blocks from the correlogram of a model's residuals.

    Correlation of pairs by distance (bins that hold equally many pairs within half the diameter), on at most 1,000
    customers; the range is where it first falls under the 95th percentile of the same under random exchange of the
    residuals. Blocks are twice that wide, but never so wide that fewer than 20 could be, nor less than `least_m`.

    Raises TooLittleData for fewer than 50 customers with a place.
    """
    x, y, r = (np.asarray(each, dtype=np.float64) for each in (x_m, y_m, residual))
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(r)
    x, y, r = x[known], y[known], r[known]
    if len(x) < 50:
        raise TooLittleData(f"Blocks by correlation need at least 50 customers with a place; there are {len(x)}.")
    draw = np.random.default_rng([seed, 61])
    if len(x) > PAIRS_OF:
        chosen = np.sort(draw.choice(len(x), PAIRS_OF, replace=False))
        x, y, r = x[chosen], y[chosen], r[chosen]
    widest = _widest(x, y)
    first, second = np.triu_indices(len(x), 1)
    apart = np.hypot(x[first] - x[second], y[first] - y[second])
    near = apart <= np.hypot(np.ptp(x), np.ptp(y)) / 2
    first, second, apart = first[near], second[near], apart[near]
    r = (r - r.mean()) / (r.std() or 1.0)
    edges = np.unique(np.quantile(apart, np.linspace(0, 1, bins + 1) ** 2))
    at = np.clip(np.searchsorted(edges, apart, side="right") - 1, 0, len(edges) - 2)
    pairs = np.bincount(at, minlength=len(edges) - 1)

    def correlogram(values: Floats) -> Floats:
        found: Floats = np.bincount(at, values[first] * values[second], minlength=len(pairs)) / np.maximum(pairs, 1)
        return found

    observed = correlogram(r)
    null = np.array([correlogram(draw.permutation(r)) for _ in range(permutations)])
    envelope = np.quantile(null, 0.95, axis=0)
    within = observed > envelope
    reach = len(within) if within.all() else int(np.argmin(within))
    range_m = float(edges[reach]) if reach else 0.0
    size = max(2 * range_m, least_m)
    if not reach:
        reason = "neighbours' residuals are no more alike than those of strangers"
    else:
        reason = f"residuals are alike up to {range_m / 1000:,.1f} km"
    if size > widest:
        size = widest
        reason += f"; blocks of more than {widest / 1000:,.1f} km would be fewer than {FEWEST_BLOCKS}"
    return BlockSize(float(size), range_m, reason, (edges[1:] + edges[:-1]) / 2, observed, envelope)


def _widest(x: Floats, y: Floats) -> float:
    """The largest side at which the customers still fill 20 blocks, by halving."""
    low, high = 0.0, float(max(np.ptp(x), np.ptp(y))) or 1.0
    for _ in range(30):
        middle = (low + high) / 2
        filled = len(
            np.unique(np.stack((np.floor((x - x.min()) / middle), np.floor((y - y.min()) / middle))), axis=1).T
        )
        low, high = (middle, high) if filled >= FEWEST_BLOCKS else (low, middle)
    return low or high


@dataclass(frozen=True)
class Folds:
    """Customers dealt to folds by blocks of the map: who is tested, and who may then be learnt from.

    `block` and `fold` go with `customers` (n,); -1 is no block. A customer without a known place is a block of its own.
    """

    customers: pd.Index
    x_m: Floats
    y_m: Floats
    block: Ints
    fold: Ints
    size_m: float
    buffer_m: float

    @property
    def count(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1

    def blocks_of(self, customers: pd.Index) -> Ints:
        """The block of each of these customers; raises Invalid for one who was not there."""
        return self.block[self._at(customers)]

    def split(self, train: pd.Index, test: pd.Index | None = None) -> Iterator[tuple[Ints, Ints]]:
        """For each fold the rows of `train` to learn from and the rows of `test` (the same frame if not given) to test.

        No row to learn from is of a customer of the fold, or nearer than `buffer_m` to one that is tested. With two
        frames, of an earlier and a later cutoff, the test is out of time and out of place at once.
        """
        learn, ask = self._at(train), self._at(train if test is None else test)
        for number in range(self.count):
            tested = np.flatnonzero(self.fold[ask] == number)
            free = self.fold[learn] != number
            if self.buffer_m > 0 and len(tested):
                free &= ~self._near(learn, np.unique(ask[tested]))
            yield np.flatnonzero(free), tested

    def _near(self, rows: Ints, to: Ints) -> NDArray[np.bool_]:
        placed = to[np.isfinite(self.x_m[to])]
        near = np.zeros(len(rows), dtype=bool)
        known = np.flatnonzero(np.isfinite(self.x_m[rows]))
        if len(placed) and len(known):
            tree = cKDTree(np.column_stack((self.x_m[placed], self.y_m[placed])))
            points = np.column_stack((self.x_m[rows[known]], self.y_m[rows[known]]))
            away, _ = tree.query(points, distance_upper_bound=self.buffer_m * (1 + 1e-9) + 1e-9)
            near[known] = away <= self.buffer_m
        return near

    def _at(self, customers: pd.Index) -> Ints:
        at = self.customers.get_indexer(customers)
        if (at < 0).any():
            raise Invalid(f"Customer {customers[int(np.argmax(at < 0))]} is in none of the blocks.")
        return at.astype(np.int64)


def make_folds(places: pd.DataFrame, size_m: float, *, seed: int, buffer_m: float = 0.0, folds: int = FOLDS) -> Folds:
    """Square blocks of `size_m` on a grid shifted at random, dealt to the folds so that these are of about one size.

    Args:
        places: index customer_id, columns x_m and y_m on a plane in metres (NaN: not known).
        buffer_m: nobody nearer than this to a tested customer is learnt from.
        folds: how many; at most the number of blocks.

    Raises:
        TooLittleData: fewer than two blocks.
        Invalid: customers twice, or sizes that are not positive.
    """
    if not (np.isfinite(size_m) and size_m > 0 and np.isfinite(buffer_m) and buffer_m >= 0 and folds >= 2):
        raise Invalid("Blocks: a size of more than 0 m, a buffer of at least 0 m, at least 2 folds.")
    if not places.index.is_unique:
        raise Invalid("Blocks: each customer once.")
    draw = np.random.default_rng([seed, 62])
    x, y = (places[name].to_numpy(dtype=np.float64) for name in ("x_m", "y_m"))
    known = np.isfinite(x) & np.isfinite(y)
    shift = draw.random(2) * size_m
    cells = np.stack((np.floor((x + shift[0]) / size_m), np.floor((y + shift[1]) / size_m)))
    cells[:, ~known] = np.stack((np.full((~known).sum(), np.inf), np.flatnonzero(~known)))
    _, block = np.unique(cells, axis=1, return_inverse=True)
    block = block.reshape(-1).astype(np.int64)
    sizes = np.bincount(block)
    if len(sizes) < 2:
        raise TooLittleData(
            f"All {len(x):,} customers lie in one block of {size_m / 1000:,.1f} km: blocked validation needs at least "
            "two. Take smaller blocks."
        )
    count = min(folds, len(sizes))
    order = np.lexsort((draw.permutation(len(sizes)), -sizes))
    filled, fold_of = np.zeros(count), np.zeros(len(sizes), dtype=np.int64)
    for one in order:  # the largest first, each to the fold that has the fewest customers
        fold_of[one] = int(np.argmin(filled))
        filled[fold_of[one]] += sizes[one]
    return Folds(
        places.index, np.where(known, x, np.nan), np.where(known, y, np.nan), block, fold_of[block], size_m, buffer_m
    )


def random_folds(customers: pd.Index, *, seed: int, folds: int = FOLDS) -> Folds:
    """Folds of customers drawn at random, where no places are known: every customer is a block."""
    nowhere = pd.DataFrame({"x_m": np.nan, "y_m": np.nan}, index=customers)
    return make_folds(nowhere, 1.0, seed=seed, folds=folds)


def check_out_of_time(cutoff: datetime, window_days: float, later: datetime) -> None:
    """Raises Invalid unless the later cutoff lies at or after the end of the earlier one's window."""
    if later < (ends := cutoff + timedelta(days=window_days)):
        raise Invalid(
            f"The later cutoff {later:%Y-%m-%d} lies before {ends:%Y-%m-%d}, the end of the window of the earlier one: "
            "what is to be predicted would already be known. Take a later one."
        )


# --- does it help?


@dataclass(frozen=True)
class Measure:
    """One measure of what is gained (positive is better), with its interval."""

    name: str
    without: float
    with_: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """What a model gains by some of its features, on customers of blocks it never saw.

    The verdict is that of the first measure: "helps" if its whole interval lies above 0, "does not help" if it lies
    under `worthwhile`, also after adding what it costs to learn k features from n customers (log loss k ÷ 2n, squared
    loss k × loss ÷ n: Akaike 1974), and that cost is under half of `worthwhile`; otherwise "cannot tell".
    """

    what: str
    verdict: Verdict
    sentence: str
    measures: tuple[Measure, ...]
    customers: int
    blocks: int
    level: float
    worthwhile: float

    @property
    def first(self) -> Measure:
        """The measure that the verdict is of."""
        return self.measures[0]


def out_of_fold(
    frame: pd.DataFrame,
    outcome: ArrayLike,
    folds: Folds,
    predict: Predict,
    later: tuple[pd.DataFrame, ArrayLike] | None = None,
) -> Floats:
    """Predictions of customers by models that saw neither them nor their block: (n,) of `later` if given, else `frame`.

    NaN where a fold left nothing to learn from.
    """
    y = np.asarray(outcome, dtype=np.float64)
    asked = frame if later is None else later[0]
    made = np.full(len(asked), np.nan)
    for train, test in folds.split(frame.index, asked.index):
        if len(test) and len(train) and (np.unique(y[train]).size > 1):
            made[test] = predict(frame.iloc[train], y[train], asked.iloc[test])
    return made


def _mean_alone(_: pd.DataFrame, outcome: Floats, asked: pd.DataFrame) -> Floats:
    return np.full(len(asked), outcome.mean())


def gain_of_place(
    frame: pd.DataFrame,
    outcome: ArrayLike,
    place: Sequence[str],
    folds: Folds,
    predict: Predict,
    *,
    seed: int,
    what: str = "place",
    loss: Literal["log", "squared"] = "log",
    later: tuple[pd.DataFrame, ArrayLike] | None = None,
    level: float = LEVEL,
    worthwhile: float = WORTHWHILE,
    replicates: int = REPLICATES,
) -> Gain:
    """The same model with and without the columns `place`, on the same blocked folds: does it help to know them?

    The interval is from a bootstrap of the blocks, not of the customers, who are no independent witnesses where they
    live next door. Predictions are those of the fitted models: the interval is of the gain of models like these on
    other blocks of the same map.

    Args:
        frame: index customer_id, all columns of the model; where `place` are all, the mean alone is compared with.
        outcome: 0 or 1 (log), or amounts (squared), (n,).
        later: frame and outcome of a later cutoff, to test out of time as well.
        worthwhile: as a share of the loss without.

    Raises:
        Invalid: columns that are not there, or none named.
    """
    if lost := sorted(set(place) - set(frame.columns)):
        raise Invalid(f"The frame lacks the columns {', '.join(lost)}.")
    others = [name for name in frame.columns if name not in set(place)]
    if not place:
        raise Invalid("Name at least one feature whose gain is asked for.")
    less = None if later is None else (later[0][others], later[1])
    with_ = out_of_fold(frame, outcome, folds, predict, later)
    without = out_of_fold(frame[others], outcome, folds, predict if others else _mean_alone, less)
    asked, y = (frame, outcome) if later is None else later
    learnt = len(frame) * (1 - 1 / folds.count)
    return compare(
        np.asarray(y, dtype=np.float64), without, with_, folds.blocks_of(asked.index), seed=seed, what=what, loss=loss,
        level=level, worthwhile=worthwhile, replicates=replicates, learning=len(place) / learnt,
    )  # fmt: skip


def compare(
    outcome: ArrayLike,
    without: ArrayLike,
    with_: ArrayLike,
    blocks: ArrayLike,
    *,
    seed: int,
    what: str = "place",
    loss: Literal["log", "squared"] = "log",
    level: float = LEVEL,
    worthwhile: float = WORTHWHILE,
    replicates: int = REPLICATES,
    learning: float = 0.0,
) -> Gain:
    """The gain of held-out predictions over others of the same customers, by a bootstrap of the blocks.

    `outcome`, `without`, `with_` and `blocks` are (n,); rows without both predictions are left out. `learning`:
    features in question a customer learnt from.
    """
    y, one, two = (np.asarray(each, dtype=np.float64) for each in (outcome, without, with_))
    known = np.isfinite(one) & np.isfinite(two)
    y, one, two = y[known], one[known], two[known]
    block = np.unique(np.asarray(blocks)[known], return_inverse=True)[1].reshape(-1)
    count = int(block.max()) + 1 if len(block) else 0
    if count < FEWEST_BLOCKS:
        reason = f"{len(y):,} customers lie in {count} blocks, and an interval needs at least {FEWEST_BLOCKS}"
        said = f"Whether {what} helps cannot be told: {reason}."
        return Gain(what, "cannot tell", said, (), len(y), count, level, worthwhile)
    draw = np.random.default_rng([seed, 63])
    times = draw.multinomial(count, np.full(count, 1 / count), size=replicates).astype(np.float64)
    losses: list[tuple[str, Loss]] = [("log loss", log_loss), ("Brier score", squared_loss)]
    if loss == "squared":
        losses = [("mean squared error", squared_loss)]
    measures = [_measure(name, each(y, one), each(y, two), block, times, level) for name, each in losses]
    if loss == "log" and 0 < y.sum() < len(y):
        measures.append(_area_measure(y, one, two, block, times, level))
    first = measures[0]
    least = worthwhile * first.without
    verdict: Verdict = "cannot tell"
    if first.low > 0:
        verdict = "helps"
    else:
        cost = learning * (0.5 if loss == "log" else first.with_)
        if first.high + cost < least and 2 * cost < least:
            verdict = "does not help"
    said = _sentence(what, verdict, first, worthwhile)
    return Gain(what, verdict, said, tuple(measures), len(y), count, level, worthwhile)


def _sentence(what: str, verdict: Verdict, found: Measure, worthwhile: float) -> str:
    name = f"{what[0].upper()}{what[1:]}"
    if found.without == 0:
        return f"Whether {what} helps cannot be told: without it there is no error that could get smaller."
    gain, low, high = (each / found.without for each in (found.gain, found.low, found.high))
    said = f"with it the error ({found.name.removesuffix(' error')}) is {_change(gain)}"
    if low >= 0 or high <= 0:
        least, most = sorted((abs(low), abs(high)))
        said += f" ({least:.1%} to {most:.1%})"
    else:
        said += f" (from {_change(low)} to {_change(high)})"
    if verdict == "helps":
        small = f", though perhaps by less than the {worthwhile:.1%} that matter" if low < worthwhile else ""
        return f"{name} helps: {said} on blocks never seen{small}."
    if verdict == "does not help":
        least_said = "" if high <= 0 else f"; {worthwhile:.1%} smaller would matter"
        return f"{name} does not help: {said} on blocks never seen{least_said}."
    return f"Whether {what} helps cannot be told from these data: {said}; more customers or more regions would tell."


def _change(gain: float) -> str:
    return f"{abs(gain):.1%} {'smaller' if gain >= 0 else 'larger'}"


def _bounds(replicates: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(replicates, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def _measure(name: str, one: Floats, two: Floats, block: Ints, times: Floats, level: float) -> Measure:
    sizes, sums = np.bincount(block), np.bincount(block, one - two)
    low, high = _bounds((times @ sums) / (times @ sizes), level)
    return Measure(name, float(one.mean()), float(two.mean()), float((one - two).mean()), low, high)


def _area_measure(y: Floats, one: Floats, two: Floats, block: Ints, times: Floats, level: float) -> Measure:
    curves = [RocCurve(y, p) for p in (one, two)]
    areas = [np.array([curve.area(weight[block]) for weight in times[:200]]) for curve in curves]
    gain = areas[1] - areas[0]
    low, high = _bounds(gain[np.isfinite(gain)], level)
    first, second = (curve.area() for curve in curves)
    return Measure("AUC", first, second, second - first, low, high)


class RocCurve:
    """Outcomes in the order of a score, sorted once, for areas under many weights."""

    def __init__(self, outcome: Floats, score: Floats) -> None:
        self._outcome = np.asarray(outcome, dtype=np.float64)
        self._rank = np.unique(score, return_inverse=True)[1].reshape(-1)

    def _sums(self, weights: Floats | None) -> tuple[Floats, Floats]:
        w = np.ones(len(self._outcome)) if weights is None else weights
        return np.bincount(self._rank, w * self._outcome), np.bincount(self._rank, w * (1 - self._outcome))

    def area(self, weights: Floats | None = None) -> float:
        """Probability that one who left has a higher score than one who stayed, ties half (Hanley and McNeil 1982).

        NaN where one of the two is missing.
        """
        left, stayed = self._sums(weights)
        total = left.sum() * stayed.sum()
        return float(left @ (np.cumsum(stayed) - stayed / 2) / total) if total > 0 else float("nan")

    def average_precision(self, weights: Floats | None = None) -> float:
        """Area under precision against recall, by steps; NaN where nobody left."""
        left, stayed = (each[::-1] for each in self._sums(weights))
        if left.sum() == 0:
            return float("nan")
        found, asked = np.cumsum(left), np.cumsum(left + stayed)
        return float(left @ (found / np.where(asked > 0, asked, 1.0)) / left.sum())


# --- which features earn their place


@dataclass(frozen=True)
class Dropped:
    """A group of features that went, and the gain it had with all that were still there."""

    name: str
    gain: Gain


@dataclass(frozen=True)
class Kept:
    """What is left of the groups of features, what went in order, and the gain of each that stayed."""

    names: tuple[str, ...]
    gains: tuple[Gain, ...]
    dropped: tuple[Dropped, ...]
    looks: int
    level: float


def eliminate(
    frame: pd.DataFrame,
    outcome: ArrayLike,
    groups: Mapping[str, Sequence[str]],
    folds: Folds,
    predict: Predict,
    *,
    seed: int,
    level: float = LEVEL,
    loss: Literal["log", "squared"] = "log",
    worthwhile: float = WORTHWHILE,
    replicates: int = 4 * REPLICATES,
) -> Kept:
    """Groups of features that do not earn their place are dropped, the worst first, until each that is left helps.

    A round asks for each group what the model with all groups gains over the one without it; the one of least gain goes
    unless its interval lies above 0. With G groups there are at most L = G (G + 1) / 2 such looks, and each is taken at
    a level of 1 - (1 - level) / L (Bonferroni): all intervals ever looked at hold together with at least `level`.
    Columns in no group always stay.
    """
    if not groups:
        raise Invalid("Name at least one group of features to drop.")
    looks = len(groups) * (len(groups) + 1) // 2
    each = 1 - (1 - level) / looks
    left = dict(groups)
    dropped: list[Dropped] = []
    kept = frame
    while left:
        gains = {
            name: gain_of_place(
                kept, outcome, list(columns), folds, predict, seed=seed, what=f"knowing {name}", loss=loss, level=each,
                worthwhile=worthwhile, replicates=replicates,
            )
            for name, columns in left.items()
        }  # fmt: skip
        idle = [name for name in left if gains[name].verdict != "helps"]
        if not idle:
            return Kept(tuple(left), tuple(gains.values()), tuple(dropped), looks, each)
        worst = min(idle, key=lambda name: gains[name].first.gain if gains[name].measures else 0.0)
        dropped.append(Dropped(worst, gains[worst]))
        kept = kept.drop(columns=list(left.pop(worst)))
    return Kept((), (), tuple(dropped), looks, each)
