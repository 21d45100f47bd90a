"""Recency, frequency, monetary value: scores from 1 to 5, and the segments that marketers name by them.

Scores go by quantiles or by fixed cuts (Hughes, A. M.: Strategic Database Marketing, 1994; on quintiles by independent
sorting: Miglautsch, J.: Thoughts on RFM scoring, Journal of Database Marketing 8, 2000). Equal values always get equal
scores: what decides is the middle of their ranks. With n customers, b of them below a value and t at it, the score of
the value among k classes is 1 + ⌊k (b + t/2) / n⌋. So five different customers get 1 to 5, customers who are all the
same get 3, and where 60 % ordered once, these get 2 rather than some 1, some 2 and some 3 by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geocrm.errors import Invalid, TooLittleData

CLASSES: Final = 5

SEGMENTS: Final = (
    "Champions",
    "Loyal",
    "Potential loyalists",
    "New",
    "Promising",
    "Need attention",
    "About to sleep",
    "At risk",
    "Cannot lose them",
    "Hibernating",
    "Lost",
)

# Rows: recency 5 (just now) to 1 (long ago); columns: frequency and money, 1 to 5.
_TABLE: Final = (
    ("New", "Potential loyalists", "Loyal", "Champions", "Champions"),
    ("Promising", "Potential loyalists", "Loyal", "Champions", "Champions"),
    ("About to sleep", "About to sleep", "Need attention", "Loyal", "Loyal"),
    ("Hibernating", "Hibernating", "At risk", "At risk", "At risk"),
    ("Lost", "Lost", "At risk", "Cannot lose them", "Cannot lose them"),
)
SEGMENT_OF: Final = {
    (5 - row, column + 1): name for row, names in enumerate(_TABLE) for column, name in enumerate(names)
}
"""Segment by (R, FM): every pair has one."""


@dataclass(frozen=True)
class Cuts:
    """The values at which a score rises: `bounds[i]` is the least value (the greatest, where less is better) that gets
    score i + 2. A bound that no value reaches is infinite."""

    bounds: tuple[float, ...]
    less_is_better: bool = False

    def score(self, values: ArrayLike) -> NDArray[np.float64]:
        """Scores of values, shape (n,); NaN for NaN."""
        given = np.asarray(values, dtype=np.float64)
        signed, bounds = (-given, -np.array(self.bounds)) if self.less_is_better else (given, np.array(self.bounds))
        scores = 1.0 + np.searchsorted(bounds, signed, side="right")
        return np.where(np.isnan(given), np.nan, scores)


@dataclass(frozen=True)
class RfmCuts:
    """The cuts of all three."""

    recency: Cuts
    frequency: Cuts
    monetary: Cuts


def quantile_cuts(
    values: ArrayLike, counts: ArrayLike | None = None, *, classes: int = CLASSES, less_is_better: bool = False
) -> Cuts:
    """Cuts into `classes` parts of about one size, equal values staying together (see the module).

    values: shape (n,), NaN where not known, which does not count; counts: how often each occurs, so that a histogram of
    millions serves as well as all their values, exactly. Raises `errors.TooLittleData` where no value is known.
    """
    given = np.asarray(values, dtype=np.float64)
    often = np.ones(len(given), dtype=np.int64) if counts is None else np.asarray(counts, dtype=np.int64)
    known = ~np.isnan(given) & (often > 0)
    if not known.any():
        raise TooLittleData("Quantiles need at least one customer with a known value; give fixed cuts, or load sales.")
    signed = -given[known] if less_is_better else given[known]
    distinct, where = np.unique(signed, return_inverse=True)
    ties = np.bincount(where, weights=often[known], minlength=len(distinct)).astype(np.int64)
    below = np.cumsum(ties) - ties
    scores = 1 + classes * (2 * below + ties) // (2 * int(ties.sum()))
    first = np.searchsorted(scores, np.arange(2, classes + 1), side="left")
    bounds = np.append(distinct, np.inf)[first]
    return Cuts(tuple(float(b) for b in (-bounds if less_is_better else bounds)), less_is_better)


def fixed_cuts(bounds: Sequence[float], *, less_is_better: bool = False) -> Cuts:
    """Cuts at given values: scores 2 and more begin at them. `fixed_cuts((2, 3, 5, 10))` for orders,
    `fixed_cuts((365, 180, 90, 30), less_is_better=True)` for days since the last. Raises `errors.Invalid` for values
    out of order."""
    steps = np.diff(np.asarray(bounds, dtype=np.float64))
    in_order = (steps < 0) if less_is_better else (steps > 0)
    if len(bounds) < 1 or not bool(in_order.all()) or not np.isfinite(np.asarray(bounds, dtype=np.float64)).all():
        direction = "fall" if less_is_better else "rise"
        raise Invalid(f"Cuts have to {direction} from score to score; these do not: {', '.join(map(str, bounds))}.")
    return Cuts(tuple(float(bound) for bound in bounds), less_is_better)


def cut_by_quantiles(features: pd.DataFrame) -> RfmCuts:
    """The cuts of customers that fit into one frame: columns recency_days, frequency, monetary_value. Customers who
    never ordered have NaN and do not count. Of more customers, `features.rfm_cuts` gets the same cuts from the
    database."""
    return RfmCuts(
        recency=quantile_cuts(features["recency_days"], less_is_better=True),
        frequency=quantile_cuts(features["frequency"].where(features["recency_days"].notna())),
        monetary=quantile_cuts(features["monetary_value"].where(features["recency_days"].notna())),
    )


def score(features: pd.DataFrame, cuts: RfmCuts) -> pd.DataFrame:
    """Scores and segment of each customer, the index kept.

    features: recency_days, frequency, monetary_value. Columns of the answer: r, f, m from 1 to 5, fm the mean of f and
    m (halves upwards), float64, NaN for customers who never ordered; segment, categorical of `SEGMENTS`, missing for
    them.
    """
    r = cuts.recency.score(features["recency_days"])
    never = np.isnan(r)
    f = np.where(never, np.nan, cuts.frequency.score(features["frequency"]))
    m = np.where(never, np.nan, cuts.monetary.score(features["monetary_value"]))
    fm = np.floor((f + m + 1) / 2)
    code = np.full((CLASSES + 1, CLASSES + 1), -1, dtype=np.int8)
    for (row, column), name in SEGMENT_OF.items():
        code[row, column] = SEGMENTS.index(name)
    scored = ~never & ~np.isnan(fm)
    codes = np.full(len(r), -1, dtype=np.int8)
    codes[scored] = code[r[scored].astype(np.int64), fm[scored].astype(np.int64)]
    segment = pd.Categorical.from_codes(codes, categories=list(SEGMENTS))
    return pd.DataFrame({"r": r, "f": f, "m": m, "fm": fm, "segment": segment}, index=features.index)
