"""Customers by cell and area as hot spots need them: as counted by hand, without centroids, only what is seen."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import shapely
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, errors, filters
from geocrm.access import SYSTEM
from geocrm.spatial import areas, hotspot_data, layers, lookup, territories
from tests.makers import actor_of, make_customer, make_sale, make_site, make_user

ZOOM = 12
LEFT, TOP = 850, 1550  # a cell in Colorado; its edge is some 7.6 km
LAPSED = filters.parse({"field": "stage", "value": "lapsed"})


def middle(x: float, y: float, zoom: int = ZOOM) -> tuple[float, float]:
    """The point at column x and row y of the grid, by the formula of web Mercator."""
    side = 2.0**zoom
    return x / side * 360 - 180, math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y / side))))


def cell_of(lon: float, lat: float, zoom: int = ZOOM) -> tuple[int, int]:
    x = (lon + 180) / 360 * 2**zoom
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**zoom
    return min(int(x), 2**zoom - 1), min(max(int(y), 0), 2**zoom - 1)


def counted(made: hotspot_data.CellCounts) -> dict[tuple[int, int], list[int]]:
    rows = np.column_stack([made.x, made.y, made.customers, made.events]).tolist()
    return {(x, y): [customers, events] for x, y, customers, events in rows}


def add(session: Session, rows: list[dict[str, Any]]) -> None:
    """Customers with one placed site each, in two statements."""
    plain = {"stage": "active", "precision": "given", "precision_m": 25.0, "owner": None}
    start = max(session.scalar(text("SELECT max(id) FROM customers")) or 0, 1_000_000) + 1  # beyond what identity gives
    rows = [plain | row | {"id": start + i} for i, row in enumerate(rows)]
    session.execute(
        text(
            "INSERT INTO customers (id, kind, name, stage, owner_id) OVERRIDING SYSTEM VALUE"
            " VALUES (:id, 'person', 'C', :stage, :owner)"
        ),
        rows,
    )
    session.execute(
        text(
            "INSERT INTO sites (customer_id, id, country, location, location_precision, precision_m, location_source,"
            " placement, is_primary) OVERRIDING SYSTEM VALUE VALUES (:id, :id, 'US',"
            " ST_SetSRID(ST_MakePoint(:lon, :lat), 4326), :precision, :precision_m, 'file', 'placed', true)"
        ),
        rows,
    )
    lookup.refresh(session, [row["id"] for row in rows])


def even_land(share: int = 5) -> list[dict[str, Any]]:
    """Sixteen by sixteen cells with five customers each, one in `share` lapsed."""
    rows = []
    for i in range(1280):
        lon, lat = middle(LEFT + i % 16 + 0.2 + i % 7 * 0.1, TOP + i // 80 + 0.5)
        rows.append({"lon": lon, "lat": lat, "stage": "lapsed" if i * 7919 % 1280 % share == 0 else "active"})
    return rows


def pile(precision: str) -> list[dict[str, Any]]:
    """Twenty lapsed customers on one point in each of three by three cells, known as well as `precision` says."""
    rows = []
    for i in range(180):
        lon, lat = middle(LEFT + 4.5 + i % 3, TOP + 4.5 + i // 3 % 3)
        rows.append({"lon": lon, "lat": lat, "stage": "lapsed", "precision": precision})
    return rows


@pytest.mark.parametrize("precision", ["postcode", "locality", "region"])
def test_centroids_never_make_a_hot_spot(session: Session, precision: str) -> None:
    """Customers piled on a centroid make none, however exact it claims to be; the same with given coordinates do."""
    add(session, even_land() + pile(precision))
    found = hotspot_data.find_hot_cells(session, SYSTEM, zoom=ZOOM, events=LAPSED, seed=1)
    assert set(found.statistics.label) == {"none"}
    assert found.counts.left_out == hotspot_data.LeftOut(centroid=180)
    assert found.counts.customers.sum() == 1280


def test_given_coordinates_make_one(session: Session) -> None:
    add(session, even_land() + pile("given"))
    found = hotspot_data.find_hot_cells(session, SYSTEM, zoom=ZOOM, events=LAPSED, seed=1)
    cross = {(LEFT + 5 + x, TOP + 5 + y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x * y == 0}
    hot = found.statistics.label == "hot"
    places = set(zip(found.counts.x[hot].tolist(), found.counts.y[hot].tolist(), strict=True))
    assert cross <= places
    assert all(LEFT + 3 <= x <= LEFT + 7 and TOP + 3 <= y <= TOP + 7 for x, y in places)
    assert found.statistics.ratio[hot].min() > 1.2
    assert not (found.statistics.label == "cold").any()
    assert found.counts.left_out == hotspot_data.LeftOut()
    again = hotspot_data.find_hot_cells(session, SYSTEM, zoom=ZOOM, events=LAPSED, seed=1)
    assert np.array_equal(found.statistics.p, again.statistics.p)


def test_only_centroids_are_too_little(session: Session) -> None:
    add(session, pile("postcode"))
    with pytest.raises(errors.TooLittleData, match="180 are known by a centroid"):
        hotspot_data.find_hot_cells(session, SYSTEM, zoom=ZOOM, events=LAPSED, seed=1)


def test_precision_fits_the_cell(session: Session) -> None:
    """The radius may be half the cell's edge at its latitude, not more; a finer grid leaves more out."""
    lon, lat = middle(LEFT + 0.5, TOP + 0.5)
    half = 40_075_016.68557849 / 2**ZOOM * math.cos(math.radians(lat)) / 2
    add(session, [{"lon": lon, "lat": lat, "precision_m": r} for r in (25.0, half * 0.999, half * 1.001, 90_000.0)])
    counts = hotspot_data.count_cells(session, SYSTEM, zoom=ZOOM)
    assert (counts.customers.tolist(), counts.left_out) == ([2], hotspot_data.LeftOut(coarse=2))
    assert counts.edge_m == pytest.approx([2 * half], rel=1e-3)
    finer = hotspot_data.count_cells(session, SYSTEM, zoom=ZOOM + 1)
    assert (finer.customers.tolist(), finer.left_out.coarse) == ([1], 3)


