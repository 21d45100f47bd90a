"""Imports: upload, preview, run with progress events, rejected rows, undo."""

import asyncio
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import File, Form, Header, Query, Request, Response, UploadFile
from fastapi.sse import format_sse_event
from pydantic import ConfigDict, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.api import pages
from geocrm.api.dependencies import CanImport, Writing, as_actor, in_transaction, on_files, router, settings_of
from geocrm.api.downloads import attachment
from geocrm.api.following import Stream, Streams
from geocrm.api.idempotency import REPLAYED, Idempotent
from geocrm.api.jobs import started_job
from geocrm.api.shapes import Body, Flag, ImportId, Page, Shown, Text
from geocrm.db.models import ImportBatch
from geocrm.errors import Conflict, Invalid, NotFound
from geocrm.ingest import batches, previews, recipes

routes = router("Imports")

Kind = Literal["customers", "sales", "interactions", "places", "areas", "products"]
RUNNING = ("queued", "running", "undoing")
_STREAM_S = 300.0


def _example(status: str, **more: Any) -> dict[str, Any]:
    """An import in this state, as the description of the API shows it."""
    over = status == "done"
    counts = {"new": 990, "changed": 3, "unchanged": 0, "rejected": 7, "flagged": 2} if over else {}
    return {
        "id": "imp_9", "kind": "customers", "source": "shop", "file_name": "customers.csv", "status": status,
        "dry_run": False, "processed": 1000 if over else 0, "total": 1000 if over else None, "phase": None,
        "rate": 8200.0 if over else None, "remaining_s": None, "counts": counts,
        "recipe": {"kind": "customers", "source": "shop"}, "user_id": "usr_7", "error": None,
        "created_at": "2026-01-31T09:00:00Z", "started_at": "2026-01-31T09:00:05Z" if over else None,
        "finished_at": "2026-01-31T09:00:06Z" if over else None,
    } | more  # fmt: skip


_PREVIEW = {
    "columns": [{"column": "Kunde", "field": "name", "type": "text", "samples": ["Alpine Outfitters"]}],
    "ignored": ["Notes"],
    "missing": [],
    "notes": [],
}


class ShownImport(Shown):
    """An import: how far it is and what came of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_example("done")]})

    id: str = Field(examples=["imp_9"])
    kind: str
    source: str
    file_name: str
    status: str = Field(description="preview, queued, running, done, failed, undoing or undone.", examples=["running"])
    dry_run: bool
    processed: int
    total: int | None
    phase: str | None
    rate: float | None = Field(description="Rows a second.")
    remaining_s: float | None
    counts: dict[str, Any] = Field(examples=[{"new": 990, "changed": 3, "unchanged": 0, "rejected": 7, "flagged": 2}])
    recipe: dict[str, Any]
    user_id: str | None
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class NewImport(ShownImport):
    """A new import, with what its file holds."""

    model_config = ConfigDict(json_schema_extra={"examples": [_example("preview", preview=_PREVIEW)]})

    preview: dict[str, Any] = Field(description="Columns with field, type and samples; first rows; what is missing.")


class StartedImport(Shown):
    """The import and the job that works on it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"job_id": "job_12", "import": _example("queued")}]})

    job_id: str = Field(examples=["job_12"])
    data: ShownImport = Field(serialization_alias="import", validation_alias="import")


class Recipe(Body):
    """How the columns are read; what is left out is matched automatically."""

    recipe: dict[str, Any] = Field(examples=[{"columns": {"name": "Kunde", "external_id": "Nr"}}])


class Run(Body):
    """How to run it."""

    dry_run: Flag = Field(False, description="Do everything and take it back; the counts and rejected rows stay.")


class Undo(Body):
    """How to undo it."""

    skip_conflicts: Flag = Field(False, description="Leave rows alone that were edited since.")


def seen(session: Session, actor: Actor, batch_id: int) -> None:
    """Raise NotFound unless the actor may see the import: own ones, the team's for a manager, all for an
    administrator."""
    with access.as_user(session, actor):
        found = in_sight(session, batch_id)
    if not found:
        raise NotFound()


def in_sight(session: Session, batch_id: int) -> bool:
    """Whether the session's user may see the import."""
    query = text("SELECT EXISTS (SELECT FROM visible.import_batches WHERE id = CAST(:id AS bigint))")
    return bool(session.scalar(query, {"id": batch_id}))


def importable(session: Session, actor: Actor, batch_id: int) -> ImportBatch:
    """The batch, where the actor sees it and may import its kind."""
    seen(session, actor, batch_id)
    batch = batches.find_batch(session, batch_id)
    access.require(actor, batches.PERMISSION[batch.kind])
    return batch


def open_batch(session: Session, actor: Actor, batch_id: int) -> ImportBatch:
    """The same, locked."""
    batch = importable(session, actor, batch_id)
    session.refresh(batch, with_for_update=True)
    return batch


