"""Statistics of arrays of sales: equal to those summed one by one, in whatever order the sales come."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geocrm.errors import Invalid
from geocrm.segmentation.sales_statistics import LINE, NO_DAY, SALE, Windows, put_together, summarise

DAY = 86_400_000_000
WINDOWS = Windows(9_000 * DAY - 90 * DAY, 9_000 * DAY - 365 * DAY, 9_000 * DAY - 730 * DAY)


def one_by_one(sales: list[Any], lines: list[Any], channels: int, categories: int) -> dict[int, dict[str, Any]]:
    """The same in plain Python; a sale is (customer, at, amount, cost, discount, channel, returned, costed)."""
    made = {}
    for customer in sorted({sale[0] for sale in sales}):
        own = [sale for sale in sales if sale[0] == customer]
        orders = sorted((sale for sale in own if not sale[6]), key=lambda sale: sale[1])
        days = sorted({sale[1] // DAY for sale in orders})
        late = [sale for sale in own if sale[1] >= WINDOWS.from_365]
        before = [sale for sale in own if WINDOWS.from_730 <= sale[1] < WINDOWS.from_365]
        last_90 = [sale for sale in own if sale[1] >= WINDOWS.from_90]
        own_lines = [line for line in lines if line[0] == customer]
        made[customer] = {
            "customer_id": customer,
            "orders": len(orders),
            "returns": len(own) - len(orders),
            "orders_90": sum(not sale[6] for sale in last_90),
            "orders_365": sum(not sale[6] for sale in late),
            "returns_365": sum(sale[6] for sale in late),
            "orders_year_before": sum(not sale[6] for sale in before),
            "amount_e4": sum(sale[2] for sale in own),
            "amount_90_e4": sum(sale[2] for sale in last_90),
            "amount_365_e4": sum(sale[2] for sale in late),
            "amount_year_before_e4": sum(sale[2] for sale in before),
            "order_amount_e4": sum(sale[2] for sale in orders),
            "discount_e4": sum(sale[4] for sale in orders),
            "margin_e4": sum(sale[2] - sale[3] for sale in own if sale[7]),
            "margin_365_e4": sum(sale[2] - sale[3] for sale in late if sale[7]),
            "costed": sum(sale[7] for sale in own),
            "costed_365": sum(sale[7] for sale in late),
            "first_day": days[0] if days else NO_DAY,
            "last_day": days[-1] if days else NO_DAY,
            "purchase_days": len(days),
            "gap_squares": sum((b - a) ** 2 for a, b in pairwise(days)),
            "first_day_amount_e4": sum(sale[2] for sale in orders if sale[1] // DAY == days[0]),
            "channel_orders": [sum(sale[5] == i for sale in orders) for i in range(1, channels + 1)],
            "lined_orders": len({line[1] for line in own_lines}),
            "lines": len(own_lines),
            "category_amounts_e4": [
                sum(line[2] for line in own_lines if line[3] == i) for i in range(1, categories + 1)
            ],
        }
    return made


SALES = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, 70, 2**61]),  # ids so far apart that they find no room beside the days
        st.one_of(st.integers(8_990 * DAY, 9_000 * DAY - 1), st.integers(-400 * DAY, 9_000 * DAY - 1)),
        st.integers(-(10**17), 10**17),
        st.integers(-(10**17), 10**17),
        st.integers(0, 10**9),
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)
LINES = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4]), st.integers(1, 4), st.integers(-(10**9), 10**9), st.integers(0, 2)),
    max_size=20,
)


@given(SALES, LINES, st.randoms(use_true_random=False))
def test_sums_are_those_of_a_sum_one_by_one(sales: list[Any], lines: list[Any], random: Any) -> None:
    sales = [(*sale[:3], sale[3] if sale[7] else 0, *sale[4:]) for sale in sales]
    made = summarise(np.array(sales, SALE), np.array(lines, LINE), WINDOWS, channels=3, categories=2)
    expected = one_by_one(sales, lines, 3, 2)
    assert made["customer_id"].tolist() == list(expected)
    for row, customer in enumerate(expected):
        assert {name: values[row].tolist() for name, values in made.items()} == expected[customer]
    random.shuffle(sales)
    random.shuffle(lines)
    again = summarise(np.array(sales, SALE), np.array(lines, LINE), WINDOWS, channels=3, categories=2)
    for name, values in made.items():
        np.testing.assert_array_equal(again[name], values)


@given(SALES, st.integers(-400, 9_000))
def test_two_parts_put_together_are_the_whole(sales: list[Any], day: int) -> None:
    """Sales before a day and those from it on; customers of the second part alone, and of the first alone, too."""
    parts = [[sale for sale in sales if (sale[1] >= day * DAY) == late] for late in (False, True)]
    both = [
        summarise(np.array(part, SALE), np.zeros(0, LINE), WINDOWS, channels=3, categories=2)
        | {"whole": np.zeros(len({sale[0] for sale in part}), np.bool_)}
        for part in parts
    ]
    made = put_together(*both)
    expected = summarise(np.array(sales, SALE), np.zeros(0, LINE), WINDOWS, channels=3, categories=2)
    for name, values in expected.items():
        np.testing.assert_array_equal(made[name], values, err_msg=name)
    again = put_together(made, expected | {"whole": np.ones(len(expected["customer_id"]), np.bool_)})
    for name, values in expected.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


def test_a_sum_beyond_eight_bytes_is_refused() -> None:
    most = 10**18 - 1
    sales = np.array([(7, i, most, 0, 0, 0, False, False) for i in range(9)], SALE)
    lines = np.zeros(0, LINE)
    assert summarise(sales, lines, WINDOWS, channels=0, categories=0)["amount_e4"].tolist() == [9 * most]
    more = np.concatenate([sales, sales])
    with pytest.raises(Invalid, match="customer 7 sum to more than 922 trillion"):
        summarise(more, lines, WINDOWS, channels=0, categories=0)
    part = summarise(sales, lines, WINDOWS, channels=0, categories=0) | {"whole": np.zeros(1, np.bool_)}
    with pytest.raises(Invalid, match="customer 7 sum to more than 922 trillion"):
        put_together(part, part)
