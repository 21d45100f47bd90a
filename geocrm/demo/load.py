"""Load the demo company into an empty database, by COPY, in one transaction: all of it or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db import audit
from geocrm.db.copying import points
from geocrm.db.engine import Database
from geocrm.demo import company, placing, plan, territories
from geocrm.demo.company import Chunk, World
from geocrm.demo.copying import copy, money
from geocrm.demo.placing import SOURCE
from geocrm.demo.sales import campaign_weeks
from geocrm.errors import Conflict
from geocrm.segmentation import statistics

PASSWORD = "demo-geocrm"
LOGINS = {
    "administrator": "admin@demo.example",
    "manager": "manager@demo.example",
    "rep": "rep@demo.example",
    "marketer": "marketer@demo.example",
    "analyst": "analyst@demo.example",
}
Progress = Callable[[str, int, int], None]


@dataclass
class Loaded:
    """What was loaded: rows per table, and the ids behind the world's rows."""

    rows: dict[str, int]
    users: list[int]
    places: list[int]
    products: list[int]
    layer_id: int
    areas: list[int]


def in_words(say: Callable[[str], Any]) -> Progress:
    """A progress that says in sentences how far the loading is: at once, then at most every five seconds."""
    began = said = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if what == "territories":
            say("  territories are assigned, with their history; gathering statistics")
        elif done == 0:
            say(f"  {company.NAME}: {total:,} customers with three years of sales, about a minute for every 50,000")
        elif done >= total:
            say(f"  all {total:,} customers are in ({now - began:.0f} s); assigning their territories")
        elif now - said >= 5:
            say(f"  {done:,} of {total:,} customers")
        else:
            return
        said = now

    return tell


def is_fresh(session: Session) -> bool:
    """Whether the database holds nothing yet: no customer, no user, no layer."""
    return not session.scalar(
        text("SELECT EXISTS (SELECT FROM customers) OR EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM layers)")
    )


def load(
    database: Database,
    *,
    customers: int = 50_000,
    seed: int = 1,
    until: date | None = None,
    progress: Progress | None = None,
    truth_directory: Path | None = None,
) -> Loaded:
    """Load the demo company of `seed` whose books end on `until` (default: the day its story ends).

    Writes as the worker, commits once, then gathers statistics. The truth goes to `truth_directory` (default
    `GEOCRM_HOME/demo`): truth.json and truth.parquet. Raises Conflict where the database is not empty.
    """
    say = progress or (lambda what, done, total: None)
    world = company.build_world(seed, until)
    truth: list[pd.DataFrame] = []
    with database.writing() as session:
        if not is_fresh(session):
            raise Conflict("The demo company needs an empty database: set GEOCRM_HOME to a new directory.")
        session.execute(text("SET LOCAL TimeZone = 'UTC'"))
        connection = _raw(session)
        loaded = Loaded({}, [], [], [], 0, [])
        _people(session, world, loaded)
        _places_and_products(connection, world, loaded)
        loaded.layer_id, loaded.areas, loaded.rows["areas"] = plan.add_layers(session, connection, world, loaded.users)
        outlines = plan.first_polygons(world)
        offsets = _Offsets()
        for chunk in _ahead(world, customers):
            say("customers", chunk.number * company.CHUNK, customers)
            _chunk(connection, chunk, placing.whereabouts(chunk.sites, outlines, loaded.areas), loaded, offsets)
            truth.append(chunk.truth)
        _set_sequences(connection)
        say("customers", customers, customers)
        plan.carry_out(session, world, loaded.layer_id, loaded.areas, loaded.users[0])
        say("territories", customers, customers)
        statistics.tell_all(session)
        audit.record(
            session, "demo.load", actor_id=None, after={"company": company.NAME, "customers": customers, "seed": seed}
        )
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as admin:
        admin.execute("ANALYZE")
    save_truth(world, pd.concat(truth, ignore_index=True), truth_directory or database.settings.home / "demo")
    return loaded


