"""Forecasts of the past: what the errors of a method say of its size, its spread and the intervals made from it. Pure.

Part of `forecast`, where the methods and their sources stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import t as student

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NAIVE: Final = "seasonal naive"
"""The method that others are measured by."""
LEAST_ORIGINS: Final = 4
_QUANTILES: Final = (0.025, 0.1, 0.5, 0.9, 0.975)
_PRIOR: Final = 4.0  # errors of the average series that count towards the spread of each


@dataclass(frozen=True)
class Past:
    """Series, whole first, and the origins from which they are forecast again: `valid` (n, k), where a series has the
    history for it; `scale` (n,), the seasonal naive's mean absolute error before the first of them."""

    values: Floats
    starts: Ints
    m: int
    horizon: int
    origins: Ints
    valid: NDArray[np.bool_]
    scale: Floats
    shares: Floats
    """Seasons as known at each origin and, last, now, (n, k + 1, m)."""

    @property
    def overlap(self) -> float:
        """From how many origins in turn a period is forecast: their errors go together."""
        stride = (self.origins[-1] - self.origins[0]) / max(len(self.origins) - 1, 1)
        return max(self.horizon / max(stride, 1.0), 1.0)

    def near(self, origin: int) -> NDArray[np.bool_]:
        """Origins from which some of the same periods are forecast, (k,)."""
        return np.asarray(np.abs(self.origins - self.origins[origin]) < self.horizon)

    def actual(self) -> Floats:
        """What came, (n, k, horizon); NaN beyond what is known."""
        periods = self.origins[:, None] + np.arange(self.horizon)
        known = periods < self.values.shape[1]
        found = self.values[:, np.minimum(periods, self.values.shape[1] - 1)]
        return np.where(known, found, np.nan)


@dataclass(frozen=True)
class Judged:
    """Errors of one method, or of the methods chosen, on the past; all scaled."""

    mase: Floats
    squared: Floats
    pinball: Floats
    by_origin: Floats
    """Mean absolute error by origin, (n, k); NaN where none."""
    squared_by_origin: Floats
    counts: Ints
    """Values forecast by origin, (n, k)."""
    spread: Floats
    """What the quantiles below are to be multiplied by, unscaled, (n, horizon)."""
    tails: Callable[[Floats], Floats]
    """Quantiles of error ÷ spread for probabilities (p,)."""
    coverage: Callable[[Sequence[float]], Floats]
    """Shares of errors within the intervals made without their origin, (levels, n)."""
    tested: Ints


def _spread(scaled: Floats, overlap: float) -> Floats:
    """The typical size of an error by series and horizon, (n, horizon): a curve over the horizon that never falls,
    shared by all series, times a factor of each series: its own origins, as many as do not overlap, count against the
    prior of the curve."""
    known = np.isfinite(scaled)
    squares = np.where(known, scaled, 0.0) ** 2
    count = known.sum(axis=(0, 1))
    mean = squares.sum(axis=(0, 1)) / np.maximum(count, 1)
    curve = np.asarray(isotonic_regression(mean, weights=np.maximum(count, 1e-6)).x)
    curve = np.maximum(curve, 1e-18)
    origins = known.any(axis=2)
    ratio = (squares / curve).sum(axis=2) / np.maximum(known.sum(axis=2), 1)
    total = np.where(origins, ratio, 0.0).sum(axis=1) / overlap
    own = (total + _PRIOR) / (origins.sum(axis=1) / overlap + _PRIOR)
    return np.sqrt(curve[None, :] * own[:, None])


def _quantiles(ratios: Floats, origins: float, probabilities: Floats) -> Floats:
    """Quantiles of past errors as conformal prediction takes them, the (n + 1) p-th smallest (Vovk, Gammerman and
    Shafer: Algorithmic Learning in a Random World, 2005; here out of sample, but not exchangeable). Periods are
    the same for all series, whose errors go together: few origins say little of tails, however many series there are,
    so these are not nearer to 0 than Student's t has them."""
    ordered = np.sort(ratios)
    count = len(ordered)
    above = np.minimum(np.ceil((count + 1) * probabilities).astype(int), count) - 1
    below = np.maximum(np.floor((count + 1) * probabilities).astype(int), 1) - 1
    found = np.where(probabilities > 0.5, ordered[above], ordered[below])
    found = np.where(probabilities == 0.5, np.median(ordered), found)
    usual = student.ppf(probabilities, df=max(origins - 1, 1) + _PRIOR)
    found = np.where(probabilities > 0.5, np.maximum(found, usual), found)
    return np.where(probabilities < 0.5, np.minimum(found, usual), found)


def judge_errors(past: Past, rows: Ints, errors: Floats) -> Judged:
    """What the errors (n, k, horizon), actual less forecast, of some series say."""
    scale = past.scale[rows][:, None, None]
    scaled = errors / scale
    known = np.isfinite(scaled)
    k = scaled.shape[1]
    ratios = np.full(scaled.shape, np.nan)
    without: list[Floats] = []
    for origin in range(k):
        near = past.near(origin)
        if not known[:, ~near].any():
            near = np.arange(k) == origin
        rest = np.where(near[None, :, None], np.nan, scaled)
        without.append(_spread(rest, past.overlap))
        ratios[:, origin] = scaled[:, origin] / without[-1]
    origins = known.any(axis=(0, 2))

    def tails(probabilities: Floats, leave: int | None = None) -> Floats:
        kept = ratios if leave is None else np.delete(ratios, leave, axis=1)
        there = kept[np.isfinite(kept)]
        left = float(origins.sum() - (leave is not None and origins[leave])) / past.overlap
        return _quantiles(there, left, probabilities) if len(there) else np.zeros(len(probabilities))

    probabilities = np.array(_QUANTILES)
    loss = np.zeros(len(rows))
    for origin in range(k):
        bound = tails(probabilities, origin)[:, None, None] * without[origin][None]
        miss = scaled[None, :, origin] - bound
        chance = probabilities[:, None, None]
        loss += np.where(known[:, origin], np.maximum(chance * miss, (chance - 1) * miss).mean(axis=0), 0.0).sum(axis=1)

    def coverage(levels: Sequence[float]) -> Floats:
        inside = np.zeros((len(levels), len(rows)))
        for origin in range(k):
            for place, level in enumerate(levels):
                low, high = tails(np.array([(1 - level) / 2, (1 + level) / 2]), origin)
                here = ratios[:, origin]
                inside[place] += ((here >= low) & (here <= high)).sum(axis=1)
        return inside / np.maximum(tested, 1)

    tested = known.sum(axis=(1, 2))
    least = np.maximum(tested, 1)
    absolute, squares = np.where(known, np.abs(scaled), 0.0), np.where(known, scaled, 0.0) ** 2
    each = known.sum(axis=2)
    nothing = each == 0
    return Judged(
        mase=np.where(tested > 0, absolute.sum(axis=(1, 2)) / least, np.inf),
        squared=np.where(tested > 0, squares.sum(axis=(1, 2)) / least, np.inf),
        pinball=np.where(tested > 0, loss / least, np.inf),
        by_origin=np.where(nothing, np.nan, absolute.sum(axis=2) / np.maximum(each, 1)),
        squared_by_origin=np.where(nothing, np.nan, squares.sum(axis=2) / np.maximum(each, 1)),
        counts=each,
        spread=_spread(scaled, past.overlap) * past.scale[rows][:, None],
        tails=tails,
        coverage=coverage,
        tested=tested,
    )
