"""The run of an import, dry or for good.

It is one transaction. The file is read in chunks, checked, and streamed through COPY into a temporary table; then sets
of rows are inserted and updated by (source, external id). Whatever stops a run half-way leaves nothing; the file stays
under GEOCRM_HOME/uploads until a run has succeeded, so that a repeated run gives what an undisturbed one would have
given.

Memory: a run holds at most three chunks of `formats.CHUNK_ROWS` rows, whatever the size of the file.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import psycopg
import pyarrow as pa
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import SYSTEM
from geocrm.db import audit, reach
from geocrm.db.copying import copy_table, driver
from geocrm.db.engine import Database, open_database
from geocrm.db.models import ImportBatch
from geocrm.errors import Conflict, GeocrmError, Invalid
from geocrm.ingest import batches, columns, customers, first_load, recipes
from geocrm.ingest.columns import Plan, Prepared
from geocrm.ingest.first_load import FirstLoad, Repeated
from geocrm.ingest.formats import Source
from geocrm.ingest.progress import Progress
from geocrm.ingest.staging import Context, Rejected, create_stage, source_has_rows
from geocrm.settings import get_settings
from geocrm.spatial import ledger

_LOCK = 7_305_417_300
FIRST_LOAD_BYTES = 200_000
"""From this size of a file on it pays to lock empty tables and set their indexes aside."""
_RAN = ("done", "undoing", "undone")
T = TypeVar("T")


class Loader(Protocol):
    """What each kind brings: its staging table, a chunk's rows for it, and what happens to them in the end."""

    @property
    def stage_columns(self) -> tuple[tuple[str, str], ...]:
        """Columns of the staging table: (name, type)."""
        ...

    def stage(self, prepared: Prepared) -> pa.Table:
        """The good rows of a chunk."""
        ...

    def apply(self, source: Source) -> None:
        """From the staging table into the tables."""
        ...


def _loader(context: Context) -> Loader:
    from geocrm.ingest import areas, interactions, places, products, sales

    kinds: dict[str, Callable[[Context], Loader]] = {
        "customers": customers.Customers,
        "sales": sales.Sales,
        "interactions": interactions.Interactions,
        "places": places.Places,
        "areas": areas.Areas,
        "products": products.Products,
    }
    return kinds[context.recipe.kind](context)


