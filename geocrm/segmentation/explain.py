"""Groups in words: a sentence and a short name for each, from a shallow tree and the strongest differences.

Everything is said in the original units. The tree is a summary, not the grouping: its accuracy is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from geocrm.errors import Invalid, TooLittleData

DEPTH = 3
FOLDS = 5
SAMPLE_ROWS = 50_000  # tree and differences look at so many rows; counts, means and medians at all
NOTABLE = 0.15  # Cliff's delta: smaller differences are not told (negligible by Romano et al. 2006)
KNOWN = 0.5  # a feature speaks for a group where it is known of so large a share of it
WELL = 0.75  # balanced accuracy from which a tree explains the groups well
BADLY = 0.5
LEAST_PURE = 0.5  # a path is told where at least half of those on it are of the group


@dataclass(frozen=True)
class Wording:
    """How a feature is spoken of. `{}` stands for a value with its unit.

    `unit` may be "m", "days", "weeks", "years", "share" (0 … 1, told in per cent), "" (a bare number) or anything that
    follows the number ("USD", "orders"). `high` and `low` name a group that is so: "frequent buyers".
    Categories and yes-or-no columns need `typical` alone.
    """

    meaning: str
    unit: str = ""
    typical: str = ""
    below: str = ""
    above: str = ""
    high: str = ""
    low: str = ""


@dataclass(frozen=True)
class GroupWords:
    """One group in words.

    `rule` is the path of the tree in words with `precision` (of those who fit it, the share in the group) and
    `coverage` (of the group, the share who fit it), shares of the sample; empty where no path is mostly of this
    group.
    """

    group: int
    size: int
    share: float
    name: str
    sentence: str
    rule: str
    precision: float
    coverage: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """All groups in words, how well the tree tells them apart, and the profiles.

    `accuracy` and `balanced_accuracy` (mean over the groups) are of five-fold cross-validation, so that the tree is
    judged on customers it has not seen; `verdict` says it. `profiles` has one row a group and feature (or level of a
    category): `group`, `feature`, `level`, `n` (known), `mean`, `median`, `share` (of the level), `average`,
    `average_median`, `lift` (mean or share by that of all; NaN where that is not positive), `delta` (Cliff's, group
    against the others).
    """

    groups: tuple[GroupWords, ...]
    accuracy: float
    balanced_accuracy: float
    verdict: str
    profiles: pd.DataFrame


def explain(
    frame: pd.DataFrame, labels: NDArray[np.integer], wording: Mapping[str, Wording], *, seed: int
) -> Explanation:
    """Explain groups by the columns of `frame` that `wording` names (numbers or categories, original units, NaN
    allowed).

    * A tree of depth three (CART, Breiman et al. 1984; scikit-learn; groups weigh alike) predicts the group. Each
      group is told by the path with the highest F₁ of precision and coverage, without questions that add less than
      0.01 to it, if at least half of those who fit it are of the group.
    * Differences are Cliff's delta (1993) of the group against all others: the chance that a member exceeds an
      outsider less the chance of the reverse, in [−1, 1], whatever the unit and the skewness; for levels the
      difference of shares.
    * The sentence is the path and the two strongest differences it does not tell. The name is the two strongest traits.
      What is known of fewer than half of a group says nothing of it.

    Rows with label −1 (noise) are not explained. Raises TooLittleData without groups or with a group of fewer than two,
    Invalid where columns are missing.
    """
    if lost := sorted(set(wording) - set(frame.columns)):
        raise Invalid(f"The frame lacks the columns {', '.join(lost)}.")
    if not wording:
        raise Invalid("Say which features explain the groups, and in which words.")
    if len(labels) != len(frame):
        raise Invalid("Give one label a row.")
    kept = labels >= 0
    frame, group_of = frame.loc[kept, list(wording)], labels[kept].astype(np.int64)
    sizes = np.bincount(group_of) if len(group_of) else np.zeros(0, dtype=np.int64)
    groups = [int(group) for group in np.flatnonzero(sizes)]
    if not groups:
        raise TooLittleData("There is no group to explain.")
    if sizes[groups].min() < 2:
        raise TooLittleData("A group of one customer cannot be explained; ask for fewer groups.")
    generator = np.random.default_rng(seed)
    seen = np.arange(len(frame))
    if len(frame) > SAMPLE_ROWS:
        seen = np.sort(generator.choice(len(frame), SAMPLE_ROWS, replace=False))
    columns = _columns(frame, frame.iloc[seen])
    of_seen = group_of[seen]
    deltas = {column.key: _deltas(column.values[seen], of_seen, groups, column.level is not None) for column in columns}
    profiles = _profiles(columns, group_of, groups, deltas)
    if len(groups) == 1:
        words = GroupWords(groups[0], len(group_of), 1.0, "All customers", "all customers are one group", "", 1.0, 1.0)
        return Explanation((words,), 1.0, 1.0, "There is one group; nothing tells it from others.", profiles)
    matrix = np.column_stack([column.values[seen] for column in columns])
    tree = DecisionTreeClassifier(
        max_depth=DEPTH, min_samples_leaf=max(1, len(seen) // 200), class_weight="balanced",
        random_state=int(generator.integers(2**31)),
    )  # fmt: skip
    accuracy, balanced = _judge(tree, matrix, of_seen, int(generator.integers(2**31)))
    tree.fit(matrix, of_seen)
    rules = _rules(tree, matrix, of_seen, groups)
    told = []
    for group in groups:
        ranked = sorted(columns, key=lambda column: _strength(column, deltas[column.key][group]))
        ranked = [
            column
            for column in ranked
            if abs(deltas[column.key][group]) >= NOTABLE and column.known_share(group_of == group) >= KNOWN
        ]
        told.append(_tell(group, rules.get(group), ranked, columns, deltas, group_of, wording))
    names = _distinct([names for _, names in told])
    made = tuple(
        GroupWords(
            words.group, words.size, words.share, name, words.sentence, words.rule, words.precision, words.coverage
        )
        for (words, _), name in zip(told, names, strict=True)
    )
    return Explanation(made, accuracy, balanced, _verdict(accuracy, balanced, len(groups)), profiles)


@dataclass(frozen=True, eq=False)
class _Column:
    """A column of numbers: a feature, or 0 and 1 for a level of a category."""

    name: str
    level: str | None
    values: NDArray[np.float64]
    opposite: str | None = None  # the other one of two levels

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.level or ""

    def known_share(self, inside: NDArray[np.bool_]) -> float:
        """Of the rows inside, those whose value is known."""
        return 1 - float(np.isnan(self.values[inside]).mean())


@dataclass(frozen=True)
class _Rule:
    """The bounds of a path: column number → (more than, at most)."""

    bounds: Mapping[int, tuple[float, float]]
    precision: float
    coverage: float

    @property
    def f1(self) -> float:
        both = self.precision + self.coverage
        return 2 * self.precision * self.coverage / both if both else 0.0


def _strength(column: _Column, delta: float) -> tuple[float, bool, tuple[str, str]]:
    """Sorts the strongest differences first; of two levels that say the same, what there is more of."""
    return -round(abs(delta), 9), delta < 0, column.key


def _named(level: str, words: Wording) -> str:
    return words.typical.format(level) if words.typical else f"{words.meaning}: {level}"


def _level(column: _Column, held: bool, words: Wording) -> str:
    """A level in words, or that it is another one."""
    level = column.level or ""
    if held:
        return _named(level, words)
    return _named(column.opposite, words) if column.opposite else f"not {_named(level, words)}"


def _columns(frame: pd.DataFrame, sample: pd.DataFrame) -> list[_Column]:
    made = []
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
            held = column.astype("string")
            counts = sample[name].astype("string").value_counts()
            levels = sorted(counts.index, key=lambda level: (-counts[level], level))[:20]
            if pd.api.types.is_bool_dtype(column.dtype):
                levels = [level for level in levels if level == "True"]
            unknown = held.isna().to_numpy()
            for level in levels:
                values = (held == level).to_numpy(dtype=np.float64, na_value=np.nan)
                values[unknown] = np.nan
                opposite = next((other for other in levels if other != level), None) if len(levels) == 2 else None
                made.append(_Column(name, level, values, opposite))
        else:
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            made.append(_Column(name, None, np.where(np.isfinite(values), values, np.nan)))
    return made


def _deltas(
    values: NDArray[np.float64], labels: NDArray[np.int64], groups: Sequence[int], is_level: bool
) -> dict[int, float]:
    """Cliff's delta of each group against the others, by ranks (ties count half); 0 where one side is not known."""
    known = ~np.isnan(values)
    values, labels = values[known], labels[known]
    if not len(values):
        return dict.fromkeys(groups, 0.0)
    ranks = rankdata(values)
    made = {}
    for group in groups:
        inside = labels == group
        members, others = int(inside.sum()), int((~inside).sum())
        if not members or not others:
            made[group] = 0.0
        elif is_level:
            made[group] = float(values[inside].mean() - values[~inside].mean())
        else:
            above = ranks[inside].sum() - members * (members + 1) / 2
            made[group] = float(2.0 * above / (members * others) - 1.0)
    return made


