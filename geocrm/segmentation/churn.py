"""Who will leave: a probability that means what it says, with its interval, and why.

Two questions. With a contract it is known afterwards who left: a classifier learns from a past window. In a shop nobody
says goodbye: what was bought before says how likely no order in the next window is, calibrated on a later one.
Features are those at a cutoff, labels what happened after it; the two come apart, and features that know more than
their cutoff are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import classifiers, drivers
from geocrm.segmentation.calibration import (
    Area,
    Brier,
    CalibrationError,
    Calibrator,
    Curve,
    areas,
    brier_score,
    calibration_curve,
    calibration_error,
    fit_calibrator,
    lift_table,
)
from geocrm.segmentation.classifiers import Boosting, Candidate, Described, Feature, Kind, Logistic
from geocrm.segmentation.clv import bg_nbd
from geocrm.segmentation.clv.bg_nbd import BgNbd
from geocrm.segmentation.clv.counts import DAYS_A_WEEK, collapse
from geocrm.segmentation.drivers import Contributions, Driver
from geocrm.segmentation.validation import Folds, Gain, Predict, check_out_of_time, compare, random_folds
from geocrm.spatial.intervals import LEVEL, of_share

Floats = NDArray[np.float64]
CUTOFF: Final = "cutoff"
"""The attribute of a frame of features that says up to when it knows: `frame.attrs["cutoff"]`, a datetime with zone."""
FEWEST: Final = 20
"""Customers who left, and who stayed, without which there is no classifier."""
BOOSTING_FROM: Final = 200
"""Customers of the rarer kind from which trees are tried beside the logistic regression."""


# --- features at a cutoff, labels after it


def at_cutoff(frame: pd.DataFrame, cutoff: datetime) -> pd.DataFrame:
    """The frame with the moment up to which it knows: nothing at the cutoff or later went into it."""
    marked = frame.copy(deep=False)
    marked.attrs = {**frame.attrs, CUTOFF: _moment(cutoff)}
    return marked


@dataclass(frozen=True, eq=False)
class Labels:
    """Who left in the window [cutoff, cutoff + window_days): 1, who stayed: 0, by customer_id; what "left" means."""

    cutoff: datetime
    window_days: float
    definition: str
    left: pd.Series

    @property
    def share(self) -> float:
        """Share of those who left."""
        return float(self.left.mean()) if len(self.left) else float("nan")


def labels_of_orders(
    before: pd.Series, after: pd.Series, *, cutoff: datetime, window_days: float, known_until: datetime
) -> Labels:
    """A customer left who placed no order in the window after the cutoff.

    Args:
        before: by customer_id, all orders before the cutoff.
        after: the same before the end of the window; who is not there is not labelled.
        known_until: the moment up to which all orders are known.

    Raises Invalid where the window is not over yet, and for customers who have fewer orders at its end.
    """
    begin, _ = _window(cutoff, window_days, known_until)
    until = after.reindex(before.index).dropna()
    since = before.loc[until.index]
    if (fewer := until < since).any():
        raise Invalid(f"Customer {fewer.idxmax()} has fewer orders at the end of the window than before it.")
    left = (until == since).astype(np.float64).rename("left")
    return Labels(begin, window_days, f"no order in the {window_days:g} days from {begin:%Y-%m-%d}", left)


def labels_of_contracts(ended_at: pd.Series, *, cutoff: datetime, window_days: float, known_until: datetime) -> Labels:
    """A customer left whose contract ended in the window after the cutoff; who had none by then is not labelled.

    `ended_at`: by customer_id, the moment the contract ended, NaT while it runs. Raises Invalid as above.
    """
    begin, end = _window(cutoff, window_days, known_until)
    ended = pd.Series(pd.to_datetime(ended_at.to_numpy(), utc=True), index=ended_at.index)
    running = ended.isna() | (ended >= begin)
    left = ((ended >= begin) & (ended < end))[running].astype(np.float64).rename("left")
    said = f"the contract ended in the {window_days:g} days from {begin:%Y-%m-%d}"
    return Labels(begin, window_days, said, left)


def _window(cutoff: datetime, window_days: float, known_until: datetime) -> tuple[datetime, datetime]:
    if not (np.isfinite(window_days) and window_days > 0):
        raise Invalid("The window after the cutoff: expected more than 0 days.")
    begin, until = _moment(cutoff), _moment(known_until)
    end = begin + pd.Timedelta(days=window_days)
    if end > until:
        raise Invalid(
            f"Who leaves by {end:%Y-%m-%d} is not known on {until:%Y-%m-%d}: take an earlier cutoff, a shorter window."
        )
    return begin, end


def _moment(given: datetime) -> datetime:
    moment = pd.Timestamp(given)
    if moment.tzinfo is None:
        raise Invalid("A cutoff is a moment with its zone.")
    return moment.tz_convert("UTC").to_pydatetime()


def check_cutoff(frame: pd.DataFrame, cutoff: datetime) -> None:
    """Raises Invalid unless the frame says up to when it knows, and that is not after the cutoff."""
    if (known := _cutoff_of(frame)) > _moment(cutoff):
        raise Invalid(
            f"The features know what happened until {known:%Y-%m-%d %H:%M}, after the cutoff {cutoff:%Y-%m-%d %H:%M}: "
            "they would know who left."
        )


def _cutoff_of(frame: pd.DataFrame) -> datetime:
    if CUTOFF not in frame.attrs:
        raise Invalid("The features do not say up to when they know: mark them with at_cutoff.")
    return _moment(frame.attrs[CUTOFF])


# --- how good the probabilities are


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Held-out probabilities against what happened. `gain`: over giving everybody the share of all."""

    how: str
    customers: int
    left: int
    curve: Curve
    brier: Brier
    error: CalibrationError
    roc: Area
    precision: Area
    lift: pd.DataFrame
    gain: Gain


