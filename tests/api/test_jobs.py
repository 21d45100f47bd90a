"""Jobs are seen by their user; a request that ends in a deadlock is told to come again."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from geocrm import jobs
from geocrm.crm import changes
from geocrm.db import queue
from geocrm.errors import Invalid
from tests.api.conftest import World
from tests.makers import DEADLOCK

Clients = Callable[[str | None], TestClient]


def test_what_a_job_refuses_its_user_reads(client: Clients, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(session: object, args: object) -> None:
        raise Invalid("The draft is empty.", errors=[{"pointer": "/x", "detail": "empty"}])

    monkeypatch.setitem(jobs.HANDLERS, "test.refuse", jobs.Handler("test.refuse", work=refuse))
    with world.database.writing() as session:
        number = queue.enqueue(session, "test.refuse", {}, user_id=world.users["rep"])
    jobs.run_queued(world.database)
    found = client("rep").get(f"/v1/jobs/job_{number}").json()
    assert (found["status"], found["error"]["detail"]) == ("failed", "The draft is empty.")
    assert client("manager").get(f"/v1/jobs/job_{number}").status_code == 200
    assert client("other").get(f"/v1/jobs/job_{number}").status_code == 404
    assert client("administrator").get(f"/v1/jobs/job_{number}").status_code == 200
    assert [job["id"] for job in client("other").get("/v1/jobs").json()["data"]] == []


def test_a_request_that_ends_in_a_deadlock_is_told_to_try_again(
    client: Clients, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rep, path = client("rep"), f"/v1/customers/cus_{world.ids['Alpine']}"
    before = rep.get(path).json()
    with monkeypatch.context() as patched:
        patched.setattr(changes, "_follow", lambda session, *_: session.execute(DEADLOCK))
        lost = rep.patch(path, json={"name": "Never"}, headers={"If-Match": "*"})
    assert (lost.status_code, lost.headers["retry-after"]) == (409, "1"), lost.text
    assert lost.headers["content-type"] == "application/problem+json"
    assert lost.json()["type"].endswith("/try-again")
    assert rep.get(path).json() == before
    assert rep.patch(path, json={"name": "Alpine Outfitters 2"}, headers={"If-Match": "*"}).status_code == 200
