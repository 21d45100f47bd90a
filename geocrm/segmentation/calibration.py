"""Probabilities that mean what they say: calibration on held-out customers, its interval, and scores of probabilities.

A score orders the customers; a calibrator turns it into a probability. It is fitted on customers whom the model did not
see, so that "30 %" is what happened to customers with this score, not what the model believes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.validation import RocCurve
from geocrm.spatial.intervals import LEVEL, of_share

Floats = NDArray[np.float64]
Method = Literal["isotonic", "platt"]

ISOTONIC_FROM = 1_000
"""Customers who left, and who stayed, from which the shape of the calibration is free (Niculescu-Mizil and Caruana,
Predicting Good Probabilities with Supervised Learning, ICML 2005: isotonic needs about a thousand cases)."""
BINS = 10
A_BIN = 20
"""Customers of the rarer kind for each bin of the calibration curve."""
REPLICATES = 400


@dataclass(frozen=True, eq=False)
class Calibrator:
    """From a score (log-odds) to a probability that never falls as the score rises.

    Platt: expit(slope × score + intercept). Isotonic: straight lines between the knots `score`, `probability`.
    """

    method: Method
    slope: float
    intercept: float
    score: Floats
    probability: Floats
    customers: int

    def __call__(self, score: ArrayLike) -> Floats:
        """Probabilities of these scores, (n,)."""
        s = np.asarray(score, dtype=np.float64)
        if self.method == "platt":
            return expit(self.slope * s + self.intercept)
        return np.interp(s, self.score, self.probability)


def fit_calibrator(score: ArrayLike, outcome: ArrayLike, method: Method | None = None) -> Calibrator:
    """A calibrator from scores (n,) of customers the model did not see, and what happened to them (0 or 1).

    Platt (Probabilistic Outputs for Support Vector Machines, 1999), with his smoothed targets, for fewer than 1,000
    customers of the rarer kind; isotonic regression (Zadrozny and Elkan 2002), kept off 0 and 1 by 1 / (n + 2), from
    there on. A score that orders the customers the wrong way round is not believed: all get the share of all.

    Raises TooLittleData where all left, all stayed, or there is nobody.
    """
    s, y = np.asarray(score, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    left, stayed = int(y.sum()), int(len(y) - y.sum())
    if not left or not stayed:
        raise TooLittleData(f"A calibration needs customers who left and who stayed: {left:,} left, {stayed:,} stayed.")
    chosen = method or ("isotonic" if min(left, stayed) >= ISOTONIC_FROM else "platt")
    none = np.zeros(0)
    if chosen == "platt":
        slope, intercept = _platt(s, np.where(y > 0, (left + 1) / (left + 2), 1 / (stayed + 2)))
        if slope <= 0:
            slope, intercept = 0.0, float(logit((left + 0.5) / (len(y) + 1)))
        return Calibrator("platt", slope, intercept, none, none, len(y))
    value, share = _monotone(s, y)
    ends = np.ones(len(value), dtype=bool)  # both ends of each step are enough
    ends[1:-1] = (share[1:-1] != share[:-2]) | (share[1:-1] != share[2:])
    least = 1 / (len(y) + 2)
    return Calibrator("isotonic", np.nan, np.nan, value[ends], np.clip(share[ends], least, 1 - least), len(y))


def _platt(score: Floats, target: Floats) -> tuple[float, float]:
    """Slope and intercept of greatest likelihood, by Newton's method on the centred and scaled score."""
    middle, scale = float(score.mean()), float(score.std())
    if scale == 0:
        return 0.0, float(logit(target.mean()))
    columns = np.column_stack(((score - middle) / scale, np.ones(len(score))))
    beta = np.array([0.0, float(logit(target.mean()))])
    for _ in range(50):
        p = expit(columns @ beta)
        hessian = columns.T @ (columns * (p * (1 - p))[:, None]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, columns.T @ (target - p))
        beta += step * min(1.0, 2.0 / float(np.abs(step).max() or 1.0))
        if np.abs(step).max() < 1e-10:
            break
    slope = float(beta[0]) / scale
    return slope, float(beta[1]) - slope * middle


def _monotone(score: Floats, outcome: Floats) -> tuple[Floats, Floats]:
    """Unique scores in order, and the isotonic share of those who left."""
    value, at = np.unique(score, return_inverse=True)
    at = at.reshape(-1)
    weight = np.bincount(at).astype(np.float64)
    fitted = isotonic_regression(np.bincount(at, outcome) / weight, weights=weight)
    return value, np.asarray(fitted.x, dtype=np.float64)


# --- the calibration curve


