"""Two classifiers on features as the registry names them: a ridge logistic regression and boosted trees.

Both take frames with gaps and words in them, and give log-odds. The logistic one is the honest baseline; the trees
replace it only where held-out customers say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from geocrm.errors import Invalid
from geocrm.segmentation import scaling
from geocrm.segmentation.scaling import Scaling, fit_scaling
from geocrm.segmentation.validation import Folds, log_loss

Floats = NDArray[np.float64]
Kind = Literal["logistic", "boosting"]

PENALTIES = (0.5, 5.0, 50.0, 500.0)
"""Ridge on columns of variance 1: log-likelihood less penalty ÷ 2 × sum of squares."""
TREES = (25, 50, 100, 150, 200)
LEAVES = 8
LEARNING_RATE = 0.06
FAMILIES = ("channel_share", "category_share")
"""Shares of a whole: their columns are one feature."""


class Described(Protocol):
    """A column as the registry of features describes it."""

    @property
    def name(self) -> str:
        """Name of the column."""

    @property
    def unit(self) -> str:
        """Unit of its values."""

    @property
    def meaning(self) -> str:
        """What it is, in words."""

    @property
    def kind(self) -> str:
        """identity, behaviour, place or potential."""


@dataclass(frozen=True)
class Feature:
    """A feature as its reader knows it: one column, or the columns of a family of shares."""

    name: str
    unit: str
    meaning: str
    kind: str
    columns: tuple[str, ...]
    words: bool


def gather(frame: pd.DataFrame, described: Sequence[Described]) -> tuple[Feature, ...]:
    """Features of the columns in order, those of a family together.

    Raises Invalid where none is named, one is named twice or is not in the frame, or a column is neither number nor
    word.
    """
    names = [each.name for each in described]
    if not names:
        raise Invalid("Name at least one feature.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Invalid(f"Features named twice: {', '.join(twice)}.")
    if lost := [name for name in names if name not in frame.columns]:
        raise Invalid(f"The frame lacks the columns {', '.join(lost)}.")
    found: dict[str, Feature] = {}
    for each in described:
        family = each.name.partition(".")[0]
        words = not pd.api.types.is_numeric_dtype(frame[each.name])
        if family in FAMILIES and not words:
            before = found[family].columns if family in found else ()
            what = family.removesuffix("_share")
            found[family] = Feature(
                family, "share", f"shares of each {what}", each.kind, (*before, each.name), words=False
            )
        else:
            found[each.name] = Feature(each.name, each.unit, each.meaning, each.kind, (each.name,), words)
    return tuple(found.values())


def _scaled(feature: Feature) -> scaling.Feature:
    if feature.words:
        return scaling.Feature(feature.name, kind="category", columns=feature.columns)
    if len(feature.columns) > 1:
        return scaling.Feature(feature.name, kind="composition", columns=feature.columns)
    return scaling.Feature(feature.name, columns=feature.columns)


class Classifier(Protocol):
    """A fitted one."""

    def score(self, frame: pd.DataFrame) -> Floats:
        """Log-odds of leaving, (n,)."""


@dataclass(frozen=True, eq=False)
class Logistic:
    """Ridge logistic regression on features prepared by `scaling` (logarithms, outliers drawn in, "not known" told).

    `centre` and `spread` bring the prepared columns to mean 0 and each feature to variance 1; log-odds are
    intercept + columns @ slopes. `owner` is the number of the feature each column belongs to.
    """

    features: tuple[Feature, ...]
    scaling: Scaling
    centre: Floats
    spread: float
    slopes: Floats
    intercept: float
    penalty: float
    owner: NDArray[np.int64]

    def prepared(self, frame: pd.DataFrame) -> Floats:
        """The columns that the slopes belong to, (n, columns)."""
        made: Floats = (self.scaling.apply(frame) - self.centre) * self.spread
        return made

    def score(self, frame: pd.DataFrame) -> Floats:
        """Log-odds of leaving, (n,)."""
        made: Floats = self.intercept + self.prepared(frame) @ self.slopes
        return made


def fit_logistic(
    frame: pd.DataFrame, outcome: Floats, features: Sequence[Feature], penalties: Sequence[float], *, seed: int
) -> list[Logistic]:
    """One model for each penalty; the maximum is found by Newton's method (the problem is strictly convex)."""
    prepared = fit_scaling(frame, [_scaled(each) for each in features], seed=seed, most_missing=0.98)
    matrix = prepared.apply(frame)
    names = [each.name for each in features]
    owner = np.array([names.index(one.feature.name) for one in prepared.fitted for _ in one.names], dtype=np.int64)
    centre, spread = matrix.mean(axis=0), float(np.sqrt(2 * len(prepared.fitted)))
    columns = np.column_stack(((matrix - centre) * spread, np.ones(len(matrix))))
    models = []
    with threadpool_limits(1):
        beta = np.append(np.zeros(matrix.shape[1]), logit(np.clip(outcome.mean(), 1e-3, 1 - 1e-3)))
        for penalty in sorted(penalties, reverse=True):  # the flattest first: each is a good start for the next
            beta = _newton(columns, outcome, penalty, beta)
            models.append(
                Logistic(tuple(features), prepared, centre, spread, beta[:-1].copy(), float(beta[-1]), penalty, owner)
            )
    return sorted(models, key=lambda model: list(penalties).index(model.penalty))


