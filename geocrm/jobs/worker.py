"""The worker: a process that takes jobs off the queue, delivers to webhooks and acts on automations until it is told
to end."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import procrastinate
import psycopg
import structlog
from procrastinate import PsycopgConnector
from psycopg_pool import AsyncConnectionPool

from geocrm import logs
from geocrm.campaigns import acting
from geocrm.campaigns.delivering import Deliverer
from geocrm.db.engine import Database, command_database
from geocrm.db.queue import QUEUE
from geocrm.jobs.registry import HANDLERS, RETRY, Handler
from geocrm.jobs.running import give_up, run_job

log = structlog.get_logger("geocrm.jobs")

_ALONE = 7_305_417_220  # advisory lock that a worker holds while it lives
CONCURRENCY = 2


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
def _beside(name: str, run: Callable[[threading.Event], None]) -> Iterator[None]:
    """Within the block a thread runs; told to end, it ends what it has begun before the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(stop,), name=name, daemon=True)
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
            webhooks, automations = Deliverer(database).run, partial(acting.run, database)
            with _beside("webhooks", webhooks), _beside("automations", automations):
                asyncio.run(_work(database))
    except psycopg.OperationalError as error:
        log.error("worker_lost_database", error=type(error).__name__)
        sys.exit(1)
