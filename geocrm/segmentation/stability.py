"""How many groups there are: as many as come back from other samples of the same customers, or one.

Reproducible alone is not enough: two halves of any long cloud come back as well. So the same is done with data like the
real ones that have no groups, and what counts is how much of the rest is gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata
from sklearn.metrics import adjusted_rand_score, silhouette_score

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.clusters import PER_GROUP, Method, fit
from geocrm.segmentation.kmeans import Floats, Labels, one_thread

FEWEST = 50  # customers; with fewer, no number of groups is better founded than another
LEAST_GAIN = 0.5  # of what could be gained over data without groups
AS_GOOD = 0.1  # gains this close are equal, and more groups tell more
GRID = 512


@dataclass(frozen=True, eq=False)
class Choice:
    """The number of groups, why, and the table behind it.

    One row a number of groups: `k`, `stability` and `spread` (mean and standard deviation of the adjusted Rand index),
    `stability_null` and `p` (mean of data without groups; share of them at least as stable), `gain`, `silhouette`,
    `silhouette_null`, `p_silhouette`, `smallest` (share of the smallest group), `eligible`. `alone`: the number that
    each of the samples would have chosen by itself, where there were several.
    """

    k: int
    reason: str
    table: pd.DataFrame
    alone: tuple[int, ...] = ()


def choose_groups(
    matrix: Floats,
    method: Method = "kmeans",
    candidates: Sequence[int] = range(2, 11),
    *,
    seed: int,
    lonlat: Floats | None = None,
    sample: int = 2_000,
    samples: int = 3,
    pairs: int = 8,
    references: int = 19,
) -> Choice:
    """Choose the number of groups of a matrix (n × columns, the dial set), on samples of rows.

    Of more than `sample` rows, `samples` of so many are drawn, and all that follows is done with each. They decide
    together; what each would have chosen alone shows how far the number hangs on who was drawn.

    * Stability: two bootstrap samples of three fifths of the rows are grouped, both assign the same other two fifths,
      and the adjusted Rand index (Hubert and Arabie 1985) says how alike (Ben-Hur, Elisseeff and Guyon 2002; Hennig
      2007); mean over `pairs` of them. The silhouette (Rousseeuw 1987) is that of the same assignments.
    * The same for `references` data sets without groups, one pair each (the idea of Dudoit and Fridlyand 2002): each
      column keeps its skewness, smoothed just so far that one peak is left (Silverman 1981), columns keep their
      correlations (Gaussian copula of the normal scores). For contiguous groups, rows are dealt to the places at
      random instead.
    * gain = (stability − that of the references) / (1 − that of the references).

    A number of groups is eligible where at most 5 % of the references are as stable, at most 5 % have as high a
    silhouette, and the gain is at least one half. Of those within 0.1 of the best gain, the largest is chosen. Where
    none is eligible there is one group. Raises TooLittleData with fewer than 50 customers, Invalid for HDBSCAN, which
    chooses itself.
    """
    if method == "hdbscan":
        raise Invalid("HDBSCAN finds the number of groups by itself.")
    if references < 19:
        raise Invalid("Fewer than 19 references cannot show anything at the level of 5 %.")
    if len(matrix) < FEWEST:
        raise TooLittleData(
            f"Choosing the number of groups needs at least {FEWEST} customers; there are {len(matrix)}. "
            "Treat them as one group, or say how many groups you want."
        )
    if method == "contiguous" and lonlat is None:
        raise Invalid("Contiguous groups need longitude and latitude of each row.")
    generator = np.random.default_rng(seed)
    drawn = [
        generator.permutation(np.sort(generator.choice(len(matrix), sample, replace=False)))
        if len(matrix) > sample
        else generator.permutation(len(matrix))
        for _ in range(samples if len(matrix) > sample else 1)
    ]
    pool = round(0.6 * len(drawn[0]))
    usable = sorted({k for k in candidates if 2 <= k <= pool // PER_GROUP})
    if not usable:
        raise Invalid("Name at least one number of groups to try, from 2 to a fifth of the customers.")
    different = min(len(np.unique(matrix[rows], axis=0)) for rows in drawn)
    if different <= max(usable):
        different = min(len(np.unique(matrix[rows[:pool]], axis=0)) for rows in drawn)
        usable = [k for k in usable if k < different // 2]
        if not usable:
            return Choice(1, "One group: nearly all customers are the same in every feature.", pd.DataFrame())
    with one_thread():
        tried = [
            _try(matrix[rows], method, usable, None if lonlat is None else lonlat[rows], pairs, references, generator)
            for rows in drawn
        ]
    choice = _decide(_table(usable, tried))
    if len(tried) == 1:
        return choice
    alone = tuple(_decide(_table(usable, [each])).k for each in tried)
    return replace(choice, reason=choice.reason + _told_alone(choice.k, alone), alone=alone)


def _told_alone(k: int, alone: tuple[int, ...]) -> str:
    if set(alone) == {k}:
        return f" Each of {len(alone)} samples would have chosen this number alone, too."
    return (
        f" Taken alone, {len(alone)} samples would have chosen {', '.join(map(str, alone[:-1]))} and {alone[-1]}: "
        "these customers do not settle how many groups there are."
    )


def _try(
    matrix: Floats,
    method: Method,
    usable: Sequence[int],
    lonlat: Floats | None,
    pairs: int,
    references: int,
    generator: np.random.Generator,
) -> list[tuple[Floats, Floats]]:
    """For each number of groups what pairs of groupings of a sample give (pairs × 3), and of data without groups."""
    null = None if method == "contiguous" else _Null.fit(matrix)
    without = [
        matrix[generator.permutation(len(matrix))] if null is None else null.draw(len(matrix), generator)
        for _ in range(references)
    ]
    pool = round(0.6 * len(matrix))
    return [
        (
            np.array([_pair(matrix, pool, method, k, lonlat, generator) for _ in range(pairs)]),
            np.array([_pair(each, pool, method, k, lonlat, generator) for each in without]),
        )
        for k in usable
    ]


def _table(usable: Sequence[int], tried: Sequence[list[tuple[Floats, Floats]]]) -> pd.DataFrame:
    """The table of `Choice`, of all samples together."""
    return pd.DataFrame(
        [_row(k, *(np.concatenate([each[i][part] for each in tried]) for part in (0, 1))) for i, k in enumerate(usable)]
    )


def _pair(
    matrix: Floats, pool: int, method: Method, k: int, lonlat: Floats | None, generator: np.random.Generator
) -> tuple[float, float, float]:
    """Two groupings of resampled rows: how alike they assign the others, the silhouette, the smallest group's share."""
    others = None if lonlat is None else lonlat[pool:]
    labels: list[Labels] = []
    for _ in range(2):
        drawn = generator.integers(0, pool, pool)
        try:
            model = fit(
                matrix[drawn], method, k, seed=int(generator.integers(2**31)), starts=3,
                lonlat=None if lonlat is None else lonlat[drawn],
            ).model  # fmt: skip
            labels.append(model.assign(matrix[pool:], others))
        except TooLittleData:  # a sample with fewer different rows than groups says: not to be told apart
            labels.append(np.zeros(len(matrix) - pool, dtype=np.int32))
    sizes = np.bincount(labels[0], minlength=k)
    told_apart = 2 <= int((sizes > 0).sum()) < len(labels[0])
    silhouette = float(silhouette_score(matrix[pool:], labels[0])) if told_apart else -1.0
    return float(adjusted_rand_score(*labels)), silhouette, float(sizes.min() / sizes.sum())


