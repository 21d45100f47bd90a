"""The life of an import: create → preview → run (dry or for good) → summary, rejected rows.

A run is one transaction. The file is read in chunks, checked, and streamed through COPY into a temporary table; then
sets of rows are inserted and updated by (source, external id). Whatever stops a run half-way leaves nothing; the file
stays under GEOCRM_HOME/uploads until a run has succeeded, so that a repeated run gives what an undisturbed one would
have given.

Memory: a run holds at most three chunks of `formats.CHUNK_ROWS` rows, whatever the size of the file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psycopg
import pyarrow as pa
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import SYSTEM, Actor
from geocrm.db import audit, reach
from geocrm.db.copying import copy_table, driver
from geocrm.db.engine import Database, open_database
from geocrm.db.models import ImportBatch
from geocrm.errors import Conflict, GeocrmError, Invalid, InvalidFile, NotFound
from geocrm.ingest import cells, columns, customers, first_load, formats, recipes
from geocrm.ingest.columns import Plan, Prepared
from geocrm.ingest.first_load import FirstLoad, Repeated
from geocrm.ingest.formats import Chunk, Source
from geocrm.ingest.progress import Progress
from geocrm.ingest.recipes import Recipe
from geocrm.ingest.staging import Context, Rejected, create_stage, source_has_rows
from geocrm.settings import get_settings
from geocrm.spatial import ledger

PERMISSION = {
    "customers": "imports:customers",
    "sales": "imports:customers",
    "interactions": "imports:customers",
    "places": "imports:reference",
    "areas": "imports:reference",
    "products": "imports:reference",
}
_LOCK = 7_305_417_300
_PREVIEW_ROWS = 20
FIRST_LOAD_BYTES = 200_000
"""From this size of a file on it pays to lock empty tables and set their indexes aside."""
_GONE = "The uploaded file is gone; upload it again."
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


# -- creating and previewing ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file below GEOCRM_HOME/uploads and how it is read: an import without its batch, so without the database."""

    kind: str
    name: str
    path: Path
    digest: str | None
    recipe: Recipe

    def open(self) -> Source:
        """The file, opened; raises InvalidFile where it is gone or cannot be read."""
        if not self.path.is_file():
            raise InvalidFile(_GONE)
        return formats.open_file(self.path, name=self.name, options=self.recipe.reading)


def keep_file(
    path: Path,
    kind: str,
    source: str | None,
    recipe: Recipe | dict[str, Any] | None,
    actor: Actor,
    *,
    name: str | None = None,
    uploads: Path | None = None,
    move: bool = False,
) -> KeptFile:
    """Copy (or move) a file below GEOCRM_HOME/uploads, where it can be imported.

    `name`: what the client calls the file. Raises Forbidden, Invalid for a wrong recipe, InvalidFile for what is no
    readable file.
    """
    if kind not in PERMISSION:
        raise Invalid(f"“{kind}” cannot be imported; possible are {', '.join(PERMISSION)}.")
    access.require(actor, PERMISSION[kind])
    if kind == "areas":  # they are drafted and published
        access.require(actor, "trading_areas:write")
    given = recipe if isinstance(recipe, Recipe) else recipes.from_dict(recipe or {}, kind=kind)
    if given.kind != kind:
        raise Invalid(f"The recipe is for {given.kind}, not for {kind}.")
    if source is not None:
        given = recipes.from_dict(given.to_dict() | {"source": source}, kind=kind)
    shown = formats.display_name(name or path.name)
    formats.open_file(path, name=shown, options=given.reading)
    folder = uploads or get_settings().uploads
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"import-{uuid.uuid4().hex}"
    digest = _keep(path, kept, move=move)
    return KeptFile(kind, shown, kept, digest, given)


def add_batch(session: Session, kept: KeptFile, actor: Actor) -> ImportBatch:
    """A batch in status preview for a kept file."""
    batch = ImportBatch(
        kind=kept.kind,
        source=kept.recipe.source,
        file_name=kept.name,
        file_path=kept.path.name,
        file_digest=kept.digest,
        recipe=kept.recipe.to_dict(),
        status="preview",
        user_id=actor.user_id,
        key_id=actor.key_id,
        team_id=actor.team_ids[0] if actor.team_ids else None,
    )
    session.add(batch)
    session.flush()
    return batch


def create_batch(
    session: Session,
    path: Path,
    kind: str,
    source: str | None,
    recipe: Recipe | dict[str, Any] | None,
    actor: Actor,
    *,
    name: str | None = None,
    uploads: Path | None = None,
    move: bool = False,
) -> ImportBatch:
    """A batch in status preview for a file: `keep_file` and `add_batch` in one."""
    return add_batch(
        session, keep_file(path, kind, source, recipe, actor, name=name, uploads=uploads, move=move), actor
    )


