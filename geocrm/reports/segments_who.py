"""Sections of the marketer's report: who customers are, their groups, their worth, their hot spots. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from geocrm.reports import charts
from geocrm.reports.charts import Bar, Curve, View
from geocrm.reports.segments_content import (
    AnalysisPart,
    CellPart,
    Content,
    RunPart,
    day,
    feature_figure,
    feature_name,
    gone,
    lead,
    listed,
    many,
    money,
    notes,
    one_run,
)

_OVER, _UNDER = 1.25, 0.8
"""A group is over or under its usual share in a cell from these multiples of it."""
_PANELS: Final = 8
_DIFFER: Final = 0.05
"""Means of groups that differ by less of the average are not drawn."""
SPOTS: Final = {
    "hot": "hot", "high-high": "hot", "cold": "cold", "low-low": "cold", "high-low": "mixed", "low-high": "mixed",
}  # fmt: skip


def customers(content: Content) -> str:
    run = one_run(content, "rfm")
    if run is None:
        return gone(content, "rfm")
    worth = content.worth.get("rfm", {})
    total = sum(worth.values())
    rows = [
        Bar(row["name"], row["size"], f"{row['size']:,} · {row['share']:.1%}", about=row["sentence"])
        for row in run.segments
    ]
    parts = [
        lead(
            f"{many(run.customers)} who bought before {day(run.cutoff)}, by when they last bought, how often and for "
            "how much: each gets R, F and M from 1 to 5 (best), FM is the mean of F and M, and the names are those "
            "marketers use."
        ),
        charts.bars(rows, heads=("Segment", "Customers")),
    ]
    if total > 0:
        value = one_run(content, "value")
        assert value is not None
        currency, weeks = value.results["currency"], value.parameters.get("horizon_weeks", 52)
        sized = {row["id"]: row for row in run.segments}
        bars = [
            Bar(sized[segment]["name"], amount,
                f"{money(amount, currency)} · {charts.short(amount / sized[segment]['size'])} each")
            for segment, amount in sorted(worth.items(), key=lambda pair: -pair[1])
        ]  # fmt: skip
        parts.append(f"<h3>What they are expected to bring in the next {weeks:g} weeks</h3>")
        parts.append(charts.bars([bar for bar in bars if bar.value > 0], heads=("Segment", "Expected worth")))
    return "".join(parts) + notes(run)


def groups(content: Content, view: View | None) -> str:
    run = one_run(content, "groups")
    if run is None:
        return gone(content, "groups")
    worth = content.worth.get("groups", {})
    parts = [
        lead(
            f"{many(run.customers)}, divided by how they buy and where they live (dial "
            f"{run.parameters.get('dial', 0.3):g} from behaviour 0 to place 1). {html.escape(run.results['verdict'])}"
        )
    ]
    choice = run.results.get("choice")
    if choice is not None:
        parts.append(f"<p>{html.escape(choice['reason'])}</p>")
    place = run.results.get("place")
    if place is not None:
        parts.append(f"<p>{html.escape(place['sentence'])}</p>")
    if run.results["k"] == 1:  # nothing to set beside each other
        return "".join(parts) + notes(run)
    cards = []
    for row in run.segments:
        more = f" · {charts.short(worth[row['id']])} expected" if row["id"] in worth else ""
        drawn = "" if view is None or content.cells is None else _group_map(content.cells, row, view)
        cards.append(
            f"<article><h3>{html.escape(row['name'])}</h3><p><b>{row['size']:,}</b> · {row['share']:.1%}{more}</p>"
            f"<p>{html.escape(row['sentence'])}</p>{drawn}</article>"
        )
    parts.append(f'<div class="cards">{"".join(cards)}</div>')
    if content.cells is not None and view is not None:
        parts.append(
            '<ul class="key"><li class="over">over its usual share by a quarter or more</li><li class="even">about its '
            'usual share</li><li class="under">under it by a fifth or more</li><li class="few">fewer than ten of it'
            "</li></ul>"
        )
        if content.cells.few:
            parts.append(
                f'<p class="note">{content.cells.few:,} cells with fewer than ten customers are not drawn.</p>'
            )
    parts.append("<h3>What tells them apart</h3><p>Means of each group; the line is the average of all.</p>")
    parts.append(_profiles(run))
    return "".join(parts) + notes(run)


def _group_map(cells: CellPart, row: Mapping[str, Any], view: View) -> str:
    column = cells.columns.get(row["id"])
    if column is None:
        return ""
    usual = cells.table[:, column].sum() / cells.table.sum()
    drawn = []
    for (x, y), counts in zip(cells.cells, cells.table, strict=True):
        few = counts[column] < 10
        ratio = counts[column] / counts.sum() / usual
        style = "few" if few else "over" if ratio >= _OVER else "under" if ratio <= _UNDER else "even"
        drawn.append((_bounds_of(cells.zoom, x, y), style))
    over = sum(style == "over" for _, style in drawn)
    return charts.cell_map(view, drawn, "land", about=f"Map of {row['name']}: over its usual share in {over} cells")


def _bounds_of(zoom: int, x: int, y: int) -> tuple[float, float, float, float]:
    side = 2.0**zoom
    north, south = (float(np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * at / side))))) for at in (y, y + 1))
    return (x / side * 360 - 180, south, (x + 1) / side * 360 - 180, north)


def _profiles(run: RunPart) -> str:
    """A small panel for each feature in which groups differ most, by standard deviations between them."""
    by_feature: dict[str, list[dict[str, Any]]] = {}
    for row in run.results.get("profile", []):
        if row["mean"] is not None and row["average"]:
            by_feature.setdefault(row["feature"], []).append(row)
    names = {row["label"]: row["name"] for row in run.segments}

    def apart(rows: list[dict[str, Any]]) -> float:
        return float(np.std([row["mean"] / row["average"] for row in rows]))

    kept = [
        (feature, rows) for feature, rows in by_feature.items()
        if feature not in ("lon", "lat") and all(row["mean"] >= 0 for row in rows)
    ]  # fmt: skip
    panels = []
    for feature, rows in sorted((pair for pair in kept if apart(pair[1]) > _DIFFER), key=lambda pair: -apart(pair[1]))[
        :_PANELS
    ]:
        bars = [Bar(names[row["label"]], row["mean"], feature_figure(feature, row["mean"])) for row in rows]
        average = rows[0]["average"]
        panels.append(
            f"<article><h4>{html.escape(feature_name(feature))}</h4>"
            f"{charts.bars(bars, heads=('', f'average {feature_figure(feature, average)}'), mark=average)}</article>"
        )
    return f'<div class="panels">{"".join(panels)}</div>'


def value(content: Content) -> str:
    run = one_run(content, "value")
    parts = []
    if run is None:
        parts.append(gone(content, "value"))
    else:
        total = run.results.get("total")
        currency = run.results["currency"]
        said = f"{many(run.customers)}, by what they are expected to bring"
        if total is not None:
            said += (
                f": {money(total['worth'], currency)} in all, between {charts.short(total['low'])} and "
                f"{charts.short(total['high'])} as far as the model's parameters are known"
            )
        parts.append(lead(f"{said}."))
        if content.shares:
            half = next(many for many, worth in content.shares if worth >= 0.5)
            most = next(many for many, worth in content.shares if worth >= 0.8)
            worth = np.interp(np.linspace(0, 1, 101), *np.array(content.shares).T)
            same = Curve("if all were worth the same", np.linspace(0, 1, 101), "even")
            drawn = charts.curves(
                [Curve("share of the worth", worth, "one"), same], [f"{part} %" for part in range(101)], percent=True,
                every=25,
                about=f"Half of the worth comes from {half:.0%} of the customers, four fifths from {most:.0%}",
            )  # fmt: skip
            parts.append(
                f"<p>Half of the worth comes from <b>{half:.0%}</b> of the customers, four fifths from {most:.0%}.</p>"
                f"{drawn}<p class='note'>Across: share of the customers, the most valuable first.</p>"
            )
        parts.append(notes(run))
    track = content.analyses.get("tracking")
    parts.append("<h3>Was it right before?</h3>")
    if track is None or track.results.get("customers") is None:
        parts.append(gone(content, "tracking"))
    else:
        parts.append(_tracking(track))
    return "".join(parts)


def _tracking(part: AnalysisPart) -> str:
    found = part.results
    actual, expected = np.array(found["actual"], dtype=float), np.array(found["expected"], dtype=float)
    divide = len(actual) - 1 - found["weeks"]
    error = ""
    if found["error"] is not None:
        error = f": {abs(found['error']):.1%} too {'many' if found['error'] > 0 else 'few'} were expected"
    came = "too few to tell" if found["came"] is None else f"{found['came']:,.0f}"
    off = (
        ""
        if found["weekly_error"] is None
        else (f" A week was off by {found['weekly_error']:,.1f} of {found['weekly_mean']:,.1f} on average.")
    )
    drawn = charts.curves(
        [Curve("purchases again", actual, "one"), Curve("expected", expected, "two")],
        [day[:7] for day in found["ends"]], divide=divide, across="fitted | foreseen", ticks=5,
        about=f"Cumulated purchases beside those expected; {came} came after the fit, "
        f"{found['expected_of_histories']:,.0f} were expected",
    )  # fmt: skip
    return (
        f"<p>The same model, fitted on what was before {found['fitted_before'][:10]}, expected "
        f"{found['expected_of_histories']:,.0f} purchases ({found['low']:,.0f} to {found['high']:,.0f}) of "
        f"{found['customers']:,} customers in the {found['weeks']} weeks after; <b>{came}</b> came"
        f"{error}.{off}</p>{drawn}{listed(found['notes'])}"
    )


def hotspots(content: Content, view: View | None) -> str:
    parts = content.runs.get("hotspots", ())
    if not parts:
        return gone(content, "hotspots")
    made = []
    for run in parts:
        found = run.results
        cells = [(row["bounds"], SPOTS.get(row["label"], "neither")) for row in found["cells"]]
        cells.sort(key=lambda cell: cell[1] != "neither")  # what stands out is drawn last
        counted, unit = found["named"], found["unit"]
        mixed = f", {counted['mixed']:,} unlike what is around them" if counted["mixed"] else ""
        made.append(f"<h3>{html.escape(found['about'].capitalize())}</h3>")
        made.append(
            lead(
                f"{counted['hot']:,} {unit}s are hot, {counted['cold']:,} cold{mixed}, of {found['tested']:,} tested "
                f"on {found['random_maps']:,} random maps. Of those named, at most {found['alpha']:.0%} are expected "
                "to be chance."
            )
        )
        if view is not None:
            about = f"Map: {counted['hot']} hot and {counted['cold']} cold {unit}s"
            made.append(f'<div class="wide">{charts.cell_map(view, cells, "land", about=about)}</div>')
            made.append('<ul class="key"><li class="hot">hot</li><li class="cold">cold</li><li>neither</li></ul>')
        if found.get("cells_withheld"):
            made.append(f'<p class="note">{found["cells_withheld"]:,} {unit}s of too few customers are not drawn.</p>')
        made.append(notes(run))
    return "".join(made)
