"""What a run found, for readers who do not see every customer: nothing about groups of a few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from geocrm import ids
from geocrm.access import Actor
from geocrm.spatial.suppression import SMALLEST_GROUP, suppress

_TABLES: Final = (
    ("profile", "label"),
    ("distinct", "group"),
    ("worth_by_segment", "label"),
    ("words", "label"),
    ("expected", "label"),
)
"""Tables of results with a row for a segment, and their column of its label."""


def results_for(actor: Actor, results: Mapping[str, Any]) -> dict[str, Any]:
    """Results of a run as the actor may read them, segments by their outer ids.

    Who sees every customer gets all. For others, sizes of segments under 10 are null, and of the next smallest ones too
    until those that are not told are several and 10 customers together, so that nobody subtracts them from the total;
    profiles hold no figure made of fewer than 10, nor of a segment whose size is not told; who moved where is left to
    `runs.compare`, which counts the customers they see."""
    shown = {name: value for name, value in results.items() if name not in ("profiles", "drift")}
    shown["drift"] = results.get("drift")
    segments = [dict(row) | {"id": ids.show("seg", row["segment"])} for row in results.get("segments", [])]
    for row in segments:
        del row["segment"]
    shown["segments"] = segments
    if shown["drift"] is not None:
        shown["drift"] = _outer(shown["drift"])
    if actor.sees_all:
        return shown
    hidden = _hidden({row["label"]: row["size"] for row in segments})
    shown["segments"] = [row | ({"size": None, "share": None} if row["label"] in hidden else {}) for row in segments]
    for table, label in _TABLES:
        if table in shown:
            shown[table] = [
                row
                for row in shown[table]
                if row[label] not in hidden and row.get("n", SMALLEST_GROUP) >= SMALLEST_GROUP
            ]
    if "churn_rate" in shown:
        shown["churn_rate"] = _regions(shown["churn_rate"])
    if "evaluation" in shown:
        told = shown["evaluation"]
        lift = [row for row in told["lift"] if row["customers"] >= SMALLEST_GROUP]
        shown["evaluation"] = dict(told) | {"lift": lift}
    shown["drift"] = None
    if hidden and "total" in shown:  # less the worths that are told, it would tell the hidden one
        del shown["total"]
    if "cells" in shown:  # of hot spots: fixed cells or areas, beside the number of all
        held = suppress([row["customers"] for row in shown["cells"]]).hidden
        shown["cells"] = [row for row, hides in zip(shown["cells"], held, strict=True) if not hides]
    return shown


def customers_for(actor: Actor, customers: int | None) -> int | None:
    """How many a run divided, as the actor may read it: of fewer than 10 in all their number is not told."""
    return customers if actor.sees_all or not customers or customers >= SMALLEST_GROUP else None


def _regions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Churn rates of regions with enough customers; where one is not told, nor is what it could be subtracted from."""
    regions = [row for row in rows if not row["total"]]
    hidden = suppress([row["n"] for row in regions]).hidden
    kept = [row for row, hides in zip(regions, hidden, strict=True) if not hides]
    return kept + [row for row in rows if row["total"] and row["n"] >= SMALLEST_GROUP]


def _hidden(sizes: Mapping[int, int]) -> set[int]:
    held = suppress(list(sizes.values())).hidden
    return {label for label, hides in zip(sizes, held, strict=True) if hides}


def _outer(drift: Mapping[str, Any]) -> dict[str, Any]:
    moves = [row | {"from": ids.show("seg", row["from"]), "to": ids.show("seg", row["to"])} for row in drift["moves"]]
    lineages = [row | {"from": [ids.show("seg", number) for number in row["from"]]} for row in drift["lineages"]]
    return dict(drift) | {"moves": moves, "lineages": lineages}
