"""The API is killed (kill -9) between a commit and its answer: who sends again under the same key has one effect.

The API reaches the database through a go-between of the test, which withholds what PostgreSQL says to a COMMIT, or the
COMMIT itself. So the moment is not met by luck: the row is there for others, and the API has not heard of it. (That one
key has one effect is tested without processes in tests/campaigns/test_redemption_races.py.)
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.campaigns import geofences, offers
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.db.local import Cluster
from tests.faults.running import free_port, wait_until
from tests.makers import make_customer, make_user


class GoBetween:
    """Hands on what client and server say, until a transaction commits that said one of `withhold`: then keeps back for
    good what the server answers to the COMMIT ("answer") or the COMMIT itself ("commit")."""

    def __init__(self, cluster: Cluster) -> None:
        self._there = str(cluster.socket_dir / f".s.PGSQL.{cluster.port}")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.withhold: dict[bytes, str] = {}
        self.withheld: set[bytes] = set()
        self._opened: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                self._opened += [client, server]
                server.connect(self._there)
                said: set[bytes] = set()
                for pump in (self._ask, self._answer):
                    threading.Thread(target=pump, args=(client, server, said), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, said: set[bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                said |= {word for word in self.withhold if word in data}
                if b"COMMIT\0" in data and any(self.withhold[word] == "commit" for word in said):
                    self.withheld |= said
                else:
                    server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)  # as the system does for a process that was killed

    def _answer(self, client: socket.socket, server: socket.socket, said: set[bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65_536):
                if b"COMMIT\0" in data and said:
                    self.withheld |= said
                else:
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for opened in self._opened:
            opened.close()


@contextlib.contextmanager
def serving(database: Database, home: Path, worker_url: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of an API process on this database, and the process; it may be dead at the end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GEOCRM_")}
    addresses = {
        "GEOCRM_DATABASE_URL": database.conninfo("admin"),
        "GEOCRM_API_DATABASE_URL": database.conninfo("api"),
        "GEOCRM_WORKER_DATABASE_URL": worker_url,
        "GEOCRM_HOME": str(home),
    }
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "geocrm.api.app:app", "--port", str(port), "--no-access-log"]
    with (home / "api.log").open("ab") as log:
        process = subprocess.Popen(command, env=clean | addresses, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, (home / "api.log").read_text()[-3000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
            return False

        wait_until(answers, 90)
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


def send(url: str, token: str, body: dict[str, Any], key: str | None = None) -> tuple[int, dict[str, Any]]:
    """Status and answer; status 0 where none came."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        url, json.dumps(body).encode(), headers | ({"Idempotency-Key": key} if key else {})
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except (OSError, ValueError):
        return 0, {}


@pytest.mark.soak
def test_killed_between_commit_and_answer(
    new_database: Callable[[], Database], cluster: Cluster, tmp_path: Path
) -> None:
    """Two redemptions and a batch of positions are under way: one redemption and the batch have committed, the other
    redemption has not."""
    database, token, now = new_database(), "gk_of_the_test", datetime.now(UTC)
    with database.writing() as session:
        user = make_user(session, "administrator")
        scopes = ["customers:read", "offers:redeem", "positions:write", "locations:exact"]
        session.add(
            models.ApiKey(user_id=user.id, name="app", prefix="gk_", digest=access.digest(token), scopes=scopes)
        )
        customer = make_customer(session, 8.5, 47.3)
        allowed = models.Consent(purpose="location", channel="app", granted_at=now - timedelta(days=1))
        allowed.customer_id = customer.id
        session.add(allowed)
        paths = []
        for name in ("committed", "cut"):
            offer = offers.create_offer(
                session, actor=SYSTEM, name=name, title=name, ends_at=now + timedelta(days=3), consent_purpose=None,
                cap_total=1,
            )  # fmt: skip
            offers.go_live(session, offer.id, actor=SYSTEM)
            paths.append(f"/v1/offers/off_{offer.id}/redemptions")
        geofences.put(session, SYSTEM, "shops", "a", {"center": {"lon": 8.5, "lat": 47.3}, "radius_m": 150})
    body = {"customer_id": f"cus_{customer.id}"}
    fix = body | {"lon": 8.5, "lat": 47.3, "accuracy_m": 8.0}
    batch = {"positions": [fix | {"recorded_at": (now - timedelta(minutes=m)).isoformat()} for m in (9, 6, 3)]}
    keys = ("key-of-committed", "key-of-cut")

    def there() -> dict[str, int]:
        """How much of each there is, as anybody else sees it."""
        with database.writing() as session:
            tables = ("redemptions", "exposures", "positions", "events")
            found = {table: session.scalar(text(f"SELECT count(*) FROM {table}")) or 0 for table in tables}
            return found | {"counted": int(session.scalar(text("SELECT sum(redeemed) FROM offer_counters")) or 0)}

    between = GoBetween(cluster)
    between.withhold = {keys[0].encode(): "answer", keys[1].encode(): "commit", b"INSERT INTO positions": "answer"}
    url = database.worker_url
    through = f"postgresql://{url.username}@127.0.0.1:{between.port}/{url.database}?sslmode=disable&gssencmode=disable"
    with serving(database, tmp_path, through) as (address, process), ThreadPoolExecutor(3) as pool:
        lost = [pool.submit(send, address + path, token, body, key) for path, key in zip(paths, keys, strict=True)]
        lost.append(pool.submit(send, f"{address}/v1/positions", token, batch))
        wait_until(lambda: between.withheld == set(between.withhold), 60)
        half = {"redemptions": 1, "exposures": 1, "positions": 3, "events": 1, "counted": 1}
        assert there() == half
        assert not any(one.done() for one in lost), "answered before the commit was confirmed"
        os.kill(process.pid, signal.SIGKILL)
        assert [one.result(60) for one in lost] == [(0, {})] * 3
    assert there() == half
    between.withhold = {}
    with serving(database, tmp_path, through) as (address, _):
        with database.writing() as session:
            made = f"red_{session.scalar(text('SELECT id FROM redemptions'))}"
        answers = [
            send(address + path, token, body, key) for _ in range(2) for path, key in zip(paths, keys, strict=True)
        ]
        assert [status for status, _ in answers] == [201] * 4
        first, second = [[answer["id"] for _, answer in answers][which::2] for which in (0, 1)]
        assert (first, second) == ([made] * 2, second[:1] * 2)
        status, answer = send(f"{address}/v1/positions", token, batch)
        assert (status, answer["stored"], answer["doubles"], answer["events"]) == (202, 0, 3, [])
        assert there() == half | {"redemptions": 2, "exposures": 2, "counted": 2}
        assert send(address + paths[0], token, body, "another")[0] == 409
    between.close()
