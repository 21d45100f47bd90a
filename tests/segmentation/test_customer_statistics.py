"""Statistics in blocks: numbers come back as they were packed, generations read as one, few of them are kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.segmentation import customer_statistics
from geocrm.segmentation.sales_statistics import LAYOUT, Columns, nothing

WIDTHS = {"channels": 2, "categories": 1}


@given(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9), max_size=4))
def test_numbers_come_back_as_they_were(columns: list[list[int]]) -> None:
    packed = customer_statistics.pack([np.array(values, np.int64) for values in columns])
    found = customer_statistics.unpack(packed, [len(values) for values in columns])
    assert [values.tolist() for values in found] == columns


def test_each_column_takes_the_fewest_bytes_that_hold_it() -> None:
    sizes = {127: 1, -128: 1, 128: 2, -32_769: 4, 2**31: 8}
    for number, size in sizes.items():
        assert len(customer_statistics.pack([np.array([number, 0], np.int64)])) == 1 + 2 * size


def bought(ids: list[int], orders: int, day: int) -> Columns:
    made = nothing(np.array(ids, np.int64), **WIDTHS)
    made["orders"][:] = made["purchase_days"][:] = orders
    made["first_day"][:] = made["last_day"][:] = day
    return made | {"whole": np.zeros(len(ids), np.bool_)}


@pytest.fixture
def cutoff(session: Session, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(customer_statistics, "IN_BLOCK", 3)
    base = bought(list(range(10, 30)), 1, 100)
    base["whole"][:] = True
    customer_statistics.write(session, 7, [base])
    return 7


def held(session: Session, cutoff_id: int, after: int = 0, upto: int = 2**62) -> dict[int, int]:
    found = customer_statistics.read(session, cutoff_id, after, upto, **WIDTHS)
    return dict(zip(found["customer_id"].tolist(), found["orders"].tolist(), strict=True))


def test_generations_read_as_one(session: Session, cutoff: int) -> None:
    assert held(session, cutoff, 12, 15) == {13: 1, 14: 1, 15: 1}
    fresh = bought([5, 12, 29, 31], 2, 101)
    fresh["whole"][1] = True
    customer_statistics.add(session, cutoff, fresh, **WIDTHS)
    assert held(session, cutoff) == dict.fromkeys(range(10, 30), 1) | {5: 2, 12: 2, 29: 3, 31: 2}
    gone = nothing(np.array([12]), **WIDTHS) | {"whole": np.ones(1, np.bool_)}
    customer_statistics.add(session, cutoff, gone, **WIDTHS)
    assert 12 not in held(session, cutoff)
    customer_statistics.add(session, cutoff, bought([12], 4, 102), **WIDTHS)
    found = customer_statistics.read(session, cutoff, 0, 99, **WIDTHS)
    assert {name: values.dtype for name, values in found.items()} == {
        "customer_id": np.int64,
        **{name: np.dtype(kind) for name, kind in LAYOUT.items()},
    }
    assert held(session, cutoff)[12] == 4
    customer_statistics.delete(session, cutoff)
    assert held(session, cutoff) == {}


def test_few_generations_are_kept(session: Session, cutoff: int) -> None:
    for number in range(40):
        customer_statistics.add(session, cutoff, bought([1_000 + number], 1, 101), **WIDTHS)
    assert customer_statistics.count_added(session, cutoff) == 40
    query = "SELECT count(DISTINCT generation) FROM customer_statistics WHERE cutoff_id = 7"
    assert session.scalar(text(query)) <= 7
    assert held(session, cutoff) == dict.fromkeys([*range(10, 30), *range(1_000, 1_040)], 1)


def test_customers_with_a_later_order_are_found(session: Session, cutoff: int) -> None:
    fresh = bought([5, 12, 20, 29, 31], 1, 99)
    fresh["first_day"][2] = 100  # on the last day, not before it
    fresh["first_day"][3] = customer_statistics.NO_DAY  # a return alone
    assert customer_statistics.of_earlier_sales(session, cutoff, fresh).tolist() == [12]


def test_a_part_that_cannot_be_made_leaves_nothing(session: Session) -> None:
    def parts() -> object:
        yield bought([1, 2], 1, 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), session.begin_nested():
        customer_statistics.write(session, 8, parts())  # type: ignore[arg-type]
    assert held(session, 8) == {}
