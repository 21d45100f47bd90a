"""The hot lookups over HTTP: 401, 403, 422, then what each reader sees, cursors, ETags."""

import json
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from geocrm import access
from geocrm.db import models
from geocrm.spatial import lookup
from tests.api.conftest import ROLES, World
from tests.spatial import mvt

Client = Callable[[str | None], TestClient]
NEAR = "/v1/customers/nearby?lon=-104.9903&lat=39.7392"
TILE = "/tiles/customers/0/0/0.mvt"
HOT = [
    NEAR,
    "/v1/territories/at?lon=-104.99&lat=39.74",
    TILE,
    "/tiles/customers.json",
    "/tiles/areas/lay_sales/0/0/0.mvt",
    "/tiles/areas/lay_sales.json",
]


@pytest.fixture(scope="module", autouse=True)
def _placed(world: World) -> None:
    with world.database.writing() as session:
        lookup.refresh(session, [world.ids[name] for name in ("Alpine", "Boulder", "Coastal", "Drifting")])


@pytest.mark.parametrize("address", HOT)
def test_who_may_ask(client: Client, address: str) -> None:
    """Nobody: 401. A key without the scope: 403. Every role and every reading key: an answer."""
    answer = client(None).get(address)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert client("key:nothing").get(address).status_code == 403
    for who in (*ROLES, "key:reader", "key:exact"):
        assert client(who).get(address).status_code in (200, 204), who


@pytest.mark.parametrize(
    ("address", "pointer"),
    [
        ("/v1/customers/nearby?lat=1", "/lon"),
        ("/v1/customers/nearby?lon=181&lat=1", "/lon"),
        ("/v1/customers/nearby?lon=1&lat=NaN", "/lat"),
        ("/v1/customers/nearby?lon=1&lat=90.1", "/lat"),
        ("/v1/customers/nearby?lon=1&lon=2&lat=1", "/lon"),
        ("/v1/customers/nearby?lon=1&lat=1&radius_m=0", "/radius_m"),
        ("/v1/customers/nearby?lon=1&lat=1&radius_m=1e9", "/radius_m"),
        ("/v1/customers/nearby?lon=1&lat=1&limit=0", "/limit"),
        ("/v1/customers/nearby?lon=1&lat=1&limit=1001", "/limit"),
        ("/v1/customers/nearby?lon=1&lat=1&stage=gone", "/stage"),
        ("/v1/customers/nearby?lon=1&lat=1&owner=ter_1", "/owner"),
        ("/v1/customers/nearby?lon=1&lat=1&stage=lead&stage=active", "/stage"),
        ("/v1/customers?stage=lead&stage=active", "/stage"),
        ("/v1/customers/count?filter={}&filter={}", "/filter"),
        ("/v1/customers?stages=lead", "/stages"),
        ("/v1/customers/nearby?lon=1&lat=1&filter={", "/filter"),
        ("/v1/customers/nearby?lon=1&lat=1&filter=%7B%22field%22:%22x%22%7D", "/filter/field"),
        ("/v1/customers/nearby?lon=1&lat=1&cursor=x", "/cursor"),
        ("/v1/customers/nearby?lon=1&lat=1&colour=x", "/colour"),
        ("/v1/territories/at?lon=1&lat=1&as_of=yesterday", "/as_of"),
        ("/v1/territories/at?lon=1&lat=1&stage=active", "/stage"),
        ("/tiles/customers/2/4/0.mvt", "/x"),
        ("/tiles/customers/99/0/0.mvt", "/z"),
        ("/tiles/customers/0/0/0.mvt?colour=name", "/colour"),
    ],
)
def test_what_cannot_be(client: Client, address: str, pointer: str) -> None:
    """422 with the place of the fault."""
    answer = client("administrator").get(address)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_there_is_no_such_layer(client: Client) -> None:
    """404, as everywhere."""
    for address in ("/tiles/areas/lay_none/0/0/0.mvt", "/tiles/areas/lay_none.json", "/tiles/areas/sales.json"):
        assert client("administrator").get(address).status_code == 404


def test_near_me(client: Client, world: World) -> None:
    """Each sees their own, nearest first, with distance and bearing; the next page goes on where the first ended."""
    everything = client("administrator").get(NEAR).json()
    assert [row["id"] for row in everything["data"]] == [
        f"cus_{world.ids[name]}" for name in ("Alpine", "Boulder", "Boulder", "Coastal", "Drifting")
    ]
    assert [row["distance_m"] for row in everything["data"]] == sorted(row["distance_m"] for row in everything["data"])
    assert everything["has_more"] is False
    own = client("rep").get(NEAR).json()["data"]
    assert {row["id"] for row in own} == {f"cus_{world.ids['Alpine']}", f"cus_{world.ids['Boulder']}"}
    assert own[0]["distance_m"] == pytest.approx(91, abs=3)
    assert own[0]["owner"]["id"] == f"usr_{world.users['rep']}"
    assert own[0]["owner"]["name"].startswith("User ")
    assert own[1]["territory"] == {"id": f"ter_{world.ids['front']}", "name": "Front Range"}
    first = client("administrator").get(NEAR + "&limit=2")
    assert first.json()["has_more"] is True
    assert first.headers["link"].endswith('rel="next"')
    second = client("administrator").get(NEAR + "&limit=2&cursor=" + first.json()["next_cursor"]).json()
    assert [r["site_id"] for r in first.json()["data"] + second["data"]] == [
        r["site_id"] for r in everything["data"][:4]
    ]
    assert client("administrator").get(NEAR + "1&limit=2&cursor=" + first.json()["next_cursor"]).status_code == 422


