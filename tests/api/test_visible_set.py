"""One visible set on every route: list, search, nearby, tiles, counts, export, placing; against a pure-Python oracle.

The oracle imports nothing from geocrm: it knows users, teams, owners and territories as plain data and says who sees
which customers and sites.
"""

import csv
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.testclient import TestClient

from geocrm import jobs
from geocrm.access import SYSTEM
from geocrm.api.app import create_app
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.segmentation import publishing, runs, segmentations
from geocrm.spatial import lookup
from tests.api.conftest import World, open_session
from tests.makers import make_customer, make_site, make_team, make_user

SEED = random.SystemRandom().randrange(10**6)


# ---------------------------------------------------------------- the oracle: plain data, no geocrm


@dataclass
class Known:
    """The company as the oracle knows it."""

    teams: dict[int, int | None] = field(default_factory=dict)  # team → the one above
    users: dict[int, tuple[str, int | None]] = field(default_factory=dict)  # user → role, team
    areas: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)  # area → owner, team
    customers: dict[int, int | None] = field(default_factory=dict)  # customer → owner
    sites: dict[int, tuple[int, int | None, str]] = field(default_factory=dict)  # site → customer, area, placement
    primary: dict[int, int] = field(default_factory=dict)


def sights(known: Known, user: int) -> tuple[set[int], set[int]]:
    """Customers and sites that a user sees, by the words of the contract."""
    role, team = known.users[user]
    if role in ("administrator", "marketer", "analyst"):
        return set(known.customers), set(known.sites)
    below: set[int] = set()
    if role == "manager" and team is not None:
        below = {team}
        while True:
            more = {t for t, above in known.teams.items() if above in below} - below
            if not more:
                break
            below |= more
    owners = {user}
    if role == "manager":
        owners |= {u for u, (_, t) in known.users.items() if t in below}
    mine = set()
    for area, (owner, area_team) in known.areas.items():
        by_team = (
            area_team in below if role == "manager" else owner is None and area_team is not None and area_team == team
        )
        if owner in owners or by_team:
            mine.add(area)
    sites = {
        site for site, (customer, area, _) in known.sites.items() if known.customers[customer] in owners or area in mine
    }
    customers = {customer for customer, owner in known.customers.items() if owner in owners}
    return customers | {known.sites[site][0] for site in sites}, sites


# ---------------------------------------------------------------- a random company


@pytest.fixture(scope="module")
def company(new_database: Callable[[], Database]) -> Iterator[tuple[World, Known]]:
    dice = random.Random(SEED)
    print(f"seed {SEED}")
    database = new_database()
    world, known = World(database, create_app(database)), Known()
    with database.writing() as session:
        teams: list[int] = []
        for _ in range(5):
            team = make_team(session, parent_id=dice.choice([None, *teams]))
            teams.append(team.id)
            known.teams[team.id] = team.parent_id
        for role in ("administrator", "manager", "manager", "rep", "rep", "rep", "rep", "marketer", "analyst"):
            team_id = dice.choice([None, *teams]) if role in ("manager", "rep") else None
            user = make_user(session, role, team_id=team_id)
            known.users[user.id] = (role, team_id)
            world.users[str(user.id)] = user.id
        layer = models.Layer(key="sales", name="Sales", kind="territories", is_primary=True)
        session.add(layer)
        session.flush()
        reps = [user for user, (role, _) in known.users.items() if role in ("rep", "manager")]
        for number in range(8):
            area = models.Area(
                layer_id=layer.id,
                name=f"Area {number}",
                owner_id=dice.choice([None, *reps]),
                team_id=dice.choice([None, *teams]),
            )
            session.add(area)
            session.flush()
            known.areas[area.id] = (area.owner_id, area.team_id)
        made: list[models.Customer] = []
        for number in range(60):
            owner = dice.choice([None, None, *reps])
            customer = models.Customer(kind="person", stage="active", name=f"Customer number {number}", owner_id=owner)
            session.add(customer)
            session.flush()
            made.append(customer)
            known.customers[customer.id] = owner
            held: set[int] = set()
            for place in range(dice.choice([1, 1, 1, 2, 3])):
                area_id = dice.choice([None, None, *known.areas])
                placement = dice.choice(["placed", "placed", "placed", "flagged", "pending"])
                point = (dice.uniform(-105, -104), dice.uniform(39, 40)) if placement != "pending" else (None, None)
                site = make_site(
                    session,
                    customer,
                    *point,
                    territory_id=area_id if placement == "placed" else None,
                    placement=placement,
                    is_primary=place == 0,
                )
                known.sites[site.id] = (customer.id, site.territory_id, placement)
                if site.territory_id is not None:
                    held.add(site.territory_id)
            customer.territory_ids = sorted(held)
        session.flush()
        lookup.refresh(session, [customer.id for customer in made])
        rule = {"rules": [{"name": "Odd", "filter": {"field": "name", "op": "contains", "value": "1"}},
                          {"name": "Others", "filter": {"field": "stage", "value": "active"}}]}  # fmt: skip
        divided = segmentations.create_segmentation(
            session, actor=SYSTEM, key="odd", name="Odd", method="rule", parameters=rule
        )
        for _ in range(2):
            runs.start(session, divided.id, actor=SYSTEM, then_publish=True)
    jobs.run_queued(database)
    with database.writing() as session:
        publishing.activate(session, divided.id, actor=SYSTEM)
    world.ids["sgm"] = divided.id
    with TestClient(world.app, raise_server_exceptions=False) as started:
        world.started = started
        yield world, known


