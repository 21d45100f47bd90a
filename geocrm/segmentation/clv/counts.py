"""Customers collapsed to what the models need: unique (frequency, recency, T), and how many customers have each.

A likelihood over customers is the same as one over the unique rows, weighted: of a million customers observed by the
week some tens of thousands of rows are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geocrm.errors import Invalid, TooLittleData

DAYS_A_WEEK = 7.0
ROWS = 16_384
SLACK_WEEKS = 1e-9
"""Recency may exceed T by this much: both are quotients of floating point."""


@dataclass(frozen=True)
class Counts:
    """Unique histories and their numbers.

    Attributes:
        frequency: repeat purchases (purchases after the first), int64 (k,).
        recency_weeks: weeks from the first to the last purchase, float64 (k,); 0 where there is no repeat purchase.
        t_weeks: weeks from the first purchase to the cutoff, float64 (k,).
        weights: customers with this history, int64 (k,).
        row: for each row given to `collapse`, the index of its history, int64 (n,): `result[counts.row]` takes a result
            per history back to the customers.
    """

    frequency: NDArray[np.int64]
    recency_weeks: NDArray[np.float64]
    t_weeks: NDArray[np.float64]
    weights: NDArray[np.int64]
    row: NDArray[np.int64]

    @property
    def customers(self) -> int:
        """How many customers these are."""
        return int(self.weights.sum())


@dataclass(frozen=True)
class Histories:
    """One row a customer, all of shape (n,), ordered by customer.

    Attributes:
        customer_id: as given.
        frequency: days with purchases after the first such day, int64.
        recency_weeks, t_weeks: as in `Counts`.
        mean_value: mean of the days' sums of money over the repeat days, float64; NaN without a repeat purchase or
            where no amounts were given.
    """

    customer_id: NDArray
    frequency: NDArray[np.int64]
    recency_weeks: NDArray[np.float64]
    t_weeks: NDArray[np.float64]
    mean_value: NDArray[np.float64]


def _column(name: str, given: ArrayLike) -> NDArray:
    """As int64 where it is of a kind of whole numbers, else as float64."""
    column = np.asarray(given)
    column = column.astype(np.int64 if column.dtype.kind in "biu" else np.float64, copy=False)
    if column.ndim != 1:
        raise Invalid(f"{name} has the shape {column.shape}: give one number a customer.")
    if not len(column):
        return column
    low, high = column.min(), column.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        wrong = int(np.argmin(np.isfinite(column)))
        raise Invalid(f"{name} is not a number in row {wrong}: leave out customers without a purchase.")
    if low < 0:
        raise Invalid(f"{name} is negative in row {int(np.argmin(column))}: leave out purchases after the cutoff.")
    return column


def _blocks(number: int) -> Iterator[slice]:
    """Slices of so many rows that what is made of them stays in the processor's cache."""
    for first in range(0, number, ROWS):
        yield slice(first, first + ROWS)


