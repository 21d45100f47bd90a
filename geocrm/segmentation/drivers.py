"""What drives leaving: over all customers by what a model loses without a feature, for one by what each adds.

Features are those the reader knows, never single columns made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.classifiers import Boosting, Classifier, Feature, Logistic
from geocrm.segmentation.validation import log_loss
from geocrm.spatial.intervals import LEVEL

Floats = NDArray[np.float64]
REPEATS = 5
REPLICATES = 1_000
BACKGROUND = 50
"""Customers with whom a single one is compared, for trees."""


@dataclass(frozen=True)
class Driver:
    """How much worse held-out predictions get (log loss of a customer) when a feature's values are exchanged among the
    customers at random, with an interval by a bootstrap of blocks."""

    feature: Feature
    loss: float
    low: float
    high: float


def importance(
    models: Sequence[tuple[Classifier, NDArray[np.int64]]],
    frame: pd.DataFrame,
    outcome: Floats,
    features: Sequence[Feature],
    blocks: NDArray[np.int64],
    *,
    seed: int,
    repeats: int = REPEATS,
    level: float = LEVEL,
) -> tuple[Driver, ...]:
    """Permutation importance (Breiman, Random Forests, Machine Learning 45 (2001); Fisher, Rudin and Dominici, All
    Models are Wrong, but Many are Useful, JMLR 20 (2019)), the greatest first.

    Args:
        models: each with the rows of `frame` it did not see: it is asked for these.
        blocks: the block of each row, (n,).
        repeats: exchanges, averaged.

    All columns of a feature are exchanged together, between customers of one fold. Features that say the same share
    what it is worth: exchanged alone, each of them seems to matter less.
    """
    draw = np.random.default_rng([seed, 81])
    seen = np.concatenate([rows for _, rows in models])
    count = int(blocks[seen].max()) + 1
    times = draw.multinomial(count, np.full(count, 1 / count), size=REPLICATES).astype(np.float64)
    worse = np.zeros((len(features), len(frame)))
    for model, rows in models:
        if not len(rows):
            continue
        here = frame.iloc[rows]
        before = log_loss(outcome[rows], expit(model.score(here)))
        for number, feature in enumerate(features):
            columns = list(feature.columns)
            for _ in range(repeats):
                exchanged = here.copy()
                exchanged[columns] = here[columns].iloc[draw.permutation(len(here))].set_axis(here.index)
                worse[number, rows] += (log_loss(outcome[rows], expit(model.score(exchanged))) - before) / repeats
    sizes = np.bincount(blocks[seen], minlength=count)
    asked = np.maximum(times @ sizes, 1)
    found = []
    for feature, row in zip(features, worse, strict=True):
        drawn = (times @ np.bincount(blocks[seen], row[seen], minlength=count)) / asked
        low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
        found.append(Driver(feature, float(row[seen].mean()), float(low), float(high)))
    return tuple(sorted(found, key=lambda each: -each.loss))


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each feature adds to a customer's log-odds of leaving, against the average customer.

    base + sum over `added` (customers × features) is the score of the classifier, before calibration. `error` is the
    standard error by sampling, 0 where the numbers are exact.
    """

    features: tuple[Feature, ...]
    customers: pd.Index
    added: Floats
    error: Floats
    base: float
    method: str

    @property
    def score(self) -> Floats:
        """Log-odds of leaving, (n,)."""
        made: Floats = self.base + self.added.sum(axis=1)
        return made


