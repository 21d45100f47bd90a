"""Offers that hold in geofences: of one, of every one of a tag; how far away the others are."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.campaigns import eligibility, geofences, holdouts, offers, redemptions
from geocrm.db.engine import Database
from geocrm.errors import Conflict, Invalid
from tests.campaigns.test_offers import NOW, judged, make_area, make_offer
from tests.makers import make_customer, make_place, square


def put(session: Session, name: str, lon: float, lat: float, radius_m: float | None = 500.0, **more: Any) -> int:
    """A circle, or without a radius a square of about a kilometre."""
    tag, _, external_id = name.partition("/")
    shape = {"geometry": square(lon, lat, 0.005).__geo_interface__} if radius_m is None else {
        "center": {"lon": lon, "lat": lat}, "radius_m": radius_m}  # fmt: skip
    return geofences.put(session, SYSTEM, tag, external_id, shape | more).fence_id


def judge(session: Session, customer_id: int, lon: float, lat: float, offer_id: int) -> eligibility.Judged:
    with access.as_user(session, SYSTEM):
        (one,) = eligibility.judge(session, customer_id, lon, lat, moment=NOW, explain=True, offer_id=offer_id)
    return one


def test_an_offer_holds_in_its_fence_and_says_how_far_it_is(session: Session) -> None:
    customer = make_customer(session, 0, 0)
    put(session, "shops/one", 10, 0, 400)
    put(session, "shops/door", 10, 1, None, hours=[{"days": ["sun"], "from": "01:00", "to": "02:00"}], time_zone="UTC")
    circle = make_offer(session, areas=[{"geofence": "shops/one"}]).id
    polygon = make_offer(session, areas=[{"geofence": "shops/door"}]).id
    assert judged(session, customer, 10.0035, 0)[circle] == ()  # 390 m
    assert judged(session, customer, 10.0037, 0)[circle] == ("outside",)  # 412 m, within the outline
    away = judge(session, customer.id, 10.0082, 0, circle).distance_m
    assert away == pytest.approx(0.0082 * 111_319.49 - 400, abs=0.1)
    assert judged(session, customer, 10.005, 1.0)[polygon] == ()  # on the border; its hours do not matter
    assert judge(session, customer.id, 10.006, 1, polygon).distance_m == pytest.approx(111.3, abs=0.5)
    assert judged(session, customer, None, None)[circle] == ("no_position",)
    with pytest.raises(Conflict) as caught:
        redemptions.redeem(session, circle, customer.id, actor=SYSTEM, key="a", lon=10.1, lat=0, moment=NOW)
    assert caught.value.extra["reasons"] == ["outside"]
    redemptions.redeem(session, circle, customer.id, actor=SYSTEM, key="a", lon=10, lat=0, moment=NOW)


def test_a_changed_fence_is_followed_and_one_that_a_live_offer_names_stays(session: Session) -> None:
    customer = make_customer(session, 0, 0)
    put(session, "shops/one", 10, 0)
    offer = make_offer(session, areas=[{"geofence": "shops/one"}], name="Coffee")
    put(session, "shops/one", 20, 0)
    assert judged(session, customer, 10, 0)[offer.id] == ("outside",)
    assert judged(session, customer, 20, 0)[offer.id] == ()
    with pytest.raises(Conflict, match=rf"off_{offer.id} \(Coffee\)") as caught:
        geofences.delete(session, SYSTEM, "shops", "one")
    assert caught.value.extra["offers"] == [f"off_{offer.id}"]
    assert judged(session, customer, 20, 0)[offer.id] == ()  # nothing half-done
    draft = make_offer(session, areas=[{"geofence": "shops/one"}], live=False)
    offers.end_offer(session, offer.id, actor=SYSTEM)
    geofences.delete(session, SYSTEM, "shops", "one")  # a draft does not hold it
    assert offers.check_draft(session, draft.id, moment=NOW) == [
        {"pointer": "/areas/0", "detail": "the fence was deleted"}
    ]
    put(session, "shops/one", 30, 0)  # put again it is the same fence
    offers.go_live(session, draft.id, actor=SYSTEM, moment=NOW)
    assert judged(session, customer, 30, 0)[draft.id] == ()


@pytest.mark.parametrize("order", [1, -1])
def test_no_fence_is_deleted_while_an_offer_goes_live_there(new_database: Callable[[], Database], order: int) -> None:
    """Whichever comes second waits for the first, and is refused."""
    database = new_database()
    with database.writing() as session:
        put(session, "shops/one", 10, 0)
        offer = make_offer(session, areas=[{"geofence": "shops/one"}], live=False).id

    def go_live(session: Session) -> None:
        offers.go_live(session, offer, actor=SYSTEM, moment=NOW)

    def delete(session: Session) -> None:
        geofences.delete(session, SYSTEM, "shops", "one")

    first, second = (go_live, delete)[::order]

    def come_second() -> None:
        with database.writing() as session:
            second(session)

    with ThreadPoolExecutor(1) as pool:
        with database.writing() as session:
            first(session)
            other = pool.submit(come_second)
            with pytest.raises(TimeoutError):
                other.result(0.5)
        with pytest.raises((Conflict, Invalid), match=r"live offers hold|the fence was deleted"):
            other.result(30)


def test_a_tag_is_followed_as_fences_come_and_go(session: Session) -> None:
    customer = make_customer(session, 0, 0)
    empty = make_offer(session, areas=[{"geofence_tag": "stops"}], live=False)
    assert offers.check_draft(session, empty.id, moment=NOW) == [
        {"pointer": "/areas/0", "detail": "there is no fence of this tag"}
    ]
    put(session, "stops/one", 10, 0)
    put(session, "other/one", 40, 0)
    offer = offers.go_live(session, empty.id, actor=SYSTEM, moment=NOW).id
    assert judged(session, customer, 10, 0)[offer] == ()
    assert judged(session, customer, 40, 0)[offer] == ("outside",)
    put(session, "stops/two", -179.999, 0)
    assert judged(session, customer, 179.9995, 0)[offer] == ()  # over ±180°
    assert judge(session, customer.id, 179.99, 0, offer).distance_m == pytest.approx(0.011 * 111_319.49 - 500, abs=1)
    geofences.delete(session, SYSTEM, "stops", "one")
    assert judged(session, customer, 10, 0)[offer] == ("outside",)
    geofences.delete(session, SYSTEM, "stops", "two")
    assert judge(session, customer.id, 10, 0, offer).distance_m is None  # nowhere on earth
    assert judged(session, customer, 10, 0)[offer] == ("outside",)


def test_fences_that_overlap_both_hold(session: Session) -> None:
    """Each offer by its own fence; one offer in the first of its areas; of a tag in the fence that was made first."""
    customer = make_customer(session, 0, 0)
    first, second = put(session, "shops/one", 10, 0), put(session, "shops/two", 10.001, 0)
    one, two = (make_offer(session, areas=[{"geofence": f"shops/{name}"}]).id for name in ("one", "two"))
    both = make_offer(session, areas=[{"geofence": "shops/two"}, {"geofence": "shops/one"}]).id
    tag = make_offer(session, areas=[{"geofence_tag": "shops"}], hold_out_unit="area", hold_out_share=0.01).id
    found = judged(session, customer, 10, 0)
    assert found[one] == found[two] == found[both] == ()
    assert judge(session, customer.id, 10, 0, both).n == 0
    assert judge(session, customer.id, 10, 0, tag).unit == f"fen_{first}"
    assert judge(session, customer.id, 10.005, 0, tag).unit == f"fen_{second}"  # where the first does not reach


def test_fences_are_held_out_whole(session: Session) -> None:
    numbers = [put(session, f"shops/{n}", float(n), 0) for n in range(40)]
    offer = make_offer(session, hold_out_share=0.4, hold_out_unit="area", areas=[{"geofence_tag": "shops"}]).id
    people = [make_customer(session, 0, 0) for _ in range(2)]
    for number, lon in zip(numbers, range(40), strict=True):
        expected = ("held_out",) if holdouts.is_held_out(f"off_{offer}", f"fen_{number}", 0.4) else ()
        assert {judged(session, person, lon, 0)[offer] for person in people} == {expected}


@pytest.mark.parametrize(
    ("area", "pointer"),
    [
        ({"geofence": "shops/none"}, "/areas/0/geofence"),
        ({"geofence": "shops"}, "/areas/0/geofence"),
        ({"geofence_tag": "shops", "radius_m": 5.0}, "/areas/0/radius_m"),
        ({"geofence_tag": "shops", "place_kind": "own", "radius_m": 5.0}, "/areas/0"),
    ],
)
def test_what_is_no_fence_of_an_offer(session: Session, area: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        make_offer(session, live=False, areas=[area])
    assert [fault["pointer"] for fault in caught.value.errors] == [pointer]


PLAINLY = """SELECT min(CASE a.kind
  WHEN 'area' THEN (
    SELECT min(ST_Distance(geography(p.geometry), geography(h.here)))
    FROM area_periods d JOIN area_pieces p ON p.area_id = d.area_id AND p.version = d.area_version
    WHERE d.area_id = a.area_id AND d.valid_from <= :moment AND d.valid_to > :moment)
  WHEN 'place' THEN (SELECT greatest(0, ST_Distance(geography(l.location), geography(h.here)) - a.radius_m)
    FROM places l WHERE l.id = a.place_id)
  WHEN 'places' THEN (SELECT greatest(0, min(ST_Distance(geography(l.location), geography(h.here))) - a.radius_m)
    FROM places l WHERE l.kind = a.place_kind)
  WHEN 'geofence' THEN geocrm_fence_distance(a.fence_id, h.here)
  ELSE (SELECT min(geocrm_fence_distance(f.id, h.here)) FROM geofences f WHERE f.tag = a.fence_tag) END)
