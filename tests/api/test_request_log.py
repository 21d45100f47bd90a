"""What a key asked is on record for who builds with it: the newest, without addresses, written off the hot path."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from geocrm import access
from geocrm.api.app import create_app
from geocrm.api.request_log import MOST_KEYS, MOST_OF_KEY, RequestLog
from geocrm.crm import key_requests
from geocrm.crm.key_requests import Request
from geocrm.db import models
from geocrm.db.engine import Database
from tests.api.conftest import World


def key_of(world: World, name: str) -> int:
    with world.database.writing() as session:
        return int(session.scalars(text("SELECT id FROM api_keys WHERE name = :name"), {"name": name}).one())


def test_an_administrator_reads_what_a_key_asked(world: World, client: Callable[[str | None], TestClient]) -> None:
    reader = client("key:reader")
    answers = [
        reader.post("/v1/customers", json={"kind": "person", "name": "Bea"}),
        reader.get("/v1/customers/nearby?lon=-104.9903&lat=39.7392"),  # a hot route knows its key in the database only
        reader.get("/v1/customers?q=Bea"),
        reader.get("/v1/customers/cus_999999999"),
    ]
    client("administrator").get("/v1/me")  # nobody's business
    log = f"/v1/keys/key_{key_of(world, 'reader')}/requests"
    assert (
        client("administrator").get("/v1/keys/key_999999999/requests").status_code == 404
    )  # and nothing is lost by it
    assert client("administrator").get(f"{log}?cursor=none").status_code == 422
    found = client("administrator").get(f"{log}?limit=4").json()
    assert [(row["method"], row["route"], row["status"], row["request_id"]) for row in reversed(found["data"])] == [
        (answer.request.method, route, answer.status_code, answer.headers["x-request-id"])
        for answer, route in zip(
            answers,
            ["/v1/customers", "/v1/customers/nearby", "/v1/customers", "/v1/customers/{customer_id}"],
            strict=True,
        )
    ]
    assert [answer.status_code for answer in answers] == [403, 200, 200, 404]
    assert all(0 < row["took_ms"] < 60_000 for row in found["data"])
    with world.database.writing() as session:
        kept = str(session.execute(text("SELECT * FROM key_requests")).all())
    assert "104.99" not in kept
    assert "Bea" not in kept
    (shown,) = [key for key in client("administrator").get("/v1/keys").json()["data"] if log.split("/")[3] == key["id"]]
    assert shown["last_used_at"] == found["data"][0]["at"]
    older = client("administrator").get(f"{log}?limit=2").json()
    assert len(older["data"]) == 2
    assert older["has_more"] is True
    assert client("marketer").get(log).status_code == 403


def test_what_nobody_asked_for_is_written_within_seconds_and_at_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geocrm.api.request_log.EVERY_S", 0.05)
    header = {"Authorization": f"Bearer {world.keys['reader']}"}
    count = "SELECT count(*) FROM key_requests WHERE request_id = :request_id"

    def is_there(request_id: str) -> bool:
        with world.database.writing() as session:
            return session.scalar(text(count), {"request_id": request_id}) == 1

    with TestClient(create_app(world.database)) as served:
        first = served.get("/v1/me", headers=header).headers["x-request-id"]
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while not is_there(first):
            assert datetime.now(UTC) < deadline
        monkeypatch.setattr("geocrm.api.request_log.EVERY_S", 60)
        last = served.get("/v1/me", headers=header).headers["x-request-id"]
    assert is_there(last)


def request(digest: bytes, number: int) -> Request:
    return Request(
        digest, datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=number), "GET", "/v1/me", 200, 1.0, str(number)
    )


def test_memory_is_bounded(database: Database) -> None:
    log = RequestLog()
    for number in range(MOST_OF_KEY + 7):
        log.note(request(b"busy", number))
    for number in range(MOST_KEYS + 7):
        log.note(request(b"key %d" % number, 10_000 + number))
    held = log.take()
    assert [one.request_id for one in held if one.digest == b"busy"] == [str(n) for n in range(7, MOST_OF_KEY + 7)]
    assert len({one.digest for one in held}) == MOST_KEYS
    assert log.take() == []


def test_who_asks_waits_for_what_is_being_written(world: World) -> None:
    log = RequestLog()
    log.note(request(access.digest(world.keys["exact"]), 1))
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = CAST('key_requests' AS regclass) AND NOT granted"
    with psycopg.connect(world.database.conninfo("admin")) as holder:
        holder.execute("LOCK TABLE key_requests IN EXCLUSIVE MODE")
        writer = threading.Thread(target=log.write, args=(world.database,))
        writer.start()
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while holder.execute(waiting).fetchone() == (0,):
            assert datetime.now(UTC) < deadline
        asker = threading.Thread(target=log.take)
        asker.start()
        asker.join(0.3)
        assert asker.is_alive(), "it went on to read while the request was still on its way"
    writer.join(20)
    asker.join(20)
    with world.database.writing() as session:
        (newest,) = key_requests.find(session, key_of(world, "exact"), limit=1)
    assert newest["request_id"] == "1"


def test_of_each_key_the_newest_stay(world: World) -> None:
    token, digest = access.new_token("gk_")
    quiet = access.digest(world.keys["exact"])
    with world.database.writing() as session:
        key = models.ApiKey(
            user_id=world.users["rep"], name="busy", prefix=token[:10], digest=digest, scopes=["customers:read"]
        )
        session.add(key)
        session.flush()
        most = key_requests.MOST
        key_requests.write(session, [request(quiet, -1), *(request(digest, n) for n in range(most))])
        key_requests.write(session, [request(digest, most), request(digest, most + 1), request(b"nobody's", 0)])
        found = key_requests.find(session, key.id, limit=2 * most)
        assert [row["request_id"] for row in found] == [str(n) for n in range(most + 1, 1, -1)]
        (kept,) = key_requests.find(session, key_of(world, "exact"), limit=1)
        assert kept["request_id"] == "-1"
        session.delete(key)
        session.flush()
        left = session.scalar(text("SELECT count(*) FROM key_requests WHERE key_id = :id"), {"id": key.id})
        assert left == 0
