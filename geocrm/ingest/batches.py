"""The life of an import around its run: the kept file, the batch and its recipe, summary, rejected rows."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.db.models import ImportBatch
from geocrm.errors import Conflict, Invalid, InvalidFile, NotFound
from geocrm.ingest import cells, formats, recipes
from geocrm.ingest.formats import Source
from geocrm.ingest.recipes import Recipe
from geocrm.settings import get_settings

PERMISSION = {
    "customers": "imports:customers",
    "sales": "imports:customers",
    "interactions": "imports:customers",
    "places": "imports:reference",
    "areas": "imports:reference",
    "products": "imports:reference",
}
GONE = "The uploaded file is gone; upload it again."


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
            raise InvalidFile(GONE)
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
        raise InvalidFile(GONE)
    recipe = recipes.from_dict(batch.recipe, kind=batch.kind)
    return KeptFile(batch.kind, batch.file_name, uploads / batch.file_path, batch.file_digest, recipe)


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
