"""The churn rate of a year by region: customers who left ÷ average number of customers, and what can distort it.

Books that balance: opening + joined - left = closing. A customer who left and came back within the year is not lost,
one who came and left within it is. The share of the opening customers who left stands beside the rate: it is the one
that growth does not move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geocrm.errors import Invalid, TooLittleData
from geocrm.spatial.intervals import LEVEL, of_rate, of_share

ALL = "all regions"
DAY = np.timedelta64(1, "D")
GROWTH = 0.1
"""Opening and average number may differ by this share of the average before the rate is called distorted."""
SMALL = 30
"""Regions with fewer customers in the year are said to be small."""

Times = NDArray[np.datetime64]
Average = Literal["days", "ends"]


@dataclass(frozen=True)
class Spells:
    """Times somebody was a customer: customer (k,), began (k,), ended (k,; NaT: still a customer)."""

    customer: NDArray
    began: Times
    ended: Times


@dataclass(frozen=True)
class Book:
    """The customers of a region over a year [start, end).

    Attributes:
        opening, closing: customers just before its first moment, and just before its end.
        joined: who was a customer in the year and not at its opening.
        left: who was a customer in the year (or at its opening) and is not at its end; of them `left_of_opening` were
            there at the opening.
        customer_days: days all of them together were customers within the year.
    """

    region: str
    opening: int
    joined: int
    left: int
    left_of_opening: int
    closing: int
    customer_days: float


@dataclass(frozen=True)
class Churn:
    """The churn rate of a region in a year, with the share of the opening customers beside it.

    `rate` is left ÷ average, its interval exact for a Poisson count (Garwood 1936); it may exceed 1. `opening_share` is
    left_of_opening ÷ opening, its interval exact for a binomial one (Clopper and Pearson 1934). NaN: nobody to count.
    """

    book: Book
    average: float
    rate: float
    rate_low: float
    rate_high: float
    opening_share: float
    opening_low: float
    opening_high: float
    distorted: bool
    small: bool
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The rate in words."""
        if np.isnan(self.rate):
            return f"{self.book.region}: {'; '.join(self.notes)}."
        said = (
            f"{self.book.region}: {self.book.left:,} of {self.average:,.1f} customers on average left, "
            f"{self.rate:.1%} ({self.rate_low:.1%} to {self.rate_high:.1%})"
        )
        if self.book.opening:
            said += (
                f"; of the {self.book.opening:,} at the opening {self.opening_share:.1%} "
                f"({self.opening_low:.1%} to {self.opening_high:.1%})"
            )
        return ". ".join((said, *(note[0].upper() + note[1:] for note in self.notes))) + "."


