"""What customers are worth: expected discounted purchases times expected value a purchase, and how sure that is.

The worth of a customer over a horizon H is the present value of the purchases still to come,

    worth = v · ∫ exp(-δ τ) dE[purchases until τ]  from 0 to H,

with v the customer's expected value a purchase (Gamma-Gamma), the expectation given the customer's history (BG/NBD or
Pareto/NBD), and δ a continuous rate: a discount of d a year (0.1 = 10 %) is δ = ln(1 + d) / 52.1775 a week. With
margins as values the worth is a profit, with revenues it is a revenue; the cost of winning the customer is not in it.

Standard errors and intervals come from the parameters' covariance by the delta method (the two models are fitted apart,
so that their covariances stand beside each other). They cover that the parameters are estimated from a limited number
of customers. They do not cover chance (a customer with 2 expected purchases may make 0 or 5), which evens out over a
large segment and dominates for a single customer, nor that the models are simpler than the customers: compare with what
happened in a later period.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from geocrm.errors import Invalid
from geocrm.segmentation.clv.counts import check_histories, collapse
from geocrm.segmentation.clv.gamma_gamma import GammaGamma
from geocrm.segmentation.clv.likelihood import Estimate, Floats
from geocrm.segmentation.clv.purchases import PurchaseModel

WEEKS_A_YEAR = 365.2425 / 7


@dataclass(frozen=True)
class Totals:
    """Sums over groups of customers, all of shape (g,): see `Expectations.totals`."""

    group: NDArray
    customers: NDArray[np.int64]
    total: Floats
    standard_error: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class Expectations:
    """An expected number or amount for each customer, with what is needed to say how sure it is.

    Attributes:
        value: (n,), not negative.
        slopes: its change with the logarithms of the models' k parameters, (n, k).
        log_covariance: of these logarithms, (k, k).
    """

    value: Floats
    slopes: Floats
    log_covariance: Floats

    @property
    def standard_error(self) -> Floats:
        """Of each customer's expectation, from the estimation of the parameters alone: (n,)."""
        return _spread(self.slopes, self.log_covariance)

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Bounds of each customer's expectation, (n,) and (n,), symmetric in its logarithm; not of what will happen."""
        return _bounds(self.value, self.standard_error, level)

    def totals(self, group: ArrayLike, level: float = 0.95) -> Totals:
        """Sums by group (a label a customer, (n,)), with standard errors and bounds.

        The errors of customers have the same cause, so that they add up instead of evening out: the slopes are added
        first.
        """
        labels = np.asarray(group)
        if labels.shape != self.value.shape:
            raise Invalid(f"{labels.shape} labels for {self.value.shape} customers: give one each.")
        found, row = np.unique(labels, return_inverse=True)
        total, *parts = (
            np.bincount(row, weights=column, minlength=len(found)).astype(np.float64)
            for column in (self.value, *self.slopes.T)
        )
        slopes = np.stack(parts, axis=-1)
        error = _spread(slopes, self.log_covariance)
        lower, upper = _bounds(total, error, level)
        return Totals(found, np.bincount(row, minlength=len(found)).astype(np.int64), total, error, lower, upper)


def _spread(slopes: Floats, covariance: Floats) -> Floats:
    return np.sqrt(np.einsum("ni,ij,nj->n", slopes, covariance, slopes))


def _bounds(value: Floats, error: Floats, level: float) -> tuple[Floats, Floats]:
    if not 0 < level < 1:
        raise Invalid("A level lies between 0 and 1, as 0.95.")
    share = np.divide(error, value, out=np.zeros_like(error), where=value > 0)
    reach = np.exp(float(ndtri((1 + level) / 2)) * share)
    return value / reach, value * reach


def weekly_rate(discount_a_year: float) -> float:
    """The continuous rate a week of a discount a year (0.1 = 10 %): ln(1 + d) / 52.1775."""
    if not (np.isfinite(discount_a_year) and discount_a_year >= 0):
        raise Invalid("A discount is a share a year of at least 0, as 0.1 for 10 %.")
    return float(np.log1p(discount_a_year)) / WEEKS_A_YEAR


def expected_purchases(
    purchases: Estimate[PurchaseModel],
    frequency: ArrayLike,
    recency_weeks: ArrayLike,
    t_weeks: ArrayLike,
    *,
    horizon_weeks: float,
    discount_a_year: float = 0.0,
) -> Expectations:
    """Expected purchases of each customer in the weeks after the cutoff, later ones counted less with a discount.

    Args:
        purchases: a fitted BG/NBD or Pareto/NBD model.
        frequency, recency_weeks, t_weeks: the customers' histories, (n,); see `counts.Counts`. Equal ones are computed
            once.
        horizon_weeks: how far ahead.
        discount_a_year: 0.1 for 10 %.

    Raises:
        Invalid: histories that cannot be; a horizon or discount below 0.
    """
    rate = weekly_rate(discount_a_year)
    x, recency, t = check_histories(frequency, recency_weeks, t_weeks)
    if not len(x):
        k = len(purchases.names)
        return Expectations(np.zeros(0), np.zeros((0, k)), purchases.log_covariance)
    counts = collapse(x, recency, t)
    history = counts.frequency, counts.recency_weeks, counts.t_weeks

    def answer(model: PurchaseModel) -> Floats:
        if rate == 0:
            return model.expected_purchases(horizon_weeks, *history)
        return model.discounted_purchases(horizon_weeks, rate, *history)

    value, slopes = answer(purchases.model), purchases.sensitivity(answer)
    return Expectations(value[counts.row], slopes[counts.row], purchases.log_covariance)


def customer_value(
    purchases: Estimate[PurchaseModel],
    values: Estimate[GammaGamma],
    frequency: ArrayLike,
    recency_weeks: ArrayLike,
    t_weeks: ArrayLike,
    mean_value: ArrayLike,
    *,
    horizon_weeks: float,
    discount_a_year: float,
) -> Expectations:
    """What each customer is worth over the horizon, in the money that the model of values was fitted on.

    Args:
        purchases: a fitted BG/NBD or Pareto/NBD model.
        values: a fitted Gamma-Gamma model; on margins the worth is a profit.
        frequency, recency_weeks, t_weeks: the customers' histories, (n,).
        mean_value: mean money of the repeat purchases, (n,); not read for customers without any.
        horizon_weeks: how far ahead.
        discount_a_year: 0.1 for 10 %.

    Raises:
        Invalid: see `expected_purchases` and `GammaGamma.expected_value`.
    """
    coming = expected_purchases(
        purchases, frequency, recency_weeks, t_weeks, horizon_weeks=horizon_weeks, discount_a_year=discount_a_year
    )
    each = values.model.expected_value(frequency, mean_value)
    each_slopes = values.sensitivity(lambda model: model.expected_value(frequency, mean_value))
    first = len(purchases.names)
    covariance = np.zeros((first + len(values.names),) * 2)
    covariance[:first, :first] = purchases.log_covariance
    covariance[first:, first:] = values.log_covariance
    slopes = np.hstack((coming.slopes * each[:, None], each_slopes * coming.value[:, None]))
    return Expectations(coming.value * each, slopes, covariance)
