"""What holds for whom, where and when, on random worlds, against an oracle that goes through everything slowly.

The oracle asks shapely for polygons, pyproj for distances, a clock read by hand for hours and hashlib for hold-outs.
"""

import hashlib
import math
import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pyproj import Geod
from shapely import Point, Polygon
from shapely.geometry import mapping
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.campaigns import eligibility, geofences, offers, redemptions
from geocrm.db import models
from geocrm.errors import Conflict
from geocrm.spatial import areas, layers, territories
from tests.makers import make_customer, make_place

GEOD = Geod(ellps="WGS84")
NOW = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # half an hour before Europe loses one
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPANS = (("00:00", "03:30"), ("09:00", "18:00"), ("18:30", "02:15"), ("02:00", "24:00"))
ZONES = ("Europe/Zurich", "America/Denver", "Pacific/Auckland", "UTC")


@dataclass
class Offer:
    """An offer as the oracle keeps it."""

    id: int
    said: dict[str, Any]
    redeemed: list[int] = field(default_factory=list)  # by customer


@dataclass
class Fence:
    """A fence as the oracle keeps it: a polygon, or a circle of so many metres about a point."""

    tag: str
    name: str
    polygon: Polygon | None
    center: tuple[float, float]
    radius_m: float


@dataclass
class World:
    """What there is."""

    shapes: dict[int, Polygon]
    places: dict[int, tuple[str, float, float]]
    fences: dict[int, "Fence"]
    people: dict[int, dict[str, Any]]
    offers: list[Offer]
    centres: list[tuple[float, float]]
    decided: set[tuple[int, str]] = field(default_factory=set)  # customer and key: shown once, so not held out


def somewhere(rng: random.Random) -> tuple[float, float]:
    """A point; one in three lies near ±180° or beyond 80° of latitude."""
    kind = rng.randrange(6)
    if kind == 0:
        return round(rng.choice((-1, 1)) * (180 - rng.random() * 0.02), 6), round(rng.uniform(-60, 60), 6)
    if kind == 1:
        return round(rng.uniform(-179, 179), 6), round(rng.choice((-1, 1)) * rng.uniform(80, 89.5), 6)
    return round(rng.uniform(5, 12), 6), round(rng.uniform(45, 48), 6)


def beside(rng: random.Random, centre: tuple[float, float], reach_m: float) -> tuple[float, float]:
    lon, lat, _ = GEOD.fwd(*centre, rng.uniform(0, 360), reach_m * rng.random())
    return round(lon, 6), round(lat, 6)


def a_polygon(rng: random.Random, centre: tuple[float, float]) -> Polygon:
    """Of some kilometres, star-shaped around the centre, not over ±180°."""
    corners = []
    for turn in sorted(rng.uniform(0, 360) for _ in range(rng.randint(5, 30))):
        reach = rng.uniform(500, 4000) / 111_320
        lon = centre[0] + reach * math.sin(math.radians(turn)) / math.cos(math.radians(centre[1]))
        corners.append((max(-180, min(180, lon)), centre[1] + reach * math.cos(math.radians(turn))))
    made = Polygon(corners).buffer(0)
    return max(made.geoms, key=lambda part: part.area) if made.geom_type == "MultiPolygon" else made


