"""Sufficient statistics of each customer's sales: arrays in, arrays out.

Whole numbers throughout: amounts in ten-thousandths, moments in microseconds and days from 2000-01-01 UTC on, so that
sums depend neither on the order of the sales nor on how they are split, as long as those of a customer stay together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geocrm.errors import Invalid

SALE: Final = np.dtype(
    [
        ("customer", np.int64),
        ("at", np.int64),  # microseconds
        ("amount", np.int64),  # ten-thousandths, as cost and discount are
        ("cost", np.int64),  # 0 where it is not known
        ("discount", np.int64),
        ("channel", np.int32),  # place among those told apart, from 1; 0 for any other, and for none
        ("returned", np.bool_),
        ("costed", np.bool_),  # whether the cost is known
    ]
)
LINE: Final = np.dtype(
    [("customer", np.int64), ("sale", np.int64), ("amount", np.int64), ("category", np.int64)]  # category as channel
)
"""A line of an order: not of a return, nor of a sale at the cutoff or later."""
NO_DAY: Final = np.iinfo(np.int32).min
"""First and last day of who never ordered."""
_DAY: Final = 86_400_000_000
_MOST: Final = 2**63
_TOO_MUCH: Final = "sum to more than 922 trillion."

Columns = dict[str, NDArray[Any]]
"""Statistics by name, customers ascending: what `summarise` answers."""

COUNTS: Final = (
    *("orders", "returns", "orders_90", "orders_365", "returns_365", "orders_year_before", "costed", "costed_365"),
    *("purchase_days", "lined_orders", "lines"),
)
"""int32 (customers,): sales and returns in all and of the last 90 and 365 days and the 365 before these, sales whose
cost is known, days with an order, orders with lines and their lines."""
AMOUNTS: Final = (
    *("amount_e4", "amount_90_e4", "amount_365_e4", "amount_year_before_e4", "order_amount_e4", "discount_e4"),
    *("margin_e4", "margin_365_e4", "first_day_amount_e4"),
)
"""int64 (customers,): of orders and returns; `order_amount_e4` and `discount_e4` of orders alone, the last of those of
the first day; margins are amount less cost where the cost is known."""
DAYS: Final = ("first_day", "last_day")
"""int32 (customers,): of orders, in UTC; NO_DAY for who never ordered."""
GROUPED: Final[dict[str, type[np.signedinteger[Any]]]] = {"channel_orders": np.int32, "category_amounts_e4": np.int64}
"""(customers, channels) and (customers, categories)."""
LAYOUT: Final[dict[str, type[np.signedinteger[Any]]]] = {
    **dict.fromkeys(COUNTS, np.int32),
    **dict.fromkeys(DAYS, np.int32),
    "gap_squares": np.int64,  # sum over neighbouring purchase days of (days between)²
    **dict.fromkeys(AMOUNTS, np.int64),
    **GROUPED,
}
"""All of them but `customer_id` (int64)."""


@dataclass(frozen=True)
class Windows:
    """The moments, in microseconds, from which on a sale is of the last 90, 365 and 730 days."""

    from_90: int
    from_365: int
    from_730: int


def summarise(
    sales: NDArray[np.void], lines: NDArray[np.void], windows: Windows, *, channels: int, categories: int
) -> Columns:
    """The statistics of the customers of `sales` (dtype SALE, shape (n,), any order), by id; `lines` (dtype LINE) are
    those of their orders. `channels` and `categories` are how many are told apart.

    Columns are customer_id and those of LAYOUT. Raises `errors.Invalid` where the amounts of a customer sum to more
    than eight bytes hold.
    """
    customer, day, order = _by_customer_and_day(sales["customer"], sales["at"] // _DAY)
    rows = sales[order]
    begins = _begins(customer)
    first = np.flatnonzero(begins)
    ids = customer[first]
    longest = int(np.diff(first, append=len(rows)).max(initial=0))

    def count(chosen: NDArray[np.bool_]) -> NDArray[np.int32]:
        return np.add.reduceat(chosen, first, dtype=np.int32) if len(first) else np.zeros(0, np.int32)

    def total(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return _sums(values, first, longest, ids)

    at, amount = rows["at"], np.ascontiguousarray(rows["amount"])
    costed = np.ascontiguousarray(rows["costed"])
    ordered = ~rows["returned"]
    late = at >= windows.from_365
    last_90 = at >= windows.from_90
    year_before = (at >= windows.from_730) & ~late
    margin = (amount - rows["cost"]) * costed
    orders, orders_365 = count(ordered), count(ordered & late)
    sold, sold_365 = np.diff(first, append=len(rows)).astype(np.int32), count(late)
    made: Columns = {
        "customer_id": ids,
        "orders": orders,
        "returns": sold - orders,
        "orders_90": count(ordered & last_90),
        "orders_365": orders_365,
        "returns_365": sold_365 - orders_365,
        "orders_year_before": count(ordered & year_before),
        "amount_e4": total(amount),
        "amount_90_e4": total(amount * last_90),
        "amount_365_e4": total(amount * late),
        "amount_year_before_e4": total(amount * year_before),
        "order_amount_e4": total(amount * ordered),
        "discount_e4": total(rows["discount"] * ordered),
        "margin_e4": total(margin),
        "margin_365_e4": total(margin * late),
        "costed": count(costed),
        "costed_365": count(costed & late),
    }
    place = np.cumsum(begins) - 1  # of each sale's customer among the customers
    made |= _rhythm(place[ordered], day[ordered], amount[ordered], len(ids), longest, ids)
    made["channel_orders"] = _by_channel(place, rows["channel"], ordered, len(ids), channels)
    return made | _of_lines(ids, lines, categories)


def put_together(early: Columns, late: Columns) -> Columns:
    """Statistics of `early` and of later sales as one. Both have a column `whole` (bool): what is whole in `late` is
    of all sales of its customer, and takes the place of what stood; the rest is added to it, and has no sale before
    the last order that stood. Raises `errors.Invalid` where amounts sum to more than eight bytes hold."""
    ids, others = early["customer_id"], late["customer_id"]
    at = np.searchsorted(ids, others)
    known = at < len(ids)
    known[known] = ids[at[known]] == others[known]
    made = {
        name: values.copy() if known.all() else np.insert(values, at[~known], late[name][~known], axis=0)
        for name, values in early.items()
    }
    if known.any():
        place = np.searchsorted(made["customer_id"], others[known])
        before = {name: values[place] for name, values in made.items()}
        after = {name: values[known] for name, values in late.items()}
        instead = after["whole"]
        for name, joined in _joined(before, after).items():
            made[name][place] = np.where(instead if joined.ndim == 1 else instead[:, None], after[name], joined)
        made["whole"][place] = before["whole"] | instead
    return made


def _joined(a: Columns, b: Columns) -> Columns:
    """Sums of two parts of the same customers' sales, those of `b` not before the last order of `a`."""
    made = {name: a[name] + b[name] for name in (*COUNTS, *AMOUNTS, *GROUPED, "gap_squares")}
    for name in (*AMOUNTS, "category_amounts_e4"):
        over = np.abs(a[name].astype(np.float64) + b[name]) > 0.999 * _MOST
        if over.any():
            raise Invalid(f"The amounts of customer {a['customer_id'][np.nonzero(over)[0][0]]} {_TOO_MUCH}")
    none_before, none_after = a["first_day"] == NO_DAY, b["first_day"] == NO_DAY
    gap = np.where(none_before | none_after, 0, b["first_day"].astype(np.int64) - a["last_day"])
    made["first_day"] = np.where(none_before, b["first_day"], a["first_day"])
    made["last_day"] = np.where(none_after, a["last_day"], b["last_day"])
    made["purchase_days"] -= (~none_before & (b["first_day"] == a["last_day"])).astype(np.int32)
    made["gap_squares"] += gap * gap
    on_first = none_before | (a["first_day"] == b["first_day"])
    made["first_day_amount_e4"] = a["first_day_amount_e4"] + np.where(on_first, b["first_day_amount_e4"], 0)
    return made