def _keep(path: Path, kept: Path, *, move: bool) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if move:
        try:
            os.replace(path, kept)
        except OSError:  # another file system
            shutil.move(path, kept)
    else:
        shutil.copyfile(path, kept)
    os.chmod(kept, 0o600)
    return digest.hexdigest()


def find_batch(session: Session, batch_id: int) -> ImportBatch:
    """The batch; raises NotFound."""
    batch = session.get(ImportBatch, batch_id, populate_existing=True)
    if batch is None:
        raise NotFound()
    return batch


def changed_recipe(batch: ImportBatch, recipe: Recipe | dict[str, Any]) -> Recipe:
    """The recipe that a batch would have. Raises Conflict once the batch has run, Invalid for a wrong recipe."""
    if batch.status not in ("preview", "failed"):
        raise Conflict(f"This import is {batch.status}; only one that has not run can be changed.")
    if isinstance(recipe, Recipe):
        return recipe
    return recipes.from_dict({"source": batch.source} | recipe, kind=batch.kind)


def change_recipe(session: Session, batch_id: int, recipe: Recipe | dict[str, Any]) -> ImportBatch:
    """Correct the recipe of a batch that has not run. Raises Conflict once it has, Invalid for a wrong recipe."""
    batch = find_batch(session, batch_id)
    given = changed_recipe(batch, recipe)
    batch.recipe, batch.source, batch.status = given.to_dict(), given.source, "preview"
    session.flush()
    return batch


def kept_file(batch: ImportBatch, uploads: Path) -> KeptFile:
    """The file of a batch; raises InvalidFile where none is kept any more."""
    if batch.file_path is None:
        raise InvalidFile(_GONE)
    recipe = recipes.from_dict(batch.recipe, kind=batch.kind)
    return KeptFile(batch.kind, batch.file_name, uploads / batch.file_path, batch.file_digest, recipe)


def _open(batch: ImportBatch, uploads: Path) -> Source:
    return kept_file(batch, uploads).open()


def find_old_uploads(session: Session, uploads: Path, *, days: int) -> list[Path]:
    """Files of imports that neither wait nor run, and files that no import knows (a crash left them), untouched for so
    many days. Undo and the rejected rows need no file; a run does, and asks for the upload again.
    """
    before = time.time() - days * 86_400
    old = [
        path
        for pattern in ("import-*", "upload-*")
        for path in uploads.glob(pattern)
        if path.is_file() and path.stat().st_mtime < before
    ]
    # asked after looking: a file that was written since is no old one
    kept = set(
        session.scalars(
            text(
                "SELECT file_path FROM import_batches WHERE file_path = ANY (CAST(:names AS text[]))"
                " AND (status IN ('queued', 'running', 'undoing')"
                " OR COALESCE(finished_at, started_at, created_at) > now() - make_interval(days => CAST(:days AS int)))"
            ),
            {"names": [path.name for path in old], "days": days},
        )
    )
    return sorted(path for path in old if path.name not in kept)


def preview(session: Session, batch_id: int, *, uploads: Path | None = None) -> dict[str, Any]:
    """What the file of a batch holds and how it would be read (see `look`). Writes nothing."""
    return look(kept_file(find_batch(session, batch_id), uploads or get_settings().uploads), batch_id)


def look(kept: KeptFile, batch_id: int | None = None) -> dict[str, Any]:
    """What a file holds and how it would be read: columns with field, type and samples, the settled recipe, what is
    missing, the first rows as they would be stored, and the first rows that would be rejected.

    Asks no database. Raises InvalidFile for what cannot be read, Invalid for a recipe that does not fit the file.
    """
    try:
        return {"id": ids.show("imp", batch_id)} | _look(kept)
    except GeocrmError:
        raise
    except Exception as error:
        if kept.path.exists():
            raise
        raise InvalidFile(_GONE) from error  # meanwhile the import has run


def _look(kept: KeptFile) -> dict[str, Any]:
    source = kept.open()
    settled = columns.plan(source, kept.recipe)
    chunk = next(source.chunks(), None)
    rows: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    if chunk is not None and len(chunk.table):
        head = Chunk(
            chunk.lines[:2000],
            chunk.table.slice(0, 2000),
            None if chunk.geometry is None else chunk.geometry[:2000],
            None if chunk.geometry_faults is None else chunk.geometry_faults[:2000],
        )
        prepared = columns.prepare(head, settled.recipe)
        rows = _first_rows(prepared)
        rejected = [
            {"line": int(head.lines[fault.row]), "column": fault.column, "reason": fault.reason}
            for fault in prepared.faults[:_PREVIEW_ROWS]
        ]
        rejected += [{"line": row.line, "column": "", "reason": row.reason} for row in chunk.unreadable[:_PREVIEW_ROWS]]
    return {
        "kind": kept.kind,
        "source": settled.recipe.source,
        "file_name": kept.name,
        "format": source.format,
        "details": source.details,
        "columns": [vars(column) for column in settled.columns],
        "ignored": settled.ignored,
        "missing": settled.missing,
        "notes": settled.notes,
        "recipe": settled.recipe.to_dict(),
        "rows": rows,
        "rejected": sorted(rejected, key=lambda row: row["line"])[:_PREVIEW_ROWS],
    }


