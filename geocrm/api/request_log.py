"""Requests of API keys, held in memory and written in batches, so that no request waits for its own log."""

import asyncio
import threading
from collections import deque
from contextlib import suppress

import anyio.to_thread
import structlog
from sqlalchemy.exc import SQLAlchemyError

from geocrm.crm import key_requests
from geocrm.crm.key_requests import Request
from geocrm.db.engine import Database

log = structlog.get_logger("geocrm.api")

EVERY_S = 5.0
MOST_KEYS = 1_000
MOST_OF_KEY = 100  # of a burst the last ones are kept: memory and writing are bounded


class RequestLog:
    """What the keys of this process asked since it was last written."""

    def __init__(self) -> None:
        self._held: dict[bytes, deque[Request]] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def note(self, request: Request) -> None:
        """Hold a request."""
        with self._lock:
            held = self._held.get(request.digest)
            if held is None:
                if len(self._held) >= MOST_KEYS:
                    return
                held = self._held[request.digest] = deque(maxlen=MOST_OF_KEY)
            held.append(request)

    def take(self) -> list[Request]:
        """What is held, oldest first; it is held no longer. What was taken to be written before is there by then."""
        with self._writing:
            return self._taken()

    def _taken(self) -> list[Request]:
        with self._lock:
            taken, self._held = self._held, {}
        return sorted((request for held in taken.values() for request in held), key=lambda request: request.at)

    def write(self, database: Database) -> None:
        """Write what is held. Where the database is away, it is lost: a log must not stand in anybody's way."""
        with self._writing:
            requests = self._taken()
            if not requests:
                return
            try:
                with database.writing() as session:
                    session.connection().detach()  # a connection of its own: no request waits for one that this took
                    key_requests.write(session, requests)
            except SQLAlchemyError as error:
                log.warning("requests_not_noted", count=len(requests), error=type(error).__name__)

    async def keep_writing(self, database: Database, stop: asyncio.Event) -> None:
        """Write every few seconds, and once more when it is to stop."""
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), EVERY_S)
            if self._held:
                await anyio.to_thread.run_sync(self.write, database)
