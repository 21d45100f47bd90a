"""Deliver events to webhooks: at least once, in order for each customer, again and again while a receiver is away.

What is to be delivered stands in the database, written with the event. A round takes what is due for a while (a lease),
sends it, and writes down what came of it; whoever is killed between leaves it to be sent again, under the same id.
A receiver that fails is given a pause that doubles; after it one delivery is tried, and if that goes well, all.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import structlog
from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from geocrm import ids, logs
from geocrm.campaigns import signing
from geocrm.campaigns.receivers import Answer, Lane
from geocrm.db.engine import Database
from geocrm.db.queries import named

log = structlog.get_logger("geocrm.webhooks")

LANES: Final = 32  # a receiver that answers in 50 ms takes 600 messages a second over so many
FEWEST: Final = 4  # a lane more for so many messages
KEPT_S: Final = 5.0
PAUSE_S: Final = 0.2  # what happens meanwhile is taken together,
BEHIND_S: Final = 1.0  # unless something has waited for so long
LONGEST_LOT_S: Final = 2.0
"""After so long a lot ends with the message that is being sent: the other webhooks wait for the round to end."""
MOST_A_ROUND: Final = 400
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 300.0
_GONE: Final = 410
Result = tuple[Row[Any], Answer]


class Deliverer:
    """Delivers what is due, on `lanes` connections at a time, which `run` keeps open. `first_pause_s` and
    `longest_pause_s` bound the pauses between tries; a lease lasts a little longer than everything that one lane sends
    may take."""

    def __init__(
        self,
        database: Database,
        *,
        lanes: int = LANES,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        settings = database.settings
        self._database = database
        self._lanes = lanes
        self._pauses = (first_pause_s, longest_pause_s)
        self._timeout_s = settings.webhook_timeout_s
        self._keep_trying_s = settings.webhook_days * 86_400
        self._allow_private = settings.webhook_allow_private
        self._random = random.Random()
        self._behind = False
        self._keeps = False
        self._kept: dict[tuple[str, int], Lane] = {}  # by address and place; each is used by one thread at a time

    def run(self, stop: threading.Event, *, idle_s: float = 0.5) -> None:
        """Deliver until told to stop. What another worker had taken, which is no more, is due at once: there is one."""
        released = False
        self._keeps = True
        while not stop.is_set():
            try:
                if not released:
                    with self._database.writing() as session:
                        session.execute(text(named("webhooks", "release")))
                    released = True
                if self.deliver_due() == 0:
                    stop.wait(idle_s)
                elif not self._behind:
                    stop.wait(PAUSE_S)
            except (DBAPIError, PoolTimeout) as error:  # the database is away: what was sent meanwhile is sent again
                log.warning("webhooks_wait", error=type(error).__name__)
                stop.wait(5.0)
            except Exception as error:  # a fault of ours: it must not be the end of all deliveries
                log.error("webhooks_failed", error=type(error).__name__, trace=logs.where(error))
                stop.wait(5.0)
        self._keeps = False
        self._close_idle()

    def deliver_due(self) -> int:
        """One round: what is due now, tried once; how many were tried."""
        with self._database.writing() as session:
            rows = session.execute(
                text(named("webhooks", "claim")), {"most": MOST_A_ROUND, "lease_s": 30 + 2 * self._timeout_s}
            ).all()
        self._close_idle()
        if not rows:
            return 0
        self._behind = (datetime.now(UTC) - min(row.created_at for row in rows)).total_seconds() > BEHIND_S
        loads = [load for _, group in groupby(rows, lambda row: row.webhook_id) for load in self._shared(list(group))]
        began = time.monotonic()
        with ThreadPoolExecutor(min(self._lanes, len(loads)), thread_name_prefix="webhooks") as pool:
            results = [result for lot in pool.map(self._send, loads) for result in lot]
        self._close_idle()
        self._write_down(results, {row.id for row in rows} - {row.id for row, _ in results})
        good = sum(answer.good for _, answer in results)
        log.info("webhooks_sent", tried=len(results), delivered=good, ms=round((time.monotonic() - began) * 1000))
        return len(rows)

    def _shared(self, rows: list[Row[Any]]) -> list[tuple[int, list[Row[Any]]]]:
        """One webhook's rows in as many lots as there are lanes, or less, each with its place."""
        places = min(self._lanes, -(-len(rows) // FEWEST))
        return [(start, rows[start::places]) for start in range(places)]

    def _send(self, load: tuple[int, Sequence[Row[Any]]]) -> list[Result]:
        """Send a lot over one connection. After the first failure the rest waits: the receiver is away or busy."""
        made: list[Result] = []
        away = False
        began = time.monotonic()
        place, rows = load
        url = rows[0].url
        lane = self._kept.pop((url, place), None)
        if lane is None:
            lane = Lane(url, timeout_s=self._timeout_s, allow_private=self._allow_private)
        try:
            for row in rows:
                if away or (made and time.monotonic() - began > LONGEST_LOT_S):
                    break
                try:
                    answer = lane.send(*message(row, now=time.time()))
                    away = not answer.good
                except Exception as error:  # what was sent beside it must not be sent again and again for its sake
                    lane.close()
                    log.error("webhook_failed", delivery=row.id, error=type(error).__name__, trace=logs.where(error))
                    answer = Answer(None, "it could not be sent; the log of the server says why", 0)
                made.append((row, answer))
        finally:
            self._kept[url, place] = lane
        return made

    def _close_idle(self) -> None:
        """Close connections over which nothing was sent for a while; all, where none is to be kept."""
        for key, lane in list(self._kept.items()):
            if not self._keeps or lane.idle_s() > KEPT_S:
                del self._kept[key]
                lane.close()

    def _write_down(self, results: Sequence[Result], untried: set[int]) -> None:
        good = [row.id for row, answer in results if answer.good]
        bad = [row for row, answer in results if not answer.good]
        works = {row.webhook_id for row, answer in results if answer.good}
        pauses = {row.webhook_id: row for row in bad if row.webhook_id not in works}
        gone = sorted({row.webhook_id for row, answer in results if answer.status == _GONE})
        with self._database.writing() as session:
            session.execute(
                text(named("webhooks", "log")),
                {
                    "ids": [row.id for row, _ in results],
                    "took": [answer.took_ms for _, answer in results],
                    "statuses": [answer.status for _, answer in results],
                    "errors": [answer.error for _, answer in results],
                },
            )
            session.execute(text(named("webhooks", "delivered")), {"ids": good})
            session.execute(text(named("webhooks", "works")), {"ids": sorted(works)})
            if bad:
                session.execute(
                    text(named("webhooks", "not_delivered")),
                    {
                        "ids": [row.id for row in bad],
                        "waits": [self._pause(row.attempts) for row in bad],
                        "keep_trying_s": self._keep_trying_s,
                    },
                )
                session.execute(
                    text(named("webhooks", "pauses")),
                    {"ids": sorted(pauses), "waits": [self._pause(pauses[one].failures + 1) for one in sorted(pauses)]},
                )
                session.execute(text(named("webhooks", "is_gone")), {"ids": gone})
            if untried:
                session.execute(text(named("webhooks", "give_back")), {"ids": sorted(untried)})

    def _pause(self, failures: int) -> float:
        """Seconds after so many failures one after the other: doubling, and by chance up to half of it less, so that
        not all come back at once."""
        first, longest = self._pauses
        return min(longest, first * 2.0 ** min(failures - 1, 30)) * self._random.uniform(0.5, 1.0)


def message(row: Row[Any], *, now: float) -> tuple[dict[str, str], bytes]:
    """Headers and body of a delivery that is sent at a time. Its id is that of the event, at every try the same."""
    test = row.event_id is None
    message_id = ids.show("dlv", row.id) if test else ids.show("evt", row.event_id)
    happened: datetime = row.created_at if test else row.occurred_at
    content = {
        "id": message_id,
        "type": row.type,
        "timestamp": happened.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": {"message": "A test, sent by hand."} if test else row.data,
    }
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    secrets = [bytes(one) for one in (row.secret, row.former_secret) if one is not None]
    headers = signing.headers(secrets, str(message_id), int(now), body)
    return headers | {"User-Agent": "geocrm"}, body
