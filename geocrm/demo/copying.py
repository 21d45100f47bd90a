"""Columns of any kind into tables by COPY."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa

from geocrm.db.copying import copy_table


def money(cents: object) -> pa.Array:
    """Whole cents as decimal numbers with two digits."""
    return pa.array(np.asarray(cents, dtype=np.float64) / 100)


def copy(connection: psycopg.Connection[object], table: str, columns: Mapping[str, object]) -> int:
    """Append columns of one length (arrays, lists, Arrow arrays; None and NaN are NULL) to `table`; rows copied."""
    arrays = {name: values if isinstance(values, pa.Array) else _arrow(values) for name, values in columns.items()}
    batch = pa.table(arrays)
    copy_table(connection, table, batch)
    return int(batch.num_rows)


def _arrow(values: object) -> pa.Array:
    made = pa.array(values, from_pandas=True) if not isinstance(values, pd.Series) else pa.Array.from_pandas(values)
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
