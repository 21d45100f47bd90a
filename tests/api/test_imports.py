"""Imports over the API: upload, preview, run, follow, rejected rows, undo."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, text
from starlette.types import Message

from geocrm import jobs
from geocrm.api.following import Streams
from geocrm.errors import InvalidFile
from geocrm.ingest import batches, columns, previews
from tests.api.conftest import World

Clients = Callable[[str | None], TestClient]
FILE = "id;name;lon;lat;city\nA1;Ann;-104.99;39.74;Denver\nA2;Bob;;;Boulder\nA3;;1;1;X\nA4;=1+1;-104.9;39.7;Aurora\n"


def upload(
    client: TestClient, content: str | bytes = FILE, name: str = "people.csv", **fields: str
) -> dict[str, object]:
    data = {"kind": "customers", "source": "shop"} | fields
    answer = client.post("/v1/imports", files={"file": (name, content, "text/csv")}, data=data)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def events(text: str) -> list[tuple[str, str, dict[str, object]]]:
    made = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        made.append((lines["event"], lines["id"], json.loads(lines["data"])))
    return made


def test_an_import_from_upload_to_undo(client: Clients, world: World) -> None:
    admin = client("administrator")
    made = upload(admin)
    path = f"/v1/imports/{made['id']}"
    assert made["status"] == "preview"
    fields = {column["column"]: column["field"] for column in made["preview"]["columns"]}  # type: ignore[index]
    assert (fields["name"], fields["lon"]) == ("name", "lon")
    assert admin.get("/v1/customers?q=Ann").json()["data"] == []

    started = admin.post(f"{path}/run")  # a body is needed only for what is not as usual
    assert started.status_code == 202
    assert admin.post(f"{path}/run", json={}).status_code == 409
    jobs.run_queued(world.database)
    done = admin.get(path).json()
    assert done["status"] == "done", done
    assert (done["counts"]["new"], done["counts"]["rejected"]) == (3, 1)
    assert admin.get(f"/v1/jobs/{started.json()['job_id']}").json()["status"] == "done"
    near = admin.get("/v1/customers/nearby?lon=-104.99&lat=39.74&radius_m=50&limit=10").json()["data"]
    assert "Ann" in {row["name"] for row in near}

    followed = events(admin.get(f"{path}/events").text)
    assert [event for event, _, _ in followed] == ["end"]
    again = admin.get(f"{path}/events", headers={"Last-Event-ID": followed[0][1]})
    assert again.text == ""

    rejected = admin.get(f"{path}/rejected.csv")
    assert rejected.headers["content-disposition"].startswith("attachment")
    lines = rejected.content.decode("utf-8-sig").splitlines()
    assert lines[0] == "id,name,lon,lat,city,_line,_column,_reason"
    assert lines[1].startswith("A3,")
    export = admin.get("/v1/exports/customers.csv").content.decode("utf-8-sig")
    assert "'=1+1" in export

    undone = admin.post(f"{path}/undo")
    assert undone.status_code == 202, undone.text
    jobs.run_queued(world.database)
    assert admin.get(path).json()["status"] == "undone"
    assert admin.get("/v1/customers?q=Ann").json()["data"] == []


def test_undo_is_refused_with_the_conflicts_where_rows_were_edited(client: Clients, world: World) -> None:
    admin = client("administrator")
    path = f"/v1/imports/{upload(admin, 'id,name' + chr(10) + 'B1,Cleo' + chr(10))['id']}"
    admin.post(f"{path}/run", json={})
    jobs.run_queued(world.database)
    cleo = admin.get("/v1/customers?q=Cleo").json()["data"][0]
    admin.patch(f"/v1/customers/{cleo['id']}", json={"stage": "lapsed"}, headers={"If-Match": "*"})
    refused = admin.post(f"{path}/undo", json={})
    assert refused.status_code == 409, refused.text
    assert cleo["id"] in refused.text
    assert admin.post(f"{path}/undo", json={"skip_conflicts": True}).status_code == 202
    jobs.run_queued(world.database)
    assert admin.get(path).json()["status"] == "undone"


def test_what_a_role_may_import(client: Clients) -> None:
    files = {"file": ("f.csv", "id,name\n1,A\n", "text/csv")}
    for who, kind, status in (
        ("manager", "customers", 202),
        ("manager", "places", 403),
        ("marketer", "customers", 403),
        ("marketer", "places", 202),
        ("rep", "customers", 403),
        ("analyst", "places", 403),
        ("administrator", "areas", 202),
    ):
        answer = client(who).post("/v1/imports", files=files, data={"kind": kind, "source": "s"})
        assert answer.status_code == status, (who, kind, answer.text)


def test_others_imports_are_not_there(client: Clients) -> None:
    path = f"/v1/imports/{upload(client('administrator'))['id']}"
    manager = client("manager")
    for call in (
        manager.get(path),
        manager.get(f"{path}/preview"),
        manager.get(f"{path}/rejected.csv"),
        manager.get(f"{path}/events"),
        manager.post(f"{path}/run", json={}),
        manager.post(f"{path}/undo", json={}),
    ):
        assert call.status_code == 404
    assert path.rpartition("/")[2] not in {row["id"] for row in manager.get("/v1/imports").json()["data"]}


def test_an_upload_sent_again_is_one_import(client: Clients, world: World) -> None:
    admin = client("administrator")
    uploads = world.database.settings.uploads

    def send(content: str = FILE, kind: str = "customers", key: str = "once-only") -> Any:
        files, data = {"file": ("people.csv", content, "text/csv")}, {"kind": kind, "source": "again"}
        return admin.post("/v1/imports", files=files, data=data, headers={"Idempotency-Key": key})

    first = send()
    assert first.status_code == 202, first.text
    kept = set(uploads.iterdir())
    second = send()
    assert (second.status_code, second.headers["Idempotent-Replayed"]) == (202, "true")
    assert second.json() == first.json()
    assert second.headers["Location"] == first.headers["Location"]
    assert set(uploads.iterdir()) == kept
    for other in (send(FILE + "A5;Eve;;;Boulder\n"), send(kind="places")):
        assert other.status_code == 422
        assert "used for another request" in other.text
    # what was refused may be sent again with its key
    assert send("", key="refused").status_code == 422
    assert send(key="refused").json()["id"] != first.json()["id"]
    assert sum(row["source"] == "again" for row in admin.get("/v1/imports").json()["data"]) == 2


def test_what_is_no_file_to_import_is_said_and_nothing_is_kept(client: Clients, world: World) -> None:
    admin = client("administrator")
    uploads = world.database.settings.uploads
    before = set(uploads.iterdir()) if uploads.exists() else set()
    for name, content in (
        ("a.csv", b""),
        ("a.xlsx", b"PK\x03\x04nothing"),
        ("a.parquet", b"PAR1"),
        ("a.csv", b"\x00\x01\x02"),
    ):
        answer = admin.post("/v1/imports", files={"file": (name, content)}, data={"kind": "customers", "source": "s"})
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json()["detail"]
    assert set(uploads.iterdir()) == before
    traversal = admin.post(
        "/v1/imports", files={"file": ("../../etc/passwd", "id,name\n1,A\n")}, data={"kind": "customers", "source": "s"}
    )
    assert traversal.status_code == 202
    assert "/" not in traversal.json()["file_name"]


def scope_of(request: Any) -> dict[str, Any]:
    """What a server passes on, for tests that play the network themselves."""
    path = request.url.path
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": request.method, "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1), "server": ("testserver", 80),
    }  # fmt: skip


def connections_in_use(world: World) -> int:
    return world.database.reading_engine.pool.checkedout() + world.database.writing_engine.pool.checkedout()  # type: ignore[attr-defined]


def test_a_file_that_arrives_and_is_parsed_holds_no_connection(
    client: Clients, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = client("administrator")
    parsed: list[int] = []
    plan, keep = columns.plan, batches._keep
    monkeypatch.setattr(columns, "plan", lambda *given: (parsed.append(connections_in_use(world)), plan(*given))[1])
    monkeypatch.setattr(
        batches, "_keep", lambda *given, **how: (parsed.append(connections_in_use(world)), keep(*given, **how))[1]
    )
    request = admin.build_request(
        "POST",
        "/v1/imports",
        files={"file": ("slow.csv", FILE)},
        data={"kind": "customers", "source": "slow"},
        headers={"Idempotency-Key": "slow-one"},
    )
    body, received, sent = request.read(), [], []
    parts = [body[start : start + 100] for start in range(0, len(body), 100)]

    async def receive() -> Message:
        received.append(connections_in_use(world))
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    assert admin.portal is not None
    admin.portal.call(world.app, scope_of(request), receive, send)
    assert sent[0]["status"] == 202, sent
    made = json.loads(b"".join(message.get("body", b"") for message in sent))
    path = f"/v1/imports/{made['id']}"
    assert admin.get(f"{path}/preview").json() == made["preview"]
    corrected = admin.put(f"{path}/recipe", json={"recipe": {"columns": {"name": "city"}}})
    assert corrected.status_code == 200, corrected.text
    assert corrected.json()["preview"]["rows"][0]["values"]["name"] == "Denver"
    assert len(received) > 3
    assert len(parsed) == 4  # kept; looked into when it came, when asked, and when the recipe was changed
    assert set(received) | set(parsed) == {0}


def test_a_recipe_that_does_not_fit_the_file_changes_nothing(client: Clients) -> None:
    admin = client("administrator")
    path = f"/v1/imports/{upload(admin)['id']}"
    before = admin.get(path).json()
    refused = admin.put(f"{path}/recipe", json={"recipe": {"columns": {"name": "no such column"}}})
    assert refused.status_code == 422, refused.text
    assert admin.get(path).json() == before


def test_a_file_that_goes_while_it_is_looked_into(
    client: Clients, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = client("administrator")
    made = upload(admin)
    with world.database.writing() as session:
        kept = batches.kept_file(batches.find_batch(session, int(str(made["id"])[4:])), world.database.settings.uploads)

    def run_meanwhile(*given: object) -> None:
        kept.path.unlink()
        raise FileNotFoundError(kept.path)

    monkeypatch.setattr(columns, "plan", run_meanwhile)
    with pytest.raises(InvalidFile, match="upload it again"):
        previews.look(kept)
    answer = admin.get(f"/v1/imports/{made['id']}/preview")
    assert (answer.status_code, answer.json()["detail"]) == (422, "The uploaded file is gone; upload it again.")


class Follower:
    """Somebody with an event stream, who may hang up."""

    def __init__(self, client: TestClient, world: World, path: str) -> None:
        self.started: list[Message] = []
        self.read = b""
        self.gone = threading.Event()
        request = client.build_request("GET", f"{path}/events")
        cookie = f"geocrm_session={client.cookies['geocrm_session']}"
        self.scope = scope_of(request)
        self.scope["headers"] = [*self.scope["headers"], (b"cookie", cookie.encode())]
        assert client.portal is not None
        self.done = client.portal.start_task_soon(world.app, self.scope, self._receive, self._send)

    async def _receive(self) -> Message:
        while not self.gone.is_set():
            await asyncio.sleep(0.02)
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started.append(message)
        self.read += message.get("body", b"")

    @property
    def status(self) -> int | None:
        return self.started[0]["status"] if self.started else None


def until(said: Callable[[], bool]) -> None:
    """Wait for what has to happen soon."""
    end = time.monotonic() + 10
    while not said():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_many_streams_cost_one_read_a_tick_and_there_are_only_so_many(
    client: Clients, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = client("administrator")
    streams: Streams = world.app.state.streams
    path = f"/v1/imports/{upload(admin)['id']}"
    number = int(path.rpartition("_")[2])

    def set_status(status: str) -> None:
        with world.database.writing() as session:
            session.execute(
                text("UPDATE import_batches SET status = :status WHERE id = :id"), {"status": status, "id": number}
            )

    set_status("running")
    most = world.app.state.settings.event_streams_per_user
    followers = [Follower(admin, world, path) for _ in range(most)]
    until(lambda: all(b"event: progress" in follower.read for follower in followers))
    assert streams.open == most

    begun: list[float] = []
    for engine in (world.database.reading_engine, world.database.writing_engine):
        event.listen(engine, "begin", lambda connection: begun.append(time.monotonic()))
    time.sleep(4 * streams.tick_s)
    assert 1 <= len(begun) <= 5, "as many transactions as ticks, whatever the number of streams"

    refused = admin.get(f"{path}/events")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["type"].endswith("too-many-requests")
    assert admin.get(path).json()["status"] == "running"  # asking goes on

    followers[0].gone.set()
    until(lambda: streams.open == most - 1)
    again = Follower(admin, world, path)
    until(lambda: again.status == 200)
    monkeypatch.setattr(streams, "_most", most)
    manager = client("manager")
    with world.database.writing() as session:
        session.execute(
            text("UPDATE import_batches SET user_id = :user WHERE id = :id"),
            {"user": world.users["manager"], "id": number},
        )
    assert manager.get(f"{path}/events").status_code == 429, "none is left for anybody"

    set_status("done")
    for follower in [*followers[1:], again]:
        until(lambda follower=follower: follower.done.done())  # type: ignore[misc]
        assert follower.read.count(b"event: end") == 1
    assert streams.open == 0
    assert events(manager.get(f"{path}/events").text)[-1][0] == "end"
