"""What methods find, as JSON values: what is not a number is null. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd


def number(given: Any) -> float | None:
    """A number; None for one that is not known."""
    made = float(given)
    return made if math.isfinite(made) else None


def numbers(given: Iterable[Any]) -> list[float | None]:
    """Numbers one by one."""
    return [number(one) for one in given]


def as_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table: whole numbers stay whole, words and what has no number of its own are text."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict(orient="records")]


def _plain(value: Any) -> Any:
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.integer | int):
        return int(value)
    if isinstance(value, np.floating | float):
        return number(value)
    return None if value is None or value is pd.NA else str(value)
