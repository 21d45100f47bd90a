"""Imports at a terminal: a progress bar, a table of what happened, the path of the rejected rows."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import SYSTEM
from geocrm.db.engine import Database, command_database, command_session
from geocrm.errors import Conflict, Invalid, InvalidFile, NotFound
from geocrm.ingest import batches, load, previews, recipes
from geocrm.ingest import undo as undoing
from geocrm.ingest.cells import neutral
from geocrm.ingest.fields import FLAGS, REQUIRED, WITH_ATTRIBUTES, match

Echo = Callable[[str], Any]
_SHOWN = 20
_REASONS = 5
_EXAMPLES = 3
_FLAGGED = 5


def import_file(
    file: Path,
    kind: str,
    *,
    recipe: Path | None,
    given: Mapping[str, Any],
    mapped: Sequence[str] = (),
    dry_run: bool,
    preview: bool,
    save_recipe: Path | None,
    rejected: Path | None,
    echo: Echo,
) -> None:
    """Import one file and say what became of it.

    `mapped`: columns that stand for a field, each as FIELD=COLUMN. Raises GeocrmError with a sentence for people, also
    where a field that is needed has no column and where not one row could be used.
    """
    if not file.is_file():
        what = f"{file} is a directory; name a file in it" if file.is_dir() else f"There is no file {file}"
        raise InvalidFile(f"{what}.")
    stated: dict[str, Any] = {}
    if recipe is not None:
        try:
            stated = recipes.from_yaml(recipe.read_text(encoding="utf-8"), kind=kind).to_dict()
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"The recipe {recipe} cannot be read: {error}.") from error
    stated |= {key: value for key, value in given.items() if value is not None}
    stated["columns"] = stated.get("columns", {}) | dict(_mapping(entry) for entry in mapped)
    settled = recipes.from_dict(stated, kind=kind)
    seen = previews.look(batches.KeptFile(kind, file.name, file, None, settled))
    if preview:
        _show_preview(seen, echo)
    if seen["missing"]:
        raise Invalid(_lacking(file, seen))
    if preview:
        return
    _say_left_out(seen, echo)
    with command_database() as database:
        with database.writing() as session:
            batch_id = batches.create_batch(
                session, file, kind, None, settled, SYSTEM, uploads=database.settings.uploads
            ).id
        try:
            _run(database, batch_id, file, seen, dry_run, save_recipe, rejected, echo)
        finally:
            if dry_run:
                _forget(database, batch_id)


def _mapping(entry: str) -> tuple[str, str]:
    name, equals, column = entry.partition("=")
    if not equals or not name.strip() or not column.strip():
        raise Invalid(f'--map {entry}: write FIELD=COLUMN, for example --map external_id="Account Number".')
    return name.strip(), column.strip()


def _run(
    database: Database,
    batch_id: int,
    file: Path,
    seen: Mapping[str, Any],
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
        try:
            save_recipe.write_text(recipes.from_dict(summary["recipe"]).to_yaml(), encoding="utf-8")
        except OSError as error:
            raise Invalid(f"--save-recipe {save_recipe} cannot be written: {error.strerror}.") from None
        echo(f"The recipe is in {save_recipe}.")
    if summary["counts"]["flagged"]:
        with database.writing() as session:
            _show_flagged(session, batch_id, file, dry_run, echo)
    count = summary["counts"]["rejected"]
    if not count:
        return
    path = rejected or _beside(file, "rejected", dry_run)
    with database.writing() as session:
        for line, column, reason, rows in _common_reasons(session, batch_id):
            echo(f"  line {line}{f' and {rows - 1:,} more' if rows > 1 else ''}: {column}: {reason}")
        try:
            with path.open("wb") as out:
                for block in batches.rejected_rows(session, batch_id):
                    out.write(block)
        except OSError as error:
            raise Invalid(f"The rejected rows cannot be written to {path}: {error.strerror}; use --rejected.") from None
    if dry_run:
        echo(f"The rows that would be rejected are in {path}, with the reason of each.")
    else:
        echo(f"Rejected rows are in {path}: mend them and import that file again.")
    if count == summary["processed"]:
        raise Invalid(f"Not one row of {file.name} can be used ({count:,} rejected).{_other_kind(file, seen)}")


def _beside(file: Path, what: str, dry_run: bool) -> Path:
    """Where rows of a file go: `customers-rejected.csv`, and of that one `customers-rejected-2.csv`. A try does not
    write over the rows of an import."""
    again = re.fullmatch(rf"(.+)-(?:would-be-)?{what}(?:-([0-9]+))?", file.stem)
    stem, number = (again[1], f"-{int(again[2] or 1) + 1}") if again else (file.stem, "")
    return Path(f"{stem}-{'would-be-' if dry_run else ''}{what}{number}.csv")


def _show_flagged(session: Session, batch_id: int, file: Path, dry_run: bool, echo: Echo) -> None:
    """Name the first flagged rows; where there are more, all of them go into a file."""
    rows = session.execute(
        text(
            "SELECT r.line_no, r.flags, r.customer_id, c.name FROM import_rows r "
            "LEFT JOIN customers c ON c.id = r.customer_id "
            "WHERE r.batch_id = CAST(:id AS bigint) AND r.flags IS NOT NULL ORDER BY r.line_no"
        ),
        {"id": batch_id},
    ).all()
    for row in rows[:_FLAGGED]:
        of = f" ({row.name}, {ids.show('cus', row.customer_id)})" if row.name else ""
        echo(f"  line {row.line_no}{of}: {', '.join(FLAGS.get(flag, flag) for flag in row.flags)}")
    if len(rows) <= _FLAGGED:
        return
    path = _beside(file, "flagged", dry_run)
    try:
        with path.open("w", encoding="utf-8-sig", newline="") as out:
            written = csv.writer(out)
            written.writerow(("_line", "_flags", "customer_id", "name"))
            for row in rows:
                known = ids.show("cus", row.customer_id) or ""
                written.writerow((row.line_no, " ".join(row.flags), known, neutral(row.name or "")))
    except OSError as error:
        raise Invalid(f"The flagged rows cannot be written to {path}: {error.strerror}.") from None
    echo(f"  … and {len(rows) - _FLAGGED:,} more: all of them are in {path}.")


def _common_reasons(session: Session, batch_id: int) -> list[tuple[int, str, str, int]]:
    """The first line, column, reason and number of rows of the commonest rejections."""
    rows = session.execute(
        text(
            "SELECT min(r.line_no) AS line, e.key AS field, (array_agg(e.value ORDER BY r.line_no))[1] AS reason,"
            " count(*) AS rows FROM import_rows r, jsonb_each_text(r.reasons) AS e"
            " WHERE r.batch_id = CAST(:id AS bigint) AND r.outcome = 'rejected'"
            " GROUP BY e.key, split_part(e.value, CAST(:quoted AS text), 1) ORDER BY rows DESC, line LIMIT :most"
        ),
        {"id": batch_id, "most": _REASONS, "quoted": ": '"},
    )
    return [(row.line, row.field, row.reason, row.rows) for row in rows]


def _show_summary(summary: dict[str, Any], echo: Echo) -> None:
    counts = summary["counts"]
    what = "would be imported (dry run, nothing was changed)" if summary["dry_run"] else f"imported as {summary['id']}"
    echo(f"{summary['file_name']}: {summary['processed']:,} row{'' if summary['processed'] == 1 else 's'}, {what}")
    for name in ("new", "changed", "unchanged", "rejected", "flagged"):
        echo(f"  {name:<12}{counts.get(name, 0):>12,}")
    for flag, count in counts.get("flags", {}).items():
        echo(f"    {flag:<20}{count:>12,}")
    if "draft_version" in counts and not summary["dry_run"]:
        key = counts["layer_key"]
        echo(f"The areas are in draft {counts['draft_version']} of layer {key}, not in force yet.")
        echo("See who would move, then publish:")
        echo(f"  geocrm layers preview {key}")
        echo(f'  geocrm layers publish {key} --reason "{summary["file_name"]}"')


def _show_preview(seen: Mapping[str, Any], echo: Echo) -> None:
    table = Table("column", "field", "type", "samples", title=f"{seen['file_name']} as {seen['kind']}")
    for column in seen["columns"]:
        table.add_row(column["column"], column["field"] or "–", column["type"] or "", " · ".join(column["samples"][:3]))
    console = Console(width=min(shutil.get_terminal_size().columns, 120))
    with console.capture() as captured:
        console.print(table)
    echo(captured.get().rstrip())
    _say_left_out(seen, echo)
    for note in seen["notes"]:
        echo(f"Note: {note}.")
    if not seen["missing"]:
        for row in seen["rejected"][:_SHOWN]:
            echo(f"Line {row['line']}: {row['column']}: {row['reason']}")


def _say_left_out(seen: Mapping[str, Any], echo: Echo) -> None:
    """Name the columns that are not taken, and how to keep them."""
    left = seen["ignored"]
    if not left:
        return
    echo(f"Not taken: {', '.join(left)}.")
    if seen["kind"] in WITH_ATTRIBUTES:
        keys = [f"--map {shlex.quote(f'attributes.{_attribute(column)}={column}')}" for column in left[:_EXAMPLES]]
        them = "it as an attribute" if len(left) == 1 else "them as attributes"
        echo(f"To keep {them}: {' '.join(keys)}{' …' * (len(left) > _EXAMPLES)}")
    else:
        echo("To take one, say what it is: --map FIELD=COLUMN.")


def _attribute(column: str) -> str:
    return re.sub(r"\W+", "_", column).strip("_").lower() or "value"


def _lacking(file: Path, seen: Mapping[str, Any]) -> str:
    """What a file lacks, what it has, and three ways out."""
    have = [column["column"] for column in seen["columns"]]
    groups = [group.split(" or ") for group in seen["missing"]]
    wanted = [group[0] if len(group) == 1 else f"one of {', '.join(group)}" for group in groups]
    field = groups[0][0]
    column = (seen["ignored"] or have or ["COLUMN"])[0]
    named = shlex.quote(f"{field}={column}")
    return (
        f"{file.name} cannot be imported as {seen['kind']}: no column was recognised as {' nor as '.join(wanted)}.\n"
        f"  Its columns: {', '.join(have[:40])}{' …' * (len(have) > 40)}.\n"
        f"  Say which one it is, for example: --map {named}\n"
        f"  or in a recipe (--recipe FILE): columns: {{{field}: {column}}}{_other_kind(file, seen)}"
    )


def _other_kind(file: Path, seen: Mapping[str, Any]) -> str:
    """The kind that the columns fit better, as a command to copy; empty where there is none."""
    columns = [column["column"] for column in seen["columns"]]

    def fit(kind: str) -> int:
        found = match(kind, columns)
        return len(found) if all(any(name in found for name in group) for group in REQUIRED[kind]) else 0

    best = max(REQUIRED, key=fit)
    if best == seen["kind"] or fit(best) <= fit(seen["kind"]):
        return ""
    return f"\n  Its columns look like {best}: geocrm import {best} {shlex.quote(str(file))}"


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
    try:
        with command_database() as database:
            summary = undoing.undo(batch_id, database=database, skip_conflicts=skip_conflicts)
    except NotFound as missing:
        raise NotFound(f"There is no import {batch}; see `geocrm import list`.") from missing
    except Conflict as conflict:
        for entry in conflict.errors[:_SHOWN]:
            echo(f"  {entry['pointer'].lstrip('/')} (line {entry.get('line')}): {entry['detail']}")
        if len(conflict.errors) > _SHOWN:
            echo(f"  … and {len(conflict.errors) - _SHOWN:,} more")
        raise Conflict(conflict.detail) from conflict  # its list has just been shown
    left = summary["counts"].get("left_alone", 0)
    counts = summary["counts"]
    back = ", ".join(
        f"{counts[name]:,} {done}" for name, done in (("new", "taken out"), ("changed", "put back")) if counts.get(name)
    )
    echo(
        f"{batch} is undone{f' (rows: {back})' if back else ''}"
        + (f"; {left:,} rows were edited since and left alone." if left else ".")
    )


def list_batches(*, as_json: bool = False, echo: Echo) -> None:
    """The imports, newest first: a line each, or JSON."""
    with command_session() as session:
        found = session.execute(text("SELECT id FROM import_batches ORDER BY id DESC LIMIT 50")).scalars().all()
        if as_json:
            echo(
                json.dumps([batches.summary(session, one) for one in found], default=str, ensure_ascii=False, indent=2)
            )
            return
        if found:
            echo(f"{'import':<8} {'when (UTC)':<16} {'kind':<13}{'status':<9}file, rows")
        for batch_id in found:
            one = batches.summary(session, batch_id)
            counts = one["counts"]
            shown = ", ".join(
                f"{counts[name]:,} {name}" for name in ("new", "changed", "unchanged", "rejected") if counts.get(name)
            )
            if one["error"]:
                shown = str(one["error"].get("detail", "")).split(": ")[0]
            echo(
                f"{one['id']:<8} {one['created_at']:%Y-%m-%d %H:%M} "
                f"{one['kind']:<13}{one['status']:<9}{one['file_name']}  {shown}"
            )
        if not found:
            echo("Nothing was imported yet: geocrm import customers FILE")
