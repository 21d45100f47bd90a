"""An attacker with a partner's key, which has every scope but `locations:exact`, never learns where in its cell of the
500 m grid a customer is: not by distances, orders, radii and areas of any choosing, nor by what was worked out of the
exact point beforehand (segments, scores, audiences, events).

The same world is made anew for several true points of a customer in one cell, with the same ids. Every GET operation of
the OpenAPI document and the others that answer about customers are asked in many ways; all answers must be the same to
the byte, but for times. With an exact key they differ, so that what is asked does tell.
"""

import functools
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pyproj import Geod
from shapely import box
from sqlalchemy import text

from geocrm import access, jobs
from geocrm.access import SYSTEM
from geocrm.api.app import create_app
from geocrm.campaigns import acting, audiences, automations, entries, geofences, offers, positions
from geocrm.campaigns.geofences import Holder
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.segmentation import runs, segmentations
from geocrm.spatial import areas, layers, territories
from tests.api.conftest import World
from tests.makers import make_customer, make_place, make_sale, make_site, make_user

GEOD = Geod(ellps="WGS84")
STEP = 0.0045
LAT = round(39.74 / STEP) * STEP
WIDE = STEP / math.cos(math.radians(LAT))
LON = round(-104.99 / WIDE) * WIDE
EDGES = [(a, b) for a in (-0.49, 0.49) for b in (-0.49, 0.49)]
NEARBY = "/v1/customers/nearby"
MEASURED_FROM = [(LON - 2.1 * WIDE, LAT), (LON + WIDE, LAT + 1.7 * STEP), (LON, LAT - 3 * STEP)]
SEGMENTATIONS = ("stages", "reach", "east", "nested")
OFFERS = ("plain", "staged", "near", "far", "east", "postal", "divided", "scored", "entered")
WAYS = (
    "/v1/customers {}", "/v1/customers/count", "/v1/customers/nearby", "/v1/customers/cus_", "/territories",
    "/contradictions", "/v1/segments/seg_", "/v1/segmentations ", "/v1/events", "/tiles/customers/16",
    "/tiles/customers/11", "/v1/offers/eligible", "/redemptions", "segments.reach", "segments.nested",
    "scores.churn", "postal_code", "aud_", "/v1/automations/aut_1/runs", "/v1/automations/aut_3/runs", "/v1/tasks",
    "/members",
)  # fmt: skip
"""What tells an exact key where the customer is."""
CLOCK = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|[+-]\d\d:?\d\d)?")
Ask = tuple[str, str, dict[str, Any]]
Shift = tuple[float, float]


def point(shift: Shift) -> tuple[float, float]:
    """A point of the cell, from -0.5 to 0.5 of it away from its middle."""
    return LON + shift[0] * WIDE, LAT + shift[1] * STEP


