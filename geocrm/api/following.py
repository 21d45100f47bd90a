"""Imports that are followed: read once a tick for all event streams of this process, which are limited in number."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from geocrm.errors import TooManyRequests

RETRY_AFTER_S = 10
State = dict[str, Any]
Read = Callable[[Sequence[int]], Awaitable[dict[int, State]]]


class Streams:
    """The event streams that are open, and what they tell: however many there are, the database is asked no oftener
    than once in `tick_s` seconds."""

    def __init__(self, *, most: int, most_of_user: int, tick_s: float = 0.5) -> None:
        self.tick_s = tick_s
        self._most = most
        self._most_of_user = most_of_user
        self._users: Counter[int | None] = Counter()
        self._followed: Counter[int] = Counter()
        self._states: dict[int, State] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    @property
    def open(self) -> int:
        """How many streams are open."""
        return self._users.total()

    @contextmanager
    def taking(self, user_id: int | None, batch_id: int) -> Iterator[None]:
        """A stream of a user on an import, while the block runs. Raises TooManyRequests where that is one too many."""
        if self._users[user_id] >= self._most_of_user or self.open >= self._most:
            raise TooManyRequests(
                "Too many event streams are open: close one, or ask GET /v1/imports/{import_id} from time to time.",
                retry_after_s=RETRY_AFTER_S,
            )
        self._users[user_id] += 1
        self._followed[batch_id] += 1
        try:
            yield
        finally:
            self._users -= Counter((user_id,))  # what has come to nothing is dropped
            self._followed -= Counter((batch_id,))

    async def state(self, batch_id: int, read: Read) -> State | None:
        """What the import was at most a tick ago; None where there is none. `read` gives the states of some imports."""
        async with self._reading:
            if time.monotonic() - self._read_at >= self.tick_s or batch_id not in self._states:
                self._read_at = time.monotonic()
                self._states = await read(sorted({batch_id, *self._followed}))
        return self._states.get(batch_id)


class Stream(StreamingResponse):
    """An answer of server-sent events that takes its place among `streams` when it is sent, and leaves it when the
    events end or the client is gone."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], streams: Streams, user_id: int | None, batch_id: int) -> None:
        super().__init__(events, headers={"X-Accel-Buffering": "no"})
        self._place = (streams, user_id, batch_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        streams, user_id, batch_id = self._place
        with streams.taking(user_id, batch_id):
            await super().__call__(scope, receive, send)
