"""Fences put, kept, found and held in memory; the two truths of a point agree."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import errors
from geocrm.access import SYSTEM
from geocrm.campaigns import geofences
from tests.campaigns import walks
from tests.campaigns.test_crossings import SEED

CIRCLE: dict[str, Any] = {"center": {"lon": 8.54, "lat": 47.37}, "radius_m": 150.0}


def square(lon: float, lat: float, degrees: float = 0.01) -> dict[str, Any]:
    ring = [[lon, lat], [lon + degrees, lat], [lon + degrees, lat + degrees], [lon, lat + degrees], [lon, lat]]
    return {"geometry": {"type": "Polygon", "coordinates": [ring]}}


def put(session: Session, name: str, **values: Any) -> geofences.Put:
    return geofences.put(session, SYSTEM, "shops", name, values)


def test_the_same_call_twice_is_one_fence(session: Session) -> None:
    first = put(session, "a", **CIRCLE, metadata={"b": 1, "a": [2]})
    assert (first.created, first.changed) == (True, True)
    again = put(session, "a", **CIRCLE, metadata={"a": [2], "b": 1})
    assert (again.fence_id, again.created, again.changed) == (first.fence_id, False, False)
    assert geofences.get(session, "shops", "a")["version"] == 1
    assert put(session, "a", **CIRCLE, dwell_s=60.0).changed
    assert geofences.get(session, "shops", "a")["version"] == 2
    assert put(session, "a", **square(8.5, 47.3)).changed
    shown = geofences.get(session, "shops", "a")
    assert (shown["kind"], shown["center"], shown["radius_m"], shown["dwell_s"]) == ("polygon", None, None, None)
    geofences.delete(session, SYSTEM, "shops", "a")
    with pytest.raises(errors.NotFound):
        geofences.get(session, "shops", "a")
    with pytest.raises(errors.NotFound):
        geofences.delete(session, SYSTEM, "shops", "a")
    back = put(session, "a", **CIRCLE)
    assert (back.fence_id, back.created) == (first.fence_id, True)
    assert [row["external_id"] for row in geofences.find(session, tag="shops", box=(8.5, 47.3, 8.6, 47.4))] == ["a"]
    assert geofences.find(session, box=(8.6, 47.3, 8.5, 47.4)) == []  # all the way round, but for the fence
    assert geofences.find(session, tag="other") == []


BAD = [
    ({}, "a geometry .* or a center"),
    (CIRCLE | square(8.5, 47.3), "a geometry .* or a center"),
    (square(8.5, 47.3) | {"radius_m": 20.0}, "that of a circle"),
    ({"center": {"lon": 8.5, "lat": 47.3}}, "expected 10 to 100000 m"),
    (CIRCLE | {"radius_m": 1e6}, "expected 10 to 100000 m"),
    (CIRCLE | {"radius_m": 3.0}, "expected 10 to 100000 m"),
    ({"center": {"lon": 8.5, "lat": 88.9}, "radius_m": 50_000.0}, "reaches a pole"),
    pytest.param(square(179.995, 47.3), "crosses ±180°: make two fences", id="a fence over 180 degrees"),
    (square(8.5, 47.3, 3.0), "more than 200 km across"),
    pytest.param(
        {"geometry": {"type": "Polygon", "coordinates": [[[8, 47], [8.1, 47.1], [8.1, 47], [8, 47.1], [8, 47]]]}},
        "crosses itself", id="a fence over itself",
    ),
    ({"geometry": {"type": "Point", "coordinates": [8, 47]}}, "Polygon or a MultiPolygon"),
    (
        {"geometry": {"type": "Polygon", "coordinates": [
            [[8 + np.cos(t) / 50, 47 + np.sin(t) / 50] for t in np.linspace(0, 2 * np.pi, 2500)[:-1]] + [[8.02, 47.0]]
        ]}},
        "corners, more than 2,000",
    ),
    (CIRCLE | {"hours": [{"days": ["mon"], "from": "09:00", "to": "18:00"}]}, "of a time zone"),
    (CIRCLE | {"hours": [{"days": ["someday"], "from": "9", "to": "18:00"}], "time_zone": "UTC"}, "expected days"),
    (CIRCLE | {"time_zone": "Mars/Olympus"}, "no time zone"),
    (CIRCLE | {"metadata": {"a": "x" * 5000}}, "characters as JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "said"), BAD)
def test_what_is_no_fence_is_refused_in_words(session: Session, values: dict[str, Any], said: str) -> None:
    before = session.scalar(text("SELECT count(*) FROM geofences"))
    with pytest.raises((errors.Invalid, errors.TooLarge), match=said) as caught:
        put(session, "bad", **values)
    assert caught.value.errors[0]["pointer"].startswith("/")
    assert session.scalar(text("SELECT count(*) FROM geofences")) == before


def test_fences_that_overlap_are_named(session: Session) -> None:
    """Circles by their radii, polygons by their insides: who only touches does not overlap."""
    at = {name: put(session, name, **shape).fence_id for name, shape in {
        "circle": {"center": {"lon": 8.5, "lat": 47.0}, "radius_m": 1000.0},
        "near": {"center": {"lon": 8.526, "lat": 47.0}, "radius_m": 1000.0},  # 1,977 m
        "far": {"center": {"lon": 8.4735, "lat": 47.0}, "radius_m": 1000.0},  # 2,015 m
        "square": square(8.51, 47.0),
        "beside": square(8.52, 47.0),
    }.items()}  # fmt: skip
    geofences.put(session, SYSTEM, "zones", "all", square(8.0, 46.5, 1.0))
    overlaps = {name: geofences.find_overlapping(session, number) for name, number in at.items()}
    assert overlaps == {
        "circle": ["shops/near", "shops/square", "zones/all"],
        "near": ["shops/circle", "shops/square", "shops/beside", "zones/all"],
        "far": ["zones/all"],
        "square": ["shops/circle", "shops/near", "zones/all"],
        "beside": ["shops/near", "zones/all"],
    }
    geofences.delete(session, SYSTEM, "zones", "all")
    assert geofences.find_overlapping(session, at["far"]) == []


def test_fences_in_memory_are_those_in_the_database(session: Session) -> None:
    random = np.random.default_rng(SEED)
    holder = geofences.Holder()
    names: list[str] = []
    for turn in range(4):
        for number in range(12):
            one = walks.draw_fence(random)
            at = {"center": {"lon": one.lon, "lat": one.lat}, "radius_m": one.radius_m}
            shape = {"geometry": {"type": "Polygon", "coordinates": [ring.tolist() for ring in one.rings]}}
            names.append(f"{turn}-{number}")
            put(session, names[-1], **(shape if one.rings else at), dwell_s=one.dwell_s)
        if turn:
            geofences.delete(session, SYSTEM, "shops", names.pop(random.integers(len(names))))
            put(session, names[0], **CIRCLE, dwell_s=float(turn))
        held, afresh = holder.current(session), geofences.Holder().current(session)
        assert held is holder.current(session)
        assert held.fence_ids == afresh.fence_ids
        assert (held.revision, held.dwell_s) == (afresh.revision, afresh.dwell_s)
        assert {i: one.reference() for i, one in held.held.items()} == {
            i: one.reference() for i, one in afresh.held.items()
        }
    assert len(held.fence_ids) == len(names)
    put(session, "date line", center={"lon": 179.999, "lat": -16.0}, radius_m=500.0)
    held = holder.current(session)
    lon = np.concatenate([random.uniform(-0.01, 0.01, 12) + 8.54, [179.9995, -179.9985, -179.9]])
    lat = np.concatenate([random.uniform(-0.01, 0.01, 12) + 47.37, [-16.0] * 3])
    rows = session.execute(text("SELECT ST_X(c) AS lon, ST_Y(c) AS lat FROM (SELECT ST_PointOnSurface(geometry) AS c"
                                " FROM geofences WHERE deleted_at IS NULL) AS s")).all()  # fmt: skip
    lon, lat = np.append(lon, [row.lon for row in rows]), np.append(lat, [row.lat for row in rows])
    standings = held.index.standings(lon, lat, np.full(len(lon), 5.0))
    inside: dict[int, set[int]] = {}
    for position, fence, probability in zip(standings.position, standings.fence, standings.probability, strict=True):
        if probability >= 0.5:
            inside.setdefault(int(position), set()).add(held.fence_ids[fence])
    for row in range(len(lon)):
        point = {"lon": float(lon[row]), "lat": float(lat[row])}
        at = "ST_SetSRID(ST_MakePoint(:lon, :lat), 4326)"
        found = set(session.scalars(text(f"SELECT fence_id FROM geocrm_fences_at({at})"), point))
        assert found == inside.get(row, set()), (SEED, point)
        for fence in held.fence_ids[:5]:
            away = session.scalar(text(f"SELECT geocrm_fence_distance(:fence, {at})"), point | {"fence": fence})
            assert (away == 0) == (fence in found)
    assert sum(map(len, inside.values())) >= len(held.fence_ids)
    assert session.scalar(text("SELECT geocrm_fence_distance(999999, ST_MakePoint(0, 0))")) is None


def test_a_phone_crosses_nothing_unseen_before_it_asks_again(session: Session) -> None:
    random = np.random.default_rng(SEED)
    drawn: dict[str, walks.Drawn] = {}
    for number in range(60):
        one = walks.draw_fence(random)
        lon, lat = 8.54 + random.normal(0, 0.05), 47.37 + random.normal(0, 0.03)
        rings = [ring - np.array([one.lon, one.lat]) + np.array([lon, lat]) for ring in one.rings]
        one.rings, one.lon, one.lat = rings, lon, lat
        drawn[str(number)] = one
        shape = {"geometry": {"type": "Polygon", "coordinates": [ring.tolist() for ring in rings]}}
        put(
            session, str(number), **(shape if rings else {"center": {"lon": lon, "lat": lat}, "radius_m": one.radius_m})
        )
    fences = geofences.Holder().current(session)
    moved = 0.0
    for _ in range(20):
        lon, lat = 8.54 + random.normal(0, 0.05), 47.37 + random.normal(0, 0.03)
        found = geofences.nearest(fences, lon, lat, 8)
        assert len(found["data"]) == 8
        watched = {one["external_id"]: one["watch"] for one in found["data"]}
        moved += found["ask_again_m"]
        for turn in random.uniform(0, 360, 12):
            x, y, _ = walks.GEOD.fwd(lon, lat, turn, found["ask_again_m"])
            for name, one in drawn.items():
                crossed = _inside(one, lon, lat) != _inside(one, x, y)
                circle = watched.get(name)
                seen = circle is not None and _in_circle(circle, lon, lat) != _in_circle(circle, x, y)
                assert seen or not crossed, (SEED, name)
    assert moved > 20 * 20, "it may hardly move: the test tests nothing"


def _in_circle(circle: dict[str, float], lon: float, lat: float) -> bool:
    return bool(walks.GEOD.inv(circle["lon"], circle["lat"], lon, lat)[2] <= circle["radius_m"])


def _inside(one: walks.Drawn, lon: float, lat: float) -> bool:
    if not one.rings:
        return _in_circle({"lon": one.lon, "lat": one.lat, "radius_m": one.radius_m}, lon, lat)
    odd = False
    for ring in one.rings:
        a, b = ring[:-1], ring[1:]
        over = (a[:, 1] > lat) != (b[:, 1] > lat)
        with np.errstate(divide="ignore", invalid="ignore"):
            x = a[:, 0] + (lat - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
        odd ^= bool((over & (x > lon)).sum() % 2)
    return odd


def test_hours_are_those_of_the_wall(session: Session) -> None:
    spans = [{"days": ["mon"], "from": "22:00", "to": "02:00"}, {"days": ["sun"], "from": "09:00", "to": "24:00"}]
    put(session, "a", **CIRCLE, hours=spans, time_zone="Europe/Zurich")
    (one,) = geofences.Holder().current(session).held.values()
    for moment, is_open in (
        ("2026-11-23T20:59:00+00:00", False), ("2026-11-23T21:00:00+00:00", True), ("2026-11-24T00:59:00+00:00", True),
        ("2026-11-24T01:00:00+00:00", False), ("2026-11-22T08:00:00+00:00", True), ("2026-11-22T22:59:00+00:00", True),
        ("2026-11-22T23:01:00+00:00", False), ("2026-07-06T20:00:00+00:00", True), ("2026-07-06T19:59:00+00:00", False),
    ):  # fmt: skip
        assert one.is_open(np.datetime64(moment[:19]).astype(float)) == is_open, moment
