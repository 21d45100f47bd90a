"""The worker is killed while it delivers, and the receiver is away meanwhile: every event comes, in order, signed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from geocrm.access import SYSTEM
from geocrm.campaigns import events, signing, webhooks
from geocrm.campaigns.events import NewEvent
from geocrm.db.engine import Database
from tests.campaigns.test_webhooks import Receiver


def start_worker(
    database: Database, home: Path, command: Sequence[str] = ("-m", "geocrm.jobs")
) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GEOCRM_")}
    addresses = {
        "GEOCRM_DATABASE_URL": database.conninfo("admin"),
        "GEOCRM_API_DATABASE_URL": database.conninfo("api"),
        "GEOCRM_WORKER_DATABASE_URL": database.conninfo("worker"),
        "GEOCRM_HOME": str(home),
        "GEOCRM_WEBHOOK_ALLOW_PRIVATE": "true",
    }
    with (home / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *command],
            env=clean | addresses,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def wait(until: Callable[[], bool], what: str, seconds: float = 90) -> None:
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.02)


class Told:
    """Events that happened, and whether the receiver got them all, in order for each customer, signed."""

    def __init__(self, database: Database, receiver: Receiver) -> None:
        self.seed = int(os.environ.get("GEOCRM_TEST_SEED", random.SystemRandom().randrange(10**6)))
        self.draw = random.Random(self.seed)
        print(f"seed {self.seed}")
        self.database, self.receiver = database, receiver
        self.sent: dict[int, list[str]] = {}
        with database.writing() as session:
            self.hook = webhooks.create(session, SYSTEM, url=receiver.url, allow_private=True)

    def happen(self, count: int) -> None:
        for _ in range(count):
            customer = self.draw.randrange(1, 6)
            with self.database.writing() as session:
                (number,) = events.record(
                    session, [NewEvent(customer, "geofence.entered", datetime.now(UTC), {"customer": customer})]
                )
            self.sent.setdefault(customer, []).append(f"evt_{number}")

    def wait_for_all(self, seconds: float) -> None:
        everything = {one for ids in self.sent.values() for one in ids}
        missing = f"seed {self.seed}: some events never came"
        wait(lambda: {one["id"] for one in self.receiver.messages} >= everything, missing, seconds)
        wait(lambda: _waiting(self.database) == 0, "what came is not written down")

    def check(self) -> None:
        firsts: dict[int, list[str]] = {}
        for message in self.receiver.messages:
            mine = firsts.setdefault(message["data"]["customer"], [])
            if message["id"] not in mine:
                mine.append(message["id"])
        assert firsts == self.sent, f"seed {self.seed}: not in order"
        secret = signing.read_secret(self.hook["secret"])
        for (headers, body), now in zip(self.receiver.raw, self.receiver.times, strict=True):
            signing.verify(secret, headers, body, now=now)


def test_nothing_is_lost_though_the_worker_is_killed_and_the_receiver_away(
    new_database: Callable[[], Database], tmp_path: Path
) -> None:
    database, receiver = new_database(), Receiver()
    told = Told(database, receiver)
    receiver.delay_s = 0.01
    told.happen(60)
    worker = start_worker(database, tmp_path)
    try:
        for kill in range(2):
            enough = len(receiver.messages) + told.draw.randrange(3, 12)
            wait(lambda enough=enough: len(receiver.messages) >= enough, (tmp_path / "worker.log").read_text()[-2000:])
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait(10)
            if kill == 0:
                receiver.stop()
            told.happen(10)
            worker = start_worker(database, tmp_path)
            if kill == 0:
                wait(lambda: _failures(database) > 0, "the worker did not try while the receiver was away")
                receiver.start()
        told.wait_for_all(90)
    finally:
        worker.terminate()
        worker.wait(30)
        receiver.stop()
    told.check()


AWAY_S = 600.0


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_receiver_dead_for_ten_minutes_and_a_worker_killed_meanwhile_lose_nothing(
    new_database: Callable[[], Database], tmp_path: Path
) -> None:
    """The worker is killed three times while the receiver is dead, and once while it catches up."""
    database, receiver = new_database(), Receiver()
    told = Told(database, receiver)
    told.happen(100)
    worker = start_worker(database, tmp_path)

    def kill() -> subprocess.Popen[bytes]:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(10)
        return start_worker(database, tmp_path)

    try:
        wait(lambda: len(receiver.messages) >= 50, (tmp_path / "worker.log").read_text()[-2000:])
        receiver.stop()
        died = time.monotonic()
        kills = sorted(told.draw.uniform(0, AWAY_S) for _ in range(3))
        while (away := time.monotonic() - died) < AWAY_S:
            told.happen(1)
            if kills and away >= kills[0]:
                kills.pop(0)
                worker = kill()
            time.sleep(told.draw.uniform(0, 1))
        assert not kills
        failures, waiting, before = _failures(database), _waiting(database), len(receiver.messages)
        assert failures >= 5, "the worker did not go on trying"
        receiver.start()
        back = time.monotonic()
        wait(lambda: len(receiver.messages) > before, "nothing came after the receiver was back", 400)
        first = time.monotonic() - back
        worker = kill()
        told.wait_for_all(400)
        print(
            f"dead for {back - died:.0f} s, {failures} tries in vain; {waiting} events waited; the first came"
            f" {first:.0f} s, the last {time.monotonic() - back:.0f} s after it was back;"
            f" {len(receiver.messages)} messages for {sum(map(len, told.sent.values()))} events"
        )
    finally:
        worker.terminate()
        worker.wait(30)
        receiver.stop()
    told.check()


def _failures(database: Database) -> int:
    with database.writing() as session:
        return int(session.scalar(text("SELECT max(failures) FROM webhooks")) or 0)


def _waiting(database: Database) -> int:
    with database.writing() as session:
        return int(session.scalar(text("SELECT count(*) FROM webhook_deliveries WHERE status = 'queued'")) or 0)