def contributions(
    model: Logistic | Boosting, frame: pd.DataFrame, background: pd.DataFrame, *, seed: int, most: int = BACKGROUND
) -> Contributions:
    """Interventional Shapley values of the log-odds: the mean, over all orders in which a background customer can turn
    into this one feature by feature, of what the feature changes (Štrumbelj and Kononenko, Explaining Prediction Models
    and Individual Predictions with Feature Contributions, Knowledge and Information Systems 41 (2014); Janzing,
    Minorics and Blöbaum 2020).

    Logistic regression: exact, slope × (value - mean over the customers it was fitted on), columns of a feature added.
    Trees: sampled, one random order and its reverse for each of at most `most` customers of `background`. Along an
    order the changes telescope, so the sum is exact, whatever the number of orders; only its split has a `error`.
    """
    if not len(frame):
        raise TooLittleData("There is no customer whose drivers to tell.")
    if isinstance(model, Logistic):
        parts = model.prepared(frame) * model.slopes
        added = np.stack([parts[:, model.owner == k].sum(axis=1) for k in range(len(model.features))], axis=1)
        return Contributions(
            model.features, frame.index, added, np.zeros_like(added), model.intercept, "exact for a linear model"
        )
    if len(background) < 2:
        raise TooLittleData("Drivers of a customer need at least 2 others to compare with.")
    draw = np.random.default_rng([seed, 82])
    rows = draw.choice(len(background), min(most, len(background)), replace=False)
    others = model.encoded(background.iloc[np.sort(rows)])
    count = len(model.features)
    owner = np.array([k for k, feature in enumerate(model.features) for _ in feature.columns])
    orders = np.array([draw.permutation(count) for _ in others])
    orders = np.stack((orders, orders[:, ::-1]), axis=1).reshape(-1, count)  # each order and its reverse
    step = np.argsort(orders, axis=1)  # when a feature is turned
    turned = step[:, None, owner] < np.arange(count + 1)[None, :, None]
    start = np.repeat(others, 2, axis=0)[:, None, :]
    values = model.encoded(frame)
    added, error = np.empty((len(frame), count)), np.empty((len(frame), count))
    base = float(model.score_encoded(others).mean())
    for number, own in enumerate(values):
        path = np.where(turned, own, start).reshape(-1, len(owner))
        changes = np.diff(model.score_encoded(path).reshape(len(orders), count + 1), axis=1)
        each = np.take_along_axis(changes, step, axis=1)
        added[number] = each.mean(axis=0)
        paired = each.reshape(-1, 2, count).mean(axis=1)
        error[number] = paired.std(axis=0, ddof=1) / np.sqrt(len(paired))
    method = f"sampled along {len(orders)} orders from {len(others)} customers, the sum is exact"
    return Contributions(model.features, frame.index, added, error, base, method)


# --- in words


def typical(frame: pd.DataFrame, features: Sequence[Feature]) -> dict[str, Any]:
    """The median of each number and the most frequent word of each column; NaN or None where nothing is known."""
    found: dict[str, Any] = {}
    for feature in features:
        for name in feature.columns:
            known = frame[name].dropna()
            if feature.words:
                counts = known.astype(str).value_counts()
                found[name] = min(counts[counts == counts.max()].index) if len(counts) else None
            else:
                found[name] = float(known.median()) if len(known) else float("nan")
    return found


def sentences(
    made: Contributions, frame: pd.DataFrame, usual: dict[str, Any], *, most: int = 3, least: float = 0.05
) -> list[list[str]]:
    """For each customer of `made` the features that move the odds of leaving most, in words with values and units.

    Those that move the log-odds by less than `least`, or by less than twice their error of sampling, are not told.
    """
    if not frame.index.equals(made.customers):
        raise Invalid("Sentences need the frame that the contributions are of.")
    told = []
    for row, added in enumerate(made.added):
        order = np.argsort(-np.abs(added), kind="stable")
        sure = np.abs(added) >= np.maximum(least, 2 * made.error[row])
        told.append(
            [_sentence(made.features[k], frame.iloc[row], usual, float(added[k])) for k in order if sure[k]][:most]
        )
    return told


def _sentence(feature: Feature, row: pd.Series, usual: dict[str, Any], added: float) -> str:
    if len(feature.columns) > 1:  # of the shares of a whole, the one farthest from what is usual
        known = [name for name in feature.columns if pd.notna(row[name])]
        away = {name: abs(float(row[name]) - usual[name]) for name in known if usual[name] == usual[name]}
        name = max(away, key=lambda one: away[one]) if away else feature.columns[0]
        what = f"{feature.meaning}, {name.partition('.')[2]}"
    else:
        name, what = feature.columns[0], feature.meaning
    is_, typically = (_value(value, feature) for value in (row[name], usual[name]))
    usually = "as is typical" if is_ == typically else f"typically {typically}"
    factor = float(np.exp(added))
    by = f"{factor:.1f} times" if factor >= 2 else f"by {abs(factor - 1):.0%}"
    moves = "raises" if added > 0 else "lowers"
    return f"{what[0].upper()}{what[1:]}: {is_} ({usually}) {moves} the odds of leaving {by}."


def _value(value: Any, feature: Feature) -> str:
    if pd.isna(value):
        return "not known"
    if feature.words:
        return str(value)
    number = float(value)
    if feature.unit == "share":
        return f"{number:.0%}"
    if feature.unit == "0 or 1":
        return "yes" if number > 0.5 else "no"
    said = f"{number:,.0f}" if abs(number) >= 100 or number == round(number) else f"{number:,.3g}"
    return said if feature.unit in ("ratio", "log-odds") else f"{said} {feature.unit}"