def make_world(database: Database, shift: Shift) -> World:
    """Customers, one of them at that point; shops, borders, segments, scores, audiences, fences and events about it."""
    database.settings.rate_limit_per_minute = 10**6
    made = World(database, create_app(database))
    lon, lat = point(shift)
    now = datetime.now(UTC)
    with database.writing() as session:
        for role in ("administrator", "rep"):
            made.users[role] = make_user(session, role, name=role).id
        for key, edges in (("sales", ((-106.0, LON + 0.1 * WIDE), (LON + 0.1 * WIDE, -104.0))), ("service", ())):
            layer = layers.create_layer(
                session, key=key, name=key.title(), kind="territories", actor=SYSTEM, is_primary=key == "sales"
            )
            draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
            shapes = [box(west, 39.0, east, 40.5) for west, east in edges] or [box(-106.0, 39.0, -104.0, LAT)]
            for number, shape in enumerate(shapes):
                put = areas.put_area(session, layer.id, draft, actor=SYSTEM, name=f"{key} {number}", geometry=shape)
                made.ids[f"{key}{number}"] = put.area_id
            territories.publish(
                session, layer.id, draft, actor=SYSTEM, reason="plan", effective_from=now - timedelta(days=300)
            )
        shop_lon, shop_lat, _ = GEOD.fwd(LON, LAT, 70.0, 1_000.0)
        made.ids["shop"] = make_place(session, shop_lon, shop_lat, name="Shop").id
        target = make_customer(
            session, lon, lat, name="Target", owner_id=made.users["rep"],
            site={"city": "Denver", "region": "CO", "postal_code": f"80{202 + (shift[0] > 0)}",
                  "line1": f"{abs(shift[1])} Main St"},
        )  # fmt: skip
        others = [
            make_customer(session, LON + a * WIDE, LAT + b * STEP, name=f"Other {a} {b}", owner_id=made.users["rep"])
            for a, b in itertools.product((-2.2, 0.3, 1.4), (-1.3, 0.2, 2.1))
        ]
        others.append(make_customer(session, name="Anchor"))  # nowhere, and in every audience
        second = make_site(session, target, -105.3, 40.0, label="Depot")
        everybody = [target, *others]
        territories.evaluate(session, [one.id for one in everybody], actor=SYSTEM, reason="set up")
        sale = make_sale(session, target, "100.00", site_id=second.id, place_id=made.ids["shop"])
        note = models.Interaction(customer_id=target.id, kind="visit", occurred_at=now - timedelta(days=3))
        session.add_all([
            note,
            models.Consent(
                customer_id=target.id, purpose="location", channel="app", granted_at=now - timedelta(days=9)
            ),
            models.Contradiction(
                customer_id=target.id, layer_id=session.scalar(text("SELECT id FROM layers WHERE is_primary")),
                site_id=session.scalar(text("SELECT min(id) FROM sites WHERE customer_id = :id"), {"id": target.id}),
                kind="no_polygon" if shift[0] > 0 else "nothing",
            ),
        ])  # fmt: skip
        session.execute(
            text("UPDATE interactions SET location = ST_SetSRID(ST_MakePoint(:lon, :lat), 4326)"),
            {"lon": lon, "lat": lat},
        )
        made.ids |= {"target": target.id, "sale": sale.id, "visit": note.id}
        for name, role, scopes in (
            ("partner", "administrator", access.SCOPES.keys() - {"locations:exact"}),
            ("partner of a rep", "rep", access.SCOPES.keys() - {"locations:exact"}),
            ("exact", "administrator", access.SCOPES.keys()),
        ):
            token, digest = access.new_token("gk_")
            session.add(
                models.ApiKey(user_id=made.users[role], name=name, prefix="gk_", digest=digest, scopes=sorted(scopes))
            )
            made.keys[name] = token
    _divide(made)
    _offer(made)
    with database.writing() as session:
        near = {"center": {"lon": lon, "lat": lat}, "radius_m": 40}
        geofences.put(session, SYSTEM, "shops", "close", near if shift[0] > 0 else near | {"radius_m": 60})
        session.execute(text("DELETE FROM geofences WHERE tag = 'shops'"))  # whatever it was, nobody knows it any more
        for number, (a, b) in enumerate(EDGES):
            x, y = point((a, b))
            circle = {"center": {"lon": x, "lat": y}, "radius_m": 60}
            geofences.put(session, SYSTEM, "corners", str(number), circle)
    _automate(made)
    with database.writing() as session:
        batch = positions.Batch.of([(target.id, lon, lat, 5.0, now - timedelta(minutes=n)) for n in (9, 6, 3)])
        positions.take(session, SYSTEM, Holder().current(session), batch, now=now)
    assert acting.act_due(database, now=now + timedelta(days=1, hours=1)) >= len(everybody)
    return made