def test_filters_near_me(client: Client) -> None:
    """Short forms, and a JSON filter on a field without an index."""
    found = client("administrator").get(NEAR + "&stage=active&kind=organisation,person").json()["data"]
    assert len(found) == 5
    assert client("administrator").get(NEAR + "&stage=lapsed").json()["data"] == []
    named = {"field": "name", "op": "contains", "value": "bikes"}
    found = client("administrator").get(NEAR, params={"lon": -104.9, "lat": 39.7, "filter": json.dumps(named)}).json()
    assert {row["name"] for row in found["data"]} == {"Boulder Bikes"}


def test_keys_without_exact_places(client: Client) -> None:
    """Point, distance and order are those of the grid; the postal code cannot be asked for; contacts neither."""
    exact = client("key:exact").get(NEAR).json()["data"][0]
    snapped = client("key:reader").get(NEAR).json()["data"][0]
    assert exact["location"] == {"lon": -104.99, "lat": 39.74}
    assert snapped["location"]["lat"] == pytest.approx(round(39.74 / 0.0045) * 0.0045)
    assert snapped["precision_m"] == 500
    assert snapped["distance_m"] != exact["distance_m"]
    assert client("key:reader").get(NEAR + "&postal_code=80202").status_code == 422
    assert client("key:exact").get(NEAR + "&postal_code=80202").status_code == 200
    hidden = json.dumps({"field": "contact.email", "op": "contains", "value": "ada"})
    assert client("key:reader").get(NEAR, params={"lon": 1, "lat": 1, "filter": hidden}).status_code == 422
    assert client("analyst").get(NEAR, params={"lon": 1, "lat": 1, "filter": hidden}).status_code == 422
    assert len(client("administrator").get(NEAR, params={"lon": 1, "lat": 1, "filter": hidden}).json()["data"]) == 5


def test_tiles_are_private_and_kept(client: Client, world: World) -> None:
    """A tile carries an ETag of who sees and what; 304 while both stay, another tile as soon as rights change."""
    answer = client("rep").get(TILE)
    assert "private" in answer.headers["cache-control"]
    assert sum(f["n"] for f in mvt.read(answer.content)["customers"]) == 2
    tag = answer.headers["etag"]
    assert client("rep").get(TILE, headers={"If-None-Match": tag}).status_code == 304
    assert client("administrator").get(TILE, headers={"If-None-Match": tag}).status_code == 200
    with world.database.writing() as session:
        session.execute(text("UPDATE areas SET owner_id = NULL WHERE id = :id"), {"id": world.ids["front"]})
    again = client("rep").get(TILE, headers={"If-None-Match": tag})
    assert again.status_code == 200
    assert sum(f["n"] for f in mvt.read(again.content)["customers"]) == 1
    with world.database.writing() as session:
        session.execute(
            text("UPDATE areas SET owner_id = :u WHERE id = :id"), {"id": world.ids["front"], "u": world.users["rep"]}
        )
    assert client("rep").get("/tiles/customers/5/0/0.mvt").status_code == 204


def test_tilejson(client: Client, world: World) -> None:
    """Where the reader's customers are, how many, and the address of the tiles."""
    made = client("administrator").get("/tiles/customers.json").json()
    assert made["tiles"] == ["http://testserver/tiles/customers/{z}/{x}/{y}.mvt"]
    assert (made["sites"], made["sites_beyond_85"]) == (5, 0)
    west, south, east, north = made["bounds"]
    assert west <= -118.24 <= -74.0 <= east
    assert south <= 34.05 <= 45.0 <= north
    assert {key: sum(counts.values()) for key, counts in made["keys"].items()} == dict.fromkeys(
        ("stage", "owner", "territory", "segment"), 5
    )
    seen = client("rep").get("/tiles/customers.json").json()
    assert seen["sites"] == 2
    assert all(sum(counts.values()) == 2 for counts in seen["keys"].values())
    assert f"ter_{world.ids['front']}" in seen["keys"]["territory"]
    assert "keys" not in client("key:reader").get("/tiles/customers.json").json()


def test_they_stand_in_openapi(client: Client) -> None:
    """Each with an example, a security and its faults."""
    paths = client("administrator").get("/openapi.json").json()["paths"]
    for address in ("/v1/customers/nearby", "/v1/territories/at", "/tiles/customers/{z}/{x}/{y}.mvt"):
        operation = paths[address]["get"]
        assert operation["security"]
        assert {"401", "403", "422"} <= set(operation["responses"])


@pytest.mark.parametrize("address", HOT)
def test_other_methods(client: Client, address: str) -> None:
    """HEAD answers as GET does, other methods are 405 problems."""
    admin = client("administrator")
    head, got = admin.head(address), admin.get(address)
    assert (head.status_code, head.headers.get("content-type")) == (got.status_code, got.headers.get("content-type"))
    refused = admin.put(address.partition("?")[0])
    assert refused.status_code == 405, refused.text
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_revoked_key_is_refused_at_once(client: Client, world: World) -> None:
    """Nothing is remembered of a key between two requests."""
    token, digest = access.new_token("gk_")
    with world.database.writing() as session:
        session.add(
            models.ApiKey(user_id=world.users["rep"], name="x", prefix="gk_", digest=digest, scopes=["customers:read"])
        )
    headers = {"Authorization": f"Bearer {token}"}
    assert client(None).get(NEAR, headers=headers).status_code == 200
    with world.database.writing() as session:
        session.execute(text("UPDATE api_keys SET revoked_at = now() WHERE digest = :d"), {"d": digest})
    assert client(None).get(NEAR, headers=headers).status_code == 401
    assert client(None).get(TILE, headers=headers).status_code == 401
