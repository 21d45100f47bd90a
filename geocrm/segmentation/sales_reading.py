"""Sales from the database as arrays: read once, as they lie on the disk, and put apart by customers.

The database packs some thousand pages at a time into columns of bytes, in as many processes as it has for a statement,
which costs a third of sending rows; here they become arrays. Sales of the same customers then go into one bucket, in a
file where there are many, so that memory is that of a bucket.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from geocrm.db.queries import for_driver, named
from geocrm.segmentation.sales_statistics import LINE, SALE

SQL: Final = "features_statistics"
PAGES: Final = 1_024
"""Pages of a table that are packed at once: 8 MB."""
SIDE_BY_SIDE: Final = 160_000
"""Pages of tables up to which their parts are read side by side: 1.2 GB, of which as much is packed at most."""
IN_BUCKET: Final = 500_000
"""Sales in a bucket, about."""
_ON_A_PAGE: Final = 80
_SPLIT: Final = b"\xff"  # in no text of UTF-8, as FE is not
_NOT_KNOWN: Final = -9_000_000_000_000_000_000
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Since 2000, as PostgreSQL counts."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Sales:
    """Some of the sales: a table or query of them, which of them, and what units of currencies are worth."""

    source: str
    condition: str
    rates: Mapping[str, Decimal]

    def sql(self, condition: str = "") -> str:
        """The query of them; `condition` takes fewer."""
        amounts, rates = "s.amount, s.cost, s.discount", ""
        if self.rates:
            amounts = ", ".join(f"round(s.{name} * r.rate, 4) AS {name}" for name in ("amount", "cost", "discount"))
            amounts += ", r.rate"
            rates = (
                "LEFT JOIN unnest(CAST(:rate_names AS text[]), CAST(:rate_values AS numeric[])) AS r(currency, rate)"
                " ON r.currency = s.currency"
            )
        slots = {"source": self.source, "and": f"{self.condition} {condition}", "amounts": amounts, "rates": rates}
        return _fill(named(SQL, "sales"), slots)

    def packed_sales(self, condition: str = "") -> str:
        """The query that packs them."""
        return _fill(named(SQL, "packed_sales"), {"sales": self.sql(condition)})

    def packed_lines(self, condition: str = "") -> str:
        """The query that packs the lines of those that are orders."""
        amount = "round(l.amount * s.rate, 4)" if self.rates else "l.amount"
        return _fill(named(SQL, "packed_lines"), {"line_amount": amount, "and_lines": condition, "sales": self.sql()})

    def values(self) -> dict[str, Any]:
        """What the queries bind."""
        return {"rate_names": list(self.rates), "rate_values": list(self.rates.values())} if self.rates else {}


@dataclass
class Channels:
    """The channels met so far, each with a number from 1, and how many sales each has."""

    sales: dict[str, int] = field(default_factory=dict)
    _number: dict[str, int] = field(default_factory=dict)

    def most(self, limit: int) -> list[str]:
        """Those with most sales, by name."""
        return sorted(sorted(self.sales, key=lambda name: (-self.sales[name], name))[:limit])

    def slots(self, told_apart: Sequence[str]) -> NDArray[np.int32]:
        """By number of a channel its place among those told apart, from 1; 0 for others."""
        place = {name: number for number, name in enumerate(told_apart, 1)}
        return np.array([0, *(place.get(name, 0) for name in self.sales)], np.int32)

    def numbers(self, words: bytes) -> NDArray[np.int32]:
        """The numbers of channels as they come packed, 0 for none."""
        raw = words + _SPLIT
        ends = np.flatnonzero(np.frombuffer(raw, np.uint8) == _SPLIT[0]) + 1
        offsets = np.concatenate([[0], ends]).astype(np.int64)
        coded = pa.Array.from_buffers(
            pa.large_binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(raw)]
        ).dictionary_encode()
        indices = coded.indices.to_numpy()
        often = np.bincount(indices, minlength=len(coded.dictionary))
        mine = np.zeros(len(often), np.int32)
        for i, word in enumerate(coded.dictionary.to_pylist()):
            if word[:-1] == b"\xfe":
                continue
            name = word[:-1].decode()
            self.sales[name] = self.sales.get(name, 0) + int(often[i])
            mine[i] = self._number.setdefault(name, len(self._number) + 1)
        return mine[indices]


@dataclass(frozen=True)
class Products:
    """Products with a category, ids ascending, and the place of the category among those told apart, from 1; 0 for
    others."""

    ids: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, str]], categories: Sequence[str]) -> Products:
        """From ids and names of categories."""
        place = {name: number for number, name in enumerate(categories, 1)}
        found = [(number, place.get(name, 0)) for number, name in rows]
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return cls(pairs[:, 0], pairs[:, 1])

    def categories(self, products: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Places of the categories of products, 0 for none; and how many products have one that is not told apart."""
        if not len(self.ids):
            return np.zeros(len(products), np.int64), 0
        at = np.minimum(np.searchsorted(self.ids, products), len(self.ids) - 1)
        known = self.ids[at] == products
        places = np.where(known, self.places[at], 0)
        return places, int((known & (places == 0)).sum())


