"""Automations over HTTP: from a list to what a rep sees of it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi.testclient import TestClient

from geocrm.access import SYSTEM
from geocrm.campaigns import acting, events, geofences
from geocrm.campaigns.events import NewEvent
from tests.api.conftest import World

Client = Callable[[str | None], TestClient]
CIRCLE = {"center": {"lon": -104.99, "lat": 39.74}, "radius_m": 120.0}


def test_from_a_list_to_a_task_of_a_rep(client: Client, world: World) -> None:
    marketer, rep = client("marketer"), client("rep")
    with world.database.writing() as session:
        fence = geofences.put(session, SYSTEM, "shops", "a", CIRCLE).fence_id
    door = {"kind": "event", "type": "geofence.entered", "tag": "shops", "external_id": "a"}
    body: dict[str, Any] = {"name": "Call", "trigger": door, "action": {"kind": "task", "title": "Call", "due_days": 1}}
    for change, pointer in (
        ({"trigger": door | {"external_id": "b"}}, "/trigger/external_id"),
        ({"trigger": door | {"type": "geofence.crossed"}}, "/trigger/type"),
        ({"action": {"kind": "offer", "offer_id": "off_999"}}, "/action/offer_id"),
        ({"condition": {"audience": "aud_999"}}, "/condition"),
        ({"cap_days": 0}, "/cap_days"),
        ({"consent_purpose": ""}, "/consent_purpose"),
    ):
        refused = marketer.post("/v1/automations", json=body | change)
        assert refused.status_code == 422, refused.text
        assert refused.json()["errors"][0]["pointer"] == pointer
    once = {"Idempotency-Key": "a1"}
    made = marketer.post("/v1/automations", json=body, headers=once)
    assert marketer.post("/v1/automations", json=body, headers=once).json() == made.json()
    assert len(marketer.get("/v1/automations").json()["data"]) == 1
    where, tag = made.headers["location"], made.headers["etag"]
    assert (made.json()["consent_purpose"], made.json()["trigger"]["external_id"]) == (None, "a")
    assert marketer.patch(where, json={"name": "Ring"}).status_code == 428
    edited = marketer.patch(where, json={"name": "Ring"}, headers={"If-Match": tag})
    assert marketer.patch(where, json={"name": "Sing"}, headers={"If-Match": tag}).status_code == 412
    assert marketer.post(f"{where}/check").json() == {"data": [], "warnings": []}
    enabled = marketer.post(f"{where}/enable", headers={"If-Match": edited.headers["etag"]})
    assert (enabled.status_code, enabled.json()["enabled"]) == (200, True)
    assert marketer.patch(where, json={"name": "Sing"}, headers={"If-Match": "*"}).status_code == 409

    with world.database.writing() as session:
        happened = [
            NewEvent(world.ids[name], "geofence.entered", datetime.now(UTC), {}, "location", fence)
            for name in ("Alpine", "Coastal", "Drifting")
        ]
        events.record(session, happened)
    assert acting.act_due(world.database) == 3
    log = marketer.get(f"{where}/runs").json()["data"]
    assert [(one["customer"]["name"], one["status"], one["reason"]) for one in reversed(log)] == [
        ("Alpine Outfitters", "done", None), ("Coastal Surf", "done", None), ("Drifting Nobody", "skipped", "no_rep"),
    ]  # fmt: skip
    assert marketer.get(f"{where}/runs?status=skipped").json()["data"][0]["detail"].startswith("neither the territory")
    counts = [
        client(who).get("/v1/automations").json()["data"][0]["latest"] for who in ("marketer", "rep", "key:reader")
    ]
    assert [(one["done"], one["skipped"], one["failed"]) for one in counts] == [(2, 1, 0), (1, 0, 0), (0, 0, 0)]
    assert counts[0] == marketer.get(where).json()["latest"]
    assert counts[0]["last_at"] == log[0]["moment"]
    (mine,) = rep.get(f"{where}/runs").json()["data"]
    (task,) = rep.get("/v1/tasks").json()["data"]
    assert (task["id"], task["customer"], task["automation_id"]) == (mine["task_id"], mine["customer"], where[16:])
    assert client("key:reader").get("/v1/tasks").json()["data"] == []  # it tells where the customer was
    assert client("other").post(f"/v1/tasks/{task['id']}/done").status_code == 404
    assert rep.post(f"/v1/tasks/{task['id']}/done").json()["done_by"]["id"] == f"usr_{world.users['rep']}"
    assert rep.get("/v1/tasks").json()["data"] == []
    assert rep.get("/v1/tasks?status=done").json()["data"][0]["id"] == task["id"]
    assert rep.post(f"/v1/tasks/{task['id']}/reopen").json()["done_at"] is None
    page = marketer.get("/v1/tasks?limit=1")
    assert page.json()["has_more"]
    following = marketer.get(page.headers["link"].split(">")[0][1:]).json()["data"]
    assert following[0]["id"] != page.json()["data"][0]["id"]
    told = marketer.post(f"{where}/preview").json()
    assert (told["events"], told["touched"], told["skipped"]) == (3, 0, {"no_rep": 1, "task_open": 2})
    disabled = marketer.post(f"{where}/disable", headers={"If-Match": "*"})
    assert disabled.json()["enabled"] is False
    assert marketer.delete(where, headers={"If-Match": disabled.headers["etag"]}).status_code == 204
    assert rep.get(where).status_code == 404
    assert len(rep.get("/v1/tasks").json()["data"]) == 1, "what it made stays"