def evaluate(
    probability: ArrayLike, outcome: ArrayLike, blocks: NDArray[np.int64], *, seed: int, how: str, level: float = LEVEL
) -> Evaluation:
    """All scores of probabilities (n,) of customers the model did not see, with intervals over `blocks` (n,)."""
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    roc, precision = areas(p, y, seed=seed, blocks=blocks, level=level)
    return Evaluation(
        how,
        len(y),
        int(y.sum()),
        calibration_curve(p, y, blocks=blocks, level=level),
        brier_score(p, y),
        calibration_error(p, y, seed=seed),
        roc,
        precision,
        lift_table(p, y, level=level),
        compare(y, np.full(len(y), y.mean()), p, blocks, seed=seed, what="the model", level=level),
    )


# --- the model


@dataclass(frozen=True, eq=False)
class ChurnModel:
    """A classifier with its calibration, what it was tested on, and what drives it."""

    classifier: Logistic | Boosting
    calibrator: Calibrator
    evaluation: Evaluation
    drivers: tuple[Driver, ...]
    features: tuple[Feature, ...]
    usual: dict[str, Any]
    background: pd.DataFrame
    definition: str
    window_days: float
    notes: tuple[str, ...]
    seed: int

    @property
    def kind(self) -> Kind:
        """logistic or boosting."""
        return "logistic" if isinstance(self.classifier, Logistic) else "boosting"

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probability to leave in the window after the frame's cutoff, with the calibration's interval: columns
        probability, low, high, by customer_id. Raises Invalid for a frame without a cutoff."""
        cutoff = _cutoff_of(frame)
        if not len(frame):
            return pd.DataFrame({name: np.zeros(0) for name in ("probability", "low", "high")}, index=frame.index)
        probability = self.calibrator(self.classifier.score(frame))
        low, high = self.evaluation.curve.interval(probability)
        return at_cutoff(
            pd.DataFrame({"probability": probability, "low": low, "high": high}, index=frame.index),
            cutoff,
        )

    def explain(self, frame: pd.DataFrame, *, most: int = 3) -> list[list[str]]:
        """For each customer what moves the odds of leaving most, in words (`drivers.sentences`)."""
        return drivers.sentences(self.contributions(frame), frame, self.usual, most=most)

    def contributions(self, frame: pd.DataFrame) -> Contributions:
        """What each feature adds to each customer's log-odds (`drivers.contributions`)."""
        return drivers.contributions(self.classifier, frame, self.background, seed=self.seed)


