"""The churn rate of the last year by region, from customers in chunks: opening, joined, left, closing.

The region is that of the address of the primary site.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.queries import named
from geocrm.segmentation import churn_rate
from geocrm.segmentation.as_json import number
from geocrm.segmentation.churn_rate import Book, Spells

NOWHERE: Final = "no region"
YEAR_DAYS: Final = 365


class Regions:
    """Books of the year before a cutoff, by region, gathered chunk by chunk in the worker's session."""

    def __init__(self, session: Session, cutoff: datetime, *, contract: bool) -> None:
        self._session = session
        self._end = pd.Timestamp(cutoff)
        self._start = pd.Timestamp(cutoff - timedelta(days=YEAR_DAYS))
        self._contract = contract
        self._books: dict[str, Book] = {}

    def add(self, frame: pd.DataFrame) -> None:
        """Customers, by id: with `since` and `ended` of contracts; else with `orders_365` and `orders_year_before`: a
        customer is who ordered in the 365 days before."""
        if not len(frame):
            return
        region = self._regions(frame.index.to_numpy())
        for book in self._of_contracts(frame, region) if self._contract else _of_orders(frame, region):
            known = self._books.get(book.region)
            self._books[book.region] = book if known is None else _sum(known, book)

    def rates(self) -> list[dict[str, Any]]:
        """A row for each region by name, and last all together; `average` is over the days of the year with contracts,
        else over its opening and closing. Empty where nobody was a customer."""
        if not self._books:
            return []
        books = tuple(self._books[name] for name in sorted(self._books))
        average: churn_rate.Average = "days" if self._contract else "ends"
        found = churn_rate.churn_rates(books, days=YEAR_DAYS, average=average)
        return [_row(one, total=number == len(books)) for number, one in enumerate(found)]

    def _regions(self, ids: NDArray[np.int64]) -> NDArray[np.object_]:
        bound = {"first": int(ids[0]), "last": int(ids[-1])}
        rows = self._session.execute(text(named("segmentation", "regions")), bound).all()
        held = pd.Series([row.region for row in rows], index=[row.customer_id for row in rows], dtype=object)
        made: NDArray[np.object_] = held.reindex(ids).fillna(NOWHERE).to_numpy(dtype=object)
        return made

    def _of_contracts(self, frame: pd.DataFrame, region: NDArray[np.object_]) -> tuple[Book, ...]:
        known = frame["since"].notna().to_numpy()
        began, ended = (frame[name][known].dt.tz_localize(None).to_numpy() for name in ("since", "ended"))
        spells = Spells(frame.index.to_numpy()[known], began, ended)
        start, end = (moment.tz_localize(None).to_numpy() for moment in (self._start, self._end))
        return churn_rate.count_year(spells, region[known], start=start, end=end) if known.any() else ()


def _of_orders(frame: pd.DataFrame, region: NDArray[np.object_]) -> tuple[Book, ...]:
    before, now = (frame[name].to_numpy() > 0 for name in ("orders_year_before", "orders_365"))
    names, at = np.unique(region[before | now].astype(str), return_inverse=True)

    def count(rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(at[rows[before | now]], minlength=len(names))

    opening, joined, left, closing = count(before), count(now & ~before), count(before & ~now), count(now)
    return tuple(
        Book(str(name), int(o), int(j), int(gone), int(gone), int(c), 0.0)
        for name, o, j, gone, c in zip(names, opening, joined, left, closing, strict=True)
    )


def _sum(one: Book, other: Book) -> Book:
    names = ("opening", "joined", "left", "left_of_opening", "closing", "customer_days")
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in names})


def _row(found: churn_rate.Churn, *, total: bool) -> dict[str, Any]:
    book = found.book
    shares = {
        "average": found.average, "rate": found.rate, "rate_low": found.rate_low, "rate_high": found.rate_high,
        "opening_share": found.opening_share, "opening_low": found.opening_low, "opening_high": found.opening_high,
    }  # fmt: skip
    return {
        "region": book.region, "total": total, "n": book.opening + book.joined, "opening": book.opening,
        "joined": book.joined, "left": book.left, "left_of_opening": book.left_of_opening, "closing": book.closing,
        **{name: number(value) for name, value in shares.items()},
        "distorted": found.distorted, "small": found.small, "sentence": found.sentence,
    }  # fmt: skip
