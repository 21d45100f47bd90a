"""What the marketer's report says, and the words that its sections share. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geocrm.reports import charts


@dataclass(frozen=True)
class RunPart:
    """A published run, without what fewer than ten customers made; `withheld` segments are left out."""

    method: str
    key: str
    name: str
    number: int
    run_id: int
    cutoff: datetime
    seed: int
    parameters: Mapping[str, Any]
    data_version: str
    code_version: str
    score_names: tuple[str, ...]
    customers: int | None
    segments: tuple[dict[str, Any], ...]
    withheld: int
    results: dict[str, Any]


@dataclass(frozen=True)
class AnalysisPart:
    """An analysis, as it may be handed on."""

    kind: str
    id: str
    cutoff: datetime
    seed: int
    parameters: Mapping[str, Any]
    data_version: str
    code_version: str
    results: dict[str, Any]


@dataclass(frozen=True)
class CellPart:
    """Customers by cell (column, row at a zoom) and group, (cells, groups); `columns`: the column of each segment that
    is shown. `few` more cells have fewer than ten customers."""

    zoom: int
    cells: tuple[tuple[int, int], ...]
    table: NDArray[np.int64]
    columns: dict[int, int]
    few: int


@dataclass(frozen=True)
class Content:
    """Everything the page says; `missing` says by method or kind why something is not there."""

    title: str
    made_at: datetime
    reader: str
    customers: int | None
    runs: Mapping[str, tuple[RunPart, ...]]
    analyses: Mapping[str, AnalysisPart]
    missing: Mapping[str, str]
    worth: Mapping[str, Mapping[int, float]]
    shares: tuple[tuple[float, float], ...]
    bounds: tuple[float, float, float, float] | None
    land: tuple[dict[str, Any], ...]
    cells: CellPart | None


# ---------------------------------------------------------------- words


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of markup; columns `numbers` stand to the right."""

    def style(column: int) -> str:
        return ' class="number"' if column in numbers else ""

    head = "".join(f'<th scope="col"{style(at)}>{html.escape(name)}</th>' for at, name in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{style(at)}>{cell}</td>" for at, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def one_run(content: Content, method: str) -> RunPart | None:
    return next(iter(content.runs.get(method, ())), None)


def gone(content: Content, name: str) -> str:
    return f'<p class="gone">{html.escape(content.missing.get(name, "Too few customers to tell."))}</p>'


def lead(sentence: str) -> str:
    return f'<p class="lead">{sentence}</p>'


def notes(run: RunPart) -> str:
    return withheld(run.withheld, "segments") + listed(run.results.get("notes", []))


def withheld(number: int, what: str) -> str:
    return f'<p class="note">{number:,} {what} of too few customers are not told.</p>' if number else ""


def listed(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    lines = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"<details><summary>What to know</summary><ul>{lines}</ul></details>"


def many(number: int | None) -> str:
    return "Fewer than ten customers" if number is None else f"<b>{number:,}</b> customers"


def day(moment: datetime) -> str:
    return f"{moment:%-d %B %Y}"


def money(amount: float, currency: str) -> str:
    return f"{charts.short(amount)} {html.escape(currency)}"


def two(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}"


def share(number: float | None) -> str:
    return "–" if number is None else f"{number:.0%}"


def quoted(name: str) -> str:
    return f"“{html.escape(name)}”"


_WORDS: Final = {
    "recency_days": "Days since the last order", "frequency": "Orders", "basket_value": "Basket",
    "gap_mean_days": "Days between orders", "returned_share": "Share returned", "discount_share": "Discount",
    "own_shop_m": "Distance to a shop", "competitor_m": "Distance to a competitor", "sales_365": "Sales of the year",
}  # fmt: skip


def feature_name(name: str) -> str:
    family, _, member = name.partition(".")
    if member:
        return f"{member}: share of {'orders' if family == 'channel_share' else 'sales'}"
    return _WORDS.get(name, name.replace("_", " ").capitalize())


def feature_figure(feature: str, value: float) -> str:
    if "share" in feature:
        return f"{value:.0%}"
    if feature.endswith("_m"):
        return f"{value / 1000:,.0f} km" if value >= 10_000 else f"{value / 1000:.1f} km"
    return f"{value:,.0f}" if abs(value) >= 20 else f"{value:.1f}"