def test_cells_are_counted_as_by_hand(session: Session) -> None:
    """All over the earth and beyond the grid, by filter and box, primary sites of placed customers only."""
    rng = np.random.default_rng(3)
    lon = np.concatenate([rng.uniform(-180, 180, 150), rng.normal(-105, 0.3, 100), [180.0, -180.0]])
    lat = np.concatenate([rng.uniform(-90, 90, 150), rng.normal(39.7, 0.3, 100), [10.0, 10.0]])
    stage = rng.choice(["active", "lapsed", "lead"], len(lon)).tolist()
    add(session, [{"lon": a, "lat": b, "stage": s} for a, b, s in zip(lon.tolist(), lat.tolist(), stage, strict=True)])
    second = make_customer(session, -105.0, 39.7)
    make_site(session, second, 7.0, 50.0)
    pending = make_customer(session)
    lookup.refresh(session, [second.id, pending.id])
    base = filters.parse({"field": "stage", "op": "in", "value": ["active", "lapsed"]})
    for zoom in (3, 6, 9):
        expected: dict[tuple[int, int], list[int]] = {}
        for a, b, s in [*zip(lon, lat, stage, strict=True), (-105.0, 39.7, "active")]:
            if s != "lead" and abs(b) <= 85.0511287798066:
                held = expected.setdefault(cell_of(a, b, zoom), [0, 0])
                held[0] += 1
                held[1] += s == "lapsed"
        made = hotspot_data.count_cells(session, SYSTEM, zoom=zoom, events=LAPSED, base=base)
        got = counted(made)
        assert got == expected
        assert made.left_out.beyond == sum(
            s != "lead" and abs(b) > 85.0511287798066 for b, s in zip(lat, stage, strict=True)
        )
        west, south, east, north = made.bounds.T
        middles = zip((west + east) / 2, (south + north) / 2, strict=True)
        assert [cell_of(a, b, zoom) for a, b in middles] == list(got)
        inside = hotspot_data.count_cells(
            session, SYSTEM, zoom=zoom, events=LAPSED, base=base, box=(-110.0, 35.0, -100.0, 45.0)
        )
        low, high = cell_of(-110.0, 45.0, zoom), cell_of(-100.0, 35.0, zoom)
        kept = {k: v for k, v in expected.items() if low[0] <= k[0] <= high[0] and low[1] <= k[1] <= high[1]}
        assert counted(inside) == kept


