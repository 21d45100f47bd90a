"""Background jobs: `python -m geocrm.jobs` works through the queue until it is told to end.

A job that changes the database does so in one transaction, in which it is also marked done; so a worker that is killed
at any moment leaves a job either done or to be done again. `geocrm.db.queue.enqueue` puts jobs in.
"""

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import procrastinate
import psycopg
import sqlalchemy.exc
import structlog
from procrastinate import PsycopgConnector, RetryStrategy
from psycopg_pool import AsyncConnectionPool
from pydantic_core import to_jsonable_python
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, ids, logs
from geocrm.access import SYSTEM, Actor
from geocrm.db import audit
from geocrm.db.engine import Database, command_database
from geocrm.db.models import Job, SegmentationRun
from geocrm.db.queue import QUEUE
from geocrm.errors import Conflict, GeocrmError, TryAgain
from geocrm.settings import get_settings
from geocrm.spatial import geocoding, lookup, preview, territories

log = structlog.get_logger("geocrm.jobs")

_ALONE = 7_305_417_220  # advisory lock that a worker holds while it lives
KEEP_JOBS_DAYS = 30
KEEP_REQUESTS_DAYS = 7
KEEP_UPLOADS_DAYS = 7
IDEMPOTENCY_HOURS = 48
CONCURRENCY = 2


class Again(Exception):
    """The job has to wait for something and is tried again."""


