"""Millions of customers of the demo company's kind, for measurements: no sales, coherent owners, bounded memory.

Customers stand round the real ZIP points of the contiguous United States, as many as people live there. The land is cut
into as many rectangles as there are reps, by halving the customers again and again (a k-d tree over a sample), so that
each rep's customers are neighbours and each rep has the same share. The rectangles are the territories.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from sqlalchemy import make_url, text

from geocrm.db.copying import points
from geocrm.db.engine import API_LOGIN, WORKER_LOGIN, Database
from geocrm.demo import geography, names
from geocrm.demo.copying import copy
from geocrm.demo.geography import FloatArray, IntArray, random
from geocrm.errors import Conflict
from geocrm.spatial import lookup

CHUNK = 250_000
SAMPLE = 400_000
LAND = (-125.0, 24.0, -66.5, 50.0)  # the rectangle that the territories fill, west south east north
TEAM_SIZE = 25
BEGIN = "2024-01-01T00:00:00Z"


@dataclass(frozen=True)
class Land:
    """ZIP points with weights, and the reps' rectangles as a k-d tree.

    `cuts` rows: axis (0 lon, 1 lat; -1 a leaf), threshold, left row, right row; a leaf's left row is its rep.
    """

    zips: pd.DataFrame
    mass: FloatArray
    width_km: FloatArray
    cuts: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]  # west south east north of each rep


def draw_land(seed: int = 1, reps: int = 500) -> Land:
    """ZIP points of the contiguous United States and the rectangles of `reps` reps."""
    zips = geography.zip_points(None)
    people = zips["people"].to_numpy()
    land = Land(
        zips, np.cumsum(people), np.clip(np.sqrt(people / 900 / np.pi), 0.8, 6.0), np.empty((0, 4)), np.empty((0, 4))
    )
    _, lon, lat = draw_points(land, random(seed, 40), SAMPLE)
    cuts: list[list[float]] = []
    boxes = np.empty((reps, 4))

    def cut(rows: IntArray, count: int, first: int, box: tuple[float, float, float, float]) -> int:
        at = len(cuts)
        cuts.append([-1.0, 0.0, float(first), 0.0])
        if count == 1:
            boxes[first] = box
            return at
        west, south, east, north = box
        height_km, width_km = north - south, (east - west) * np.cos(np.radians((south + north) / 2))
        axis = 0 if width_km >= height_km else 1
        along = (lon if axis == 0 else lat)[rows]
        left = count // 2
        threshold = float(np.quantile(along, left / count))
        lower = (west, south, threshold, north) if axis == 0 else (west, south, east, threshold)
        upper = (threshold, south, east, north) if axis == 0 else (west, threshold, east, north)
        a = cut(rows[along < threshold], left, first, lower)
        b = cut(rows[along >= threshold], count - left, first + left, upper)
        cuts[at] = [float(axis), threshold, float(a), float(b)]
        return at

    cut(np.arange(SAMPLE), reps, 0, LAND)
    return Land(land.zips, land.mass, land.width_km, np.array(cuts), boxes)


def draw_points(land: Land, rng: np.random.Generator, n: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """n customers: row of the ZIP point, lon, lat (degrees, six decimals)."""
    row = np.minimum(np.searchsorted(land.mass, rng.random(n) * land.mass[-1]), len(land.mass) - 1)
    # most live near the middle, a few far out
    reach = land.width_km[row] * np.where(rng.random(n) < 0.85, 0.7, 2.5) / geography.KM_PER_DEGREE
    lat = land.zips["lat"].to_numpy()[row] + rng.standard_normal(n) * reach
    lon = land.zips["lon"].to_numpy()[row] + rng.standard_normal(n) * reach / np.cos(np.radians(lat))
    west, south, east, north = LAND
    return row, np.clip(lon, west, east - 1e-6).round(6), np.clip(lat, south, north - 1e-6).round(6)


def rep_of(land: Land, lon: FloatArray, lat: FloatArray) -> IntArray:
    """The rep whose rectangle each point lies in (n,); on an edge the eastern or northern one."""
    row = np.zeros(len(lon), dtype=np.int64)
    axis = land.cuts[:, 0].astype(np.int64)
    while (inner := axis[row] >= 0).any():
        here = row[inner]
        along = np.where(axis[here] == 0, lon[inner], lat[inner])
        step = np.where(along < land.cuts[here, 1], land.cuts[here, 2], land.cuts[here, 3])
        row[inner] = step.astype(np.int64)
    reps: IntArray = land.cuts[row, 2].astype(np.int64)
    return reps


def load_scale(
    database: Database | str,
    *,
    customers: int = 1_000_000,
    seed: int = 1,
    reps: int = 500,
    progress: Callable[[str, int], None] | None = None,
) -> list[int]:
    """Load customers with one site each, territories, ledger and lookups into an empty, migrated database.

    Rows go by COPY into tables without their indexes, which are built afterwards. `database` may be an administrator's
    URL. Returns the ids of the reps; rep i owns area i of the layer `sales`. Raises Conflict where there are customers
    already, or somebody is at work on them.
    """
    if isinstance(database, str):
        database = _database(database)
    say = progress or (lambda what, done: None)
    land = draw_land(seed, reps)
    with psycopg.connect(database.conninfo("admin")) as connection:
        connection.execute(
            "SET TimeZone = 'UTC'; SET maintenance_work_mem = '512MB'; SET synchronous_commit = off; SET jit = off"
        )
        if connection.execute("SELECT geocrm_first_load_begin()").fetchone() != (True,):
            raise Conflict("Loading at scale needs a database without customers, and nobody else at work on them.")
        users, areas, layer = _sales_force(connection, land)
        for start in range(0, customers, CHUNK):
            n = min(CHUNK, customers - start)
            _chunk(connection, land, seed, start, n, users, areas, layer)
            say("customers", start + n)
        connection.execute("SELECT geocrm_first_load_end()")
        for table in ("customers", "sites"):
            connection.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", (table, customers))
        say("indexes", customers)
    with database.writing() as session:
        session.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
        session.execute(text("SET LOCAL work_mem = '256MB'"))
        lookup.rebuild(session)
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as connection:
        connection.execute(
            "VACUUM (ANALYZE) site_lookup, site_cells, areas, area_versions, layer_areas, users, customers"
        )
    say("lookups", customers)
    return users


def _database(url: str) -> Database:
    admin = make_url(url).set(drivername="postgresql+psycopg")
    return Database(admin, admin.set(username=API_LOGIN), admin.set(username=WORKER_LOGIN))


def _sales_force(connection: psycopg.Connection[Any], land: Land) -> tuple[list[int], list[int], int]:
    """Users, teams, the layer `sales` and its areas; ids of reps and areas, id of the layer."""
    reps = len(land.boxes)
    teams = [
        _one(connection, "INSERT INTO teams (name) VALUES (%s) RETURNING id", (f"Team {t + 1:03d}",))
        for t in range(-(-reps // TEAM_SIZE))
    ]
    add = "INSERT INTO users (email, name, role, team_id) VALUES (%s, %s, %s, %s) RETURNING id"
    for role in ("administrator", "marketer", "analyst"):
        _one(connection, add, (f"{role}@scale.example", role.title(), role, None))
    for t, team in enumerate(teams):
        _one(connection, add, (f"manager-{t + 1:03d}@scale.example", f"Manager {t + 1:03d}", "manager", team))
    users = [
        _one(connection, add, (f"rep-{i + 1:05d}@scale.example", f"Rep {i + 1:05d}", "rep", teams[i // TEAM_SIZE]))
        for i in range(reps)
    ]
    layer = _one(
        connection,
        "INSERT INTO layers (key, name, kind, is_primary, current_version) "
        "VALUES ('sales', 'Sales territories', 'territories', true, 1) RETURNING id",
        (),
    )
    connection.execute(
        "INSERT INTO layer_versions (layer_id, version, status, effective_from, published_at, reason) "
        "VALUES (%s, 1, 'published', %s, %s, 'Initial plan')",
        (layer, BEGIN, BEGIN),
    )
    first = _one(connection, "SELECT nextval(pg_get_serial_sequence('areas', 'id'))", ())
    areas = list(range(first, first + reps))
    connection.execute("SELECT setval(pg_get_serial_sequence('areas', 'id'), %s)", (areas[-1],))
    titles = [f"Territory {i + 1:05d}" for i in range(reps)]
    team_ids = [teams[i // TEAM_SIZE] for i in range(reps)]
    copy(
        connection,
        "areas",
        {"id": areas, "layer_id": [layer] * reps, "name": titles, "owner_id": users, "team_id": team_ids},
    )
    shapes = [
        shapely.to_wkb(shapely.set_srid(shapely.MultiPolygon([shapely.box(*box)]), 4326), hex=True, include_srid=True)
        for box in land.boxes
    ]
    copy(connection, "area_versions", {"area_id": areas, "version": [1] * reps, "name": titles, "geometry": shapes})
    copy(
        connection,
        "layer_areas",
        {"layer_id": [layer] * reps, "layer_version": [1] * reps, "area_id": areas, "area_version": [1] * reps},
    )
    copy(
        connection,
        "area_owners",
        {"area_id": areas, "valid_from": [BEGIN] * reps, "owner_id": users, "team_id": team_ids},
    )
    return users, areas, layer


def _one(connection: psycopg.Connection[Any], statement: str, values: tuple[object, ...]) -> int:
    row = connection.execute(statement, values).fetchone()
    assert row is not None
    return int(row[0])


def _chunk(
    connection: psycopg.Connection[Any],
    land: Land,
    seed: int,
    start: int,
    n: int,
    users: list[int],
    areas: list[int],
    layer: int,
) -> None:
    rng = random(seed, 41, start // CHUNK)
    ids = np.arange(start + 1, start + n + 1, dtype=np.int64)
    row, lon, lat = draw_points(land, rng, n)
    rep = rep_of(land, lon, lat)
    owner, area = np.asarray(users)[rep], np.asarray(areas)[rep]
    firm = rng.random(n) < 0.12

    def words(listed: list[str]) -> pa.Array:
        return pa.array(listed).take(pa.array((rng.random(n) * len(listed)).astype(np.int32)))

    endings = sorted({ending for _, some, _ in names.INDUSTRIES.values() for ending in some})
    person = pc.binary_join_element_wise(words(names.FIRST_NAMES), words(names.LAST_NAMES), " ")
    company = pc.binary_join_element_wise(words(names.LAND_WORDS), words(endings), " ")
    stages = pa.array(["prospect", "lead", "active", "lapsed"]).take(
        pa.array(rng.choice(4, n, p=[0.15, 0.08, 0.55, 0.22]))
    )
    none = pa.nulls(n, pa.string())
    is_firm = pa.array(firm)
    copy(
        connection,
        "customers",
        {
            "id": ids,
            "kind": pc.if_else(is_firm, "organisation", "person"),
            "name": pc.if_else(is_firm, company, person),
            "stage": stages,
            "owner_id": owner,
            "territory_ids": pc.binary_join_element_wise("{", pa.array(area).cast(pa.string()), "}", ""),
            "industry": pc.if_else(is_firm, words(list(names.INDUSTRIES)), none),
            "size_class": pc.if_else(is_firm, words(names.SIZE_CLASSES), none),
            "attributes": words(["{}", "{}", '{"plan":"basic"}', '{"plan":"silver"}', '{"plan":"gold"}']),
        },
    )
    number = pa.array(rng.integers(1, 9900, n)).cast(pa.string())
    zips = land.zips
    line1 = pc.binary_join_element_wise(number, words(names.STREET_NAMES), words(names.STREET_KINDS), " ")
    where = pa.array(row)
    copy(
        connection,
        "sites",
        {
            "customer_id": ids,
            "id": ids,
            "line1": line1,
            "city": pa.array(zips["city"].tolist()).take(where),
            "region": pa.array(zips["region"].tolist()).take(where),
            "postal_code": pa.array(zips["postal_code"].tolist()).take(where),
            "country": pa.repeat("US", n),
            "location": points(lon, lat),
            "location_precision": pa.repeat("given", n),
            "precision_m": pa.repeat(25.0, n),
            "location_source": pa.repeat("file", n),
            "placement": pa.repeat("placed", n),
            "is_primary": pa.repeat(True, n),
            "territory_id": area,
        },
    )
    external = pc.binary_join_element_wise("X", pa.array(ids).cast(pa.string()), "")
    copy(connection, "customer_sources", {"source": pa.repeat("scale", n), "external_id": external, "customer_id": ids})
    copy(
        connection,
        "assignments",
        {
            "customer_id": ids,
            "site_id": ids,
            "layer_id": pa.repeat(layer, n),
            "valid_from": pa.repeat(BEGIN, n),
            "recorded_at": pa.repeat(BEGIN, n),
            "area_id": area,
            "basis": pa.repeat("polygon", n),
            "layer_version": pa.repeat(1, n),
            "reason": pa.repeat("Initial plan", n),
        },
    )
