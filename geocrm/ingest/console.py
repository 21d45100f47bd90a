"""Imports at a terminal: a progress bar, a table of what happened, the path of the rejected rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import text

from geocrm import ids
from geocrm.access import SYSTEM
from geocrm.db.engine import Database, open_database
from geocrm.errors import Conflict, Invalid, InvalidFile, NotFound
from geocrm.ingest import load, recipes
from geocrm.ingest import undo as undoing
from geocrm.settings import get_settings

Echo = Callable[[str], Any]
_SHOWN = 20


def import_file(
    file: Path,
    kind: str,
    *,
    recipe: Path | None,
    given: Mapping[str, Any],
    dry_run: bool,
    preview: bool,
    save_recipe: Path | None,
    rejected: Path | None,
    echo: Echo,
) -> None:
    """Import one file and say what became of it. Raises GeocrmError with a sentence for people."""
    if not file.exists():
        raise InvalidFile(f"There is no file {file}.")
    stated: dict[str, Any] = {}
    if recipe is not None:
        try:
            stated = recipes.from_yaml(recipe.read_text(encoding="utf-8"), kind=kind).to_dict()
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"The recipe {recipe} cannot be read: {error}.") from error
    settled = recipes.from_dict(stated | {key: value for key, value in given.items() if value is not None}, kind=kind)
    database = open_database(get_settings())
    try:
        with database.writing() as session:
            batch_id = load.create_batch(
                session, file, kind, None, settled, SYSTEM, uploads=database.settings.uploads
            ).id
        try:
            if preview:
                with database.writing() as session:
                    _show_preview(load.preview(session, batch_id, uploads=database.settings.uploads), echo)
                return
            _run(database, batch_id, file, dry_run, save_recipe, rejected, echo)
        finally:
            if preview or dry_run:
                _forget(database, batch_id)
    finally:
        database.dispose()


def _run(
    database: Database,
    batch_id: int,
    file: Path,
    dry_run: bool,
    save_recipe: Path | None,
    rejected: Path | None,
    echo: Echo,
) -> None:
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("reading", total=None, rate="")

        def listen(state: dict[str, Any]) -> None:
            remaining = f", {state['remaining_s']:.0f} s left" if state["remaining_s"] else ""
            bar.update(
                task,
                description=state["phase"],
                completed=state["processed"],
                total=state["total"],
                rate=f"{state['rate']:,} rows/s{remaining}",
            )

        summary = load.run(batch_id, database=database, dry_run=dry_run, listener=listen)
    _show_summary(summary, echo)
    if save_recipe is not None:
        save_recipe.write_text(recipes.from_dict(summary["recipe"]).to_yaml(), encoding="utf-8")
        echo(f"The recipe is in {save_recipe}.")
    if summary["counts"]["rejected"]:
        path = rejected or Path(f"{file.stem}-rejected.csv")
        with database.writing() as session, path.open("wb") as out:
            for block in load.rejected_rows(session, batch_id):
                out.write(block)
        echo(f"Rejected rows are in {path}: mend them and import that file again.")


def _show_summary(summary: dict[str, Any], echo: Echo) -> None:
    counts = summary["counts"]
    what = "would be imported (dry run, nothing was changed)" if summary["dry_run"] else f"imported as {summary['id']}"
    echo(f"{summary['file_name']}: {summary['processed']:,} rows, {what}")
    for name in ("new", "changed", "unchanged", "rejected", "flagged"):
        echo(f"  {name:<12}{counts.get(name, 0):>12,}")
    for flag, count in counts.get("flags", {}).items():
        echo(f"    {flag:<20}{count:>12,}")
    if "draft_version" in counts:
        echo(
            f"The areas are in draft {counts['draft_version']} of layer {counts['layer']}; publish it to put them "
            f"in force."
        )


def _show_preview(preview: dict[str, Any], echo: Echo) -> None:
    table = Table("column", "field", "type", "samples", title=f"{preview['file_name']} as {preview['kind']}")
    for column in preview["columns"]:
        table.add_row(column["column"], column["field"] or "–", column["type"] or "", " · ".join(column["samples"][:3]))
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    echo(captured.get())
    for note in preview["notes"]:
        echo(f"Note: {note}.")
    if preview["missing"]:
        echo(f"Missing: {', '.join(preview['missing'])}.")
    for row in preview["rejected"][:_SHOWN]:
        echo(f"Line {row['line']}: {row['column']}: {row['reason']}")


def _forget(database: Database, batch_id: int) -> None:
    """A try at the terminal leaves no batch behind."""
    with database.writing() as session:
        path = session.scalar(
            text("SELECT file_path FROM import_batches WHERE id = CAST(:id AS bigint)"), {"id": batch_id}
        )
        session.execute(text("DELETE FROM import_rows WHERE batch_id = CAST(:id AS bigint)"), {"id": batch_id})
        session.execute(text("DELETE FROM import_batches WHERE id = CAST(:id AS bigint)"), {"id": batch_id})
    if path is not None:
        (database.settings.uploads / path).unlink(missing_ok=True)


def undo(batch: str, *, skip_conflicts: bool, echo: Echo) -> None:
    """Undo an import and say what was left alone. Raises Conflict after listing what stands in the way."""
    batch_id = ids.read("imp", batch)
    database = open_database(get_settings())
    try:
        summary = undoing.undo(batch_id, database=database, skip_conflicts=skip_conflicts)
    except NotFound as missing:
        raise NotFound(f"There is no import {batch}; see `geocrm import list`.") from missing
    except Conflict as conflict:
        for entry in conflict.errors[:_SHOWN]:
            echo(f"  {entry['pointer'].lstrip('/')} (line {entry.get('line')}): {entry['detail']}")
        if len(conflict.errors) > _SHOWN:
            echo(f"  … and {len(conflict.errors) - _SHOWN:,} more")
        raise
    finally:
        database.dispose()
    left = summary["counts"].get("left_alone", 0)
    echo(f"{batch} is undone" + (f"; {left:,} rows were edited since and left alone." if left else "."))


def list_batches(*, echo: Echo) -> None:
    """The imports, newest first."""
    database = open_database(get_settings())
    try:
        with database.writing() as session:
            found = session.execute(text("SELECT id FROM import_batches ORDER BY id DESC LIMIT 50")).scalars().all()
            for batch_id in found:
                one = load.summary(session, batch_id)
                counts = one["counts"]
                shown = ", ".join(
                    f"{counts[name]:,} {name}"
                    for name in ("new", "changed", "unchanged", "rejected")
                    if counts.get(name)
                )
                echo(
                    f"{one['id']:<8} {one['created_at']:%Y-%m-%d %H:%M} "
                    f"{one['kind']:<13}{one['status']:<9}{one['file_name']}  {shown}"
                )
            if not found:
                echo("Nothing was imported yet: geocrm import customers FILE")
    finally:
        database.dispose()
