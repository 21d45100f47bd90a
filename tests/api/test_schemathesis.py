"""schemathesis on every operation of the running application: no server error, nothing that the document does not say.

`make test` calls every operation with data that fits and with data that does not, always the same ones; `make soak`
draws new ones for as long as it lasts.

`positive_data_acceptance` is not asked: a well-formed id need not exist, which is 404 or 422 by right. Signing out is
left out (it would end the session that asks), and so is the event stream (it is made to stay open).
"""

import contextlib
import http.client
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from schemathesis import GenerationMode
from schemathesis.core import NotSet
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks
from sqlalchemy import text

from geocrm import access, jobs
from geocrm.api.app import create_app
from geocrm.campaigns import automations, entries, geofences, webhooks
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.segmentation import runs, segmentations
from geocrm.settings import Settings
from geocrm.spatial.layers import create_draft
from tests.api.conftest import World, open_session
from tests.makers import make_customer, make_place, make_sale, make_team, make_user

SEED = 86177386  # `make test` calls the same each time; GEOCRM_TEST_SEED is another seed, `make soak` draws one
LEFT_OUT = {"sign_out", "follow_import"}
ALWAYS_FIT = {"get_health", "get_ready"}  # take nothing that could be wrong
THERE = {  # what the company of this test has
    "customer_id": "cus_1", "site_id": "sit_1", "contact_id": "con_1", "sale_id": "sal_1", "interaction_id": "int_1",
    "place_id": "pla_1", "layer": "lay_sales", "version": 1, "area_id": "ter_1", "user_id": "usr_1", "team_id": "tea_1",
    "segmentation_id": "sgm_1", "segment_id": "seg_1", "number": 1, "analysis_id": "ana_1",
    "offer_id": "off_1", "redemption_id": "red_1", "customer": "cus_1",
    "tag": "shops", "external_id": "a", "webhook_id": "whk_1", "delivery_id": "dlv_1",
    "automation_id": "aut_1", "audience_id": "aud_1", "task_id": "tsk_1",
}  # fmt: skip
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]


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
        webhook_allow_private=True,
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
        create_draft(session, layer.id, actor=access.SYSTEM, source="empty")
        for number in range(6):
            customer = make_customer(session, -105 + number / 10, 39.7, owner_id=world.users["rep"])
            make_sale(session, customer)
            session.add(models.Contact(customer_id=customer.id, name="Ada", email="ada@example.com"))
            session.add(models.Interaction(customer_id=customer.id, kind="note", occurred_at=customer.created_at))
            make_place(session, -105, 39.7)
            session.add(models.Product(name=f"Product {number}"))
            session.add(models.Task(customer_id=customer.id, title="Call", assignee_id=1, due_at=customer.created_at))
            session.add(
                models.Consent(
                    customer_id=customer.id, purpose="location", channel="app", granted_at=customer.created_at
                )
            )
        circle = {"center": {"lon": -105.0, "lat": 39.7}, "radius_m": 100.0}
        geofences.put(session, access.SYSTEM, "shops", "a", circle)
        into = {"kind": "audience", "audience_id": entries.create(session, access.SYSTEM, "At the door")}
        trigger = {"kind": "event", "type": "geofence.entered", "tag": "shops"}
        automations.create(session, access.SYSTEM, {"name": "Door", "trigger": trigger, "action": into})
        webhooks.create(session, access.SYSTEM, url="http://127.0.0.1:9/", allow_private=True)
        webhooks.send_test(session, access.SYSTEM, webhooks.open_for_edit(session, 1))
        divided = segmentations.create_segmentation(session, actor=access.SYSTEM, key="rfm", name="RFM", method="rfm")
        runs.start(session, divided.id, actor=access.SYSTEM, then_publish=True)
    jobs.run_queued(database)
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


@dataclass
class Round:
    """What one round of calls found: how many, which operations in which modes, and what was wrong."""

    calls: int = 0
    reached: set[tuple[str, str]] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)


def explore(live: Live, roles: Sequence[str], number: int, examples: int) -> Round:
    """Call every operation, in random order, with data that fits and data that does not: the same as each role."""
    headers = {}
    for role in roles:
        cookie, csrf = open_session(live.world, role)
        headers[role] = {"Cookie": f"geocrm_session={cookie}", "X-CSRF-Token": csrf}
    schema = schemathesis.openapi.from_dict(live.world.app.openapi())
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    operations = [operation for operation in operations if operation.definition.raw["operationId"] not in LEFT_OUT]
    random.Random(number).shuffle(operations)
    done = Round()
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            ask(done, operation, mode, live.url, headers, number, examples)
    for fault in done.faults.values():
        print(f"seed {number}: {fault}\n")
    print(
        f"{done.calls} calls, {len(done.reached)} of {2 * len(operations)} operations and modes, as {', '.join(roles)}"
    )
    return done


