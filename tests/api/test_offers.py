"""Offers over HTTP: from a draft to what a customer sees in an app, redeems and gives back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select, text

from geocrm import access
from geocrm.campaigns import holdouts
from geocrm.db import models
from tests.api.conftest import World

Client = Callable[[str | None], TestClient]
HERE = {"lon": -104.99, "lat": 39.74}
ELIGIBLE = "/v1/offers/eligible"


def ends(days: int = 7) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def set_live(marketer: TestClient, **values: Any) -> str:
    """The id of a live offer."""
    body = {"name": "Coffee", "title": "A coffee", "ends_at": ends(), "consent_purpose": None} | values
    made = marketer.post("/v1/offers", json=body)
    assert made.status_code == 201, made.text
    live = marketer.post(f"{made.headers['location']}/live", headers={"If-Match": made.headers["etag"]})
    assert live.status_code == 200, live.text
    assert live.json()["status"] == "live"
    return str(made.json()["id"])


def ask(client: TestClient, world: World, who: str = "Alpine", **more: Any) -> dict[str, Any]:
    answer = client.get(ELIGIBLE, params={"customer": f"cus_{world.ids[who]}"} | HERE | more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def app_key(world: World) -> str:
    token, digest = access.new_token("gk_")
    with world.database.writing() as session:
        session.add(
            models.ApiKey(
                user_id=world.users["marketer"], name="app", prefix=token[:10], digest=digest, scopes=["offers:redeem"]
            )
        )
    return token


@pytest.fixture
def app(world: World, app_key: str) -> TestClient:
    made = world.new_client()
    made.headers["Authorization"] = f"Bearer {app_key}"
    return made


def exposed(world: World, offer: str) -> dict[int, bool]:
    with world.database.writing() as session:
        rows = session.scalars(select(models.Exposure).where(models.Exposure.offer_id == int(offer[4:])))
        return {row.customer_id: row.held_out for row in rows}


def test_from_draft_to_redeemed_and_back(client: Client, world: World, app: TestClient) -> None:
    marketer = client("marketer")
    made = marketer.post("/v1/offers", json={"name": "Coffee", "cap_total": 1, "consent_purpose": None})
    where, tag = made.headers["location"], made.headers["etag"]
    shown = made.json()
    assert (shown["status"], shown["live"], shown["draft"]["version"], shown["redeemed"]) == ("draft", None, 1, 0)
    told = marketer.post(f"{where}/check").json()
    obstacles = told["data"]
    assert told["warnings"] == []
    assert [one["pointer"] for one in obstacles] == ["/title", "/ends_at"]
    refused = marketer.post(f"{where}/live", headers={"If-Match": tag})
    assert refused.status_code == 422
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/title", "/ends_at"]
    edited = marketer.patch(where, json={"title": "A coffee", "ends_at": ends()}, headers={"If-Match": tag})
    assert edited.status_code == 200, edited.text
    assert marketer.patch(where, json={"title": "Tea"}, headers={"If-Match": tag}).status_code == 412
    assert marketer.post(f"{where}/check").json() == {"data": [], "warnings": []}
    live = marketer.post(f"{where}/live", headers={"If-Match": edited.headers["etag"]})
    assert live.json()["live"]["title"] == "A coffee"
    offer = live.json()["id"]

    (told,) = (one for one in ask(app, world)["data"] if one["id"] == offer)
    assert told["left"] == {"in_all": 1, "for_customer": None}
    assert told["where"] is None
    assert told["open_until"] == told["ends_at"]
    alpine, coastal = ({"customer_id": f"cus_{world.ids[name]}"} for name in ("Alpine", "Coastal"))
    assert app.post(f"{where}/redemptions", json=alpine).status_code == 422  # without a key of its own
    first = app.post(f"{where}/redemptions", json=alpine, headers={"Idempotency-Key": "k1"})
    again = app.post(f"{where}/redemptions", json=alpine, headers={"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    with world.database.writing() as session:  # two days later the answer is forgotten, the redemption is not
        session.execute(text("DELETE FROM idempotency_keys"))
    assert app.post(f"{where}/redemptions", json=alpine, headers={"Idempotency-Key": "k1"}).json() == first.json()
    late = app.post(f"{where}/redemptions", json=coastal, headers={"Idempotency-Key": "k2"})
    assert (late.status_code, late.json()["reasons"]) == (409, ["cap_reached"])
    others = ask(app, world, "Coastal", explain="true")["others"]
    assert {"reason": "cap_reached"} in next(one for one in others if one["id"] == offer)["reasons"]
    assert marketer.get(where).json()["redeemed"] == 1
    back = app.post(f"{first.headers['location']}/reverse", json={"reason": "Rung up twice"})
    assert back.json()["reason"] == "Rung up twice"
    again = app.post(f"{where}/redemptions", json=alpine, headers={"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()) == (201, back.json())  # as it is now, not as it was
    kept = app.post(f"{where}/redemptions", json=alpine, headers={"Idempotency-Key": "k1"})
    assert (kept.json(), kept.headers["idempotent-replayed"]) == (back.json(), "true")
    assert kept.headers["location"] == first.headers["location"]
    assert app.post(f"{where}/redemptions", json=coastal, headers={"Idempotency-Key": "k3"}).status_code == 201
    listed = marketer.get(f"{where}/redemptions?limit=1")
    assert listed.json()["has_more"] is True
    assert (
        marketer.get(listed.headers["link"].split(">")[0][1:]).json()["data"][0]["customer_id"]
        == coastal["customer_id"]
    )
    assert [row["customer_id"] for row in client("rep").get(f"{where}/redemptions").json()["data"]] == [
        alpine["customer_id"]
    ]
    ended = marketer.post(f"{where}/end", headers={"If-Match": "*"})
    assert ended.json()["status"] == "ended"
    assert offer not in {one["id"] for one in ask(app, world)["data"]}


def test_what_an_app_shows_is_remembered_and_what_people_look_at_is_not(
    client: Client, world: World, app: TestClient
) -> None:
    offer = set_live(client("marketer"), hold_out_share=0.5, priority=9)
    key = {
        world.ids[name]: holdouts.is_held_out(offer, f"cus_{world.ids[name]}", 0.5) for name in ("Alpine", "Coastal")
    }
    ask(client("marketer"), world)
    ask(app, world, record="false")
    ask(app, world, at=datetime.now(UTC).isoformat())
    assert exposed(world, offer) == {}
    for name in ("Alpine", "Coastal", "Alpine"):
        found = ask(app, world, name, explain="true")
        held = key[world.ids[name]]
        assert (offer in {one["id"] for one in found["data"]}) is not held
        assert any(one["id"] == offer for one in found["others"]) is held
    assert exposed(world, offer) == key
    # beyond the limit nothing is shown, and nobody held out
    last = set_live(client("marketer"), priority=-1)
    assert len(ask(app, world, limit=1)["data"]) == 1
    assert exposed(world, last) == {}


def test_each_sees_offers_for_customers_they_see(client: Client, world: World, app: TestClient) -> None:
    for who, name, status in (
        ("rep", "Alpine", 200), ("rep", "Coastal", 404), ("other", "Coastal", 200), ("manager", "Coastal", 404),
        ("analyst", "Drifting", 200),
    ):  # fmt: skip
        answer = client(who).get(ELIGIBLE, params={"customer": f"cus_{world.ids[name]}"} | HERE)
        assert answer.status_code == status, (who, name, answer.text)
    assert client(None).get(ELIGIBLE).status_code == 401
    assert client("key:reader").get(ELIGIBLE, params={"customer": "cus_1"} | HERE).status_code == 403
    assert app.get("/v1/customers").status_code == 403  # the app's key shows and redeems, no more
    assert app.get("/v1/offers").status_code == 200


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("lon=1&lat=1", "/customer"),
        ("customer=usr_1&lon=1&lat=1", "/customer"),
        ("customer=cus_1&lat=1", "/lon"),
        ("customer=cus_1&lon=1&lat=91", "/lat"),
        ("customer=cus_1&lon=1&lat=1&limit=0", "/limit"),
        ("customer=cus_1&lon=1&lat=1&limit=101", "/limit"),
        ("customer=cus_1&lon=1&lat=1&explain=yes", "/explain"),
        ("customer=cus_1&lon=1&lat=1&explain_limit=0", "/explain_limit"),
        ("customer=cus_1&lon=1&lat=1&explain_from=-1", "/explain_from"),
        ("customer=cus_1&lon=1&lat=1&at=soon", "/at"),
        ("customer=cus_1&lon=1&lat=1&stage=active", "/stage"),
    ],
)
def test_what_cannot_be_asked(client: Client, query: str, pointer: str) -> None:
    answer = client("administrator").get(f"{ELIGIBLE}?{query}")
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_why_not_in_the_words_of_the_answer(client: Client, world: World, app: TestClient) -> None:
    marketer = client("marketer")
    with world.database.writing() as session:
        shop = models.Place(
            kind="own", name="Union Station", location="SRID=4326;POINT(-105.0002 39.7527)", location_precision="given"
        )
        session.add(shop)
        session.flush()
        place = f"pla_{shop.id}"
    offer = set_live(marketer, areas=[{"place_id": place, "radius_m": 500}], consent_purpose="marketing")
    found = next(one for one in ask(app, world, explain="true")["others"] if one["id"] == offer)
    assert [one["reason"] for one in found["reasons"]] == ["outside", "no_consent"]
    assert found["reasons"][0]["distance_m"] == pytest.approx(1159, abs=5)
    assert found["reasons"][1]["purpose"] == "marketing"
    with world.database.writing() as session:
        session.add(
            models.Consent(
                customer_id=world.ids["Alpine"], purpose="marketing", channel="app", granted_at=datetime.now(UTC)
            )
        )
    at_shop = ask(app, world, lon=-105.0, lat=39.753)
    (held,) = (one for one in at_shop["data"] if one["id"] == offer)
    assert held["where"] == {
        "kind": "place", "id": place, "name": "Union Station", "place_kind": None, "geofence": None,
        "radius_m": 500,
    }  # fmt: skip
    shown = marketer.get(f"/v1/offers/{offer}").json()["live"]
    assert shown["areas"] == [
        {
            "kind": "place",
            "name": "Union Station",
            "layer_id": None,
            "area_id": None,
            "geofence": None,
            "geofence_tag": None,
            "place_id": place,
            "place_kind": None,
            "radius_m": 500,
        }
    ]


def test_offers_in_fences(client: Client, world: World, app: TestClient) -> None:
    """By name and by tag; a fence that a live offer names is not deleted; the others are told page by page."""
    marketer = client("marketer")
    for name, lon in (("north", -100.0), ("south", -100.001)):
        put = marketer.put(f"/v1/geofences/kiosks/{name}", json={"center": {"lon": lon, "lat": 40.0}, "radius_m": 80})
        assert put.status_code == 201, put.text
    by_name = set_live(marketer, areas=[{"geofence": "kiosks/north"}], priority=7)
    by_tag = set_live(marketer, areas=[{"geofence_tag": "kiosks"}], priority=7)
    at = {one["id"]: one["where"] for one in ask(app, world, lon=-100.0, lat=40.0)["data"]}
    assert at[by_name] == {
        "kind": "geofence", "id": at[by_name]["id"], "name": "north", "place_kind": None, "geofence": "kiosks/north",
        "radius_m": None,
    }  # fmt: skip
    assert at[by_tag] == at[by_name] | {"kind": "geofences"}
    said = {offer: marketer.get(f"/v1/offers/{offer}").json()["live"]["areas"][0] for offer in (by_name, by_tag)}
    assert (said[by_name]["geofence"], said[by_name]["name"]) == ("kiosks/north", "north")
    assert said[by_tag]["geofence_tag"] == "kiosks"
    refused = marketer.delete("/v1/geofences/kiosks/north", headers={"If-Match": "*"})
    assert (refused.status_code, refused.json()["offers"]) == (409, [by_name])
    assert marketer.delete("/v1/geofences/kiosks/south", headers={"If-Match": "*"}).status_code == 204
    for values, pointer in (
        ({"geofence": "kiosks/none"}, "/areas/0/geofence"), ({"geofence": "no"}, "/areas/0/geofence"),
        ({"geofence_tag": "No!"}, "/areas/0/geofence_tag"),
    ):  # fmt: skip
        wrong = marketer.post("/v1/offers", json={"name": "Coffee", "areas": [values]})
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, pointer)

    whole = ask(app, world, explain="true", lon=-100.05, lat=40.0)
    assert whole["others_in_all"] == len(whole["others"]) >= 2
    assert [one["id"] for one in whole["others"][:2]] == [by_name, by_tag]
    paged = [
        ask(app, world, explain="true", lon=-100.05, lat=40.0, explain_limit=1, explain_from=at)["others"]
        for at in range(len(whole["others"]) + 1)
    ]
    assert [one for page in paged for one in page] == whole["others"]  # distances too
    assert ask(app, world)["others_in_all"] is None
    for offer in (by_name, by_tag):
        marketer.post(f"/v1/offers/{offer}/end", headers={"If-Match": "*"})


def test_what_an_offer_brought_is_told_to_who_sees_all(client: Client, world: World, app: TestClient) -> None:
    offer = set_live(client("marketer"), name="Nothing yet", hold_out_share=0.5)
    where = f"/v1/offers/{offer}/results"
    told = client("analyst").get(where, params={"by": "territory"})
    assert told.status_code == 200, told.text
    assert (told.json()["shown"], told.json()["parts"]) == (0, [])
    assert told.json()["sales"] == {
        "effect": None,
        "reason": "Nobody has been shown this offer yet.",
        "sentence": "Sales: Nobody has been shown this offer yet.",
    }
    with world.database.writing() as session:
        session.add_all(
            models.Exposure(
                customer_id=number, offer_id=int(offer[4:]), version=1, first_at=datetime.now(UTC),
                held_out=number == world.ids["Alpine"], hold_out_key=offer, unit=f"cus_{number}",
            )
            for number in (world.ids["Alpine"], world.ids["Coastal"])
        )  # fmt: skip
    shown = client("marketer").get(where).json()
    assert (shown["shown"], shown["held_out"]) == (1, 1)
    assert shown["sales"]["reason"] == "Too few to tell an effect: customers that got it: 1; needed: 20 in each group."
    assert client("marketer").get(where, params={"by": "nothing"}).status_code == 404
    assert client("marketer").get(where, params={"by": "No!"}).status_code == 422
    for who in (client("rep"), client("manager"), app):
        assert who.get(where).status_code == 403


def test_a_list_of_offers_asks_no_more_of_the_database_than_one(client: Client, world: World) -> None:
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    marketer = client("marketer")
    for _ in range(3):
        live = set_live(marketer, audience={"field": "stage", "op": "in", "value": ["lead", "active"]})
        marketer.patch(f"/v1/offers/{live}", json={"terms": "One a day"}, headers={"If-Match": "*"})
    event.listen(world.database.reading_engine, "before_cursor_execute", note)
    try:
        counts = []
        for limit in (1, 3):
            asked.clear()
            page = marketer.get(f"/v1/offers?status=live&limit={limit}").json()
            assert len(page["data"]) == limit
            counts.append(len(asked))
        many = marketer.get("/v1/offers?status=live&limit=3").json()["data"]
        # the newest first, and older ones on the next page
        assert [one["id"] for one in many] == sorted((one["id"] for one in many), key=lambda id: -int(id[4:]))
        first = marketer.get("/v1/offers?status=live&limit=1").json()
        then = marketer.get(f"/v1/offers?status=live&limit=1&cursor={first['next_cursor']}").json()
        assert first["data"] + then["data"] == many[:2]
        assert many == [marketer.get(f"/v1/offers/{one['id']}").json() for one in many]
    finally:
        event.remove(world.database.reading_engine, "before_cursor_execute", note)
    assert counts[0] == counts[1]
