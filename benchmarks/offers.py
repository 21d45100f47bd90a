"""Eligible offers over HTTP: 25,000 fences, 1,000 live offers, 1,000,000 customers; ours with sign-in, row security and
the memory of who was shown what, beside the textbook route without any. Half of the fences are circles; one offer in
ten names the tag of its fences instead of each, one in ten areas of a layer besides.

Both run under uvicorn with one process and five connections to the same database; answers are compared first, then
timed in turns A B B A. The 95th percentile is set beside that of nearby in the same run. Answers that explain why not
are timed one after the other. `GEOCRM_BENCH_CUSTOMERS` and `GEOCRM_BENCH_FENCES` set the size.
"""

import os
import random
import statistics
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import shapely
from shapely.geometry import mapping
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks import Row, compare
from benchmarks.load import Load, run
from benchmarks.nearby import CONNECTIONS, CUSTOMERS, HOME, OURS, SECONDS, TEXTBOOK, fetch, open_company, serving
from geocrm import access
from geocrm.access import SYSTEM
from geocrm.campaigns import geofences, offers
from geocrm.db import local
from geocrm.db.engine import Database

FENCES = int(os.environ.get("GEOCRM_BENCH_FENCES", "25000"))
AREAS = FENCES // 10
OFFERS = 1000
SHOPS = 500
ASKED = 2000
COMPARED = 300
TURNS = "ABBACABBACABBACA"  # ours, the textbook, nearby
TARGET, BESIDE_NEARBY, EXPLAINED_MS = 15.0, 0.5, 100.0
REGIONS = ("CA", "TX", "FL", "NY", "PA", "IL", "OH", "GA", "NC", "MI", "NJ", "VA", "WA", "AZ", "TN", "CO")