def ask(
    done: Round,
    operation: schemathesis.APIOperation,
    mode: GenerationMode,
    url: str,
    headers: dict[str, dict[str, str]],
    number: int,
    examples: int,
) -> None:
    """Call one operation with generated data, each time as every role of `headers`; every other call that fits is about
    things that are there."""
    turn = 0

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case) -> None:
        nonlocal turn
        turn += 1
        if mode is GenerationMode.POSITIVE and turn % 2:
            case.path_parameters |= {name: value for name, value in THERE.items() if name in case.path_parameters}
            if operation.headers.get("if-match"):
                case.headers["If-Match"] = "*"
        done.reached.add((operation.definition.raw["operationId"], mode.value))
        for role, own in headers.items():
            done.calls += 1
            try:
                answer = case.call(base_url=url, headers=own, timeout=60)
                case.validate_response(answer, checks=CHECKS, headers=own)
            except FailureGroup as group:
                for fault in group.exceptions:
                    what = f"{operation.label} {fault.title} {answer.status_code}"
                    done.faults.setdefault(what, f"as {role}: {told(case, fault)}")
            except Exception as error:  # no answer at all, or a fault of the checks: looked at, like the others
                what = f"{operation.label} {type(error).__name__}"
                done.faults.setdefault(what, f"as {role}: {told(case, error)}")

    # what takes no parameter and asks for no credential cannot be called with data that does not fit
    with contextlib.suppress(Unsatisfiable):
        call()


def told(case: schemathesis.Case, fault: BaseException) -> str:
    """A fault with the request that shows it, both cut."""
    body = "" if isinstance(case.body, NotSet) else f" {str(case.body)[:500]}"
    request = f"{case.method} {str(case.formatted_path)[:200]} {str(case.query)[:300]}{body}"
    return f"{type(fault).__name__}: {str(fault)[:800]}\n  {request}"


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


@pytest.fixture
def without_constants_of_the_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hypothesis tries constants that it finds in the modules loaded so far: with a given seed this test shall call
    the same, whatever else was changed or runs beside it."""
    monkeypatch.setattr(providers, "_get_local_constants", Constants)
    providers.CONSTANTS_CACHE.cache.clear()
    yield
    providers.CONSTANTS_CACHE.cache.clear()


def complain(faults: dict[str, str], number: int) -> str:
    return f"seed {number}: {len(faults)} faults\n\n" + "\n\n".join(list(faults.values())[:20])


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("without_constants_of_the_code")
def test_no_server_error_and_no_schema_violation(live: Live) -> None:
    number = int(os.environ.get("GEOCRM_TEST_SEED", SEED))
    done = explore(live, ("administrator", "rep"), number, 4)
    assert not done.faults, complain(done.faults, number)
    operations = {
        operation["operationId"] for item in live.world.app.openapi()["paths"].values() for operation in item.values()
    }
    assert operations >= LEFT_OUT | ALWAYS_FIT
    assert done.reached == (
        {(name, "positive") for name in operations - LEFT_OUT}
        | {(name, "negative") for name in operations - LEFT_OUT - ALWAYS_FIT}
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", ["administrator", "rep"])
def test_no_server_error_and_no_schema_violation_for_long(live: Live, role: str) -> None:
    """Rounds with seed, seed + 1 … until the time is over; a fault of a round is told with the round's own seed."""
    number = int(os.environ.get("GEOCRM_TEST_SEED", random.SystemRandom().randrange(10**9)))
    print(f"seed {number}")
    until = time.monotonic() + float(os.environ.get("GEOCRM_TEST_SECONDS", 1200))
    calls, rounds = 0, 0
    faults: dict[str, str] = {}
    while time.monotonic() < until:
        done = explore(live, [role], number + rounds, 25)
        calls += done.calls
        rounds += 1
        faults = done.faults | faults
    print(f"{calls} calls in {rounds} rounds as {role}, seed {number}, {len(faults)} faults")
    assert not faults, complain(faults, number)
    assert rounds > 1
