"""BG/NBD: how often customers buy while they are there, and after how many purchases they are gone.

Fader, Hardie and Lee, "Counting Your Customers" the Easy Way: An Alternative to the Pareto/NBD Model, Marketing Science
24 (2005) 275-284. A customer buys at random times with rate λ, and is gone after any purchase with probability p; λ is
gamma distributed over the customers (shape r, rate α in weeks), p beta distributed (a, b). Equation numbers are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaln, expit, gammaln

from geocrm.errors import Invalid
from geocrm.segmentation.clv.counts import Counts, check_histories, thinned
from geocrm.segmentation.clv.likelihood import Estimate, Floats, maximise
from geocrm.segmentation.clv.purchases import check_horizon, check_repeats, hypergeometric, over_time, rising

NAMES = ("r", "alpha", "a", "b")
METHOD = "BG/NBD"
STARTS = ((0.5, 0.7, 1.0, 4.0), (1.0, 0.8, 0.5, 4.0), (3.0, 0.9, 0.3, 6.0), (0.1, 0.3, 0.5, 0.5), (1.0, 0.3, 3.0, 3.0))
"""r, alpha as a share of r / (purchases a week), a, b."""
NEAR_ONE = 1e-6
_MEANING = {
    "r up": "All customers seem to buy at one and the same rate, so that the spread of rates cannot be estimated.",
    "r down": "Almost all repeat purchases are those of a few customers.",
    "alpha up": "All customers seem to buy at one and the same rate, so that the spread of rates cannot be estimated.",
    "alpha down": "The repeat purchases of most customers follow the first one at once.",
    "a up": "All customers seem to leave with one and the same probability.",
    "a down": "Hardly anybody who bought again has stopped buying, so that leaving cannot be estimated.",
    "b up": "Hardly anybody who bought again has stopped buying, or all leave with one and the same probability.",
    "b down": "Almost everybody is gone after a single purchase or never leaves.",
    "r": "Too few repeat purchases to tell the spread of the rates at which customers buy.",
    "alpha": "Too few repeat purchases to tell the rates at which customers buy.",
    "a": "Too few repeat buyers to tell how customers leave.",
    "b": "Too few repeat buyers to tell how customers leave.",
}


@dataclass(frozen=True)
class BgNbd:
    """The model with its parameters: `r` and `alpha` (weeks) of the rates, `a` and `b` of the probability to leave.

    Histories are arrays of shape (n,) as in `counts.Counts`; single numbers do as well. Results are float64 (n,).
    """

    r: float
    alpha: float
    a: float
    b: float

    @property
    def values(self) -> tuple[float, float, float, float]:
        """The parameters in order."""
        return self.r, self.alpha, self.a, self.b

    def probability_alive(self, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike) -> Floats:
        """Probability that a customer will still buy, given the history (Fader and Hardie, note 021).

        1 for customers without a repeat purchase: in this model nobody leaves before a repeat purchase.
        """
        x, recency, t = check_histories(*np.atleast_1d(frequency, recency_weeks, t_weeks))
        again = np.maximum(x, 1)
        left = np.log(self.a) - np.log(self.b + again - 1)
        left += (self.r + x) * np.log1p((t - recency) / (self.alpha + recency))
        return np.where(x == 0, 1.0, expit(-left))

    def purchase_rate(
        self, after_weeks: ArrayLike, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike
    ) -> Floats:
        """Expected purchases a week, `after_weeks` after the cutoff: the derivative of equation (10)."""
        x, recency, t = check_histories(*np.atleast_1d(frequency, recency_weeks, t_weeks))
        return self.probability_alive(x, recency, t) * self._rate(np.asarray(after_weeks, dtype=np.float64), x, t)

    def _rate(self, after: Floats, x: NDArray[np.int64], t: Floats) -> Floats:
        """The rate of those still there.

        After the Pfaff transformation the first argument of 2F1 is free of x: nothing overflows, whatever x is.
        """
        base = self.alpha + t
        ratio = after / base
        series = hypergeometric(self.a + self.b - self.r - 1, self.a, self.a + self.b + x, ratio / (1 + ratio))
        return (self.r + x) / base * series * (1 + ratio) ** -self.a

    def expected_purchases(
        self, horizon_weeks: ArrayLike, frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike
    ) -> Floats:
        """Expected purchases in the `horizon_weeks` after the cutoff, given the history: equation (10)."""
        x, recency, t = check_histories(*np.atleast_1d(frequency, recency_weeks, t_weeks))
        return self.probability_alive(x, recency, t) * self._expected(check_horizon(horizon_weeks), x, t)

    def _expected(self, horizon: Floats, x: NDArray[np.int64], t: Floats) -> Floats:
        """Expected purchases of those still there. The formula has removable poles at a = 1 and, without repeat
        purchases, at a + b = 1."""
        if min(abs(self.a - 1), abs(self.a + self.b - 1)) < NEAR_ONE:
            sides = [
                BgNbd(self.r, self.alpha, self.a + side, self.b)._expected(horizon, x, t) for side in (1e-5, -1e-5)
            ]
            return (sides[0] + sides[1]) / 2
        ratio = horizon / (self.alpha + t)
        third = self.a + self.b + x - 1
        series = hypergeometric(self.a + self.b - self.r - 1, self.a - 1, third, ratio / (1 + ratio))
        return third / (self.a - 1) * (1 - series * (1 + ratio) ** (1 - self.a))

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
        alive = self.probability_alive(x, recency, t)
        until_gone = (self.alpha + t) / (1 + (self.r + x) * self.a / (self.a + self.b + x))  # about so many weeks
        return alive * over_time(lambda after: self._rate(after, x, t), horizon_weeks, rate_a_week, until_gone)

    def expected_since_first(self, t_weeks: ArrayLike) -> Floats:
        """Expected repeat purchases of a new customer in the `t_weeks` after the first purchase: equation (9)."""
        horizon = np.atleast_1d(check_horizon(t_weeks))
        return self._expected(horizon, np.zeros(len(horizon), dtype=np.int64), np.zeros(len(horizon)))

    def probability_of(self, purchases: ArrayLike, t_weeks: ArrayLike) -> Floats:
        """Probability that a new customer makes so many repeat purchases in `t_weeks`: equation (8)."""
        n, t = np.broadcast_arrays(np.atleast_1d(np.asarray(purchases, dtype=np.float64)), check_horizon(t_weeks))
        if (n < 0).any() or (n != np.rint(n)).any():
            raise Invalid("A number of purchases is a whole number of at least 0.")
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(n > 0, n * np.log(t / (self.alpha + t)), 0.0)
        stays = betaln(self.a, self.b + n) - betaln(self.a, self.b)
        stays += gammaln(self.r + n) - gammaln(self.r) - gammaln(n + 1) - self.r * np.log1p(t / self.alpha) + times
        some = np.maximum(n, 1)
        leaves = np.exp(betaln(self.a + 1, self.b + some - 1) - betaln(self.a, self.b))
        leaves *= betainc(some, self.r, t / (self.alpha + t))
        return np.exp(stays) + np.where(n > 0, leaves, 0.0)


class Likelihood:
    """Log-likelihood of the counts, with gradient and Hessian in (r, alpha, a, b): section 7, equation (6).

    The terms with gamma functions are sums over the purchases, Γ(r + x) / Γ(r) = Π (r + j), tabulated once a call.
    """

    def __init__(self, counts: Counts) -> None:
        again = counts.frequency > 0
        self.size = int(counts.frequency.max()) + 1
        self.of_frequency = np.bincount(counts.frequency, weights=counts.weights, minlength=self.size)
        self.some_t, row = np.unique(counts.t_weeks, return_inverse=True)
        self.of_t = np.bincount(row, weights=counts.weights)
        self.bought_of_t = np.bincount(row, weights=counts.weights * counts.frequency)
        self.row_t = row[again]
        self.again = counts.frequency[again]
        self.x = self.again.astype(np.float64)
        self.recency = counts.recency_weeks[again]
        self.pause = counts.t_weeks[again] - self.recency
        self.weights = counts.weights[again].astype(np.float64)
        self.customers = float(counts.weights.sum())

    def __call__(self, values: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient (4,), Hessian (4, 4)."""
        r, alpha, a, b = values.tolist()
        gradient, hessian = np.zeros(4), np.zeros((4, 4))
        number, w = self.of_frequency, self.weights
        # The purchases themselves: Γ(r+x)/Γ(r), and B(a, b+x)/B(a, b) = Π (b+j)/(a+b+j).
        log_r, d_r, dd_r = rising(r, self.size)
        _, d_b, dd_b = rising(b, self.size)
        _, d_ab, dd_ab = rising(a + b, self.size)
        j = np.arange(self.size - 1)
        stayed = np.concatenate(([0.0], -np.cumsum(np.log1p(a / (b + j)))))
        value = float(number @ (log_r + stayed))
        gradient += np.array([number @ d_r, 0.0, -(number @ d_ab), number @ (d_b - d_ab)])
        hessian[0, 0] += number @ dd_r
        hessian[2, 2] -= number @ dd_ab
        hessian[2, 3] -= number @ dd_ab
        hessian[3, 3] += number @ (dd_b - dd_ab)
        # (α / (α + T))^r (α + T)^-x.
        inverse = 1 / (alpha + self.some_t)
        shrunk = np.log1p(self.some_t / alpha)
        value -= r * float(self.of_t @ shrunk) - float(self.bought_of_t @ np.log(inverse))
        gradient[0] -= self.of_t @ shrunk
        once = self.customers / alpha - self.of_t @ inverse
        gradient[1] += r * once - self.bought_of_t @ inverse
        hessian[0, 1] += once
        hessian[1, 1] += (r * self.of_t + self.bought_of_t) @ inverse**2 - r * self.customers / alpha**2
        # 1 + odds of having left after the last purchase, for repeat buyers.
        n = r + self.x
        at_last, at_cutoff = 1 / (alpha + self.recency), inverse[self.row_t]
        silent = self.pause * at_last
        log_silent = np.log1p(silent)
        fewer = b + np.arange(-1, self.size - 1)  # b + x - 1, by x
        fewer[0] = np.nan  # who did not buy again is not asked
        odds = n * log_silent + (np.log(a) - np.log(fewer))[self.again]
        shrunk = np.exp(-np.abs(odds))
        value += float(w @ (np.maximum(odds, 0.0) + np.log1p(shrunk)))
        left = np.where(odds > 0, 1.0, shrunk) / (1 + shrunk)
        slope = -silent * at_cutoff
        w_left = w * left
        w_both = w_left * (1 - left)
        d = np.empty((4, len(n)))  # of the logarithm of the odds
        d[0], d[1], d[2], d[3] = log_silent, n * slope, 1 / a, (-1 / fewer)[self.again]
        gradient += d @ w_left
        hessian += (d * w_both) @ d.T
        hessian[0, 1] += w_left @ slope
        hessian[1, 1] -= w_left @ (d[1] * (at_last + at_cutoff))
        hessian[2, 2] -= w_left.sum() / a**2
        hessian[3, 3] += w_left @ (d[3] ** 2)
        return value, gradient, np.triu(hessian) + np.triu(hessian, 1).T


def log_likelihood(counts: Counts, model: BgNbd) -> float:
    """Of all customers under a model; without the constant that no parameter changes, as published."""
    return Likelihood(counts)(np.array(model.values))[0]


def fit(counts: Counts) -> Estimate[BgNbd]:
    """The parameters that make the counts most likely, with their covariance.

    Raises:
        TooLittleData: no repeat buyers, nobody observed for any time, or no more different histories than parameters.
        NotConverged: the likelihood has no maximum, or too flat a one; the message says in which parameter and why.
    """
    check_repeats(counts, METHOD, len(NAMES))
    weekly = float(counts.weights @ counts.frequency) / float(counts.weights @ counts.t_weeks)
    return maximise(
        Likelihood(counts),
        [(r, r / weekly * share, a, b) for r, share, a, b in STARTS],
        rough=Likelihood(thinned(counts)),
        make=BgNbd,
        method=METHOD,
        names=NAMES,
        usual=(1.0, 1 / weekly, 1.0, 1.0),
        meaning=_MEANING,
        histories=len(counts.weights),
    )