FROM offer_areas a, ST_SetSRID(ST_MakePoint(:lon, :lat), 4326) AS h(here) WHERE a.offer_id = :offer"""


def test_the_way_to_an_offer_is_what_measuring_everything_gives(session: Session) -> None:
    """By bounds and boxes, near and far, across ±180° and near the poles, as by the distance to each area."""
    rng = random.Random(7)
    customer = make_customer(session, 0, 0)
    spots = [(rng.choice((179.9, -179.9, 8.0)) + rng.uniform(-0.09, 0.09), rng.choice((0, 47, 84))) for _ in range(24)]
    areas: list[dict[str, Any]] = []
    for number, (lon, lat) in enumerate(spots):
        if number % 4 == 0:
            areas.append({"area_id": make_area(session, "reference", f"k{number}", square(lon, lat, 0.004))})
        elif number % 4 == 1:
            areas.append({"place_id": make_place(session, lon, lat).id, "radius_m": rng.uniform(10, 900)})
        else:
            put(session, f"tag{number % 3}/{number}", lon, lat, None if number % 4 == 2 else rng.uniform(20, 900))
            areas.append({"geofence": f"tag{number % 3}/{number}"})
    areas += [{"geofence_tag": f"tag{number}"} for number in range(3)] + [{"place_kind": "own", "radius_m": 50.0}]
    made = [make_offer(session, areas=rng.sample(areas, rng.randint(1, 9))).id for _ in range(25)]
    measured = 0
    for _ in range(12):
        lon, lat = rng.choice(spots) if rng.random() < 0.7 else (rng.uniform(-180, 180), rng.uniform(-89, 89))
        lon, lat = max(-180, min(180, lon + rng.gauss(0, 0.02))), lat + rng.gauss(0, 0.02)
        with access.as_user(session, SYSTEM):
            told = eligibility.judge(session, customer.id, lon, lat, moment=NOW, explain=True)
        for one in told:
            if one.reasons:
                point = {"lon": lon, "lat": lat, "moment": NOW, "offer": one.offer_id}
                plainly = session.scalar(text(PLAINLY), point)
                assert one.distance_m == pytest.approx(plainly, abs=1e-3), point
                measured += 1
    assert measured > 12 * len(made) / 2


def test_an_offer_without_areas_in_force_is_nowhere(session: Session) -> None:
    customer = make_customer(session, 0, 0)
    area = make_area(session, "reference", "later", square(0, 0, 0.5))
    offer = make_offer(session, areas=[{"area_id": area}], starts_at=NOW - timedelta(days=20)).id
    with access.as_user(session, SYSTEM):
        before = NOW - timedelta(days=10)  # the layer was published a week ago
        (one,) = eligibility.judge(session, customer.id, 0, 0, moment=before, explain=True, offer_id=offer)
    assert ("outside" in one.reasons, one.distance_m) == (True, None)
