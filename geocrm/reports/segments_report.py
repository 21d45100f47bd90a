"""The marketer's report as one file: what was last published and found, without what fewer than ten customers made.

It computes nothing anew: figures are those of the published runs of segmentations and of the newest analyses, each
with the versions it was made from. What is not there is said, and why.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import numpy as np
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.models import Segmentation, SegmentationRun
from geocrm.db.queries import named
from geocrm.reports.charts import framed
from geocrm.reports.map_page import background
from geocrm.reports.segments_content import AnalysisPart, CellPart, Content, RunPart
from geocrm.reports.segments_page import render
from geocrm.reports.segments_who import SPOTS
from geocrm.segmentation import analyses, handing_on
from geocrm.segmentation.analysis_kinds import KINDS
from geocrm.segmentation.segmentations import METHODS, segments_of
from geocrm.spatial.suppression import SMALLEST_GROUP

MOST_HOTSPOTS: Final = 2
"""Segmentations by hot spots on one page."""
_CELLS_ACROSS: Final = 26
_PARTS: Final = 100


def make(
    session: Session,
    actor: Actor,
    *,
    title: str | None = None,
    now: datetime | None = None,
    tell: Callable[[str], object] = lambda _: None,
) -> str:
    """The HTML page. `session` is a worker's; the report is recorded in the audit log.

    Raises `errors.Forbidden` where the actor does not read figures of all customers."""
    require(actor, "analyses:read")
    require(actor, "exports:aggregated")
    moment = now if now is not None else datetime.now(UTC)
    tell("reading what is published …")
    runs, missing = _runs(session)
    told = _analyses(session, missing)
    customers = int(session.scalar(text(named("reports", "customers"))) or 0)
    value = next(iter(runs.get("value", ())), None)
    groups = next(iter(runs.get("groups", ())), None)
    worth: dict[str, dict[int, float]] = {
        method: _worth(session, runs[method][0], value) for method in ("rfm", "groups") if method in runs and value
    }
    tell("drawing maps …")
    bounds = _bounds(session, [part for kind in ("groups", "hotspots", "rfm") for part in runs.get(kind, ())])
    cells = None if groups is None or bounds is None else _cells(session, groups, bounds)
    content = Content(
        title=title or "Who our customers are, where, and what comes",
        made_at=moment,
        reader="" if actor.user_id is None else actor.name,
        customers=customers if customers == 0 or customers >= SMALLEST_GROUP else None,
        runs={method: tuple(parts) for method, parts in runs.items()},
        analyses=told,
        missing=missing,
        worth=worth,
        shares=() if value is None else _shares(session, value),
        bounds=bounds,
        land=() if bounds is None else tuple(background(bounds)["features"]),
        cells=cells,
    )
    page = render(content)
    audit.record(
        session, "report.segments", actor_id=actor.user_id, key_id=actor.key_id,
        after={"runs": {part.key: part.number for parts in runs.values() for part in parts},
               "analyses": [part.id for part in told.values()]},
    )  # fmt: skip
    return page


def _runs(session: Session) -> tuple[dict[str, list[RunPart]], dict[str, str]]:
    """The published runs by method, those of the active segmentation first, and why there is none of a method."""
    query = (
        select(Segmentation).where(Segmentation.archived_at.is_(None))
        .order_by(Segmentation.is_active.desc(), Segmentation.id)
    )  # fmt: skip
    found: dict[str, list[RunPart]] = defaultdict(list)
    missing: dict[str, str] = {}
    for held in session.scalars(query):
        if held.current_run_id is None:
            missing.setdefault(held.method, _why(session, held))
        elif len(found[held.method]) < (MOST_HOTSPOTS if held.method == "hotspots" else 1):
            run = session.get_one(SegmentationRun, held.current_run_id)
            found[held.method].append(_run(session, held, run))
    for method in METHODS:
        if not found.get(method) and method != "rule":
            missing.setdefault(
                method,
                f"There is no segmentation by {method}: `geocrm segments create {method} --method {method}`, then "
                f"`geocrm segments run {method} --publish`.",
            )
    return {method: parts for method, parts in found.items() if parts}, missing


def _why(session: Session, held: Segmentation) -> str:
    newest = session.scalars(
        select(SegmentationRun).where(SegmentationRun.segmentation_id == held.id)
        .order_by(SegmentationRun.number.desc()).limit(1)
    ).one_or_none()  # fmt: skip
    if newest is not None and newest.error is not None:
        return f"The last run of {held.name} found nothing: {newest.error['detail']}"
    return f"No run of {held.name} is published."


def _run(session: Session, held: Segmentation, run: SegmentationRun) -> RunPart:
    rows = [
        {"id": segment.id, "name": segment.name, "label": said["label"], "sentence": said["sentence"],
         "size": int(said["size"]), "share": said["share"]}
        for segment, said in segments_of(session, run)
        if said["size"]
    ]  # fmt: skip
    told, withheld = handing_on.shown_rows(rows, "size")
    labels = {row["label"] for row in told}
    results = dict(run.results)
    for table, label in (("profile", "label"), ("distinct", "group"), ("worth_by_segment", "label"),
                         ("words", "label"), ("expected", "label")):  # fmt: skip
        if table in results:
            results[table] = [
                row for row in results[table]
                if row[label] in labels and row.get("n", SMALLEST_GROUP) >= SMALLEST_GROUP
            ]  # fmt: skip
    if "cells" in results:
        labels_of = [SPOTS.get(row["label"]) for row in results["cells"]]
        results["named"] = {name: labels_of.count(name) for name in ("hot", "cold", "mixed")}
        results["cells"], results["cells_withheld"] = handing_on.shown_rows(results["cells"])
    if "churn_rate" in results:
        results["churn_rate"], results["churn_rate_withheld"] = handing_on.churn_rates(results["churn_rate"])
    if withheld:
        results.pop("total", None)
    return RunPart(
        method=held.method, key=held.key, name=held.name, number=run.number, run_id=run.id, cutoff=run.cutoff,
        seed=run.seed, parameters=run.parameters, data_version=run.data_version or "",
        code_version=run.code_version or "", score_names=tuple(run.score_names),
        customers=run.customers if (run.customers or 0) >= SMALLEST_GROUP else None,
        segments=tuple(told), withheld=withheld, results=results,
    )  # fmt: skip


def _analyses(session: Session, missing: dict[str, str]) -> dict[str, AnalysisPart]:
    """The newest analysis of each kind that is done, as it may be handed on."""
    found = {}
    for kind in KINDS:
        done = analyses.find_newest(session, kind)
        if done is None:
            tried = next(iter(analyses.find_analyses(session, kind=kind, limit=1)), None)
            missing[kind] = (
                f"Not possible: {tried.error['detail']}"
                if tried is not None and tried.error is not None
                else f"This was not asked for yet: `geocrm analyses run {kind}`."
            )
            continue
        found[kind] = AnalysisPart(
            kind=kind, id=ids.show("ana", done.id) or "", cutoff=done.cutoff, seed=done.seed,
            parameters=done.parameters, data_version=done.data_version or "", code_version=done.code_version or "",
            results=handing_on.analysis(kind, done.results),
        )  # fmt: skip
    return found


def _place(part: RunPart) -> int:
    """Where the worth stands among the scores, counted from 1 as the database does."""
    return part.score_names.index("worth") + 1


def _worth(session: Session, part: RunPart, value: RunPart) -> dict[int, float]:
    """The expected worth of the segments that are shown, where ten or more of them have one, and so many of those whose
    worth is left out that the worth of all does not tell it."""
    rows = session.execute(
        text(named("reports", "worth_by_segment")),
        {"run_id": part.run_id, "value_run": value.run_id, "place": _place(value)},
    ).all()
    shown = {row["id"] for row in part.segments}
    every = session.execute(
        text(named("reports", "worth_shares")), {"run_id": value.run_id, "place": _place(value), "parts": 1}
    ).all()
    rest = sum(row.customers for row in every) - sum(row.customers for row in rows)  # in no segment of this run
    table = [dict(row._mapping) for row in rows]
    told, _ = handing_on.shown_rows([*table, {"segment_id": None, "customers": max(rest, 0)}])
    return {
        row["segment_id"]: float(row["worth"])
        for row in told
        if row["segment_id"] in shown and row["worth"] is not None
    }


def _shares(session: Session, value: RunPart) -> tuple[tuple[float, float], ...]:
    """The curve of worth: of which share of the customers, the most valuable first, which share comes."""
    parts = min(_PARTS, (value.customers or 0) // SMALLEST_GROUP)
    if parts < 4:
        return ()
    rows = session.execute(
        text(named("reports", "worth_shares")), {"run_id": value.run_id, "place": _place(value), "parts": parts}
    ).all()
    many, worth = (np.cumsum([float(getattr(row, name)) for row in rows]) for name in ("customers", "worth"))
    if not len(rows) or worth[-1] <= 0:
        return ()
    return ((0.0, 0.0), *zip((many / many[-1]).tolist(), (worth / worth[-1]).tolist(), strict=True))


def _bounds(session: Session, parts: list[RunPart]) -> tuple[float, float, float, float] | None:
    """What maps show: where the members of the first of these runs live, with some room."""
    for part in parts:
        row = session.execute(text(named("reports", "extent")), {"run_id": part.run_id}).one()
        if row.west is not None and (part.customers or 0) >= SMALLEST_GROUP:
            room = max(0.04 * max(row.east - row.west, row.north - row.south), 0.05)
            return framed((
                max(row.west - room, -180.0), max(row.south - room, -80.0),
                min(row.east + room, 180.0), min(row.north + room, 80.0),
            ))  # fmt: skip
    return None


def _cells(session: Session, part: RunPart, bounds: tuple[float, float, float, float]) -> CellPart | None:
    """Where the groups live: members by cell and group, of fixed cells with ten of them or more."""
    wide = bounds[2] - bounds[0]
    across = _CELLS_ACROSS * (2 if wide > 60 else 1)  # on maps of several lands cells are large as they are
    zoom = int(min(max(math.floor(math.log2(360 * across / wide)), 3), 14))
    rows = session.execute(text(named("reports", "cells_of_segments")), {"run_id": part.run_id, "zoom": zoom}).all()
    if not rows:
        return None
    groups = [row["id"] for row in part.segments]
    every = sorted({row.segment_id for row in rows})
    cells = sorted({(row.x, row.y) for row in rows})
    at, column = {cell: i for i, cell in enumerate(cells)}, {segment: i for i, segment in enumerate(every)}
    table = np.zeros((len(cells), len(every)), dtype=np.int64)
    for row in rows:
        table[at[row.x, row.y], column[row.segment_id]] = row.customers
    shown = table.sum(axis=1) >= SMALLEST_GROUP
    kept = {segment: column[segment] for segment in groups if segment in column}
    return CellPart(zoom, tuple(cell for cell, is_shown in zip(cells, shown, strict=True) if is_shown), table[shown],
                    kept, int((~shown).sum()))  # fmt: skip