def test_readers_count_what_they_see(session: Session) -> None:
    """A rep counts own customers only; without exact places those of the 500 m grid, where cells are large enough."""
    rep, other = make_user(session), make_user(session)
    lon, lat = middle(LEFT + 0.5, TOP + 0.5)
    add(session, [{"lon": lon, "lat": lat, "owner": owner} for owner in (rep.id, rep.id, other.id, None)])
    actor = actor_of(session, rep)
    assert hotspot_data.count_cells(session, SYSTEM, zoom=ZOOM).customers.tolist() == [4]
    assert hotspot_data.count_cells(session, actor, zoom=ZOOM).customers.tolist() == [2]
    snapped = access.Actor(user_id=rep.id, name="key", role="rep", owners=(rep.id,), exact=False)
    assert hotspot_data.count_cells(session, snapped, zoom=ZOOM).customers.tolist() == [2]
    fine = hotspot_data.count_cells(session, snapped, zoom=16)  # cells of some 480 m
    assert (fine.customers.tolist(), fine.left_out.coarse) == ([], 2)
    nobody = access.Actor(user_id=other.id + 1, name="nobody", role="rep", owners=(other.id + 1,))
    with pytest.raises(errors.TooLittleData, match="none is seen here"):
        hotspot_data.find_hot_cells(session, nobody, zoom=ZOOM, events=LAPSED, seed=1)


