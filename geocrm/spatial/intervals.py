"""Exact intervals of shares and rates from counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, gammaincinv

from geocrm.errors import Invalid

LEVEL = 0.95
Floats = NDArray[np.float64]


def of_share(successes: ArrayLike, trials: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Lower and upper bound of a probability: Clopper and Pearson, The Use of Confidence or Fiducial Limits Illustrated
    in the Case of the Binomial, Biometrika 26 (1934).

    Args:
        successes, trials: counts that broadcast; fractions are taken (effective counts of a design effect).
        level: of confidence, between 0 and 1.

    Returns:
        Two arrays; 0 and 1 where there was no trial.
    """
    hits, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    _check(level)
    if not (np.isfinite(n).all() and (hits >= 0).all() and (hits <= n).all()):
        raise Invalid("A share is a number of hits between 0 and the number of trials.")
    tail = (1 - level) / 2
    misses = n - hits
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1e-9), misses + 1, tail), 0.0)
    high = np.where(misses > 0, betaincinv(hits + 1, np.maximum(misses, 1e-9), 1 - tail), 1.0)
    return low, high


def of_rate(events: ArrayLike, exposure: ArrayLike, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Lower and upper bound of a rate, events ÷ exposure, of a Poisson count: Garwood, Fiducial Limits for the Poisson
    Distribution, Biometrika 28 (1936). NaN where the exposure is 0."""
    count, size = np.broadcast_arrays(np.asarray(events, dtype=np.float64), np.asarray(exposure, dtype=np.float64))
    _check(level)
    if not (np.isfinite(count).all() and (count >= 0).all() and (size >= 0).all()):
        raise Invalid("A rate is a number of events of at least 0 over an exposure of at least 0.")
    tail = (1 - level) / 2
    low = np.where(count > 0, gammaincinv(np.maximum(count, 1e-9), tail), 0.0)
    high = gammaincinv(count + 1, 1 - tail)
    some = np.where(size > 0, size, np.nan)
    return low / some, high / some


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise Invalid(f"A level of confidence lies between 0 and 1, not at {level:g}.")
