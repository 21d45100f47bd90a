"""Every operation of the OpenAPI document, called as each role, as API clients and as nobody.

In order: 401, 403, 404, 422, and none of them changed anything; then the valid call. Who may what stands in
`permitted`, the calls in `calls`.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from geocrm import access, jobs
from geocrm.api.app import create_app
from geocrm.db import models
from tests.api.calls import ANY_ID, CALLS, SQUARE, Call, Maker
from tests.api.conftest import ROLES, World, open_session
from tests.api.permitted import ADMIN, DIVIDE, EXPORT, IMPORT, KEYS, MAY, OFFER, PLACES, SHOW_SEGMENTS, STEER, A, R

Clients = Callable[[str | None], TestClient]

DOCUMENT = create_app().openapi()
OPERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    operation["operationId"]: (path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method in ("get", "post", "put", "patch", "delete")
}


def test_every_operation_is_in_the_table() -> None:
    assert set(OPERATIONS) == set(MAY) == set(CALLS)


def test_every_operation_is_described_with_examples() -> None:
    for name, (_, operation) in OPERATIONS.items():
        assert operation.get("summary"), name
        assert operation.get("tags"), name
        if "requestBody" in operation and "application/json" in operation["requestBody"]["content"]:
            content = operation["requestBody"]["content"]["application/json"]
            assert "example" in content or "examples" in content, f"{name}: no example of a request"
        assert operation["responses"]["400"] == {"$ref": "#/components/responses/Unreadable"}
        for status, answer in operation["responses"].items():
            for kind, content in answer.get("content", {}).items():
                if int(status) >= 400:
                    assert kind == "application/problem+json", (name, status)
                elif kind == "application/json":
                    assert "example" in content or "examples" in content, f"{name}: no example of an answer"


@pytest.fixture(scope="module")
def maker(world: World) -> Iterator[Maker]:
    admin = world.new_client()
    cookie, csrf = open_session(world, A)
    admin.cookies["geocrm_session"], admin.headers["X-CSRF-Token"] = cookie, csrf
    layer = admin.post("/v1/layers", json={"key": "service", "name": "Service", "kind": "territories"})
    world.ids["service"] = int(layer.json()["id"].removeprefix("lay_"))
    draft = admin.post("/v1/layers/lay_service/drafts", json={"from": "empty"}).json()["version"]
    body = {
        "name": "Denver",
        "geometry": SQUARE,
        "owner_id": f"usr_{world.users[R]}",
        "team_id": f"tea_{world.ids['north']}",
    }
    area = admin.post(f"/v1/layers/lay_service/drafts/{draft}/areas", json=body)
    assert area.status_code == 201, area.text
    world.ids["denver"] = int(area.json()["id"].removeprefix("ter_"))
    for _ in range(2):  # so that there is a former version to go back to
        started = admin.post(f"/v1/layers/lay_service/drafts/{draft}/publish", json={"reason": "first"})
        assert started.status_code == 202, started.text
        jobs.run_queued(world.database)
        done = admin.get(f"/v1/jobs/{started.json()['job_id']}").json()
        assert done["status"] == "done", done
        draft = admin.post("/v1/layers/lay_service/drafts", json={}).json()["version"]
    yield Maker(world, admin)
    admin.close()


@pytest.fixture(autouse=True)
def _unlimited(world: World) -> None:
    """Signing in over and over again is not what is tested here."""
    world.app.state.settings.login_attempts_per_15_min = 1000
    world.app.state.settings.webhook_allow_private = True


KEPT = (
    *("audit_log", "audit_payloads", "audit_seals", "user_sessions", "login_attempts", "spatial_ref_sys"),
    "key_requests",  # written every five seconds: what was refused too
)


def state_of(world: World) -> dict[str, str]:
    """A digest of every table but the audit, the log of keys, and who is signed in."""
    with world.database.writing() as session:
        tables = session.scalars(
            text(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL (:kept)"
                " AND tablename NOT LIKE 'alembic%' ORDER BY 1"
            ),
            {"kept": list(KEPT)},
        ).all()
        sql = " UNION ALL ".join(
            f"SELECT '{table}' AS named, md5(string_agg(x::text, ',' ORDER BY x::text)) AS digest FROM {table} x"
            for table in tables
        )
        return {row.named: row.digest for row in session.execute(text(sql))}


def send(client: TestClient, call: Call) -> Any:
    method, path, more = call
    return client.request(method, path, **more)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_in_order_401_403_404_422_valid(name: str, client: Clients, world: World, maker: Maker) -> None:
    may = MAY[name]
    path, operation = OPERATIONS[name]
    call = CALLS[name](maker, A)
    maker.imported  # noqa: B018 - what a call needs is made before the state is taken
    before = state_of(world)

    for who in (None, *ROLES, *KEYS):
        if who in may:
            continue
        answer = send(client(who), call)
        assert answer.status_code == (401 if who is None else 403), (who, answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", who
    allowed = A if A in may else None
    if ("_id}" in path or "{layer}" in path) and name != "put_geofence":  # which makes what is not there
        gone = re.sub(f"{ANY_ID}_\\d+", r"\1_999999999", call[1])
        gone = gone.replace("lay_service", "lay_nowhere").replace("/shops/", "/nothing/")
        answer = send(client(allowed), (call[0], gone, call[2]))
        assert answer.status_code == 404, (answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    for wrong in _wrong(call, path, operation):
        answer = send(client(allowed), wrong)
        assert answer.status_code == 422, (wrong, answer.status_code, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"], answer.text
    assert state_of(world) == before, "a refused request changed something"

    for who in sorted(may, key=str):
        call = CALLS[name](maker, who)
        caller = client(who)
        if name == "sign_out" and who in ROLES:
            caller = world.new_client()
            cookie, csrf = open_session(world, who)
            caller.cookies["geocrm_session"], caller.headers["X-CSRF-Token"] = cookie, csrf
        if name == "sign_in":
            caller = world.new_client()
        answer = send(caller, call)
        assert 200 <= answer.status_code < 300, (who, call, answer.status_code, answer.text)
        documented = operation["responses"][str(answer.status_code)]
        kind = answer.headers.get("content-type", "").partition(";")[0]
        assert answer.status_code == 204 or kind in documented["content"], (who, kind)
        assert answer.headers["x-content-type-options"] == "nosniff"
        if path.startswith("/v1/"):
            assert answer.headers["cache-control"] in ("no-store", "no-cache"), answer.headers
            assert "ratelimit" in answer.headers
        if name == "sign_out" and who in ROLES:
            assert caller.get("/v1/me").status_code == 401


# What a key may call with one scope alone: who it is, its own jobs, and for imports its own imports.
WITH_ANY_SCOPE = {name for name, may in MAY.items() if "key:nothing" in may}
IMPORTS = {name for name, may in MAY.items() if may == IMPORT}
OFFERS = {
    "list_offers", "get_offer", "list_offer_versions", "list_redemptions", "get_redemption", "find_eligible_offers",
    "redeem_offer", "reverse_redemption",
}  # fmt: skip
# What a scope opens by itself, to whose role allows it.
FENCES_READ = {"list_geofences", "get_geofence", "find_nearest_geofences", "replay_walk"}
ALONE = {"offers:redeem": OFFERS, "geofences:write": FENCES_READ, "positions:write": FENCES_READ | {"send_positions"}}


@pytest.mark.parametrize(
    ("whose", "scope"), [(A, "imports"), *((R, scope) for scope in sorted(access.SCOPES) if scope != "customers:read")]
)
def test_no_scope_without_customers_read_opens_anything(scope: str, whose: str, world: World, maker: Maker) -> None:
    token, digest = access.new_token("gk_")
    with world.database.writing() as session:
        session.add(
            models.ApiKey(
                user_id=world.users[whose], name=f"{whose} {scope}", prefix="gk_", digest=digest, scopes=[scope]
            )
        )
    program = world.new_client()
    program.headers["Authorization"] = f"Bearer {token}"
    for name, make in CALLS.items():
        if name in WITH_ANY_SCOPE:
            continue
        answer = send(program, make(maker, A))
        if name in ALONE.get(scope, ()):  # what an app needs
            assert 200 <= answer.status_code < 300, (name, answer.text)
            continue
        own_only = scope == "imports" and whose == A and name in IMPORTS
        if own_only:  # it may upload; the administrator's own imports are none of the key's
            expected = {"list_imports": 200, "create_import": 202}.get(name, 404)
            assert answer.status_code == expected, (name, answer.text)
            assert name != "list_imports" or answer.json()["data"] == []
        else:
            assert answer.status_code == 403, (name, answer.status_code, answer.text)
    job = maker.job(f"key:{whose} {scope}")
    if whose == R:
        shown = program.get(f"/v1/jobs/job_{job}").json()
        assert (shown["status"], shown["result"]) == ("done", None)
        assert program.get(f"/v1/jobs/job_{maker.job(R)}").status_code == 404  # the user's own, not the key's
    program.close()


def test_a_key_with_every_scope_still_steers_nothing(world: World, maker: Maker) -> None:
    """Not even an administrator's: drafting tells where exact points lie, and publishing is for people."""
    token, digest = access.new_token("gk_")
    with world.database.writing() as session:
        scopes = [*sorted(access.SCOPES), "territories:write", "exports"]  # the last two are of former times
        session.add(models.ApiKey(user_id=world.users[A], name="all of it", prefix="gk_", digest=digest, scopes=scopes))
    program = world.new_client()
    program.headers["Authorization"] = f"Bearer {token}"
    for name, may in MAY.items():
        if name in ("put_geofence", "delete_geofence", "import_geofences"):
            continue  # a scope of its own opens these
        if may in (STEER, PLACES, ADMIN, EXPORT, DIVIDE, SHOW_SEGMENTS, OFFER) or name == "export_totals":
            answer = send(program, CALLS[name](maker, A))
            assert answer.status_code == 403, (name, answer.status_code, answer.text)
    program.close()


def _wrong(call: Call, path: str, operation: dict[str, Any]) -> Iterator[Call]:
    """Calls like this one with one thing wrong."""
    method, address, more = call
    if "json" in more:
        yield method, address, more | {"json": more["json"] | {"batch_id": 1}}
    parameters = {(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", [])}
    joint = "&" if "?" in address else "?"
    if ("query", "cursor") in parameters:
        yield method, f"{address}{joint}cursor=!", more
    if ("query", "limit") in parameters:
        yield (
            method,
            f"{address}{joint}limit=0" if "limit=" not in address else address.replace("limit=5", "limit=0"),
            more,
        )
    if ("query", "customer") in parameters:
        yield method, address.replace("customer=cus_", "customer=sit_"), more
    if ("query", "filter") in parameters:
        wrong = json.dumps({"field": "nothing", "op": "=", "value": 1})
        yield method, f"{address}{joint}filter={wrong}", more
    malformed = re.sub(f"{ANY_ID}_\\d+$", r"\1_x", address)
    if malformed != address:
        yield method, malformed, more
