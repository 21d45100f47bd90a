"""Customers collapsed to what the models need: unique (frequency, recency, T), and how many customers have each.

A likelihood over customers is the same as one over the unique rows, weighted: of a million customers observed by the
week some tens of thousands of rows are left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from geocrm.errors import Invalid, TooLittleData

DAYS_A_WEEK = 7.0
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


def _column(name: str, given: ArrayLike) -> NDArray[np.float64]:
    column = np.asarray(given, dtype=np.float64)
    if column.ndim != 1:
        raise Invalid(f"{name} has the shape {column.shape}: give one number a customer.")
    if not np.isfinite(column).all():
        wrong = int(np.argmin(np.isfinite(column)))
        raise Invalid(f"{name} is not a number in row {wrong}: leave out customers without a purchase.")
    if len(column) and column.min() < 0:
        raise Invalid(f"{name} is negative in row {int(np.argmin(column))}: leave out purchases after the cutoff.")
    return column


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
        _column("recency_weeks", recency_weeks),
        _column("t_weeks", t_weeks),
    )
    if not len(x) == len(recency) == len(t):
        raise Invalid(f"{len(x)} frequencies, {len(recency)} recencies, {len(t)} times: give one of each a customer.")
    for wrong, what in (
        (x != np.rint(x), "frequency is not a whole number"),
        (recency > t + SLACK_WEEKS, "recency_weeks is greater than t_weeks (is it the time since the last purchase?)"),
        ((x == 0) & (recency > 0), "recency_weeks is not 0 although there is no repeat purchase"),
    ):
        if wrong.any():
            raise Invalid(f"In row {int(np.argmax(wrong))} {what}.")
    return x.astype(np.int64), np.minimum(recency, t), t


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
    code = np.zeros(len(x), dtype=np.int64)
    values: list[NDArray] = []
    for column in (x, recency, t):
        codes, unique = _ranks(column)
        code = code * len(unique) + codes
        values.append(unique)
    row, unique_code = _ranks(code)
    counted = np.bincount(row, weights=number, minlength=len(unique_code))
    rest, t_code = np.divmod(unique_code, len(values[2]))
    x_code, recency_code = np.divmod(rest, len(values[1]))
    return Counts(
        frequency=values[0][x_code],
        recency_weeks=values[1][recency_code],
        t_weeks=values[2][t_code],
        weights=counted.astype(np.int64),
        row=row,
    )


def _ranks(column: NDArray) -> tuple[NDArray[np.int64], NDArray]:
    """The rank of each number among the unique ones, and these in order; without sorting all of them.

    Numbers of whole days, as purchases and weeks mostly are, are looked up in a table; others are hashed.
    """
    whole = column.dtype.kind == "i"
    number = column if whole else np.rint(column * DAYS_A_WEEK)
    if number.max() < 4 * len(column) + 1000 and (whole or np.array_equal(number / DAYS_A_WEEK, column)):
        number = number.astype(np.int64)
        there = np.bincount(number) > 0
        unique = np.flatnonzero(there)
        return (np.cumsum(there) - 1)[number], unique if whole else unique / DAYS_A_WEEK
    codes, unique = pd.factorize(column)
    order = np.argsort(unique)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[codes], unique[order]


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
