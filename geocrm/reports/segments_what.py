"""Sections of the marketer's report: where there is room, what goes together, what comes, who leaves. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from geocrm.reports import charts
from geocrm.reports.charts import Bar, Curve
from geocrm.reports.segments_content import (
    Content,
    day,
    gone,
    lead,
    listed,
    money,
    notes,
    one_run,
    share,
    table,
    two,
    withheld,
)

_MOST_SERIES: Final = 8
_MOST_PAIRS: Final = 10
_MOST_AREAS: Final = 15


def penetration(content: Content) -> str:
    part = content.analyses.get("penetration")
    if part is None:
        return gone(content, "penetration")
    found = part.results
    known = [row for row in found["rows"] if row["share"] is not None and row["population"]]
    top = sorted(known, key=lambda row: -row["customers"])[:_MOST_AREAS]
    bars = [
        Bar(row["name"], row["share"], f"{row['share']:.2%}", row["low"], row["high"],
            f"{row['customers']:,} of {row['population']:,.0f}")
        for row in top
    ]  # fmt: skip
    room = sorted((row for row in known if row["potential_low"] is not None and row["potential_low"] > 0),
                  key=lambda row: -row["potential"])[:_MOST_AREAS]  # fmt: skip
    parts = [
        lead(
            f"Customers per {html.escape(found['population'])} of the areas of {html.escape(found['layer'])}: "
            f"{found['overall']:.2%} over all. The areas with most customers, with {found['level']:.0%} intervals:"
        ),
        charts.bars(bars, heads=("Area", "Penetration"), mark=found["overall"]),
    ]
    if room:
        parts.append("<h3>Areas with fewer customers than areas like them, beyond what such areas differ by</h3>")
        parts.append(
            charts.bars(
                [Bar(row["name"], row["potential"], f"{row['potential']:+,.0f}", row["potential_low"],
                     row["potential_high"], f"has {row['customers']:,}") for row in room],
                heads=("Area", "More customers if like its peers"),
            )
        )  # fmt: skip
    else:
        parts.append("<p>No area has fewer customers than areas like it, beyond what such areas differ by.</p>")
    return "".join(parts) + withheld(found["withheld"], "areas") + listed(found["notes"])


def products(content: Content) -> str:
    part = content.analyses.get("affinity")
    if part is None:
        return gone(content, "affinity")
    found = part.results
    sure = [row for row in found["pairs"] if row["p_adjusted"] <= found["q"]][:_MOST_PAIRS]
    said = " The surest, by how many times as often as by chance:" if sure else ""
    parts = [
        lead(
            f"Of {found['pairs_seen']:,} pairs that {found['baskets']:,} customers have, {found['pairs_together']:,} "
            f"go together more than chance would make it.{said}"
        )
    ]
    if sure:
        parts.append(
            charts.bars(
                [Bar(_pair(row), row["lift"], f"{row['lift']:.1f} ×", row["lift_low"], row["lift_high"],
                     f"{row['both']:,} customers") for row in sure],
                heads=("Products", "Lift"), mark=1.0,
            )
        )  # fmt: skip
    here = found["by_region"][:_MOST_PAIRS]
    if here:
        rows = [
            (html.escape(_pair(row)), html.escape(row["region_name"]), f"{row['lift']:.1f} ×",
             f"{row['lift_elsewhere']:.1f} ×")
            for row in here
        ]  # fmt: skip
        parts.append("<h3>More in one region than elsewhere</h3>")
        parts.append(table(("Products", "Region", "Here", "Elsewhere"), rows, (2, 3)))
    offers = found["offers"]
    if offers is not None:
        bars = [
            Bar(row["method"], row["hit_rate"], f"{row['hit_rate']:.1%}", row["hit_rate_low"], row["hit_rate_high"])
            for row in offers["methods"]
        ]
        parts.append(
            f"<h3>What to offer next: would it have worked?</h3><p>Learnt before {offers['learnt_before'][:10]}, "
            f"judged on the {offers['days']:g} days after: {html.escape(offers['sentence'])}</p>"
            f"{charts.bars(bars, heads=('Offered by', 'Bought one of them'))}"
        )
    return "".join(parts) + withheld(found["withheld"], "pairs") + listed(found["notes"])


def forecast(content: Content) -> str:
    part = content.analyses.get("forecast")
    if part is None:
        return gone(content, "forecast")
    found = part.results
    if not found["rows"]:
        return "<p>Fewer than ten customers: no forecast is told.</p>"
    place = len(found["levels"]) - 1
    whole, *series = found["rows"]
    period, currency = found["period"], found["currency"]
    parts = [
        lead(
            f"Sales by {period}, with {found['levels'][place]:.0%} intervals that come from errors made on the past. "
            f"The method was chosen by forecasting the past again, beside the seasonal naive (what was sold a season "
            f"before): {html.escape(whole['reason'])}."
        ),
        _series(found, whole, place, height=260),
    ]
    series = [row for row in series if row["history"] is not None and row["mean"][0] is not None]
    largest = sorted(series, key=lambda row: -sum(one or 0.0 for one in row["history"][-12:]))[:_MOST_SERIES]
    if largest:
        cards = "".join(
            f"<article><h4>{html.escape(row['name'])}</h4>{_series(found, row, place, height=190)}</article>"
            for row in largest
        )
        parts.append(f'<h3>The largest {len(largest)} of {len(series)}</h3><div class="cards">{cards}</div>')
    rows = [
        (html.escape(row["name"]), money(sum(row["mean"]), currency), html.escape(row["method"]), two(row["mase"]),
         two(row["naive_mase"]), share(row["coverage"][place]))
        for row in (whole, *largest)
    ]  # fmt: skip
    parts.append(
        "<h3>How it did on the past</h3><p>Error as a multiple of the seasonal naive's usual one (MASE: less is "
        f"better), and how often what came lay within the {found['levels'][place]:.0%} interval.</p>"
    )
    heads = ("Sales of", f"Next {len(found['periods'])} {period}s", "Method", "Error", "Naive", "Within")
    parts.append(table(heads, rows, (1, 3, 4, 5)))
    return (
        "".join(parts)
        + withheld(found["withheld"], "series")
        + withheld(found["periods_withheld"], f"{found['period']}s of curves")
        + listed(found["notes"])
    )


def _pair(row: Mapping[str, Any]) -> str:
    return f"{row['first_name']} and {row['second_name']}"


def _series(found: Mapping[str, Any], row: Mapping[str, Any], place: int, *, height: int) -> str:
    history = np.array(row["history"], dtype=float)
    ahead = [np.array(row["mean"], dtype=float), np.array(row["low"][place], dtype=float),
             np.array(row["high"][place], dtype=float)]  # fmt: skip
    gap, rest = np.full(len(history) - 1, np.nan), np.full(len(ahead[0]), np.nan)
    mean, low, high = (np.concatenate([gap, history[-1:], one]) for one in ahead)
    past = np.concatenate([history, rest])
    labels = [day[:7] for day in (*found["starts"], *found["periods"])]
    return charts.curves(
        [Curve("", past, "one"), Curve("", mean, "two", low, high)], labels, height=height, ticks=4,
        divide=len(history) - 1, across=found["currency"],
        about=f"Sales of {row['name']}: next {ahead[0][0]:,.0f}, {ahead[1][0]:,.0f} to {ahead[2][0]:,.0f}",
    )  # fmt: skip


def leaving(content: Content) -> str:
    run = one_run(content, "churn")
    if run is None:
        return gone(content, "churn")
    found = run.results
    parts = []
    rates = [row for row in found.get("churn_rate", []) if row["rate"] is not None]
    if rates:
        bars = [
            Bar(row["region"], row["rate"], f"{row['rate']:.1%}", row["rate_low"], row["rate_high"],
                f"{row['left']:,} of {row['average']:,.0f}" + (", distorted by growth" if row["distorted"] else ""))
            for row in sorted(rates[:-1], key=lambda row: -row["average"])[:_MOST_AREAS] + rates[-1:]
        ]  # fmt: skip
        parts.append(lead("Customers who left in the year before, of the average number, with exact 95 % intervals."))
        parts.append(charts.bars(bars, heads=("Region", "Churn rate"), mark=rates[-1]["rate"]))
        parts.append(withheld(found.get("churn_rate_withheld", 0), "regions"))
    expected = {row["label"]: row for row in found["expected"]}
    bars = []
    for row in run.segments:
        one = expected.get(row["label"])
        about = row["sentence"]
        if one is not None:
            about += f"; {one['leavers']:,.0f} of them are expected to leave ({one['low']:,.0f} to {one['high']:,.0f})"
        bars.append(Bar(row["name"], row["size"], f"{row['size']:,} · {row['share']:.1%}", about=about))
    parts.append(
        f"<h3>Who is about to leave</h3><p>In the {found['window_days']:g} days from {day(run.cutoff)}, as learnt "
        f"from: {html.escape(found['left'])}.</p>"
    )
    parts.append(charts.bars(bars, heads=("Risk", "Customers")))
    held = found["evaluation"]
    points = [(row["predicted"], row["observed"], row["low"], row["high"]) for row in held["calibration"]
              if "predicted" in row]  # fmt: skip
    parts.append(
        f"<h3>How sure is that?</h3><p>Tested on customers that nothing was learnt from ({html.escape(held['how'])}): "
        f"{held['left']:,} of {held['customers']:,} left. {html.escape(held['gain']['sentence'])} Of two customers, "
        f"one who left and one who stayed, the model ranks the first higher in {held['roc']['value']:.0%} of cases "
        f"({held['roc']['low']:.0%} to {held['roc']['high']:.0%}). {html.escape(held['error']['sentence'])}</p>"
    )
    if points:
        about = "Probability to leave as said, across, and the share that left, upwards"
        parts.append(f'{charts.calibration(points, about=about)}<p class="note">{about}; on the line both agree.</p>')
    drivers = [
        Bar(row["meaning"], max(row["loss"], 0.0), f"{row['loss']:.4f}", max(row["low"], 0.0), max(row["high"], 0.0))
        for row in found["drivers"][:8]
    ]
    if drivers:
        parts.append(
            "<h3>What it depends on</h3><p>How much worse the model gets without each (log loss).</p>"
            f"{charts.bars(drivers, heads=('What is known', 'Loss without it'))}"
        )
    if found.get("place") is not None:
        parts.append(f"<p>{html.escape(found['place']['sentence'])}</p>")
    return "".join(parts) + notes(run)