def _profiles(
    columns: Sequence[_Column], labels: NDArray[np.int64], groups: Sequence[int],
    deltas: Mapping[tuple[str, str], Mapping[int, float]],
) -> pd.DataFrame:  # fmt: skip
    rows = []
    for column in columns:
        known = ~np.isnan(column.values)
        average = float(column.values[known].mean()) if known.any() else np.nan
        middle = float(np.median(column.values[known])) if known.any() else np.nan
        for group in groups:
            held = column.values[known & (labels == group)]
            mean = float(held.mean()) if len(held) else np.nan
            rows.append(
                {
                    "group": group, "feature": column.name, "level": column.level or "", "n": len(held), "mean": mean,
                    "median": float(np.median(held)) if len(held) else np.nan,
                    "share": mean if column.level is not None else np.nan,
                    "average": average, "average_median": middle, "lift": mean / average if average > 0 else np.nan,
                    "delta": deltas[column.key][group],
                }
            )  # fmt: skip
    return pd.DataFrame(rows).sort_values(["group", "feature", "level"], ignore_index=True)


def _judge(
    tree: DecisionTreeClassifier, matrix: NDArray[np.float64], labels: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    folds = min(FOLDS, int(np.bincount(labels)[np.unique(labels)].min()))
    guessed = cross_val_predict(tree, matrix, labels, cv=StratifiedKFold(folds, shuffle=True, random_state=seed))
    return float((guessed == labels).mean()), float(balanced_accuracy_score(labels, guessed))


def _rules(
    tree: DecisionTreeClassifier, matrix: NDArray[np.float64], labels: NDArray[np.int64], groups: Sequence[int]
) -> dict[int, _Rule]:
    """For each group the path with the highest F₁, if at least half of those on it are of the group."""
    inner = tree.tree_
    paths: dict[int, dict[int, tuple[float, float]]] = {0: {}}
    for node in range(inner.node_count):  # parents come before their children
        if inner.children_left[node] == -1:
            continue
        column, cut = int(inner.feature[node]), float(inner.threshold[node])
        low, high = paths[node].get(column, (-np.inf, np.inf))
        paths[int(inner.children_left[node])] = {**paths[node], column: (low, min(high, cut))}
        paths[int(inner.children_right[node])] = {**paths[node], column: (max(low, cut), high)}
    leaves = [node for node in paths if inner.children_left[node] == -1]
    made = {}
    for group in groups:
        inside = labels == group
        rules = [_weigh(paths[leaf], matrix, inside) for leaf in leaves]
        best = max(rules, key=lambda rule: rule.f1)
        for column in reversed(list(best.bounds)):  # a question of the tree that tells nothing about this group goes
            shorter = _weigh({other: best.bounds[other] for other in best.bounds if other != column}, matrix, inside)
            if shorter.bounds and shorter.f1 >= best.f1 - 0.01:
                best = shorter
        if best.bounds and best.precision >= LEAST_PURE:
            made[group] = best
    return made


def _weigh(bounds: Mapping[int, tuple[float, float]], matrix: NDArray[np.float64], inside: NDArray[np.bool_]) -> _Rule:
    """Bounds with their precision and coverage; what is not known does not fit."""
    fits = np.ones(len(matrix), dtype=np.bool_)
    for column, (low, high) in bounds.items():
        fits &= (matrix[:, column] > low) & (matrix[:, column] <= high)
    both = int((fits & inside).sum())
    return _Rule(bounds, both / max(int(fits.sum()), 1), both / int(inside.sum()))


def _tell(
    group: int, rule: _Rule | None, ranked: Sequence[_Column], columns: Sequence[_Column],
    deltas: Mapping[tuple[str, str], Mapping[int, float]], labels: NDArray[np.int64], wording: Mapping[str, Wording],
) -> tuple[GroupWords, list[str]]:  # fmt: skip
    """The words of a group but for its name, and the words its name may be made of."""
    inside = labels == group
    conditions, spoken = [], set()
    if rule is not None:
        for number, bounds in rule.bounds.items():
            column = columns[number]
            spoken.add(column.name)
            conditions.append(_condition(column, bounds, wording[column.name]))
    typical: list[str] = []
    for column in ranked:
        if column.name in spoken or len(typical) == 2:
            continue
        spoken.add(column.name)
        typical.append(_typical(column, inside, wording[column.name]))
    traits, named = [], set()
    for column in ranked:
        if column.name not in named:
            named.add(column.name)
            traits.append(_trait(column, deltas[column.key][group], wording[column.name]))
    sentence = ", ".join([*conditions, *typical]) or "like the average in everything that is known"
    size = int(inside.sum())
    return GroupWords(
        group, size, size / len(labels), "", sentence, ", ".join(conditions),
        rule.precision if rule else 0.0, rule.coverage if rule else 0.0,
    ), traits  # fmt: skip


def _condition(column: _Column, bounds: tuple[float, float], words: Wording) -> str:
    low, high = bounds
    if column.level is not None:
        return _level(column, low > -np.inf, words)
    if low > -np.inf and high < np.inf:
        return f"{words.meaning} from {show_value(low, words.unit)} to {show_value(high, words.unit)}"
    if high < np.inf:
        return (words.below or f"{words.meaning} up to {{}}").format(show_value(high, words.unit))
    return (words.above or f"{words.meaning} over {{}}").format(show_value(low, words.unit))


def _typical(column: _Column, inside: NDArray[np.bool_], words: Wording) -> str:
    held = column.values[inside]
    held = held[~np.isnan(held)]
    if column.level is not None:
        return f"{100 * held.mean():.0f} % {_named(column.level, words)}"
    value = float(held.mean()) if words.unit == "share" else float(np.median(held))
    return (words.typical or f"{words.meaning} {{}}").format(show_value(value, words.unit))


def _trait(column: _Column, delta: float, words: Wording) -> str:
    if column.level is not None:
        return _level(column, delta > 0, words)
    return (words.high or f"high {words.meaning}") if delta > 0 else (words.low or f"low {words.meaning}")


def _distinct(traits: Sequence[Sequence[str]]) -> list[str]:
    """Names of two traits; of three or more where two groups would be named alike, then with a number."""
    lengths = [2] * len(traits)
    while True:
        names = [", ".join(words[:length]) or "like the average" for words, length in zip(traits, lengths, strict=True)]
        again = [
            number
            for number, name in enumerate(names)
            if names.count(name) > 1 and lengths[number] < min(4, len(traits[number]))
        ]
        if not again:
            break
        for number in again:
            lengths[number] += 1
    made = []
    for number, name in enumerate(names):
        before = names[:number].count(name)
        made.append((name[0].upper() + name[1:]) + (f" ({before + 1})" if before else ""))
    return made


def _verdict(accuracy: float, balanced: float, groups: int) -> str:
    said = (
        f"A tree of three questions puts {100 * accuracy:.0f} % of customers it has not seen into their group "
        f"({100 * balanced:.0f} % on average over the {groups} groups)"
    )
    if balanced >= WELL:
        return f"{said}: the sentences describe the groups well."
    if balanced >= BADLY:
        return f"{said}: the sentences describe the groups roughly."
    return f"{said}: the sentences describe the groups badly; look at the profiles."


def show_value(value: float, unit: str) -> str:
    """A value with its unit, as one says it: "2.1 km", "3 weeks", "78 %", "1,240 USD", "1 order"."""
    if unit == "share":
        return f"{100 * value:.0f} %"
    if unit == "m":
        return f"{_short(value / 1000)} km" if abs(value) >= 1000 else f"{_short(value)} m"
    if unit == "weeks":
        return show_value(7 * value, "days")
    if unit == "days":
        for length, name, plural in ((365.25, "year", "years"), (30.4375, "month", "months"), (7.0, "week", "weeks")):
            if abs(value) >= (2 if name != "week" else 1.9) * length:
                number = _short(value / length)
                return f"{number} {name if number == '1' else plural}"
        number = _short(value)
        return f"{number} {'day' if number == '1' else 'days'}"
    number = _short(value)
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}".strip()


def _short(value: float) -> str:
    """Two significant digits, whole numbers from 10 on, thousands set apart."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    if abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.2g}"
