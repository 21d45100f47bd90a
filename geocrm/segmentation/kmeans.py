"""k-means in passes over blocks: bounded memory, and the same bits whatever the chunks and the number of threads.

Arithmetic goes element by element and not through BLAS, whose last bits depend on shapes and threads; sums are taken in
the order of the rows, in blocks of a fixed size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import ThreadpoolController

from geocrm.errors import TooLittleData

Floats = NDArray[np.float64]
Labels = NDArray[np.int32]
Chunks = Callable[[], Iterable[Floats]]

BLOCK_ROWS = 16_384
SLICE_ROWS = 2_048  # what is worked on at a time stays in the cache
TRIAL_ROWS = 20_000  # k-means++ starts several times on so many rows
SAMPLE_ROWS = 200_000  # beyond so many rows, centres settle on a sample first
THREADS = 2


@dataclass(frozen=True)
class Centres:
    """Fitted centres (k × columns), the largest group first.

    Sizes and the sum of squared distances are those of the rows under these centres.
    """

    centres: Floats
    sizes: tuple[int, ...]
    inertia: float
    passes: int


def fit_centres(chunks: Chunks, rows: int, k: int, *, seed: int, starts: int = 10) -> Centres:
    """k-means (Lloyd 1982) over `rows` rows that `chunks()` yields anew on each call, always in the same order.

    `starts` fits from k-means++ (Arthur and Vassilvitskii 2007; scikit-learn) on at most 20,000 rows. The best goes on
    over at most 200,000 rows until a pass lowers the sum of squares by less than 10⁻⁵ of itself (10⁻⁷ where these are
    all rows), then over all rows until it does so by less than 10⁻⁴. Memory: the sample and a few blocks. Raises
    TooLittleData where fewer than k rows differ.
    """
    generator = np.random.default_rng(seed)
    sample = draw(chunks, rows, SAMPLE_ROWS, generator)
    trial = sample
    if len(sample) > TRIAL_ROWS:
        trial = sample[np.sort(generator.choice(len(sample), TRIAL_ROWS, replace=False))]
    different = len(np.unique(trial, axis=0))
    if different < k:
        raise TooLittleData(
            f"k-means for {k} groups needs at least {k} customers who differ; there are {different} different ones. "
            f"Ask for at most {different} groups."
        )
    with one_thread():
        fitted = KMeans(k, n_init=starts, random_state=int(generator.integers(2**31))).fit(trial)
    centres = np.asarray(fitted.cluster_centers_, dtype=np.float64)
    whole = rows <= SAMPLE_ROWS
    most = 1 if len(trial) == rows else 300  # then they have settled, and are only counted
    settled = _settle(lambda: [sample], centres, fall=1e-7 if whole else 1e-5, most=most)
    if not whole:
        settled = _settle(chunks, settled.centres, fall=1e-4, most=20)
    order = sorted(range(k), key=lambda group: (-settled.sizes[group], tuple(settled.centres[group])))
    return Centres(settled.centres[order], tuple(settled.sizes[g] for g in order), settled.inertia, settled.passes)


def one_thread() -> AbstractContextManager[Any]:
    """Within it, libraries compute on one thread: sums of several differ in the last bits from run to run."""
    return cast("AbstractContextManager[Any]", _threads().limit(limits=1))


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def nearest(matrix: Floats, centres: Floats) -> tuple[Labels, Floats]:
    """The nearest centre of each row (the first of equals) and its squared distance."""
    labels = np.empty(len(matrix), dtype=np.int32)
    squared = np.empty(len(matrix))

    def work(start: int) -> None:
        part = slice(start, start + BLOCK_ROWS)
        labels[part], squared[part] = _nearest(matrix[part], centres)

    if len(matrix) <= BLOCK_ROWS:
        work(0)
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(0, len(matrix), BLOCK_ROWS)))
    return labels, squared


def draw(chunks: Chunks, rows: int, most: int, generator: np.random.Generator) -> Floats:
    """All rows, or `most` of them drawn without replacement, in their order; the chunks do not matter."""
    if rows <= most:
        return np.concatenate(list(chunks()))
    wanted = np.sort(generator.choice(rows, most, replace=False))
    taken = []
    start = 0
    for chunk in chunks():
        low, high = np.searchsorted(wanted, (start, start + len(chunk)))
        taken.append(chunk[wanted[low:high] - start])
        start += len(chunk)
    return np.concatenate(taken)


def _blocks(chunks: Iterable[Floats]) -> Iterator[Floats]:
    """The rows in blocks of a fixed size, whatever the size of the chunks."""
    held: list[Floats] = []
    count = 0
    for chunk in chunks:
        start = 0
        if count:
            start = min(BLOCK_ROWS - count, len(chunk))
            held.append(chunk[:start])
            count += start
            if count == BLOCK_ROWS:
                yield np.concatenate(held)
                held, count = [], 0
        while len(chunk) - start >= BLOCK_ROWS:
            yield chunk[start : start + BLOCK_ROWS]
            start += BLOCK_ROWS
        if start < len(chunk):
            held.append(chunk[start:])
            count += len(chunk) - start
    if count:
        yield np.concatenate(held)


def _nearest(block: Floats, centres: Floats) -> tuple[Labels, Floats]:
    """Σ(x − c)² for all pairs, column by column, in slices that fit the cache."""
    labels = np.empty(len(block), dtype=np.int32)
    squared = np.empty(len(block))
    k, columns = centres.shape
    total, away = np.empty((k, SLICE_ROWS)), np.empty((k, SLICE_ROWS))
    for start in range(0, len(block), SLICE_ROWS):
        part = np.ascontiguousarray(block[start : start + SLICE_ROWS].T)
        width = part.shape[1]
        sums, gaps = total[:, :width], away[:, :width]
        sums[:] = 0.0
        for column in range(columns):
            np.subtract(part[column], centres[:, column, None], out=gaps)
            np.multiply(gaps, gaps, out=gaps)
            np.add(sums, gaps, out=sums)
        found = sums.argmin(axis=0)
        labels[start : start + width] = found
        squared[start : start + width] = sums[found, np.arange(width)]
    return labels, squared


def _gather(block: Floats, centres: Floats) -> tuple[Floats, NDArray[np.int64], float]:
    """Sums of the rows of each group, their counts, and the sum of squared distances."""
    k = len(centres)
    labels, squared = _nearest(block, centres)
    sums = np.column_stack([np.bincount(labels, weights=column, minlength=k) for column in block.T])
    return sums, np.bincount(labels, minlength=k), float(squared.sum())


def _settle(chunks: Chunks, centres: Floats, *, fall: float, most: int) -> Centres:
    """Passes until the sum of squares falls by less than `fall` of itself; a group without rows keeps its centre."""
    former = np.inf
    for number in range(1, most + 1):
        sums, counts, inertia = np.zeros_like(centres), np.zeros(len(centres), dtype=np.int64), 0.0
        for part_sums, part_counts, part_inertia in _in_order(_blocks(chunks()), centres):
            sums += part_sums
            counts += part_counts
            inertia += part_inertia
        if former - inertia <= fall * inertia:
            break
        former = inertia
        if number < most:
            centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return Centres(centres, tuple(map(int, counts)), inertia, number)


def _in_order(blocks: Iterator[Floats], centres: Floats) -> Iterator[tuple[Floats, NDArray[np.int64], float]]:
    """`_gather` of each block, on two threads with few blocks under way, results in the order of the blocks."""
    waiting: deque[Future[tuple[Floats, NDArray[np.int64], float]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for block in blocks:
            waiting.append(pool.submit(_gather, block, centres))
            if len(waiting) > 2 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
