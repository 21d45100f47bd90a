"""Gamma-Gamma: what a customer spends at a purchase, from how often and how much so far.

Fader and Hardie, The Gamma-Gamma Model of Monetary Value (note 025, 2013), after Colombo and Jiang (1999). Purchases of
one customer are gamma distributed (shape p, rate ν), ν is gamma distributed over the customers (shape q, rate gamma in
money). Fitted on customers with repeat purchases and the mean of these. The model takes what customers spend at a
purchase to be independent of how often they buy: `fit` reports the correlation, `ValueEstimate.independence` says it.

Money is what the caller gives: revenue, or better the margin, so that the worth is one of profits. Margins of 0 or
below are outside the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, polygamma, psi

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.clv.likelihood import Estimate, Floats, maximise

NAMES = ("p", "q", "gamma")
METHOD = "Gamma-Gamma"
STARTS = ((3.0, 3.0), (1.0, 2.0), (10.0, 5.0), (2.0, 20.0), (0.5, 1.5))
"""p, q; gamma follows from the mean."""
WEAK = 0.1
ROWS = 8_192
TERMS, NEAR = 8, 0.04
"""Of the series of `Likelihood`, and the share of gamma that its step may be."""
_MEANING = {
    "p up": "Each customer seems to spend one and the same at every purchase.",
    "p down": "What a customer spends at one purchase says nothing about the next one.",
    "q up": "All customers seem to spend the same on average; the mean of all is then the best answer for each.",
    "q down": "A few customers spend so much more than the others that there is no mean; look for wrong amounts.",
    "gamma up": "All customers seem to spend the same on average; the mean of all is then the best answer for each.",
    "gamma down": "Each customer seems to spend one and the same at every purchase, or a few customers so much more "
    "than the others that there is no mean; look for wrong amounts.",
    "p": "Too few customers with several repeat purchases to tell how these vary.",
    "q": "Too few customers to tell how their means vary.",
    "gamma": "Too few customers to tell how their means vary.",
}


@dataclass(frozen=True)
class GammaGamma:
    """The model with its parameters: `p` of the purchases of one customer, `q` and `gamma` (money) of the customers."""

    p: float
    q: float
    gamma: float

    @property
    def values(self) -> tuple[float, float, float]:
        """The parameters in order."""
        return self.p, self.q, self.gamma

    def expected_value(self, frequency: ArrayLike, mean_value: ArrayLike) -> Floats:
        """Expected mean value of a customer's purchases, given the mean of the repeat ones: equation (5), (n,).

        A mean of the customer's own and that of all customers, which counts for less the more purchases there were. The
        mean value of a customer without a repeat purchase is not read, it may be NaN.

        Raises:
            Invalid: values that are not numbers above 0 for customers with repeat purchases; a model without a mean
                (p · x + q at most 1).
        """
        x, mean = _check(frequency, mean_value)
        weight = self.p * x + self.q - 1
        if (weight <= 0).any():
            raise Invalid(
                f"The spread of the customers' spending is so wide (q = {self.q:.2f}) that there is no expected value "
                "for a customer with so few purchases. Look for wrong amounts, or treat the greatest customers apart."
            )
        return self.p * (self.gamma + np.where(x > 0, x * mean, 0.0)) / weight


@dataclass(frozen=True)
class ValueEstimate(Estimate[GammaGamma]):
    """A fitted Gamma-Gamma model, and how far its assumption holds.

    Attributes:
        correlation: of frequency and mean value over the customers (Pearson); 0 where one of them does not vary.
        log_correlation: the same of their logarithms, in which single great customers weigh less. The mean of few
            purchases has a lower logarithm, by log(p·x) - ψ(p·x) in the model: that much is added first.
    """

    correlation: float
    log_correlation: float

    @property
    def independence(self) -> str:
        """What the correlation says about the model's assumption, in a sentence."""
        strongest = max(self.correlation, self.log_correlation, key=abs)
        figures = f"correlation {self.correlation:+.2f}, of logarithms {self.log_correlation:+.2f}"
        if abs(strongest) < WEAK:
            return f"How much customers spend at a purchase hardly depends on how often they buy ({figures})."
        more, low, high = ("more", "low", "high") if strongest > 0 else ("less", "high", "low")
        return (
            f"Customers who buy more often spend {more} at a purchase ({figures}), which the model does not know: it "
            f"tends to be too {low} for frequent customers and too {high} for the others."
        )


