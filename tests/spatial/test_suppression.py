"""Suppression: what is hidden cannot be worked out from what is shown, by linear programming over all tables."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from geocrm import errors
from geocrm.spatial.suppression import Suppressed, suppress


def extended(counts: NDArray[np.int64], made: Suppressed) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A table with its totals, and what of it is hidden."""
    table = np.block([[counts, counts.sum(axis=1)[:, None]], [counts.sum(axis=0), counts.sum()]])
    hidden = np.block([[made.hidden, made.row_totals[:, None]], [made.column_totals, np.array(made.total)]])
    return table, hidden


def ranges(table: NDArray[np.int64], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each hidden count how far apart the smallest and largest value are that agree with all that is shown."""
    rows, columns = table.shape
    size = rows * columns
    equal = np.zeros((rows + columns, size))
    sign = np.ones((rows, columns))
    for i in range(rows):
        equal[i, i * columns : i * columns + columns - 1] = 1
        equal[i, i * columns + columns - 1] = -1
    for j in range(columns):
        equal[rows + j, j : (rows - 1) * columns : columns] = 1
        equal[rows + j, (rows - 1) * columns + j] = -1
    assert not (equal @ (table * sign).ravel()).any()
    bounds = [(0, None) if h else (v, v) for v, h in zip(table.ravel(), hidden.ravel(), strict=True)]
    widths = []
    for at in np.flatnonzero(hidden.ravel()):
        aim = np.zeros(size)
        aim[at] = 1
        ends = [optimize.linprog(s * aim, A_eq=equal, b_eq=np.zeros(rows + columns), bounds=bounds) for s in (1, -1)]
        low, high = (s * end.fun if end.status == 0 else np.inf for s, end in zip((1, -1), ends, strict=True))
        widths.append(high - low)
    return np.array(widths)


@pytest.mark.parametrize("seed", range(12))
def test_hidden_counts_of_tables_stay_hidden(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 7, 2)
    counts = rng.poisson(rng.gamma(0.7, 25, shape)) * (rng.random(shape) < 0.85)
    made = suppress(counts)
    table, hidden = extended(counts, made)
    assert hidden[(table > 0) & (table < 10)].all()
    assert not hidden[table == 0].any()
    widths = ranges(table, hidden)
    assert (widths >= 1 - 1e-6).all()
    for line, held in [*zip(table, hidden, strict=True), *zip(table.T, hidden.T, strict=True)]:
        if held[:-1].any() and not held[-1]:
            assert line[:-1][held[:-1]].sum() >= 10


@pytest.mark.parametrize("seed", range(12))
def test_hidden_counts_of_lists_stay_hidden(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(0.7, 25, rng.integers(1, 30)))
    made = suppress(counts, k=12)
    assert made.hidden[(counts > 0) & (counts < 12)].all()
    assert not made.hidden[counts == 0].any()
    if made.hidden.any() and not made.total:
        assert made.hidden.sum() >= 2
        assert counts[made.hidden].sum() >= 12
    assert made.total or not 0 < counts.sum() < 12


def test_the_second_smallest_goes_too() -> None:
    """One small group among large ones would be the total less the others."""
    assert suppress([3, 40, 25, 60]).hidden.tolist() == [True, False, True, False]
    assert suppress([3, 4, 25, 60]).hidden.tolist() == [True, True, True, False]  # 3 + 4 would be a group of 7
    table = suppress([[3, 40, 50], [30, 20, 60], [70, 80, 15]])
    assert table.hidden.sum() == 4
    assert table.hidden[0, 0]
    assert not np.any([*table.row_totals, *table.column_totals, table.total])


def test_what_needs_no_hiding_is_shown() -> None:
    assert not suppress([10, 40, 0]).hidden.any()
    made = suppress([[10, 0], [12, 30]])
    assert not np.any([*made.hidden.ravel(), *made.row_totals, *made.column_totals, made.total])
    assert not suppress([]).hidden.any()


def test_a_small_company_has_nothing_to_publish() -> None:
    made = suppress([5])
    assert (made.hidden.tolist(), made.total) == ([True], True)
    table = suppress([[2, 0], [0, 3]])
    assert table.hidden.tolist() == [[True, False], [False, True]]
    assert table.row_totals.all()
    assert table.column_totals.all()
    assert table.total


def test_a_large_table_with_many_small_groups() -> None:
    counts = np.random.default_rng(1).poisson(30, (400, 12))
    counts[::7, 3] = 4
    made = suppress(counts)
    assert made.hidden[::7, 3].all()
    assert 0.02 < made.hidden.mean() < 0.05


@pytest.mark.parametrize("counts", [[1.5], [-1], [np.nan], [[[1]]]])
def test_what_is_no_count_is_refused(counts: list[object]) -> None:
    with pytest.raises(errors.Invalid):
        suppress(counts)