class Reading:
    """One pass over sales and their lines. Channels come as the numbers of `channels`; `strange_currencies` counts
    sales of currencies that were not expected, `strange_categories` lines of categories that are not told apart."""

    def __init__(self, connection: psycopg.Connection[Any], products: Products) -> None:
        self.channels = Channels()
        self.strange_currencies = 0
        self.strange_categories = 0
        self._connection = connection
        self._products = products

    def read(
        self, queries: Sequence[str], values: Mapping[str, Any]
    ) -> Iterator[tuple[NDArray[np.void], NDArray[np.void]]]:
        """Sales (dtype SALE) and lines (LINE) as they come, of one moment: of packing queries, each a part of them."""
        statement = for_driver(" UNION ALL ".join(queries))
        used = {name: value for name, value in values.items() if f"%({name})s" in statement}
        none = np.zeros(0, SALE), np.zeros(0, LINE)
        with self._connection.cursor(binary=True) as cursor:
            for kind, *columns, strange in cursor.stream(statement, used):
                self.strange_currencies += strange
                if columns[0] is None:
                    continue
                if kind == 1:
                    yield self._sales(*columns), none[1]
                else:
                    yield none[0], self._lines(*columns[:4])

    def _sales(
        self, customers: bytes, moments: bytes, words: bytes, amounts: bytes, costs: bytes, discounts: bytes
    ) -> NDArray[np.void]:
        customer = np.frombuffer(customers, ">i8").astype(np.int64)
        made = np.empty(len(customer), SALE)
        made["customer"] = np.abs(customer)
        made["returned"] = customer < 0
        made["at"] = np.frombuffer(moments, ">i8")
        made["channel"] = self.channels.numbers(words)
        made["amount"], made["discount"] = _amounts(amounts), _amounts(discounts)
        cost = _amounts(costs)
        known = cost != _NOT_KNOWN
        made["cost"], made["costed"] = cost * known, known
        return made

    def _lines(self, customers: bytes, sales: bytes, products: bytes, amounts: bytes) -> NDArray[np.void]:
        customer = np.frombuffer(customers, ">i8")
        made = np.empty(len(customer), LINE)
        made["customer"] = customer
        made["sale"] = np.frombuffer(sales, ">i8")
        made["category"], strange = self._products.categories(np.frombuffer(products, ">i8").astype(np.int64))
        self.strange_categories += strange
        made["amount"] = _amounts(amounts)
        return made


