"""A withdrawn consent: the next position is refused, and a dump of the database holds neither where the customer was
nor what was made of it, in no encoding, whatever was asked and told meanwhile."""

import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from geocrm.campaigns import acting
from geocrm.campaigns.delivering import Deliverer
from geocrm.db import local
from geocrm.db.engine import Database
from tests.api.conftest import World
from tests.api.test_offers import set_live
from tests.campaigns.test_webhooks import Receiver

Clients = Callable[[str | None], TestClient]
LON, LAT = -104.98765432, 39.73456789
MICROS = 654_321


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


def dump(database: Database) -> str:
    """Everything in the database, as text."""
    done = subprocess.run(
        [local.find_programs() / "pg_dump", "--dbname", database.conninfo("admin")],
        env=os.environ | {"PGTZ": "UTC", "PGCLIENTENCODING": "UTF8"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.lower()


def needles(*numbers: float) -> Iterator[str]:
    """How a number may stand in a dump: as text, cut or rounded to five places, and as bytes of eight or four, of any
    order, in hexadecimal digits; the text as bytes too."""
    for number in numbers:
        whole = f"{abs(number):.8f}"
        yield from (whole[:-3], f"{abs(number):.5f}", whole[:-3].encode().hex())
        for kind in "df":
            for order in "<>":
                yield struct.pack(order + kind, number).hex()


def held(dumped: str, wanted: list[str]) -> list[str]:
    """The needles that stand in a dump, with the line."""
    return [f"{one}: {line[:200]}" for line in dumped.splitlines() for one in wanted if one in line]


def rows_of(dumped: str, table: str) -> list[list[str]]:
    """The rows of a table in a dump."""
    _, found, rest = dumped.partition(f"copy public.{table} (")
    assert found, table
    return [line.split("\t") for line in rest.partition("\n\\.")[0].split("\n")[1:]]


def test_a_dump_after_the_withdrawal_holds_nothing_of_it(client: Clients, world: World, receiver: Receiver) -> None:
    world.app.state.settings.webhook_allow_private = world.database.settings.webhook_allow_private = True
    admin, key = client("administrator"), client("key:everything")
    mine, other = f"cus_{world.ids['Alpine']}", f"cus_{world.ids['Boulder']}"
    began = datetime.now(UTC).replace(microsecond=MICROS) - timedelta(minutes=10)
    fence = {
        "center": {"lon": LON + 0.0003, "lat": LAT + 0.0002},
        "radius_m": 120,
        "name": "Kiosk Canary",
        "dwell_s": 60,
    }
    assert admin.put("/v1/geofences/shops/canary", json=fence).status_code == 201
    hook = admin.post("/v1/webhooks", json={"url": receiver.url}).json()["id"]
    _automate(admin)
    offer = set_live(admin, areas=[{"place_id": _place(admin), "radius_m": 500}])
    for one in (mine, other):
        consent = {"purpose": "location", "channel": "app", "granted_at": "2026-01-01T00:00:00Z"}
        assert admin.post(f"/v1/customers/{one}/consents", json=consent).status_code == 201

    def send(customer: str, minutes: float, sender: TestClient, **more: Any) -> Any:
        at = (began + timedelta(minutes=minutes, microseconds=customer == other)).isoformat()
        fix = {"customer_id": customer, "lon": LON, "lat": LAT, "accuracy_m": 7.25, "recorded_at": at} | more
        return sender.post("/v1/positions", json={"positions": [fix]}, headers={"Idempotency-Key": f"p{at}{customer}"})

    for minutes in (0, 2, 4):
        taken = send(mine, minutes, key)
        assert taken.status_code == 202, taken.text
        send(other, minutes, admin, lon=-105.3, lat=40.1)
    assert acting.act_due(world.database) == 2  # an entry into an audience, and a task
    Deliverer(world.database).deliver_due()  # one was told, the rest waits
    assert [message["type"] for message in receiver.messages] == ["geofence.entered"]
    assert "Kiosk Canary" in str(receiver.messages)
    receiver.stop()
    send(mine, 5, key, lon=LON + 0.1)
    Deliverer(world.database).deliver_due()  # in vain
    point = {"customer": mine, "lon": LON, "lat": LAT, "explain": True}
    assert key.get("/v1/offers/eligible", params=point).json()["data"]
    body = {"customer_id": mine, "lon": LON, "lat": LAT}
    headers = {"Idempotency-Key": "r1"}
    assert key.post(f"/v1/offers/{offer}/redemptions", json=body, headers=headers).status_code == 201
    assert key.get("/v1/customers/nearby", params={"lon": LON, "lat": LAT}).status_code == 200

    places, times = list(needles(LON, LAT)), [f".{MICROS}"]
    before = dump(world.database)
    for table, count in (
        ("positions", 4), ("events", 3), ("webhook_deliveries", 3), ("webhook_attempts", 2), ("automation_runs", 2),
        ("audience_members", 1), ("tasks", 1),
    ):  # fmt: skip
        mentioned = [row for row in rows_of(before, table) if str(world.ids["Alpine"]) in row or "attempts" in table]
        assert len(mentioned) >= count, (table, mentioned)
    assert held(before, [f"{abs(LON):.5f}"]), "the search does not find what is there"
    assert held(before, times)

    withdrawn = admin.post(f"/v1/customers/{mine}/consents/withdraw", json={"purpose": "location", "channel": "app"})
    assert withdrawn.status_code == 200
    refused = send(mine, 6, key)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (403, "consent-required")
    after = dump(world.database)
    for table in (
        "positions", "position_subjects", "geofence_states", "events", "webhook_deliveries", "automation_runs",
        "audience_members", "tasks",
    ):  # fmt: skip
        rows = [row for row in rows_of(after, table) if "forgotten" not in row]  # how many there were, of whomever
        assert not [row for row in rows if str(world.ids["Alpine"]) in row[:4]], table
    assert len(rows_of(after, "positions")) == 3, "those of the other customer stay"
    assert not rows_of(after, "webhook_attempts")
    assert not held(after, [*places, *times])
    shown = admin.get("/v1/events", params={"customer": mine}).json()["data"]
    assert shown == []
    assert admin.get(f"/v1/webhooks/{hook}/deliveries").json()["data"] == []


def _automate(admin: TestClient) -> None:
    """Who comes in is entered into an audience, and the rep is given a task."""
    audience = admin.post("/v1/audiences", json={"name": "At the door"}).json()["id"]
    into = {"kind": "audience", "audience_id": audience, "hours": 2}
    for action in (into, {"kind": "task", "title": "Call", "due_days": 1}):
        trigger = {"kind": "event", "type": "geofence.entered", "tag": "shops"}
        body = {"name": "Door", "trigger": trigger, "action": action, "consent_purpose": None}
        made = admin.post("/v1/automations", json=body)
        assert made.status_code == 201, made.text
        enabled = admin.post(f"{made.headers['location']}/enable", headers={"If-Match": made.headers["etag"]})
        assert enabled.status_code == 200, enabled.text


def _place(admin: TestClient) -> str:
    body = {"kind": "own", "name": "Shop", "location": {"lon": -104.9861, "lat": 39.7351}}
    made = admin.post("/v1/places", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])
