"""Columns of numbers into a table: NULL where a number stands for it, arrays, more rows than are sent at once."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.copying import copy_columns, driver

NONE = np.iinfo(np.int32).min


def part(first: int, rows: int, width: int) -> dict[str, NDArray[Any]]:
    ids = np.arange(first, first + rows)
    times = np.arange(1, width + 1)
    return {
        "id": ids,
        "day": np.where(ids % 3 == 0, NONE, ids % 9_000).astype(np.int32),
        "few": ids[:, None] * times if width == 0 else (ids[:, None] * times).astype(np.int32),
        "many": -ids[:, None] * np.array([1, 2**40]),
    }


@pytest.mark.parametrize("width", [0, 3])
def test_rows_arrive_as_they_were(session: Session, width: int) -> None:
    kind = "bigint" if width == 0 else "integer"
    session.execute(text(f"CREATE TEMP TABLE given (id bigint, day date, few {kind}[], many bigint[])"))
    parts = [part(0, 0, width), part(0, 40_000, width), part(40_000, 7, width)]
    copy_columns(driver(session), "given", parts, {"day": NONE})
    wrong = """
      many <> ARRAY[-id, -id * 1099511627776] OR cardinality(few) <> :width
      OR (:width = 3 AND CAST(few AS text) <> concat('{', id, ',', id * 2, ',', id * 3, '}'))
      OR day IS DISTINCT FROM CASE WHEN id % 3 > 0 THEN date '2000-01-01' + CAST(id % 9000 AS integer) END"""
    found = session.execute(
        text(f"SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE {wrong}) FROM given"), {"width": width}
    ).one()
    assert tuple(found) == (40_007, 40_007, 0)


def test_what_fails_in_the_making_leaves_nothing(session: Session) -> None:
    session.execute(text("CREATE TEMP TABLE given (id bigint, day date, few integer[], many bigint[])"))

    def broken() -> Iterator[dict[str, NDArray[Any]]]:
        yield part(0, 5, 3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), session.begin_nested():
        copy_columns(driver(session), "given", broken(), {"day": NONE})
    assert session.scalar(text("SELECT count(*) FROM given")) == 0
    with pytest.raises(psycopg.errors.UndefinedColumn), session.begin_nested():
        copy_columns(driver(session), "given", [{"other": np.arange(3)}])
