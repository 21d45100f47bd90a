"""Frames into tables by COPY: Arrow writes the CSV, psycopg streams it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql
from pyarrow import csv

from geocrm.demo.geography import FloatArray

_HEX = np.frombuffer(b"".join(b"%02X" % i for i in range(256)), dtype=np.uint8).reshape(256, 2)
_HEAD = np.frombuffer(bytes.fromhex("0101000020E6100000"), dtype=np.uint8)  # little-endian EWKB point, SRID 4326


def points(lon: FloatArray, lat: FloatArray) -> pa.Array:
    """Points as hexadecimal EWKB in EPSG:4326; NULL where a coordinate is NaN."""
    n = len(lon)
    raw = np.empty((n, 25), dtype=np.uint8)
    raw[:, :9] = _HEAD
    raw[:, 9:17] = np.ascontiguousarray(lon, dtype="<f8").view(np.uint8).reshape(n, 8)
    raw[:, 17:] = np.ascontiguousarray(lat, dtype="<f8").view(np.uint8).reshape(n, 8)
    text = _HEX[raw].reshape(n * 50)
    offsets = np.arange(n + 1, dtype=np.int64) * 50
    made = pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text))
    missing = np.isnan(lon) | np.isnan(lat)
    if not missing.any():
        return made
    return pa.compute.if_else(pa.array(~missing), made, pa.scalar(None, pa.large_string()))


def money(cents: object) -> pa.Array:
    """Whole cents as decimal numbers with two digits."""
    return pa.array(np.asarray(cents, dtype=np.float64) / 100)


def copy(connection: psycopg.Connection[object], table: str, columns: Mapping[str, object]) -> int:
    """Append columns of one length (arrays, lists, Arrow arrays; None and NaN are NULL) to `table`; rows copied."""
    arrays = {name: values if isinstance(values, pa.Array) else _arrow(values) for name, values in columns.items()}
    batch = pa.table(arrays)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, arrays))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        sink = pa.BufferOutputStream()
        csv.write_csv(batch, sink, csv.WriteOptions(include_header=False, quoting_style="needed"))
        view = memoryview(sink.getvalue())
        for start in range(0, len(view), 1 << 20):
            stream.write(view[start : start + (1 << 20)])
    return int(batch.num_rows)


def _arrow(values: object) -> pa.Array:
    made = pa.array(values, from_pandas=True) if not isinstance(values, pd.Series) else pa.Array.from_pandas(values)
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