def _divide(made: World) -> None:
    """Segmentations by what is where, and by what is not; scores of which one is a distance."""
    ids = made.ids
    reach = {"near": {"place": f"pla_{ids['shop']}", "radius_m": 1_000}}
    east = {"within": {"area": f"ter_{ids['sales1']}"}}
    active = {"field": "stage", "op": "=", "value": "active"}
    for key, rules in (
        ("stages", [{"name": "Active", "filter": active}]),
        ("reach", [{"name": "Near", "filter": reach}, {"name": "East", "filter": east}]),
        ("east", [{"name": "East", "filter": {"any": [{"not": {"not": east}}, {"field": "name", "value": "x"}]}}]),
        ("nested", [{"name": "In reach", "filter": {"field": "segments.reach", "op": "exists", "value": True}}]),
    ):
        with made.database.writing() as session:
            held = segmentations.create_segmentation(
                session, actor=SYSTEM, key=key, name=key.title(), method="rule", parameters={"rules": rules}
            )
            ids[f"sgm {key}"] = held.id
            runs.start(session, held.id, actor=SYSTEM, then_publish=True)
        jobs.run_queued(made.database)
    with made.database.writing() as session:
        session.execute(text("UPDATE segmentations SET is_active = key = 'reach'"))
        session.execute(
            text(
                "INSERT INTO segmentations (key, name, method, parameters) VALUES ('churn', 'Churn', 'churn', '{}'),"
                " ('value', 'Value', 'value', '{\"of\": \"margin\"}'), ('groups', 'Groups', 'groups', '{}')"
            )
        )
        session.execute(
            text(
                "INSERT INTO segmentation_runs (segmentation_id, number, status, cutoff, seed, parameters, score_names,"
                " results) SELECT id, 1, 'done', now(), 1, parameters, '{metres}', CAST(:results AS jsonb)"
                " FROM segmentations WHERE key IN ('churn', 'value', 'groups')"
            ),
            {"results": json.dumps({"drivers": [], "segments": []})},
        )
        session.execute(
            text(
                "UPDATE segmentations g SET current_run_id = r.id FROM segmentation_runs r"
                " WHERE r.segmentation_id = g.id AND g.key IN ('churn', 'value', 'groups')"
            )
        )
        session.execute(
            text(
                "INSERT INTO scores (customer_id, run_id, numbers)"
                " SELECT s.customer_id, r.id,"
                " ARRAY[CAST(ST_Distance(geography(s.location), geography(p.location)) AS real)]"
                " FROM sites s, places p, segmentation_runs r WHERE s.is_primary AND r.score_names <> '{}'"
            )
        )
        territories.evaluate(
            session,
            session.scalars(text("SELECT id FROM customers ORDER BY id")).all(),
            actor=SYSTEM,
            reason="segments",
        )
        names = {"stages": "sgm stages", "reach": "sgm reach"}
        for name, key in names.items():
            ids[f"seg {name}"] = session.scalar(
                text("SELECT min(id) FROM segments WHERE segmentation_id = :id"), {"id": ids[key]}
            )


def _offer(made: World) -> None:
    """Live offers whose audiences ask where customers are, and one whose does not."""
    ids = made.ids
    for name, audience in (
        ("plain", {"field": "stage", "op": "=", "value": "active"}),
        ("staged", {"field": "segments.stages", "op": "=", "value": f"seg_{ids['seg stages']}"}),
        ("near", {"near": {"place_kind": "own", "radius_m": 1_000}}),
        ("far", {"not": {"near": {"place_kind": "own", "radius_m": 1_000}}}),
        ("east", {"field": "territory", "op": "=", "value": f"ter_{ids['sales1']}"}),
        ("postal", {"field": "postal_code", "op": "=", "value": "80202"}),
        ("divided", {"field": "segment", "op": "=", "value": f"seg_{ids['seg reach']}"}),
        ("scored", {"field": "scores.churn.metres", "op": "<", "value": 1_000}),
    ):
        with made.database.writing() as session:
            offer = offers.create_offer(
                session, actor=SYSTEM, name=name, title=name, consent_purpose=None,
                audience={"any": [audience, {"field": "name", "op": "=", "value": "Anchor"}]},
                ends_at=datetime.now(UTC) + timedelta(days=7),
            )  # fmt: skip
            ids[f"off {name}"] = offer.id
            offers.go_live(session, offer.id, actor=SYSTEM)
    with made.database.writing() as session:
        for number in session.scalars(text("SELECT id FROM audiences")).all():
            audiences.refresh(session, number)


def _automate(made: World) -> None:
    """Automations of a fence in one corner of the cell, and of who is near the shop: an offer, an audience, tasks."""
    ids = made.ids
    door = {"kind": "event", "type": "geofence.entered", "tag": "corners", "external_id": "0"}
    daily = {"kind": "schedule", "at": "00:00", "time_zone": "UTC"}
    with made.database.writing() as session:
        ids["aud"] = entries.create(session, SYSTEM, "At the door")
        offer = offers.create_offer(
            session, actor=SYSTEM, name="entered", title="entered", consent_purpose=None,
            audience={"audience": f"aud_{ids['aud']}"}, ends_at=datetime.now(UTC) + timedelta(days=7),
        )  # fmt: skip
        ids["off entered"] = offer.id
        near = {"near": {"place": f"pla_{ids['shop']}", "radius_m": 1_000}}
        task = {"kind": "task", "title": "Call"}
        for trigger, condition, action in (
            (door, None, {"kind": "offer", "offer_id": offer.id}), (door, None, task), (daily, near, task),
        ):  # fmt: skip
            made_now = automations.create(
                session, SYSTEM,
                {"name": "New", "trigger": trigger, "condition": condition, "action": action, "consent_purpose": None},
            )  # fmt: skip
            if action is not task:
                offers.go_live(session, offer.id, actor=SYSTEM)
            automations.enable(session, SYSTEM, made_now, now=datetime.now(UTC))