@pytest.fixture
def counties(session: Session) -> layers.Layer:
    """Six by six square counties of about 7.6 km with a population, one of unknown, over them a park of priority 1."""
    layer = layers.create_layer(session, key="counties", name="Counties", kind="reference", actor=SYSTEM)
    version = layers.create_draft(session, layer.id, actor=SYSTEM).version
    for i in range(36):
        (west, north), (east, south) = middle(LEFT + i % 6, TOP + i // 6), middle(LEFT + i % 6 + 1, TOP + i // 6 + 1)
        held: dict[str, Any] = {"population": str(500 + i % 3), "kind": "rural"} if i else {"kind": "rural"}
        areas.put_area(
            session, layer.id, version, actor=SYSTEM, name=f"County {i}", attributes=held,
            geometry=shapely.box(west, south, east, north),
        )  # fmt: skip
    (west, north), (east, south) = middle(LEFT + 0.4, TOP + 0.4), middle(LEFT + 0.6, TOP + 0.6)
    areas.put_area(
        session, layer.id, version, actor=SYSTEM, name="Park", geometry=shapely.box(west, south, east, north),
        priority=1, attributes={"population": "none"},
    )  # fmt: skip
    territories.publish(session, layer.id, version, actor=SYSTEM, reason="first")
    return layer


def settle(crowd: int) -> list[dict[str, Any]]:
    """Ten customers in each county, `crowd` more in each of four in the middle."""
    rows = []
    for i in range(36):
        x, y = i % 6, i // 6
        for j in range(10 + crowd * (2 <= x <= 3 and 2 <= y <= 3)):
            lon, lat = middle(LEFT + x + 0.1 + j % 8 * 0.1, TOP + y + 0.25)
            rows.append({"lon": lon, "lat": lat})
    return rows


def test_areas_are_counted_once_and_as_seen(session: Session, counties: layers.Layer) -> None:
    rows = settle(0)
    inside_park = middle(LEFT + 0.5, TOP + 0.5)
    lonely = middle(LEFT - 3.5, TOP + 0.5)
    rows += [{"lon": inside_park[0], "lat": inside_park[1], "stage": "lapsed"}, {"lon": lonely[0], "lat": lonely[1]}]
    rows += [{"lon": rows[0]["lon"], "lat": rows[0]["lat"], "precision": "postcode", "precision_m": 900.0}]
    rows += [{"lon": rows[0]["lon"], "lat": rows[0]["lat"], "precision": "locality", "precision_m": 9_000.0}]
    add(session, rows)
    made = hotspot_data.count_areas(session, SYSTEM, "counties", events=LAPSED)
    assert made.names[36] == "Park"
    assert made.customers.tolist() == [10] * 36 + [1]
    assert made.events.tolist() == [0] * 36 + [1]
    assert made.left_out == hotspot_data.LeftOut(centroid=2, outside=1)
    assert np.isnan(made.sales).all()
    assert made.numbers("population")[1:36].tolist() == [500.0 + i % 3 for i in range(1, 36)]
    assert np.isnan(made.numbers("population")[[0, 36]]).all()
    with_centroids = hotspot_data.count_areas(session, SYSTEM, "counties", centroids=True)
    assert with_centroids.customers.tolist() == [11] + [10] * 35 + [1]
    assert with_centroids.left_out == hotspot_data.LeftOut(coarse=1, outside=1)
    rep = actor_of(session, make_user(session))
    assert hotspot_data.count_areas(session, rep, "counties").customers.sum() == 0
    with pytest.raises(errors.NotFound):
        hotspot_data.count_areas(session, SYSTEM, "parishes")


def test_penetration_of_areas(session: Session, counties: layers.Layer) -> None:
    """Four counties have five times the others' customers; the tenth of them in euro are not dollars."""
    add(session, settle(40))
    when = datetime(2026, 3, 1, tzinfo=UTC)
    rich = make_customer(session, *middle(LEFT + 5.5, TOP + 5.25))
    lookup.refresh(session, [rich.id])
    make_sale(session, rich, "70.50", occurred_at=when)
    make_sale(session, rich, "-0.50", occurred_at=when, returned=True)
    make_sale(session, rich, "9.00", occurred_at=when, currency="EUR")
    make_sale(session, rich, "8.00", occurred_at=datetime(2027, 1, 1, tzinfo=UTC))
    year = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    found = hotspot_data.find_penetration(session, SYSTEM, "counties", seed=1, currency="USD", window=year)
    assert found.counts.sales.sum() == found.counts.sales[35] == float(Decimal("70.00"))
    assert found.penetration.share[7] == 10 / 501
    assert np.isnan(found.penetration.share[[0, 36]]).all()
    assert any("population of 2 of 37 areas is not known" in note for note in found.penetration.notes)
    rich_counties = [14, 15, 20, 21]
    assert (found.potential.customers[rich_counties] < 0).all()
    assert (np.delete(found.potential.customers, [0, 36, *rich_counties]) > 0).all()
    assert (found.potential.low[1:36] <= found.potential.customers[1:36]).all()
    with pytest.raises(errors.TooLittleData, match="'households'"):
        hotspot_data.find_penetration(session, SYSTEM, "counties", seed=1, population="households")


def test_hot_areas(session: Session, counties: layers.Layer) -> None:
    """By population and by share; what has no population is not tested. A crowd at centroids makes nothing hot."""
    add(session, settle(40))
    found = hotspot_data.find_hot_areas(session, SYSTEM, "counties", population="population", seed=1)
    assert found.tested.tolist() == list(range(1, 36))
    hot = set(found.tested[found.statistics.label == "hot"].tolist())
    assert {14, 15, 20, 21} <= hot <= {7, 8, 9, 10, 13, 14, 15, 16, 19, 20, 21, 22, 25, 26, 27, 28}
    with pytest.raises(errors.Invalid, match="either a group"):
        hotspot_data.find_hot_areas(session, SYSTEM, "counties", seed=1)


def test_a_crowd_at_centroids_makes_no_area_hot(session: Session, counties: layers.Layer) -> None:
    crowd = settle(40)
    seen: dict[int, int] = {}
    for row in crowd:  # all but the first ten of a county stand at its centroid
        county = cell_of(row["lon"], row["lat"])[0] * 10_000 + cell_of(row["lon"], row["lat"])[1]
        seen[county] = seen.get(county, 0) + 1
        if seen[county] > 10:
            row |= {"precision": "postcode", "precision_m": 50.0}
    add(session, crowd)
    found = hotspot_data.find_hot_areas(session, SYSTEM, "counties", population="population", seed=1)
    assert found.counts.left_out.centroid == 160
    assert not (found.statistics.label == "hot").any()


@pytest.mark.parametrize(
    ("values", "said"),
    [({"zoom": 2}, "zoom"), ({"zoom": 18}, "zoom"), ({"zoom": 9, "box": (10.0, 0.0, -10.0, 5.0)}, "box")],
)
def test_questions_that_cannot_be(session: Session, values: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.Invalid, match=said):
        hotspot_data.count_cells(session, SYSTEM, **values)
