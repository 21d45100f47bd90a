"""Pareto/NBD: how often customers buy while they are there, and how long they stay.

Schmittlein, Morrison and Colombo, Counting Your Customers: Who Are They and What Will They Do Next? Management Science
33 (1987) 1-24; in the notation of Fader and Hardie, A Note on Deriving the Pareto/NBD Model and Related Expressions
(2005). A customer buys at random times with rate λ and leaves after an exponential time with rate μ; λ is gamma
distributed over the customers (shape r, rate alpha in weeks), so is μ (s, beta).

The likelihood of a history holds the integral over the time y at which a customer who is gone may have left,

    ∫ (α + y)^-(r + x) (β + y)^-(s + 1) dy  from t_x to T,

usually written as a difference of two hypergeometric functions, one form for α ≥ β, another for α < β, with
cancellation where x is large. Here the integral itself is taken, by Gauss-Legendre in log(min(α, β) + y): one form, all
terms positive, and its derivatives are means of the integrand's own: gradient and Hessian need no differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, exprel, gammaln, hyperu

from geocrm.errors import Invalid
from geocrm.segmentation.clv.counts import Counts, check_histories, thinned
from geocrm.segmentation.clv.likelihood import Estimate, Floats, maximise
from geocrm.segmentation.clv.purchases import check_horizon, check_repeats, over_time, rising

NAMES = ("r", "alpha", "s", "beta")
METHOD = "Pareto/NBD"
STARTS = ((0.5, 0.7, 0.6, 0.5), (1.0, 0.9, 1.0, 2.0), (3.0, 0.9, 2.0, 4.0), (0.2, 0.4, 0.3, 0.1), (1.0, 0.9, 0.3, 1.0))
"""r, alpha as a share of r / (purchases a week), s, beta as a share of the mean T."""
ROWS = 4096
NEGLIGIBLE = 42.0
"""The integral ends where the logarithm of the integrand has fallen by this much."""
_MEANING = {
    "r up": "All customers seem to buy at one and the same rate, so that the spread of rates cannot be estimated.",
    "r down": "Almost all repeat purchases are those of a few customers.",
    "alpha up": "All customers seem to buy at one and the same rate, so that the spread of rates cannot be estimated.",
    "alpha down": "The repeat purchases of most customers follow the first one at once.",
    "s up": "All customers seem to leave at one and the same rate.",
    "s down": "Hardly anybody has stopped buying, so that leaving cannot be estimated.",
    "beta up": "Hardly anybody has stopped buying, or all leave at one and the same rate.",
    "beta down": "Most customers seem to be gone right after their first purchase.",
    "r": "Too few repeat purchases to tell the spread of the rates at which customers buy.",
    "alpha": "Too few repeat purchases to tell the rates at which customers buy.",
    "s": "Too few customers have stopped buying to tell how they leave.",
    "beta": "Too few customers have stopped buying to tell when they leave.",
}


@dataclass(frozen=True)
class ParetoNbd:
    """The model with its parameters: `r` and `alpha` (weeks) of the rates of buying, `s` and `beta` (weeks) of leaving.

    Histories are arrays of shape (n,) as in `counts.Counts`; single numbers do as well. Results are float64 (n,).
    Numbers of equations are those of Fader and Hardie's note of 2005.
    """

    r: float
    alpha: float
    s: float
    beta: float

    @property
    def values(self) -> tuple[float, float, float, float]:
        """The parameters in order."""
        return self.r, self.alpha, self.s, self.beta

    def probability_alive(self, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike) -> Floats:
        """Probability that a customer is still there, given the history: equation (36)."""
        x, recency, t = check_histories(*np.atleast_1d(frequency, recency_weeks, t_weeks))
        left = np.empty(len(x))
        for first in range(0, len(x), ROWS):
            part = slice(first, first + ROWS)
            left[part] = _Gone(self, x[part].astype(np.float64), recency[part], t[part]).log_integral
        stay = -(self.r + x) * np.log(self.alpha + t) - self.s * np.log(self.beta + t)
        return expit(stay - np.log(self.s) - left)

    def purchase_rate(
        self, after_weeks: ArrayLike, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike
    ) -> Floats:
        """Expected purchases a week, `after_weeks` after the cutoff: the derivative of equation (41)."""
        x, recency, t = check_histories(*np.atleast_1d(frequency, recency_weeks, t_weeks))
        return self.probability_alive(x, recency, t) * self._rate(np.asarray(after_weeks, dtype=np.float64), x, t)

    def _rate(self, after: Floats, x: ArrayLike, t: Floats) -> Floats:
        return (self.r + np.asarray(x)) / (self.alpha + t) * (1 + after / (self.beta + t)) ** -self.s

    def expected_purchases(
        self, horizon_weeks: ArrayLike, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike
    ) -> Floats:
        """Expected purchases in the `horizon_weeks` after the cutoff, given the history: equation (41)."""
        x, recency, t = check_histories(*np.atleast_1d(frequency, recency_weeks, t_weeks))
        weeks = self._weeks_there(check_horizon(horizon_weeks), t)
        return self.probability_alive(x, recency, t) * (self.r + x) / (self.alpha + t) * weeks

    def _weeks_there(self, horizon: Floats, t: Floats) -> Floats:
        """Expected weeks that a customer who is there after `t` will be there in the horizon, also for s = 1."""
        longer = np.log1p(horizon / (self.beta + t))
        return (self.beta + t) * longer * exprel(-(self.s - 1) * longer)

    def discounted_purchases(
        self,
        horizon_weeks: float,
        rate_a_week: float,
        frequency: ArrayLike,
        recency_weeks: ArrayLike,
        t_weeks: ArrayLike,
    ) -> Floats:
        """Expected purchases in the horizon, each counted with exp(-rate_a_week × weeks until it)."""
        x, recency, t = check_histories(*np.atleast_1d(frequency, recency_weeks, t_weeks))
        until_gone = (self.beta + t) / (1 + self.s)
        alive = self.probability_alive(x, recency, t)
        return alive * over_time(lambda after: self._rate(after, x, t), horizon_weeks, rate_a_week, until_gone)

    def discounted_for_ever(
        self, rate_a_week: float, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike
    ) -> Floats:
        """Discounted expected residual transactions (DERT): the same without an end.

        Fader, Hardie and Lee, RFM and CLV: Using Iso-Value Curves for Customer Base Analysis, Journal of Marketing
        Research 42 (2005) 415-430.
        """
        if not (np.isfinite(rate_a_week) and rate_a_week > 0):
            raise Invalid("Purchases without an end need a discount rate above 0.")
        x, recency, t = check_histories(*np.atleast_1d(frequency, recency_weeks, t_weeks))
        reach = rate_a_week * (self.beta + t)
        # ∫ exp(-δτ) (1 + τ/(β+T))^-s dτ = (β+T) Ψ(1, 2 - s; δ(β+T)); Kummer: = (β+T) (δ(β+T))^(s-1) Ψ(s, s; δ(β+T))
        weeks = (self.beta + t) * hyperu(1.0, 2 - self.s, reach)
        return self.probability_alive(x, recency, t) * (self.r + x) / (self.alpha + t) * weeks

    def expected_since_first(self, t_weeks: ArrayLike) -> Floats:
        """Expected repeat purchases of a new customer in the `t_weeks` after the first purchase: equation (27)."""
        horizon = np.atleast_1d(check_horizon(t_weeks))
        return self.r / self.alpha * self._weeks_there(horizon, np.zeros(len(horizon)))

    def probability_of(self, purchases: ArrayLike, t_weeks: ArrayLike) -> Floats:
        """Probability that a new customer makes so many repeat purchases in `t_weeks`.

        A customer who stays buys by a negative binomial distribution until then, one who leaves until the time of
        leaving; the integral over this time is numerical.
        """
        n, t = np.broadcast_arrays(np.atleast_1d(np.asarray(purchases, dtype=np.float64)), check_horizon(t_weeks))
        if (n < 0).any() or (n != np.rint(n)).any():
            raise Invalid("A number of purchases is a whole number of at least 0.")
        nodes, weights = np.polynomial.legendre.leggauss(128)
        length = np.log1p(t / min(self.alpha, self.beta))
        z = (nodes[:, None] + 1) / 2 * length
        y = min(self.alpha, self.beta) * np.expm1(z)
        density = np.log(self.s) + self.s * np.log(self.beta) - (self.s + 1) * np.log(self.beta + y)
        jacobian = z + np.log(min(self.alpha, self.beta))
        leaves = weights / 2 @ np.exp(self._log_binomial(n, y) + density + jacobian) * length
        return np.exp(self._log_binomial(n, t) - self.s * np.log1p(t / self.beta)) + leaves

    def _log_binomial(self, n: Floats, t: Floats) -> Floats:
        """Logarithm of the probability of n purchases in `t` weeks for those who do not leave in them."""
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(n > 0, n * np.log(t / (self.alpha + t)), 0.0)
        return gammaln(self.r + n) - gammaln(self.r) - gammaln(n + 1) - self.r * np.log1p(t / self.alpha) + times


class _Gone:
    """The integral over the time of leaving, for k histories: its logarithm (k,), and what each node adds (k, m)."""

    def __init__(self, model: ParetoNbd, x: Floats, recency: Floats, t: Floats) -> None:
        r, alpha, s, beta = model.values
        nearer = min(alpha, beta)
        self.power = (r + x)[:, None]

        def log_integrand(z: Floats) -> Floats:  # z = log((nearer + y) / (nearer + t_x)), with dy = (nearer + y) dz
            y = recency[:, None] + (nearer + recency)[:, None] * np.expm1(z)
            return -self.power * np.log(alpha + y) - (s + 1) * np.log(beta + y) + np.log(nearer + y)

        length = np.log1p((t - recency) / (nearer + recency))[:, None]
        start = np.zeros_like(length)
        # The integrand is log-concave in z: where it has all but vanished before the end, halve to where it has.
        top, end = log_integrand(start), log_integrand(length)
        far = (top - end)[:, 0] > NEGLIGIBLE
        if far.any():
            low, high = start.copy(), length.copy()
            for _ in range(20):
                middle = (low + high) / 2
                gone = top - log_integrand(middle) > NEGLIGIBLE
                low, high = np.where(gone, low, middle), np.where(gone, middle, high)
            length = np.where(far[:, None], high, length)
        nodes, weights = np.polynomial.legendre.leggauss(_nodes(float(length.max(initial=0))))
        z = (nodes + 1) / 2 * length
        y = recency[:, None] + (nearer + recency)[:, None] * np.expm1(z)
        self.alpha_y, self.beta_y = alpha + y, beta + y
        self.log_alpha_y, self.log_beta_y = np.log(self.alpha_y), np.log(self.beta_y)
        nearest = self.log_alpha_y if alpha <= beta else self.log_beta_y
        logs = -self.power * self.log_alpha_y - (s + 1) * self.log_beta_y + nearest
        highest = logs.max(axis=1, keepdims=True)
        parts = np.exp(logs - highest) * weights
        total = parts.sum(axis=1, keepdims=True)
        self.shares = parts / total
        with np.errstate(divide="ignore"):  # nothing to integrate where the last purchase was at the cutoff
            self.log_integral = (highest + np.log(total / 2) + np.log(length))[:, 0]

    def mean(self, of: Floats) -> Floats:
        """Mean over the time of leaving: (k,)."""
        return np.einsum("km,km->k", self.shares, of)


def _nodes(length: float) -> int:
    """How many nodes a length of log time needs: the integrand is analytic within π/2 of it, so the error falls with
    exp(-nodes / length)."""
    return 32 if length <= 4 else 48 if length <= 8 else 96


class Likelihood:
    """Log-likelihood of the counts, with gradient and Hessian in (r, alpha, s, beta): equations (18) to (20)."""

    def __init__(self, counts: Counts) -> None:
        self.size = int(counts.frequency.max()) + 1
        self.of_frequency = np.bincount(counts.frequency, weights=counts.weights, minlength=self.size)
        self.x = counts.frequency.astype(np.float64)
        self.recency, self.t = counts.recency_weeks, counts.t_weeks
        self.weights = counts.weights.astype(np.float64)
        self.customers = float(self.weights.sum())

    def __call__(self, values: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient (4,), Hessian (4, 4)."""
        model = ParetoNbd(*values.tolist())
        r, alpha, s, beta = model.values
        customers = self.customers
        log_r, d_r, dd_r = rising(r, self.size)
        value = float(self.of_frequency @ log_r) + customers * (r * np.log(alpha) + s * np.log(beta))
        gradient = customers * np.array([np.log(alpha), r / alpha, np.log(beta), s / beta])
        gradient[0] += self.of_frequency @ d_r
        hessian = customers * np.diag([0.0, -r / alpha**2, 0.0, -s / beta**2])
        hessian[0, 0] += self.of_frequency @ dd_r
        hessian[0, 1] += customers / alpha
        hessian[2, 3] += customers / beta
        for first in range(0, len(self.x), ROWS):
            part = slice(first, first + ROWS)
            more = self._part(model, self.x[part], self.recency[part], self.t[part], self.weights[part])
            value += more[0]
            gradient += more[1]
            hessian += more[2]
        return value, gradient, np.triu(hessian) + np.triu(hessian, 1).T

    def _part(self, model: ParetoNbd, x: Floats, recency: Floats, t: Floats, w: Floats) -> tuple[float, Floats, Floats]:
        """What some histories add: those still there and those gone, mixed by probability. Upper triangle."""
        r, alpha, s, beta = model.values
        gone = _Gone(model, x, recency, t)
        n = r + x
        stay = -n * np.log(alpha + t) - s * np.log(beta + t)
        leave = np.log(s) + gone.log_integral
        left = expit(leave - stay)
        inverse_alpha, inverse_beta = 1 / gone.alpha_y, 1 / gone.beta_y
        one_alpha, one_beta = gone.mean(inverse_alpha), gone.mean(inverse_beta)
        slope_stay = np.stack((-np.log(alpha + t), -n / (alpha + t), -np.log(beta + t), -s / (beta + t)))
        slope_gone = np.stack(
            (-gone.mean(gone.log_alpha_y), -n * one_alpha, 1 / s - gone.mean(gone.log_beta_y), -(s + 1) * one_beta)
        )
        w_left, w_stay = w * left, w * (1 - left)
        gradient = slope_gone @ w_left + slope_stay @ w_stay
        difference = slope_gone - slope_stay
        hessian = (difference * (w_left * (1 - left))) @ difference.T
        # Of those still there.
        hessian[0, 1] -= w_stay @ (1 / (alpha + t))
        hessian[1, 1] += w_stay @ (n / (alpha + t) ** 2)
        hessian[2, 3] -= w_stay @ (1 / (beta + t))
        hessian[3, 3] += s * (w_stay @ (1 / (beta + t) ** 2))
        # Of those gone: the mean of the integrand's second derivatives, and the covariance of its first ones.
        hessian[0, 1] -= w_left @ one_alpha
        hessian[1, 1] += w_left @ (n * gone.mean(inverse_alpha**2))
        hessian[2, 2] -= w_left.sum() / s**2
        hessian[2, 3] -= w_left @ one_beta
        hessian[3, 3] += (s + 1) * (w_left @ gone.mean(inverse_beta**2))
        apart = [
            -(gone.log_alpha_y - gone.mean(gone.log_alpha_y)[:, None]),
            -gone.power * (inverse_alpha - one_alpha[:, None]),
            -(gone.log_beta_y - gone.mean(gone.log_beta_y)[:, None]),
            -(s + 1) * (inverse_beta - one_beta[:, None]),
        ]
        for i in range(4):
            weighted = gone.shares * apart[i] * w_left[:, None]
            for k in range(i, 4):
                hessian[i, k] += np.vdot(weighted, apart[k])
        return float(w @ np.logaddexp(stay, leave)), gradient, hessian


def log_likelihood(counts: Counts, model: ParetoNbd) -> float:
    """Of all customers under a model; without the constant that no parameter changes, as published."""
    return Likelihood(counts)(np.array(model.values))[0]


def fit(counts: Counts) -> Estimate[ParetoNbd]:
    """The parameters that make the counts most likely, with their covariance.

    Raises:
        TooLittleData: no repeat buyers, nobody observed for any time, or no more different histories than parameters.
        NotConverged: the likelihood has no maximum, or too flat a one; the message says in which parameter and why.
    """
    check_repeats(counts, METHOD, len(NAMES))
    weeks = float(counts.weights @ counts.t_weeks) / counts.customers
    weekly = float(counts.weights @ counts.frequency) / counts.customers / weeks
    return maximise(
        Likelihood(counts),
        [(r, r / weekly * share, s, weeks * part) for r, share, s, part in STARTS],
        rough=Likelihood(thinned(counts)),
        make=ParetoNbd,
        method=METHOD,
        names=NAMES,
        usual=(1.0, 1 / weekly, 1.0, weeks),
        meaning=_MEANING,
        histories=len(counts.weights),
    )
