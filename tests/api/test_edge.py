"""What holds for every request: headers, limits, problems, logs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from geocrm.api.app import create_app
from geocrm.api.dependencies import allowed_of
from geocrm.api.edge import Limits, believe, trusted
from geocrm.api.web import Web
from geocrm.errors import SetupError
from geocrm.settings import Settings
from tests.api.conftest import World

Clients = Callable[[str | None], TestClient]


def test_security_headers_stand_on_every_answer(client: Clients) -> None:
    for path in ("/health", "/v1/me", "/v1/nothing", "/", "/openapi.json"):
        headers = client(None).get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "worker-src 'self' blob:" in headers["content-security-policy"]
        assert headers["x-request-id"].startswith("req_")
        assert "strict-transport-security" not in headers


def test_hsts_behind_a_tls_proxy(world: World) -> None:
    app = create_app(world.database, Settings(home=world.database.settings.home, secure_cookies=True))
    headers = TestClient(app).get("/health").headers
    assert headers["strict-transport-security"].startswith("max-age=")


def test_wrong_addresses_and_methods_are_problems(client: Clients) -> None:
    missing = client(None).get("/v1/nothing")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    wrong = client(None).put("/v1/customers", json={})
    assert (wrong.status_code, wrong.headers["content-type"]) == (405, "application/problem+json")
    assert "GET" in wrong.headers["allow"]
    unreadable = client("rep").post("/v1/customers", content="{", headers={"Content-Type": "application/json"})
    assert (unreadable.status_code, unreadable.headers["content-type"]) == (422, "application/problem+json")


def test_too_large_a_body_is_refused_before_it_is_read(client: Clients) -> None:
    def endless() -> object:
        for _ in range(40):
            yield b"x" * (1 << 20)

    answer = client("rep").post(
        "/v1/customers",
        content=endless(),
        headers={"Content-Type": "application/json"},  # type: ignore[arg-type]
    )
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    declared = client("rep").post("/v1/customers", content=b"{}", headers={"Content-Length": str(1 << 40)})
    assert declared.status_code == 413


def test_too_many_requests_are_told_when_to_come_back(world: World) -> None:
    app = create_app(world.database, Settings(home=world.database.settings.home, rate_limit_per_minute=3))
    client = TestClient(app)
    answers = [client.get("/v1/nothing") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
    last = answers[-1].headers
    assert 1 <= int(last["retry-after"]) <= 60
    assert last["ratelimit-policy"] == '"minute";q=3;w=60'
    assert last["ratelimit"].startswith('"minute";r=0;t=')
    assert client.get("/health").status_code == 200


def test_invented_credentials_do_not_evade_the_limit(world: World) -> None:
    app = create_app(world.database, Settings(home=world.database.settings.home, rate_limit_per_minute=5))
    with TestClient(app) as client:
        key = {"Authorization": f"Bearer {world.keys['reader']}"}
        assert client.get("/v1/customers/nearby?lon=-105&lat=40", headers=key).status_code == 200
        answers = [client.get("/v1/me", headers={"Authorization": f"Bearer gk_{n}"}).status_code for n in range(6)]
        assert answers == [401] * 4 + [429] * 2  # the key's first request came from an address as yet
        assert client.get("/v1/me", headers=key).status_code == 200  # a good one counts for itself
        cookies = [client.get("/v1/me", headers={"Cookie": f"geocrm_session={n}"}).status_code for n in range(2)]
        assert cookies == [429, 429]


def test_only_trusted_proxies_say_who_asks() -> None:
    def seen(peer: str, forwarded: str | None, proxies: str, proto: str = "") -> tuple[str, str]:
        scope = {"client": (peer, 4711), "scheme": "http"}
        raw = {"x-forwarded-proto": proto} if proto else {}
        believe(scope, Headers(raw | ({"x-forwarded-for": forwarded} if forwarded else {})), trusted(proxies))
        return scope["client"][0], scope["scheme"]  # type: ignore[return-value]

    assert seen("203.0.113.9", "198.51.100.1", "10.0.0.0/8", "https") == ("203.0.113.9", "http")
    assert seen("10.1.2.3", "198.51.100.1", "10.0.0.0/8", "https") == ("198.51.100.1", "https")
    # what a client wrote itself stands on the left
    assert seen("10.1.2.3", "1.1.1.1, 198.51.100.1, 10.9.9.9", "10.0.0.0/8")[0] == "198.51.100.1"
    assert seen("10.1.2.3", "2001:db8::7", "10.0.0.0/8,::1")[0] == "2001:db8::7"
    assert seen("::ffff:10.1.2.3", "198.51.100.1", "10.0.0.0/8")[0] == "198.51.100.1"
    assert seen("10.1.2.3", "1.1.1.1, nonsense", "10.0.0.0/8")[0] == "10.1.2.3"
    assert seen("10.1.2.3", None, "10.0.0.0/8")[0] == "10.1.2.3"
    assert Settings().trusted_proxies == ""
    with pytest.raises(SetupError, match="GEOCRM_TRUSTED_PROXIES"):
        trusted("10.0.0.0/8, everybody")


def test_the_counts_of_a_minute_are_bounded() -> None:
    limits = Limits(10)
    for number in range(100_050):
        limits.take(str(number).encode())
    assert len(limits.counts) <= 100_001


def test_logs_hold_no_token_no_position_and_no_name(
    world: World, client: Clients, capfd: pytest.CaptureFixture[str]
) -> None:
    rep = client("rep")
    token = rep.cookies["geocrm_session"]
    capfd.readouterr()
    rep.get("/v1/customers/nearby?lon=-104.98765&lat=39.74321")
    rep.get("/v1/customers?q=Canary Kitchens")
    rep.post("/v1/customers", json={"kind": "person", "name": "Canary Person", "nonsense": "Canary"})
    world.new_client().post("/v1/sessions", json={"email": "canary@example.com", "password": "canary canary canary"})
    out, err = capfd.readouterr()
    written = out + err
    assert written.count('"event": "request"') == 4
    for secret in (token, "104.98765", "39.74321", "Canary", "canary@", "canary canary"):
        assert secret not in written
    first, second = (json.loads(line) for line in err.splitlines()[:2])
    assert first["route"] == "/v1/customers/nearby"
    assert second["user_id"] == world.users["rep"]


def test_only_these_operations_are_open_to_everybody() -> None:
    document = create_app().openapi()
    open_to_all = {
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
        if not operation.get("security")
    }
    assert open_to_all == {"get_health", "get_ready", "sign_in"}
    assert allowed_of is not None


@pytest.fixture
def site(tmp_path: Path) -> TestClient:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>geocrm</title>")
    (tmp_path / "assets" / "main-abc123.js").write_text("1")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text("docs")
    (tmp_path.parent / "secret.txt").write_text("secret")
    return TestClient(create_app(None, Settings(web_dir=tmp_path)))


def test_the_web_application_is_served_from_files(site: TestClient) -> None:
    page = site.get("/")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-cache")
    script = site.get("/assets/main-abc123.js")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert site.get("/customers/cus_1?lon=1").text == page.text
    assert site.get("/docs", follow_redirects=True).text == "docs"
    assert site.get("/assets/gone.js").status_code == 404
    assert site.get("/favicon.gone").status_code == 404


def test_no_address_leads_out_of_the_directory(site: TestClient, tmp_path: Path) -> None:
    for path in ("/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt"):
        answer = site.get(path)
        assert "secret" not in answer.text, path
    web = Web(tmp_path)
    assert web._file("../secret.txt") is None
    assert web._file(str(tmp_path.parent / "secret.txt")) is None
    assert web._file("a\x00b") is not None