def _newton(columns: Floats, outcome: Floats, penalty: float, start: Floats) -> Floats:
    ridge = np.append(np.full(columns.shape[1] - 1, penalty), 0.0)
    beta = start

    def objective(at: Floats) -> float:
        eta = columns @ at
        return float((np.logaddexp(0.0, eta) - outcome * eta).sum() + (ridge * at**2).sum() / 2)

    value = objective(beta)
    for _ in range(100):
        p = expit(columns @ beta)
        gradient = columns.T @ (p - outcome) + ridge * beta
        hessian = columns.T @ (columns * (p * (1 - p))[:, None])
        hessian[np.diag_indices_from(hessian)] += ridge + 1e-9
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-6 and objective(beta - size * step) > value:
            size /= 2
        beta = beta - size * step
        after = objective(beta)
        if value - after <= 1e-10 * (1 + abs(value)):
            break
        value = after
    return beta


@dataclass(frozen=True, eq=False)
class Boosting:
    """Histogram gradient boosting (Friedman 2001; scikit-learn after LightGBM, Ke et al. 2017) of small trees.

    Numbers enter as they are, NaN as such; words as categories, those not seen before or beyond the 20 most frequent
    as not known.
    """

    features: tuple[Feature, ...]
    model: HistGradientBoostingClassifier
    words: dict[str, tuple[str, ...]]
    trees: int

    def encoded(self, frame: pd.DataFrame) -> Floats:
        """The matrix the trees read, (n, columns)."""
        return _encode(frame, self.features, self.words)

    def score(self, frame: pd.DataFrame) -> Floats:
        """Log-odds of leaving, (n,)."""
        return self.score_encoded(self.encoded(frame))

    def score_encoded(self, matrix: Floats) -> Floats:
        """The same of rows already encoded."""
        with threadpool_limits(1):
            return np.asarray(self.model.decision_function(matrix), dtype=np.float64)


def _encode(frame: pd.DataFrame, features: Sequence[Feature], words: dict[str, tuple[str, ...]]) -> Floats:
    columns = []
    for feature in features:
        for name in feature.columns:
            if feature.words:
                codes = pd.Index(words[name], dtype=object).get_indexer(frame[name].astype(object).map(_word))
                columns.append(np.where(codes < 0, np.nan, codes.astype(np.float64)))
            else:
                values = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
                columns.append(np.where(np.isfinite(values), values, np.nan))
    return np.column_stack(columns)