def save_truth(world: World, per_customer: pd.DataFrame, directory: Path) -> None:
    """Write truth.json (the numbers) and truth.parquet (one row a customer) to check analyses against."""
    directory.mkdir(parents=True, exist_ok=True)
    start, end = campaign_weeks(world)
    facts = {
        "company": company.NAME,
        "seed": world.seed,
        "books": [str(world.start), str(world.until)],
        "campaign_ran": [str(start), str(end)],
        "truth": world.truth.to_json(),
    }
    (directory / "truth.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    per_customer.to_parquet(directory / "truth.parquet", index=False)


def _raw(session: Session) -> psycopg.Connection[Any]:
    driver = session.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _ahead(world: World, customers: int) -> Iterator[Chunk]:
    """The chunks, the next one drawn while the present one is loaded."""
    count = -(-customers // company.CHUNK)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(company.chunk, world, 0, company.CHUNK, customers)
        for number in range(count):
            ready = coming.result()
            if number + 1 < count:
                coming = pool.submit(company.chunk, world, number + 1, company.CHUNK, customers)
            yield ready


@dataclass
class _Offsets:
    """Ids given so far."""

    sites: int = 0
    contacts: int = 0
    sales: int = 0
    interactions: int = 0


def _people(session: Session, world: World, loaded: Loaded) -> None:
    force = world.sales_force
    top = session.execute(text("INSERT INTO teams (name) VALUES ('Sales') RETURNING id")).scalar_one()
    teams: dict[str | None, int | None] = {None: None}
    for team in force.teams["team"]:
        teams[team] = session.execute(
            text("INSERT INTO teams (name, parent_id) VALUES (:name, :parent) RETURNING id"),
            {"name": team, "parent": top},
        ).scalar_one()
    demo = set(LOGINS.values())
    for user in force.users.itertuples(index=False):
        team = user.team if isinstance(user.team, str) else None
        loaded.users.append(
            session.execute(
                text(
                    "INSERT INTO users (email, name, role, team_id, password_hash) "
                    "VALUES (:email, :name, :role, :team, :hash) RETURNING id"
                ),
                {
                    "email": user.login,
                    "name": user.name,
                    "role": user.role,
                    "team": teams[team],
                    "hash": access.hash_password(PASSWORD) if user.login in demo else None,
                },
            ).scalar_one()
        )
    loaded.rows["users"] = len(loaded.users)


def _places_and_products(connection: psycopg.Connection[Any], world: World, loaded: Loaded) -> None:
    places = world.places
    n = len(places)
    loaded.places = list(range(1, n + 1))
    own = places["kind"].isin(["own", "depot"]).to_numpy()
    loaded.rows["places"] = copy(
        connection,
        "places",
        {
            "id": loaded.places,
            "kind": places["kind"],
            "name": places["name"],
            "brand": np.where(own, "Cairnwell", places["name"].str.rsplit(" ", n=1).str[0]),
            "line1": places["line1"],
            "city": places["city"],
            "region": places["region"],
            "postal_code": places["postal_code"],
            "country": ["US"] * n,
            "location": points(places["lon"].to_numpy(), places["lat"].to_numpy()),
            "location_precision": ["given"] * n,
            "precision_m": [25.0] * n,
            "location_source": ["file"] * n,
            "placement": ["placed"] * n,
            "floor_area_m2": places["floor_m2"],
            "attributes": [json.dumps({"opened_on": day}) for day in places["opened_on"]],
        },
    )
    copy(
        connection, "place_sources", {"source": [SOURCE] * n, "external_id": places["code"], "place_id": loaded.places}
    )
    products = world.products
    n = len(products)
    loaded.products = list(range(1, n + 1))
    loaded.rows["products"] = copy(
        connection,
        "products",
        {
            "id": loaded.products,
            "sku": products["sku"],
            "name": products["name"],
            "category": products["category"],
            "unit_price": products["price"],
            "unit_cost": products["cost"],
            "currency": ["USD"] * n,
        },
    )
    copy(
        connection,
        "product_sources",
        {"source": [SOURCE] * n, "external_id": products["sku"], "product_id": loaded.products},
    )


def _ids(table: list[int], rows: np.ndarray) -> pa.Array:
    """Ids behind rows of the world, NULL for row -1."""
    return pa.array(np.asarray([*table, 0], dtype=np.int64)[rows], mask=rows < 0)


def _chunk(
    connection: psycopg.Connection[Any], chunk: Chunk, known: pd.DataFrame, loaded: Loaded, offsets: _Offsets
) -> None:
    def put(table: str, columns: dict[str, object]) -> None:
        loaded.rows[table] = loaded.rows.get(table, 0) + copy(connection, table, columns)

    people, n = chunk.customers, len(chunk.customers)
    put(
        "customers",
        {
            "id": people["id"],
            "kind": people["kind"],
            "name": people["name"],
            "parent_id": people["parent_id"],
            "stage": people["stage"],
            "owner_id": _ids(loaded.users, people["owner"].to_numpy()),
            "territory_ids": placing.territories_of(people["id"], chunk.sites, known),
            "industry": people["industry"],
            "size_class": people["size_class"],
            "preferred_channel": people["preferred_channel"],
            "attributes": people["attributes"],
            "created_at": people["created_at"],
            "updated_at": people["created_at"],
        },
    )
    put(
        "customer_sources",
        {"source": [SOURCE] * n, "external_id": people["external_id"], "customer_id": people["id"]},
    )
    site_ids = _sites(put, chunk, known, offsets)
    m = len(chunk.contacts)
    put(
        "contacts",
        {
            "customer_id": chunk.contacts["customer_id"],
            "id": np.arange(offsets.contacts + 1, offsets.contacts + m + 1),
            **{column: chunk.contacts[column] for column in ("name", "role", "email", "phone", "is_primary")},
        },
    )
    offsets.contacts += m
    put("consents", {column: chunk.consents[column] for column in chunk.consents})
    _sales(put, chunk, loaded, offsets, site_ids)
    _interactions(put, chunk, loaded, offsets)
    named = _named(chunk)
    put(
        "named_accounts",
        {
            "customer_id": named,
            "layer_id": [loaded.layer_id] * len(named),
            "area_id": [loaded.areas[-1]] * len(named),
        },
    )
    put(
        "named_account_versions",
        {
            "layer_id": [loaded.layer_id] * len(named),
            "layer_version": [1] * len(named),
            "customer_id": named,
            "area_id": [loaded.areas[-1]] * len(named),
        },
    )


def _named(chunk: Chunk) -> np.ndarray:
    """The three largest resellers and schools of the chunk: strategic accounts by name."""
    trade = chunk.customers["industry"].isin(["reseller", "education"]).to_numpy()
    size = np.where(trade, chunk.truth["size"].to_numpy(), -1)
    largest = np.argsort(-size, kind="stable")[: territories.STRATEGIC_ACCOUNTS // 5]
    return np.sort(chunk.customers["id"].to_numpy()[largest[size[largest] > 0]])


Put = Callable[[str, dict[str, object]], None]


def _sites(put: Put, chunk: Chunk, known: pd.DataFrame, offsets: _Offsets) -> np.ndarray:
    """The sites with what we know of their place (`placing.whereabouts`); their ids."""
    sites, n = chunk.sites, len(chunk.sites)
    ids = np.arange(offsets.sites + 1, offsets.sites + n + 1)
    offsets.sites += n
    put(
        "sites",
        {
            "customer_id": sites["customer_id"],
            "id": ids,
            **{column: sites[column] for column in ("label", "line1", "line2", "city", "region", "postal_code")},
            "country": ["US"] * n,
            "location": points(known["lon"].to_numpy(), known["lat"].to_numpy()),
            **{
                column: known[column]
                for column in (
                    "location_precision",
                    "precision_m",
                    "location_source",
                    "placement",
                    "flags",
                    "territory_id",
                )
            },
            "is_primary": sites["is_primary"],
        },
    )
    nth = sites.groupby("customer_id").cumcount().to_numpy() + 1
    external = "C-" + sites["customer_id"].astype(str).str.zfill(7) + "/" + pd.Series(nth.astype(str))
    put(
        "site_sources",
        {"source": [SOURCE] * n, "external_id": external, "customer_id": sites["customer_id"], "site_id": ids},
    )
    return ids


def _sales(put: Put, chunk: Chunk, loaded: Loaded, offsets: _Offsets, site_ids: np.ndarray) -> None:
    sales, lines, n = chunk.sales, chunk.lines, len(chunk.sales)
    ids = np.arange(offsets.sales + 1, offsets.sales + n + 1)
    put(
        "sales",
        {
            "customer_id": sales["customer_id"],
            "id": ids,
            "occurred_at": sales["occurred_at"],
            "site_id": site_ids[sales["site_row"].to_numpy()],
            "place_id": _ids(loaded.places, sales["place_row"].to_numpy()),
            "channel": sales["channel"],
            "currency": ["USD"] * n,
            "amount": money(sales["amount"]),
            "cost": money(sales["cost"]),
            "discount": money(sales["discount"]),
            "returned": sales["returned"],
        },
    )
    put(
        "sale_lines",
        {
            "customer_id": lines["customer_id"],
            "sale_id": lines["sale_no"].to_numpy() + offsets.sales + 1,
            "line_no": lines["line_no"],
            "product_id": _ids(loaded.products, lines["product_row"].to_numpy()),
            "quantity": lines["quantity"],
            "unit_price": money(lines["unit_price"]),
            "discount": money(lines["discount"]),
            "amount": money(lines["amount"]),
            "cost": money(lines["cost"]),
        },
    )
    put(
        "sale_sources",
        {
            "source": [SOURCE] * n,
            "external_id": sales["external_id"],
            "customer_id": sales["customer_id"],
            "sale_id": ids,
        },
    )
    offsets.sales += n


def _interactions(put: Put, chunk: Chunk, loaded: Loaded, offsets: _Offsets) -> None:
    talks, n = chunk.interactions, len(chunk.interactions)
    ids = np.arange(offsets.interactions + 1, offsets.interactions + n + 1)
    offsets.interactions += n
    where = talks["site_row"].to_numpy()
    lon = np.where(where >= 0, chunk.sites["true_lon"].to_numpy()[where], np.nan)
    lat = np.where(where >= 0, chunk.sites["true_lat"].to_numpy()[where], np.nan)
    plain = (
        "kind",
        "channel",
        "direction",
        "department",
        "occurred_at",
        "subject",
        "body",
        "outcome",
        "score",
        "follow_up_at",
    )
    put(
        "interactions",
        {
            "customer_id": talks["customer_id"],
            "id": ids,
            **{column: talks[column] for column in plain},
            "user_id": _ids(loaded.users, talks["user_row"].to_numpy()),
            "location": points(lon, lat),
        },
    )
    put(
        "interaction_sources",
        {
            "source": [SOURCE] * n,
            "external_id": talks["external_id"],
            "customer_id": talks["customer_id"],
            "interaction_id": ids,
        },
    )


def _set_sequences(connection: psycopg.Connection[Any]) -> None:
    for table in ("customers", "sites", "contacts", "sales", "interactions", "places", "products", "areas"):
        connection.execute(
            "SELECT setval(pg_get_serial_sequence(%(t)s, 'id'), greatest((SELECT max(id) FROM " + table + "), 1))",
            {"t": table},
        )
