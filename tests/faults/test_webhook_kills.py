"""The worker is killed while it delivers, and the receiver is away meanwhile: every event comes, in order, signed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from geocrm.access import SYSTEM
from geocrm.campaigns import events, signing, webhooks
from geocrm.campaigns.events import NewEvent
from geocrm.db.engine import Database
from tests.campaigns.test_webhooks import Receiver


def start_worker(database: Database, home: Path) -> subprocess.Popen[bytes]:
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
            [sys.executable, "-m", "geocrm.jobs"],
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


def test_nothing_is_lost_though_the_worker_is_killed_and_the_receiver_away(
    new_database: Callable[[], Database], tmp_path: Path
) -> None:
    database, receiver = new_database(), Receiver()
    seed = int(os.environ.get("GEOCRM_TEST_SEED", random.SystemRandom().randrange(10**6)))
    draw = random.Random(seed)
    print(f"seed {seed}")
    receiver.delay_s = 0.01
    sent: dict[int, list[str]] = {}
    with database.writing() as session:
        hook = webhooks.create(session, SYSTEM, url=receiver.url, allow_private=True)

    def happen(count: int) -> None:
        for _ in range(count):
            customer = draw.randrange(1, 6)
            with database.writing() as session:
                (number,) = events.record(
                    session, [NewEvent(customer, "geofence.entered", datetime.now(UTC), {"customer": customer})]
                )
            sent.setdefault(customer, []).append(f"evt_{number}")

    happen(60)
    worker = start_worker(database, tmp_path)
    try:
        for kill in range(2):
            enough = len(receiver.messages) + draw.randrange(3, 12)
            wait(lambda enough=enough: len(receiver.messages) >= enough, (tmp_path / "worker.log").read_text()[-2000:])
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait(10)
            if kill == 0:
                receiver.stop()
            happen(10)
            worker = start_worker(database, tmp_path)
            if kill == 0:
                wait(lambda: _failures(database) > 0, "the worker did not try while the receiver was away")
                receiver.start()
        everything = {one for ids in sent.values() for one in ids}
        wait(lambda: {one["id"] for one in receiver.messages} >= everything, f"seed {seed}: some events never came")
        wait(lambda: _waiting(database) == 0, "what came is not written down")
    finally:
        worker.terminate()
        worker.wait(30)
        receiver.stop()
    firsts: dict[int, list[str]] = {}
    for message in receiver.messages:
        mine = firsts.setdefault(message["data"]["customer"], [])
        if message["id"] not in mine:
            mine.append(message["id"])
    assert firsts == sent, f"seed {seed}: not in order"
    secret = signing.read_secret(hook["secret"])
    for headers, body in receiver.raw:
        signing.verify(secret, headers, body, now=time.time())


def _failures(database: Database) -> int:
    with database.writing() as session:
        return int(session.scalar(text("SELECT max(failures) FROM webhooks")) or 0)


def _waiting(database: Database) -> int:
    with database.writing() as session:
        return int(session.scalar(text("SELECT count(*) FROM webhook_deliveries WHERE status = 'queued'")) or 0)