def _amounts(text: bytes) -> NDArray[np.int64]:
    """Amounts with four decimals, or none, as they come packed, in ten-thousandths."""
    raw = text.translate(None, b".") + b","
    ends = np.flatnonzero(np.frombuffer(raw, np.uint8) == ord(","))
    # without the commas each number begins where the one before it ended
    offsets = np.concatenate([[0], ends - np.arange(len(ends))])
    numbers = pa.LargeStringArray.from_buffers(
        len(ends), pa.py_buffer(offsets), pa.py_buffer(raw.translate(None, b","))
    )
    return pc.cast(numbers, pa.int64()).to_numpy()


def whole_tables(sales: Sales, pages: Mapping[str, int]) -> tuple[list[str], dict[str, Any]]:
    """Queries that pack all sales and lines before the cutoff, `PAGES` of the `pages` of a table at a time, the last
    open at its end; and what they bind.

    Each of them is a part that a process of its own can do, which keeps what it packed until the statement ends; so
    large tables are one query each, that goes through its parts one after the other in the memory of one."""
    queries: list[str] = []
    values: dict[str, Any] = {}
    apart = sum(pages.values()) <= SIDE_BY_SIDE
    for table, alias, pack in (("sales", "s", sales.packed_sales), ("lines", "l", sales.packed_lines)):
        if not apart:
            packed = pack(f"AND {alias}.ctid >= part.first AND {alias}.ctid < part.next")
            queries.append(_fill(named(SQL, "parts"), {"table": table, "packed": packed}))
            values |= {f"{table}_pages": pages[table], "size": PAGES}
            continue
        edges = [f"({page},0)" for page in range(0, max(pages[table], 1), PAGES)]
        for i, (first, after) in enumerate(pairwise([*edges, "(4294967295,0)"])):
            names = f"{table}_from_{i}", f"{table}_to_{i}"
            queries.append(
                pack(f"AND {alias}.ctid >= CAST(:{names[0]} AS tid) AND {alias}.ctid < CAST(:{names[1]} AS tid)")
            )
            values |= {names[0]: first, names[1]: after}
    return queries, values


class Buckets:
    """Records put apart by ranges of customers: in memory where one range is all, else in a file without a name, which
    is gone with the process."""

    def __init__(self, bounds: Sequence[int], dtype: np.dtype[np.void], folder: Path | None) -> None:
        """`bounds`: the first customers of all ranges but the first."""
        self._bounds = np.array(bounds, np.int64)
        self._dtype = dtype
        self._held: list[NDArray[np.void]] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder) if len(bounds) else None  # noqa: SIM115 (closed by __exit__)
        self._length = 0
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(len(bounds) + 1)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def put(self, records: NDArray[np.void]) -> None:
        """Put records to the others."""
        if not len(records):
            return
        if self._file is None:
            self._held.append(records)
            return
        bucket = np.searchsorted(self._bounds, records["customer"], side="right").astype(np.uint16)
        order = np.argsort(bucket, kind="stable")
        self._file.write(records[order].view(np.uint8).data)
        count = np.bincount(bucket, minlength=len(self._places))
        at = self._length
        for number in np.flatnonzero(count):
            size = int(count[number]) * self._dtype.itemsize
            self._places[number].append((at, size))
            at += size
        self._length = at

    def take(self, number: int) -> NDArray[np.void]:
        """The records of one range."""
        if self._file is None:
            records = np.concatenate(self._held) if self._held else np.zeros(0, self._dtype)
            self._held.clear()
            return records
        raw = bytearray(sum(size for _, size in self._places[number]))
        at = 0
        for place, size in self._places[number]:
            self._file.seek(place)
            self._file.readinto(memoryview(raw)[at : at + size])
            at += size
        return np.frombuffer(raw, self._dtype)


def buckets_of(pages: int) -> int:
    """How many buckets the sales of so many pages take."""
    return min(1 + pages * _ON_A_PAGE // IN_BUCKET, 60_000)


def _fill(statement: str, slots: Mapping[str, str]) -> str:
    for slot, fragment in slots.items():
        statement = statement.replace("{" + slot + "}", fragment)
    return statement