def signed_in(world: World, user: int) -> TestClient:
    client = world.new_client()
    cookie, csrf = open_session(world, str(user))
    client.cookies["geocrm_session"], client.headers["X-CSRF-Token"] = cookie, csrf
    return client


def pages(client: TestClient, path: str) -> list[dict[str, Any]]:
    """All rows of a list, following Link to its end."""
    rows: list[dict[str, Any]] = []
    next_path: str | None = path
    while next_path is not None:
        answer = client.get(next_path)
        assert answer.status_code == 200, answer.text
        rows += answer.json()["data"]
        link = answer.headers.get("link")
        next_path = link[1 : link.index(">")] if link else None
    return rows


def number(shown: str) -> int:
    return int(shown.partition("_")[2])


def test_one_visible_set_everywhere(company: tuple[World, Known]) -> None:
    world, known = company
    assert SYSTEM.sees_all
    for user in known.users:
        customers, sites = sights(known, user)
        placed = {site for site in sites if known.sites[site][2] == "placed"}
        client = signed_in(world, user)
        where = f"seed {SEED}, user {user} {known.users[user]}"

        listed = pages(client, "/v1/customers?limit=7")
        assert [number(row["id"]) for row in listed] == sorted(customers), where
        found = pages(client, "/v1/customers?q=Customer number&limit=11")
        assert sorted(number(row["id"]) for row in found) == sorted(customers), where
        assert client.get("/v1/customers/count").json()["customers"] == len(customers), where
        shape = client.get("/v1/customers?limit=500", headers={"Accept": "application/geo+json"}).json()
        assert {number(feature["id"]) for feature in shape["features"]} == customers, where

        near = pages(client, "/v1/customers/nearby?lon=-104.5&lat=39.5&limit=9")
        assert {number(row["site_id"]) for row in near} == placed, where
        assert len(near) == len(placed), where

        waits = pages(client, "/v1/placing?limit=5")
        assert {number(row["site_id"]) for row in waits} == sites - placed, where
        counted = client.get("/v1/placing/counts").json()["data"]
        assert sum(row["n"] for row in counted) == len(sites - placed), where

        tile = client.get("/tiles/customers.json").json()
        assert tile["sites"] == len(placed), where

        divided = client.get(f"/v1/segmentations/sgm_{world.ids['sgm']}").json()
        assert sum(row["customers"] for row in divided["segments"]) == len(customers), where
        members: list[int] = []
        for segment in divided["segments"]:
            inside = [number(row["id"]) for row in pages(client, f"/v1/segments/{segment['id']}/members?limit=7")]
            assert len(inside) == segment["customers"], where
            members += inside
            for wanted in (f"segment={segment['id']}", f'filter={{"field":"segments.odd","value":"{segment["id"]}"}}'):
                listed = pages(client, f"/v1/customers?{wanted}&limit=50")
                assert [number(row["id"]) for row in listed] == inside, (where, wanted)
                near = pages(client, f"/v1/customers/nearby?lon=-104.5&lat=39.5&limit=50&{wanted}")
                assert {number(row["site_id"]) for row in near} == {
                    site for site in placed if known.sites[site][0] in inside
                }, (where, wanted)
        assert sorted(members) == sorted(customers), where
        moves = client.get(f"/v1/segmentations/sgm_{world.ids['sgm']}/moves?from_run=1&to_run=2").json()["data"]
        assert sum(row["customers"] for row in moves) == len(customers), where

        shown_sites: set[int] = set()
        for customer in known.customers:
            answer = client.get(f"/v1/customers/cus_{customer}")
            assert answer.status_code == (200 if customer in customers else 404), (where, customer)
            if customer in customers:
                shown_sites |= {number(site["id"]) for site in answer.json()["sites"]}
                assert [row["key"] for row in answer.json()["segments"]] == ["odd"], where
        assert shown_sites == sites, where

        if known.users[user][0] in ("administrator", "manager", "rep"):
            export = client.get("/v1/exports/customers.csv")
            assert export.status_code == 200, where
            rows = list(csv.DictReader(io.StringIO(export.content.decode("utf-8-sig"))))
            assert {number(row["id"]) for row in rows} == customers, where
            assert {number(row["site_id"]) for row in rows if row["site_id"]} == sites, where
        client.close()


