"""The typed Python client: complete, strictly typed, and says what the API says."""

import asyncio
import base64
import hashlib
import hmac
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from geocrm.settings import CHECKOUT

EXAMPLE = CHECKOUT / "clients" / "examples" / "first_app.py"
DESCRIPTION = json.loads((CHECKOUT / "maps" / "openapi.json").read_text(encoding="utf-8"))
OPERATIONS = {
    told["operationId"]: (method.upper(), path, told)
    for path, item in DESCRIPTION["paths"].items()
    for method, told in item.items()
}


@pytest.fixture
def client(site: Path) -> Any:
    return importlib.import_module("geocrm_client")


class Answering:
    """Stands for geocrm: notes what it is asked, answers what it is told."""

    def __init__(self, *answers: httpx2.Response) -> None:
        self.answers = list(answers)
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def behind(self, opened: Any) -> Any:
        opened.http = httpx2.Client(transport=httpx2.MockTransport(self), **opened.options)
        return opened


def problem(status: int, **told: Any) -> httpx2.Response:
    body = {"type": "https://geocrm.example/problems/conflict", "title": "Conflict", "status": status} | told
    return httpx2.Response(status, json=body, headers={"X-Request-Id": "req_1", "Retry-After": "0"})


def type_check(site: Path, tmp_path: Path, *paths: Path) -> str:
    """What mypy says, as strictly as it can."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "mypy", *paths],
        env=os.environ | {"MYPYPATH": str(site)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


MISUSES = """\
from geocrm_client import AsyncGeocrm, Geocrm

def plain(geocrm: Geocrm) -> None:
    found = geocrm.find_eligible_offers(customer="cus_1", lon=1.0, lat=2.0)
    left: int | None = found["data"][0]["left"]["in_all"]
    print(left, [offer["name"].upper() for offer in geocrm.every(geocrm.list_offers, limit=3)])
    geocrm.create_offer({"name": "Coffee", "titel": "A coffee on us"})
    geocrm.find_eligible_offers(customer=3, lon=1.0, lat=2.0)
    geocrm.find_eligible_offers(customer="cus_1", lon=1.0)
    found["data"][0]["nmae"]
    geocrm.find_offers()

async def waiting(geocrm: AsyncGeocrm) -> None:
    async for customer in geocrm.every(geocrm.list_customers, stage="active"):
        customer["stage"] == "gone"