def fit(
    frame: pd.DataFrame,
    labels: Labels,
    described: Sequence[Described],
    *,
    seed: int,
    folds: Folds | None = None,
    later: tuple[pd.DataFrame, Labels] | None = None,
    kinds: Sequence[Kind] = ("logistic", "boosting"),
    level: float = LEVEL,
) -> ChurnModel:
    """The probability to leave, learnt from one past window.

    Both kinds are tried on the folds; trees are taken where their gain over the logistic regression has an interval
    above 0. Calibration and all scores are of customers held out: of the folds, and where `later` is given of a later
    window as well, by models that saw neither that window nor the customer's block.

    Args:
        frame: features at the labels' cutoff or before, marked by `at_cutoff`; index customer_id. Customers without a
            label are left out.
        described: name, unit, meaning and kind of each column to use.
        folds: of `validation.make_folds`, blocks of the map; drawn at random where no places are given.
        later: features and labels of a later cutoff whose window begins when the first one's is over.

    Raises:
        TooLittleData: fewer than 20 customers who left, or who stayed; the message gives the share and its interval.
        Invalid: features that know more than their cutoff; windows that overlap or differ in length; see `gather`.
    """
    frame, y, notes = _matched(frame, labels)
    features = classifiers.gather(frame, described)
    _check_enough(y, labels, level)
    if later is not None:
        check_out_of_time(labels.cutoff, labels.window_days, later[1].cutoff)
        if later[1].window_days != labels.window_days:
            raise Invalid(f"Windows of {labels.window_days:g} and {later[1].window_days:g} days: take one length.")
    asked, happened, more = _matched(*later) if later is not None else (frame, y, [])
    if folds is None:
        folds = random_folds(frame.index.union(asked.index), seed=seed)
        where = "customers drawn at random"
    else:
        where = f"blocks of {folds.size_m / 1000:,.1f} km"
    candidate, said = _choose(frame, y, features, folds, kinds, seed=seed, level=level)
    notes += [*said, *more]
    score = candidate.score
    splits = [test for _, test in folds.split(frame.index, asked.index)]
    how = f"{where} held out"
    if later is not None:
        _check_enough(happened, later[1], level)
        score = np.full(len(asked), np.nan)
        for model, rows in zip(candidate.models, splits, strict=True):
            if len(rows):
                score[rows] = model.score(asked.iloc[rows])
        how += f", in the window from {later[1].cutoff:%Y-%m-%d}"
    blocks = folds.blocks_of(asked.index)
    calibrator = fit_calibrator(score, happened)
    probability = np.full(len(asked), np.nan)
    for rows in splits:  # what is scored was not calibrated on
        rest = np.setdiff1d(np.arange(len(asked)), rows)
        if len(rows):
            probability[rows] = fit_calibrator(score[rest], happened[rest], calibrator.method)(score[rows])
    shape = "isotonic regression" if calibrator.method == "isotonic" else "Platt's logistic curve"
    notes.append(f"calibrated by {shape} on {calibrator.customers:,} customers")
    evaluation = evaluate(probability, happened, blocks, seed=seed, how=how, level=level)
    ordered = drivers.importance(
        list(zip(candidate.models, splits, strict=True)), asked, happened, features, blocks, seed=seed, level=level
    )
    draw = np.random.default_rng([seed, 91])
    some = np.sort(draw.choice(len(frame), min(drivers.BACKGROUND, len(frame)), replace=False))
    columns = [name for feature in features for name in feature.columns]
    return ChurnModel(
        classifiers.fit_best(candidate, frame, y, features, seed=seed),
        calibrator,
        evaluation,
        ordered,
        features,
        drivers.typical(frame, features),
        frame.iloc[some][columns],
        labels.definition,
        labels.window_days,
        tuple(notes),
        seed,
    )


def predictor(described: Sequence[Described], kind: Kind = "logistic", *, seed: int) -> Predict:
    """A model as `validation` takes it: for its gain with and without some of the columns.

    The setting is not tuned anew in each fold: penalty 5, or 100 trees.
    """

    def predict(train: pd.DataFrame, outcome: Floats, test: pd.DataFrame) -> Floats:
        features = classifiers.gather(train, [each for each in described if each.name in train.columns])
        if kind == "logistic":
            return expit(classifiers.fit_logistic(train, outcome, features, (5.0,), seed=seed)[0].score(test))
        return expit(classifiers.fit_boosting(train, outcome, features, 100, seed=seed).score(test))

    return predict


