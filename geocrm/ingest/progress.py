"""How far a run is: kept with the batch, for whoever looks."""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import psycopg

from geocrm.db.engine import Database

PHASES = {
    "matching": 0.12,
    "writing customers": 0.19,
    "writing sites": 0.36,
    "writing contacts": 0.6,
    "territories and lookups": 0.68,
    "indexes and lookups": 0.5,
}
"""How much of its time a run has spent when a phase begins, measured on 200,000 customers with coordinates; the last
one is a first load's, which has no others."""


class Progress:
    """Writes how far a run is, over a connection of its own, at most twice a second."""

    def __init__(self, database: Database, batch_id: int, listener: Callable[[dict[str, Any]], None] | None) -> None:
        self._connection = psycopg.connect(database.conninfo("worker"), autocommit=True)
        self._batch_id = batch_id
        self._listener = listener
        self._start = self._last = time.monotonic()
        self._after_reading = "matching"
        self.state: dict[str, Any] = {
            "phase": "reading",
            "processed": 0,
            "total": None,
            "rate": 0,
            "remaining_s": None,
            "rejected": 0,
        }

    def begin(self) -> None:
        """The batch is running."""
        self._connection.execute(
            "UPDATE import_batches SET status = 'running', started_at = now(), finished_at = NULL, error = NULL, "
            "processed = 0,"
            " counts = '{}' WHERE id = %s AND status <> 'done'",
            (self._batch_id,),
        )

    def rows(self, processed: int, share: float, rejected: int) -> None:
        """So many rows are read, which is this share of the file."""
        elapsed = max(time.monotonic() - self._start, 1e-3)
        total = processed if share >= 1 else round(processed / max(share, 1e-6))
        remaining = elapsed * (1 / max(share * PHASES[self._after_reading], 1e-3) - 1)
        self.state |= {
            "processed": processed,
            "total": total,
            "rate": round(processed / elapsed),
            "remaining_s": round(remaining, 1),
            "rejected": rejected,
        }
        self._tell()

    def phase(self, name: str) -> None:
        """What happens now."""
        done = PHASES.get(name)
        elapsed = time.monotonic() - self._start
        self.state |= {"phase": name, "remaining_s": round(elapsed * (1 / done - 1), 1) if done else None}
        self._tell(always=True)

    def reading(self, *, before: str) -> None:
        """Rows are read now, from the first one; `before` is the phase after that: it says how much is left."""
        self._after_reading = before
        self.phase("reading")

    def fail(self, error: dict[str, Any]) -> None:
        """The run failed, for this reason."""
        # where the database is gone the batch stays running, and whoever queued it runs it again
        with contextlib.suppress(psycopg.Error):
            self._connection.execute(
                "UPDATE import_batches SET status = 'failed', error = %s, finished_at = now() "
                "WHERE id = %s AND status <> 'done'",
                (json.dumps(error), self._batch_id),
            )

    def _tell(self, *, always: bool = False) -> None:
        if not always and time.monotonic() - self._last < 0.5:
            return
        self._last = time.monotonic()
        self._connection.execute(
            "UPDATE import_batches SET processed = %s, total = %s, counts = %s WHERE id = %s AND status = 'running'",
            (self.state["processed"], self.state["total"], json.dumps(self.state), self._batch_id),
        )
        if self._listener is not None:
            self._listener(dict(self.state))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