def nothing(customers: NDArray[np.int64], *, channels: int, categories: int) -> Columns:
    """The statistics of customers without a sale, ids ascending."""
    width = {"channel_orders": (channels,), "category_amounts_e4": (categories,)}
    made: Columns = {"customer_id": customers}
    for name, dtype in LAYOUT.items():
        made[name] = np.full((len(customers), *width.get(name, ())), NO_DAY if name in DAYS else 0, dtype)
    return made


def _by_customer_and_day(
    customer: NDArray[np.int64], day: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Customers and days in ascending order, and the order: packed into one number each, where that has room."""
    if not len(customer):
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    lowest, earliest = int(customer.min()), int(day.min())
    bits_of_row = (len(customer) - 1).bit_length()
    bits_of_day = (int(day.max()) - earliest).bit_length()
    if (int(customer.max()) - lowest).bit_length() + bits_of_day + bits_of_row > 63:
        order = np.lexsort((day, customer))
        return customer[order], day[order], order
    key = (customer - lowest) << bits_of_day
    key |= day - earliest
    key <<= bits_of_row
    key |= np.arange(len(key))
    key.sort()
    order = key & ((1 << bits_of_row) - 1)
    key >>= bits_of_row
    return (key >> bits_of_day) + lowest, (key & ((1 << bits_of_day) - 1)) + earliest, order


def _begins(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where a value differs from the one before it."""
    begins = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def _sums(
    values: NDArray[np.int64], first: NDArray[np.int64], longest: int, ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sums of the groups that begin at `first`, none longer than `longest`."""
    if not len(first):
        return np.zeros(0, np.int64)
    if max(int(values.max()), -int(values.min())) * longest >= _MOST:
        near = np.add.reduceat(np.abs(values.astype(np.float64)), first)
        if (over := np.flatnonzero(near > 0.999 * _MOST)).size:
            raise Invalid(f"The amounts of customer {ids[over[0]]} {_TOO_MUCH}")
    return np.add.reduceat(values, first)


def _rhythm(
    place: NDArray[np.int64],
    day: NDArray[np.int64],
    amount: NDArray[np.int64],
    customers: int,
    longest: int,
    ids: NDArray[np.int64],
) -> Columns:
    """What goes by the days of orders, given by customer and day."""
    made: Columns = {
        "first_day": np.full(customers, NO_DAY, np.int32),
        "last_day": np.full(customers, NO_DAY, np.int32),
        "purchase_days": np.zeros(customers, np.int32),
        "gap_squares": np.zeros(customers, np.int64),
        "first_day_amount_e4": np.zeros(customers, np.int64),
    }
    begins = _begins(place)
    first = np.flatnonzero(begins)
    if not len(first):
        return made
    last = np.append(first[1:], len(place)) - 1
    who = place[first]
    gap = np.diff(day, prepend=0)
    gap[first] = 0
    first_day = day[first]
    made["first_day"][who] = first_day
    made["last_day"][who] = day[last]
    made["purchase_days"][who] = np.add.reduceat(begins | (gap > 0), first, dtype=np.int32)
    made["gap_squares"][who] = np.add.reduceat(gap * gap, first)
    on_first = day == np.repeat(first_day, last - first + 1)
    made["first_day_amount_e4"][who] = _sums(amount * on_first, first, longest, ids[who])
    return made


def _by_channel(
    place: NDArray[np.int64],
    channel: NDArray[np.int32],
    ordered: NDArray[np.bool_],
    customers: int,
    channels: int,
) -> NDArray[np.int32]:
    """Orders of each customer by channel, shape (customers, channels)."""
    cell = place * (channels + 1)
    cell += channel
    count = np.bincount(cell[ordered], minlength=customers * (channels + 1))
    return np.ascontiguousarray(count.reshape(customers, channels + 1)[:, 1:], dtype=np.int32)


def _of_lines(ids: NDArray[np.int64], lines: NDArray[np.void], categories: int) -> Columns:
    """What lines of orders tell of customers, ids ascending; lines of others are left out."""
    amounts = np.zeros((len(ids), categories + 1), np.int64)
    made: Columns = {
        "lined_orders": np.zeros(len(ids), np.int32),
        "lines": np.zeros(len(ids), np.int32),
        "category_amounts_e4": amounts[:, 1:],
    }
    if not len(lines) or not len(ids):
        return made
    who = np.minimum(np.searchsorted(ids, lines["customer"]), len(ids) - 1)
    of_them = ids[who] == lines["customer"]
    who, lines = who[of_them], lines[of_them]
    if not len(lines):
        return made
    cell = who * (categories + 1) + lines["category"]
    order = np.argsort(cell, kind="stable")
    first = np.flatnonzero(_begins(cell[order]))
    longest = int(np.diff(first, append=len(order)).max())
    found = cell[order][first]
    amounts.reshape(-1)[found] = _sums(lines["amount"][order], first, longest, ids[found // (categories + 1)])
    order = np.lexsort((lines["sale"], who))
    new = _begins(who[order]) | _begins(lines["sale"][order])
    made["lined_orders"] = np.bincount(who[order][new], minlength=len(ids)).astype(np.int32)
    made["lines"] = np.bincount(who, minlength=len(ids)).astype(np.int32)
    return made
