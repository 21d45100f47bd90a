"""Positions over the API: 403 without a consent, events for who may know points exactly, and nobody learns where a
customer is by sending positions for them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import text

from geocrm import access
from geocrm.db import models
from tests.api.conftest import World

Clients = Callable[[str | None], TestClient]
HERE = {"lon": -104.99, "lat": 39.74}


def position(world: World, minutes: float, customer: str = "Alpine", **more: Any) -> dict[str, Any]:
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    place = {"customer_id": f"cus_{world.ids[customer]}", "accuracy_m": 8.0, "recorded_at": moment.isoformat()}
    return HERE | place | more


def test_from_a_fence_to_its_events_and_to_nothing(client: Clients, world: World) -> None:
    admin, rep = client("administrator"), client("rep")
    made = admin.put("/v1/geofences/shops/denver", json={"center": HERE, "radius_m": 100, "name": "Kiosk"})
    assert (made.status_code, made.headers["etag"], made.headers["location"]) == (
        201, '"1"', "/v1/geofences/shops/denver",
    )  # fmt: skip
    assert (
        admin.put("/v1/geofences/shops/denver", json={"center": HERE, "radius_m": 100, "name": "Kiosk"}).status_code
        == 200
    )
    stale = admin.put("/v1/geofences/shops/denver", json={"center": HERE, "radius_m": 90}, headers={"If-Match": '"7"'})
    assert stale.status_code == 412
    near = rep.get("/v1/geofences/nearest", params=HERE).json()
    assert [(one["external_id"], one["inside"], one["watch"]["radius_m"]) for one in near["data"]] == [
        ("denver", True, 100)
    ]
    assert near["ask_again_m"] == 50_000

    refused = rep.post("/v1/positions", json={"positions": [position(world, 30)]})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (403, "consent-required")
    assert refused.json()["errors"][0]["pointer"] == "/positions/0/customer_id"
    assert refused.json()["detail"].endswith("a consent with the purpose 'location' is needed")
    consent = {"purpose": "location", "channel": "app", "granted_at": "2026-01-01T00:00:00Z"}
    path = f"/v1/customers/cus_{world.ids['Alpine']}/consents"
    tomorrow = (datetime.now(UTC) + timedelta(hours=27)).isoformat()
    late = rep.post(path, json=consent | {"granted_at": tomorrow})
    assert (late.status_code, late.json()["errors"][0]["pointer"]) == (422, "/granted_at")
    misspelt = {"purpose": "Locaton", "channel": "app"}
    soon = (datetime.now(UTC) + timedelta(seconds=60)).isoformat()
    taken = rep.post(path, json=misspelt | {"granted_at": soon})
    assert taken.json()["consents"][0]["granted_at"] < soon  # a clock ahead: it holds from now on
    refused = rep.post("/v1/positions", json={"positions": [position(world, 30)]})
    assert "is needed; there is one with the purpose 'Locaton': is either misspelt?" in refused.json()["detail"]
    none = rep.post(f"{path}/withdraw", json={"purpose": "location", "channel": "app"})
    assert (none.status_code, "Those that stand: 'Locaton' by 'app'." in none.json()["detail"]) == (404, True)
    assert rep.post(f"{path}/withdraw", json=misspelt).status_code == 200
    assert rep.post(path, json=consent).status_code == 201

    sent = {"positions": [position(world, 20), position(world, 25, lon=-104.9), position(world, 19, accuracy_m=9000)]}
    taken = rep.post("/v1/positions", json=sent)
    assert taken.status_code == 202, taken.text
    assert (taken.json()["stored"], taken.json()["late"]) == (2, 0)
    assert taken.json()["ignored"] == [
        {"pointer": "/positions/2", "reason": "an accuracy of more than 1000 m says too little"}
    ]
    (entered,) = taken.json()["events"]
    assert (entered["type"], entered["data"]["geofence"]["name"]) == ("geofence.entered", "Kiosk")
    again = rep.post("/v1/positions", json=sent).json()
    assert (again["stored"], again["doubles"], again["events"]) == (0, 2, [])
    listed = rep.get("/v1/events", params={"customer": f"cus_{world.ids['Alpine']}"}).json()["data"]
    assert [one["id"] for one in listed] == [entered["id"]]
    foreign = rep.post("/v1/positions", json={"positions": [position(world, 5, "Drifting")]})
    assert foreign.status_code == 404

    # A partner's key, which sees points on the grid of 500 m, learns nothing from positions that it invents.
    token, digest = access.new_token("gk_")
    with world.database.writing() as session:
        session.add(
            models.ApiKey(user_id=world.users["rep"], name="partner", prefix="gk_", digest=digest,
                          scopes=["customers:read", "positions:write"])
        )  # fmt: skip
    partner = world.new_client()
    partner.headers["Authorization"] = f"Bearer {token}"
    answer = partner.post("/v1/positions", json={"positions": [position(world, 3, lon=-100.0)]})
    assert (answer.status_code, answer.json()["events"]) == (202, None)
    assert partner.get("/v1/events").status_code == 403
    partner.close()

    withdrawn = rep.post(f"{path}/withdraw", json={"purpose": "location", "channel": "app"})
    assert withdrawn.status_code == 200
    assert rep.post("/v1/positions", json={"positions": [position(world, 1)]}).status_code == 403
    assert rep.get("/v1/events").json()["data"] == []
    with world.database.writing() as session:
        for table in ("positions", "position_subjects", "geofence_states", "events", "webhook_deliveries"):
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table
        kept = session.scalar(text("SELECT count(*) FROM idempotency_keys WHERE encode(body, 'escape') LIKE '%Kiosk%'"))
        assert kept == 0


def test_a_walk_tells_what_positions_would_and_keeps_nothing(client: Clients, world: World) -> None:
    admin, rep = client("administrator"), client("rep")
    metre = 1 / 85_500  # of longitude, at this latitude
    assert admin.put("/v1/geofences/walks/a", json={"center": HERE, "radius_m": 100, "dwell_s": 60}).status_code == 201
    assert admin.put("/v1/geofences/others/b", json={"center": HERE, "radius_m": 150}).status_code == 201
    start = datetime.now(UTC) - timedelta(hours=1)
    path = [
        {
            "lon": HERE["lon"] + away * metre, "lat": HERE["lat"], "accuracy_m": 8.0,
            "recorded_at": (start + timedelta(seconds=20 * number)).isoformat(),
        }
        for number, away in enumerate([400, 300, 200, 0, 5, 0, 5, 0, 300, 400])
    ]  # fmt: skip
    coarse = path[0] | {"accuracy_m": 5000.0, "recorded_at": (start + timedelta(hours=2)).isoformat()}
    sent = [*reversed(path), coarse]

    def kept() -> list[int]:
        with world.database.writing() as session:
            return [
                session.scalar(text(f"SELECT count(*) FROM {table}")) or 0
                for table in ("positions", "events", "geofence_states", "position_subjects")
            ]

    before = kept()
    answer = rep.post("/v1/geofences/walks", json={"positions": sent, "tags": ["walks"]})
    assert answer.status_code == 200, answer.text
    assert (kept(), answer.json()["ignored"]) == (before, [10])
    told = [
        (one["type"], one["geofence"]["external_id"], len(path) - 1 - one["position"]) for one in answer.json()["data"]
    ]
    assert told == [("geofence.entered", "a", 3), ("geofence.dwelled", "a", 6), ("geofence.exited", "a", 8)]

    # the same of a customer, whose phone is in no fence: the same events
    consent = {"purpose": "location", "channel": "app", "granted_at": "2026-01-02T00:00:00Z"}
    granted = rep.post(f"/v1/customers/cus_{world.ids['Alpine']}/consents", json=consent)
    assert granted.status_code == 201, granted.text
    taken = rep.post(
        "/v1/positions", json={"positions": [one | {"customer_id": f"cus_{world.ids['Alpine']}"} for one in path]}
    ).json()["events"]
    all_of_it = rep.post("/v1/geofences/walks", json={"positions": path}).json()["data"]
    assert [(one["type"], one["occurred_at"], one["geofence"], one["probability"]) for one in all_of_it] == [
        (one["type"], one["occurred_at"], one["data"]["geofence"], one["data"]["probability"]) for one in taken
    ]
    assert {"walks", "others"} <= {one["geofence"]["tag"] for one in all_of_it}

    many = rep.post("/v1/geofences/walks", json={"positions": [path[0]] * 2001})
    assert (many.status_code, many.json()["errors"][0]["pointer"]) == (422, "/positions")
    for external in ("walks/a", "others/b"):
        assert admin.delete(f"/v1/geofences/{external}", headers={"If-Match": "*"}).status_code == 204
