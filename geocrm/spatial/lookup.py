"""The lookup rows and the cell pyramid: what nearby, tiles and row security read, in step with customers and sites.

`site_lookup` holds one narrow row per placed site; `site_cells` counts them per cell of the web Mercator grid at zooms
8, 11, 14 and 17 and per stage, kind, owner, territory and segment. Small changes write the rows that differ and append
differences of counts to `site_cell_deltas`, so that writers never wait for a hot cell; :func:`merge_cells` folds them
in. Changes of a large part build a new generation beside the old one and flip.
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Final

import psycopg
import pyarrow as pa
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.copying import copy_encoded, encode
from geocrm.db.engine import Database
from geocrm.db.queries import named

# Measured on 50,000 sites: rewriting a fifth of the rows under their indexes takes as long as building all anew.
REBUILD_SHARE: Final = 1 / 6
REBUILD_AT_LEAST: Final = 5_000
FILL_CELLS: Final = ("fill_cells", "fill_cells_14", "fill_cells_11", "fill_cells_8")
_MERGE_LOCK: Final = 7_305_417_202
_LIST: Final = "unnest(CAST(:ids AS bigint[])) AS given(customer_id) GROUP BY customer_id"
_TABLE: Final = "changed_customers"


def refresh(session: Session, customer_ids: Iterable[int]) -> int:
    """Make the lookup rows and cell counts of these customers follow; returns how many rows differed.

    Customers are locked in order of id. Erased customers, and sites that are pending, flagged or failed,
    have no row."""
    wanted = sorted({int(i) for i in customer_ids})
    if not wanted:
        return 0
    session.flush()
    session.execute(text(named("lookup", "lock_customers")), {"ids": wanted})
    row = session.execute(text(named("lookup", "refresh").replace("{changed}", _LIST)), {"ids": wanted}).one()
    return int(row.gone + row.moved + row.added)


def refresh_bulk(session: Session) -> int:
    """The same for the customers of the temporary table `changed_customers(customer_id bigint primary key)`.

    The caller holds the locks of what it changed. Where a large part of all sites changed, a new generation is built;
    returns how many rows differed, or the number of all rows then."""
    session.flush()
    changed = session.scalar(text("SELECT count(*) FROM changed_customers")) or 0
    if changed >= REBUILD_AT_LEAST:
        present = (
            session.scalar(text("SELECT reltuples FROM pg_class WHERE oid = CAST('site_lookup' AS regclass)")) or 0
        )
        if changed >= REBUILD_SHARE * max(present, 0):
            return rebuild(session)
    session.execute(text("ANALYZE changed_customers"))
    row = session.execute(text(named("lookup", "refresh").replace("{changed}", _TABLE))).one()
    if changed > 1000:
        merge_cells(session)
    return int(row.gone + row.moved + row.added)


def rebuild(session: Session) -> int:
    """Build a new generation of lookup rows and cells beside the present one and flip; returns the number of rows.

    Readers go on until the flip at the end; other writers of lookup rows wait until the transaction ends."""
    session.flush()
    lock_generations(session)
    session.execute(text("SELECT geocrm_generation_new('site_lookup'), geocrm_generation_new('site_cells')"))
    made = session.execute(text(named("lookup", "fill_next")))
    for name in FILL_CELLS:
        session.execute(text(named("lookup", name)))
    flip(session)
    return int(made.rowcount)  # type: ignore[attr-defined]


def lock_generations(session: Session) -> None:
    """Let other writers of lookup rows wait until the transaction ends; raises after a minute of waiting for them."""
    session.execute(text("SELECT geocrm_generation_lock()"))


def flip(session: Session) -> None:
    """Give the new generations what they still lack and let them take the place of the present ones: the last step of a
    transaction, as readers wait from here on."""
    session.execute(text("SELECT geocrm_generation_finish('site_lookup'), geocrm_generation_finish('site_cells')"))
    session.execute(text("SELECT geocrm_generation_flip('site_cells'), geocrm_generation_flip('site_lookup')"))
    session.execute(text("DELETE FROM site_cell_deltas"))
    session.execute(text("INSERT INTO lookup_changes DEFAULT VALUES"))
    session.execute(text("DELETE FROM lookup_counts"))
    session.execute(text(named("lookup", "count_stages")))


class Generation:
    """A new generation that is built on a connection of its own, while the transaction that will flip it is at other
    work, on another core.

    That transaction holds `lock_generations`. What is committed here is seen by nobody until its flip; where that never
    comes, the next generation takes its place."""

    def __init__(self, database: Database) -> None:
        self.connection = psycopg.connect(database.conninfo("worker"), autocommit=True)
        self._waiting: deque[tuple[str, str]] = deque()
        self._rows = ExitStack()
        self._rows.enter_context(self.connection.transaction())
        self.connection.execute("SET LOCAL work_mem = '128MB'")
        self.connection.execute("SELECT geocrm_generation_new('site_lookup'), geocrm_generation_new('site_cells')")
        self.connection.execute("CREATE TEMP TABLE lookup_rows (LIKE site_lookup) ON COMMIT DROP")

    def add(self, rows: pa.Table) -> None:
        """Lookup rows, columns as in `site_lookup`, locations as EWKB."""
        copy_encoded(self.connection, encode("lookup_rows", rows))

    def build(self) -> None:
        """Sort the rows, count the cells, and make indexes until none is waiting."""
        for name in ("fill_next_from_rows", *FILL_CELLS):
            self.connection.execute(named("lookup", name))
        self._rows.close()  # ends the transaction: now others can help
        for table in ("site_lookup", "site_cells"):
            found = self.connection.execute("SELECT geocrm_generation_indexes(%s)", (table,)).fetchall()
            self._waiting.extend((table, index) for (index,) in found)
        while (waiting := self._take(first=True)) is not None:
            self.connection.execute("SELECT geocrm_generation_index(%s, %s)", waiting)

    def help_build(self, session: Session, building: Future[None]) -> None:
        """On the connection that will flip: make the indexes that still wait for `build`, until it is done."""
        while not building.done() and (waiting := self._take(first=False)) is not None:
            session.execute(
                text("SELECT geocrm_generation_index(:table, :index)"), {"table": waiting[0], "index": waiting[1]}
            )
        building.result()

    def _take(self, *, first: bool) -> tuple[str, str] | None:
        try:
            return self._waiting.popleft() if first else self._waiting.pop()
        except IndexError:
            return None

    def close(self) -> None:
        """Close the connection; rows that were not built are gone."""
        self.connection.close()


def merge_cells(session: Session) -> int:
    """Fold waiting differences into the counts per cell; returns how many. One merge runs at a time, a second does
    nothing. Meant to run every minute or so."""
    if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _MERGE_LOCK}):
        return 0
    merged = session.scalar(text(named("lookup", "merge_cells"))) or 0
    if merged:
        session.execute(text(named("lookup", "count_stages")))
    session.execute(text(named("lookup", "merge_changes")))
    return int(merged)


def version(session: Session) -> str:
    """The version of what lookups and tiles show."""
    return str(session.scalar(text("SELECT geocrm_lookup_version()")))