def _row(k: int, found: Floats, null: Floats) -> dict[str, float | int | bool]:
    stability, silhouette = float(found[:, 0].mean()), float(found[:, 1].mean())
    expected = float(null[:, 0].mean())
    gain = (stability - expected) / (1.0 - expected) if expected < 1.0 else 0.0
    p = float((1 + (null[:, 0] >= stability).sum()) / (1 + len(null)))
    p_silhouette = float((1 + (null[:, 1] >= silhouette).sum()) / (1 + len(null)))
    return {
        "k": k, "stability": stability, "spread": float(found[:, 0].std(ddof=1)) if len(found) > 1 else 0.0,
        "stability_null": expected, "p": p, "gain": gain, "silhouette": silhouette,
        "silhouette_null": float(null[:, 1].mean()), "p_silhouette": p_silhouette, "smallest": float(found[:,
        2].mean()), "eligible": bool(p <= 0.05 and p_silhouette <= 0.05 and gain >= LEAST_GAIN),
    }  # fmt: skip


def _decide(table: pd.DataFrame) -> Choice:
    eligible = table[table["eligible"]]
    if eligible.empty:
        best = table.loc[table["gain"].idxmax()]
        return Choice(
            1,
            f"One group: no number of groups comes back from other samples clearly better than in data without groups "
            f"(at best {int(best['k'])} groups with an index of {best['stability']:.2f}, against "
            f"{best['stability_null']:.2f} without groups).",
            table,
        )
    best = eligible.loc[eligible["gain"].idxmax()]
    close = eligible[eligible["gain"] >= best["gain"] - AS_GOOD]
    chosen = close.loc[close["k"].idxmax()]
    others = sorted(int(k) for k in close["k"] if k != chosen["k"])
    also = f" {', '.join(map(str, others))} would be as well founded; more groups tell more." if others else ""
    return Choice(
        int(chosen["k"]),
        f"{int(chosen['k'])} groups: they come back from other samples with an adjusted Rand index of "
        f"{chosen['stability']:.2f} (data without groups: {chosen['stability_null']:.2f}) and a silhouette of "
        f"{chosen['silhouette']:.2f} ({chosen['silhouette_null']:.2f}).{also}",
        table,
    )


