"""Two who change the same at once: one of them is done again, and nobody is told to."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from geocrm import jobs
from geocrm.api.errors import sqlstate
from geocrm.spatial import publishing
from tests.api.conftest import World

Clients = Callable[[str | None], TestClient]


def box(west: float, east: float) -> dict[str, Any]:
    ring = [[west, 39.0], [east, 39.0], [east, 40.5], [west, 40.5], [west, 39.0]]
    return {"type": "Polygon", "coordinates": [ring]}


def begin_draft(admin: TestClient) -> str:
    """A draft of the sales layer; its address."""
    path = "/v1/layers/lay_sales/drafts"
    return f"{path}/{admin.post(path, json={}).json()['version']}"


def publish(admin: TestClient, world: World, path: str) -> str:
    """Publish a draft; the status of its job."""
    queued = admin.post(f"{path}/publish", json={"reason": "race"})
    assert queued.status_code == 202, queued.text
    jobs.run_queued(world.database)
    return str(admin.get(f"/v1/jobs/{queued.json()['job_id']}").json()["status"])


def somebody_waits(session: Session) -> bool:
    return bool(session.scalar(text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")))


def test_an_edit_and_a_publication_of_the_same_customer_both_succeed(
    client: Clients, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edit holds the customer and waits for the layer, the publication the layer and waits for the customer."""
    admin, path = client("administrator"), f"/v1/customers/cus_{world.ids['Alpine']}"
    draft = begin_draft(admin)
    areas = {
        name: admin.post(f"{draft}/areas", json={"name": name, "geometry": geometry}).json()["id"]
        for name, geometry in (("West", box(-106, -104)), ("East", box(-104, -103)))
    }
    assert publish(admin, world, draft) == "done"
    assert admin.get(path).json()["sites"][0]["territory"]["id"] == areas["West"]
    draft = begin_draft(admin)
    for name, geometry in (("West", box(-108, -106)), ("East", box(-106, -103))):
        url = f"{draft}/areas/{areas[name]}"
        assert admin.put(url, json={"geometry": geometry}, headers={"If-Match": "*"}).status_code == 200

    # who waits first looks for a deadlock first and loses it: enough time for the publication to come that far
    with psycopg.connect(world.database.conninfo("admin"), autocommit=True) as owner:
        name = world.database.admin_url.database
        owner.execute(f"ALTER ROLE geocrm_worker IN DATABASE {name} SET deadlock_timeout = '3s'")
    world.database.dispose()
    lost: list[str] = []
    event.listen(
        world.database.writing_engine,
        "handle_error",
        lambda context: lost.append(sqlstate(context.original_exception)),
    )
    holds_the_layer = threading.Event()
    find = publishing._find_concerned

    def when_the_edit_waits(session: Session, **how: Any) -> int:
        holds_the_layer.set()
        end = time.monotonic() + 10
        while not somebody_waits(session) and time.monotonic() < end:
            time.sleep(0.02)
        return find(session, **how)

    monkeypatch.setattr(publishing, "_find_concerned", when_the_edit_waits)
    with ThreadPoolExecutor(1) as other:
        published = other.submit(publish, client("administrator"), world, draft)
        assert holds_the_layer.wait(10)
        edited = client("rep").patch(path, json={"name": "Alpine and Sons"}, headers={"If-Match": "*"})
        status = published.result(30)
    assert "40P01" in lost, "they did not meet"
    assert (edited.status_code, status) == (200, "done"), edited.text
    found = admin.get(path).json()
    assert found["name"] == "Alpine and Sons"
    assert found["sites"][0]["territory"]["id"] == areas["East"]
