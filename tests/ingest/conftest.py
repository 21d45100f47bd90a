"""Fixtures of the import's tests: a database of their own (runs commit), a shortcut to import a text or a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from geocrm.access import SYSTEM, Actor
from geocrm.db.engine import Database
from geocrm.ingest import batches, load, undo

# Everything that is current; ledger, audit and lineage keep their history and are left out.
CURRENT = {
    "customers": "*",
    "sites": "*",
    "contacts": "*",
    "customer_sources": "*",
    "site_sources": "*",
    "sales": "*",
    "sale_lines": "*",
    "sale_sources": "*",
    "products": "*",
    "product_sources": "*",
    "interactions": "*",
    "interaction_sources": "*",
    "places": "*",
    "place_sources": "*",
    "site_lookup": "*",
}


@dataclass
class Desk:
    """A database and a directory to import from."""

    database: Database
    folder: Path

    def file(self, content: str | bytes, name: str = "file.csv") -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def begin(self, path: Path, kind: str, actor: Actor = SYSTEM, **recipe: Any) -> int:
        with self.database.writing() as session:
            source = recipe.pop("source", None)
            batch = batches.create_batch(
                session, path, kind, source, recipe, actor, uploads=self.database.settings.uploads
            )
            return batch.id

    def run(
        self, content: str | bytes | Path, kind: str, actor: Actor = SYSTEM, *, dry_run: bool = False, **recipe: Any
    ) -> dict[str, Any]:
        path = content if isinstance(content, Path) else self.file(content)
        number = self.begin(path, kind, actor, **recipe)
        return load.run(number, database=self.database, dry_run=dry_run)

    def counts(self, *args: Any, **kwargs: Any) -> tuple[int, int, int, int]:
        counts = self.run(*args, **kwargs)["counts"]
        return counts["new"], counts["changed"], counts["unchanged"], counts["rejected"]

    def rejected(self, summary: dict[str, Any]) -> str:
        with self.database.writing() as session:
            return b"".join(batches.rejected_rows(session, int(summary["id"][4:]))).decode("utf-8-sig")

    def undo(self, summary: dict[str, Any], *, skip_conflicts: bool = False) -> dict[str, Any]:
        return undo.undo(int(summary["id"][4:]), database=self.database, skip_conflicts=skip_conflicts)

    def rows(self, statement: str, **values: Any) -> list[Any]:
        with self.database.writing() as session:
            return [tuple(row) for row in session.execute(text(statement), values).all()]

    def one(self, statement: str, **values: Any) -> Any:
        return self.rows(statement, **values)[0][0]

    def write(self, statement: str, **values: Any) -> None:
        with self.database.writing() as session:
            session.execute(text(statement), values)

    def snapshot(self) -> dict[str, list[str]]:
        """Every current row of every table, as text."""
        return {
            table: sorted(
                row[0] for row in self.rows(f"SELECT CAST(t AS text) FROM (SELECT {columns} FROM {table}) AS t")
            )
            for table, columns in CURRENT.items()
        }


@pytest.fixture(scope="module")
def desk_database(new_database: Callable[[], Database]) -> Database:
    return new_database()


@pytest.fixture
def desk(desk_database: Database, tmp_path: Path) -> Desk:
    """An empty desk: everything that an earlier test of the module imported is gone."""
    with desk_database.writing() as session:
        names = ", ".join(
            (
                *CURRENT,
                "import_rows",
                "import_batches",
                "assignments",
                "contradictions",
                "site_cells",
                "site_cell_deltas",
            )
        )
        session.execute(text(f"TRUNCATE {names} CASCADE"))
    return Desk(desk_database, tmp_path)