@dataclass(frozen=True, eq=False)
class _Null:
    """Data like the given ones with one peak a column: quantiles (columns × grid) and a root of the correlations."""

    quantiles: Floats
    root: Floats

    @classmethod
    def fit(cls, matrix: Floats) -> _Null:
        scores = ndtri((np.column_stack([rankdata(column) for column in matrix.T]) - 0.5) / len(matrix))
        spread = scores.std(axis=0)
        scores = (scores - scores.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        values, vectors = np.linalg.eigh(scores.T @ scores / len(matrix))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        lengths = np.sqrt((root**2).sum(axis=1, keepdims=True))
        return cls(np.stack([_one_peak(column) for column in matrix.T]), root / np.where(lengths > 0, lengths, 1.0))

    def draw(self, rows: int, generator: np.random.Generator) -> Floats:
        levels = ndtr(generator.normal(size=(rows, len(self.root))) @ self.root.T)
        grid = (np.arange(GRID) + 0.5) / GRID
        return np.column_stack(
            [np.interp(level, grid, quantiles) for level, quantiles in zip(levels.T, self.quantiles, strict=True)]
        )


def _one_peak(values: Floats) -> NDArray[np.float64]:
    """Quantiles of the values smoothed until one peak is left, with the values' own mean and variance.

    Bumps under a twentieth of the highest density do not count as peaks.
    """
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.full(GRID, low)
    margin = (high - low) / 2
    counts, borders = np.histogram(values, bins=2 * GRID, range=(low - margin, high + margin))
    width = 1.0
    while True:
        density = gaussian_filter1d(counts.astype(np.float64), width, mode="constant", truncate=5.0)
        steps = np.diff(density)
        peaks = (steps[:-1] > 0) & (steps[1:] <= 0) & (density[1:-1] > 0.05 * density.max())
        if peaks.sum() <= 1:
            break
        width *= 1.2
    middles = (borders[1:] + borders[:-1]) / 2
    quantiles = np.interp((np.arange(GRID) + 0.5) / GRID, np.cumsum(density) / density.sum(), middles)
    return (quantiles - quantiles.mean()) / quantiles.std() * values.std() + values.mean()
