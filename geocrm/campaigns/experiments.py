"""What an offer or a campaign brought: those who got it beside those who were held out, with an interval.

The hold-out was drawn at random before anybody bought, so the two groups differ by chance alone and by what was done.
The estimator is the difference of means of what is left of the outcome after a regression on what was known before
(analysis of covariance, blind to the groups: Deng, Xu, Kohavi and Walker 2013, "Improving the sensitivity of online
controlled experiments by utilizing pre-experiment data", WSDM, equation 4), its error Welch's. Sales are skewed and
many are 0, and the hold-out is the small group, so the distribution of t is not taken from a table but from drawing the
groups again as they were drawn (studentised randomisation: Janssen 1997, Statistics and Probability Letters 36; Wu and
Ding 2021, "Randomization tests for weak null hypotheses", JASA 116): where nothing was brought, an effect is told as
often as the confidence says, exactly; else nearly. Where areas were held out as a whole, the same is done with scaled
totals of areas, their sizes among what was known (Su and Ding 2021, "Model-assisted analyses of cluster-randomized
experiments", JRSS B 83, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from geocrm.errors import Invalid, TooLittleData

Floats = NDArray[np.float64]
LEAST: Final = 20
"""Units of each group from which on an effect is told."""
DRAWS: Final = 1_999
MANY: Final = 20_000
"""Units of the smaller group from which on t is normal, whatever the outcome."""


@dataclass(frozen=True)
class Effect:
    """What was brought, in the unit of the outcome: `each` per customer who got it, `total` for all of them, both with
    the bounds of an interval of `confidence`. `p_value` is that of no effect. `mean_with` and `mean_without` are the
    groups' own means, not adjusted; `units` are customers or areas."""

    each: float
    each_low: float
    each_high: float
    total: float
    total_low: float
    total_high: float
    mean_with: float
    mean_without: float
    p_value: float
    confidence: float
    treated: int
    held_out: int
    units: int

    @property
    def shown(self) -> bool:
        """Whether the interval leaves nothing out."""
        return not self.each_low <= 0 <= self.each_high


def effect(
    outcome: Floats,
    treated: NDArray[np.bool_],
    *,
    before: Floats | None = None,
    areas: NDArray[Any] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Effect:
    """The effect on `outcome` (n,) of who was `treated` (n,), the others being held out, for example on the sales since
    the first exposure. `before` (n,) or (n, k): what was known of them before, such as sales of an equal time. `areas`
    (n,): where areas were held out as a whole, the area of each customer.

    Raises `errors.TooLittleData` where a group has fewer than `LEAST` customers or areas, `errors.Invalid` for numbers
    that are not finite, and for an area of which some were held out and some not."""
    outcome, treated = np.asarray(outcome, np.float64), np.asarray(treated, np.bool_)
    known = np.zeros((len(outcome), 0)) if before is None else np.asarray(before, np.float64).reshape(len(outcome), -1)
    if not (np.isfinite(outcome).all() and np.isfinite(known).all()):
        raise Invalid("Outcomes and what was known before have to be numbers for every customer.")
    if not 0 < confidence < 1:
        raise Invalid("The confidence is a share between 0 and 1.")
    customers = int(treated.sum())
    y, with_it = outcome, treated
    if areas is not None:
        y, with_it, known = _totals(outcome, treated, known, np.asarray(areas))
    if lack := lacking(with_it, "customers" if areas is None else "areas"):
        raise TooLittleData(lack)
    left = _unexplained(y, known)
    each, error = _welch(left, with_it)
    low, high, p_value = each, each, 1.0 if each == 0 else 0.0
    if error > 0:
        lower, upper, p_value = _reference(left, with_it, each / error, confidence, seed)
        low, high = each - error * upper, each - error * lower
    return Effect(
        each=each, each_low=low, each_high=high,
        total=each * customers, total_low=low * customers, total_high=high * customers,
        mean_with=float(outcome[treated].mean()), mean_without=float(outcome[~treated].mean()),
        p_value=p_value, confidence=confidence, treated=customers, held_out=len(outcome) - customers, units=len(y),
    )  # fmt: skip


def lacking(treated: NDArray[np.bool_], what: str) -> str | None:
    """Why no effect can be told of units (n,), `what` they are in the plural; None where it can."""
    for group, said in ((treated, "got it"), (~treated, "were held out")):
        if group.sum() < LEAST:
            return f"Too few to tell an effect: {what} that {said}: {int(group.sum())}; needed: {LEAST} in each group."
    return None


def _unexplained(y: Floats, known: Floats) -> Floats:
    """What is left of y after its least squares fit by what was known, not told who was treated."""
    design = known - known.mean(axis=0)
    coefficients = np.linalg.lstsq(design, y - y.mean(), rcond=None)[0] if design.shape[1] else np.zeros(0)
    left: Floats = y - design @ coefficients
    return left


def _welch(left: Floats, treated: NDArray[np.bool_]) -> tuple[float, float]:
    """The difference of means, and its standard error."""
    a, b = left[treated], left[~treated]
    return float(a.mean() - b.mean()), float(np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))


def _reference(
    left: Floats, treated: NDArray[np.bool_], t: float, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Quantiles of t where the groups are drawn at random, and the p-value of this t."""
    n, chosen = len(left), int(min(treated.sum(), (~treated).sum()))
    tails = np.array([0.5 - confidence / 2, 0.5 + confidence / 2])
    if chosen >= MANY:
        lower, upper = stats.norm.ppf(tails)
        return float(lower), float(upper), float(2 * stats.norm.sf(abs(t)))
    rng = np.random.Generator(np.random.PCG64(seed))
    centred = left - left.mean()
    drawn = np.empty((DRAWS, 2))
    for i in range(DRAWS):
        some = centred[rng.choice(n, chosen, replace=False, shuffle=False)]
        drawn[i] = some.sum(), (some * some).sum()
    first, squares = drawn.T
    rest = n - chosen
    others, other_squares = -first, (centred * centred).sum() - squares
    variance = (squares - first**2 / chosen) / (chosen - 1) / chosen
    variance += (other_squares - others**2 / rest) / (rest - 1) / rest
    ts = (first / chosen - others / rest) / np.sqrt(np.maximum(variance, 1e-300))
    if treated.sum() > chosen:  # the held out were drawn
        ts = -ts
    above = (1 + (ts >= t).sum()) / (DRAWS + 1)
    below = (1 + (ts <= t).sum()) / (DRAWS + 1)
    lower, upper = np.quantile(ts, tails, method="inverted_cdf")
    return float(lower), float(upper), float(min(1.0, 2 * min(above, below)))


def _totals(
    outcome: Floats, treated: NDArray[np.bool_], known: Floats, areas: NDArray[Any]
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Scaled totals of areas, which of them were treated, and their covariates: scaled totals of what was known, and
    their sizes."""
    names, place = np.unique(areas, return_inverse=True)
    size = np.bincount(place)
    share = np.bincount(place, treated) / size
    if mixed := [name for name, part in zip(names.tolist(), share, strict=True) if 0 < part < 1]:
        raise Invalid(f"Of the customers of area {mixed[0]} some were held out and some not.")
    scale = len(names) / len(outcome)
    totals = np.bincount(place, outcome) * scale
    columns = [np.bincount(place, column) * scale for column in known.T]
    return totals, share > 0.5, np.column_stack([*columns, size * scale])
