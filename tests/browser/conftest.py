"""A running geocrm with a small demo company, and pages of a real browser that may reach nothing else."""

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import uvicorn
from argon2 import PasswordHasher
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect, sync_playwright
from sqlalchemy import text

from geocrm.api.app import create_app
from geocrm.db.engine import Database
from geocrm.demo import load
from geocrm.settings import CHECKOUT

PASSWORD = "demo-geocrm"
CUSTOMERS = 1_500
DIST = CHECKOUT / "maps" / "dist"
AXE = CHECKOUT / "maps" / "node_modules" / "axe-core" / "axe.min.js"
SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1280, "height": 800},
    "phone": {"width": 360, "height": 640},
}
# A customer whose name would run, were it ever taken for HTML.
HOSTILE = "<img src=x onerror=\"document.title='run'\"> & Sons"
# Software WebGL; and none of the requests that the browser makes for itself.
FLAGS = [
    "--no-sandbox",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]
SLOW_MS = 40_000
expect.set_options(timeout=20_000)

Size = Literal["desktop", "phone"]
Scheme = Literal["light", "dark"]


@dataclass
class Server:
    """The running application, and where people are on its map."""

    url: str
    database: Database
    lon: float
    lat: float
    visible: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="session")
def server(new_database: Callable[[], Database]) -> Iterator[Server]:
    """The API and the built web application on a database of their own with a small demo company in it."""
    if not (DIST / "index.html").is_file():
        pytest.fail("the web application is not built: run `make setup`")
    database = new_database()
    load.load(database, customers=CUSTOMERS)
    with database.writing() as session:
        busiest = session.execute(
            text(
                "SELECT ST_X(location), ST_Y(location) FROM site_lookup ORDER BY"
                " (SELECT count(*) FROM site_lookup o WHERE o.location && ST_Expand(site_lookup.location, 0.1)) DESC,"
                " site_id LIMIT 1"
            )
        ).one()
        session.execute(
            text("UPDATE customers SET name = :name WHERE id = (SELECT min(customer_id) FROM site_lookup)"),
            {"name": HOSTILE},
        )
        # what a strong hash costs at every signing in is no concern of these tests
        cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
        session.execute(text("UPDATE users SET password_hash = :hash"), {"hash": cheap})
    database.settings.webhook_allow_private = True  # receivers of tests listen on this machine
    app = create_app(database, database.settings.model_copy(update={"login_attempts_per_15_min": 1000}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not running.started:
        assert thread.is_alive(), "the API did not start"
        assert time.monotonic() < deadline, "the API did not start in time"
        time.sleep(0.02)
    yield Server(f"http://127.0.0.1:{port}", database, float(busiest[0]), float(busiest[1]))
    running.should_exit = True
    thread.join(15)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
    )
    if not found:
        pytest.skip("no Chromium on this machine (`make setup` installs it where it can)")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


class Screen:
    """One page at one size, with what the tests do on it again and again."""

    def __init__(self, page: Page, server: Server, size: Size) -> None:
        self.page = page
        self.server = server
        self.size = size

    def open(self, query: str = "") -> None:
        """The page of an address; the view is that of the busiest town unless the query says another."""
        if "at=" not in query:
            query = f"?at={self.server.lon:.5f},{self.server.lat:.5f},11" + query.replace("?", "&", 1)
        self.page.goto(self.server.url + "/" + query)

    def sign_in(self, person: str = "admin", query: str = "") -> None:
        """Open an address and sign in as one of the demo company's people; returns when the map is drawn."""
        self.open(query)
        self.page.get_by_label("E-mail address").fill(f"{person}@demo.example")
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.drawn()

    def drawn(self) -> None:
        """Wait until the map has drawn everything."""
        self.page.wait_for_timeout(150)
        self.page.wait_for_selector("html[data-map=ready]", timeout=SLOW_MS)

    def menu(self, name: str) -> None:
        """Open a panel from the menu."""
        self.page.get_by_role("navigation", name="Main").get_by_role("button", name=name).click()

    def tally(self) -> int:
        """How many customers the page says are in view."""
        self.drawn()
        said = self.page.locator(".tally [role=status]").inner_text()
        found = re.match(r"([\d,]+) customer", said)
        return int(found[1].replace(",", "")) if found else 0

    def ask(self, path: str) -> Any:
        """The API's answer to the signed-in person."""
        answer = self.page.request.get(self.server.url + path)
        assert answer.ok, f"{path}: {answer.status} {answer.text()}"
        return answer.json()

    def axe(self, state: str) -> None:
        """No violation of WCAG 2.2 AA or of axe's best practices in the present state."""
        found = self.page.evaluate(
            "async () => (await axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa',"
            " 'best-practice']})).violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.html.slice(0, 200) + ' '"
            " + n.failureSummary).join(' | '))"
        )
        assert found == [], f"{state} ({self.size}): {found}"


Opening = Callable[..., Screen]


@pytest.fixture
def open_screen(browser: Browser, server: Server) -> Iterator[Opening]:
    """`open_screen("phone", scheme="dark")`: a fresh page. At the end: nothing outside was asked for, nothing broke."""
    # a pattern, not a function: what is asked of the server itself makes no way through this process
    elsewhere = re.compile(rf"^(?!{re.escape(server.url)}/)")
    outside: list[str] = []
    broken: list[str] = []
    contexts = []

    def refuse(route: Route) -> None:
        outside.append(route.request.url)
        route.abort()

    def open_one(size: Size = "desktop", scheme: Scheme = "light", position: bool = True) -> Screen:
        context = browser.new_context(
            viewport=SIZES[size],
            color_scheme=scheme,
            has_touch=size == "phone",
            is_mobile=size == "phone",
            reduced_motion="reduce",
            geolocation={"longitude": server.lon, "latitude": server.lat},
            permissions=["geolocation"] if position else [],
        )
        contexts.append(context)
        context.set_default_timeout(SLOW_MS)
        context.add_init_script(path=AXE)
        context.route(elsewhere, refuse)
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("dialog", lambda dialog: broken.append(f"dialog: {dialog.message}"))
        page.on("console", lambda line: broken.append(line.text) if _is_fault(line.type, line.text) else None)
        return Screen(page, server, size)

    yield open_one
    for context in contexts:
        context.close()
    assert outside == [], "the page asked for what is not on this server"
    assert broken == []


def _is_fault(kind: str, said: str) -> bool:
    """Errors and refusals of the security policy; an answer of 4xx or 5xx is told by the page itself."""
    return (kind == "error" and "Failed to load resource" not in said) or "Content Security Policy" in said


__all__ = ["HOSTILE", "Opening", "Screen", "Server", "expect"]
