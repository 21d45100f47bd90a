"""What a file holds and how it would be read, before anything is written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.errors import GeocrmError, InvalidFile
from geocrm.ingest import batches, columns
from geocrm.ingest.columns import Prepared
from geocrm.ingest.formats import Chunk
from geocrm.settings import get_settings

_PREVIEW_ROWS = 20


def preview(session: Session, batch_id: int, *, uploads: Path | None = None) -> dict[str, Any]:
    """What the file of a batch holds and how it would be read (see `look`). Writes nothing."""
    return look(batches.kept_file(batches.find_batch(session, batch_id), uploads or get_settings().uploads), batch_id)


def look(kept: batches.KeptFile, batch_id: int | None = None) -> dict[str, Any]:
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
        raise InvalidFile(batches.GONE) from error  # meanwhile the import has run


def _look(kept: batches.KeptFile) -> dict[str, Any]:
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