@dataclass(frozen=True)
class Bin:
    """Customers with like probabilities: what was predicted, what happened, and the interval of the true share."""

    customers: int
    left: int
    least: float
    most: float
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The calibration curve on held-out customers.

    The intervals of all bins hold together with at least `level` (Bonferroni). They are those of Clopper and Pearson at
    the effective number of customers: n ÷ `design_effect`, after Korn and Graubard (Confidence Intervals for
    Proportions With Small Expected Number of Positive Counts Estimated From Survey Data, Survey Methodology 24 (1998)),
    the variance of the blocks' sums of residuals within bins over that of independent customers, at least 1.
    """

    bins: tuple[Bin, ...]
    design_effect: float
    level: float

    @property
    def holds(self) -> bool:
        """Whether every bin's prediction lies within its interval."""
        return all(each.low <= each.predicted <= each.high for each in self.bins)

    def interval(self, probability: ArrayLike) -> tuple[Floats, Floats]:
        """The interval of the share of leavers among customers with these probabilities, (n,) each.

        The distance of its bin's bounds from the bin's prediction, in log-odds, is added to the customer's own. It is
        that of customers alike in the score, not of what is hidden in one.
        """
        p = np.asarray(probability, dtype=np.float64)
        at = np.searchsorted([each.most for each in self.bins[:-1]], p)
        own = logit(np.clip(p, 1e-9, 1 - 1e-9))
        middle = logit(np.clip([each.predicted for each in self.bins], 1e-9, 1 - 1e-9))
        bounds = np.array([(each.low, each.high) for each in self.bins])
        with np.errstate(divide="ignore"):
            away = logit(bounds) - middle[:, None]  # infinite where all left, or none
        return expit(own + away[at, 0]), expit(own + away[at, 1])