def make_world(session: Session, rng: random.Random, *, size: int) -> World:
    centres = [somewhere(rng) for _ in range(size)]
    shapes: dict[int, Polygon] = {}
    for kind in ("territories", "trading_areas", "reference"):
        layer = layers.create_layer(session, key=kind, name=kind, kind=kind, actor=SYSTEM)
        draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
        for number, centre in enumerate(rng.sample(centres, size // 3)):
            shape = a_polygon(rng, centre)
            if shape.is_valid and shape.area > 0:
                made = areas.put_area(session, layer.id, draft, actor=SYSTEM, name=f"{number}", geometry=shape)
                shapes[made.area_id] = shape
        territories.publish(
            session, layer.id, draft, actor=SYSTEM, reason="first", effective_from=NOW - timedelta(days=9)
        )
    places = {}
    for _ in range(size):
        kind, (lon, lat) = rng.choice(("own", "own", "competitor")), beside(rng, rng.choice(centres), 3000)
        places[make_place(session, lon, lat, kind).id] = (kind, lon, lat)
    fences = dict(make_fence(session, rng, rng.choice(centres), number) for number in range(size))
    people = {}
    for _ in range(12):
        said = {"plan": rng.choice(("gold", "tin")), "stage": rng.choice(("active", "lead"))}
        customer = make_customer(session, 0, 0, stage=said["stage"], attributes={"plan": said["plan"]})
        said["consents"] = rng.sample(("marketing", "service"), rng.randint(0, 2))
        for purpose in said["consents"]:
            granted = NOW - timedelta(days=20)
            session.add(models.Consent(customer_id=customer.id, purpose=purpose, channel="app", granted_at=granted))
        people[customer.id] = said
    session.flush()
    for number in rng.sample(list(fences), size // 6):  # one that was deleted is nowhere, put again it is the same
        gone = fences.pop(number)
        geofences.delete(session, SYSTEM, gone.tag, gone.name)
    made_offers = [make_offer(session, rng, shapes, places, fences) for _ in range(size)]
    return World(shapes, places, fences, people, made_offers, centres)


def make_fence(session: Session, rng: random.Random, centre: tuple[float, float], number: int) -> tuple[int, Fence]:
    """A circle, also over ±180°, or a polygon; hours say nothing for offers."""
    tag, name = rng.choice(("shops", "stops", "doors")), f"fence-{number}"
    near = beside(rng, centre, 2000)
    made = Fence(tag, name, None, near, rng.uniform(50, 3000))
    values: dict[str, Any] = {"center": {"lon": near[0], "lat": near[1]}, "radius_m": made.radius_m}
    if abs(near[1]) > 85 or rng.random() < 0.4:
        made.polygon = a_polygon(rng, centre)
        values = {"geometry": mapping(made.polygon)}
    if rng.random() < 0.3:
        values |= {"hours": [{"days": ["tue"], "from": "03:00", "to": "04:00"}], "time_zone": "Europe/Zurich"}
    return geofences.put(session, SYSTEM, tag, name, values).fence_id, made


def make_offer(
    session: Session,
    rng: random.Random,
    shapes: dict[int, Polygon],
    places: dict[int, tuple[str, float, float]],
    fences: dict[int, Fence],
) -> Offer:
    said: dict[str, Any] = {
        "title": "Something",
        "priority": rng.randint(0, 2),
        "starts_at": NOW + timedelta(hours=rng.choice((-200, -100, -20, 20))),
        "ends_at": NOW + timedelta(hours=rng.choice((30, 90, 200))),
        "consent_purpose": rng.choice((None, None, "marketing", "service")),
        "areas": [],
    }
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        kind = rng.randrange(7)
        if kind in (4, 5):
            one = rng.choice(list(fences.values()))
            said["areas"].append({"geofence": f"{one.tag}/{one.name}"})
        elif kind == 6:
            said["areas"].append({"geofence_tag": rng.choice([one.tag for one in fences.values()])})
        elif kind == 0:
            said["areas"].append({"place_id": rng.choice(list(places)), "radius_m": rng.uniform(100, 5000)})
        elif kind == 1:
            said["areas"].append({"place_kind": rng.choice(("own", "competitor")), "radius_m": rng.uniform(50, 3000)})
        else:
            said["areas"].append({"area_id": rng.choice(list(shapes))})
    if rng.random() < 0.5:
        said["time_zone"] = rng.choice(ZONES)
        said["hours"] = [{"days": rng.sample(DAYS, 5), "from": begin, "to": end} for begin, end in rng.sample(SPANS, 2)]
        if rng.random() < 0.3:
            said["closed_on"] = [(NOW + timedelta(days=rng.randint(-1, 1))).date()]
    if rng.random() < 0.4:
        said["audience"] = rng.choice((
            {"field": "attributes.plan", "op": "=", "value": "gold"},
            {"all": [{"field": "stage", "op": "=", "value": "active"},
                     {"not": {"field": "attributes.plan", "op": "=", "value": "tin"}}]},
            {"field": "stage", "op": "in", "value": ["active", "lead"]},
        ))  # fmt: skip
    if rng.random() < 0.4:
        said["cap_total"] = rng.randint(2, 6)
        said["cap_per_customer"] = rng.randint(1, 2)
    if rng.random() < 0.4:
        said["campaign_id"] = rng.choice((None, 3, 4) if said["areas"] else (None, 3))
        by_area = said["campaign_id"] == 4 or (not said["campaign_id"] and said["areas"] and rng.random() < 0.5)
        said["hold_out_unit"] = "area" if by_area else "customer"
        said["hold_out_share"] = 0.2 if said["campaign_id"] == 3 else 0.5
    made = offers.create_offer(session, actor=SYSTEM, name="Offer", **said)
    try:
        offers.go_live(session, made.id, actor=SYSTEM, moment=NOW - timedelta(days=8))
    except Exception:
        offers.discard_draft(session, made.id, actor=SYSTEM)  # never open, or an empty audience
        return make_offer(session, rng, shapes, places, fences)
    return Offer(made.id, said)


# ---------------------------------------------------------------- the oracle


def in_audience(person: dict[str, Any], wanted: dict[str, Any]) -> bool:
    if "all" in wanted:
        return all(in_audience(person, part) for part in wanted["all"])
    if "not" in wanted:
        return not in_audience(person, wanted["not"])
    value = person[wanted["field"].rpartition(".")[2]]
    return value in wanted["value"] if wanted["op"] == "in" else value == wanted["value"]


def is_open(said: dict[str, Any], moment: datetime) -> bool:
    if said.get("hours") is None:
        return True
    shown = moment.astimezone(ZoneInfo(said["time_zone"])).replace(tzinfo=None)
    for begins in (shown.date(), shown.date() - timedelta(days=1)):
        if begins in said.get("closed_on", ()):
            continue
        minutes = (shown - datetime.combine(begins, datetime.min.time())) / timedelta(minutes=1)
        for span in said["hours"]:
            first, last = (int(span[word][:2]) * 60 + int(span[word][3:]) for word in ("from", "to"))
            if DAYS[begins.weekday()] in span["days"] and first <= minutes < (last if last > first else last + 1440):
                return True
    return False


def metres(a: tuple[float, float], b: tuple[float, float]) -> float:
    return float(GEOD.inv(*a, *b)[2])


def nearest(world: World, kind: str, here: tuple[float, float]) -> tuple[float, int]:
    return min((metres(here, (lon, lat)), number) for number, (k, lon, lat) in world.places.items() if k == kind)


def unit_there(world: World, area: dict[str, Any], here: tuple[float, float]) -> str | None:
    """The unit of the area where it holds the point."""
    if "area_id" in area:
        return f"are_{area['area_id']}" if world.shapes[area["area_id"]].intersects(Point(here)) else None
    if "place_id" in area:
        _, lon, lat = world.places[area["place_id"]]
        return f"pla_{area['place_id']}" if metres(here, (lon, lat)) <= area["radius_m"] else None
    if "geofence" in area or "geofence_tag" in area:
        holding = [number for number in named_fences(world, area) if is_in(world.fences[number], here)]
        return f"fen_{min(holding)}" if holding else None
    distance, number = nearest(world, area["place_kind"], here)
    return f"pla_{number}" if distance <= area["radius_m"] else None


def named_fences(world: World, area: dict[str, Any]) -> list[int]:
    if "geofence_tag" in area:
        return [number for number, one in world.fences.items() if one.tag == area["geofence_tag"]]
    return [number for number, one in world.fences.items() if f"{one.tag}/{one.name}" == area["geofence"]]


def is_in(one: Fence, here: tuple[float, float]) -> bool:
    if one.polygon is None:
        return metres(here, one.center) <= one.radius_m
    return bool(one.polygon.intersects(Point(here)))


def from_fence(one: Fence, here: tuple[float, float]) -> float:
    """Metres to a fence, 0 within it."""
    if one.polygon is None:
        return max(0.0, metres(here, one.center) - one.radius_m)
    return 0.0 if is_in(one, here) else from_polygon(one.polygon, here)


def from_polygon(shape: Polygon, here: tuple[float, float]) -> float:
    """Metres to the border of a polygon."""
    lon, lat = np.array(shape.exterior.segmentize(0.0005).coords).T
    return float(np.min(GEOD.inv(np.full_like(lon, here[0]), np.full_like(lat, here[1]), lon, lat)[2]))


def away(world: World, area: dict[str, Any], here: tuple[float, float]) -> float:
    """How far the point is from what the area holds, metres."""
    if "place_id" in area:
        _, lon, lat = world.places[area["place_id"]]
        return metres(here, (lon, lat)) - area["radius_m"]
    if "place_kind" in area:
        return nearest(world, area["place_kind"], here)[0] - area["radius_m"]
    if "area_id" in area:
        return from_polygon(world.shapes[area["area_id"]], here)
    return min(from_fence(world.fences[number], here) for number in named_fences(world, area))


def key_of(offer: Offer) -> str:
    return f"cam_{offer.said['campaign_id']}" if offer.said.get("campaign_id") else f"off_{offer.id}"


def expected(
    world: World, offer: Offer, customer: int, here: tuple[float, float], moment: datetime
) -> tuple[tuple[str, ...], int | None]:
    """The reasons why not, and which of the offer's areas holds the point."""
    said, reasons = offer.said, []
    if moment < said["starts_at"]:
        reasons.append("not_started")
    elif moment >= said["ends_at"]:
        reasons.append("over")
    elif not is_open(said, moment):
        reasons.append("closed")
    units = [unit_there(world, area, here) for area in said["areas"]]
    first = next((n for n, unit in enumerate(units) if unit is not None), None)
    if said["areas"] and first is None:
        reasons.append("outside")
    person = world.people[customer]
    if "audience" in said and not in_audience(person, said["audience"]):
        reasons.append("not_in_audience")
    if said["consent_purpose"] is not None and said["consent_purpose"] not in person["consents"]:
        reasons.append("no_consent")
    if "cap_total" in said and len(offer.redeemed) >= said["cap_total"]:
        reasons.append("cap_reached")
    if "cap_per_customer" in said and offer.redeemed.count(customer) >= said["cap_per_customer"]:
        reasons.append("customer_cap_reached")
    by_area = said.get("hold_out_unit") == "area"
    unit = (None if first is None else units[first]) if by_area else f"cus_{customer}"
    if said.get("hold_out_share") and unit is not None:
        key = key_of(offer)
        drawn = int(hashlib.sha256(f"{key}:{unit}".encode()).hexdigest()[:12], 16) / 2**48
        if (customer, key) not in world.decided and drawn < said["hold_out_share"]:
            reasons.append("held_out")
    return tuple(reasons), first


def compare(session: Session, world: World, customer: int, here: tuple[float, float], moment: datetime) -> int:
    """Compare one answer with the oracle; how many offers hold."""
    with access.as_user(session, SYSTEM):
        told = eligibility.judge(session, customer, *here, moment=moment, explain=True)
        short = eligibility.judge(session, customer, *here, moment=moment)
    by_id = {offer.id: offer for offer in world.offers}
    measured = 0  # distances take the oracle long
    assert {one.offer_id for one in told} == set(by_id)
    for one in told:
        reasons, first = expected(world, by_id[one.offer_id], customer, here, moment)
        assert (one.reasons, one.n) == (reasons, first), (one, by_id[one.offer_id].said, here, moment)
        if "outside" in reasons and measured < 3:
            measured += 1
            truly = max(0, min(away(world, area, here) for area in by_id[one.offer_id].said["areas"]))
            assert one.distance_m == pytest.approx(truly, rel=2e-3, abs=40), (one, here)
    assert [one for one in told if set(one.reasons) <= {"held_out"}] == short
    holds = [one for one in told if not one.reasons]
    order = []
    for one in holds:
        said = by_id[one.offer_id].said
        area = None if one.n is None else said["areas"][one.n]
        breadth = 2 if area is None else 1 if "area_id" in area else 0
        assert one.open_until is not None
        assert moment < one.open_until <= said["ends_at"]
        assert is_open(said, one.open_until - timedelta(seconds=1))
        assert one.open_until == said["ends_at"] or not is_open(said, one.open_until)
        order.append((-said["priority"], breadth, one.open_until, one.offer_id))
    assert order == sorted(order)
    return len(holds)


def play(session: Session, seed: int, *, size: int, questions: int) -> None:
    rng = random.Random(seed)
    world = make_world(session, rng, size=size)
    shown = 0
    for _ in range(questions):
        near = rng.choice([*world.centres, *((lon, lat) for _, lon, lat in world.places.values())])
        here = beside(rng, near, 6000) if rng.random() < 0.8 else somewhere(rng)
        moment = NOW + timedelta(minutes=rng.randint(-3000, 3000))
        customer = rng.choice(list(world.people))
        shown += compare(session, world, customer, here, moment)
        offer = rng.choice(world.offers)
        reasons, _ = expected(world, offer, customer, here, moment)
        taking = {"actor": SYSTEM, "key": str(rng.random()), "lon": here[0], "lat": here[1], "moment": moment}
        if reasons:
            with pytest.raises(Conflict) as caught:
                redemptions.redeem(session, offer.id, customer, **taking)
            assert sorted(caught.value.extra["reasons"]) == sorted(reasons)
        else:
            redemptions.redeem(session, offer.id, customer, **taking)
            offer.redeemed.append(customer)
            world.decided.add((customer, key_of(offer)))
    assert shown > questions / 4, "the world is too empty to say anything"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_world(session: Session, seed: int) -> None:
    play(session, seed, size=36, questions=100)


@pytest.mark.soak
def test_many_random_worlds(session: Session) -> None:
    first = int(os.environ.get("GEOCRM_TEST_SEED", random.randrange(10**9)))
    print(f"GEOCRM_TEST_SEED={first}")
    for seed in range(first, first + 40):
        savepoint = session.begin_nested()
        play(session, seed, size=60, questions=250)
        savepoint.rollback()
