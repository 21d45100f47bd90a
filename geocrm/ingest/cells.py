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

# Arrow matches by RE2, neutral() by Python: nothing here that they read differently (\s, $, letters of either case).
# Nothing but digits, signs, separators and brackets is a number or a telephone number.
_BLANK = r"\x{0}-\x{20}\x{7f}-\x{a0}\x{1680}\x{2000}-\x{200f}\x{2028}\x{2029}\x{202f}\x{205f}\x{2060}\x{3000}\x{feff}"
_NUMBER = r"[\t\n\r ]*[+\-]?\(?[0-9](?:[0-9 .,/()\-]|[eE][+\-]?[0-9])*%?[\t\n\r ]*"
_FORMULA = rf"'*[{_BLANK}]*[=+\-@＝＋－＠]"
_APOSTROPHES = rf"^'+[{_BLANK}]*[=+\-@＝＋－＠]"
_NUMBER_PY = re.compile(_NUMBER)
_FORMULA_PY = re.compile(re.sub(r"\\x\{([0-9a-f]+)\}", lambda code: re.escape(chr(int(code[1], 16))), _FORMULA))


def neutral(value: str) -> str:
    """One cell for export."""
    if _FORMULA_PY.match(value) and not _NUMBER_PY.fullmatch(value):
        return "'" + value
    return value


def neutralise(column: Any) -> Any:
    """A text column (n,) for export."""
    risky = pc.and_(
        pc.match_substring_regex(column, f"^{_FORMULA}"),
        pc.invert(pc.match_substring_regex(column, f"^{_NUMBER}$")),
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