# ---------------------------------------------------------------- what is asked


def filters_about(ids: dict[str, int], every: bool) -> Iterator[dict[str, Any]]:
    """Filters that hold in a part of the cell only, were they asked of the exact point."""
    reaches = (880, 950, 1_000, 1_080) if every else (1_000,)
    for radius in reaches:
        yield {"near": {"place_kind": "own", "radius_m": radius}}
    centres = [(LON + WIDE, LAT), (LON, LAT + STEP), (LON, LAT)] if every else [(LON + WIDE, LAT)]
    for (lon, lat), radius in itertools.product(centres, (60, 240, 500, 640) if every else (500,)):
        yield {"near": {"lon": lon, "lat": lat, "radius_m": radius}}
    for area in ("sales0", "sales1", "service0") if every else ("sales1",):
        yield {"within": {"area": f"ter_{ids[area]}"}}
    if every:
        yield {"not": {"within": {"area": f"ter_{ids['sales0']}"}}}
        yield {"field": "territory", "op": "=", "value": f"ter_{ids['sales1']}"}
        yield {"field": "segment", "op": "=", "value": f"seg_{ids['seg reach']}"}
        yield {"field": "segment", "op": "exists", "value": True}
    yield {"field": "segment", "op": "!=", "value": f"seg_{ids['seg reach']}"}
    for key in ("reach", "east", "nested", "stages") if every else ("reach", "nested"):
        yield {"field": f"segments.{key}", "op": "exists", "value": True}
    for key, most in itertools.product(("churn", "value", "groups") if every else ("churn",), reaches):
        yield {"field": f"scores.{key}.metres", "op": "<", "value": most}
    yield {"field": "postal_code", "op": "=", "value": "80202"}
    yield {"audience": f"aud_{ids['aud']}"}


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document: what operations there are."""
    return create_app().openapi()


def tile_of(z: int) -> tuple[int, int]:
    """The tile of zoom `z` that holds the middle of the cell."""
    row = (1 - math.asinh(math.tan(math.radians(LAT))) / math.pi) / 2
    return int((LON + 180) / 360 * 2**z), int(row * 2**z)


def parameters(ids: dict[str, int], every: bool) -> dict[str, list[Any]]:
    """Values of every parameter that a GET operation must have, by name."""
    return {
        "customer_id": [f"cus_{ids['target']}"], "customer": [f"cus_{ids['target']}"],
        "sale_id": [f"sal_{ids['sale']}"], "interaction_id": [f"int_{ids['visit']}"],
        "place_id": [f"pla_{ids['shop']}"], "layer": ["lay_sales", "lay_service"], "version": [1],
        "area_id": [f"ter_{ids['sales0']}"],
        "segmentation_id": [f"sgm_{ids[f'sgm {key}']}" for key in (SEGMENTATIONS if every else ("stages", "reach"))],
        "segment_id": [f"seg_{number}" for name, number in ids.items() if name.startswith("seg ")],
        "number": [1], "from_run": [1], "to_run": [1],
        "offer_id": [f"off_{ids[f'off {name}']}" for name in (OFFERS if every else ("plain", "near"))],
        "redemption_id": ["red_1"], "analysis_id": ["ana_1"], "webhook_id": ["whk_1"], "delivery_id": ["dlv_1"],
        "user_id": ["usr_1"], "key_id": ["key_1"],
        "automation_id": ["aut_1", "aut_2", "aut_3"], "audience_id": [f"aud_{ids['aud']}"], "task_id": ["tsk_1"],
        "job_id": ["job_1"], "import_id": ["imp_1"], "tag": ["corners"], "external_id": ["0"],
        "start": ["2025-01-01T00:00:00Z"], "end": ["2027-01-01T00:00:00Z"],
        "lon": [LON, LON + 3 * WIDE] if every else [LON], "lat": [LAT],
    }  # fmt: skip


def questions(operations: dict[str, Any], ids: dict[str, int], every: bool) -> Iterator[Ask]:
    """Each GET operation in all ways that its parameters allow; then others, made of what an attacker would ask. Less
    of all that unless `every`."""
    known = parameters(ids, every)
    asked = [json.dumps(one) for one in filters_about(ids, every)]
    shorts = [("segment", f"seg_{ids['seg reach']}"), ("territory", f"ter_{ids['sales1']}"), ("postal_code", "80202")]
    for path, item in operations["paths"].items():
        if "get" not in item:
            continue
        wanted = item["get"].get("parameters", [])
        names = [one["name"] for one in wanted if one["in"] == "path" and one["name"] not in "zxy"]
        needed = [one["name"] for one in wanted if one["in"] == "query" and one.get("required")]
        offered = {one["name"] for one in wanted if one["in"] == "query"}
        missing = [name for name in [*names, *needed] if name not in known]
        assert not missing, f"{item['get']['operationId']}: say in `parameters` what its {missing} may be"
        paths = [path]
        if "{z}" in path:
            tiles = [(z, *tile_of(z)) for z in ((6, 11, 13, 16) if every else (11, 16))]
            paths = [path.replace("{z}", str(z)).replace("{x}", str(x)).replace("{y}", str(y)) for z, x, y in tiles]
        for where, values in itertools.product(paths, itertools.product(*(known[name] for name in [*names, *needed]))):
            filled = where
            for name, value in zip(names, values, strict=False):
                filled = filled.replace(f"{{{name}}}", str(value))
            query = dict(zip(needed, values[len(names) :], strict=True))
            yield "GET", filled, {"params": query}
            if "filter" in offered and (every or "/11/" not in filled):
                yield from (("GET", filled, {"params": query | {"filter": one}}) for one in asked)
            yield from (("GET", filled, {"params": query | {n: v}}) for n, v in shorts if n in offered)
            if "colour" in offered:
                for colour in ("territory", "segment", "score.churn.metres", "score.value.metres"):
                    yield "GET", filled, {"params": query | {"colour": colour, "cuts": "900,1000,1100"}}
            if "superseded" in offered:
                yield "GET", filled, {"params": query | {"superseded": True}}
    for lon, lat in [(LON, LAT), (LON + WIDE, LAT + STEP), (LON - 1.3 * WIDE, LAT + 0.2 * STEP)]:
        yield "GET", NEARBY, {"params": {"lon": lon, "lat": lat, "limit": 4}}
        for radius in (50, 200, 350, 500, 700, 900) if every else (350,):
            yield "GET", NEARBY, {"params": {"lon": lon, "lat": lat, "radius_m": radius}}
    eligible = {"customer": f"cus_{ids['target']}", "lon": LON, "lat": LAT, "explain": True}
    yield "GET", "/v1/offers/eligible", {"params": eligible}
    yield "GET", "/v1/offers/eligible", {"params": eligible | {"record": False}}
    for name in OFFERS:
        body = {"customer_id": f"cus_{ids['target']}", "lon": LON, "lat": LAT}
        headers = {"Idempotency-Key": f"attack-{name}"}
        yield "POST", f"/v1/offers/off_{ids[f'off {name}']}/redemptions", {"json": body, "headers": headers}
    points = [{"lon": LON + a * WIDE, "lat": LAT + b * STEP} for a, b in EDGES]
    yield "POST", "/v1/territories/at", {"json": {"points": points}}
    for number, (a, b) in enumerate(
        EDGES
    ):  # fences of one's own, as small as one likes, and positions invented for them
        x, y = point((a, b))
        circle = {"center": {"lon": x, "lat": y}, "radius_m": 80}
        yield "PUT", f"/v1/geofences/mine/{number}", {"json": circle}
    stamp = {"accuracy_m": 5, "recorded_at": datetime.now(UTC).isoformat()}
    invented = {"customer_id": f"cus_{ids['target']}", "lon": LON + 9 * WIDE, "lat": LAT} | stamp
    yield "POST", "/v1/positions", {"json": {"positions": [invented]}}
    yield "GET", "/v1/events", {}
    yield "PATCH", f"/v1/customers/cus_{ids['target']}", {"json": {"industry": "i"}, "headers": {"If-Match": "*"}}
    yield "GET", f"/v1/customers/cus_{ids['target']}", {}


def answers(world: World, key: str, every: bool) -> dict[str, str]:
    """What a key is told, by question; times aside."""
    told: dict[str, str] = {}
    client = world.new_client()
    client.headers["Authorization"] = f"Bearer {world.keys[key]}"
    for method, path, more in questions(document(), world.ids, every):
        asked = f"{method} {path} {json.dumps(more.get('params', ''))}"
        if key == "exact" and not any(way in asked for way in WAYS):
            continue
        answer = client.request(method, path, **more)
        assert answer.status_code < 500, (method, path, more, answer.text)
        whole = answer.content.decode(errors="backslashreplace")
        whole = re.sub(r"req_\w+", "req", CLOCK.sub("then", whole))
        told[asked if asked not in told else f"{asked} again"] = f"{answer.status_code} {whole}"
    client.close()
    return told


def measured(world: World, key: str) -> list[float]:
    """Distances of the customer from three points, as bisected by asking who is within a radius."""
    client = world.new_client()
    client.headers["Authorization"] = f"Bearer {world.keys[key]}"
    found = []
    for lon, lat in MEASURED_FROM:
        low, high = 0.0, 4_000.0
        while high - low > 0.5:
            middle = (low + high) / 2
            there = client.get(NEARBY, params={"lon": lon, "lat": lat, "radius_m": middle, "limit": 100}).json()["data"]
            held = any(one["id"] == f"cus_{world.ids['target']}" for one in there)
            low, high = (low, middle) if held else (middle, high)
        found.append(high)
    client.close()
    return found


def told_of(
    new_database: Callable[[], Database], shift: Shift, keys: Sequence[str], every: bool
) -> list[dict[str, str]]:
    """What each of the keys is told in the world of that point; they ask one after the other."""
    world = make_world(new_database(), shift)
    with TestClient(world.app, raise_server_exceptions=False) as started:
        world.started = started
        found = [answers(world, key, every) for key in keys]
    world.database.dispose()
    return found


def test_who_measures_distances_finds_the_middle_of_the_cell(new_database: Callable[[], Database]) -> None:
    shift = (0.43, -0.37)
    world = make_world(new_database(), shift)
    with TestClient(world.app, raise_server_exceptions=False) as started:
        world.started = started
        for key, where in (("exact", point(shift)), ("partner", (LON, LAT))):
            expected = [GEOD.inv(lon, lat, *where)[2] for lon, lat in MEASURED_FROM]
            assert measured(world, key) == pytest.approx(expected, abs=0.6), key
    world.database.dispose()


def check(new_database: Callable[[], Database], keys: Sequence[str], shifts: Sequence[Shift], *, every: bool) -> None:
    """Keys of partners are told the same wherever the customer is; the last key, an exact one, is not."""
    first = told_of(new_database, shifts[0], keys, every)
    ways: set[str] = set()
    for shift in shifts[1:]:
        for key, before, after in zip(keys, first, told_of(new_database, shift, keys, every), strict=True):
            assert before.keys() == after.keys()
            differ = [asked for asked in before if before[asked] != after[asked]]
            if key == keys[-1]:
                ways |= set(differ)
                continue
            shown = "\n".join(f"{asked}\n  {before[asked]}\n  {after[asked]}" for asked in differ)
            assert not differ, f"{key}, {shift}: {len(differ)} answers tell where in the cell it is:\n{shown}"
    for way in WAYS:
        assert any(way in asked for asked in ways), f"an exact key is told the same too, by {way}"


def test_wherever_in_its_cell_a_customer_is_a_partner_is_told_the_same(new_database: Callable[[], Database]) -> None:
    check(new_database, ("partner", "exact"), [(-0.48, -0.45), (0.46, 0.49)], every=False)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_so_it_is_for_many_points_of_the_cell(new_database: Callable[[], Database]) -> None:
    shifts = [(0.0, 0.0), *EDGES, (0.11, -0.3), (0.499, 0.0), (0.0, -0.499), (-0.2, 0.33)]
    check(new_database, ("partner", "partner of a rep", "exact"), shifts, every=True)
