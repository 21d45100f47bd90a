"""Analyses: figures of all customers that divide nobody. Asked for, done by the worker, kept, compared.

An analysis is a run by itself: there is nothing to publish, and what it found stands in its row. It is done in one
transaction, in which it is also marked done; the same data, parameters, seed and code give the same results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.engine import Database
from geocrm.db.models import Analysis
from geocrm.db.queries import named
from geocrm.db.queue import enqueue
from geocrm.errors import Conflict, Invalid, NotFound
from geocrm.segmentation import statistics
from geocrm.segmentation.analysis_kinds import KINDS, SQL, Asked
from geocrm.segmentation.runs import DEFAULT_SEED, Cancelled, Progress, code_version

_LOCK: Final = 730_541_721


def start(
    session: Session,
    kind: str,
    *,
    actor: Actor,
    parameters: Mapping[str, Any] | None = None,
    cutoff: datetime | None = None,
    seed: int = DEFAULT_SEED,
    queued: bool = True,
) -> Analysis:
    """Queue an analysis (or not: who asks does it then, by `execute`) of what was before `cutoff`, default the
    beginning of today in UTC. Raises Forbidden, and Invalid with a pointer."""
    require(actor, "analyses:write")
    if kind not in KINDS:
        fault = f"expected one of {', '.join(KINDS)}"
        raise Invalid(
            f"There is no kind of analysis {kind!r}; {fault}.", errors=[{"pointer": "/kind", "detail": fault}]
        )
    KINDS[kind].check(parameters or {})
    now = datetime.now(UTC)
    moment = statistics.cutoff_moment(
        now.replace(hour=0, minute=0, second=0, microsecond=0) if cutoff is None else cutoff
    )
    if moment > now:
        fault = "what is to come is not known yet"
        raise Invalid(f"cutoff: {fault}", errors=[{"pointer": "/cutoff", "detail": fault}])
    made = Analysis(
        kind=kind, cutoff=moment, seed=seed, parameters=dict(parameters or {}), actor_id=actor.user_id
    )  # fmt: skip
    session.add(made)
    session.flush()
    if queued:
        made.job_id = enqueue(
            session, "analysis.run", {"analysis_id": made.id}, user_id=actor.user_id, key_id=actor.key_id,
            subject=ids.show("ana", made.id), lock="analyses",
        )  # fmt: skip
    session.flush()
    session.refresh(made)
    _audit(session, actor, "analysis.run", made, kind=kind, cutoff=moment.isoformat(), seed=seed)
    return made


def cancel(session: Session, analysis_id: int, *, actor: Actor) -> Analysis:
    """Cancel an analysis that waits or is going on. Raises NotFound, Forbidden, Conflict where it ended."""
    require(actor, "analyses:write")
    held = get_analysis(session, analysis_id, lock=True)
    if held.status not in ("queued", "running"):
        raise Conflict(f"This analysis is {held.status}; there is nothing to cancel.")
    held.status, held.finished_at = "cancelled", datetime.now(UTC)
    session.flush()
    _audit(session, actor, "analysis.cancel", held)
    return held


def get_analysis(session: Session, analysis_id: int, *, lock: bool = False) -> Analysis:
    """An analysis; raises NotFound."""
    query = select(Analysis).where(Analysis.id == analysis_id).execution_options(populate_existing=True)
    found = session.scalars(query.with_for_update(key_share=True) if lock else query).one_or_none()
    if found is None:
        raise NotFound()
    return found


def results_of(held: Analysis) -> dict[str, Any]:
    """What an analysis found, without the model that it keeps for `next_offers`."""
    return {name: value for name, value in held.results.items() if name != "model"}


def find_analyses(
    session: Session, *, kind: str | None = None, before: int | None = None, limit: int = 50
) -> Sequence[Analysis]:
    """Analyses, the newest first."""
    query = select(Analysis).order_by(Analysis.id.desc()).limit(limit)
    if kind is not None:
        query = query.where(Analysis.kind == kind)
    return session.scalars(query if before is None else query.where(Analysis.id < before)).all()


def find_newest(session: Session, kind: str) -> Analysis | None:
    """The newest analysis of a kind that is done: that of the latest cutoff, of several of these the last asked for.
    One of an earlier cutoff tells less of today, whenever it was asked for."""
    query = select(Analysis).where(Analysis.kind == kind, Analysis.status == "done")
    return session.scalars(query.order_by(Analysis.cutoff.desc(), Analysis.id.desc()).limit(1)).one_or_none()


def execute(database: Database, analysis_id: int) -> dict[str, Any]:
    """Do an analysis; to do it again after it was killed does no harm. What came of it: `status` done or cancelled.

    Raises what the kind raises (TooLittleData, NotFound …), noted in the analysis."""
    with Progress(database, analysis_id, queries=SQL, lock=_LOCK) as progress:
        if progress.begin():
            with database.writing() as session:
                held = session.get_one(Analysis, analysis_id)
                kind = KINDS[held.kind]
                kind.check(held.parameters)
                found = kind.find(Asked(session, held.cutoff, held.parameters, held.seed, progress))
                results = json.dumps(found.results, allow_nan=False)
                finished = session.execute(
                    text(named(SQL, "finish_run")),
                    {
                        "id": held.id, "code_version": code_version(), "data_version": found.data_version,
                        "result_version": hashlib.sha256(results.encode()).hexdigest(), "results": results,
                        "progress": json.dumps({"phase": "done", "done": 1, "total": 1}),
                    },
                ).scalar()  # fmt: skip
                if finished is None:
                    raise Cancelled
            return {"status": "done", "analysis": ids.show("ana", analysis_id)}
    return {"status": "cancelled"}


def _audit(session: Session, actor: Actor, action: str, held: Analysis, **after: Any) -> None:
    audit.record(
        session, action, actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("ana", held.id), after=after
    )