def run(
    batch_id: int,
    *,
    database: Database | None = None,
    dry_run: bool = False,
    listener: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run a batch in a transaction of its own and return its summary; a batch that is done already is only summed up.

    `dry_run`: everything is done and taken back; the summary and the rejected rows stay. Raises what is wrong with file
    or recipe; the batch is then failed and says why. Safe to repeat after a crash.
    """
    database = database or open_database(get_settings())
    progress = Progress(database, batch_id, listener)
    begun = False
    try:
        with database.writing() as session:
            if not session.scalar(
                text("SELECT pg_try_advisory_xact_lock(:lock + :id)"), {"lock": _LOCK, "id": batch_id}
            ):
                raise Conflict("This import is running already.")
            batch = batches.find_batch(session, batch_id)
            if batch.status in _RAN:
                if batch.status != "done":
                    raise Conflict(f"This import is {batch.status}.")
                return batches.summary(session, batch_id)
            session.expunge(batch)
            progress.begin()
            begun = True
            _run(session, batch, database, progress, dry_run=dry_run)
            done = batches.summary(session, batch_id)
        if not dry_run and batch.file_path is not None:
            (database.settings.uploads / batch.file_path).unlink(missing_ok=True)
        return done
    except GeocrmError as error:
        # a conflict before it began is somebody else's run, or one that is over: that is left as it is
        if begun or not isinstance(error, Conflict):
            progress.fail({"title": error.title, "detail": error.detail, "errors": error.errors})
        raise
    except Exception as error:
        said = reach.explain(error) if isinstance(error, psycopg.OperationalError | OperationalError) else None
        progress.fail(
            {
                "title": "The import stopped unexpectedly.",
                "detail": f"{said or type(error).__name__}; nothing was changed.",
            }
        )
        raise
    finally:
        progress.close()


def _run(session: Session, batch: ImportBatch, database: Database, progress: Progress, *, dry_run: bool) -> None:
    actor = SYSTEM if batch.user_id is None else access.load_actor(session, batch.user_id, key_id=batch.key_id)
    access.require(actor, batches.PERMISSION[batch.kind])
    source = batches.kept_file(batch, database.settings.uploads).open()
    settled = columns.plan(source, recipes.from_dict(batch.recipe, kind=batch.kind))
    _complete(settled)
    # one import of a source at a time: two that bring the same new customer would collide
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 7))"), {"key": f"{batch.kind} {batch.source}"}
    )
    session.execute(text("DELETE FROM import_rows WHERE batch_id = CAST(:id AS bigint)"), {"id": batch.id})
    rejected = Rejected()
    context = Context(
        session=session,
        batch_id=batch.id,
        source=settled.recipe.source,
        recipe=settled.recipe,
        actor=actor,
        given=_given(settled, source),
        rejected=rejected,
        progress=progress.phase,
    )
    trial = session.begin_nested() if dry_run else None
    try:
        size = (database.settings.uploads / str(batch.file_path)).stat().st_size
        first = batch.kind == "customers" and trial is None and size >= FIRST_LOAD_BYTES
        processed = _write(context, source, progress, database if first else None)
        counts = _counts(session, batch.id) | {"rejected": rejected.count} | context.counts
        if trial is not None:
            trial.rollback()
        rejected.store(session, batch.id)
    finally:
        rejected.close()
    session.execute(
        text(
            "UPDATE import_batches SET status = :status, counts = CAST(:counts AS jsonb), recipe = CAST(:recipe "
            "AS jsonb),"
            " processed = :processed, total = :processed, finished_at = :now, options = CAST(:options AS jsonb),"
            " file_path = CASE WHEN :dry THEN file_path END WHERE id = CAST(:id AS bigint)"
        ),
        {
            "status": "preview" if dry_run else "done",
            "counts": json.dumps(counts),
            "recipe": json.dumps(settled.recipe.to_dict()),
            "processed": processed,
            "now": datetime.now(UTC),
            "options": json.dumps({"columns": source.columns} | ({"dry_run": True} if dry_run else {})),
            "dry": dry_run,
            "id": batch.id,
        },
    )
    if not dry_run:
        audit.record(
            session,
            f"import.{batch.kind}",
            actor_id=actor.user_id,
            object_id=ids.show("imp", batch.id),
            after={"source": batch.source, "file": batch.file_name, "counts": counts},
        )


def _complete(settled: Plan) -> None:
    if settled.missing:
        have = ", ".join(column.column for column in settled.columns[:30])
        raise Invalid(
            f"The file lacks {' and '.join(settled.missing)}: name the column in the recipe, or give a constant. "
            f"It has: {have}.",
            errors=[{"pointer": "/recipe/columns", "detail": f"{group} is missing"} for group in settled.missing],
        )


def _given(settled: Plan, source: Source) -> frozenset[str]:
    given = set(settled.recipe.columns) | set(settled.recipe.constants)
    return frozenset(given | {"geometry"} if source.has_geometry else given)


def _write(context: Context, source: Source, progress: Progress, first_into: Database | None) -> int:
    """All rows into the tables; `first_into` the database where this may be its first load. Returns the number of rows
    read."""
    aside = first_into is not None and first_load.is_empty(context) and first_load.set_indexes_aside(context)
    if first_into is not None and aside:
        processed = _write_first(context, source, progress, first_into)
        if processed is not None:
            return processed
    loader = _loader(context)
    progress.reading(before="matching")
    create_stage(context.session, loader.stage_columns)
    connection, processed = driver(context.session), 0
    for prepared in _ahead(columns.prepare(chunk, context.recipe) for chunk in source_has_rows(source)):
        copy_table(connection, "import_stage", loader.stage(prepared))
        context.rejected.add_chunk(prepared)
        processed += len(prepared.chunk.lines) + len(prepared.chunk.unreadable)
        progress.rows(processed, prepared.chunk.read, context.rejected.count)
        pa.default_memory_pool().release_unused()
    loader.apply(source)
    if aside:
        first_load.make_indexes(context)
    if context.session.scalar(text("SELECT to_regclass('pg_temp.changed_customers') IS NOT NULL")):
        progress.phase("territories and lookups")
        ledger.evaluate_bulk(context.session, actor=context.actor, reason=context.reason)
    return processed


def _write_first(context: Context, source: Source, progress: Progress, database: Database) -> int | None:
    """The same as a first load; None, and nothing written, where the file needs the general way."""
    loading = FirstLoad.open(context, database)
    if loading is None:
        return None
    processed = 0
    progress.reading(before="indexes and lookups")
    try:
        with context.session.begin_nested():
            chunks = (columns.prepare(chunk, context.recipe) for chunk in source_has_rows(source))
            for shaped in _ahead(loading.shape(prepared) for prepared in chunks):
                loading.write(shaped)
                processed += shaped.lines
                progress.rows(processed, shaped.read, context.rejected.count)
                pa.default_memory_pool().release_unused()
            loading.finish()
        return processed
    except Repeated:
        context.rejected.clear()
        return None
    finally:
        loading.close()


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each prepared in a thread while the one before is being written."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def put(entry: tuple[str, Any]) -> None:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.2)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(("item", item))
                del item  # not to be held while the next one is prepared
                if stop.is_set():
                    return
            put(("end", None))
        except BaseException as error:  # handed to the reader, who raises it
            put(("error", error))

    thread = threading.Thread(target=work, name="geocrm-import", daemon=True)
    thread.start()
    try:
        while True:
            what, value = ready.get()
            if what == "end":
                return
            if what == "error":
                raise value
            yield value
            del value
    finally:
        stop.set()
        thread.join()


def _counts(session: Session, batch_id: int) -> dict[str, Any]:
    rows = session.execute(
        text("SELECT outcome, count(*) AS n FROM import_rows WHERE batch_id = CAST(:id AS bigint) GROUP BY outcome"),
        {"id": batch_id},
    ).all()
    flags = session.execute(
        text(
            "SELECT flag, count(*) AS n FROM import_rows, unnest(flags) AS flag"
            " WHERE batch_id = CAST(:id AS bigint) AND flags IS NOT NULL GROUP BY flag ORDER BY flag"
        ),
        {"id": batch_id},
    ).all()
    flagged = session.scalar(
        text("SELECT count(*) FROM import_rows WHERE batch_id = CAST(:id AS bigint) AND flags IS NOT NULL"),
        {"id": batch_id},
    )
    counts: dict[str, Any] = {"new": 0, "changed": 0, "unchanged": 0, "rejected": 0}
    return (
        counts
        | {row.outcome: row.n for row in rows}
        | {"flagged": flagged or 0, "flags": {row.flag: row.n for row in flags}}
    )