RETRY = RetryStrategy(
    max_attempts=12,
    exponential_wait=2,
    retry_exceptions=[Again, sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, psycopg.OperationalError],
)
Work = Callable[[Session, Mapping[str, Any]], Any]
Long = Callable[[Database, Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """What a job of a name does: `work` in the job's transaction, or `long` in transactions of its own (repeatable)."""

    name: str
    work: Work | None = None
    long: Long | None = None
    cron: str | None = None


HANDLERS: dict[str, Handler] = {}


def handler(name: str, cron: str | None = None) -> Callable[[Work], Work]:
    """Register what a job does in one transaction."""

    def register(work: Work) -> Work:
        HANDLERS[name] = Handler(name, work=work, cron=cron)
        return work

    return register


def long_handler(name: str, cron: str | None = None) -> Callable[[Long], Long]:
    """Register what a job does in transactions of its own; to do it again must do no harm."""

    def register(work: Long) -> Long:
        HANDLERS[name] = Handler(name, long=work, cron=cron)
        return work

    return register


# ---------------------------------------------------------------- what jobs do


def _actor(session: Session, args: Mapping[str, Any]) -> Actor:
    user_id = args.get("user_id")
    if user_id is None:
        return SYSTEM
    key_id = args.get("key_id")
    return access.load_actor(session, int(user_id), key_id=None if key_id is None else int(key_id))


@long_handler("import.run")
def run_import(database: Database, args: Mapping[str, Any]) -> Any:
    """Run an import batch, for good or dry."""
    from geocrm.ingest import batches, load

    batch_id = int(args["batch_id"])
    try:
        return load.run(batch_id, database=database, dry_run=bool(args.get("dry_run")))
    except Conflict as error:
        with database.writing() as session:
            status = batches.find_batch(session, batch_id).status
        if status in ("queued", "running"):  # what a killed worker began has not ended yet
            raise Again(error.detail) from error
        raise


@long_handler("import.undo")
def undo_import(database: Database, args: Mapping[str, Any]) -> Any:
    """Undo an import batch."""
    from geocrm.ingest import undo

    with database.writing() as session:
        actor = _actor(session, args)
    return undo.undo(
        int(args["batch_id"]), database=database, skip_conflicts=bool(args.get("skip_conflicts")), actor=actor
    )


def _when(args: Mapping[str, Any]) -> datetime | None:
    given = args.get("effective_from")
    return None if given is None else datetime.fromisoformat(str(given))


@handler("layer.publish")
def publish_layer(session: Session, args: Mapping[str, Any]) -> Any:
    """Publish a draft."""
    return _published(
        territories.publish(
            session,
            int(args["layer_id"]),
            int(args["version"]),
            actor=_actor(session, args),
            reason=str(args["reason"]),
            effective_from=_when(args),
            overwrite=bool(args.get("overwrite")),
        )
    )


@handler("layer.preview")
def preview_layer(session: Session, args: Mapping[str, Any]) -> Any:
    """Work a publication out and take it back; what the user does not see is counts only."""
    found = preview.preview(
        session,
        int(args["layer_id"]),
        int(args["version"]),
        actor=_actor(session, args),
        effective_from=_when(args),
    )
    return _preview(found)


def _preview(found: preview.Preview) -> dict[str, Any]:
    def area(number: int | None, name: str | None) -> dict[str, Any] | None:
        return None if number is None else {"id": ids.show("ter", number), "name": name}

    def balance(row: preview.Balance) -> dict[str, Any]:
        return {
            "area": area(row.area_id, row.name),
            "owner_id": ids.show("usr", row.owner_id),
            "leaving": row.leaving,
            "entering": row.entering,
            "sales_leaving": {currency: f"{amount:f}" for currency, amount in row.sales_leaving.items()},
            "sales_entering": {currency: f"{amount:f}" for currency, amount in row.sales_entering.items()},
        }

    coverage = found.coverage
    return {
        "version": found.version,
        "effective_from": found.effective_from,
        "moves": found.moves,
        "moves_hidden": found.moves_hidden,
        "rebased": found.rebased,
        "concerned": found.concerned,
        "merged": found.merged,
        "sales": {currency: f"{amount:f}" for currency, amount in found.sales.items()},
        "by_area": [balance(row) for row in found.by_area],
        "by_owner": [balance(row) for row in found.by_owner],
        "moving": [
            {
                "customer": {"id": ids.show("cus", row.customer_id), "name": row.customer_name},
                "site_id": ids.show("sit", row.site_id),
                "from": area(row.from_area_id, row.from_name),
                "from_basis": row.from_basis,
                "to": area(row.to_area_id, row.to_name),
                "to_basis": row.to_basis,
            }
            for row in found.moving
        ],
        "overlaps": None
        if coverage is None
        else [
            {
                "area": area(row.area_id, row.name),
                "other": area(row.other_area_id, row.other_name),
                "wins_area_id": ids.show("ter", row.wins_area_id),
                "area_m2": row.area_m2,
                "at": {"lon": row.lon, "lat": row.lat},
            }
            for row in coverage.overlaps
        ],
        "overlap_count": None if coverage is None else coverage.overlap_count,
        "gaps": None
        if coverage is None
        else [{"area_m2": row.area_m2, "at": {"lon": row.lon, "lat": row.lat}} for row in coverage.gaps],
        "gap_count": None if coverage is None else coverage.gap_count,
    }


@handler("layer.undo")
def undo_layer(session: Session, args: Mapping[str, Any]) -> Any:
    """Publish a former version again."""
    version = args.get("version")
    return _published(
        territories.undo(
            session,
            int(args["layer_id"]),
            actor=_actor(session, args),
            reason=str(args["reason"]),
            version=None if version is None else int(version),
        )
    )


def _published(done: territories.Published) -> dict[str, Any]:
    return {
        "version": done.version,
        "status": done.status,
        "effective_from": done.effective_from,
        "moved": done.moved,
        "rebased": done.rebased,
        "concerned": done.concerned,
        "merged": done.merged,
    }


@handler("layer.make_current", cron="* * * * *")
def make_due_current(session: Session, args: Mapping[str, Any]) -> Any:
    """Make layer versions current whose time has come."""
    return {"layers": territories.make_due_current(session)}


@long_handler("segmentation.run")
def run_segmentation(database: Database, args: Mapping[str, Any]) -> Any:
    """Do a run of a segmentation, and publish it where that was asked for."""
    from geocrm.segmentation import publishing, runs

    run_id = int(args["run_id"])
    try:
        done = runs.execute(database, run_id)
    except TryAgain as error:
        raise Again(error.detail) from error
    with database.writing() as session:
        run = session.get_one(SegmentationRun, run_id)
        if run.status == "done" and run.then_publish and run.published_at is None:
            actor = SYSTEM if run.actor_id is None else access.load_actor(session, run.actor_id)
            published = publishing.publish(session, run.segmentation_id, run.number, actor=actor)
            done |= {"published": published.run, "lookup_rows": published.lookup_rows}
    return done


@long_handler("analysis.run")
def run_analysis(database: Database, args: Mapping[str, Any]) -> Any:
    """Do an analysis."""
    from geocrm.segmentation import analyses

    try:
        return analyses.execute(database, int(args["analysis_id"]))
    except TryAgain as error:
        raise Again(error.detail) from error


@handler("segmentation.publish")
def publish_segmentation(session: Session, args: Mapping[str, Any]) -> Any:
    """Publish a run of a segmentation, or the one published before (`number` null)."""
    from geocrm.segmentation import publishing

    segmentation_id, number, actor = int(args["segmentation_id"]), args.get("number"), _actor(session, args)
    if number is None:
        return asdict(publishing.revert(session, segmentation_id, actor=actor))
    return asdict(publishing.publish(session, segmentation_id, int(number), actor=actor))


@handler("segmentation.activate")
def activate_segmentation(session: Session, args: Mapping[str, Any]) -> Any:
    """Let lookups and tiles carry the segments of a segmentation, or of none."""
    from geocrm.segmentation import publishing

    segmentation_id = args.get("segmentation_id")
    chosen = None if segmentation_id is None else int(segmentation_id)
    return asdict(publishing.activate(session, chosen, actor=_actor(session, args)))


@handler("segmentation.refresh", cron="23 * * * *")
def refresh_segmentations(session: Session, args: Mapping[str, Any]) -> Any:
    """Start the runs of segmentations that refresh themselves and are due."""
    from geocrm.segmentation import runs

    return {"runs": runs.start_due(session, actor=SYSTEM)}


@handler("audiences.follow")
def follow_audiences(session: Session, args: Mapping[str, Any]) -> Any:
    """Look at every audience for the customers that changed."""
    from geocrm.campaigns import audiences

    return {"customers": audiences.follow(session)}


@long_handler("audiences.refresh", cron="*/5 * * * *")
def refresh_audiences(database: Database, args: Mapping[str, Any]) -> Any:
    """Work out anew the audiences that are due."""
    from geocrm.campaigns import audiences

    return {"audiences": audiences.refresh_due(database)}


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


# ---------------------------------------------------------------- running one


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


# ---------------------------------------------------------------- the worker


def make_worker(database: Database) -> procrastinate.App:
    """The queue's application with a task for every handler."""
    connector = PsycopgConnector(
        conninfo=database.conninfo("worker"), pool_factory=AsyncConnectionPool, min_size=1, max_size=CONCURRENCY + 2
    )
    app = procrastinate.App(connector=connector)
    for chosen in HANDLERS.values():
        _register(app, database, chosen)

    @app.periodic(cron="* * * * *")
    @app.task(name="queue.retry_stalled", queue=QUEUE, queueing_lock="queue.retry_stalled")
    async def retry_stalled(timestamp: int) -> None:
        for job in await app.job_manager.get_stalled_jobs():
            await app.job_manager.retry_job(job)

    return app


def _register(app: procrastinate.App, database: Database, chosen: Handler) -> None:
    if chosen.cron is None:

        @app.task(name=chosen.name, queue=QUEUE, pass_context=True, retry=RETRY)
        def run(context: procrastinate.JobContext, /, **args: Any) -> None:
            try:
                run_job(database, chosen.name, context.job.id or 0, args)
            except Exception as error:
                if RETRY.get_retry_decision(exception=error, job=context.job) is None:
                    give_up(database, context.job.id or 0)
                raise

    else:

        @app.periodic(cron=chosen.cron)
        @app.task(name=chosen.name, queue=QUEUE, pass_context=True, queueing_lock=chosen.name, lock=chosen.name)
        def repeat(context: procrastinate.JobContext, /, timestamp: int = 0, **args: Any) -> None:
            run_job(database, chosen.name, context.job.id or 0, args)


def recover(database: Database, guard: psycopg.Connection[Any]) -> int:
    """Put what a killed worker had begun back into the queue; how many. Nothing where another worker lives.

    `guard` is the connection on which this worker holds the lock of the living.
    """
    alone = guard.execute("SELECT pg_try_advisory_lock(%s)", (_ALONE,)).fetchone()
    if alone is None or not alone[0]:
        return 0
    rows = guard.execute("SELECT id FROM procrastinate_jobs WHERE status = 'doing' ORDER BY id").fetchall()
    for (job_id,) in rows:
        guard.execute("SELECT procrastinate_retry_job_v2(%s, now(), NULL, NULL, NULL)", (job_id,))
    guard.execute("DELETE FROM procrastinate_workers")
    return len(rows)


async def _work(database: Database) -> None:
    app = make_worker(database)
    async with app.open_async():
        await app.run_worker_async(
            queues=[QUEUE],
            concurrency=CONCURRENCY,
            fetch_job_polling_interval=2.0,
            shutdown_graceful_timeout=20,
            install_signal_handlers=True,
        )


@contextlib.contextmanager
def delivering_webhooks(database: Database) -> Iterator[None]:
    """Within the block a thread delivers events to webhooks; it ends what it sends before the block ends."""
    from geocrm.campaigns.delivering import Deliverer

    stop = threading.Event()
    thread = threading.Thread(target=Deliverer(database).run, args=(stop,), name="webhooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=20)


@contextlib.contextmanager
def acting_on_automations(database: Database) -> Iterator[None]:
    """Within the block a thread does what automations are there for; it ends its lot before the block ends."""
    from geocrm.campaigns import acting

    stop = threading.Event()
    thread = threading.Thread(target=acting.run, args=(database, stop), name="automations", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=20)


def main() -> None:
    """Work through the queue until SIGTERM or SIGINT."""
    logs.configure()
    try:
        with command_database() as database, psycopg.connect(database.conninfo("worker"), autocommit=True) as guard:
            again = recover(database, guard)
            log.info("worker_started", again=again, threads=threading.active_count())
            with delivering_webhooks(database), acting_on_automations(database):
                asyncio.run(_work(database))
    except psycopg.OperationalError as error:
        log.error("worker_lost_database", error=type(error).__name__)
        sys.exit(1)


if __name__ == "__main__":
    main()
