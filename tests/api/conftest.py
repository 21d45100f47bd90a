"""An application on a database of its own with a small company in it, and a client for each of its people."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from geocrm import access
from geocrm.api.app import create_app
from geocrm.db import models
from geocrm.db.engine import Database
from tests.makers import make_customer, make_sale, make_site, make_team, make_user

PASSWORD = "a long enough password"
_HASH = access.hash_password(PASSWORD)
ROLES = ("administrator", "manager", "rep", "marketer", "analyst")


@dataclass
class World:
    """A small company: two teams, five roles, customers owned, in territories, and nobody's."""

    database: Database
    app: FastAPI
    users: dict[str, int] = field(default_factory=dict)
    emails: dict[str, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    started: TestClient | None = None
    signed_in: dict[str, tuple[str, str]] = field(default_factory=dict)  # cookie and CSRF token by role

    def new_client(self) -> TestClient:
        """A client of its own, on the event loop on which the application was started."""
        made = TestClient(self.app, raise_server_exceptions=False)
        assert self.started is not None
        made.portal = self.started.portal
        return made


def sign_in(app_client: TestClient, email: str) -> TestClient:
    """The client, signed in, with its CSRF token as default header."""
    answer = app_client.post("/v1/sessions", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    app_client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
    return app_client


def open_session(world: World, who: str) -> tuple[str, str]:
    """Cookie and CSRF token of a session made in the database: argon2 is slow by design, and has tests of its own."""
    token, digest = access.new_token()
    csrf, _ = access.new_token()
    with world.database.writing() as session:
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        session.add(models.UserSession(digest=digest, user_id=world.users[who], csrf_token=csrf, expires_at=expires_at))
    return token, csrf


@pytest.fixture(scope="module")
def world(new_database: Callable[[], Database]) -> Iterator[World]:
    """The company, made anew for each module of tests (its requests commit)."""
    database = new_database()
    made = World(database, create_app(database))
    with database.writing() as session:
        north = make_team(session, "North")
        south = make_team(session, "South")
        for role in ROLES:
            team = north.id if role in ("manager", "rep") else None
            user = make_user(session, role, team_id=team, email=f"{role}@example.com", password_hash=_HASH)
            made.users[role], made.emails[role] = user.id, user.email
        other = make_user(session, "rep", team_id=south.id, email="other@example.com", password_hash=_HASH)
        made.users["other"], made.emails["other"] = other.id, other.email
        made.ids |= {"north": north.id, "south": south.id}
        layer = models.Layer(key="sales", name="Sales", kind="territories", is_primary=True)
        session.add(layer)
        session.flush()
        front = models.Area(layer_id=layer.id, name="Front Range", owner_id=made.users["rep"])
        coast = models.Area(layer_id=layer.id, name="Coast", owner_id=other.id)
        session.add_all([front, coast])
        session.flush()
        made.ids |= {"layer": layer.id, "front": front.id, "coast": coast.id}
        for name, owner, area, lon, lat in (
            ("Alpine Outfitters", "rep", None, -104.99, 39.74),
            ("Boulder Bikes", "other", front.id, -105.27, 40.01),
            ("Coastal Surf", "other", coast.id, -118.24, 34.05),
            ("Drifting Nobody", None, None, -74.0, 40.7),
        ):
            customer = make_customer(
                session,
                lon,
                lat,
                name=name,
                kind="organisation",
                owner_id=made.users[owner] if owner else None,
                territory_ids=[area] if area else [],
                site={"city": name.split()[0], "region": "CO", "postal_code": "80202", "line1": "1 Main St"}
                | ({"territory_id": area} if area else {}),
            )
            made.ids[name.split()[0]] = customer.id
            make_sale(session, customer, "120.50", channel="shop")
            session.add(
                models.Contact(
                    customer_id=customer.id, name="Ada", email=f"ada.{customer.id}@example.com", phone="+1 303 555 0100"
                )
            )
        session.flush()
        far = make_site(
            session, session.get(models.Customer, made.ids["Boulder"]), -110.0, 45.0, territory_id=coast.id, city="Far"
        )
        made.ids["far_site"] = far.id
        for name, scopes in (
            ("reader", ["customers:read"]),
            ("exact", ["customers:read", "locations:exact", "contacts"]),
            ("writer", ["customers:read", "customers:write", "locations:exact", "contacts"]),
            ("everything", sorted(access.SCOPES)),
            ("nothing", []),
        ):
            token, digest = access.new_token("gk_")
            session.add(
                models.ApiKey(user_id=made.users["rep"], name=name, prefix=token[:10], digest=digest, scopes=scopes)
            )
            made.keys[name] = token
    with TestClient(made.app, raise_server_exceptions=False) as started:
        made.started = started
        yield made


@pytest.fixture
def client(world: World) -> Iterator[Callable[[str | None], TestClient]]:
    """`client("rep")` is signed in; `client("key:reader")` sends that key; `client(None)` is nobody."""
    opened: dict[str | None, TestClient] = {}

    def get(who: str | None) -> TestClient:
        if who not in opened:
            made = world.new_client()
            if who is not None and who.startswith("key:"):
                made.headers["Authorization"] = f"Bearer {world.keys[who.removeprefix('key:')]}"
            elif who is not None:
                if who not in world.signed_in:
                    world.signed_in[who] = open_session(world, who)
                made.cookies["geocrm_session"], made.headers["X-CSRF-Token"] = world.signed_in[who]
            opened[who] = made
        return opened[who]

    yield get
    for made in opened.values():
        made.close()
