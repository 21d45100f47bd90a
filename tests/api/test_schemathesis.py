"""schemathesis on every operation of the running application: no server error, nothing that the document does not say.

`positive_data_acceptance` is not asked: a well-formed id need not exist, which is 404 or 422 by right. Signing out is
left out (it would end the session that asks), and so is the event stream (it is made to stay open).
"""

import http.client
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks
from sqlalchemy import text

from geocrm.api.app import create_app
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.settings import Settings
from tests.api.conftest import World, open_session
from tests.makers import make_customer, make_place, make_sale, make_team, make_user

SEED = int(os.environ.get("GEOCRM_TEST_SEED", random.SystemRandom().randrange(10**9)))
LEFT_OUT = {"sign_out", "follow_import"}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]
BUDGET_S = float(os.environ.get("GEOCRM_TEST_SECONDS", 45))  # of each role; what is not reached is another seed's


@dataclass
class Live:
    """A server on the loopback interface."""

    url: str
    world: World


@pytest.fixture(scope="module")
def live(new_database: Callable[[], Database]) -> Iterator[Live]:
    database = new_database()
    chosen = Settings(
        home=database.settings.home,
        rate_limit_per_minute=1_000_000,
        login_attempts_per_15_min=1_000_000,
        upload_max_mb=4,
    )
    world = World(database, create_app(database, chosen))
    with database.writing() as session:
        team = make_team(session)
        for number in range(4):  # usr_1 … are there to be found and changed
            make_user(session, "rep", team_id=team.id, name=f"Colleague {number}")
        session.execute(text("SELECT setval(pg_get_serial_sequence('users', 'id'), 70001)"))
        for role in ("administrator", "rep"):
            world.users[role] = make_user(session, role, team_id=team.id).id
        layer = models.Layer(key="sales", name="Sales", kind="territories", is_primary=True)
        session.add(layer)
        session.flush()
        session.add(models.Area(layer_id=layer.id, name="Front Range", owner_id=world.users["rep"]))
        for number in range(6):
            customer = make_customer(session, -105 + number / 10, 39.7, owner_id=world.users["rep"])
            make_sale(session, customer)
            session.add(models.Contact(customer_id=customer.id, name="Ada", email="ada@example.com"))
            session.add(models.Interaction(customer_id=customer.id, kind="note", occurred_at=customer.created_at))
            make_place(session, -105, 39.7)
            session.add(models.Product(name=f"Product {number}"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(world.app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.05)
    assert server.started
    yield Live(f"http://127.0.0.1:{port}", world)
    server.should_exit = True
    thread.join(20)


def explore(live: Live, role: str, budget_s: float, most: int) -> tuple[int, list[str]]:
    """Call the operations, in random order, as a role with data that fits and data that does not, until the time is
    over (enough for all of them on an idle machine); how many calls, and what was wrong."""
    cookie, csrf = open_session(live.world, role)
    headers = {"Cookie": f"geocrm_session={cookie}", "X-CSRF-Token": csrf}
    schema = schemathesis.openapi.from_dict(live.world.app.openapi())
    faults: list[str] = []
    calls = 0
    operations = [
        found.ok() for found in schema.get_all_operations() if found.ok().definition.raw["operationId"] not in LEFT_OUT
    ]
    random.Random(SEED).shuffle(operations)
    until = time.monotonic() + budget_s
    reached = 0
    for left, operation in zip(range(len(operations), 0, -1), operations, strict=True):
        # what is left of the time is shared among the operations that are left, each is called in both ways
        share = max(0.05, (until - time.monotonic()) / left / 2)
        if time.monotonic() > until + budget_s / 2:
            break
        reached += 1
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            made, found = ask(operation, mode, live.url, headers, time.monotonic() + share, most)
            calls += made
            for fault in found:
                print(f"{operation.label} as {role}: {fault}")
                faults.append(f"{operation.label} as {role}: {fault}")
    print(f"{calls} calls of {reached} of {len(operations)} operations as {role}")
    return calls, faults


def ask(
    operation: schemathesis.APIOperation,
    mode: GenerationMode,
    url: str,
    headers: dict[str, str],
    stop: float,
    most: int,
) -> tuple[int, list[str]]:
    """Call one operation with generated data, at least once and until the time is over."""
    calls = 0

    @seed(SEED)
    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case) -> None:
        nonlocal calls
        if calls and time.monotonic() > stop:
            return
        calls += 1
        answer = case.call(base_url=url, headers=headers, timeout=60)
        case.validate_response(answer, checks=CHECKS, headers=headers)

    try:
        call()
    except FailureGroup as group:
        return calls, [f"{fault}" for fault in group.exceptions]
    except Exception as error:
        return calls, [] if "Unsatisfiable" in type(error).__name__ else [f"{type(error).__name__}: {error}"]
    return calls, []


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/customers/nearby", "/health"])
def test_what_the_http_server_itself_refuses_is_documented(live: Live, path: str) -> None:
    connection = http.client.HTTPConnection(live.url.removeprefix("http://"), timeout=60)
    connection.request("GET", f"{path}?filter={'x' * 66_000}")
    answer = connection.getresponse()
    connection.close()
    document = live.world.app.openapi()
    assert answer.status == 400
    assert document["paths"][path]["get"]["responses"]["400"] == {"$ref": "#/components/responses/Unreadable"}
    documented = document["components"]["responses"]["Unreadable"]["content"]
    assert str(answer.headers["content-type"]).partition(";")[0] in documented


@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", ["administrator", "rep"])
def test_no_server_error_and_no_schema_violation(live: Live, role: str) -> None:
    print(f"seed {SEED}")
    calls, faults = explore(live, role, BUDGET_S, 12)
    assert not faults, f"seed {SEED}: {len(faults)} faults\n\n" + "\n\n".join(fault[:1500] for fault in faults[:20])
    assert calls > 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", ["administrator", "rep"])
def test_no_server_error_and_no_schema_violation_for_long(live: Live, role: str) -> None:
    print(f"seed {SEED}")
    calls, faults = explore(live, role, 1200, 300)
    assert not faults, f"seed {SEED}: {len(faults)} faults\n\n" + "\n\n".join(fault[:1500] for fault in faults[:20])
    assert calls > 5000