def calibration_curve(
    probability: ArrayLike,
    outcome: ArrayLike,
    *,
    blocks: ArrayLike | None = None,
    bins: int = BINS,
    level: float = LEVEL,
) -> Curve:
    """Predicted against observed in bins of about equal numbers, equal probabilities together; fewer bins where there
    are fewer than 20 leavers, or stayers, for each."""
    p, y = _checked(probability, outcome)
    rarer = int(min(y.sum(), len(y) - y.sum()))
    at = _parts(p, max(1, min(bins, rarer // A_BIN)))
    count = int(at.max()) + 1
    effect = 1.0
    if blocks is not None:
        block = np.unique(np.asarray(blocks), return_inverse=True)[1].reshape(-1)
        share = (np.bincount(at, y) / np.bincount(at))[at]
        cell = np.unique(at * (int(block.max()) + 1) + block, return_inverse=True)[1].reshape(-1)
        alone = float((share * (1 - share)).sum())
        effect = max(1.0, float((np.bincount(cell, y - share) ** 2).sum()) / alone) if alone > 0 else 1.0
    made = []
    for number in range(count):
        here = at == number
        n, left = int(here.sum()), int(y[here].sum())
        low, high = of_share(left / effect, n / effect, 1 - (1 - level) / count)
        made.append(
            Bin(n, left, float(p[here].min()), float(p[here].max()), float(p[here].mean()), left / n, float(low),
                float(high))
        )  # fmt: skip
    return Curve(tuple(made), effect, level)


def _parts(value: Floats, parts: int) -> NDArray[np.int64]:
    """The number (from 0, low values first) of the part each value falls in; equal ones together, no part empty."""
    _, rank = np.unique(value, return_inverse=True)
    counts = np.bincount(rank.reshape(-1))
    middle = np.cumsum(counts) - counts / 2
    part = np.minimum((parts * middle / len(value)).astype(np.int64), parts - 1)
    return np.unique(part, return_inverse=True)[1].reshape(-1)[rank.reshape(-1)].astype(np.int64)


# --- scores


@dataclass(frozen=True)
class Brier:
    """The Brier score and its parts: score = miscalibration - discrimination + uncertainty, exactly.

    By isotonic recalibration (CORP): Dimitriadis, Gneiting and Jordan, Stable Reliability Diagrams for Probabilistic
    Classifiers, PNAS 118 (2021). No bins to choose. `skill` is the share of the uncertainty that is taken away.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float

    @property
    def skill(self) -> float:
        """1 - score ÷ uncertainty: 0 for who always says the share of all."""
        return 1 - self.score / self.uncertainty if self.uncertainty > 0 else 0.0


def brier_score(probability: ArrayLike, outcome: ArrayLike) -> Brier:
    """Mean squared distance of probability and outcome, decomposed."""
    p, y = _checked(probability, outcome)
    value, share = _monotone(p, y)
    best = float(((y - share[np.searchsorted(value, p)]) ** 2).mean())
    score, all_alike = float(((y - p) ** 2).mean()), float(((y - y.mean()) ** 2).mean())
    return Brier(score, score - best, all_alike - best, all_alike)


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error: mean distance of predicted and observed over the bins; and what it is by chance
    (mean, and 95th percentile) with as many customers whose probabilities are exactly right."""

    error: float
    by_chance: float
    by_chance_95: float

    @property
    def sentence(self) -> str:
        """What it says."""
        beyond = "more than" if self.error > self.by_chance_95 else "no more than"
        return (
            f"Predicted and observed are {self.error:.1%} apart, {beyond} chance alone makes them "
            f"({self.by_chance:.1%}, in one of twenty cases over {self.by_chance_95:.1%})."
        )


def calibration_error(
    probability: ArrayLike, outcome: ArrayLike, *, seed: int, bins: int = BINS, replicates: int = REPLICATES
) -> CalibrationError:
    """The expected calibration error (Naeini, Cooper and Hauskrecht 2015) with its noise level, which is never 0."""
    p, y = _checked(probability, outcome)
    at = _parts(p, max(1, min(bins, int(min(y.sum(), len(y) - y.sum())) // A_BIN)))

    def error(happened: Floats) -> float:
        return float(np.abs(np.bincount(at, happened - p)).sum()) / len(p)

    draw = np.random.default_rng([seed, 71])
    null = np.array([error((draw.random(len(p)) < p).astype(np.float64)) for _ in range(replicates)])
    return CalibrationError(error(y), float(null.mean()), float(np.quantile(null, 0.95)))


@dataclass(frozen=True)
class Area:
    """An area under a curve with its interval, by a bootstrap of blocks (customers where there are none)."""

    value: float
    low: float
    high: float


def areas(
    probability: ArrayLike,
    outcome: ArrayLike,
    *,
    seed: int,
    blocks: ArrayLike | None = None,
    level: float = LEVEL,
    replicates: int = REPLICATES,
) -> tuple[Area, Area]:
    """Areas under the ROC curve and under precision against recall."""
    p, y = _checked(probability, outcome)
    block = np.arange(len(p)) if blocks is None else np.unique(np.asarray(blocks), return_inverse=True)[1].reshape(-1)
    count = int(block.max()) + 1
    draw = np.random.default_rng([seed, 72])
    curve = RocCurve(y, p)
    drawn = np.full((2, replicates), np.nan)
    for number in range(replicates):
        times = np.bincount(draw.integers(0, count, count), minlength=count).astype(np.float64)[block]
        drawn[:, number] = curve.area(times), curve.average_precision(times)
    made = []
    for value, row in zip((curve.area(), curve.average_precision()), drawn, strict=True):
        known = row[np.isfinite(row)]
        low, high = np.quantile(known, ((1 - level) / 2, (1 + level) / 2)) if len(known) else (np.nan, np.nan)
        made.append(Area(value, float(low), float(high)))
    return made[0], made[1]


def lift_table(probability: ArrayLike, outcome: ArrayLike, *, parts: int = 10, level: float = LEVEL) -> pd.DataFrame:
    """Who is called first: tenths of the customers by probability, the highest first, equal ones together.

    Columns: customers, left, share with its exact interval (low, high: Clopper and Pearson 1934), lift (share ÷ share
    of all) with the same interval divided (lift_low, lift_high; the share of all is taken as known), reached (share of
    all customers so far) and gained (share of all leavers so far).
    """
    p, y = _checked(probability, outcome)
    at = _parts(-p, max(1, min(parts, len(p))))
    customers, left = np.bincount(at), np.bincount(at, y)
    low, high = of_share(left, customers, level)
    overall = float(y.mean())
    share = left / customers
    over = overall if overall > 0 else np.nan
    return pd.DataFrame(
        {
            "customers": customers, "left": left.astype(np.int64), "share": share, "low": low, "high": high,
            "lift": share / over, "lift_low": low / over, "lift_high": high / over,
            "reached": np.cumsum(customers) / len(p), "gained": np.cumsum(left) / (left.sum() or np.nan),
        },
        index=pd.RangeIndex(1, len(customers) + 1, name="part"),
    )  # fmt: skip


def _checked(probability: ArrayLike, outcome: ArrayLike) -> tuple[Floats, Floats]:
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape:
        raise Invalid(f"{p.shape} probabilities, {y.shape} outcomes: give one of each a customer.")
    if not len(p):
        raise TooLittleData("There is no customer to compare a probability with what happened.")
    if not (np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all() and np.isin(y, (0, 1)).all()):
        raise Invalid("Probabilities lie between 0 and 1, outcomes are 0 or 1.")
    return p, y
