"""Segments keep their identity from run to run: which group of a new run is which of before, and who moved where."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from geocrm.db.copying import driver, read_binary
from geocrm.db.models import Segment, Segmentation, SegmentationRun
from geocrm.db.queries import named
from geocrm.segmentation import drift
from geocrm.segmentation.methods import Group, Outcome

FOLLOWED: Final = 2_000_000
"""Groups are followed from run to run by at most so many customers of each."""
_MEMBER: Final = np.dtype([("fields", ">i2"), ("size0", ">i4"), ("id", ">i8"), ("size1", ">i4"), ("segment", ">i8")])


def read_members(session: Session, run_id: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Customers of a run, ascending, and their segments."""
    if run_id is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    rows = read_binary(driver(session), named("segmentation", "copy_members"), {"run_id": run_id}, _MEMBER)
    return rows["id"].astype(np.int64), rows["segment"].astype(np.int64)


def find_segments(
    session: Session,
    held: Segmentation,
    outcome: Outcome,
    customers: NDArray[np.int64],
    labels: NDArray[np.int32],
    result_version: str,
    *,
    named_by_label: bool,
) -> tuple[dict[int, Segment], list[dict[str, Any]]]:
    """The segment of each label, made where it is new, and where groups come from."""
    known = session.scalars(select(Segment).where(Segment.segmentation_id == held.id)).all()
    by_identity = {segment.identity: segment for segment in known}
    fresh = max(by_identity, default=-1) + 1
    lineages: list[dict[str, Any]] = []
    if held.method == "rule":  # a rule is known again by its name
        by_name = {segment.name: segment.identity for segment in known}
        identity_of: dict[int, int] = {}
        for group in outcome.groups:
            identity_of[group.label] = by_name.get(group.name, fresh)
            fresh += group.name not in by_name
    elif named_by_label:
        identity_of = {group.label: group.label for group in outcome.groups}
    else:
        followed = _followed_run(session, held, result_version)
        identity_of, lineages = _follow(session, followed, by_identity, fresh, outcome, customers, labels)
    made = {}
    for group in outcome.groups:
        identity = identity_of[group.label]
        segment = by_identity.get(identity)
        if segment is None:
            segment = Segment(
                segmentation_id=held.id, identity=identity, name=_free_name(group, by_identity.values()),
                sentence=group.sentence, rule=group.rule,
            )  # fmt: skip
            session.add(segment)
            by_identity[identity] = segment
        made[group.label] = segment
    session.flush()
    return made, lineages


def _free_name(group: Group, taken: Any) -> str:
    """The name of a new segment: not one that another segment of the segmentation goes by."""
    names = {segment.name for segment in taken}
    number = 2
    name = group.name
    while name in names:
        name, number = f"{group.name} ({number})", number + 1
    return name


def _followed_run(session: Session, held: Segmentation, result_version: str) -> SegmentationRun | None:
    """The run whose groups are taken up: one that found the very same, else the published one, else the newest."""
    done = select(SegmentationRun).where(
        SegmentationRun.segmentation_id == held.id, SegmentationRun.status == "done", SegmentationRun.kept
    )
    newest = done.order_by(SegmentationRun.number.desc()).limit(1)
    for query in (newest.where(SegmentationRun.result_version == result_version),
                  newest.where(SegmentationRun.id == held.current_run_id), newest):  # fmt: skip
        if (found := session.scalars(query).one_or_none()) is not None:
            return found
    return None


def _follow(
    session: Session,
    followed_run: SegmentationRun | None,
    by_identity: dict[int, Segment],
    fresh: int,
    outcome: Outcome,
    customers: NDArray[np.int64],
    labels: NDArray[np.int32],
) -> tuple[dict[int, int], list[dict[str, Any]]]:
    old_ids, old_segments = read_members(session, None if followed_run is None else followed_run.id)
    if followed_run is None or not len(old_ids) or not len(customers):
        return {group.label: fresh + number for number, group in enumerate(outcome.groups)}, []
    step = max(1, -(-max(len(old_ids), len(customers)) // FOLLOWED))
    old_kept, new_kept = old_ids % step == 0, customers % step == 0
    identity_of_segment = {segment.id: identity for identity, segment in by_identity.items()}
    found, place = np.unique(old_segments[old_kept], return_inverse=True)
    old_identities = np.array([identity_of_segment[int(one)] for one in found], dtype=np.int64)[place]
    stored = followed_run.results
    old_profiles = {int(identity): row for identity, row in stored.get("profiles", {}).items()}
    comparable = stored.get("columns") == outcome.results.get("columns") and old_profiles
    followed = drift.follow(
        old_ids[old_kept],
        old_identities,
        customers[new_kept],
        labels[new_kept],
        next_identity=fresh,
        old_profiles=old_profiles if comparable else None,
        new_profiles=outcome.profiles if comparable else None,
    )
    identity_of = {lineage.label: lineage.identity for lineage in followed.lineages}
    next_identity = followed.next_identity
    for group in outcome.groups:  # groups without customers in what was followed
        if group.label not in identity_of:
            identity_of[group.label] = next_identity
            next_identity += 1
    segment_of = {identity: segment.id for identity, segment in by_identity.items()}
    return identity_of, [
        {
            "label": lineage.label,
            "kind": lineage.kind,
            "from": [segment_of[identity] for identity in lineage.from_identities],
            "overlap": lineage.overlap,
            "by_profile": lineage.by_profile,
        }
        for lineage in followed.lineages
    ]


def tell_drift(
    session: Session,
    former_run: int | None,
    former: tuple[NDArray[np.int64], NDArray[np.int64]],
    customers: NDArray[np.int64],
    segments: NDArray[np.int64],
    lineages: list[dict[str, Any]],
) -> dict[str, Any] | None:
    """Who moved where since the run that was published when this one was made; None where there was none."""
    if former_run is None:
        return None
    old_ids, old_segments = former
    both = np.union1d(old_ids, customers)
    before, after = np.zeros(len(both), dtype=np.int64), np.zeros(len(both), dtype=np.int64)
    before[np.searchsorted(both, old_ids)] = old_segments
    after[np.searchsorted(both, customers)] = segments
    pairs, often = np.unique(np.stack((before, after)), axis=1, return_counts=True)
    stayed = (before > 0) & (after > 0)
    index = drift.stability_index(old_segments, segments)
    number = session.scalar(select(SegmentationRun.number).where(SegmentationRun.id == former_run))
    return {
        "against_run": number,
        "moves": [
            {"from": int(one) or None, "to": int(other) or None, "customers": int(n)}
            for one, other, n in zip(*pairs, often, strict=True)
        ],
        "moved": float((before[stayed] != after[stayed]).mean()) if stayed.any() else 0.0,
        "stability_index": index,
        "verdict": drift.verdict(index),
        "lineages": lineages,
    }