def count_year(
    spells: Spells, region: ArrayLike, *, start: np.datetime64 | str, end: np.datetime64 | str
) -> tuple[Book, ...]:
    """The books of each region over [start, end), by name; a region is a customer's own, the same for all its spells.

    Raises Invalid for a year that ends before it starts, spells that end before they begin or overlap, and customers
    with two regions.
    """
    first, last = np.datetime64(start, "s"), np.datetime64(end, "s")
    if not first < last:
        raise Invalid(f"The year ends ({last}) before it starts ({first}).")
    where = np.asarray(region).astype(str)
    who, began = np.asarray(spells.customer), np.asarray(spells.began, dtype="datetime64[s]")
    ended = np.asarray(spells.ended, dtype="datetime64[s]")
    if not (who.ndim == 1 and who.shape == began.shape == ended.shape == where.shape):
        raise Invalid("Spells: give a customer, a begin, an end (or NaT) and a region for each.")
    if np.isnat(began).any():
        raise Invalid(f"Spell {int(np.argmax(np.isnat(began)))} has no begin.")
    if (wrong := ended < began).any():
        raise Invalid(f"Spell {int(np.argmax(wrong))} ends before it begins.")
    order = np.lexsort((began, who))
    who, began, ended, where = who[order], began[order], ended[order], where[order]
    again = np.zeros(len(who), dtype=bool)
    again[1:] = who[1:] == who[:-1]
    before = np.flatnonzero(again) - 1
    if (wrong := np.isnat(ended[before]) | (ended[before] > began[before + 1])).any():
        raise Invalid(f"Two spells of customer {who[before[np.argmax(wrong)]]} overlap.")
    if (wrong := where[before] != where[before + 1]).any():
        raise Invalid(f"Customer {who[before[np.argmax(wrong)]]} has two regions: give each customer one.")

    stayed = np.isnat(ended)
    at_start = (began < first) & (stayed | (ended >= first))
    at_end = (began < last) & (stayed | (ended >= last))
    within = (began < last) & (stayed | (ended >= first))
    until = np.where(stayed | (ended > last), last, ended)
    days = np.where(within, (until - np.maximum(began, first)) / DAY, 0.0)

    row = np.cumsum(~again) - 1
    customers = int((~again).sum())

    def any_of(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.bincount(row[flags], minlength=customers) > 0

    opening, closing, seen = any_of(at_start), any_of(at_end), any_of(within)
    spent = np.bincount(row, weights=days, minlength=customers)
    home = where[~again]
    books = []
    for name in sorted(set(home.tolist())):
        here = home == name
        books.append(
            Book(
                name,
                opening=int((opening & here).sum()),
                joined=int((seen & ~opening & here).sum()),
                left=int((seen & ~closing & here).sum()),
                left_of_opening=int((opening & ~closing & here).sum()),
                closing=int((closing & here).sum()),
                customer_days=float(spent[here].sum()),
            )
        )
    return tuple(books)


def churn_rates(
    books: tuple[Book, ...],
    *,
    days: float = 365.0,
    average: Average = "days",
    growth: float = GROWTH,
    small: int = SMALL,
    level: float = LEVEL,
) -> tuple[Churn, ...]:
    """The churn rates of the regions, in the order given, and last that of all together.

    Args:
        books: from `count_year`, or from counts of the database.
        days: length of the year.
        average: number of customers averaged over the days, or over opening and closing alone.
        growth: share of the average by which the opening may differ from it before a warning is given.
        small: customers in the year under which a region is said to be small.
        level: of the intervals, each by itself.

    Raises:
        TooLittleData: no region at all.
        Invalid: books that do not balance.
    """
    if not books:
        raise TooLittleData("A churn rate needs customers: there is none in these regions.")
    return tuple(_rate(book, days, average, growth, small, level) for book in (*books, _total(books)))


def _total(books: tuple[Book, ...]) -> Book:
    def of(name: str) -> int:
        return int(sum(getattr(book, name) for book in books))

    return Book(
        ALL,
        of("opening"),
        of("joined"),
        of("left"),
        of("left_of_opening"),
        of("closing"),
        float(sum(book.customer_days for book in books)),
    )


def _rate(book: Book, days: float, average: Average, growth: float, small: int, level: float) -> Churn:
    counts = (book.opening, book.joined, book.left, book.left_of_opening, book.closing)
    balanced = book.opening + book.joined - book.left == book.closing
    if min(counts) < 0 or not balanced or book.left_of_opening > min(book.opening, book.left):
        raise Invalid(
            f"The books of {book.region} do not balance: opening {book.opening} + joined {book.joined} - left "
            f"{book.left} (of the opening {book.left_of_opening}) is not closing {book.closing}."
        )
    mean = book.customer_days / days if average == "days" else (book.opening + book.closing) / 2
    low, high = of_rate(book.left, mean, level)
    share_low, share_high = of_share(book.left_of_opening, book.opening, level)
    known = mean > 0
    distorted = bool(known and abs(book.opening - mean) > growth * mean)
    there = book.opening + book.joined
    notes = tuple(_notes(book, mean, there, growth, distorted, small))
    return Churn(
        book,
        average=mean,
        rate=book.left / mean if known else np.nan,
        rate_low=float(low),
        rate_high=float(high),
        opening_share=book.left_of_opening / book.opening if book.opening else np.nan,
        opening_low=float(share_low) if book.opening else np.nan,
        opening_high=float(share_high) if book.opening else np.nan,
        distorted=distorted,
        small=there < small,
        notes=notes,
    )


def _notes(book: Book, mean: float, there: int, growth: float, distorted: bool, small: int) -> Iterator[str]:
    if not there:
        yield "no customers in this year, so there is no rate"
        return
    if mean == 0:
        yield f"nobody was a customer at either end of the year, {book.left:,} came and left within it: no rate"
    elif not book.opening:
        yield "all customers are new, so nothing can be said of those who were there at the opening"
    elif distorted:
        way = "grew" if book.opening < mean else "shrank"
        yield (
            f"the number of customers {way}: {book.opening:,} at the opening, {mean:,.1f} on average, more than "
            f"{growth:.0%} apart; compare by the share of the opening customers"
        )
    if there < small:
        yield f"only {there:,} customer{'s' if there > 1 else ''}: the intervals say how little that tells"
