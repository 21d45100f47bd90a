"""Forecasts of sales by region or segment, with intervals, each proven against the seasonal naive on its own past.

From several origins in the past every method forecasts what then came (rolling origin: Tashman, Out-of-sample tests of
forecasting accuracy, International Journal of Forecasting 16, 2000). A series gets another method than the seasonal
naive only where that method's errors were smaller there, by MASE (Hyndman and Koehler: Another look at measures of
forecast accuracy, International Journal of Forecasting 22, 2006), and MASE and pinball loss of its intervals together;
for rare sales, where the least absolute error is that of "nothing", by squared errors. Regions and
their whole are then brought to add up, and intervals come from the errors made on the past, not from a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import smoothing
from geocrm.segmentation.adding_up import add_up
from geocrm.segmentation.backtest import LEAST_ORIGINS, NAIVE, Floats, Ints, Judged, Past, judge_errors

LEAST_PERIODS: Final = 12
LEAST_SOLD: Final = 8
"""Periods that a forecast needs, and how many of them with sales."""
FIRST_ORIGIN: Final = 8
SEASON_ORIGINS: Final = 6
"""Periods beyond two seasons from which on a season can be tested."""
MOST_ORIGINS: Final = 12
OTHERS: Final = "others"

_RARE: Final = 1.32  # mean periods between sales (Syntetos, Boylan and Croston 2005)


@dataclass(frozen=True)
class Forecasts:
    """What is forecast; row 0 is the whole, row i + 1 series i as given, where wanted the last row the others.

    A series of its own too short has NaN, and counts in `others`."""

    names: tuple[str, ...]
    means: Floats
    """(rows, horizon)"""
    levels: tuple[float, ...]
    low: Floats
    """(levels, rows, horizon), as is `high`."""
    high: Floats
    methods: tuple[str, ...]
    reasons: tuple[str, ...]
    """A sentence for each row: why this method."""
    mase: Floats
    """Mean absolute scaled error on the backtest, after all were made to add up, (rows,)."""
    naive_mase: Floats
    """The same of the seasonal naive."""
    pinball: Floats
    """Mean pinball loss over the quantiles 2.5, 10, 50, 90 and 97.5 %, scaled likewise, (rows,)."""
    naive_pinball: Floats
    coverage: Floats
    """Share of past values within intervals whose method and width were found without their origin and those near it,
    (levels, rows)."""
    tested: Ints
    """Past values forecast, (rows,)."""
    season_length: int
    """1 where no season was looked for."""
    coherence: str
    """How rows were made to add up: "reconciled", "bottom-up", or "seasonal naive" where it is used for all."""
    notes: tuple[str, ...]


# --- the methods ---


@dataclass(frozen=True)
class _Batch:
    """Pieces of history to forecast from: rows (b, t), read from `starts` to before `ends`."""

    values: Floats
    starts: Ints
    ends: Ints
    m: int
    horizon: int
    shares: Floats
    """Multiplicative season by period modulo m, shrunk to that of the whole, (b, m); NaN where there is none."""

    @property
    def lengths(self) -> Ints:
        return self.ends - self.starts

    @property
    def active(self) -> NDArray[np.bool_]:
        times = np.arange(self.values.shape[1])
        return (times >= self.starts[:, None]) & (times < self.ends[:, None])

    def at(self, periods: Ints) -> Floats:
        return np.take_along_axis(self.values, periods, axis=1)

    def smoothed(
        self, usable: NDArray[np.bool_], trend: bool, season: smoothing.Season, first: Floats | None
    ) -> Floats:
        means = np.full((len(self.values), self.horizon), np.nan)
        if usable.any():
            means[usable] = smoothing.fit(
                self.values[usable], self.starts[usable], self.ends[usable], horizon=self.horizon, trend=trend,
                season=season, first_season=None if first is None else first[usable], quick=True,
            ).means  # fmt: skip
        return means


def _repeat(batch: _Batch, value: Floats) -> Floats:
    return np.repeat(value[:, None], batch.horizon, axis=1)


def _seasonal_naive(batch: _Batch) -> Floats:
    """The period of a season ago; the last one where there is no full season yet."""
    back = np.where(batch.lengths >= batch.m, batch.m, 1)[:, None]
    ahead = np.arange(batch.horizon) % back
    return batch.at(np.maximum(batch.ends[:, None] - back + ahead, 0))


def _mean(batch: _Batch) -> Floats:
    total = np.where(batch.active, batch.values, 0.0).sum(axis=1)
    return _repeat(batch, total / np.maximum(batch.lengths, 1))


def _drift(batch: _Batch) -> Floats:
    last = batch.at(batch.ends[:, None] - 1)
    slope = (last - batch.at(batch.starts[:, None])) / np.maximum(batch.lengths[:, None] - 1, 1)
    return last + slope * (1 + np.arange(batch.horizon))


def _level(batch: _Batch) -> Floats:
    return batch.smoothed(batch.lengths >= FIRST_ORIGIN, False, "none", None)


def _damped(batch: _Batch) -> Floats:
    return batch.smoothed(batch.lengths >= FIRST_ORIGIN, True, "none", None)


def _shared(batch: _Batch) -> Floats:
    usable = np.isfinite(batch.shares).all(axis=1) & (batch.lengths >= FIRST_ORIGIN)
    repeated = batch.shares[:, np.arange(batch.values.shape[1] + batch.horizon) % batch.m]
    plain = replace(batch, values=batch.values / np.where(usable[:, None], repeated[:, : batch.values.shape[1]], 1.0))
    ahead = batch.ends[:, None] + np.arange(batch.horizon)
    return plain.smoothed(usable, True, "none", None) * np.take_along_axis(repeated, ahead, axis=1)


def _own(batch: _Batch, multiplicative: bool) -> Floats:
    first = np.full((len(batch.values), batch.m), np.nan)
    for row in np.flatnonzero((batch.lengths >= 2 * batch.m) & (batch.m > 1)):
        known = batch.values[row, batch.starts[row] : batch.ends[row]]
        if multiplicative and known.min() <= 0:
            continue
        found = smoothing.decompose(known, int(batch.starts[row]), batch.m, multiplicative=multiplicative)
        if found is not None:
            first[row] = found[0]
    season: smoothing.Season = "multiplicative" if multiplicative else "additive"
    return batch.smoothed(np.isfinite(first).all(axis=1), True, season, first)


_PLAIN: Final[dict[str, Callable[[_Batch], Floats]]] = {  # the simplest first
    NAIVE: _seasonal_naive,
    "mean": _mean,
    "drift": _drift,
    "level": _level,
    "damped trend": _damped,
    "shared season": _shared,
    "additive season": lambda batch: _own(batch, False),
    "multiplicative season": lambda batch: _own(batch, True),
}
_RARELY: Final[dict[str, Callable[[_Batch], Floats]]] = {
    NAIVE: _seasonal_naive,
    "mean": _mean,
    "rare sales": lambda batch: _repeat(batch, smoothing.sba(batch.values, batch.starts, batch.ends)),
    "fading sales": lambda batch: _repeat(batch, smoothing.tsb(batch.values, batch.starts, batch.ends)),
}
MEANING: Final = {
    NAIVE: "what was sold a season before",
    "mean": "the mean of all periods",
    "drift": "the last period and the mean change",
    "level": "exponential smoothing of the level",
    "damped trend": "exponential smoothing of level and damped trend",
    "shared season": "smoothed level and damped trend, times a season shared with the whole",
    "additive season": "smoothed level, damped trend and added season",
    "multiplicative season": "smoothed level, damped trend and season as a factor",
    "rare sales": "sizes and gaps of rare sales, smoothed apart",
    "fading sales": "sizes and chance of rare sales, smoothed apart",
}


def share_seasons(values: Floats, starts: Ints, end: int, m: int) -> Floats:
    """Multiplicative seasons (n, m) of series known before `end`, row 0 the whole: each one's own, drawn to that of the
    whole by as much as it is noise (positive-part James and Stein, Efron and Morris: Data analysis using Stein's
    estimator, Journal of the American Statistical Association 70, 1975). That of the whole where a series is too short
    to tell its noise, which takes three seasons; NaN where the whole has fewer than two, or is not above 0."""
    whole = smoothing.decompose(values[0, :end], 0, m, multiplicative=True) if m > 1 else None
    if whole is None or whole[0].min() <= 0.01:
        return np.full((len(values), m), np.nan)
    shared = np.repeat(whole[0][None], len(values), axis=0)
    for row in range(1, len(values)):
        own = smoothing.decompose(values[row, starts[row] : end], int(starts[row]), m, multiplicative=True)
        if own is None or not np.isfinite(own[1]).all():
            continue
        apart = own[0] - whole[0]
        noise = (m - 3) * own[1].mean()
        squares = float((apart**2).sum())
        weight = max(0.0, 1 - noise / squares) if squares > 0 else 0.0
        drawn = whole[0] + weight * apart
        if drawn.min() > 0.01:
            shared[row] = drawn
    return shared


# --- the backtest ---


def _past(values: Floats, starts: Ints, m: int, horizon: int) -> Past:
    periods = values.shape[1]
    lengths = periods - starts
    first = np.where(
        (m > 1) & (lengths >= 2 * m + SEASON_ORIGINS),
        2 * m,
        np.where(lengths >= m + SEASON_ORIGINS, np.maximum(m, FIRST_ORIGIN), FIRST_ORIGIN),
    )
    first = starts + np.minimum(first, lengths - LEAST_ORIGINS)
    everything = np.arange(first.min(), periods)
    count = min(MOST_ORIGINS, len(everything))
    origins = everything[np.unique(np.linspace(0, len(everything) - 1, count).round().astype(np.int64))]
    valid = origins >= first[:, None]
    scale = np.ones(len(values))
    for row in range(len(values)):
        known = values[row, starts[row] : first[row]]
        back = m if len(known) > m else 1
        size = np.abs(known[back:] - known[:-back]).mean() or np.abs(values[row]).mean()
        scale[row] = size if size > 0 else 1.0
    shares = [share_seasons(values, starts, int(end), m) for end in (*origins, periods)]
    return Past(values, starts, m, horizon, origins.astype(np.int64), valid, scale, np.stack(shares, axis=1))


def _replay(past: Past, rows: Ints, method: Callable[[_Batch], Floats]) -> Floats:
    """What a method forecasts from each origin and, last, from now, (rows, k + 1, horizon); not below 0 for a series
    that never was. NaN where it cannot."""
    periods = past.values.shape[1]
    ends = np.append(past.origins, periods)
    shape = (len(rows), len(ends))
    allowed = np.column_stack([past.valid[rows], np.ones(len(rows), dtype=bool)])
    starts = np.broadcast_to(past.starts[rows][:, None], shape)
    values = np.broadcast_to(past.values[rows][:, None, :], (*shape, periods))
    found = np.full((*shape, past.horizon), np.nan)
    taken = np.broadcast_to(ends, shape)[allowed]
    found[allowed] = method(
        _Batch(values[allowed], starts[allowed], taken, past.m, past.horizon, past.shares[rows][allowed])
    )
    positive = past.values[rows].min(axis=1) >= 0
    return np.where(positive[:, None, None], np.maximum(found, 0.0), found)


def _choose(
    judged: Sequence[Judged], row: int, kept: NDArray[np.bool_], *, squared: bool, overlap: float
) -> tuple[int, float]:
    """Which method a series gets by the origins `kept` (k,), and by how much its errors are smaller than the seasonal
    naive's: among those with smaller errors, and no wider intervals than these make up for, the simplest whose error is
    within one standard error of the least (Breiman, Friedman, Olshen and Stone: Classification and Regression Trees,
    1984, section 3.4.3), for as many origins as forecast other periods than the one before."""
    naive = judged[0]
    root = 0.5 if squared else 1.0
    used = kept & (naive.counts[row] > 0)
    weights = naive.counts[row][used]
    if not used.any():
        return 0, 0.0
    errors = [(one.squared_by_origin if squared else one.by_origin)[row][used] for one in judged]
    loss = [float((error * weights).sum() / weights.sum()) for error in errors]  # NaN where not all were forecast
    better = [
        number
        for number in range(1, len(judged))
        if loss[number] < loss[0]
        and (loss[number] / loss[0]) ** root + judged[number].pinball[row] / naive.pinball[row] < 2
    ]
    if not better:
        return 0, 0.0
    best = min(better, key=lambda number: loss[number])
    for number in better:
        apart = errors[number] - errors[best]
        error = apart.std(ddof=1) / np.sqrt(max(len(apart) / overlap, 1)) if len(apart) > 1 else 0.0
        if loss[number] - loss[best] <= error:
            best = number
            break
    return best, float(1 - (loss[best] / loss[0]) ** root)


# --- the forecast ---


def forecast(
    amounts: ArrayLike,
    *,
    season_length: int,
    horizon: int,
    names: Sequence[str] | None = None,
    levels: Sequence[float] = (0.8, 0.95),
    period: str = "period",
) -> Forecasts:
    """Forecast series and their sum.

    Args:
        amounts: net sales (n, t) in complete periods, the oldest first; 0 where nothing was sold. A series begins with
            its first period other than 0.
        season_length: periods of a season: 12 for months of a year, 52 for weeks.
        horizon: periods ahead.
        names: of the series.
        levels: of the intervals.
        period: what to call a period in sentences: "month".

    Raises errors.Invalid, and errors.TooLittleData where the whole has fewer than 12 periods or fewer than 8 of them
    with sales, or too few to test so far ahead.
    """
    given = np.asarray(amounts, dtype=np.float64)
    called = tuple(names) if names is not None else tuple(str(i + 1) for i in range(len(given)))
    given = _checked(given, called, season_length, horizon, levels, period)
    notes: list[str] = []
    periods = given.shape[1]
    m = season_length
    if periods < 2 * m:
        notes.append(f"No season: that takes two of {m} {period}s, there are {periods} {period}s.")
        m = 1
    elif m > 1 and periods < 2 * m + SEASON_ORIGINS:
        notes.append(
            f"No smoothed season can be tested yet: it takes {2 * m + SEASON_ORIGINS} {period}s, there are {periods}."
        )
    begun = np.where((given != 0).any(axis=1), (given != 0).argmax(axis=1), periods)
    enough = (periods - begun >= LEAST_PERIODS) & ((given != 0).sum(axis=1) >= LEAST_SOLD)
    others = given[~enough].sum(axis=0)
    rows = [given.sum(axis=0), *given[enough]]
    starts = [0, *begun[enough]]
    if (~enough).any():
        rows.append(others)
        starts.append(0)
    values, past_starts = np.array(rows), np.array(starts, dtype=np.int64)
    if len(values) == 2:  # one series is the whole
        values, past_starts = values[:1], past_starts[:1]
    past = _past(values, past_starts, m, horizon)
    if horizon > periods - past.origins[0]:
        raise TooLittleData(
            f"A forecast {horizon} {period}s ahead takes that many that were forecast from the past: with {periods} "
            f"{period}s it reaches {periods - int(past.origins[0])}."
        )
    base, blind, naive, methods, reasons = _chosen(past)
    together = add_up(past, base, blind, naive)
    made, coherence, judged, naive_judged = together.means.copy(), together.how, together.judged, together.naive
    if coherence == NAIVE and len(values) > 1:
        methods = [NAIVE] * len(values)
        reasons = ["what adds up beat the seasonal naive of some series nowhere"] * len(values)
    probabilities = np.array([[(1 - level) / 2, (1 + level) / 2] for level in levels])
    bounds = together.blind.tails(probabilities.ravel()).reshape(-1, 2)
    low = made + bounds[:, 0, None, None] * together.blind.spread
    high = made + bounds[:, 1, None, None] * together.blind.spread
    positive = values.min(axis=1) >= 0
    low = np.where(positive[None, :, None], np.maximum(low, 0.0), low)
    for worse in np.flatnonzero(judged.mase > naive_judged.mase * (1 + 1e-9)):
        reasons[int(worse)] += "; made to add up with the others, larger"
    for row in range(len(values)):
        if np.ptp(values[row, past_starts[row] :]) == 0:
            reasons[row] = "every period was the same"
            low[:, row] = high[:, row] = made[row]
    covered = together.blind.coverage(levels)
    if (~enough).any():
        few = ", ".join(name for name, is_enough in zip(called, enough, strict=True) if not is_enough)
        notes.append(
            f"Too little for a forecast of their own ({LEAST_PERIODS} {period}s, {LEAST_SOLD} of them with sales), "
            f"together as {OTHERS}: {few}."
        )
    place = np.full(len(given), -1)
    place[enough] = 1 + np.arange(enough.sum()) if len(values) > 1 else 0
    order = np.concatenate([[0], place, [len(values) - 1] if (~enough).any() and len(values) > 1 else []]).astype(int)
    absent = order < 0
    words = [f"{MEANING[method]}: {reason}" for method, reason in zip(methods, reasons, strict=True)]

    def spread_out(found: Floats) -> Floats:
        return np.where(absent.reshape(-1, *[1] * (found.ndim - 1)), np.nan, found[order])

    return Forecasts(
        names=("whole", *called, *([OTHERS] if len(order) > len(given) + 1 else [])),
        means=spread_out(made),
        levels=tuple(levels),
        low=np.stack([spread_out(one) for one in low]),
        high=np.stack([spread_out(one) for one in high]),
        methods=tuple("none" if gone else methods[row] for gone, row in zip(absent, order, strict=True)),
        reasons=tuple("too few sales" if gone else words[row] for gone, row in zip(absent, order, strict=True)),
        mase=spread_out(judged.mase),
        naive_mase=spread_out(naive_judged.mase),
        pinball=spread_out(judged.pinball),
        naive_pinball=spread_out(naive_judged.pinball),
        coverage=np.stack([spread_out(one) for one in covered]),
        tested=np.where(absent, 0, judged.tested[order]),
        season_length=m,
        coherence=coherence,
        notes=tuple(notes),
    )


def _checked(
    given: Floats, names: tuple[str, ...], season_length: int, horizon: int, levels: Sequence[float], period: str
) -> Floats:
    """The periods from the first with sales on; raises Invalid, TooLittleData."""
    if given.ndim != 2 or not len(given) or len(names) != len(given):
        raise Invalid("A forecast takes a table of one row a series, and a name for each.")
    if not np.isfinite(given).all():
        raise Invalid("A period without sales is 0; one that is not known cannot be forecast from.")
    if season_length < 1 or horizon < 1:
        raise Invalid("Season and horizon are at least one period long.")
    if not levels or not all(0 < level < 1 for level in levels):
        raise Invalid("The level of an interval lies between 0 and 1.")
    whole = given.sum(axis=0)
    sold = int((whole != 0).sum())
    since = int((given != 0).any(axis=0).argmax()) if sold else given.shape[1]
    length = given.shape[1] - since
    if length < LEAST_PERIODS or sold < LEAST_SOLD:
        raise TooLittleData(
            f"A forecast needs {LEAST_PERIODS} complete {period}s since the first sale, {LEAST_SOLD} of them with "
            f"sales; there are {length}, {sold} of them with sales."
        )
    return given[:, since:]


def _chosen(past: Past) -> tuple[Floats, Floats, Floats, list[str], list[str]]:
    """Forecasts of the method chosen for each series, of those chosen for each origin without looking at the origins
    near it, and of the seasonal naive, all (n, k + 1, horizon); the methods, and why."""
    n = len(past.values)
    actual = past.actual()
    lengths = past.values.shape[1] - past.starts
    sold = (past.values != 0).sum(axis=1)
    rare = lengths / np.maximum(sold, 1) >= _RARE
    base = np.full((n, len(past.origins) + 1, past.horizon), np.nan)
    blind, naive = base.copy(), base.copy()
    methods, reasons = [""] * n, [""] * n
    everything = np.ones(len(past.origins), dtype=bool)
    for among, squared, kind in ((_PLAIN, False, ~rare), (_RARELY, True, rare)):
        rows = np.flatnonzero(kind).astype(np.int64)
        if not len(rows):
            continue
        names = list(among)
        replayed = [_replay(past, rows, among[name]) for name in names]
        judged = [judge_errors(past, rows, actual[rows] - one[:, :-1]) for one in replayed]
        for place, row in enumerate(rows):
            number, saved = _choose(judged, place, everything, squared=squared, overlap=past.overlap)
            base[row], naive[row] = replayed[number][place], replayed[0][place]
            methods[row] = names[number]
            reasons[row] = f"errors {saved:.0%} smaller than those of the seasonal naive on the past"
            if number == 0:
                reasons[row] = "no other method had smaller errors on the past"
            for origin in range(len(past.origins)):
                other, _ = _choose(judged, place, ~past.near(origin), squared=squared, overlap=past.overlap)
                there = replayed[other][place, origin]
                blind[row, origin] = there if np.isfinite(there).all() else replayed[0][place, origin]
    blind[:, -1] = base[:, -1]
    return base, blind, naive, methods, reasons
