"""What the loaders of all kinds share: the staging table, COPY into it, and the rows that are turned away.

The staging table is temporary and belongs to the one transaction of the import: a crash leaves nothing of it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor
from geocrm.db.copying import driver
from geocrm.db.queries import named
from geocrm.errors import InvalidFile
from geocrm.ingest import coerce
from geocrm.ingest.coerce import Mask
from geocrm.ingest.columns import Prepared
from geocrm.ingest.formats import Chunk, Source
from geocrm.ingest.recipes import Recipe

MAX_INPUT_CHARS = 2_000  # of one cell of a rejected row that is kept


@dataclass
class Context:
    """One run: who imports what, and what the loaders need to know of the database."""

    session: Session
    batch_id: int
    source: str
    recipe: Recipe
    actor: Actor
    given: frozenset[str]
    rejected: Rejected
    progress: Callable[[str], None] = lambda phase: None
    users: dict[str, int] | None = None  # by e-mail, id and name, once they are loaded
    counts: dict[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """What the ledger says of the assignments of this import."""
        return f"import {ids.show('imp', self.batch_id)}"

    def not_known(self, customer: str) -> str:
        """Why a line of this customer is turned away. One the actor does not see reads as one that nobody knows."""
        return f"customer {customer!r} of source {self.source!r} is not known; import it first"

    def turn_away(self, source: Source, reasons: Mapping[int, Mapping[str, str]]) -> None:
        """Take staged lines out again, line → column → reason, to be given back with what stood in them."""
        self.rejected.add_lines(source, reasons)
        delete = text("DELETE FROM import_stage WHERE line_no = ANY (CAST(:lines AS bigint[]))")
        self.session.execute(delete, {"lines": list(reasons)})

    def run(self, file: str, name: str, slots: Mapping[str, str] | None = None, **values: Any) -> Any:
        """Run a named query, its slots filled with our own SQL fragments, its values bound."""
        statement = named(file, name)
        for slot, fragment in (slots or {}).items():
            statement = statement.replace("{" + slot + "}", fragment)
        bound = {"batch_id": self.batch_id, "source": self.source} | values
        used = {key: value for key, value in bound.items() if f":{key}" in statement}
        return self.session.execute(text(statement), used)


class Rejected:
    """Rows that are turned away, spooled to a temporary file until the fate of the run is known."""

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(max_size=4 << 20, mode="w+", encoding="utf-8")  # noqa: SIM115
        self.count = 0

    def add(self, line: int, reasons: Mapping[str, str], given: Mapping[str, str | None]) -> None:
        """Turn one line away: column → reason, and what stood in it."""
        kept = {name: None if value is None else value[:MAX_INPUT_CHARS] for name, value in given.items()}
        json.dump([line, dict(reasons), kept], self._spool, ensure_ascii=False)
        self._spool.write("\n")
        self.count += 1

    def add_chunk(self, prepared: Prepared) -> None:
        """Turn away the bad rows of a chunk and the rows that could not be split into columns."""
        chunk = prepared.chunk
        names = chunk.table.column_names
        for row in chunk.unreadable:
            fields = dict(zip(names, [*row.fields, *([None] * len(names))], strict=False))
            surplus = row.fields[len(names) :]
            if surplus:
                fields["_surplus"] = " | ".join(surplus)
            self.add(row.line, {"": row.reason}, fields)
        if not prepared.bad.any():
            return
        reasons: dict[int, dict[str, str]] = {}
        for fault in prepared.faults:
            reasons.setdefault(fault.row, {}).setdefault(fault.column, fault.reason)
        self.add_rows(chunk, reasons)

    def add_rows(self, chunk: Chunk, reasons: Mapping[int, Mapping[str, str]]) -> None:
        """Turn away rows of a chunk by their position."""
        rows = sorted(reasons)
        for start in range(0, len(rows), 5000):
            part = rows[start : start + 5000]
            for row, values in zip(part, chunk.table.take(pa.array(part)).to_pylist(), strict=True):
                self.add(int(chunk.lines[row]), reasons[row], values)

    def add_lines(self, source: Source, reasons: Mapping[int, Mapping[str, str]]) -> None:
        """Turn away lines that only the database could judge: the file is read once more for what stood in them."""
        if not reasons:
            return
        wanted = np.fromiter(reasons, np.int64, len(reasons))
        for chunk in source.chunks():
            rows = np.flatnonzero(np.isin(chunk.lines, wanted))
            if len(rows):
                self.add_rows(chunk, {int(row): reasons[int(chunk.lines[row])] for row in rows})

    def store(self, session: Session, batch_id: int) -> None:
        """COPY them into `import_rows`."""
        if not self.count:
            return
        self._spool.seek(0)
        with (
            driver(session).cursor() as cursor,
            cursor.copy("COPY import_rows (batch_id, line_no, outcome, reasons, input) FROM STDIN") as copy,
        ):
            for spooled in self._spool:
                line, reasons, given = json.loads(spooled)
                copy.write_row((batch_id, line, "rejected", _json(reasons), _json(given)))

    def clear(self) -> None:
        """Forget all: the run begins anew."""
        self._spool.seek(0)
        self._spool.truncate()
        self.count = 0

    def close(self) -> None:
        """Drop the spool."""
        self._spool.close()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\\u0000", "")


def create_stage(session: Session, columns: Sequence[tuple[str, str]]) -> None:
    """The staging table of this transaction and the table of former states."""
    session.execute(text("SET LOCAL work_mem = '96MB'"))
    session.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    session.execute(
        text("SET LOCAL default_statistics_target = 20")
    )  # sizes and distinct values are all that is needed
    body = ", ".join(f"{name} {kind}" for name, kind in columns)
    session.execute(text(f"CREATE TEMP TABLE import_stage ({body}) ON COMMIT DROP"))
    session.execute(
        text(
            "CREATE TEMP TABLE import_before (line_no bigint, part text, object_id bigint, before jsonb) ON COMMIT DROP"
        )
    )


def flags_text(flags: Mapping[str, Mask], count: int, *, only: frozenset[str] | None = None) -> Any:
    """Flags of each row as a PostgreSQL array literal, null where there are none."""
    chosen = {name: mask for name, mask in flags.items() if only is None or name in only}
    if not chosen:
        return pa.nulls(count, pa.string())
    nothing = pa.scalar(None, pa.string())
    joined = coerce.join(
        [pc.if_else(pa.array(mask), pa.scalar(name), nothing) for name, mask in sorted(chosen.items())], ","
    )
    wrapped = pc.binary_join_element_wise(pa.scalar("{"), joined, pa.scalar("}"), pa.scalar(""))
    return pc.if_else(pc.equal(joined, ""), nothing, wrapped)


def source_has_rows(source: Source) -> Iterator[Chunk]:
    """The chunks of a source; raises InvalidFile where there are none."""
    empty = True
    for chunk in source.chunks():
        empty = False
        yield chunk
    if empty:
        raise InvalidFile("The file holds no rows. Export it again and check that the export has rows.")
