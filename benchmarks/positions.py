"""Positions against 25,000 fences: from the JSON of a batch to its commit, with consents, presences, events and their
deliveries; beside textbook SQL that stores positions and asks PostGIS, by its index, which fences hold each.

Events of some customers are compared with the slow oracle of the tests before anything is timed, and the fences that
hold points with PostGIS. The peer knows no accuracy, no consent and no events: it keeps who is in which fence. Every
position of the walks is new; half of the customers move about a fence. `GEOCRM_BENCH_FENCES` (25,000),
`GEOCRM_BENCH_POSITIONS` (200,000) and `GEOCRM_BENCH_BATCH` (1,000) set the size.
"""

import json
import os
import resource
import statistics as stats
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import psycopg
import shapely
from psycopg_pool import ConnectionPool
from sqlalchemy import text

from benchmarks import Row, compare
from benchmarks.nearby import HOME
from geocrm.access import SYSTEM
from geocrm.api.positions import SentPositions
from geocrm.campaigns import geofences, positions, webhooks
from geocrm.db import local
from geocrm.db.engine import Database, open_database
from geocrm.db.migrate import prepare_and_upgrade
from geocrm.settings import Settings
from tests.campaigns import walks

FENCES = int(os.environ.get("GEOCRM_BENCH_FENCES", "25000"))
POSITIONS = int(os.environ.get("GEOCRM_BENCH_POSITIONS", "200000"))
BATCH = int(os.environ.get("GEOCRM_BENCH_BATCH", "1000"))
CUSTOMERS = 20_000
COMPARED = 40
SENDERS = 2  # batches under way at a time, in one process
TURNS = 3
TARGET = 20_000.0
OWN_HOME = HOME.with_name(f"{HOME.name}-positions")
BEGAN = datetime(2026, 11, 20, tzinfo=UTC)
WEST, SOUTH, EAST, NORTH = 5.9, 45.8, 10.5, 47.8
_TEXTBOOK = """
WITH sent AS (
  INSERT INTO textbook_positions (customer_id, recorded_at, location)
  SELECT p.customer, p.at, ST_SetSRID(ST_MakePoint(p.lon, p.lat), 4326)
  FROM unnest(%(customers)s::bigint[], %(times)s::timestamptz[], %(lons)s::float8[], %(lats)s::float8[])
    AS p(customer, at, lon, lat)
  ON CONFLICT DO NOTHING RETURNING customer_id, recorded_at, location),
newest AS (SELECT DISTINCT ON (customer_id) * FROM sent ORDER BY customer_id, recorded_at DESC),
held AS (
  SELECT n.customer_id, f.id FROM newest n JOIN textbook_fences f ON ST_Covers(f.geometry, n.location)),
gone AS (
  DELETE FROM textbook_inside i USING newest n
  WHERE i.customer_id = n.customer_id
    AND NOT EXISTS (SELECT FROM held h WHERE h.customer_id = i.customer_id AND h.id = i.fence_id))
INSERT INTO textbook_inside (customer_id, fence_id) SELECT customer_id, id FROM held ON CONFLICT DO NOTHING"""


def draw_fences(random: np.random.Generator) -> list[walks.Drawn]:
    """Circles and polygons of 30 to 600 m, of each the same shapes every time."""
    made: list[walks.Drawn] = []
    while len(made) < FENCES:
        one = walks.draw_fence(random)
        lon, lat = float(random.uniform(WEST, EAST)), float(random.uniform(SOUTH, NORTH))
        stretch = np.cos(np.radians(one.lat)) / np.cos(np.radians(lat))
        one.rings = [(ring - [[one.lon, one.lat]]) * [[stretch, 1.0]] + [[lon, lat]] for ring in one.rings]
        one.lon, one.lat = lon, lat
        if not one.rings or shapely.Polygon(one.rings[0], one.rings[1:]).is_valid:
            made.append(one)
    return made