def _check(frequency: ArrayLike, mean_value: ArrayLike) -> tuple[NDArray[np.float64], Floats]:
    x, mean = np.atleast_1d(np.asarray(frequency, dtype=np.float64), np.asarray(mean_value, dtype=np.float64))
    if x.ndim != 1 or x.shape != mean.shape:
        raise Invalid(f"Frequencies of shape {x.shape} and values of shape {mean.shape}: give one of each a customer.")
    if not ((x >= 0) & (x == np.rint(x))).all():
        raise Invalid("Frequencies are whole numbers of at least 0.")
    repeat = x > 0
    unknown = repeat & ~np.isfinite(mean)
    if unknown.any():
        raise Invalid(f"The mean value in row {int(np.argmax(unknown))} is not a number: leave the customer out.")
    wrong = repeat & ~(mean > 0)
    if wrong.any():
        raise Invalid(
            f"{int(wrong.sum()):,} of {int(repeat.sum()):,} customers with repeat purchases have a mean value of 0 or "
            f"less (first in row {int(np.argmax(wrong))}), for which {METHOD} has no answer. Take returns off the "
            "purchase they belong to, leave gifts out, and count customers with a loss apart."
        )
    return x, mean


class Likelihood:
    """Log-likelihood of mean values, with gradient and Hessian in (p, q, gamma): equation (1a) of the note.

    All that needs every customer is three sums, of log(x·m + γ), its first and its second derivative. About a γ where
    they were taken they are power series in the step, whose terms shrink by step / (x·m + γ): within `NEAR` of it,
    `TERMS` of them give the sums to 1e-11, the second derivative to 1e-9 and less. So a search that has come near its
    end reads the customers no more.
    """

    def __init__(self, x: Floats, mean: Floats, weights: Floats) -> None:
        self.customers = float(weights.sum())
        number = x.astype(np.int64)
        of_x = np.bincount(number, weights=weights)
        there = np.flatnonzero(of_x)
        self.x = there.astype(np.float64)
        self.of_x = of_x[there]
        self.spent = x * mean
        self.rows, self.weights = x, weights
        weighted = np.log(mean)
        self.log_mean_square = float(np.einsum("n,n,n->", weights, weighted, weighted))
        weighted *= weights
        self.log_mean_of_x = np.bincount(number, weights=weighted)[there]
        self.log_mean, self.x_log_mean = float(self.log_mean_of_x.sum()), float(self.x @ self.log_mean_of_x)
        self.centre, self.powers = np.nan, np.zeros((2, TERMS + 1))

    def _sums(self, gamma: float) -> Floats:
        """Of customers and of purchases (rows): log(x·m + γ), 1 / (x·m + γ), its square, (2, 3)."""
        if not abs(gamma - self.centre) <= NEAR * self.centre:
            self.centre, self.powers[:] = gamma, 0
            block, weighted = np.empty((TERMS + 1, ROWS)), np.empty((2, ROWS))
            for first in range(0, len(self.spent), ROWS):
                rows = slice(first, first + ROWS)
                spent = self.spent[rows]
                part, weights = block[:, : len(spent)], weighted[:, : len(spent)]
                weights[0] = self.weights[rows]
                np.multiply(weights[0], self.rows[rows], out=weights[1])
                np.add(spent, gamma, out=part[1])
                np.log(part[1], out=part[0])
                np.divide(1.0, part[1], out=part[1])
                for power in range(2, TERMS + 1):
                    np.multiply(part[power - 1], part[1], out=part[power])
                self.powers += weights @ part.T
        step, k = gamma - self.centre, np.arange(1.0, TERMS + 1)
        terms = self.powers[:, 1:] * (-step) ** (k - 1)
        return np.stack(
            (
                self.powers[:, 0] + step * (terms / k).sum(axis=1),
                terms.sum(axis=1),
                (self.powers[:, 2:] * (-step) ** (k[:-1] - 1) * k[:-1]).sum(axis=1),
            ),
            axis=1,
        )

    def correlation(self, mean: Floats) -> float:
        """Of frequency and mean value over the customers (Pearson)."""
        if len(self.x) < 2:
            return 0.0
        usual = float(self.of_x @ self.x) / self.customers
        off = mean - float(self.weights @ mean) / self.customers
        weighted = self.weights * off
        together = float(weighted @ self.rows) - usual * float(weighted.sum())
        spread = np.sqrt(float(self.of_x @ (self.x - usual) ** 2) * float(weighted @ off))
        return together / float(spread) if spread > 0 else 0.0

    def log_correlation(self, p: float) -> float:
        """Of the logarithms of frequency and mean value, this freed of what the model says of few purchases."""
        if len(self.x) < 2:
            return 0.0
        n, number, log_x = self.customers, self.of_x, np.log(self.x)
        lacking = np.log(p) + log_x - psi(p * self.x)
        log_mean = self.log_mean_of_x / number + lacking  # the mean of customers with one frequency
        within = max(0.0, self.log_mean_square - number @ (log_mean - lacking) ** 2)  # sum of squares about these
        log_x = log_x - number @ log_x / n
        log_mean = log_mean - number @ log_mean / n
        spread = np.sqrt((number @ log_x**2) * (number @ log_mean**2 + within))
        return float((number * log_x) @ log_mean / spread) if spread > 0 else 0.0

    def __call__(self, values: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient (3,), Hessian (3, 3)."""
        p, q, gamma = values.tolist()
        n, number, x = self.customers, self.of_x, self.x
        (log_sum, once, twice), (x_log_sum, x_once, x_twice) = self._sums(gamma).tolist()
        shape = p * x + q
        value = number @ (gammaln(shape) - gammaln(p * x) + p * x * np.log(x))
        value += n * (q * np.log(gamma) - gammaln(q)) + p * self.x_log_mean - self.log_mean
        value -= p * x_log_sum + q * log_sum
        d_shape, dd_shape = psi(shape), polygamma(1, shape)
        gradient = np.array(
            [
                number @ (x * (d_shape - psi(p * x) + np.log(x))) + self.x_log_mean - x_log_sum,
                number @ d_shape + n * (np.log(gamma) - psi(q)) - log_sum,
                n * q / gamma - (p * x_once + q * once),
            ]
        )
        pq = number @ (x * dd_shape)
        q_gamma = n / gamma - once
        hessian = np.array(
            [
                [number @ (x**2 * (dd_shape - polygamma(1, p * x))), pq, -x_once],
                [pq, number @ dd_shape - n * polygamma(1, q), q_gamma],
                [-x_once, q_gamma, p * x_twice + q * twice - n * q / gamma**2],
            ]
        )
        return float(value), gradient, hessian


def log_likelihood(frequency: ArrayLike, mean_value: ArrayLike, model: GammaGamma) -> float:
    """Of the customers with repeat purchases under a model."""
    x, mean = _check(frequency, mean_value)
    again = x > 0
    return Likelihood(x[again], mean[again], np.ones(int(again.sum())))(np.array(model.values))[0]


def fit(frequency: ArrayLike, mean_value: ArrayLike, weights: ArrayLike | None = None) -> ValueEstimate:
    """The parameters that make the mean values most likely, with their covariance.

    Args:
        frequency: repeat purchases, (n,); customers without any are left out.
        mean_value: mean of their money (revenue or margin), (n,).
        weights: customers each row stands for, (n,), where equal ones were counted before; 1 otherwise.

    Raises:
        Invalid: see `GammaGamma.expected_value`; weights under 1.
        TooLittleData: no repeat buyers, none with two repeat purchases, all of one value, no more different customers
            than parameters.
        NotConverged: the likelihood has no maximum, or too flat a one; the message says in which parameter and why.
    """
    x, mean = _check(frequency, mean_value)
    given, again = len(x), np.flatnonzero(x > 0)
    if weights is None:
        number = np.ones(len(again))
    else:
        number = np.asarray(weights, dtype=np.float64)
        if number.shape != x.shape or not (number >= 1).all():
            raise Invalid("Weights are numbers of customers: one whole number of at least 1 for each row.")
        number = number[again]
    x, mean = x[again], mean[again]
    customers = int(number.sum())
    if not len(x):
        raise TooLittleData(
            f"{METHOD} needs repeat purchases: none of the {given:,} customers has bought a second time. Take a "
            "longer period, or a larger group of customers."
        )
    low, high = float(mean.min()), float(mean.max())
    if high - low <= 1e-9 * high:
        raise TooLittleData(
            f"{METHOD} estimates how customers differ, but all {customers:,} repeat buyers have the same mean value "
            f"({high:g}). It is the best answer for each of them."
        )
    if x.max() < 2:
        raise TooLittleData(
            f"{METHOD} needs customers with two repeat purchases or more, to tell how a customer's own purchases vary; "
            f"all {customers:,} repeat buyers have one. Take a longer period."
        )
    if len(x) <= len(NAMES):
        raise TooLittleData(
            f"{METHOD} estimates {len(NAMES)} parameters and needs more than {len(NAMES)} different repeat buyers; "
            f"there are {len(x)}. Take more customers."
        )
    typical = float(number @ mean) / customers
    some = slice(None, None, max(1, len(x) // 20_000))
    likelihood = Likelihood(x, mean, number)
    found = maximise(
        likelihood,
        [(p, q, typical * (q - 1) / p) for p, q in STARTS],
        rough=Likelihood(x[some], mean[some], number[some]),
        make=GammaGamma,
        method=METHOD,
        names=NAMES,
        usual=(3.0, 3.0, typical),
        meaning=_MEANING,
        histories=len(x),
    )
    return ValueEstimate(
        **vars(found),
        correlation=likelihood.correlation(mean),
        log_correlation=likelihood.log_correlation(found.model.p),
    )
