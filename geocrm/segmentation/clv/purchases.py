"""What models of purchases share: what they need of the data, sums over purchases, integrals over the time to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import hyp2f1

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.clv.counts import Counts
from geocrm.segmentation.clv.likelihood import Floats

NODES = 16
MOST_TERMS = 100_000


class PurchaseModel(Protocol):
    """A fitted model of purchases: `BgNbd` or `ParetoNbd`."""

    @property
    def values(self) -> tuple[float, ...]:
        """The parameters in order."""

    def probability_alive(self, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike) -> Floats:
        """Probability that a customer will still buy."""

    def expected_purchases(
        self, horizon_weeks: ArrayLike, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike
    ) -> Floats:
        """Expected purchases in the horizon."""

    def discounted_purchases(
        self,
        horizon_weeks: float,
        rate_a_week: float,
        frequency: ArrayLike,
        recency_weeks: ArrayLike,
        t_weeks: ArrayLike,
    ) -> Floats:
        """Expected purchases in the horizon, later ones counted less."""


def check_repeats(counts: Counts, method: str, parameters: int) -> None:
    """Raises `TooLittleData` where a model of purchases cannot say anything."""
    customers = counts.customers
    if not counts.t_weeks.any():
        raise TooLittleData(
            f"{method} needs time between the first purchases and the cutoff: all {customers:,} customers bought first "
            "on the cutoff itself. Take a later cutoff, or leave newer customers out."
        )
    if not counts.frequency.any():
        raise TooLittleData(
            f"{method} needs repeat purchases: none of the {customers:,} customers has bought a second time. Take a "
            "longer period, or a larger group of customers."
        )
    if len(counts.weights) <= parameters:
        raise TooLittleData(
            f"{method} estimates {parameters} parameters and needs more than {parameters} different histories "
            f"(frequency, recency, T); there are {len(counts.weights)} (customers: {customers:,}). Take more "
            "customers, or finer times."
        )


def check_horizon(weeks: ArrayLike) -> Floats:
    """Weeks as an array; `Invalid` where they are negative or not finite."""
    horizon = np.asarray(weeks, dtype=np.float64)
    if not (np.isfinite(horizon).all() and (horizon >= 0).all()):
        raise Invalid("A horizon is a number of weeks of at least 0.")
    return horizon


def rising(start: float, size: int) -> tuple[Floats, Floats, Floats]:
    """log Γ(start + x) / Γ(start) for x = 0 … size - 1, with its first and second derivative: three arrays (size,).

    As sums over j < x, which lose nothing to cancellation however large `start` is.
    """
    terms = start + np.arange(size - 1)
    inverse = 1 / terms
    sums = np.zeros((3, size))
    np.cumsum(np.stack((np.log(terms), inverse, -(inverse**2))), axis=1, out=sums[:, 1:])
    return sums[0], sums[1], sums[2]


def hypergeometric(first: float, second: float, third: NDArray, z: NDArray) -> Floats:
    """Gauss's 2F1(first, second; third; z) for 0 ≤ z < 1 and third not a whole number below 1; arrays of one shape.

    By SciPy, except where its formula for z near 1 overflows (a large third parameter); there the power series, which
    converges the faster the larger that parameter is.
    """
    with np.errstate(all="ignore"):
        answer = np.asarray(hyp2f1(first, second, third, z))
    hard = ~np.isfinite(answer) | ((z > 0.9) & (third > 40))
    if hard.any():
        below, at = third[hard], z[hard]
        term, total = np.ones(len(at)), np.ones(len(at))
        for n in range(MOST_TERMS):
            term *= (first + n) * (second + n) / ((below + n) * (n + 1)) * at
            total += term
            if (np.abs(term) <= 1e-17 * np.abs(total)).all():
                break
        answer[hard] = total
    return answer


def over_time(rate: Callable[[Floats], Floats], horizon_weeks: float, rate_a_week: float, scale: Floats) -> Floats:
    """∫ exp(-rate_a_week · τ) rate(τ) dτ over the horizon, for each customer: (n,).

    Gauss-Legendre in log(scale + τ), in which rates that fall like a power of (scale + τ) are smooth; `scale`, weeks
    (n,), is the time in which a rate begins to fall.
    """
    check_horizon(horizon_weeks)
    if not (np.isfinite(rate_a_week) and rate_a_week >= 0):
        raise Invalid("A discount rate is a number of at least 0.")
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    length = np.log1p(horizon_weeks / scale)
    total = np.zeros(len(scale))
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        after = scale * np.expm1(node * length)
        total += weight * np.exp(-rate_a_week * after) * rate(after) * (scale + after)
    return total * length
