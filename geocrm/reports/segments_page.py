"""The marketer's report as one HTML file that opens without a network: its words, tables and pictures. Pure.

No script runs in it and no request leaves it. It follows light and dark, fits a phone, and prints.
"""

from __future__ import annotations

import html
from functools import lru_cache
from pathlib import Path
from typing import Final

from geocrm.reports import charts, segments_what, segments_who
from geocrm.reports.charts import View
from geocrm.reports.segments_content import Content, day, money, one_run, quoted, table

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_NAMES: Final = {
    "rfm": "recency, frequency, money", "groups": "groups", "value": "customer value", "churn": "who is leaving",
    "hotspots": "hot spots", "affinity": "what goes together", "forecast": "forecast", "penetration": "penetration",
    "tracking": "track of purchases",
}  # fmt: skip


def render(content: Content) -> str:
    """The page as text of one HTML file."""
    said = html.escape
    view = None if content.bounds is None else View(content.bounds)
    sections = [
        ("customers", "Who are our customers", segments_who.customers(content)),
        ("groups", "Which groups there are", segments_who.groups(content, view)),
        ("value", "What they are worth", segments_who.value(content)),
        ("hotspots", "Where it is more, or less, than chance", segments_who.hotspots(content, view)),
        ("penetration", "Where there is room", segments_what.penetration(content)),
        ("products", "Which products go together", segments_what.products(content)),
        ("forecast", "What comes", segments_what.forecast(content)),
        ("leaving", "Who leaves", segments_what.leaving(content)),
        ("made", "How this was made", _made(content)),
    ]
    summary = "".join(f"<li>{sentence}</li>" for sentence in _summary(content))
    contents = "".join(f'<li><a href="#{key}">{said(name)}</a></li>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{said(name)}</h2>{inner}</section>' for key, name, inner in sections)
    store = charts.land(view, content.land, "land") if view is not None else ""
    many = "" if content.customers is None else f"{content.customers:,} customers. "
    reader = f" for {said(content.reader)}" if content.reader else ""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{said(content.title)}</title><style>{_style()}</style></head><body>
<header><h1>{said(content.title)}</h1>
<p>{many}Made <time datetime="{content.made_at.isoformat()}">{content.made_at:%-d %B %Y, %H:%M %Z}</time>{reader}.
Nothing here is told of fewer than ten people.</p></header>{store}
<main><ul class="summary">{summary}</ul><nav><ul>{contents}</ul></nav>{body}</main></body></html>"""


@lru_cache(maxsize=1)
def _style() -> str:
    return Path(__file__).with_name("segments_page.css").read_text(encoding="utf-8")


def _summary(content: Content) -> list[str]:
    """The page in a few sentences."""
    said = []
    if content.shares:
        half = next(many for many, worth in content.shares if worth >= 0.5)
        said.append(f"Half of the expected worth comes from <b>{half:.0%}</b> of the buyers.")
    if (groups := one_run(content, "groups")) is not None and groups.segments:
        largest, alone = groups.segments[0], groups.results["k"] == 1
        why = ": no other division comes back in other samples" if groups.results.get("choice") else ""
        said.append(
            f"There is one group{why}."
            if alone
            else f"There are <b>{groups.results['k']}</b> groups; the largest, {quoted(largest['name'])}, has "
            f"{largest['share']:.0%} of the buyers."
        )
    if content.runs.get("hotspots"):
        run = content.runs["hotspots"][0]
        hot = run.results["named"]["hot"]
        said.append(f"{html.escape(run.results['about'].capitalize())}: <b>{hot}</b> {run.results['unit']}s are hot.")
    if (made := content.analyses.get("forecast")) is not None and made.results["rows"]:
        whole, place = made.results["rows"][0], len(made.results["levels"]) - 1
        amount = money(whole["mean"][0], made.results["currency"])
        low, high = (charts.short(whole[bound][place][0]) for bound in ("low", "high"))
        said.append(
            f"The next {made.results['period']} is forecast at <b>{amount}</b> ({low} to {high}, "
            f"{made.results['levels'][place]:.0%})."
        )
    if (churn := one_run(content, "churn")) is not None and churn.results.get("churn_rate"):
        whole = churn.results["churn_rate"][-1]
        if whole["rate"] is not None:
            said.append(f"In the last year <b>{whole['rate']:.1%}</b> of the customers left.")
    gone = [name for name in content.missing if name != "rule"]
    if gone:
        said.append(f"Not here, and why, in its section: {', '.join(_NAMES.get(name, name) for name in gone)}.")
    return said


def _made(content: Content) -> str:
    """What everything was made from, so that it can be made again."""
    rows = []
    for parts in content.runs.values():
        for run in parts:
            rows.append(
                (run.name, f"{run.key}, run {run.number}", run.cutoff, run.seed, run.data_version, run.code_version)
            )
    for part in content.analyses.values():
        rows.append((_NAMES[part.kind].capitalize(), part.id, part.cutoff, part.seed, part.data_version,
                     part.code_version))  # fmt: skip
    body = [
        (html.escape(name), html.escape(which), day(cutoff), str(seed), f"<code>{html.escape(data[:12])}</code>",
         f"<code>{html.escape(code)}</code>")
        for name, which, cutoff, seed, data, code in rows
    ]  # fmt: skip
    return (
        "<p>The same data, parameters, seed and code make the same figures. Tables and maps leave out whatever fewer "
        "than ten customers made, and what would tell it by subtraction; each section says how much that is.</p>"
        f"{table(('Part', 'Made as', 'Before', 'Seed', 'Data', 'Code'), body, (3,))}"
        '<p class="note">Outlines: Natural Earth, US Census Bureau (public domain).</p>'
    )
