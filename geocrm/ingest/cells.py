"""Cells of exported tables: what a spreadsheet would run as a formula is neutralised, and taken back on import.

A cell that begins (after blanks and control characters) with `=`, `+`, `-`, `@` or their full-width forms gets an
apostrophe in front, unless it is a number or a telephone number. `plain` takes exactly one apostrophe off, so that
export → import is the identity.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# RE2 and Python alike: nothing but digits, signs, separators and brackets is a number or a telephone number.
_NUMBER = r"^\s*[+\-]?\(?[0-9](?:[0-9 .,/()\-]|e[+\-]?[0-9])*%?\s*$"
_FORMULA = r"^'*[\s\x00-\x20\x{00a0}]*[=+\-@＝＋－＠]"
_APOSTROPHES = r"^'+[\s\x00-\x20\x{00a0}]*[=+\-@＝＋－＠]"
_NUMBER_PY = re.compile(_NUMBER)
_FORMULA_PY = re.compile(_FORMULA.replace(r"\x{00a0}", "\u00a0"))


def neutral(value: str) -> str:
    """One cell for export."""
    if _FORMULA_PY.match(value) and not _NUMBER_PY.match(value):
        return "'" + value
    return value


def neutralise(column: Any) -> Any:
    """A text column (n,) for export."""
    risky = pc.and_(
        pc.match_substring_regex(column, _FORMULA),
        pc.invert(pc.match_substring_regex(column, _NUMBER, ignore_case=True)),
    )
    if not pc.any(risky).as_py():
        return column
    return pc.if_else(risky, pc.binary_join_element_wise(pa.scalar("'"), column, pa.scalar("")), column)


def plain(column: Any) -> Any:
    """A text column (n,) of a file as it was before `neutralise`."""
    marked = pc.match_substring_regex(column, _APOSTROPHES)
    if not pc.any(marked).as_py():
        return column
    return pc.if_else(marked, pc.utf8_slice_codeunits(column, 1), column)
