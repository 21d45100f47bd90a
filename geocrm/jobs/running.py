"""One job, from its beginning to what is noted of its end."""

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

import structlog
from pydantic_core import to_jsonable_python
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.engine import Database
from geocrm.db.models import Job
from geocrm.errors import GeocrmError
from geocrm.jobs.registry import HANDLERS, RETRY

log = structlog.get_logger("geocrm.jobs")


def run_job(database: Database, name: str, job_id: int, args: Mapping[str, Any]) -> None:
    """Do one job and note what came of it in its row (periodic ones have none)."""
    chosen = HANDLERS[name]
    began = time.monotonic()
    if not _begin(database, job_id):
        return
    try:
        if chosen.work is not None:
            with database.writing() as session:
                result = chosen.work(session, args)
                _finish(session, job_id, "done", result=result)
        else:
            assert chosen.long is not None
            result = chosen.long(database, args)
            with database.writing() as session:
                _finish(session, job_id, "done", result=result)
    except GeocrmError as error:
        problem = {"title": error.title, "detail": error.detail, "errors": list(error.errors)} | error.extra
        with database.writing() as session:
            _finish(session, job_id, "failed", error=to_jsonable_python(problem))
        log.warning("job_refused", job=job_id, name=name, slug=error.slug)
        return
    except tuple(RETRY.retry_exceptions or ()) as error:
        with contextlib.suppress(Exception), database.writing() as session:
            _finish(session, job_id, "queued")
        log.warning("job_waits", job=job_id, name=name, error=type(error).__name__)
        raise
    except Exception as error:
        with database.writing() as session:
            _finish(session, job_id, "failed", error={"title": "Something went wrong here; it has been logged."})
        log.error("job_failed", job=job_id, name=name, error=type(error).__name__, exc_info=True)
        raise
    log.info("job_done", job=job_id, name=name, s=round(time.monotonic() - began, 2))


def give_up(database: Database, job_id: int) -> None:
    """A job that was tried often enough has failed, and so has the run or analysis that waited for it."""
    problem = {
        "title": "This could not be done.",
        "detail": "It was tried again and again; the log says what hindered it.",
        "errors": [],
    }
    values = {"id": job_id, "error": json.dumps(problem)}
    with database.writing() as session:
        for statement in (
            "UPDATE jobs SET status = 'failed', error = CAST(:error AS jsonb), finished_at = clock_timestamp()"
            " WHERE id = CAST(:id AS bigint) AND status IN ('queued', 'running')",
            *(
                f"UPDATE {table} SET status = 'failed', error = CAST(:error AS jsonb), finished_at = clock_timestamp()"
                " WHERE job_id = CAST(:id AS bigint) AND status IN ('queued', 'running')"
                for table in ("segmentation_runs", "analyses")
            ),
        ):
            session.execute(text(statement), values)
    log.error("job_given_up", job=job_id)


def _begin(database: Database, job_id: int) -> bool:
    with database.writing() as session:
        row = session.get(Job, job_id, with_for_update=True)
        if row is None:
            return True
        if row.status == "done":  # the worker was killed between its commit and telling the queue
            return False
        session.execute(
            text("UPDATE jobs SET status = 'running', started_at = now(), error = NULL WHERE id = CAST(:id AS bigint)"),
            {"id": job_id},
        )
    return True


def _finish(session: Session, job_id: int, status: str, *, result: Any = None, error: Any = None) -> None:
    session.flush()
    row = session.get(Job, job_id, with_for_update=True)
    if row is not None:
        row.status = status
        row.result = to_jsonable_python(result)
        row.error = error
        if status in ("done", "failed"):
            session.flush()
            session.execute(
                text("UPDATE jobs SET finished_at = clock_timestamp() WHERE id = CAST(:id AS bigint)"), {"id": job_id}
            )
    session.flush()


def run_queued(database: Database, *, limit: int = 100) -> int:
    """Do what is queued now, in this thread, and return how many: for tests and for scripts without a worker."""
    done = 0
    while done < limit:
        with database.writing() as session:
            row = session.execute(
                text("SELECT id, task_name, args FROM procrastinate_fetch_job_v2(NULL, NULL) WHERE id IS NOT NULL")
            ).one_or_none()
        if row is None:
            return done
        end = "succeeded"
        try:
            run_job(database, row.task_name, row.id, row.args)
        except Exception:
            end = "failed"
        with database.writing() as session:
            session.execute(
                text(
                    "SELECT procrastinate_finish_job_v1(CAST(:id AS bigint),"
                    " CAST(:end AS procrastinate_job_status), false)"
                ),
                {"id": row.id, "end": end},
            )
        done += 1
    return done