def furnish(database: Database) -> None:
    """Fences, areas, shops, consents and live offers, once."""
    with psycopg.connect(database.conninfo("admin")) as connection:
        if connection.execute("SELECT count(*) FROM geofences").fetchone() == (FENCES,):
            return
        connection.execute("TRUNCATE geofences, offers, audiences, audience_members, exposures, redemptions CASCADE")
    print(f"   making {FENCES:,} fences and {OFFERS:,} offers", flush=True)
    rng = np.random.default_rng(11)
    areas = _areas(database, rng)
    drawn = random.Random(12)
    with database.writing() as session:
        fences = _fences(session, rng)
        for number in range(OFFERS):
            values = _offer(drawn, _part(fences, number), _part(areas, number), number)
            made = offers.create_offer(session, actor=SYSTEM, name=f"Offer {number}", **values)
            offers.go_live(session, made.id, actor=SYSTEM)
    with psycopg.connect(database.conninfo("admin")) as connection:
        connection.execute(
            "INSERT INTO redemptions (customer_id, offer_id, version, idempotency_key, redeemed_at)"
            " SELECT 1 + (n * 7919) %% %s, (SELECT min(id) FROM offers) + (n * 31) %% %s, 1, 'k' || n, now()"
            " FROM generate_series(1, %s) AS n",
            (CUSTOMERS, OFFERS, CUSTOMERS // 5),
        )
        connection.execute(
            "UPDATE offer_counters t SET redeemed = x.n FROM"
            " (SELECT offer_id, count(*) AS n FROM redemptions GROUP BY offer_id) x WHERE x.offer_id = t.offer_id"
        )
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def _part(things: list[Any], number: int) -> list[Any]:
    """What of so many things belongs to an offer."""
    return things[number * len(things) // OFFERS : (number + 1) * len(things) // OFFERS]


def _shape(rng: np.random.Generator, lon: float, lat: float) -> shapely.Polygon:
    """A polygon of 40 to 120 corners, some hundred metres to kilometres wide."""
    turn = np.sort(rng.random(rng.integers(40, 121))) * 2 * np.pi
    reach = rng.lognormal(7.2, 0.6) * (0.7 + 0.3 * rng.random(len(turn))) / 111_320
    x, y = lon + reach * np.sin(turn) / np.cos(np.radians(lat)), lat + reach * np.cos(turn)
    shape = shapely.Polygon(np.column_stack([x, y]).round(6))
    return shape if shape.is_valid else shape.convex_hull


def _fences(session: Session, rng: np.random.Generator) -> list[str]:
    """Fences round customers, every second a circle, each tagged by its offer; what they are called."""
    found = session.execute(
        text("SELECT ST_X(location), ST_Y(location) FROM site_lookup ORDER BY md5('fence' || site_id) LIMIT :many"),
        {"many": FENCES},
    ).all()
    offer_of = {place: offer for offer in range(OFFERS) for place in _part(list(range(len(found))), offer)}
    called = []
    for number, (lon, lat) in enumerate(found):
        radius_m = float(rng.lognormal(7.2, 0.6)) * 0.85
        shape: dict[str, Any] = {"center": {"lon": lon, "lat": lat}, "radius_m": radius_m}
        if number % 2:
            shape = {"geometry": mapping(_shape(rng, lon, lat))}
        tag = f"offer-{offer_of[number]}"
        geofences.put(session, SYSTEM, tag, str(number), shape)
        called.append(f"{tag}/{number}")
    return called


def _areas(database: Database, rng: np.random.Generator) -> list[int]:
    """Areas of the same shapes, as one layer; their ids."""
    with psycopg.connect(database.conninfo("admin")) as connection:
        former = connection.execute(
            "SELECT a.id FROM areas a JOIN layers l ON l.id = a.layer_id WHERE l.key = 'zones' ORDER BY a.id LIMIT %s",
            (AREAS,),
        ).fetchall()
        if former:
            return [row[0] for row in former]
        found = connection.execute(
            "SELECT ST_X(location), ST_Y(location) FROM site_lookup ORDER BY md5(site_id::text) LIMIT %s",
            (AREAS,),
        ).fetchall()
        made = connection.execute(
            "INSERT INTO layers (key, name, kind, current_version) VALUES ('zones', 'Zones', 'reference', 1)"
            " RETURNING id"
        ).fetchone()
        assert made is not None
        layer = made[0]
        connection.execute(
            "INSERT INTO layer_versions (layer_id, version, status, effective_from, published_at, reason)"
            " VALUES (%s, 1, 'published', now() - interval '1 day', now(), 'first')",
            (layer,),
        )
        ids = [
            row[0]
            for row in connection.execute(
                "INSERT INTO areas (layer_id, name) SELECT %s, 'Zone ' || n FROM generate_series(1, %s) AS n"
                " RETURNING id",
                (layer, len(found)),
            )
        ]
        with connection.cursor() as cursor:
            with cursor.copy("COPY area_versions (area_id, version, name, geometry) FROM STDIN") as copy:
                for area, (lon, lat) in zip(ids, found, strict=True):
                    shape = shapely.MultiPolygon([_shape(rng, lon, lat)])
                    copy.write_row((area, 1, f"Zone {area}", shapely.to_wkb(shapely.set_srid(shape, 4326), hex=True,
                                                                           include_srid=True)))  # fmt: skip
            cursor.execute(
                "INSERT INTO layer_areas (layer_id, layer_version, area_id, area_version)"
                " SELECT layer_id, 1, id, 1 FROM areas WHERE layer_id = %s",
                (layer,),
            )
        connection.execute(
            "INSERT INTO places (kind, name, location, location_precision, precision_m)"
            " SELECT 'own', 'Shop ' || site_id, location, 'given', 25 FROM site_lookup"
            " ORDER BY md5('shop' || site_id::text) LIMIT %s",
            (SHOPS,),
        )
        connection.execute(
            "INSERT INTO consents (customer_id, purpose, channel, granted_at)"
            " SELECT id, 'marketing', 'app', now() - interval '30 days' FROM customers WHERE id % 10 < 7"
        )
        connection.execute("ANALYZE")
    return ids


def _offer(rng: random.Random, fences: list[str], areas: list[int], number: int) -> dict[str, Any]:
    """One in twenty holds everywhere, one in ten in fences of a tag, in areas of a layer too, or round our shops too;
    forty audiences."""
    where: list[dict[str, Any]] = [{"geofence": fence} for fence in fences]
    if number % 10 == 7:
        where = [{"geofence_tag": fences[0].partition("/")[0]}]
    elif number % 10 == 3:
        where += [{"area_id": area} for area in areas]
    elif number % 10 == 1:
        where.append({"place_kind": "own", "radius_m": 2000.0})
    values: dict[str, Any] = {
        "title": f"So much off number {number}",
        "terms": "As long as there is some.",
        "priority": rng.randint(0, 5),
        "ends_at": datetime.now(UTC) + timedelta(days=rng.randint(300, 400)),
        "areas": [] if number % 20 == 0 else where,
        "consent_purpose": rng.choice(("marketing", None)),
        "cap_total": rng.choice((None, 10_000)),
        "cap_per_customer": rng.choice((None, 1, 3)),
        "hold_out_share": rng.choice((0.0, 0.0, 0.1)),
    }
    if number % 3 == 0:
        days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        values |= {"time_zone": "America/Denver", "hours": [{"days": days, "from": "00:05", "to": "23:55"}]}
    if number % 4:
        stage = {"field": "stage", "op": "in", "value": [["active"], ["active", "lapsed"]][number % 2]}
        region = {"field": "region", "op": "in", "value": list(REGIONS[number % 8 : number % 8 + 4])}
        plan = {"field": "attributes.plan", "op": "=", "value": ["gold", "silver"][number % 2]}
        values["audience"] = {"all": [stage, [region, plan][number % 5 == 0]]}
    return values


def _key(database: Database) -> str:
    """A key of the marketer, for an app that sees the nearest customers too."""
    token, digest = access.new_token("gk_")
    with psycopg.connect(database.conninfo("admin")) as connection:
        connection.execute(
            "INSERT INTO api_keys (user_id, name, prefix, digest, scopes)"
            " SELECT id, 'offers benchmark', %s, %s, %s FROM users WHERE role = 'marketer' ORDER BY id LIMIT 1",
            (token[:10], digest, ["offers:redeem", "customers:read", "locations:exact"]),
        )
    return token


def _questions(database: Database) -> list[tuple[int, float, float]]:
    """Customers, each within some hundred metres of their own site."""
    rng = random.Random(13)
    with psycopg.connect(database.conninfo("admin")) as connection:
        found = connection.execute(
            "SELECT customer_id, ST_X(location), ST_Y(location) FROM site_lookup WHERE site_id = ANY (%s) ORDER BY 1",
            ([rng.randint(1, CUSTOMERS) for _ in range(ASKED)],),
        ).fetchall()
    rng.shuffle(found)
    return [(who, round(lon + rng.gauss(0, 0.003), 6), round(lat + rng.gauss(0, 0.003), 6)) for who, lon, lat in found]


def _said(row: dict[str, Any]) -> tuple[Any, ...]:
    left = row.get("left") or {"in_all": row.get("in_all"), "for_customer": row.get("for_customer")}
    ends = datetime.fromisoformat(str(row["ends_at"]))
    return (*(row[key] for key in ("id", "version", "name", "title", "terms", "priority")), left["in_all"],
            left["for_customer"], ends)  # fmt: skip


def _explained(paths: list[str], token: str) -> float:
    """Milliseconds of an answer that explains why not, one after the other: the median."""
    taken = []
    for path in paths:
        began = time.perf_counter()
        fetch(OURS, f"{path}&explain=true", token)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def measure() -> Iterable[Row]:
    """Requests per second against the textbook, and the 95th percentile beside nearby's."""
    database = open_company()
    furnish(database)
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as connection:  # the peer asks by geography
        connection.execute("CREATE INDEX IF NOT EXISTS textbook_places ON places USING gist (geography(location))")
        connection.execute("ANALYZE places")
    token = _key(database)
    asked = _questions(database)
    reader = database.conninfo("admin").replace("postgresql://", "postgresql+asyncpg://")
    settings = {"GEOCRM_HOME": str(HOME), "GEOCRM_RATE_LIMIT_PER_MINUTE": "1000000000", "GEOCRM_READ_POOL_SIZE": "5"}
    path = {
        "A": [f"/v1/offers/eligible?customer=cus_{who}&lon={lon}&lat={lat}" for who, lon, lat in asked],
        "B": [f"/offers/eligible?customer={who}&lon={lon}&lat={lat}" for who, lon, lat in asked],
        "C": [f"/v1/customers/nearby?lon={lon}&lat={lat}&limit=20" for _, lon, lat in asked],
    }
    with (
        serving(["geocrm.api.app:app"], OURS, "/health", **settings),
        serving(["benchmarks.peers.textbook_offers:app"], TEXTBOOK, "/openapi.json", TEXTBOOK_URL=reader),
    ):
        pairs = [
            (fetch(OURS, p, token), fetch(TEXTBOOK, q))
            for p, q in zip(path["A"][:COMPARED], path["B"][:COMPARED], strict=True)
        ]
        equal = all([_said(row) for row in mine] == [_said(row) for row in other] for mine, other in pairs)
        shown = statistics.mean(len(mine) for mine, _ in pairs)
        print(f"   {COMPARED} answers compared, equal: {equal}; {shown:.1f} offers in an answer", flush=True)
        if shown < 3:
            raise RuntimeError("the answers are too empty to say anything")
        headers = {"A": {"Authorization": f"Bearer {token}"}, "B": {}, "C": {"Authorization": f"Bearer {token}"}}
        base = {"A": f"http://127.0.0.1:{OURS}", "B": f"http://127.0.0.1:{TEXTBOOK}", "C": f"http://127.0.0.1:{OURS}"}
        for who in "ABC":
            run(base[who], path[who], seconds=2, connections=CONNECTIONS, headers=headers[who])
        runs: dict[str, list[Load]] = {"A": [], "B": [], "C": []}
        for who in TURNS:
            made = run(base[who], path[who], seconds=SECONDS, connections=CONNECTIONS, headers=headers[who])
            if made.failed:
                raise RuntimeError(f"{made.failed} of {made.requests} requests failed")
            runs[who].append(made)
        explained = _explained(path["A"][:COMPARED], token)
    if database.settings.database_url is None:
        local.stop(Path(HOME))
    rate = {who: statistics.median(r.per_second for r in runs[who]) for who in "ABC"}
    p95 = {who: statistics.median(r.p95_ms for r in runs[who]) for who in "ABC"}
    scale = f"{FENCES:,} fences, {OFFERS:,} live offers, {CUSTOMERS:,} customers, {shown:.0f} offers in an answer"
    peer = "FastAPI + SQLAlchemy + GeoAlchemy2, no sign-in, no row security"
    for row, other, metric, mine, theirs, target, less in (
        ("offers/eligible", peer, "requests per second", rate["A"], rate["B"], TARGET, False),
        ("offers/eligible p95", peer, "95th percentile, ms", p95["A"], p95["B"], None, True),
        ("offers/eligible beside nearby", "nearby of the same key, k = 20", "95th percentile, ms", p95["A"], p95["C"],
         BESIDE_NEARBY, True),
    ):  # fmt: skip
        yield compare(row, other, metric, mine, theirs, target=target, scale=scale, equal=equal, less_is_better=less)
    yield compare(
        "offers/eligible with reasons", "the target", "milliseconds, one after the other", explained, EXPLAINED_MS,
        target=1.0, scale=scale, equal=equal, less_is_better=True,
    )  # fmt: skip
