"""Shares and rates of areas that differ in size: their mean and spread, standardised so that small areas do not stand
out by chance alone, and random maps without any pattern.

Pure. Assunção & Reis (1999), "A new proposal to adjust Moran's I for population density", Statistics in Medicine 18,
2147–2162: mean and variance between areas by moments (after Marshall 1991, "Mapping disease and mortality rates using
empirical Bayes estimators", Applied Statistics 40, 283–294), each rate in units of its own standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geocrm import errors

Family = Literal["binomial", "poisson"]
"""`binomial`: the events are some of the exposed (customers of a segment among customers). `poisson`: events that can
happen to one of the exposed more than once (sales per customer), or are rare (customers per inhabitants)."""


@dataclass(frozen=True)
class Moments:
    """Rates of areas: `mean` over all, `variance` between the areas' true rates, at least 0."""

    mean: float
    variance: float
    family: Family

    def noise(self, exposure: NDArray[np.float64]) -> NDArray[np.float64]:
        """Variance of an area's rate, from the spread of true rates and from chance."""
        if self.family == "poisson":
            return self.variance + self.mean / exposure
        return self.variance + (self.mean * (1 - self.mean) - self.variance) / exposure


def check(events: ArrayLike, exposure: ArrayLike, family: Family) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Events and exposure as arrays (n,); raises errors.Invalid for what cannot be, errors.TooLittleData for no event
    (or nothing but events)."""
    y, e = np.asarray(events, dtype=np.float64), np.asarray(exposure, dtype=np.float64)
    if y.shape != e.shape or y.ndim != 1:
        raise errors.Invalid("Events and exposure differ in number.")
    if not ((y >= 0) & np.isfinite(y) & (y == np.floor(y))).all():
        raise errors.Invalid("Events are whole numbers of at least 0; some are missing, negative or fractions.")
    if not ((e > 0) & np.isfinite(e)).all():
        lacking = int((~((e > 0) & np.isfinite(e))).sum())
        raise errors.Invalid(f"{lacking} of {len(e)} areas have nothing exposed (or it is not known): leave them out.")
    if family == "binomial" and ((y > e) | (e != np.floor(e))).any():
        raise errors.Invalid("More events than exposed, or a fraction exposed: these are not shares of a whole.")
    if y.sum() == 0:
        raise errors.TooLittleData("There is no event on the map, so none can be where others are not.")
    if family == "binomial" and (y == e).all():
        raise errors.TooLittleData("All that are exposed are events, in every area: there is no difference to look at.")
    return y, e


def moments(events: NDArray[np.float64], exposure: NDArray[np.float64], family: Family) -> Moments:
    """Mean and variance between areas by moments; the variance is 0 where chance alone explains the spread.

    Assunção & Reis (1999), equations of section 3, where a negative estimate is taken as 0 (Marshall 1991); for shares
    the chance part is b(1 − b), with the share b."""
    mean, variance = _moments(events[None, :], exposure, family)
    return Moments(float(mean[0]), float(variance[0]), family)


def standardised(events: NDArray[np.float64], exposure: NDArray[np.float64], found: Moments) -> NDArray[np.float64]:
    """Each rate less the mean, in units of its own standard deviation, (n,)."""
    return (events / exposure - found.mean) / np.sqrt(found.noise(exposure))


def standardised_maps(maps: NDArray[np.float64], exposure: NDArray[np.float64], family: Family) -> NDArray[np.float64]:
    """The same for maps of events (m, n), each by its own moments; 0 all over where a map has no event."""
    mean, variance = _moments(maps, exposure, family)
    chance = mean if family == "poisson" else mean * (1 - mean) - variance
    spread = variance[:, None] + chance[:, None] / exposure
    with np.errstate(divide="ignore", invalid="ignore"):
        made = (maps / exposure - mean[:, None]) / np.sqrt(spread)
    made[(chance <= 0) & (variance <= 0)] = 0.0
    return made


def _moments(
    maps: NDArray[np.float64], exposure: NDArray[np.float64], family: Family
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total = exposure.sum()
    mean = maps.sum(axis=1) / total
    spread = (exposure * (maps / exposure - mean[:, None]) ** 2).sum(axis=1) / total
    typical = total / len(exposure)
    if family == "poisson":
        return mean, np.maximum(spread - mean / typical, 0.0)
    if typical <= 1:
        return mean, np.zeros_like(mean)
    between = (spread - mean * (1 - mean) / typical) / (1 - 1 / typical)
    return mean, np.clip(between, 0.0, mean * (1 - mean) * (1 - 1e-9))


def random_maps(
    events: NDArray[np.float64], exposure: NDArray[np.float64], found: Moments, many: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Maps of events without a pattern in space, (many, n).

    Where areas differ no more than by chance, the observed number of events is dealt out by exposure (multinomial, or
    for shares among the exposed, multivariate hypergeometric: exact given the total). Else each area draws its own true
    rate from a gamma (for shares: beta) distribution of the found mean and variance, independent of its neighbours'."""
    n = len(exposure)
    if found.variance <= 0:
        if found.family == "poisson":
            return rng.multinomial(int(events.sum()), exposure / exposure.sum(), size=many).astype(np.float64)
        dealt = rng.multivariate_hypergeometric(
            exposure.astype(np.int64), int(events.sum()), size=many, method="marginals"
        )
        return dealt.astype(np.float64)
    if found.family == "poisson":
        true = rng.gamma(found.mean**2 / found.variance, found.variance / found.mean, size=(many, n))
        return rng.poisson(true * exposure).astype(np.float64)
    size = found.mean * (1 - found.mean) / found.variance - 1
    true = rng.beta(found.mean * size, (1 - found.mean) * size, size=(many, n))
    return rng.binomial(exposure.astype(np.int64), true).astype(np.float64)