def open_fences(drawn: list[walks.Drawn]) -> Database:
    """A database with customers who allow it, the fences, and one webhook; the peer's tables beside them."""
    database = open_database(Settings(home=OWN_HOME))
    prepare_and_upgrade(database)
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as admin:
        admin.execute(
            "TRUNCATE customers, positions, position_subjects, geofence_states, events, webhooks, geofences CASCADE"
        )
        admin.execute(
            "INSERT INTO customers (id, kind, name, stage) OVERRIDING SYSTEM VALUE"
            " SELECT n, 'person', 'Customer ' || n, 'active' FROM generate_series(1, %s) AS n", (CUSTOMERS,),
        )  # fmt: skip
        admin.execute(
            "INSERT INTO consents (customer_id, purpose, channel, granted_at)"
            " SELECT id, 'location', 'app', %s FROM customers", (BEGAN - timedelta(days=1),),
        )  # fmt: skip
    with database.writing() as session:
        for number, one in enumerate(drawn):
            shape: dict[str, object] = {"center": {"lon": one.lon, "lat": one.lat}, "radius_m": one.radius_m}
            if one.rings:
                shape = {"geometry": {"type": "Polygon", "coordinates": [ring.tolist() for ring in one.rings]}}
            geofences.put(session, SYSTEM, "bench", str(number), shape | {"dwell_s": one.dwell_s})
        webhooks.create(session, SYSTEM, url="http://127.0.0.1:9/", allow_private=True)
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as admin:
        admin.execute("DROP TABLE IF EXISTS textbook_positions, textbook_inside, textbook_fences")
        admin.execute(
            "CREATE TABLE textbook_positions (customer_id bigint, recorded_at timestamptz,"
            " location geometry(Point, 4326), PRIMARY KEY (customer_id, recorded_at))"
        )
        admin.execute(
            "CREATE TABLE textbook_inside (customer_id bigint, fence_id bigint, PRIMARY KEY (customer_id, fence_id))"
        )
        admin.execute("CREATE TABLE textbook_fences AS SELECT id, geometry FROM geofences")
        admin.execute("CREATE INDEX ON textbook_fences USING gist (geometry)")
        admin.execute("VACUUM ANALYZE")
    return database


