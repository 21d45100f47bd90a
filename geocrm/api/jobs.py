"""Background jobs, as their user sees them, and how routes start one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastapi import Request, Response
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor
from geocrm.api import pages
from geocrm.api.dependencies import Reading, SignedIn, router
from geocrm.api.shapes import JobId, Page, Shown
from geocrm.db import queue
from geocrm.errors import NotFound

routes = router("Jobs")


class ShownJob(Shown):
    """A job: how far it is and what came of it."""

    id: str = Field(examples=["job_12"])
    name: str = Field(examples=["layer.publish"])
    subject: str | None = Field(examples=["lay_1"])
    status: str = Field(description="queued, running, done or failed.", examples=["done"])
    result: Any = Field(
        description="What came of it; of some jobs, while they run, how far they are.",
        examples=[{"version": 4, "moved": 128}],
    )
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class StartedJob(Shown):
    """The job that does it; ask for it until it is done."""

    job_id: str = Field(examples=["job_12"])


def started_job(
    session: Session, actor: Actor, name: str, args: Mapping[str, Any], *, subject: str | None, lock: str
) -> dict[str, Any]:
    """Queue the actor's work on `subject`, an outer id, after that of the same lock; the answer of `StartedJob`."""
    job_id = queue.enqueue(
        session,
        name,
        {"user_id": actor.user_id, "key_id": actor.key_id} | dict(args),
        user_id=actor.user_id,
        key_id=actor.key_id,
        subject=subject,
        lock=lock,
    )
    return {"job_id": ids.show("job", job_id)}


_COLUMNS = (
    "SELECT id, name, subject, status, CASE WHEN CAST(:reads AS boolean)"
    " OR CAST(:fences AS boolean) AND name = 'geofences.import' THEN result END AS result,"
    " CASE WHEN CAST(:reads AS boolean) OR CAST(:fences AS boolean) AND name = 'geofences.import' THEN error"
    " WHEN jsonb_typeof(error) = 'object' THEN jsonb_build_object('title', error -> 'title') END AS error,"
    " created_at, started_at, finished_at FROM visible.jobs WHERE "
)


def _told(actor: Actor) -> dict[str, bool]:
    """Of which jobs the actor is told what came of them."""
    return {"reads": actor.may("customers:read"), "fences": actor.may("geofences:write")}


@routes.get("/jobs", operation_id="list_jobs", response_model=Page[ShownJob], summary="List jobs")
def list_jobs(
    request: Request,
    response: Response,
    session: Reading,
    actor: SignedIn,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Your own, those of your team's reps and managers, or all; newest first. A key reads those that it started."""
    rows = session.execute(
        text(
            _COLUMNS + "CAST(:after AS bigint) IS NULL OR id < CAST(:after AS bigint)"
            " ORDER BY id DESC LIMIT CAST(:limit AS bigint)"
        ),
        {"after": pages.read_id(cursor), "limit": limit + 1} | _told(actor),
    )
    shown = [dict(row._mapping) | {"id": ids.show("job", row.id)} for row in rows]
    return pages.page(request, response, shown, limit, lambda row: [ids.read("job", row["id"])])


@routes.get("/jobs/{job_id}", operation_id="get_job", response_model=ShownJob, summary="One job")
def get_job(session: Reading, actor: SignedIn, job_id: JobId) -> object:
    """Ask again until its status is done or failed. A key without `customers:read` is not told the result, but that of
    an import of geofences with `geofences:write`."""
    row = session.execute(text(_COLUMNS + "id = CAST(:id AS bigint)"), {"id": job_id} | _told(actor)).one_or_none()
    if row is None:
        raise NotFound()
    return dict(row._mapping) | {"id": ids.show("job", row.id)}
