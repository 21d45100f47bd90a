"""Publishing runs: in one transaction another run is the one that filters, cards, lookups and tiles show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.models import Segment, Segmentation, SegmentationRun
from geocrm.db.queries import named
from geocrm.errors import Conflict
from geocrm.segmentation.runs import get_run
from geocrm.segmentation.segmentations import get_segmentation
from geocrm.spatial import lookup

_ACTIVE_LOCK: Final = 7_305_417_204


@dataclass(frozen=True)
class Published:
    """What publishing did: the run now shown, the one shown before, and how many lookup rows were written."""

    run: int | None
    former: int | None
    lookup_rows: int


def publish(session: Session, segmentation_id: int, number: int, *, actor: Actor) -> Published:
    """Let a run that is done be the one that is shown, whichever it is: a newer one or a former one.

    Raises NotFound, Forbidden, and Conflict for a run that is not done or whose members were deleted to make room, and
    for an archived segmentation. Needs the worker's role."""
    require(actor, "segmentations:publish")
    _lock(session)
    held = get_segmentation(session, segmentation_id, lock=True)
    if held.archived_at is not None:
        raise Conflict("This segmentation is archived; take it back first.")
    run = get_run(session, segmentation_id, number, lock=True)
    if run.status != "done":
        raise Conflict(f"Run {number} is {run.status}; only a run that is done can be published.")
    if not run.kept:
        raise Conflict(f"The members of run {number} were deleted to make room for newer ones; run it again.")
    former = _number(session, held.current_run_id)
    held.current_run_id = run.id
    run.published_at = datetime.now(UTC)
    _touch(held)
    for row in run.results.get("segments", []):  # what is said of the segments is what this run found
        session.execute(
            update(Segment)
            .where(Segment.id == row["segment"])
            .values(sentence=row["sentence"], rule=row["rule"], updated_at=datetime.now(UTC))
        )
    session.flush()
    rows = move_lookups(session) if held.is_active else 0
    _audit(session, actor, "segmentation.publish", held, before={"run": former}, after={"run": number})
    return Published(number, former, rows)


def revert(session: Session, segmentation_id: int, *, actor: Actor) -> Published:
    """Publish the run again that was published before the present one. Raises as `publish` does, and Conflict where
    there is none."""
    require(actor, "segmentations:publish")
    held = get_segmentation(session, segmentation_id, lock=True)
    number = session.scalar(
        select(SegmentationRun.number)
        .where(
            SegmentationRun.segmentation_id == segmentation_id,
            SegmentationRun.published_at.is_not(None),
            SegmentationRun.kept,
            SegmentationRun.id != held.current_run_id,
        )
        .order_by(SegmentationRun.published_at.desc())
        .limit(1)
    )
    if number is None:
        raise Conflict("There is no former run to go back to.")
    return publish(session, segmentation_id, number, actor=actor)


def activate(session: Session, segmentation_id: int | None, *, actor: Actor) -> Published:
    """Let lookups and tiles carry the segments of this segmentation, or of none. Raises NotFound, Forbidden, and
    Conflict where no run of it is published. Needs the worker's role."""
    require(actor, "segmentations:publish")
    _lock(session)
    former = session.scalars(select(Segmentation).where(Segmentation.is_active)).one_or_none()
    chosen = None if segmentation_id is None else get_segmentation(session, segmentation_id, lock=True)
    if chosen is not None and (chosen.current_run_id is None or chosen.archived_at is not None):
        raise Conflict("Publish a run of this segmentation first; an archived one cannot be shown.")
    if former is not None and former is not chosen:
        former.is_active = False
        _touch(former)
        session.flush()
    if chosen is not None and not chosen.is_active:
        chosen.is_active = True
        _touch(chosen)
        session.flush()
    rows = move_lookups(session)
    audit.record(
        session, "segmentation.activate", actor_id=actor.user_id, key_id=actor.key_id,
        object_id=ids.show("sgm", segmentation_id),
        before={"active": None if former is None else ids.show("sgm", former.id)},
        after={"active": ids.show("sgm", segmentation_id)},
    )  # fmt: skip
    run = None if chosen is None else _number(session, chosen.current_run_id)
    return Published(run, None if former is None else _number(session, former.current_run_id), rows)


def move_lookups(session: Session) -> int:
    """Let lookup rows and cells follow the segments of the active segmentation: those that differ, or where these are
    many a new generation. Others who change lookup rows wait until the transaction ends; readers do not."""
    session.flush()
    lookup.lock_generations(session)  # whoever edits a customer now reads the segments that are written here
    session.execute(
        text("CREATE TEMP TABLE IF NOT EXISTS changed_customers (customer_id bigint PRIMARY KEY) ON COMMIT DROP")
    )
    session.execute(text("TRUNCATE changed_customers"))
    session.execute(text(named("segmentation", "lookups_to_move")))
    return lookup.refresh_bulk(session)


def _lock(session: Session) -> None:
    """One publication at a time: which segmentation is active does not change under it."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ACTIVE_LOCK})


def _number(session: Session, run_id: int | None) -> int | None:
    return (
        None if run_id is None else session.scalar(select(SegmentationRun.number).where(SegmentationRun.id == run_id))
    )


def _touch(held: Segmentation) -> None:
    held.version += 1
    held.updated_at = datetime.now(UTC)


def _audit(session: Session, actor: Actor, action: str, held: Segmentation, **payload: dict[str, int | None]) -> None:
    audit.record(
        session, action, actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("sgm", held.id), **payload
    )