def draw_batches(random: np.random.Generator, drawn: list[walks.Drawn], total: int, begin: float) -> list[bytes]:
    """Batches as JSON: each customer walks an eight, half of them through a fence of their own, half anywhere."""
    about = np.random.default_rng(4).integers(0, len(drawn), CUSTOMERS)
    lon = np.array([drawn[fence].lon for fence in about])
    lat = np.array([drawn[fence].lat for fence in about])
    free = np.arange(CUSTOMERS) % 2 == 0
    lon[free], lat[free] = random.uniform(WEST, EAST, free.sum()), random.uniform(SOUTH, NORTH, free.sum())
    phase = np.random.default_rng(3).uniform(0, 2 * np.pi, CUSTOMERS)
    batches, sent = [], 0
    while sent < total:
        who = (np.arange(BATCH) + sent) % CUSTOMERS
        at = begin + 30.0 * ((np.arange(BATCH) + sent) // CUSTOMERS) + random.uniform(0, 20, BATCH)
        accuracy = np.exp(random.normal(np.log(15), 0.5, BATCH))
        turn = phase[who] + 0.05 * (at - begin) / 30.0
        jitter = accuracy / walks.SIGMAS / 111_000
        x = lon[who] + 0.015 * np.sin(turn) + random.normal(0, 1, BATCH) * jitter * 1.45
        y = lat[who] + 0.01 * np.sin(2 * turn) + random.normal(0, 1, BATCH) * jitter
        batches.append(
            json.dumps({"positions": [
                {"customer_id": f"cus_{c + 1}", "lon": round(a, 7), "lat": round(b, 7), "accuracy_m": round(r, 1),
                 "recorded_at": datetime.fromtimestamp(round(t, 3), UTC).isoformat()}
                for c, a, b, r, t in zip(
                    who.tolist(), x.tolist(), y.tolist(), accuracy.tolist(), at.tolist(), strict=True)
            ]}).encode()
        )  # fmt: skip
        sent += BATCH
    return batches


def ours(database: Database, holder: geofences.Holder, body: bytes) -> positions.Taken:
    """One batch as the route takes it, in a transaction of its own."""
    sent = SentPositions.model_validate_json(body)
    batch = positions.Batch.of(
        (one.customer_id, one.lon, one.lat, one.accuracy_m, one.recorded_at) for one in sent.positions
    )
    with database.writing() as session:
        return positions.take(
            session, SYSTEM, holder.current(session), batch, now=BEGAN + timedelta(days=5), keep_days=30.0
        )


def theirs(pool: ConnectionPool, body: bytes) -> None:
    """The same batch in textbook SQL."""
    sent = json.loads(body)["positions"]
    with pool.connection() as connection:
        connection.execute(
            _TEXTBOOK,
            {
                "customers": [int(one["customer_id"][4:]) for one in sent],
                "times": [one["recorded_at"] for one in sent],
                "lons": [one["lon"] for one in sent],
                "lats": [one["lat"] for one in sent],
            },
        )


def agree(database: Database, holder: geofences.Holder, drawn: list[walks.Drawn], random: np.random.Generator) -> bool:
    """Whether events of some customers are the oracle's, and fences that hold points those of PostGIS."""
    at = BEGAN.timestamp() - 40_000
    compared = 0
    with database.writing() as session:
        fences = holder.current(session)
        names = {held.external_id: number for number, held in fences.held.items()}
        for customer in range(CUSTOMERS, CUSTOMERS - COMPARED, -1):
            place = int(random.integers(len(drawn)))
            lots = walks.draw_walk(random, drawn[place], 30)
            for fix in {id(fix): fix for lot in lots for fix in lot}.values():
                fix.at = round(fix.at - 1_700_000_000.0 + at, 6)
            try:
                expected = walks.what_happened(drawn[place], walks.accepted(lots))
            except walks.TooClose:
                continue
            told = []
            for lot in lots:
                batch = positions.Batch.of(
                    (customer, fix.lon, fix.lat, fix.accuracy_m, datetime.fromtimestamp(fix.at, UTC)) for fix in lot
                )
                taken = positions.take(
                    session, SYSTEM, fences, batch, now=BEGAN + timedelta(days=5), keep_days=9999, max_accuracy_m=1e6
                )
                told += [
                    (event["type"].removeprefix("geofence."), round(event["occurred_at"].timestamp(), 6))
                    for event in taken.events
                    if event["data"]["geofence"]["external_id"] == str(place)
                ]
            if told != [(kind, round(began, 6)) for kind, began, _ in expected]:
                return False
            compared += len(expected)
        lon, lat = random.uniform(WEST, EAST, 2000), random.uniform(SOUTH, NORTH, 2000)
        near = random.integers(0, len(drawn), 1000)
        lon[:1000], lat[:1000] = [drawn[i].lon for i in near], [drawn[i].lat for i in near]
        standings = fences.index.standings(lon, lat, np.full(2000, 5.0))
        sure = standings.probability > 0.999
        mine = {
            (int(p), fences.fence_ids[f]) for p, f in zip(standings.position[sure], standings.fence[sure], strict=True)
        }
        doubt = {(int(p), fences.fence_ids[f]) for p, f in zip(standings.position, standings.fence, strict=True)} - mine
        rows = session.execute(
            text(
                "SELECT p.n - 1, f.fence_id FROM unnest(CAST(:lons AS float8[]), CAST(:lats AS float8[]))"
                " WITH ORDINALITY AS p(lon, lat, n),"
                " LATERAL geocrm_fences_at(ST_SetSRID(ST_MakePoint(p.lon, p.lat), 4326)) AS f"
            ),
            {"lons": lon.tolist(), "lats": lat.tolist()},
        )
        stored = {(int(p), int(f)) for p, f in rows}
    print(f"   {compared} events compared with the oracle, {len(stored)} fences at points with PostGIS", flush=True)
    return bool(names) and compared > 0 and mine <= stored <= mine | doubt


def measure() -> Iterable[Row]:
    """Positions a second, in turns, every turn with new positions."""
    random = np.random.default_rng(7)
    drawn = draw_fences(random)
    database = open_fences(drawn)
    holder = geofences.Holder()
    equal = agree(database, holder, drawn, random)
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    events = 0
    begin = BEGAN.timestamp()
    with ConnectionPool(database.conninfo("admin"), min_size=SENDERS, max_size=SENDERS) as peers:
        for turn in range(TURNS):
            batches = draw_batches(random, drawn, POSITIONS, begin + turn * 86_400 / 2)
            few = batches[: max(1, len(batches) // 10)]
            for who in ("ours", "theirs") if turn % 2 == 0 else ("theirs", "ours"):
                bodies = batches if who == "ours" else few
                began = time.perf_counter()
                if who == "ours":
                    with ThreadPoolExecutor(SENDERS) as pool:
                        events += sum(len(taken.events) for taken in pool.map(partial(ours, database, holder), bodies))
                else:
                    with ThreadPoolExecutor(SENDERS) as pool:
                        list(pool.map(partial(theirs, peers), bodies))
                rates[who].append(len(bodies) * BATCH / (time.perf_counter() - began))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"   ours {', '.join(f'{rate:,.0f}' for rate in rates['ours'])}; textbook"
        f" {', '.join(f'{rate:,.0f}' for rate in rates['theirs'])}; {events:,} events; {peak_mb:,.0f} MB",
        flush=True,
    )
    if database.settings.database_url is None:
        local.stop(OWN_HOME)
    scale = f"{FENCES:,} fences, {POSITIONS:,} positions in batches of {BATCH:,}, {SENDERS} at a time"
    mine = stats.median(rates["ours"])
    yield compare(
        "positions", "textbook SQL, without accuracy, consents and events", "positions a second", mine,
        stats.median(rates["theirs"]), target=None, scale=scale, equal=equal,
    )  # fmt: skip
    yield compare(
        "positions, aim", "20,000 a second", "positions a second", mine, TARGET, target=1.0, scale=scale, equal=equal
    )