def _matched(frame: pd.DataFrame, labels: Labels) -> tuple[pd.DataFrame, Floats, list[str]]:
    """The customers with features and label, and how many of either had none of the other."""
    check_cutoff(frame, labels.cutoff)
    if not (frame.index.is_unique and labels.left.index.is_unique):
        raise Invalid("Features and labels: each customer once.")
    known = frame.index.isin(labels.left.index)
    matched = frame[known]
    notes = []
    if (without := int((~known).sum())) > 0:
        notes.append(f"{without:,} customers have no label and were left out")
    if (unseen := len(labels.left) - len(matched)) > 0:
        notes.append(f"{unseen:,} labels are of customers without features")
    return matched, labels.left.loc[matched.index].to_numpy(dtype=np.float64), notes


def check_enough(labels: Labels, level: float = LEVEL) -> None:
    """Raises TooLittleData, with the share and its interval, for labels too few to learn from."""
    _check_enough(labels.left.to_numpy(dtype=np.float64), labels, level)


def _check_enough(outcome: Floats, labels: Labels, level: float) -> None:
    left, n = int(outcome.sum()), len(outcome)
    if min(left, n - left) >= FEWEST:
        return
    if not n:
        raise TooLittleData("Churn needs customers with features and a label; there is none.")
    low, high = of_share(left, n, level)
    raise TooLittleData(
        f"{left:,} of {n:,} customers left ({labels.definition}): {left / n:.0%}, between {float(low):.0%} and "
        f"{float(high):.0%}. That share is all that can be said: who it is takes at least {FEWEST} who left and "
        f"{FEWEST} who stayed. Take a longer window, or an earlier cutoff with more customers.",
        share=left / n, low=float(low), high=float(high),
    )  # fmt: skip


def _choose(
    frame: pd.DataFrame,
    outcome: Floats,
    features: Sequence[Feature],
    folds: Folds,
    kinds: Sequence[Kind],
    *,
    seed: int,
    level: float,
) -> tuple[Candidate, list[str]]:
    rarer = int(min(outcome.sum(), len(outcome) - outcome.sum()))
    tried = [
        classifiers.try_out(kind, frame, outcome, features, folds, seed=seed)
        for kind in kinds
        if kind == "logistic" or rarer >= BOOSTING_FROM or len(kinds) == 1
    ]
    if not tried:
        raise Invalid("Name at least one kind of classifier: logistic, boosting.")
    if len(tried) == 1:
        chosen = tried[0]
        reason = f"; boosted trees need {BOOSTING_FROM} of either kind" if len(kinds) > 1 else ""
        return chosen, [f"{chosen.kind}, held-out log loss {chosen.loss:.4f}{reason}"]
    by_kind = {each.kind: each for each in tried}
    plain, trees = by_kind["logistic"], by_kind["boosting"]
    gain = compare(
        outcome, expit(plain.score), expit(trees.score), folds.blocks_of(frame.index), seed=seed, what="boosting",
        level=level,
    )  # fmt: skip
    chosen = trees if gain.verdict == "helps" else plain
    return chosen, [
        f"{chosen.kind}: held-out log loss {plain.loss:.4f} by logistic regression, {trees.loss:.4f} by boosted trees. "
        f"{gain.sentence}"
    ]


# --- shops: nobody says goodbye


@dataclass(frozen=True)
class _Rhythm:
    name: str
    unit: str
    meaning: str
    kind: str = "behaviour"


RHYTHM: Final[tuple[Described, ...]] = (
    _Rhythm("no_order_log_odds", "log-odds", "no order in the window, by how often and how long ago it bought"),
    _Rhythm("lateness", "ratio", "time since the last purchase over its own usual gap"),
)
"""What `with_rhythm` adds."""
HISTORY: Final = ("repeat_frequency", "recency_weeks", "t_weeks")
"""Columns of a frame that rhythm is made of, as the registry of features names them."""


