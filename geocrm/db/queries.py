"""Named SQL: each query has a name and a description in `db/sql/*.sql`, and is found by name.

A file looks like this::

    -- name: sites_to_evaluate
    -- What it returns, in a line or two.
    SELECT …
"""

import re
from functools import cache
from pathlib import Path

SQL_DIR = Path(__file__).parent / "sql"
_NAME = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)
_VALUE = re.compile(r"(?<!:):([a-z_][a-z0-9_]*)")


@cache
def named(file: str, name: str) -> str:
    """The text of query `name` in `db/sql/<file>.sql`; KeyError where there is none."""
    return _read(file)[name]


@cache
def _read(file: str) -> dict[str, str]:
    pieces = _NAME.split((SQL_DIR / f"{file}.sql").read_text(encoding="utf-8"))
    return {name: text.strip() for name, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def for_driver(statement: str) -> str:
    """A statement with :name for values as psycopg wants it."""
    return _VALUE.sub(r"%(\1)s", statement.replace("%", "%%"))
