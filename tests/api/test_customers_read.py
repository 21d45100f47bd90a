"""Customers as each reader sees them."""

from collections.abc import Callable

from fastapi.testclient import TestClient

from tests.api.conftest import World

Clients = Callable[[str | None], TestClient]


def test_ready_and_health(client: Clients) -> None:
    assert client(None).get("/health").json() == {"status": "alive"}
    ready = client(None).get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


def test_me(client: Clients, world: World) -> None:
    me = client("rep").get("/v1/me").json()
    assert me["id"] == f"usr_{world.users['rep']}"
    assert "customers:write" in me["permissions"]
    assert "users:manage" not in me["permissions"]
    nobody = client(None).get("/v1/me")
    assert nobody.status_code == 401
    assert nobody.headers["content-type"] == "application/problem+json"
    assert nobody.json()["instance"] == nobody.headers["x-request-id"]


def names(client: TestClient, **query: str) -> set[str]:
    answer = client.get("/v1/customers", params=query)
    assert answer.status_code == 200, answer.text
    return {row["name"].split()[0] for row in answer.json()["data"]}


def test_the_list_shows_what_the_reader_may_see(client: Clients) -> None:
    everyone = {"Alpine", "Boulder", "Coastal", "Drifting"}
    assert names(client("rep")) == names(client("manager")) == names(client("key:reader")) == {"Alpine", "Boulder"}
    assert names(client("other")) == {"Boulder", "Coastal"}
    for role in ("administrator", "marketer", "analyst"):
        assert names(client(role)) == everyone
    assert names(client("administrator"), q="alpin outfiters") == {"Alpine"}
    assert names(client("other"), q="alpin outfiters") == set()


def test_one_customer_whole(client: Clients, world: World) -> None:
    boulder = f"/v1/customers/cus_{world.ids['Boulder']}"
    found = client("rep").get(boulder)
    assert found.headers["etag"] == '"1"'
    assert found.headers["cache-control"] == "no-store"
    body = found.json()
    assert [site["city"] for site in body["sites"]] == ["Boulder"]  # the other site is in another territory
    assert body["contacts"][0]["email"] == f"ada.{world.ids['Boulder']}@example.com"
    assert client("rep").get(f"/v1/customers/cus_{world.ids['Coastal']}").status_code == 404
    snapped = client("key:reader").get(boulder).json()
    site = snapped["sites"][0]
    assert (site["line1"], site["postal_code"], snapped["contacts"][0]["email"]) == (None, None, None)
    assert site["location"] != body["sites"][0]["location"]
    assert site["precision_m"] == 500
