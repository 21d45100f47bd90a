"""Where the statistics of customers' sales stand: packed into bytes, some thousand customers a row of the database.

A block has its columns one after the other, each in the fewest bytes that hold its numbers. Generation 0 is what a full
run made. What a refresh adds is a later generation; as many of these are put together as keeps their sizes falling, so
that there are few and each customer is written again a few times at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg.rows import namedtuple_row
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.copying import driver
from geocrm.db.queries import for_driver, named
from geocrm.segmentation.sales_statistics import LAYOUT, NO_DAY, Columns, nothing, put_together

SQL: Final = "customer_statistics"
IN_BLOCK: Final = 16_384
"""Customers of a block, at most."""

_COPY: Final = (
    "COPY customer_statistics (cutoff_id, generation, first_customer_id, last_customer_id, customers, ids, last_days,"
    " sums) FROM STDIN (FORMAT binary)"
)
_TYPES: Final = ("int8", "int4", "int8", "int8", "int4", "bytea", "bytea", "bytea")
_SIZES: Final[dict[int, type[np.signedinteger[Any]]]] = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}


def pack(columns: Iterable[NDArray[np.signedinteger[Any]]]) -> bytes:
    """Columns of whole numbers, each as the size of its numbers in bytes and the numbers themselves."""
    parts: list[bytes] = []
    for values in columns:
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        dtype = next(kind for kind in _SIZES.values() if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
        parts += [bytes([np.dtype(dtype).itemsize]), values.astype(np.dtype(dtype).newbyteorder("<")).tobytes()]
    return b"".join(parts)


def unpack(data: bytes, counts: Iterable[int]) -> Iterator[NDArray[np.signedinteger[Any]]]:
    """The columns that `pack` was given, flat: of so many numbers each."""
    at = 0
    for count in counts:
        dtype = np.dtype(_SIZES[data[at]]).newbyteorder("<")
        yield np.frombuffer(data, dtype, count, at + 1)
        at += 1 + count * dtype.itemsize


# --- reading ---


def read(session: Session, cutoff_id: int, after: int, upto: int, *, channels: int, categories: int) -> Columns:
    """The statistics of the customers from beyond `after` to `upto`, ascending, without those who have no sale."""
    made = nothing(np.zeros(0, np.int64), channels=channels, categories=categories)
    parts: dict[int, list[Columns]] = {}
    for row in _rows(session, "read", cutoff_id=cutoff_id, after=after, upto=upto):
        part = _columns(row, channels, categories)
        first, last = np.searchsorted(part["customer_id"], (after, upto), side="right")
        parts.setdefault(row.generation, []).append({name: values[first:last] for name, values in part.items()})
    for number, generation in enumerate(parts.values()):
        part = {name: np.concatenate([block[name] for block in generation]) for name in generation[0]}
        made = put_together(made, part) if number else part
    sold = made["orders"] + made["returns"] > 0
    return {name: values if sold.all() else values[sold] for name, values in made.items() if name != "whole"}


def _columns(row: Any, channels: int, categories: int) -> Columns:
    n = row.customers
    width = {"channel_orders": channels, "category_amounts_e4": categories}
    (ids,) = unpack(row.ids, [n])
    (last_days,) = unpack(row.last_days, [n])
    stored = [name for name in LAYOUT if name != "last_day"]
    whole, *sums = unpack(row.sums, [n, *(n * width.get(name, 1) for name in stored)])
    made: Columns = {"customer_id": ids + np.int64(row.first_customer_id), "whole": whole.astype(np.bool_)}
    made["last_day"] = last_days.astype(np.int32)
    for name, values in zip(stored, sums, strict=True):
        made[name] = values.astype(LAYOUT[name])
        if name in width:
            made[name] = made[name].reshape(n, width[name])
    return made


def _rows(session: Session, query: str, **values: Any) -> Iterator[Any]:
    """What a query answers, row by row, bytes as bytes."""
    with driver(session).cursor(binary=True, row_factory=namedtuple_row) as cursor:
        yield from cursor.stream(for_driver(named(SQL, query)), values)


def count_added(session: Session, cutoff_id: int) -> int:
    """How many customers' statistics later generations hold, those of several counted several times."""
    return int(session.scalar(text(named(SQL, "count_added")), {"cutoff_id": cutoff_id}) or 0)


def of_earlier_sales(session: Session, cutoff_id: int, fresh: Columns) -> NDArray[np.int64]:
    """Those customers of `fresh` statistics whose first order is before the last that stands: ids, ascending."""
    ids, first = fresh["customer_id"], fresh["first_day"]
    early = np.zeros(len(ids), np.bool_)
    if len(ids):
        for row in _rows(session, "last_days", cutoff_id=cutoff_id, lowest=int(ids[0]), highest=int(ids[-1])):
            (offsets,) = unpack(row.ids, [row.customers])
            (last,) = unpack(row.last_days, [row.customers])
            others = offsets + np.int64(row.first_customer_id)
            at = np.searchsorted(ids, others)
            at[at == len(ids)] = 0
            known = ids[at] == others
            early[at[known]] |= first[at[known]] < last[known]
    return ids[early & (first != NO_DAY)]


# --- writing ---


def write(session: Session, cutoff_id: int, parts: Iterable[Columns], *, generation: int = 0) -> None:
    """Append a generation, given in parts with ascending customers and a column `whole`. While the database takes one
    in, the next is made."""
    with (
        ThreadPoolExecutor(1) as writer,
        driver(session).cursor() as cursor,
        cursor.copy(_COPY) as copy,
    ):
        copy.set_types(_TYPES)

        def write_part(part: Columns) -> None:
            for block in _blocks(part):
                copy.write_row((cutoff_id, generation, *block))

        written: Future[None] | None = None
        try:
            for part in parts:
                if written is not None:
                    written.result()
                written = writer.submit(write_part, part)
        finally:
            if written is not None:
                written.result()


def _blocks(part: Columns) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(part["customer_id"]), IN_BLOCK):
        block = {name: values[start : start + IN_BLOCK] for name, values in part.items()}
        ids = block["customer_id"]
        sums = pack([block["whole"].astype(np.int8), *(block[name] for name in LAYOUT if name != "last_day")])
        first, last = int(ids[0]), int(ids[-1])
        yield first, last, len(ids), pack([ids - first]), pack([block["last_day"]]), sums


def add(session: Session, cutoff_id: int, fresh: Columns, *, channels: int, categories: int) -> None:
    """Append what a refresh found as the newest generation; older ones that are not much larger are put into it."""
    sizes = session.execute(text(named(SQL, "generations")), {"cutoff_id": cutoff_id}).all()
    merged, size = [], len(fresh["customer_id"])
    for row in sizes:  # the newest first
        if row.customers > 2 * size:
            break
        merged.append(row.generation)
        size += int(row.customers)
    generation = merged[-1] if merged else 1 + max((row.generation for row in sizes), default=0)
    for number in merged:
        rows = _rows(session, "take_generation", cutoff_id=cutoff_id, generation=number)
        blocks = [_columns(row, channels, categories) for row in rows]
        blocks.sort(key=lambda block: int(block["customer_id"][0]))
        older = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        fresh = put_together(older, fresh)
    write(session, cutoff_id, [fresh], generation=generation)


def delete(session: Session, cutoff_id: int) -> None:
    """Delete all of a cutoff."""
    session.execute(text(named(SQL, "delete")), {"cutoff_id": cutoff_id})
