"""Load the demo company into an empty database, by COPY, in one transaction: all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import shapely
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db import audit
from geocrm.db.engine import Database
from geocrm.demo import company, territories
from geocrm.demo.company import Chunk, World
from geocrm.demo.copying import copy, money, points
from geocrm.demo.names import only
from geocrm.demo.sales import campaign_weeks
from geocrm.errors import Conflict
from geocrm.spatial import areas, gazetteers, layers, ledger, publishing

PASSWORD = "demo-geocrm"
LOGINS = {
    "administrator": "admin@demo.example",
    "manager": "manager@demo.example",
    "rep": "rep@demo.example",
    "marketer": "marketer@demo.example",
    "analyst": "analyst@demo.example",
}
SOURCE = "cairnwell"
LAYER = "sales"
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
        _layers(session, connection, world, loaded)
        offsets = _Offsets()
        for chunk in _ahead(world, customers):
            say("customers", chunk.number * company.CHUNK, customers)
            _chunk(connection, world, chunk, loaded, offsets)
            truth.append(chunk.truth)
        _set_sequences(connection)
        say("customers", customers, customers)
        _territories(session, world, loaded)
        say("territories", customers, customers)
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


def _layers(session: Session, connection: psycopg.Connection[Any], world: World, loaded: Loaded) -> None:
    """The sales territories (primary, published from the first day of the books) and the counties for reference."""
    force, begin = world.sales_force, datetime(world.start.year, 1, 1, tzinfo=UTC)
    admin = loaded.users[0]
    loaded.layer_id = _layer(session, LAYER, "Sales territories", "territories", True, begin, admin)
    user_of = dict(zip(force.users["login"], loaded.users, strict=True))
    team_of = {row.name: row.id for row in session.execute(text("SELECT name, id FROM teams"))}
    owners = [user_of[login] for login in force.territories["login"]]
    teams = [team_of[team] for team in force.territories["team"]]
    shapes = list(force.territories.geometry)
    counties_of = list(force.territories["counties"])
    for row, name in enumerate(force.territories["name"]):
        if name in force.former:
            shapes[row], counties_of[row] = force.former[name]
    attributes = [
        json.dumps({"team": t, "counties": c}) for t, c in zip(force.territories["team"], counties_of, strict=True)
    ]
    loaded.areas = _areas(
        connection, loaded.layer_id, 0, list(force.territories["name"]), shapes,
        [None if rule is None else json.dumps(rule) for rule in force.territories["rule"]], attributes, owners, teams,
    )  # fmt: skip
    n = len(owners)
    copy(
        connection,
        "area_owners",
        {
            "area_id": loaded.areas,
            "valid_from": [begin] * n,
            "owner_id": owners,
            "team_id": teams,
            "actor_id": [admin] * n,
            "reason": ["Territory plan"] * n,
        },
    )
    codes = [f"T-{i + 1:02d}" for i in range(n)]
    copy(connection, "area_sources", {"source": [SOURCE] * n, "external_id": codes, "area_id": loaded.areas})
    counties = world.counties
    layer = _layer(session, "counties", "Counties", "reference", False, begin, admin)
    m = len(counties)
    facts = [json.dumps({"fips": f, "state": s}) for f, s in zip(counties["fips"], counties["region"], strict=True)]
    titles = list(counties["name"] + ", " + counties["region"])
    _areas(connection, layer, n, titles, list(counties.geometry), [None] * m, facts, [None] * m, [None] * m)
    loaded.rows["areas"] = n + m


def _layer(session: Session, key: str, name: str, kind: str, primary: bool, begin: datetime, actor: int) -> int:
    layer: int = session.execute(
        text(
            "INSERT INTO layers (key, name, kind, is_primary, current_version) "
            "VALUES (:key, :name, :kind, :primary, 1) RETURNING id"
        ),
        {"key": key, "name": name, "kind": kind, "primary": primary},
    ).scalar_one()
    session.execute(
        text(
            "INSERT INTO layer_versions (layer_id, version, status, effective_from, published_at, actor_id, reason) "
            "VALUES (:layer, 1, 'published', :begin, :begin, :actor, 'Initial plan')"
        ),
        {"layer": layer, "begin": begin, "actor": actor},
    )
    return layer


def _areas(
    connection: psycopg.Connection[Any],
    layer: int,
    offset: int,
    names: list[str],
    shapes: list[Any],
    rules: list[str | None],
    attributes: list[str],
    owners: list[Any],
    teams: list[Any],
) -> list[int]:
    n = len(names)
    ids = list(range(offset + 1, offset + n + 1))
    copy(
        connection,
        "areas",
        {
            "id": ids,
            "layer_id": [layer] * n,
            "name": names,
            "owner_id": pa.array(owners, pa.int64()),
            "team_id": pa.array(teams, pa.int64()),
        },
    )
    multi = [
        None if s is None or pd.isna(s) else s if s.geom_type == "MultiPolygon" else shapely.MultiPolygon([s])
        for s in shapes
    ]
    copy(
        connection,
        "area_versions",
        {
            "area_id": ids,
            "version": [1] * n,
            "name": names,
            "geometry": [
                None if s is None else shapely.to_wkb(shapely.set_srid(s, 4326), hex=True, include_srid=True)
                for s in multi
            ],
            "rule": pa.array(rules, pa.string()),
            "attributes": attributes,
        },
    )
    copy(
        connection,
        "layer_areas",
        {"layer_id": [layer] * n, "layer_version": [1] * n, "area_id": ids, "area_version": [1] * n},
    )
    return ids


def _ids(table: list[int], rows: np.ndarray) -> pa.Array:
    """Ids behind rows of the world, NULL for row -1."""
    return pa.array(np.asarray([*table, 0], dtype=np.int64)[rows], mask=rows < 0)


def _chunk(connection: psycopg.Connection[Any], world: World, chunk: Chunk, loaded: Loaded, offsets: _Offsets) -> None:
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
    site_ids = _sites(put, chunk, offsets)
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


def _sites(put: Put, chunk: Chunk, offsets: _Offsets) -> np.ndarray:
    """The sites as we know them: given, by postal code, waiting, or flagged because they came as (0, 0)."""
    sites, n = chunk.sites, len(chunk.sites)
    ids = np.arange(offsets.sites + 1, offsets.sites + n + 1)
    offsets.sites += n
    known = sites["known"].to_numpy(dtype=object)
    lon, lat = sites["true_lon"].to_numpy().copy(), sites["true_lat"].to_numpy().copy()
    precision = only(known == "given", "given")
    radius = np.where(known == "given", 25.0, np.nan)
    source = only(np.isin(known, ["given", "flagged"]), "file")
    placement = np.where(np.isin(known, ["given", "postcode"]), "placed", known).astype(object)
    coarse = np.flatnonzero(known == "postcode")
    if len(coarse):
        found = gazetteers.locate(
            pd.DataFrame({"country": "US", "postal_code": sites["postal_code"].to_numpy()[coarse]})
        ).reset_index(drop=True)
        lon[coarse], lat[coarse] = found["lon"], found["lat"]
        precision[coarse], radius[coarse] = found["location_precision"], found["precision_m"]
        source[coarse] = found["location_source"]
        missed = coarse[np.isnan(lon[coarse])]
        placement[missed], precision[missed], source[missed] = "pending", None, None
    lon[known == "pending"] = lat[known == "pending"] = np.nan
    lon[known == "flagged"] = lat[known == "flagged"] = 0.0
    put(
        "sites",
        {
            "customer_id": sites["customer_id"],
            "id": ids,
            **{column: sites[column] for column in ("label", "line1", "line2", "city", "region", "postal_code")},
            "country": ["US"] * n,
            "location": points(lon, lat),
            "location_precision": precision,
            "precision_m": radius,
            "location_source": source,
            "placement": placement,
            "flags": np.where(known == "flagged", "{zero}", "{}"),
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


def _territories(session: Session, world: World, loaded: Loaded) -> None:
    """Evaluate all sites under the first plan, then change the plan once: the ledger gets a history."""
    session.execute(
        text("CREATE TEMP TABLE changed_customers ON COMMIT DROP AS SELECT id AS customer_id FROM customers")
    )
    session.execute(text("ALTER TABLE changed_customers ADD PRIMARY KEY (customer_id)"))
    session.execute(text("ANALYZE changed_customers"))
    actor = access.load_actor(session, loaded.users[0])
    ledger.evaluate_bulk(session, reason="Initial plan", actor=actor)
    draft = layers.create_draft(session, loaded.layer_id, actor=actor)
    force = world.sales_force
    for name in force.former:
        row = int(np.flatnonzero((force.territories["name"] == name).to_numpy())[0])
        areas.put_area(
            session,
            loaded.layer_id,
            draft.version,
            loaded.areas[row],
            actor=actor,
            geometry=shapely.MultiPolygon([force.territories.geometry.iloc[row]]),
            attributes={
                "team": force.territories["team"].iloc[row],
                "counties": force.territories["counties"].iloc[row],
            },
        )
    since = datetime(world.until.year, 1, 1, tzinfo=UTC)
    publishing.publish(
        session, loaded.layer_id, draft.version, actor=actor, reason=territories.MOVE_REASON, effective_from=since
    )