def test_a_row_that_exists_throughout_appears_exactly_once(company: tuple[World, Known]) -> None:
    """Pages are read while customers are created and deleted between them."""
    world, known = company
    admin = next(user for user, (role, _) in known.users.items() if role == "administrator")
    client = signed_in(world, admin)
    dice = random.Random(SEED)
    seen: list[int] = []
    extra: list[int] = []
    path: str | None = "/v1/customers?limit=6"
    while path is not None:
        answer = client.get(path)
        seen += [number(row["id"]) for row in answer.json()["data"]]
        link = answer.headers.get("link")
        path = link[1 : link.index(">")] if link else None
        with world.database.writing() as session:
            for _ in range(dice.randrange(3)):
                extra.append(make_customer(session, name="Passing by").id)
            if extra and dice.random() < 0.7:
                gone = session.get(models.Customer, extra.pop(dice.randrange(len(extra))))
                session.delete(gone)
        if len(seen) > 500:
            break
    for customer in known.customers:
        assert seen.count(customer) == 1, f"seed {SEED}"
    assert len(seen) == len(set(seen))
    with world.database.writing() as session:
        for customer_id in extra:
            session.delete(session.get(models.Customer, customer_id))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/customers?filter={}",
        "/v1/customers/count?filter={}",
        "/v1/customers/nearby?lon=-104.5&lat=39.5&filter={}",
    ],
)
def test_what_is_hidden_cannot_be_found_out_by_filtering(company: tuple[World, Known], path: str) -> None:
    world, known = company
    wanted = '{"field":"contact.email","op":"contains","value":"hidden"}'
    with world.database.writing() as session:
        for customer in known.customers:
            session.add(models.Contact(customer_id=customer, name="Ada", email="hidden@example.com"))
    for user, (role, _) in known.users.items():
        client = signed_in(world, user)
        answer = client.get(path.format(wanted))
        if role == "analyst":  # to whom all details are masked may not even ask
            assert answer.status_code == 422, answer.text
        else:
            assert answer.status_code == 200, answer.text
            body = answer.json()
            found = body["customers"] if "customers" in body else len(body["data"])
            # nobody consented, so that a marketer finds nothing
            assert (found > 0) == (role != "marketer" and bool(sights(known, user)[0])), (role, found)
        client.close()
