"""What is done again and again: sites placed, counts folded in, the audit log sealed, what has expired deleted."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db import audit
from geocrm.db.engine import Database
from geocrm.jobs.registry import handler, long_handler
from geocrm.settings import get_settings
from geocrm.spatial import geocoding, lookup

KEEP_JOBS_DAYS = 30
KEEP_REQUESTS_DAYS = 7
KEEP_UPLOADS_DAYS = 7
IDEMPOTENCY_HOURS = 48


@handler("placing.pending", cron="*/10 * * * *")
def place_pending(session: Session, args: Mapping[str, Any]) -> Any:
    """Place sites that wait and are due."""
    outcome = geocoding.place(session)
    return {"considered": outcome.considered, "placed": outcome.placed}


@handler("placing.refine", cron="*/15 * * * *")
def refine(session: Session, args: Mapping[str, Any]) -> Any:
    """Ask the geocoder of the settings, where there is one, for street precision."""
    provider = geocoding.open_provider(get_settings())
    if provider is None:
        return None
    outcome = geocoding.refine(session, provider)
    return {"considered": outcome.considered, "placed": outcome.placed}


@handler("lookup.merge", cron="* * * * *")
def merge_cells(session: Session, args: Mapping[str, Any]) -> Any:
    """Fold the differences of the cell pyramid in."""
    return {"merged": lookup.merge_cells(session)}


@handler("audit.seal", cron="* * * * *")
def seal_audit(session: Session, args: Mapping[str, Any]) -> Any:
    """Put new audit entries into the hash chain."""
    sealed = 0
    while (more := audit.seal(session)) > 0:
        sealed += more
    return {"sealed": sealed}


@long_handler("positions.expire", cron="*/10 * * * *")
def expire_positions(database: Database, args: Mapping[str, Any]) -> Any:
    """Delete positions, events and the logs of automations that are too old to be kept."""
    from geocrm.campaigns import acting, positions

    settings, now = database.settings, datetime.now(UTC)
    gone = positions.expire(database, now=now, keep_days=settings.position_days, event_days=settings.event_days)
    return gone | {"runs": acting.expire(database, now=now, keep_days=settings.event_days)}


@long_handler("clean", cron="17 * * * *")
def clean(database: Database, args: Mapping[str, Any]) -> Any:
    """Delete what has expired: sessions, failed logins, keys' requests, answers for repeats, jobs, uploaded files."""
    from geocrm.ingest import batches

    with database.writing() as session:
        counts = _clean_rows(session)
        unwanted = batches.find_old_uploads(session, database.settings.uploads, days=KEEP_UPLOADS_DAYS)
    for path in unwanted:
        path.unlink(missing_ok=True)
    return counts | {"uploads": len(unwanted)}


def _clean_rows(session: Session) -> dict[str, int]:
    counts: dict[str, int] = {}
    for what, sql in (
        ("sessions", "DELETE FROM user_sessions WHERE expires_at < now()"),
        ("attempts", "DELETE FROM login_attempts WHERE at < now() - interval '1 day'"),
        ("requests", f"DELETE FROM key_requests WHERE at < now() - make_interval(days => {KEEP_REQUESTS_DAYS:d})"),
        (
            "answers",
            f"DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(hours => {IDEMPOTENCY_HOURS:d})",
        ),
        (
            "jobs",
            "DELETE FROM jobs WHERE finished_at IS NOT NULL"
            f" AND created_at < now() - make_interval(days => {KEEP_JOBS_DAYS:d})",
        ),
        (
            "queue",
            "DELETE FROM procrastinate_jobs q WHERE q.status IN ('succeeded', 'failed', 'cancelled', 'aborted')"
            " AND (NOT EXISTS (SELECT FROM jobs j WHERE j.id = q.id))"
            " AND (SELECT max(e.at) FROM procrastinate_events e WHERE e.job_id = q.id) < now() - interval '1 day'",
        ),
    ):
        counts[what] = session.execute(text(sql)).rowcount  # type: ignore[attr-defined]
    return counts
