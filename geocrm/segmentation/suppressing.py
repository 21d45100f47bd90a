"""What a run found, for readers who do not see every customer: nothing about groups of a few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from geocrm import ids
from geocrm.access import Actor
from geocrm.segmentation import handing_on
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
    if not (actor.sees_all and actor.exact):
        # sums of cells, with those around them and those of the next zoom, tell what single customers bought, and where
        shown.pop("cells", None)
    if actor.sees_all:
        return shown
    shown["shades"] = shades_for(actor, results)
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
        shown["churn_rate"], _ = handing_on.churn_rates(shown["churn_rate"])
    if "evaluation" in shown:
        told = shown["evaluation"]
        parts = [n for row in told["lift"] for n in (row["left"], row["customers"] - row["left"])]
        few = any(0 < n < SMALLEST_GROUP for n in parts)  # what a part left out reached follows from the next one
        shown["evaluation"] = dict(told) | {"lift": [] if few else told["lift"]}
    shown["drift"] = None
    if hidden and "total" in shown:  # less the worths that are told, it would tell the hidden one
        del shown["total"]
    return shown


def shades_for(actor: Actor, results: Mapping[str, Any]) -> dict[str, Any]:
    """Where the shades of scores begin, as the actor may read it: of others than those who see every customer not where
    fewer than 10 would stand in one."""
    held = results.get("shades", {})
    return {
        name: said for name, said in held.items()
        if actor.sees_all or said["fewest"] >= SMALLEST_GROUP
    }  # fmt: skip


def customers_for(actor: Actor, customers: int | None) -> int | None:
    """How many a run divided, as the actor may read it: of fewer than 10 in all their number is not told."""
    return customers if actor.sees_all or not customers or customers >= SMALLEST_GROUP else None


def progress_for(actor: Actor, progress: Mapping[str, Any]) -> dict[str, Any]:
    """How far a run is, as the actor may read it: numbers of customers are for those who see every one."""
    return dict(progress) if actor.sees_all else {name: progress[name] for name in ("phase",) if name in progress}


def error_for(actor: Actor, error: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Why a run failed, as the actor may read it: details may tell numbers of customers."""
    return None if error is None else dict(error) if actor.sees_all else {"title": error.get("title")}


def _hidden(sizes: Mapping[int, int]) -> set[int]:
    held = suppress(list(sizes.values())).hidden
    return {label for label, hides in zip(sizes, held, strict=True) if hides}


def _outer(drift: Mapping[str, Any]) -> dict[str, Any]:
    moves = [row | {"from": ids.show("seg", row["from"]), "to": ids.show("seg", row["to"])} for row in drift["moves"]]
    lineages = [row | {"from": [ids.show("seg", number) for number in row["from"]]} for row in drift["lineages"]]
    return dict(drift) | {"moves": moves, "lineages": lineages}