def check_histories(
    frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The three columns as arrays of shape (n,), or `Invalid` with the first row that cannot be.

    Raises:
        Invalid: shapes that differ, NaN, infinite or negative numbers, frequencies that are not whole, recency beyond
            T, recency without a repeat purchase.
    """
    x, recency, t = (
        _column("frequency", frequency),
        _column("recency_weeks", recency_weeks).astype(np.float64, copy=False),
        _column("t_weeks", t_weeks).astype(np.float64, copy=False),
    )
    if not len(x) == len(recency) == len(t):
        raise Invalid(f"{len(x)} frequencies, {len(recency)} recencies, {len(t)} times: give one of each a customer.")
    if any(wrong.any() for rows in _blocks(len(x)) for wrong, _ in _faults(x[rows], recency[rows], t[rows])):
        for wrong, what in _faults(x, recency, t):
            if wrong.any():
                raise Invalid(f"In row {int(np.argmax(wrong))} {what}.")
    return x.astype(np.int64, copy=False), np.minimum(recency, t), t


def _faults(x: NDArray, recency: NDArray, t: NDArray) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """What no history can be: which rows are so, and what is wrong with them."""
    if x.dtype.kind == "f":
        yield x != np.rint(x), "frequency is not a whole number"
    yield recency > t + SLACK_WEEKS, "recency_weeks is greater than t_weeks (is it the time since the last purchase?)"
    yield (x == 0) & (recency > 0), "recency_weeks is not 0 although there is no repeat purchase"


def collapse(
    frequency: ArrayLike, recency_weeks: ArrayLike, t_weeks: ArrayLike, weights: ArrayLike | None = None
) -> Counts:
    """Unique (frequency, recency, T) with the number of customers of each, ordered by them.

    Args:
        frequency, recency_weeks, t_weeks: one number a customer, (n,); see `Counts`.
        weights: customers each row stands for, whole numbers (n,), where rows were counted before (by the database,
            or chunk by chunk); 1 otherwise.

    Raises:
        Invalid: see `check_histories`; weights that are not whole or under 1.
        TooLittleData: no row.
    """
    x, recency, t = check_histories(frequency, recency_weeks, t_weeks)
    if not len(x):
        raise TooLittleData("There is no customer with a purchase: expected purchases need sales before the cutoff.")
    number = None
    if weights is not None:
        number = _column("weights", weights)
        if len(number) != len(x) or (number != np.rint(number)).any() or number.min() < 1:
            raise Invalid("Weights are numbers of customers: one whole number of at least 1 for each row.")
    columns = [_ranked(column) for column in (x, recency, t)]
    code = np.empty(len(x), dtype=np.int64)
    for rows in _blocks(len(x)):
        part = code[rows]
        part[:] = 0
        for value, rank, unique in columns:
            part *= len(unique)
            part += rank[value[rows]]
    value, rank, unique_code = _ranked(code)
    row = rank[value]
    counted = np.bincount(row, weights=number, minlength=len(unique_code))
    values = [unique for _, _, unique in columns]
    rest, t_code = np.divmod(unique_code, len(values[2]))
    x_code, recency_code = np.divmod(rest, len(values[1]))
    return Counts(
        frequency=values[0][x_code],
        recency_weeks=values[1][recency_code],
        t_weeks=values[2][t_code],
        weights=counted.astype(np.int64),
        row=row,
    )


def _ranked(column: NDArray) -> tuple[NDArray[np.integer], NDArray[np.int64], NDArray]:
    """A number for each row, the rank of each number among the unique values, and these in order; without sorting all.

    Whole days, as purchases and weeks mostly are, are their own numbers; other values are hashed.
    """
    whole = column.dtype.kind == "i"
    if column.max() * (1 if whole else DAYS_A_WEEK) < 4 * len(column) + 1000:
        number = column if whole else _days(column)
        if number is not None:
            there = np.zeros(int(number.max()) + 1, dtype=bool)
            there[number] = True
            unique = np.flatnonzero(there)
            return number, np.cumsum(there) - 1, unique if whole else unique / DAYS_A_WEEK
    number, unique = pd.factorize(column)
    order = np.argsort(unique)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return number, rank, unique[order]


def _days(weeks: NDArray[np.float64]) -> NDArray[np.int32] | None:
    """As whole numbers of days, None where some are not."""
    days = np.empty(len(weeks), dtype=np.int32)
    for rows in _blocks(len(weeks)):
        whole = np.rint(weeks[rows] * DAYS_A_WEEK)
        if not np.array_equal(whole / DAYS_A_WEEK, weeks[rows]):
            return None
        days[rows] = whole
    return days


def thinned(counts: Counts, histories: int = 4000) -> Counts:
    """Every so-manieth history, so that about `histories` are left: for a first idea of a likelihood."""
    every = slice(None, None, max(1, len(counts.weights) // histories))
    return Counts(
        counts.frequency[every],
        counts.recency_weeks[every],
        counts.t_weeks[every],
        counts.weights[every],
        counts.row[:0],
    )


def summarise(
    customer_id: ArrayLike,
    bought_at: ArrayLike,
    amount: ArrayLike | None = None,
    *,
    end: np.datetime64 | str | None = None,
) -> Histories:
    """Histories from single purchases: for notebooks and tests; in the product the database does this.

    Purchases of one day are one purchase, their amounts added, as Fader and Hardie do (and the package lifetimes).

    Args:
        customer_id: who bought, (m,); anything that can be sorted.
        bought_at: when, datetime64 or what numpy makes of it, (m,).
        amount: what for, in money, (m,).
        end: the cutoff day, included; purchases after it are left out. The last day of a purchase if not given.

    Raises:
        Invalid: shapes that differ, times that are missing, amounts that are not numbers.
        TooLittleData: no purchase up to the cutoff.
    """
    who = np.asarray(customer_id)
    day = np.asarray(bought_at, dtype="datetime64[D]")
    money = np.full(len(who), np.nan) if amount is None else np.asarray(amount, dtype=np.float64)
    if not (who.ndim == 1 and who.shape == day.shape == money.shape):
        raise Invalid(f"{who.shape} customers, {day.shape} times, {money.shape} amounts: give one of each a purchase.")
    if np.isnat(day).any():
        raise Invalid(f"Purchase {int(np.argmax(np.isnat(day)))} has no time.")
    if amount is not None and not np.isfinite(money).all():
        raise Invalid(f"The amount of purchase {int(np.argmin(np.isfinite(money)))} is not a number.")
    if len(day):
        last = day.max() if end is None else np.datetime64(end, "D")
        who, day, money = (column[day <= last] for column in (who, day, money))
    if not len(day):
        raise TooLittleData("There is no purchase up to the cutoff.")
    customers, code = np.unique(who, return_inverse=True)
    number = day.astype(np.int64)
    key = code * (int(number.max() - number.min()) + 1) + (number - number.min())
    _, at, inverse = np.unique(key, return_index=True, return_inverse=True)
    owner, number = code[at], number[at]
    spent = np.bincount(inverse, weights=money)
    first = np.flatnonzero(np.diff(owner, prepend=-1))  # purchases are ordered by customer and day
    bought = np.diff(first, append=len(owner))
    total = np.add.reduceat(spent, first)
    repeat = bought - 1
    mean = np.full(len(customers), np.nan)
    np.divide(total - spent[first], repeat, out=mean, where=repeat > 0)
    return Histories(
        customer_id=customers,
        frequency=repeat.astype(np.int64),
        recency_weeks=(number[first + repeat] - number[first]) / DAYS_A_WEEK,
        t_weeks=(last.astype(np.int64) - number[first]) / DAYS_A_WEEK,
        mean_value=mean,
    )
