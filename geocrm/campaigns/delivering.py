"""Deliver events to webhooks: at least once, in order for each customer, again and again while a receiver is away.

What is to be delivered stands in the database, written with the event. Each webhook has rounds of its own, whatever the
others do: what is due is taken (a lease), sent, and what came of it written down. A lease is held by a worker that
lives, which its lock in the database tells: what a killed one took is sent again at once, under the same id.
A receiver that fails is given a pause that doubles; after it one delivery is tried, and if that goes well, all.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any, Final

import structlog
from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from geocrm import ids, logs
from geocrm.campaigns import signing, webhooks
from geocrm.campaigns.receivers import Answer, Lane
from geocrm.db.engine import Database, Living
from geocrm.db.queries import named

log = structlog.get_logger("geocrm.webhooks")

LANES: Final = 32  # a receiver that answers in 50 ms takes 600 messages a second over so many
MOST_LANES: Final = 256  # of all webhooks; each has one at least, and at most half of those that are left
FEWEST: Final = 4  # a lane more for so many messages
KEPT_S: Final = 5.0
PAUSE_S: Final = 0.2  # what happens meanwhile is taken together,
BEHIND_S: Final = 1.0  # unless something has waited for so long
LONGEST_LOT_S: Final = 2.0
"""After so long a lot ends with the message that is being sent, so that what was sent is soon written down."""
MOST_A_ROUND: Final = 400
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 300.0
TROUBLE_S: Final = 5.0  # after a fault, or while the database is away
_WORKERS: Final = 730_541
"""The kind of the advisory lock that a deliverer holds of its number."""
_GONE: Final = 410
Result = tuple[Row[Any], Answer]


@dataclass(frozen=True, slots=True)
class _Round:
    """What was taken of one webhook by a worker of a number, and the lots in which it is sent."""

    worker: int
    rows: Sequence[Row[Any]]
    began: float
    lots: list[Future[list[Result]]] = field(default_factory=list)

    def is_over(self) -> bool:
        return all(lot.done() for lot in self.lots)


class Deliverer:
    """Delivers what is due, each webhook on at most `lanes` connections at a time, which `run` keeps open.
    `first_pause_s` and `longest_pause_s` bound the pauses between tries; a lease lasts longer than everything that one
    lane sends may take."""

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
        self._keeps = False
        self._kept: dict[tuple[int, str, int], Lane] = {}  # by webhook, address, place; one thread uses it at a time
        self._under_way: dict[int, _Round] = {}  # by webhook
        self._over = threading.Event()  # a round is

    def run(self, stop: threading.Event, *, idle_s: float = 0.5) -> None:
        """Deliver until told to stop."""
        with self._sending() as pool:
            while not stop.is_set():
                try:
                    with self._database.living(_WORKERS) as living:
                        self._keeps = True
                        while not stop.is_set():
                            self._turn(living, pool, stop, idle_s)
                        self._keeps = False
                        self._await(living)
                except (DBAPIError, PoolTimeout) as error:  # the database is away: what is sent is written down later
                    log.warning("webhooks_wait", error=type(error).__name__)
                    stop.wait(TROUBLE_S)
                except Exception as error:  # a fault of ours: it must not be the end of all deliveries
                    log.error("webhooks_failed", error=type(error).__name__, trace=logs.where(error))
                    stop.wait(TROUBLE_S)

    def deliver_due(self) -> int:
        """What is due now, tried once; how many were tried."""
        with self._sending() as pool, self._database.living(_WORKERS) as living:
            rows = self._begin(living, pool)
            self._await(living)
        return len(rows)

    @contextlib.contextmanager
    def _sending(self) -> Iterator[ThreadPoolExecutor]:
        """Threads for every lane that there can be; afterwards nothing is sent any longer, and nothing is open."""
        try:
            with ThreadPoolExecutor(MOST_LANES + webhooks.MOST, thread_name_prefix="webhooks") as pool:
                try:
                    yield pool
                finally:
                    self._keeps = False
        finally:
            self._under_way.clear()
            self._close_idle()

    def _turn(self, living: Living, pool: ThreadPoolExecutor, stop: threading.Event, idle_s: float) -> None:
        """Write down what is over, begin what is due, and rest, less where something is behind."""
        self._over.clear()
        self._end(living)
        rows = self._begin(living, pool)
        if not rows:
            self._over.wait(idle_s)
        elif _is_behind(rows):
            self._over.wait(PAUSE_S)
        else:
            stop.wait(PAUSE_S)

    def _begin(self, living: Living, pool: ThreadPoolExecutor) -> Sequence[Row[Any]]:
        """Take what is due of webhooks that have no round, and begin one of each; what was taken."""
        values = {
            "most": MOST_A_ROUND,
            "lease_s": 60 + 4 * self._timeout_s,
            "worker": living.number,
            "kind": _WORKERS,
            "busy": list(self._under_way),
        }
        with living.writing() as session:
            rows = session.execute(text(named("webhooks", "claim")), values).all()
        self._close_idle()
        used = sum(len(one.lots) for one in self._under_way.values())
        for webhook_id, group in groupby(rows, lambda row: row.webhook_id):
            mine = list(group)
            begun = self._under_way[webhook_id] = _Round(living.number, mine, time.monotonic())
            places = min(self._lanes, -(-len(mine) // FEWEST), max(1, (MOST_LANES - used) // 2))
            begun.lots.extend(pool.submit(self._send, place, mine[place::places]) for place in range(places))
            used += places
            for lot in begun.lots:
                lot.add_done_callback(partial(self._lot_ended, begun))
        return rows

    def _lot_ended(self, one: _Round, _: Future[list[Result]]) -> None:
        if one.is_over():
            self._over.set()

    def _await(self, living: Living) -> None:
        """Wait for all rounds, and write down what came of them."""
        wait([lot for one in self._under_way.values() for lot in one.lots])
        self._end(living)

    def _end(self, living: Living) -> None:
        """Write down what came of rounds that are over; what could not be, for want of the database, the next time."""
        for webhook_id, one in list(self._under_way.items()):
            if one.is_over():
                try:
                    self._write_down(living, webhook_id, one)
                except OperationalError:
                    raise
                except Exception:
                    del self._under_way[webhook_id]
                    raise
                del self._under_way[webhook_id]

    def _send(self, place: int, rows: Sequence[Row[Any]]) -> list[Result]:
        """Send a lot over one connection. After the first failure the rest waits: the receiver is away or busy."""
        made: list[Result] = []
        away = False
        began = time.monotonic()
        key = (rows[0].webhook_id, rows[0].url, place)
        lane = self._kept.pop(key, None)
        if lane is None:
            lane = Lane(rows[0].url, timeout_s=self._timeout_s, allow_private=self._allow_private)
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
            self._kept[key] = lane
        return made

    def _close_idle(self) -> None:
        """Close connections over which nothing was sent for a while; all, where none is to be kept."""
        for key, lane in list(self._kept.items()):
            if (not self._keeps or lane.idle_s() > KEPT_S) and self._kept.pop(key, None) is not None:
                lane.close()

    def _write_down(self, living: Living, webhook_id: int, one: _Round) -> None:
        results = [result for lot in one.lots for result in lot.result()]
        good = [row.id for row, answer in results if answer.good]
        bad = [row for row, answer in results if not answer.good]
        untried = {row.id for row in one.rows} - {row.id for row, _ in results}
        hook = {"webhook": webhook_id}
        mine = {"worker": one.worker}
        with living.writing() as session:
            if session.scalar(text(named("webhooks", "hold")), hook) is None:
                return  # it was deleted meanwhile
            session.execute(
                text(named("webhooks", "log")),
                {
                    "ids": [row.id for row, _ in results],
                    "took": [answer.took_ms for _, answer in results],
                    "statuses": [answer.status for _, answer in results],
                    "errors": [answer.error for _, answer in results],
                },
            )
            if good:
                session.execute(text(named("webhooks", "delivered")), mine | {"ids": good})
                session.execute(text(named("webhooks", "works")), hook)
            if bad:
                waits = [self._pause(row.attempts) for row in bad]
                values = {"ids": [row.id for row in bad], "waits": waits, "keep_trying_s": self._keep_trying_s}
                session.execute(text(named("webhooks", "not_delivered")), mine | values)
            if bad and not good:
                wait_s = self._pause(bad[0].failures + 1)
                session.execute(text(named("webhooks", "pauses")), hook | {"wait_s": wait_s})
            if any(answer.status == _GONE for _, answer in results):
                session.execute(text(named("webhooks", "is_gone")), hook)
            if untried:
                session.execute(text(named("webhooks", "give_back")), mine | {"ids": sorted(untried)})
        took_ms = round((time.monotonic() - one.began) * 1000)
        log.info("webhooks_sent", webhook=webhook_id, tried=len(results), delivered=len(good), ms=took_ms)

    def _pause(self, failures: int) -> float:
        """Seconds after so many failures one after the other: doubling, and by chance up to half of it less, so that
        not all come back at once."""
        first, longest = self._pauses
        return min(longest, first * 2.0 ** min(failures - 1, 30)) * self._random.uniform(0.5, 1.0)


def _is_behind(rows: Sequence[Row[Any]]) -> bool:
    """Whether something has waited for long that need not have: of webhooks whose last try went well."""
    waiting = [row.created_at for row in rows if row.failures == 0]
    return bool(waiting) and (datetime.now(UTC) - min(waiting)).total_seconds() > BEHIND_S


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