@routes.get("/imports", operation_id="list_imports", response_model=Page[ShownImport], summary="List imports")
def list_imports(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanImport,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Your own, your team's, or all; newest first."""
    with access.as_user(session, actor):
        found = session.scalars(
            text(
                "SELECT id FROM visible.import_batches"
                " WHERE CAST(:after AS bigint) IS NULL OR id < CAST(:after AS bigint)"
                " ORDER BY id DESC LIMIT CAST(:limit AS bigint)"
            ),
            {"after": pages.read_id(cursor), "limit": limit + 1},
        ).all()
    rows = [batches.summary(session, batch_id) for batch_id in found]
    return pages.page(request, response, rows, limit, lambda row: [ids.read("imp", row["id"])])


@routes.post(
    "/imports", status_code=202, operation_id="create_import", response_model=NewImport, summary="Upload a file"
)
async def create_import(
    request: Request,
    actor: CanImport,
    once: Idempotent,
    file: Annotated[UploadFile, File(description="CSV, XLSX, GeoJSON, GeoPackage, zipped Shapefile or Parquet.")],
    kind: Annotated[Kind, Form(description="What the file holds.", examples=["customers"])],
    source: Annotated[
        Text | None, Form(max_length=100, description="The system it comes from.", examples=["shop"])
    ] = None,
    recipe: Annotated[
        Text | None, Form(max_length=200_000, description="How to read it, as JSON or YAML; left out: found by itself.")
    ] = None,
) -> Response:
    """The file is kept and looked into; nothing is imported before it is run. Answers with the preview."""
    access.require(actor, batches.PERMISSION[kind])
    uploads = settings_of(request).uploads

    def receive() -> tuple[batches.KeptFile, dict[str, Any]]:
        given = None if recipe is None or not recipe.strip() else recipes.from_yaml(recipe, kind=kind)
        path = keep_upload(file, uploads)
        try:
            kept = batches.keep_file(
                path, kind, source, given, actor, name=file.filename or "file", uploads=uploads, move=True
            )
        finally:
            path.unlink(missing_ok=True)
        try:
            return kept, previews.look(kept)
        except BaseException:
            kept.path.unlink(missing_ok=True)
            raise

    # a connection is taken only when nothing slow is left to do
    kept, preview = await on_files(request, receive)
    fields = json.dumps([kind, source, recipe, file.filename, kept.digest])

    def add(session: Session) -> Response:
        def produce() -> tuple[Any, dict[str, str]]:
            batch = batches.add_batch(session, kept, actor)
            summary = batches.summary(session, batch.id)
            made = summary | {"preview": preview | {"id": summary["id"]}}
            return made, {"Location": f"/v1/imports/{summary['id']}"}

        return once.including(fields.encode()).answer(session, actor, produce, shape=NewImport, status=202)

    try:
        answer = await in_transaction(request, add)
    except Exception:
        kept.path.unlink(missing_ok=True)
        raise
    if REPLAYED in answer.headers:
        kept.path.unlink(missing_ok=True)
    return answer


def keep_upload(file: UploadFile, uploads: Path) -> Path:
    """The uploaded file below GEOCRM_HOME/uploads, for its owner alone; raises Invalid where it is empty."""
    uploads.mkdir(parents=True, exist_ok=True)
    path = uploads / f"upload-{uuid.uuid4().hex}"
    try:
        with path.open("xb") as kept:
            os.chmod(path, 0o600)
            shutil.copyfileobj(file.file, kept, 1 << 20)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    if path.stat().st_size == 0:
        path.unlink()
        raise Invalid("The file is empty.", errors=[{"pointer": "/file", "detail": "is empty"}])
    return path


@routes.get("/imports/{import_id}", operation_id="get_import", response_model=ShownImport, summary="One import")
def get_import(session: Writing, actor: CanImport, import_id: ImportId) -> object:
    """How far it is and what came of it; ask again for progress, or follow its events."""
    seen(session, actor, import_id)
    return batches.summary(session, import_id)


@routes.get(
    "/imports/{import_id}/preview",
    operation_id="preview_import",
    response_model=dict[str, Any],
    summary="What an import's file holds",
)
async def preview_import(request: Request, actor: CanImport, import_id: ImportId) -> object:
    """Columns with field, type and sample values, the first rows as they would be stored, the first that would be
    rejected."""
    uploads = settings_of(request).uploads
    kept = await in_transaction(
        request, lambda session: batches.kept_file(importable(session, actor, import_id), uploads)
    )
    return await on_files(request, lambda: previews.look(kept, import_id))


@routes.put(
    "/imports/{import_id}/recipe",
    operation_id="change_import_recipe",
    response_model=NewImport,
    summary="Correct how an import is read",
)
async def change_import_recipe(request: Request, actor: CanImport, import_id: ImportId, changed: Recipe) -> object:
    """Possible until it has run; answers with the new preview."""
    uploads = settings_of(request).uploads

    def as_changed(session: Session) -> batches.KeptFile:
        batch = importable(session, actor, import_id)
        recipe = batches.changed_recipe(batch, changed.recipe)
        return replace(batches.kept_file(batch, uploads), recipe=recipe)

    def change(session: Session) -> dict[str, Any]:
        open_batch(session, actor, import_id)
        batches.change_recipe(session, import_id, changed.recipe)
        return batches.summary(session, import_id)

    kept = await in_transaction(request, as_changed)
    preview = await on_files(request, lambda: previews.look(kept, import_id))
    return await in_transaction(request, change) | {"preview": preview}


@routes.post(
    "/imports/{import_id}/run",
    status_code=202,
    operation_id="run_import",
    response_model=StartedImport,
    summary="Run an import",
)
def run_import(session: Writing, actor: CanImport, import_id: ImportId, how: Run | None = None) -> object:
    """As a job. A failed one may be run again; it begins anew, and nothing of the first run is left."""
    how = how or Run(dry_run=False)
    batch = open_batch(session, actor, import_id)
    if batch.status not in ("preview", "failed"):
        raise Conflict(f"This import is {batch.status}.")
    batch.status = "queued"
    batch.error = None
    return _job_on_import(session, actor, "import.run", import_id, {"dry_run": how.dry_run})


def _job_on_import(session: Session, actor: Actor, name: str, import_id: int, args: dict[str, Any]) -> dict[str, Any]:
    held = {"batch_id": import_id} | args
    job = started_job(session, actor, name, held, subject=ids.show("imp", import_id), lock="imports")
    return job | {"import": batches.summary(session, import_id)}


@routes.post(
    "/imports/{import_id}/undo",
    status_code=202,
    operation_id="undo_import",
    response_model=StartedImport,
    summary="Undo an import",
    responses={
        202: {"content": {"application/json": {"example": {"job_id": "job_13", "import": _example("undoing")}}}}
    },
)
def undo_import(session: Writing, actor: CanImport, import_id: ImportId, how: Undo | None = None) -> object:
    """Restores every current row; ledger and audit keep their history. Where rows were edited since, it is refused
    (409) with the list of conflicts, unless those are to be left alone."""
    from geocrm.ingest import undo

    how = how or Undo(skip_conflicts=False)
    batch = open_batch(session, actor, import_id)
    if batch.status != "done":
        raise Conflict(f"This import is {batch.status}; only one that is done can be undone.")
    if not how.skip_conflicts:
        undo.check(session, import_id)
    batch.status = "undoing"
    return _job_on_import(session, actor, "import.undo", import_id, {"skip_conflicts": how.skip_conflicts})


@routes.get(
    "/imports/{import_id}/rejected.csv",
    operation_id="get_import_rejected",
    summary="Rejected rows",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The rows"}},
)
def get_import_rejected(session: Writing, actor: CanImport, import_id: ImportId) -> Response:
    """The columns of the file and, behind them, line, column and reason: mend it and upload it again."""
    seen(session, actor, import_id)
    return attachment(batches.rejected_rows(session, import_id), f"{ids.show('imp', import_id)}-rejected.csv")


@routes.get(
    "/imports/{import_id}/events",
    operation_id="follow_import",
    summary="Follow an import",
    response_class=Stream,
    status_code=200,
    responses={
        200: {
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: progress\nid: 5e1a7c\ndata: {"id":"imp_9","status":"running"}\n\n',
                }
            },
            "description": "Events `progress`, then `end`",
        }
    },
)
async def follow_import(
    request: Request,
    actor: CanImport,
    import_id: ImportId,
    last_event_id: Annotated[
        str | None, Header(max_length=100, description="The last event you have: it is not sent again.")
    ] = None,
    wait: Annotated[bool, Query(description="False: what there is to say now, and no waiting.")] = True,
) -> Response:
    """Server-sent events `progress` while it runs and `end` when it is over. Where no stream gets through, or too many
    are open (429), ask GET /v1/imports/{import_id} instead."""

    async def read(batch_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        return await in_transaction(request, lambda session: batches.summaries(session, batch_ids))

    if not await as_actor(request, actor, lambda session: in_sight(session, import_id)):
        raise NotFound()
    first = (await read([import_id])).get(import_id)
    streams: Streams = request.app.state.streams

    async def events() -> AsyncIterator[bytes]:
        state = first
        last = last_event_id
        until = time.monotonic() + _STREAM_S
        while state is not None:
            data = json.dumps(state, default=str)
            number = hashlib.sha256(data.encode()).hexdigest()[:12]
            over = state["status"] not in RUNNING
            if number != last:
                yield format_sse_event(data_str=data, event="end" if over else "progress", id=number)
                last = number
            if over or not wait or time.monotonic() > until or await request.is_disconnected():
                return
            await asyncio.sleep(streams.tick_s)
            state = await streams.state(import_id, read)

    return Stream(events(), streams, actor.user_id, import_id)