"""


def test_it_is_typed_and_so_is_the_example(site: Path, tmp_path: Path) -> None:
    (tmp_path / "misuses.py").write_text(MISUSES)
    said = type_check(site, tmp_path, site / "geocrm_client", EXAMPLE, tmp_path / "misuses.py")
    wrong = [(int(line), kind) for line, kind in re.findall(r"misuses\.py:(\d+): error: .*\[([\w-]+)\]", said)]
    assert wrong == [
        (7, "typeddict-unknown-key"), (8, "arg-type"), (9, "call-arg"), (10, "typeddict-item"), (11, "attr-defined"),
        (15, "comparison-overlap"),
    ], said  # fmt: skip
    assert len(re.findall("error:", said)) == len(wrong), said


def test_the_example_has_forty_lines() -> None:
    code = EXAMPLE.read_text().split('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 40


def test_every_operation_has_a_method_that_asks_its_address(client: Any) -> None:
    server = Answering(httpx2.Response(200, json={}))
    plain = server.behind(client.Geocrm("http://geocrm.test/"))
    assert len(OPERATIONS) > 140
    for name, (method, path, told) in OPERATIONS.items():
        call = getattr(plain, name)
        needed = [p for p in inspect.signature(call).parameters.values() if p.default is p.empty]
        given = {p.name: {"made": "up"} if p.name == "body" else "a/b" for p in needed}
        found = call(**given)
        if inspect.isgenerator(found):  # of events: it asks when it is read
            list(found)
        asked = server.asked[-1]
        assert asked.method == method, name
        assert asked.url.raw_path.decode().partition("?")[0] == re.sub(r"\{\w+\}", "a%2Fb", path), name
        missing = {p["name"] for p in told.get("parameters", []) if p.get("required")} - set(given)
        assert not missing, f"{name} asks without {missing}"
    both = {name for name in vars(client.AsyncGeocrm) if not name.startswith("_")}
    assert both == {name for name in vars(client.Geocrm) if not name.startswith("_")} == set(OPERATIONS)


def test_what_it_sends(client: Any) -> None:
    server = Answering(httpx2.Response(201, json={"id": "off_1"}))
    app = server.behind(client.Geocrm("http://geocrm.test", key="gk_1"))
    app.redeem_offer("off_1", {"customer_id": "cus_1"}, idempotency_key="till-7")
    app.edit_place("pla_1", {"name": "Corner"}, if_match=3)
    app.list_customers(stage="active", limit=5)
    redeemed, edited, listed = server.asked
    assert (redeemed.headers["authorization"], redeemed.headers["idempotency-key"]) == ("Bearer gk_1", "till-7")
    assert json.loads(redeemed.content) == {"customer_id": "cus_1"}
    assert edited.headers["if-match"] == '"3"'
    assert dict(listed.url.params) == {"stage": "active", "limit": "5"}
    app.create_import({"file": ("a.csv", b"name\nAda"), "kind": "customers", "source": None})
    sent = server.asked[-1].content
    assert b'filename="a.csv"' in sent
    assert b'name="kind"\r\n\r\ncustomers' in sent
    assert b'name="source"' not in sent


def test_problems_are_exceptions_and_a_busy_server_is_asked_again(client: Any) -> None:
    server = Answering(problem(429), problem(503), httpx2.Response(200, json={"data": []}))
    assert server.behind(client.Geocrm("http://geocrm.test")).list_offers() == {"data": []}
    assert len(server.asked) == 3
    for asks, times in (
        (lambda app: app.redeem_offer("off_1", {"customer_id": "cus_1"}), 1),  # perhaps done already
        (lambda app: app.redeem_offer("off_1", {"customer_id": "cus_1"}, idempotency_key="a"), 3),
    ):
        server = Answering(problem(503, detail="The database is away."))
        with pytest.raises(client.Problem, match=r"^503 The database is away\.$"):
            asks(server.behind(client.Geocrm("http://geocrm.test")))
        assert len(server.asked) == times
    fault = {"pointer": "/name", "detail": "is missing"}
    server = Answering(problem(409, reasons=["cap_reached"], errors=[fault]))
    with pytest.raises(client.Problem) as caught:
        server.behind(client.Geocrm("http://geocrm.test")).end_offer("off_1", if_match="*")
    told = caught.value
    assert (told.status, told.kind, told.errors, told.request_id) == (409, "conflict", [fault], "req_1")
    assert told.told["reasons"] == ["cap_reached"]
    server = Answering(httpx2.Response(502, text="<h1>Bad gateway</h1>"))
    with pytest.raises(client.Problem, match="502 <h1>Bad gateway"):
        server.behind(client.Geocrm("http://geocrm.test")).list_offers()


def test_every_row_of_a_list(client: Any) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        at = int(request.url.params.get("cursor", "0"))
        assert request.url.params["stage"] == "active"
        more = str(at + 2) if at < 4 else None
        return httpx2.Response(200, json={"data": [at, at + 1], "has_more": bool(more), "next_cursor": more})

    plain = client.Geocrm("http://geocrm.test")
    plain.http = httpx2.Client(transport=httpx2.MockTransport(answer), **plain.options)
    assert list(plain.every(plain.list_customers, stage="active")) == [0, 1, 2, 3, 4, 5]

    async def gather() -> list[int]:
        async with client.AsyncGeocrm("http://geocrm.test") as waiting:
            waiting.http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer), **waiting.options)
            return [row async for row in waiting.every(waiting.list_customers, stage="active")]

    with ThreadPoolExecutor(1) as apart:  # a browser that other tests use keeps a loop running in this thread
        assert apart.submit(lambda: asyncio.run(gather())).result() == [0, 1, 2, 3, 4, 5]


def test_a_session_carries_its_token(client: Any) -> None:
    server = Answering(httpx2.Response(200, json={"csrf_token": "t0"}, headers={"Set-Cookie": "geocrm_session=s0"}))
    app = server.behind(client.Geocrm("http://geocrm.test"))
    app.sign_in({"email": "ada@example.com", "password": "a-long-password"})
    app.create_team({"name": "North"})
    first, second = server.asked
    assert "x-csrf-token" not in first.headers
    assert (second.headers["x-csrf-token"], second.headers["cookie"]) == ("t0", "geocrm_session=s0")


def signed(secret: bytes, number: str, sent: int, body: bytes) -> str:
    """As the standard has it: HMAC-SHA256 over id, time and body, with dots."""
    digest = hmac.new(secret, f"{number}.{sent}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    ("spoil", "right"),
    [
        (lambda headers: None, True),
        (lambda headers: headers.update({"Webhook-Signature": "v1,AAAA " + headers["Webhook-Signature"]}), True),
        (lambda headers: headers.update({"Webhook-Signature": "v1,AAAA"}), False),
        (lambda headers: headers.update({"Webhook-Id": "evt_2"}), False),
        (lambda headers: headers.update({"Webhook-Timestamp": "1614265931"}), False),
        (lambda headers: headers.pop("Webhook-Signature"), False),
    ],
)
def test_messages_prove_from_whom_they_are(client: Any, spoil: Callable[[dict[str, str]], object], right: bool) -> None:
    secret, body, sent = b"0123456789abcdef0123456789abcdef", b'{"type": "geofence.entered"}', 1_614_265_330
    headers = {
        "Webhook-Id": "evt_1", "Webhook-Timestamp": str(sent), "Webhook-Signature": signed(secret, "evt_1", sent, body),
    }  # fmt: skip
    spoil(headers)
    shown = "whsec_" + base64.b64encode(secret).decode()
    if right:
        assert client.webhooks.read(shown, headers, body, now=sent + 299)["type"] == "geofence.entered"
        with pytest.raises(client.webhooks.NotFromGeocrm, match="too old"):
            client.webhooks.read(shown, headers, body, now=sent + 301)
    else:
        with pytest.raises(client.webhooks.NotFromGeocrm):
            client.webhooks.read(shown, headers, body, now=sent)


def test_the_message_that_the_standard_publishes(client: Any) -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    read = client.webhooks.read
    assert read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers, b'{"test": 2432232314}', now=1_614_265_330)
