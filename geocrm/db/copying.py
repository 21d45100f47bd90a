"""Arrow tables into database tables by COPY, as CSV (whatever the types) or binary (the database's own types, in half
the time), and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, LiteralString, NamedTuple

import numpy as np
import pgpq.encoders
import pgpq.schema
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql
from pyarrow import csv
from sqlalchemy.orm import Session

_BINARY_HEADER: Final = 19  # signature, flags, length of the extension
_BINARY_TRAILER: Final = 2
_HEX = np.frombuffer(b"".join(b"%02X" % i for i in range(256)), dtype=np.uint8).view("<u2")
_HEAD = np.frombuffer(bytes.fromhex("0101000020E6100000"), dtype=np.uint8)  # little-endian EWKB point, SRID 4326


def driver(session: Session) -> psycopg.Connection[Any]:
    """The psycopg connection under a session, in the session's transaction."""
    connection = session.connection().connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise TypeError("the session is not psycopg's")
    return connection


def copy_table(connection: psycopg.Connection[Any], name: str, table: pa.Table) -> None:
    """Append an Arrow table to a database table of the same column names; null is NULL."""
    if not len(table):
        return
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink, csv.WriteOptions(include_header=False, quoting_style="needed"))
    _send(connection, name, table.column_names, "csv", memoryview(sink.getvalue()))


class Encoded(NamedTuple):
    """Rows for a table in PostgreSQL's binary format."""

    table: str
    columns: list[str]
    data: bytes


def encode(name: str, rows: pa.Table, *, jsonb: Iterable[str] = ()) -> Encoded:
    """An Arrow table in PostgreSQL's binary format, which it reads in half the time of CSV.

    Types have to be those of the columns: int64 for bigint, int32 for integer, string for text, lists for arrays,
    timestamps of microseconds, binary EWKB for geometry; strings are JSON in the columns `jsonb`. What does not fit is
    refused by the server."""
    builders = {field.name: pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field) for field in rows.schema}
    for column in jsonb:
        builders[column] = pgpq.encoders.StringEncoderBuilder.new_with_output(
            rows.schema.field(column), pgpq.schema.Jsonb()
        )
    encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(rows.schema, builders)
    parts = [encoder.write_header(), *(encoder.write_batch(batch) for batch in rows.combine_chunks().to_batches())]
    return Encoded(name, rows.column_names, b"".join([*parts, encoder.finish()]))


def copy_encoded(connection: psycopg.Connection[Any], rows: Encoded) -> None:
    """Append encoded rows to their table."""
    _send(connection, rows.table, rows.columns, "binary", memoryview(rows.data))


def _send(
    connection: psycopg.Connection[Any],
    table: str,
    columns: list[str],
    form: Literal["csv", "binary"],
    data: memoryview,
) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(form)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for start in range(0, len(data), 1 << 20):
            copy.write(data[start : start + (1 << 20)])


def ewkb_points(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> pa.Array:
    """Points, degrees of shape (n,), as EWKB in EPSG:4326; null where a coordinate is NaN."""
    raw = _ewkb(lon, lat)
    made = pa.FixedSizeBinaryArray.from_buffers(pa.binary(25), len(raw), [None, pa.py_buffer(raw)])
    return _without_nan(made, lon, lat)


def points(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> pa.Array:
    """The same as hexadecimal text."""
    raw = _ewkb(lon, lat)
    offsets = np.arange(len(raw) + 1, dtype=np.int64) * 50
    made = pa.LargeStringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(_HEX[raw].tobytes()))
    return _without_nan(made, lon, lat)


def _ewkb(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.uint8]:
    raw = np.empty((len(lon), 25), dtype=np.uint8)
    raw[:, :9] = _HEAD
    raw[:, 9:17] = np.ascontiguousarray(lon, dtype="<f8").view(np.uint8).reshape(-1, 8)
    raw[:, 17:] = np.ascontiguousarray(lat, dtype="<f8").view(np.uint8).reshape(-1, 8)
    return raw


def _without_nan(made: pa.Array, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> pa.Array:
    missing = np.isnan(lon) | np.isnan(lat)
    return made if not missing.any() else pc.if_else(pa.array(~missing), made, pa.scalar(None, made.type))


def draw_ids(connection: psycopg.Connection[Any], table: str, count: int) -> NDArray[np.int64]:
    """`count` new ids of a table, ascending, int64 (count,)."""
    row = connection.execute(
        "SELECT array_agg(nextval(sequence.name)) FROM generate_series(1, %s),"
        " (SELECT CAST(pg_get_serial_sequence(%s, 'id') AS regclass) AS name OFFSET 0) AS sequence",
        (count, table),
    )
    drawn = row.fetchone()
    return np.array(drawn[0] if drawn and count else [], np.int64)


def read_binary(
    connection: psycopg.Connection[Any], query: LiteralString, values: Any, row: np.dtype[np.void]
) -> NDArray[np.void]:
    """What COPY … TO STDOUT (FORMAT binary) answers, as rows of a structure (number of fields, then length and value of
    each): no value may be NULL."""
    with connection.cursor() as cursor, cursor.copy(query, values) as copy:
        data = b"".join(bytes(part) for part in copy)
    return np.frombuffer(data[_BINARY_HEADER:-_BINARY_TRAILER], dtype=row)
