"""How often chance does as much: random draws of map values, counted against what was observed.

Pure. A map of n values without any order in space is one of the n! ways to put them; the sum over a neighbourhood is
then the sum of so many values drawn without replacement. With equal weights its distribution depends on the number of
neighbours alone, so one series of draws serves the whole map: the first m of each draw for those with m neighbours.
Counts are exact for the draws made, ties count on both sides, p = (r + 1) / (R + 1) (Phipson & Smyth 2010: never zero).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_CHUNK: Final = 4_000_000
_TIE: Final = 1e-10


@dataclass(frozen=True)
class Tails:
    """How many of `draws` random maps gave at least (`above`) and at most (`below`) what was observed, (n,) each."""

    above: NDArray[np.int64]
    below: NDArray[np.int64]
    draws: int

    def two_sided(self) -> NDArray[np.float64]:
        """Twice the smaller tail, at most 1: the test that does not mind a skewed distribution. (n,)"""
        return np.minimum(1.0, 2.0 * (np.minimum(self.above, self.below) + 1.0) / (self.draws + 1.0))

    def swapped_where(self, flip: NDArray[np.bool_]) -> Tails:
        """The tails of the negative where `flip`."""
        return Tails(np.where(flip, self.below, self.above), np.where(flip, self.above, self.below), self.draws)


def subsets(rng: np.random.Generator, n: int, k: int, draws: int) -> NDArray[np.int64]:
    """Draws of k of n without replacement, in random order, (draws, k)."""
    if k * (k - 1) / (2 * n) > 1.5:  # whole shuffles where repeated numbers would be thrown away too often
        made = np.empty((draws, k), dtype=np.int64)
        step = max(1, _CHUNK // n)
        for start in range(0, draws, step):
            many = min(step, draws - start)
            made[start : start + many] = rng.permuted(np.tile(np.arange(n), (many, 1)), axis=1)[:, :k]
        return made
    made = rng.integers(0, n, size=(draws, k))
    wrong = np.arange(draws)
    while True:
        ordered = np.sort(made[wrong], axis=1)
        wrong = wrong[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
        if not len(wrong):
            return made
        made[wrong] = rng.integers(0, n, size=(len(wrong), k))


def tails_of_sums(
    values: NDArray[np.float64], weights: sparse.csr_array, *, draws: int, seed: int, hold: bool
) -> Tails:
    """Random sums against the observed ones, `weights @ values`.

    values (n,), weights (n, n). Without `hold`, row i is compared with its weights on values drawn from all n; with it,
    the value at i stays where it is (conditional permutation, Anselin 1995): the others are drawn for its neighbours,
    the diagonal of `weights` must be empty. Weights are positive; of rows without any the counts are 0."""
    rng = np.random.default_rng(seed)
    n = len(values)
    matrix = sparse.csr_array(weights)
    matrix.sort_indices()
    size = np.diff(matrix.indptr)
    widest = int(size.max(initial=0))
    above, below = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    if widest == 0:
        return Tails(above, below, draws)
    filled = np.flatnonzero(size > 0)
    high, low = np.full(n, -np.inf), np.full(n, np.inf)
    starts = matrix.indptr[:-1][filled]
    high[filled] = np.maximum.reduceat(matrix.data, starts)
    low[filled] = np.minimum.reduceat(matrix.data, starts)
    even = np.isclose(high, low, rtol=1e-12, atol=0) & (size > 0)
    uneven = np.flatnonzero((size > 0) & ~even)
    observed = np.asarray(matrix @ values)
    plain = np.where(even, observed / np.where(even, high, 1.0), observed)  # of even rows the bare sum
    reach = np.maximum(1.0, size) * np.abs(values).max(initial=0.0)
    reach[uneven] *= np.abs(matrix.data).max()
    upper, lower = plain - _TIE * reach, plain + _TIE * reach
    pool = n - 1 if hold else n
    padded = _padded(matrix, uneven, widest)
    instead = values[n - 1] - values  # with `hold`, what a draw of i itself stands for: the last one takes its place
    step = max(1, _CHUNK // max(widest, 1))
    for start in range(0, draws, step):
        ids = subsets(rng, pool, widest, min(step, draws - start))
        drawn = values[ids]
        sums = np.cumsum(drawn, axis=1)
        for m in np.unique(size[even]):
            rows = np.flatnonzero(even & (size == m))
            ordered = np.sort(sums[:, m - 1])
            above[rows] += len(ids) - np.searchsorted(ordered, upper[rows], side="left")
            below[rows] += np.searchsorted(ordered, lower[rows], side="right")
        if hold:
            draw, place = np.indices(ids.shape)
            cell = ids.ravel()
            inside = even[cell] & (place.ravel() < size[cell])
            cell, draw_of = cell[inside], draw.ravel()[inside]
            former = sums[draw_of, size[cell] - 1]
            real = former + instead[cell]
            change = (real >= upper[cell]).astype(np.int64) - (former >= upper[cell])
            above += np.bincount(cell, weights=change, minlength=n).astype(np.int64)
            change = (real <= lower[cell]).astype(np.int64) - (former <= lower[cell])
            below += np.bincount(cell, weights=change, minlength=n).astype(np.int64)
        _count_uneven(ids, drawn, padded, uneven, upper, lower, instead if hold else None, above, below)
    return Tails(above, below, draws)


def _padded(matrix: sparse.csr_array, rows: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """The weights of some rows, filled up with zeros, (rows, width)."""
    made = np.zeros((len(rows), width))
    for position, row in enumerate(rows):
        held = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
        made[position, : len(held)] = held
    return made


def _count_uneven(
    ids: NDArray[np.int64],
    drawn: NDArray[np.float64],
    padded: NDArray[np.float64],
    rows: NDArray[np.int64],
    upper: NDArray[np.float64],
    lower: NDArray[np.float64],
    instead: NDArray[np.float64] | None,
    above: NDArray[np.int64],
    below: NDArray[np.int64],
) -> None:
    step = max(1, _CHUNK // len(ids))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        weights = padded[start : start + step]
        sums = drawn @ weights.T
        if instead is not None:
            where = np.full(int(max(ids.max(), some.max())) + 1, -1)
            where[some] = np.arange(len(some))
            column = where[ids]
            draw, place = np.nonzero(column >= 0)
            sums[draw, column[draw, place]] += weights[column[draw, place], place] * instead[ids[draw, place]]
        above[some] += (sums >= upper[some]).sum(axis=0)
        below[some] += (sums <= lower[some]).sum(axis=0)
