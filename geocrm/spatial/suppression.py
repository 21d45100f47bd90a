"""Published counts without groups of fewer than k people.

Pure. Hiding a small count is not enough where totals are published: what alone is hidden in a row is the total less the
rest. So other counts are hidden too, until no hidden one can be worked out from what is shown, and what is hidden of a
row or column with its total shown has at least k people together (complementary suppression). In a table with its
totals a hidden count is known exactly where, in the graph that joins rows with columns by their hidden counts, it is
the only way between its row and its column (Gusfield 1988, "A graph theoretic approach to statistical data security",
SIAM Journal on Computing 17, 552–571). Zero counts nobody and is shown.

What is published must stand on fixed cells or areas: two tables of areas that differ a little give away the difference.
Whom nothing is hidden from is for the caller to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geocrm import errors

SMALLEST_GROUP: Final = 10


@dataclass(frozen=True)
class Suppressed:
    """What to hide of counts of shape (n,) or (rows, columns): `hidden` of their shape; `total`, whether the total of
    all is hidden; `row_totals` (rows,) and `column_totals` (columns,), empty for a list."""

    hidden: NDArray[np.bool_]
    total: bool
    row_totals: NDArray[np.bool_]
    column_totals: NDArray[np.bool_]


def suppress(counts: ArrayLike, k: int = SMALLEST_GROUP) -> Suppressed:
    """Which counts, of a list (n,) or table (rows, columns) that is published with its totals, must not be shown.

    Raises errors.Invalid for what is no count."""
    given = np.asarray(counts, dtype=np.float64)
    if given.ndim not in (1, 2):
        raise errors.Invalid("Counts to publish are a list or a table of two dimensions.")
    if not ((given >= 0) & np.isfinite(given) & (given == np.floor(given))).all():
        raise errors.Invalid("Counts of people are whole numbers of at least 0.")
    if k < 1:
        raise errors.Invalid("The smallest group to show: expected at least 1.")
    if given.ndim == 1:
        return _list(given, k)
    table = np.zeros((given.shape[0] + 1, given.shape[1] + 1))
    table[:-1, :-1] = given
    table[:-1, -1] = given.sum(axis=1)
    table[-1] = table[:-1].sum(axis=0)
    hidden = (table > 0) & (table < k)
    while _widen(table, hidden, k):
        pass
    return Suppressed(hidden[:-1, :-1].copy(), bool(hidden[-1, -1]), hidden[:-1, -1].copy(), hidden[-1, :-1].copy())


def _list(counts: NDArray[np.float64], k: int) -> Suppressed:
    hidden = (counts > 0) & (counts < k)
    total = bool(0 < counts.sum() < k)
    for place in np.argsort(counts, kind="stable"):
        if not hidden.any() or (hidden.sum() > 1 and counts[hidden].sum() >= k):
            break
        hidden[place] |= counts[place] > 0
    if hidden.any() and (hidden.sum() < 2 or counts[hidden].sum() < k):
        total = True
    none = np.zeros(0, dtype=bool)
    return Suppressed(hidden, total, none, none)


def _widen(table: NDArray[np.float64], hidden: NDArray[np.bool_], k: int) -> bool:
    """Hide one more count in each row and column that gives something away; False where none does."""
    before = int(hidden.sum())
    for lines, mask in ((table, hidden), (table.T, hidden.T)):
        for line, held in zip(lines, mask, strict=True):
            if not held.any():
                continue
            union = line[:-1][held[:-1]].sum()
            if held.sum() == 1 or (not held[-1] and union < k):
                _hide_smallest(line, held)
    if int(hidden.sum()) == before:
        for row, column in _bridges(hidden):
            if not _hide_smallest(table[row], hidden[row]):
                _hide_smallest(table[:, column], hidden[:, column])
    return int(hidden.sum()) > before


def _hide_smallest(line: NDArray[np.float64], held: NDArray[np.bool_]) -> bool:
    """Hide the smallest count of a line that is shown and not 0, its total last."""
    shown = np.flatnonzero((line > 0) & ~held)
    if not len(shown):
        return False
    inner = shown[shown < len(line) - 1]
    held[inner[np.argmin(line[inner])] if len(inner) else shown[0]] = True
    return True


def _bridges(hidden: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The hidden counts that lie on no cycle of hidden counts, as (row, column): what is shown tells them."""
    rows = hidden.shape[0]
    edges = [(int(r), rows + int(c)) for r, c in zip(*np.nonzero(hidden), strict=True)]
    beside: dict[int, list[tuple[int, int]]] = {}
    for number, (a, b) in enumerate(edges):
        beside.setdefault(a, []).append((b, number))
        beside.setdefault(b, []).append((a, number))
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    found = []
    for root in beside:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        path = [(root, -1, iter(beside[root]))]
        while path:
            node, by, ahead = path[-1]
            step = next(ahead, None)
            if step is None:
                path.pop()
                if path:
                    parent = path[-1][0]
                    low[parent] = min(low[parent], low[node])
                    if low[node] > order[parent]:
                        found.append(edges[by])
                continue
            other, number = step
            if number == by:
                continue
            if other in order:
                low[node] = min(low[node], order[other])
            else:
                order[other] = low[other] = len(order)
                path.append((other, number, iter(beside[other])))
    return [(a, b - rows) for a, b in found]
