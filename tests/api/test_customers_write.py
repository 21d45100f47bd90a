"""Customers as they are created and edited, with what follows in the same transaction."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from geocrm.db import models
from tests.api.conftest import World

Clients = Callable[[str | None], TestClient]
NEW = {
    "kind": "organisation",
    "name": "Summit Books",
    "sites": [{"line1": "1 Broadway", "city": "Denver", "region": "CO", "postal_code": "80202", "country": "US"}],
    "contacts": [{"name": "Bea", "email": "bea@example.com"}],
}


def test_create_places_the_site_and_gives_it_to_its_maker(client: Clients, world: World) -> None:
    made = client("rep").post("/v1/customers", json=NEW)
    assert made.status_code == 201, made.text
    body = made.json()
    assert made.headers["location"] == f"/v1/customers/{body['id']}"
    assert body["owner"]["id"] == f"usr_{world.users['rep']}"
    site = body["sites"][0]
    assert (site["placement"], site["location_precision"], site["is_primary"]) == ("placed", "postcode", True)
    assert abs(site["location"]["lon"] + 105) < 0.2
    assert client("other").get(made.headers["location"]).status_code == 404


def test_roles_may_or_may_not_create(client: Clients) -> None:
    assert client(None).post("/v1/customers", json=NEW).status_code == 401
    for who in ("marketer", "analyst", "key:reader", "key:exact"):
        assert client(who).post("/v1/customers", json=NEW).status_code == 403, who
    for who in ("administrator", "manager", "key:writer"):
        assert client(who).post("/v1/customers", json=NEW).status_code == 201, who


def test_a_browser_needs_its_csrf_token(client: Clients) -> None:
    rep = client("rep")
    token = rep.headers.pop("X-CSRF-Token")
    try:
        assert rep.post("/v1/customers", json=NEW).status_code == 403
        assert rep.post("/v1/customers", json=NEW, headers={"X-CSRF-Token": token + "x"}).status_code == 403
        assert rep.get("/v1/customers").status_code == 200
    finally:
        rep.headers["X-CSRF-Token"] = token


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"version": 7}, "/version"),
        ({"batch_id": 1}, "/batch_id"),
        ({"id": "cus_1"}, "/id"),
        ({"name": ""}, "/name"),
        ({"name": "a\x00b"}, ""),
        ({"stage": "dead"}, "/stage"),
        ({"attributes": {"a": {"b": "\ud800"}}}, ""),
        ({"sites": [{"location": {"lon": 181, "lat": 0}}]}, "/sites/0/location/lon"),
        ({"sites": [{"country": "us"}]}, "/sites/0/country"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(
    client: Clients, change: dict[str, object], pointer: str
) -> None:
    body = json.dumps(NEW | change)
    headers = {"Content-Type": "application/json"}
    answer = client("administrator").post("/v1/customers", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["pointer"] == pointer


def test_nan_and_infinity_are_refused(client: Clients) -> None:
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        body = '{"kind":"person","name":"x","sites":[{"location":{"lon":WORD,"lat":0}}]}'.replace("WORD", word)
        headers = {"Content-Type": "application/json"}
        assert client("administrator").post("/v1/customers", content=body, headers=headers).status_code == 422, word


def test_nobodys_change_is_lost(client: Clients, world: World) -> None:
    alpine = f"/v1/customers/cus_{world.ids['Alpine']}"
    rep, manager = client("rep"), client("manager")
    tag = rep.get(alpine).headers["etag"]
    assert rep.patch(alpine, json={"stage": "lapsed"}).status_code == 428
    first = rep.patch(alpine, json={"stage": "lapsed"}, headers={"If-Match": tag})
    assert (first.status_code, first.json()["stage"]) == (200, "lapsed")
    late = manager.patch(alpine, json={"stage": "lead"}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["title"]) == (412, "Somebody changed it since you read it.")
    again = manager.patch(alpine, json={"stage": "active"}, headers={"If-Match": first.headers["etag"]})
    assert again.status_code == 200


def test_two_writers_at_once_one_wins(client: Clients, world: World) -> None:
    alpine = f"/v1/customers/cus_{world.ids['Alpine']}"
    tag = client("rep").get(alpine).headers["etag"]
    client("manager")

    def write(who: str) -> int:
        answer = client(who).patch(alpine, json={"industry": f"by {who}"}, headers={"If-Match": tag})
        return answer.status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(write, ("rep", "manager"))) == [200, 412]


def test_foreign_customers_are_not_found_before_anything_is_written(client: Clients, world: World) -> None:
    coastal = f"/v1/customers/cus_{world.ids['Coastal']}"
    rep = client("rep")
    for method, path, body in (
        ("PATCH", coastal, {"name": "Mine"}),
        ("POST", f"{coastal}/sites", {"city": "Denver"}),
        ("POST", f"{coastal}/contacts", {"name": "Me"}),
        ("POST", f"{coastal}/consents", {"purpose": "marketing", "channel": "email",
                                           "granted_at": "2026-01-01T00:00:00Z"}),
        ("POST", "/v1/sales", {"customer_id": f"cus_{world.ids['Coastal']}", "occurred_at": "2026-01-01T00:00:00Z",
                               "currency": "USD", "amount": 1}),
        ("POST", "/v1/interactions", {"customer_id": f"cus_{world.ids['Coastal']}", "kind": "note",
                                      "occurred_at": "2026-01-01T00:00:00Z"}),
    ):  # fmt: skip
        answer = rep.request(method, path, json=body, headers={"If-Match": "*"})
        assert answer.status_code == 404, (path, answer.text)
    boulder = f"/v1/customers/cus_{world.ids['Boulder']}"
    hidden = f"{boulder}/sites/sit_{world.ids['far_site']}"
    assert rep.patch(hidden, json={"city": "X"}, headers={"If-Match": "*"}).status_code == 404


def test_only_who_may_reassign_changes_the_owner(client: Clients, world: World) -> None:
    alpine = f"/v1/customers/cus_{world.ids['Alpine']}"
    head = {"If-Match": "*"}
    to_manager = {"owner_id": f"usr_{world.users['manager']}"}
    assert client("rep").patch(alpine, json=to_manager, headers=head).status_code == 403
    assert client("manager").patch(alpine, json=to_manager, headers=head).status_code == 200
    away = {"owner_id": f"usr_{world.users['other']}"}
    assert client("manager").patch(alpine, json=away, headers=head).status_code == 403
    back = {"owner_id": f"usr_{world.users['rep']}"}
    assert client("manager").patch(alpine, json=back, headers=head).status_code == 200


def test_an_address_edit_places_the_site_anew(client: Clients) -> None:
    rep = client("rep")
    made = rep.post("/v1/customers", json=NEW)
    customer = made.json()
    path = f"/v1/customers/{customer['id']}/sites/{customer['sites'][0]['id']}"
    moved = rep.patch(
        path, json={"city": "Boulder", "postal_code": "80301"}, headers={"If-Match": made.headers["etag"]}
    )
    assert moved.status_code == 200, moved.text
    site = moved.json()["sites"][0]
    assert site["location"]["lat"] > 39.95
    swapped = rep.patch(
        path, json={"location": {"lon": 39.74, "lat": -104.99 + 20}}, headers={"If-Match": moved.headers["etag"]}
    )
    assert swapped.json()["sites"][0]["placement"] == "flagged"


def test_sites_contacts_and_consents_come_and_go(client: Clients) -> None:
    rep = client("rep")
    path = f"/v1/customers/{rep.post('/v1/customers', json=NEW).json()['id']}"
    head = {"If-Match": "*"}
    two = rep.post(
        f"{path}/sites", json={"city": "Boulder", "postal_code": "80301", "country": "US", "is_primary": True}
    )
    assert [site["is_primary"] for site in two.json()["sites"]] == [True, False]
    first = two.json()["sites"][0]["id"]
    assert rep.patch(f"{path}/sites/{first}", json={"is_primary": False}, headers=head).status_code == 422
    one = rep.delete(f"{path}/sites/{first}", headers=head)
    assert [site["is_primary"] for site in one.json()["sites"]] == [True]
    contact = one.json()["contacts"][0]["id"]
    renamed = rep.patch(f"{path}/contacts/{contact}", json={"phone": "+41 44 555 01 01"}, headers=head)
    assert renamed.json()["contacts"][0]["phone"] == "+41 44 555 01 01"
    assert rep.delete(f"{path}/contacts/{contact}", headers=head).json()["contacts"] == []
    consent = {"purpose": "marketing", "channel": "email", "granted_at": "2026-01-01T00:00:00Z"}
    assert rep.post(f"{path}/consents", json=consent).status_code == 201
    assert rep.post(f"{path}/consents", json=consent).status_code == 409
    gone = rep.post(f"{path}/consents/withdraw", json={"purpose": "marketing", "channel": "email"})
    assert gone.json()["consents"][0]["withdrawn_at"] is not None


def test_a_site_that_has_sales_stays_and_so_does_the_report_of_the_past(client: Clients, world: World) -> None:
    rep = client("rep")
    made = rep.post("/v1/customers", json=NEW).json()
    path, head = f"/v1/customers/{made['id']}", {"If-Match": "*"}
    shop = rep.post(f"{path}/sites", json={"city": "Boulder", "postal_code": "80301", "country": "US"}).json()["sites"]
    first, second = shop[0]["id"], shop[1]["id"]
    sale = {"customer_id": made["id"], "occurred_at": "2026-03-05T10:00:00Z", "currency": "USD", "amount": 10}
    for site in (second, second, None):
        assert rep.post("/v1/sales", json=sale | ({"site_id": site} if site else {})).status_code == 201
    with world.database.writing() as session:  # of old, the second site was in one territory and the first in another
        for site, area in ((first, "coast"), (second, "front")):
            session.add(
                models.Assignment(
                    customer_id=int(made["id"][4:]), site_id=int(site[4:]), layer_id=world.ids["layer"],
                    area_id=world.ids[area], basis="polygon", valid_from=datetime(2026, 1, 1, tzinfo=UTC),
                    recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
                )
            )  # fmt: skip

    def report() -> dict[str, str]:
        span = {"start": "2026-03-05T00:00:00Z", "end": "2026-03-06T00:00:00Z", "basis": "as_was"}
        rows = rep.get("/v1/layers/lay_sales/sales", params=span).json()["data"]
        return {row["territory"]["name"]: row["amount"] for row in rows}

    before = report()
    assert before == {"Front Range": "20.0000", "Coast": "10.0000"}
    refused = rep.delete(f"{path}/sites/{second}", headers=head)
    assert (refused.status_code, refused.json()["sales"]) == (409, 2), refused.text
    assert "2 sales" in refused.json()["detail"]
    assert "change its address or label" in refused.json()["detail"]
    assert rep.delete(f"{path}/sites/{first}", headers=head).json()["sales"] == 1  # sales without a site are its own
    assert report() == before
    assert len(rep.get(path).json()["sites"]) == 2
    assert rep.patch(f"{path}/sites/{second}", json={"label": "closed"}, headers=head).status_code == 200
    # another site becomes the primary one: what was sold without a site before stays with the former one
    assert rep.patch(f"{path}/sites/{second}", json={"is_primary": True}, headers=head).status_code == 200
    assert report() == before
    assert rep.delete(f"{path}/sites/{first}", headers=head).json()["sales"] == 1
    now = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    assert rep.post("/v1/sales", json=sale | {"occurred_at": now}).status_code == 201
    assert rep.delete(f"{path}/sites/{second}", headers=head).json()["sales"] == 3
    assert "site.delete" not in [entry["action"] for entry in rep.get(f"{path}/history").json()["data"]]


def test_a_deleted_primary_site_is_still_the_one_of_its_time(client: Clients, world: World) -> None:
    """A sale of back then that is recorded after the site has gone."""
    rep = client("rep")
    made = rep.post("/v1/customers", json=NEW).json()
    path, head, first = f"/v1/customers/{made['id']}", {"If-Match": "*"}, made["sites"][0]["id"]
    shown = rep.post(f"{path}/sites", json={"city": "Boulder", "postal_code": "80301", "country": "US"}).json()
    second = next(site["id"] for site in shown["sites"] if site["id"] != first)
    assert rep.delete(f"{path}/sites/{first}", headers=head).status_code == 200
    assert [(site["id"], site["is_primary"]) for site in rep.get(path).json()["sites"]] == [(second, True)]
    with world.database.writing() as session:
        kept = session.scalars(
            select(models.FormerPrimarySite.site_id).where(
                models.FormerPrimarySite.customer_id == int(made["id"].removeprefix("cus_"))
            )
        ).all()
    assert kept == [int(first.removeprefix("sit_"))]
    sale = {"customer_id": made["id"], "occurred_at": "2026-03-05T10:00:00Z", "currency": "USD", "amount": 10}
    assert rep.post("/v1/sales", json=sale).status_code == 201
    assert rep.delete(f"{path}/sites/{second}", headers=head).status_code == 200


def test_an_edit_of_an_interaction_keeps_what_was_said_before(client: Clients, world: World) -> None:
    rep = client("rep")
    customer = rep.post("/v1/customers", json=NEW).json()["id"]
    note = {
        "customer_id": customer,
        "kind": "note",
        "occurred_at": "2026-09-05T10:00:00Z",
        "subject": "Old",
        "score": 2,
    }
    made = rep.post("/v1/interactions", json=note).json()
    path = f"/v1/customers/{customer}/interactions/{made['id']}"
    edit = {"subject": "New", "score": 2, "outcome": "ordered", "follow_up_at": "2026-10-01T00:00:00Z"}
    assert rep.patch(path, json=edit, headers={"If-Match": "*"}).status_code == 200
    with world.database.writing() as session:
        kept = session.execute(
            text(
                "SELECT p.before, p.after FROM audit_log l JOIN audit_payloads p ON p.entry_id = l.id"
                " WHERE l.action = 'interaction.update' AND l.object = :customer"
            ),
            {"customer": customer},
        ).one()
    assert kept.before == {"interaction": made["id"], "subject": "Old", "outcome": None, "follow_up_at": None}
    assert kept.after["subject"] == "New"
    assert set(kept.after) == set(kept.before)
    version = rep.get(path).json()["version"]
    assert rep.patch(path, json=edit, headers={"If-Match": "*"}).json()["version"] == version  # nothing differs


def test_history_says_who_did_what_and_hides_what_the_reader_may_not_see(client: Clients) -> None:
    rep = client("rep")
    made = rep.post("/v1/customers", json=NEW).json()
    path = f"/v1/customers/{made['id']}"
    rep.patch(f"{path}/sites/{made['sites'][0]['id']}", json={"line1": "2 Broadway"}, headers={"If-Match": "*"})
    entries = rep.get(f"{path}/history").json()["data"]
    assert [entry["action"] for entry in entries] == ["site.update", "customer.create"]
    assert {"field": "line1", "before": "1 Broadway", "after": "2 Broadway"} in entries[0]["changes"]
    masked = client("key:reader").get(f"{path}/history").json()["data"][0]["changes"]
    assert {"field": "line1", "before": "hidden", "after": "hidden"} in masked
    assert client("other").get(f"{path}/history").status_code == 404


def test_sales_and_the_card_s_plot(client: Clients) -> None:
    rep = client("rep")
    customer = rep.post("/v1/customers", json=NEW).json()["id"]
    lines = [{"quantity": 2, "unit_price": "64.95"}, {"quantity": 1, "unit_price": "10", "discount": "0.5"}]
    sale = {"customer_id": customer, "occurred_at": "2026-09-05T10:00:00Z", "currency": "USD", "lines": lines}
    made = rep.post("/v1/sales", json=sale)
    assert made.status_code == 201, made.text
    assert made.json()["amount"] == "139.4000"
    months = rep.get(f"/v1/customers/{customer}/sales/monthly").json()["data"]
    assert months[0] == {"month": "2026-09", "currency": "USD", "amount": "139.4000", "count": 1}
    assert all(month["amount"] == "0.0000" for month in months[1:])
    listed = rep.get(f"/v1/customers/{customer}/sales").json()["data"]
    assert [row["id"] for row in listed] == [made.json()["id"]]


def test_a_visit_that_arrives_twice_is_recorded_once(client: Clients) -> None:
    rep = client("rep")
    customer = rep.post("/v1/customers", json=NEW).json()["id"]
    visit = {
        "customer_id": customer,
        "client_id": "5f0c8a7e-6c1b-4b0a-9a53-0f1f5a2b7d11",
        "kind": "visit",
        "occurred_at": "2026-09-05T10:00:00Z",
        "location": {"lon": -104.99, "lat": 39.74},
    }
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: rep.post("/v1/interactions", json=visit), range(6)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(rep.get(f"/v1/customers/{customer}/interactions").json()["data"]) == 1


def test_the_same_request_again_has_one_effect(client: Clients, world: World) -> None:
    rep = client("rep")
    head = {"Idempotency-Key": "one-and-only"}
    body = NEW | {"name": "Only Once"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: rep.post("/v1/customers", json=body, headers=head), range(24)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    with world.database.writing() as session:
        made = session.scalar(text("SELECT count(*) FROM customers WHERE name = 'Only Once'"))
    assert made == 1
    changed = rep.post("/v1/customers", json=body | {"stage": "active"}, headers=head)
    assert changed.status_code == 422
    # a refused request keeps nothing: it may be mended and sent again
    wrong = rep.post("/v1/customers", json=body | {"parent_id": "cus_999999"}, headers={"Idempotency-Key": "second"})
    assert wrong.status_code == 422
    right = rep.post("/v1/customers", json=body | {"name": "Twice"}, headers={"Idempotency-Key": "second"})
    assert right.status_code == 201


def test_a_stored_answer_is_for_the_key_that_asked(client: Clients) -> None:
    """The rep's session, and two keys of the rep's that read different things."""
    head, body = {"Idempotency-Key": "mine-alone"}, NEW | {"name": "Three Times"}
    made = {
        who: client(who).post("/v1/customers", json=body, headers=head)
        for who in ("key:writer", "key:everything", "rep")
    }
    assert [answer.status_code for answer in made.values()] == [201, 201, 201]
    assert len({answer.json()["id"] for answer in made.values()}) == 3
    for who, first in made.items():
        again = client(who).post("/v1/customers", json=body, headers=head)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json()["id"] == first.json()["id"], who


def test_a_taken_id_of_a_source_system_tells_nothing_of_who_has_it(client: Clients) -> None:
    rep, other = client("rep"), client("other")
    words = set()
    for number, (who, seen) in enumerate(((rep, True), (other, False))):
        source = {"source": "shop", "external_id": f"taken-{number}"}
        made = who.post("/v1/customers", json=NEW | {"source": source}).json()
        assert rep.get(f"/v1/customers/{made['id']}").status_code == (200 if seen else 404)
        sale = {"occurred_at": "2026-01-05T10:00:00Z", "currency": "USD", "amount": "10.00", "source": source}
        sold = who.post("/v1/sales", json=sale | {"customer_id": made["id"]})
        assert sold.status_code == 201, sold.text
        own = rep.post("/v1/customers", json=NEW).json()["id"]
        for refused in (
            rep.post("/v1/customers", json=NEW | {"source": source}),
            rep.post("/v1/sales", json=sale | {"customer_id": own}),
        ):
            assert refused.status_code == 409, refused.text
            problem = refused.json()
            problem.pop("instance")
            assert made["id"] not in refused.text
            words.add(json.dumps(problem, sort_keys=True))
    assert len(words) == 1