def _first_rows(prepared: Prepared) -> list[dict[str, Any]]:
    shown = []
    for row in range(min(_PREVIEW_ROWS, len(prepared.chunk.table))):
        values = {name: column[row].as_py() for name, column in prepared.values.items() if name != "geometry"}
        said = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
        if prepared.lon is not None and prepared.lon[row] == prepared.lon[row]:
            said |= {"lon": float(prepared.lon[row]), "lat": float(prepared.lat[row])}
        shown.append(
            {
                "line": int(prepared.chunk.lines[row]),
                "values": {name: value for name, value in said.items() if value is not None},
                "flags": sorted(name for name, mask in prepared.flags.items() if mask[row]),
                "rejected": bool(prepared.bad[row]),
            }
        )
    return shown


# -- running ----------------------------------------------------------------------------------------------------------


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
            batch = find_batch(session, batch_id)
            if batch.status in _RAN:
                if batch.status != "done":
                    raise Conflict(f"This import is {batch.status}.")
                return summary(session, batch_id)
            session.expunge(batch)
            progress.begin()
            begun = True
            _run(session, batch, database, progress, dry_run=dry_run)
            done = summary(session, batch_id)
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
    access.require(actor, PERMISSION[batch.kind])
    source = _open(batch, database.settings.uploads)
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


# -- afterwards -------------------------------------------------------------------------------------------------------


def summary(session: Session, batch_id: int) -> dict[str, Any]:
    """A batch as people see it: status, progress, counts of new, changed, unchanged, rejected and flagged rows, the
    error if any.
    """
    return _summary(find_batch(session, batch_id))


def summaries(session: Session, batch_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The same of several batches, by their ids; of those that there are."""
    found = session.scalars(select(ImportBatch).where(ImportBatch.id.in_(batch_ids)))
    return {batch.id: _summary(batch) for batch in found}


def _summary(batch: ImportBatch) -> dict[str, Any]:
    counts = dict(batch.counts or {})
    running = batch.status in ("running", "undoing")
    return {
        "id": ids.show("imp", batch.id),
        "kind": batch.kind,
        "source": batch.source,
        "file_name": batch.file_name,
        "status": batch.status,
        "dry_run": bool((batch.options or {}).get("dry_run")),
        "processed": batch.processed,
        "total": batch.total,
        "phase": counts.pop("phase", None) if running else None,
        "rate": counts.pop("rate", None),
        "remaining_s": counts.pop("remaining_s", None) if running else None,
        "counts": {
            name: value for name, value in counts.items() if name not in ("processed", "total", "phase", "remaining_s")
        },
        "recipe": batch.recipe,
        "user_id": ids.show("usr", batch.user_id),
        "error": batch.error,
        "created_at": batch.created_at,
        "started_at": batch.started_at,
        "finished_at": batch.finished_at,
    }


def rejected_rows(session: Session, batch_id: int) -> Iterator[bytes]:
    """The rejected rows as CSV (UTF-8 with a byte order mark), in blocks: the file's columns and, behind them, line,
    column, reason.

    Cells that a spreadsheet would run as formulas are neutralised; the import takes that back, so the mended file can
    be uploaded.
    """
    names: list[str] = []
    first = session.execute(
        text(
            "SELECT DISTINCT key FROM (SELECT input FROM import_rows WHERE batch_id = CAST(:id AS bigint) AND "
            "outcome = 'rejected'"
            " ORDER BY line_no LIMIT 1000) AS first_rows, jsonb_object_keys(input) AS key"
        ),
        {"id": batch_id},
    ).scalars()
    present = set(first)
    batch = find_batch(session, batch_id)
    order = [column for column in (batch.options or {}).get("columns", []) if column in present]
    names = order + sorted(present - set(order))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow([*names, "_line", "_column", "_reason"])
    yield b"\xef\xbb\xbf" + buffer.getvalue().encode()
    after = -1
    while True:
        rows = session.execute(
            text(
                "SELECT line_no, reasons, input FROM import_rows WHERE batch_id = CAST(:id AS bigint) AND "
                "outcome = 'rejected'"
                " AND line_no > CAST(:after AS bigint) ORDER BY line_no LIMIT 2000"
            ),
            {"id": batch_id, "after": after},
        ).all()
        if not rows:
            return
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer)
        for row in rows:
            said = [row.input.get(name) for name in names]
            where = "; ".join(column for column in row.reasons if column)
            why = "; ".join(row.reasons.values())
            writer.writerow(
                ["" if cell is None else cells.neutral(cell) for cell in said]
                + [row.line_no, where, cells.neutral(why)]
            )
        after = rows[-1].line_no
        yield buffer.getvalue().encode()
