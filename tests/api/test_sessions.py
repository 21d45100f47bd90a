"""Signing in and out, keys, and what changes at the very next request."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from geocrm import access
from tests.api.conftest import PASSWORD, World

Clients = Callable[[str | None], TestClient]


@pytest.fixture(autouse=True)
def _no_attempts_yet(world: World) -> None:
    with world.database.writing() as session:
        session.execute(text("DELETE FROM login_attempts"))


def test_sign_in_sets_a_cookie_that_no_script_reads(world: World) -> None:
    client = world.new_client()
    answer = client.post("/v1/sessions", json={"email": "REP@example.com", "password": PASSWORD})
    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert client.get("/v1/me").json()["role"] == "rep"
    head = {"X-CSRF-Token": answer.json()["csrf_token"]}
    assert client.delete("/v1/sessions/current").status_code == 403
    token = client.cookies["geocrm_session"]
    assert client.delete("/v1/sessions/current", headers=head).status_code == 204
    client.cookies["geocrm_session"] = token
    assert client.get("/v1/me").status_code == 401
    with world.database.writing() as session:
        stored = session.scalar(text("SELECT string_agg(s::text, '') FROM user_sessions s")) or ""
    assert token not in stored


def test_a_wrong_password_and_an_unknown_account_say_the_same(world: World) -> None:
    client = world.new_client()
    wrong = client.post("/v1/sessions", json={"email": "rep@example.com", "password": "wrong wrong wrong"})
    unknown = client.post("/v1/sessions", json={"email": "nobody@example.com", "password": "wrong wrong wrong"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["detail"] == unknown.json()["detail"]


def test_logins_are_throttled_by_account_and_by_address(world: World) -> None:
    client = world.new_client()
    most = world.app.state.settings.login_attempts_per_15_min
    with world.database.writing() as session:
        session.execute(
            text(
                "INSERT INTO login_attempts (subject) SELECT 'account:rep@example.com' FROM generate_series(1, :most)"
            ),
            {"most": most},
        )
    refused = client.post("/v1/sessions", json={"email": "rep@example.com", "password": PASSWORD})
    assert refused.status_code == 429  # the right password too
    assert 1 <= int(refused.headers["retry-after"]) <= 901
    manager = {"email": "manager@example.com", "password": PASSWORD}
    assert client.post("/v1/sessions", json=manager).status_code == 201

    def fail_from_here(times: int) -> None:
        with world.database.writing() as session:
            session.execute(
                text("INSERT INTO login_attempts (subject) SELECT 'address:testclient' FROM generate_series(1, :n)"),
                {"n": times},
            )

    fail_from_here(most * 10 - 1)
    # one office behind one address: others go on, and whoever signs in does not wash the failures away
    assert client.post("/v1/sessions", json=manager).status_code == 201
    assert client.post("/v1/sessions", json=manager).status_code == 201
    fail_from_here(1)
    assert client.post("/v1/sessions", json=manager).status_code == 429


def test_a_revoked_key_is_good_for_nothing_at_once(client: Clients, world: World) -> None:
    admin = client("administrator")
    body = {"name": "app", "user_id": f"usr_{world.users['rep']}", "scopes": ["customers:read"]}
    made = admin.post("/v1/keys", json=body).json()
    program = world.new_client()
    program.headers["Authorization"] = f"Bearer {made['secret']}"
    assert program.get("/v1/customers").status_code == 200
    assert program.get("/v1/customers/nearby?lon=-105&lat=40").status_code == 200
    listed = admin.get("/v1/keys").json()["data"]
    assert all("secret" not in key for key in listed)
    assert admin.delete(f"/v1/keys/{made['id']}").status_code == 204
    assert program.get("/v1/customers").status_code == 401
    assert program.get("/v1/customers/nearby?lon=-105&lat=40").status_code == 401
    with world.database.writing() as session:
        stored = session.scalar(text("SELECT string_agg(k::text, '') FROM api_keys k")) or ""
        audited = session.scalar(text("SELECT string_agg(p::text, '') FROM audit_payloads p")) or ""
    assert made["secret"] not in stored
    assert made["secret"] not in audited


def test_a_leaver_is_out_at_once(client: Clients, world: World) -> None:
    admin = client("administrator")
    new = {"email": "leaver@example.com", "name": "Leaver", "role": "analyst", "password": PASSWORD}
    made = admin.post("/v1/users", json=new)
    browser = world.new_client()
    assert browser.post("/v1/sessions", json={"email": new["email"], "password": PASSWORD}).status_code == 201
    assert browser.get("/v1/customers").status_code == 200
    gone = admin.patch(
        f"/v1/users/{made.json()['id']}", json={"active": False}, headers={"If-Match": made.headers["etag"]}
    )
    assert gone.status_code == 200
    assert browser.get("/v1/customers").status_code == 401


def test_the_last_administrator_stays(client: Clients, world: World) -> None:
    path = f"/v1/users/usr_{world.users['administrator']}"
    answer = client("administrator").patch(path, json={"role": "rep"}, headers={"If-Match": "*"})
    assert answer.status_code == 409
    assert client("administrator").get("/v1/me").json()["role"] == "administrator"


def test_a_territory_changes_hands_at_the_next_request(client: Clients, world: World) -> None:
    rep, other = client("rep"), client("other")
    boulder = f"/v1/customers/cus_{world.ids['Coastal']}"
    assert rep.get(boulder).status_code == 404
    with world.database.writing() as session:
        session.execute(
            text("UPDATE areas SET owner_id = :rep WHERE id = :area"),
            {"rep": world.users["rep"], "area": world.ids["coast"]},
        )
    assert rep.get(boulder).status_code == 200
    assert other.get(boulder).status_code == 200  # owns the customer still
    with world.database.writing() as session:
        session.execute(
            text("UPDATE areas SET owner_id = :other WHERE id = :area"),
            {"other": world.users["other"], "area": world.ids["coast"]},
        )
    assert rep.get(boulder).status_code == 404


def test_a_session_slides_with_use_but_has_an_end(world: World) -> None:
    client = world.new_client()
    answer = client.post("/v1/sessions", json={"email": "analyst@example.com", "password": PASSWORD})
    settings, gate = world.app.state.settings, world.app.state.gate
    assert f"max-age={int(settings.session_days * 86_400)};" in answer.headers["set-cookie"].lower()
    digest = access.digest(client.cookies["geocrm_session"])

    def used_after(days: float) -> tuple[float, float]:
        """Used so many days after its sign-in, an hour before it would have ended: hours from now, days from then."""
        gate.touched.clear()
        with world.database.writing() as session:
            session.execute(
                text(
                    "UPDATE user_sessions SET created_at = now() - make_interval(secs => :s),"
                    " expires_at = now() + interval '1 hour' WHERE digest = :digest"
                ),
                {"s": days * 86_400, "digest": digest},
            )
        assert client.get("/v1/me").status_code == 200
        with world.database.writing() as session:
            hours, whole = session.execute(
                text(
                    "SELECT extract(epoch FROM expires_at - now()) / 3600,"
                    " extract(epoch FROM expires_at - created_at) / 86400 FROM user_sessions WHERE digest = :digest"
                ),
                {"digest": digest},
            ).one()
        return float(hours), float(whole)

    assert used_after(1)[0] == pytest.approx(settings.session_hours, abs=0.05)
    hours, whole = used_after(settings.session_days - 1 / 24)
    assert hours < 1.01 < settings.session_hours
    assert whole == pytest.approx(settings.session_days)
    used_after(settings.session_days + 1)  # made under a longer setting: it ends with its next use
    assert client.get("/v1/me").status_code == 401
