"""Segmentations themselves: how customers are to be divided, and what the published run says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.models import Segment, Segmentation, SegmentationRun
from geocrm.db.queries import named
from geocrm.errors import Conflict, Invalid, NotFound
from geocrm.segmentation import churn_method, groups, hot_spots, methods, published, value_method
from geocrm.segmentation.methods import Method

METHODS: Final[dict[str, type[Method]]] = {
    kind.name: kind
    for kind in (
        methods.Rfm,
        groups.Groups,
        value_method.Value,
        churn_method.Churn,
        hot_spots.HotSpots,
        methods.Rule,
    )
}


_KEY: Final = re.compile("[A-Za-z0-9_-]{1,60}")


def find_segmentations(session: Session, *, archived: bool = False) -> Sequence[Segmentation]:
    """All segmentations, the active one first; those archived too where asked for."""
    query = select(Segmentation).order_by(Segmentation.is_active.desc(), Segmentation.id)
    return session.scalars(query if archived else query.where(Segmentation.archived_at.is_(None))).all()


def get_segmentation(session: Session, which: int | str, *, lock: bool = False) -> Segmentation:
    """A segmentation by id or key; raises NotFound."""
    column = Segmentation.id if isinstance(which, int) else Segmentation.key
    query = select(Segmentation).where(column == which).execution_options(populate_existing=True)
    found = session.scalars(query.with_for_update(key_share=True) if lock else query).one_or_none()
    if found is None:
        raise NotFound(f"There is no segmentation {which!r}." if isinstance(which, str) else None)
    return found


def create_segmentation(
    session: Session,
    *,
    actor: Actor,
    key: str,
    name: str,
    method: str,
    parameters: Mapping[str, Any] | None = None,
    refresh_days: int | None = None,
) -> Segmentation:
    """A segmentation without runs yet. Raises Forbidden, Conflict for a key that is taken, Invalid with a pointer for
    parameters that the method does not take."""
    require(actor, "segmentations:write")
    _require_refreshing(actor, refresh_days)
    if method not in METHODS:
        raise Invalid(
            f"There is no method {method!r}; there are {', '.join(METHODS)}.",
            errors=[{"pointer": "/method", "detail": f"expected one of {', '.join(METHODS)}"}],
        )
    if not _KEY.fullmatch(key):
        wanted = "expected 1 to 60 letters without accents, digits, - and _: it stands in filters and addresses"
        raise Invalid(f"The key {key!r} cannot be one.", errors=[{"pointer": "/key", "detail": wanted}])
    METHODS[method].check(parameters or {})
    if session.scalar(select(Segmentation.id).where(Segmentation.key == key)) is not None:
        raise Conflict(f"There is a segmentation of the key {key!r} already.")
    made = Segmentation(
        key=key, name=name, method=method, parameters=dict(parameters or {}), refresh_days=refresh_days,
        created_by=actor.user_id,
    )  # fmt: skip
    session.add(made)
    session.flush()
    session.refresh(made)
    _audit(session, actor, "segmentation.create", made, after=_said(made))
    return made


def edit_segmentation(
    session: Session,
    segmentation_id: int,
    *,
    actor: Actor,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    refresh_days: int | Any | None = ...,
    archived: bool | None = None,
) -> Segmentation:
    """Change what is given; runs made before keep the parameters that they were made with.

    Raises NotFound, Forbidden, Invalid, Conflict where the active one is to be archived."""
    require(actor, "segmentations:write")
    held = get_segmentation(session, segmentation_id, lock=True)
    before = _said(held)
    if name is not None:
        held.name = name
    if parameters is not None:
        METHODS[held.method].check(parameters)
        held.parameters = dict(parameters)
    if refresh_days is not ...:
        _require_refreshing(actor, refresh_days)
        held.refresh_days = refresh_days
    if archived is not None:
        require(actor, "segmentations:publish")
        if archived and held.is_active:
            raise Conflict("The map and the lookups show this segmentation; make another one active first.")
        held.archived_at = (held.archived_at or datetime.now(UTC)) if archived else None
    held.version += 1
    held.updated_at = datetime.now(UTC)
    session.flush()
    _audit(session, actor, "segmentation.update", held, before=before, after=_said(held))
    return held


def _require_refreshing(actor: Actor, refresh_days: int | None) -> None:
    if refresh_days is not None:  # it publishes by itself
        require(actor, "segmentations:publish")


def _said(held: Segmentation) -> dict[str, Any]:
    return {
        "name": held.name, "method": held.method, "parameters": held.parameters, "refresh_days": held.refresh_days,
        "archived": held.archived_at is not None,
    }  # fmt: skip


def _audit(session: Session, actor: Actor, action: str, held: Segmentation, **payload: Any) -> None:
    audit.record(
        session, action, actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("sgm", held.id), **payload
    )


# ---------------------------------------------------------------- segments


def get_segment(session: Session, segment_id: int) -> tuple[Segment, Segmentation]:
    """A segment and its segmentation; raises NotFound."""
    row = session.execute(
        select(Segment, Segmentation)
        .join(Segmentation, Segmentation.id == Segment.segmentation_id)
        .where(Segment.id == segment_id)
    ).one_or_none()
    if row is None:
        raise NotFound()
    return row[0], row[1]


def rename_segment(session: Session, segment_id: int, name: str, *, actor: Actor) -> Segment:
    """Give a segment another name, which runs leave alone from then on.

    Raises NotFound, Forbidden, and Conflict for a rule's segment: its name is the rule's."""
    require(actor, "segmentations:write")
    session.execute(select(Segment.id).where(Segment.id == segment_id).with_for_update())
    segment, segmentation = get_segment(session, segment_id)
    if segmentation.method == "rule":
        raise Conflict("The name of this segment is that of its rule: change it in the segmentation.")
    before = segment.name
    segment.name, segment.named_by_hand = name, True
    segment.version += 1
    segment.updated_at = datetime.now(UTC)
    session.flush()
    audit.record(
        session, "segment.rename", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("seg", segment_id),
        before={"name": before}, after={"name": name},
    )  # fmt: skip
    return segment


def segments_of(session: Session, run: SegmentationRun) -> list[tuple[Segment, dict[str, Any]]]:
    """The segments of a run with what the run says of each (`size`, `share`, `sentence` …), the largest first."""
    said = {int(row["segment"]): row for row in run.results.get("segments", [])}
    rows = session.scalars(select(Segment).where(Segment.id.in_(said))).all()
    return sorted(((row, said[row.id]) for row in rows), key=lambda pair: (-pair[1]["size"], pair[0].id))


def find_members(
    session: Session, segment: Segment, run: SegmentationRun, *, after: int = 0, limit: int = 50
) -> list[dict[str, Any]]:
    """Members of a segment in a run that the reader sees, by id, with their scores."""
    rows = session.execute(
        text(named("segmentation", "members")),
        {"run_id": run.id, "segment_id": segment.id, "after": after, "limit": limit},
    )
    return [
        {
            "id": ids.show("cus", row.id),
            "name": row.name,
            "kind": row.kind,
            "stage": row.stage,
            "owner": ids.reference("usr", row.owner_id, row.owner_name),
            "scores": published.scores_by_name(run.score_names, row.numbers),
        }
        for row in rows
    ]


def count_members(session: Session, run: SegmentationRun) -> dict[int, int]:
    """Members that the reader sees, by segment."""
    rows = session.execute(text(named("segmentation", "count_members")), {"run_id": run.id})
    return {row.segment_id: row.customers for row in rows}