def _word(value: Any) -> Any:
    return value if pd.isna(value) else str(value)


def fit_boosting(
    frame: pd.DataFrame, outcome: Floats, features: Sequence[Feature], trees: int, *, seed: int
) -> Boosting:
    """Trees of 8 leaves, each with at least 20 customers (a hundredth of them where that is more), rate 0.06."""
    words = {}
    for feature in features:
        if feature.words:
            counts = frame[feature.name].dropna().astype(str).value_counts()
            ordered = sorted(counts.index, key=lambda word: (-counts[word], word))
            words[feature.name] = tuple(ordered[: scaling.MOST_LEVELS])
    model = HistGradientBoostingClassifier(
        learning_rate=LEARNING_RATE,
        max_iter=trees,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=max(20, len(frame) // 100),
        l2_regularization=1.0,
        categorical_features=[feature.words for feature in features for _ in feature.columns],
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1):
        model.fit(_encode(frame, features, words), outcome.astype(np.int64))
    return Boosting(tuple(features), model, words, trees)


# --- chosen by blocks never seen


@dataclass(frozen=True, eq=False)
class Candidate:
    """A kind at its best setting: held-out log-odds (n,) and log loss, its error over blocks, and each fold's model."""

    kind: Kind
    setting: float
    score: Floats
    loss: float
    models: tuple[Classifier, ...]


def try_out(
    kind: Kind, frame: pd.DataFrame, outcome: Floats, features: Sequence[Feature], folds: Folds, *, seed: int
) -> Candidate:
    """A kind with each of its settings (penalty, number of trees) on the folds, the best by held-out log loss.

    Raises Invalid where a fold leaves nobody who left, or nobody who stayed, to learn from.
    """
    settings: tuple[float, ...] = PENALTIES if kind == "logistic" else TREES
    scores = np.full((len(settings), len(frame)), np.nan)
    models: list[list[Classifier]] = []
    for train, test in folds.split(frame.index):
        learnt, y = frame.iloc[train], outcome[train]
        if not len(train) or not 0 < y.sum() < len(y):
            raise Invalid(
                "A fold leaves nobody who left, or nobody who stayed, to learn from: take smaller blocks or a smaller "
                "buffer."
            )
        if kind == "logistic":
            each = fit_logistic(learnt, y, features, PENALTIES, seed=seed)
            models.append(list(each))
            for row, model in enumerate(each):
                scores[row, test] = model.score(frame.iloc[test])
        else:
            most = fit_boosting(learnt, y, features, max(TREES), seed=seed)
            models.append([most])
            with threadpool_limits(1):
                staged = enumerate(most.model.staged_decision_function(most.encoded(frame.iloc[test])), start=1)
                for number, score in staged:
                    if number in TREES:
                        scores[TREES.index(number), test] = np.asarray(score).reshape(-1)
    losses = [float(log_loss(outcome, expit(row)).mean()) for row in scores]
    best = int(np.argmin(losses))
    if kind == "logistic":
        chosen: list[Classifier] = [each[best] for each in models]
    else:
        chosen = []
        for (train, _), (most_trees,) in zip(folds.split(frame.index), models, strict=True):
            same = settings[best] == max(TREES)
            chosen.append(
                most_trees if same
                else fit_boosting(frame.iloc[train], outcome[train], features, int(settings[best]), seed=seed)
            )  # fmt: skip
    return Candidate(kind, settings[best], scores[best], losses[best], tuple(chosen))


def fit_best(
    candidate: Candidate, frame: pd.DataFrame, outcome: Floats, features: Sequence[Feature], *, seed: int
) -> Logistic | Boosting:
    """The candidate's kind and setting on all customers."""
    if candidate.kind == "logistic":
        return fit_logistic(frame, outcome, features, (candidate.setting,), seed=seed)[0]
    return fit_boosting(frame, outcome, features, int(candidate.setting), seed=seed)