def with_rhythm(frame: pd.DataFrame, purchases: BgNbd, window_days: float) -> pd.DataFrame:
    """The frame with p_alive, no_order (probability of none in the window), overdue (days beyond its own usual gap) and
    the columns of `RHYTHM`; NaN for who never bought.

    Given its history a customer who is still there buys at a rate that is gamma distributed (r + x, α + T), so that no
    order comes with 1 - P(alive) + P(alive) ((α + T) / (α + T + window))^(r + x). The own usual gap is the mean of the
    x gaps, drawn towards the mean gap of all as by one more gap: (recency + mean) / (x + 1).
    """
    _check_history(frame)
    known = frame[list(HISTORY)].notna().all(axis=1).to_numpy()
    x, recency, t = (frame[name].to_numpy(dtype=np.float64)[known] for name in HISTORY)
    alive = purchases.probability_alive(x, recency, t)
    window = window_days / DAYS_A_WEEK
    base = purchases.alpha + t
    silent = np.exp(-(purchases.r + x) * np.log1p(window / base))
    none = 1 - alive + alive * silent
    gap = purchases.alpha / purchases.r  # weeks between purchases of the mean rate
    own_gap = (recency + gap) / (x + 1)
    since = t - recency
    made = frame.copy(deep=False)
    made.attrs = dict(frame.attrs)
    odds = logit(np.clip(none, 1e-9, 1 - 1e-9))
    columns = {"p_alive": alive, "no_order": none, "no_order_log_odds": odds, "lateness": since / own_gap}
    columns["overdue"] = (since - own_gap) * DAYS_A_WEEK
    for name, values in columns.items():
        column = np.full(len(frame), np.nan)
        column[known] = values
        made[name] = column
    return made


def _check_history(frame: pd.DataFrame) -> None:
    if lost := [name for name in HISTORY if name not in frame.columns]:
        raise Invalid(f"Rhythm is made of {', '.join(HISTORY)}; the frame lacks {', '.join(lost)}.")


@dataclass(frozen=True, eq=False)
class ShopModel:
    """BG/NBD on the histories at the first cutoff, and the churn model on what it says."""

    purchases: BgNbd
    churn: ChurnModel

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """As `ChurnModel.predict`, with p_alive and overdue_days (since the last purchase, less its own usual gap)."""
        ready = with_rhythm(frame, self.purchases, self.churn.window_days)
        made = self.churn.predict(ready)
        made["p_alive"] = ready["p_alive"]
        made["overdue_days"] = ready["overdue"]
        return made

    def explain(self, frame: pd.DataFrame, *, most: int = 3) -> list[list[str]]:
        """As `ChurnModel.explain`."""
        return self.churn.explain(with_rhythm(frame, self.purchases, self.churn.window_days), most=most)


def fit_shops(
    frame: pd.DataFrame,
    labels: Labels,
    later: tuple[pd.DataFrame, Labels],
    *,
    seed: int,
    described: Sequence[Described] = (),
    folds: Folds | None = None,
    kinds: Sequence[Kind] = ("logistic",),
    level: float = LEVEL,
    purchases: BgNbd | None = None,
) -> ShopModel:
    """The probability of no order in the next window, for customers without a contract.

    BG/NBD on the histories at the first cutoff gives P(alive) and the probability of no order; how they and the own
    rhythm go with what happened is learnt in the first window and calibrated in the later one, which no part saw.

    Args:
        frame, later: with the columns `HISTORY`; see `fit`.
        described: further features to use beside `RHYTHM`.
        purchases: BG/NBD as fitted on more histories at the first cutoff than the frame has.

    Raises as `fit` and `bg_nbd.fit` do.
    """
    _check_history(frame)
    history = frame[list(HISTORY)].dropna()
    if not len(history):
        raise TooLittleData("There is no customer with a purchase: rhythm needs sales before the cutoff.")
    check_cutoff(frame, labels.cutoff)
    if purchases is None:
        purchases = bg_nbd.fit(collapse(*(history[name].to_numpy() for name in HISTORY))).model
    ready = with_rhythm(frame, purchases, labels.window_days)
    after = with_rhythm(later[0], purchases, labels.window_days)
    churn = fit(
        ready, labels, (*RHYTHM, *described), seed=seed, folds=folds, later=(after, later[1]), kinds=kinds, level=level
    )
    return ShopModel(purchases, churn)
