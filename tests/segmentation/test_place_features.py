"""Features of place as read from the database: by hand and brute force, dated, precise, and as a rep sees them."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Geod
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.db.engine import Database
from geocrm.db.models import FormerPrimarySite
from geocrm.errors import Invalid, TryAgain
from geocrm.segmentation import feature_registry, features, statistics, surroundings
from geocrm.segmentation.surroundings import Measures
from geocrm.spatial import areas, layers, territories
from geocrm.spatial.towns import towns_of
from tests import makers
from tests.segmentation.test_statistics import CUTOFF, _rolled_back

NAMES = tuple(feature.name for feature in feature_registry.PLACE_FEATURES)
GEOD = Geod(ellps="WGS84")
LON, LAT = -104.99, 39.74  # Denver


def ago(days: float) -> datetime:
    return CUTOFF - timedelta(days=days)


def read(session: Session, names: Sequence[str] = NAMES, **options: Any) -> pd.DataFrame:
    frames = list(surroundings.read_features(session, CUTOFF, names, **options))
    return pd.concat(frames) if frames else pd.DataFrame(columns=list(names))


def buy(session: Session, customer: Any, *sales: tuple[float, str]) -> None:
    for days, amount in sales:
        makers.make_sale(session, customer, amount, occurred_at=ago(days))


def publish_areas(session: Session, key: str, held: Sequence[tuple[Any, dict[str, Any]]], since: datetime) -> None:
    """A reference layer of these polygons and attributes, in force since then."""
    layer = layers.create_layer(session, key=key, name=key, kind="reference", actor=SYSTEM)
    version = layers.create_draft(session, layer.id, actor=SYSTEM).version
    for number, (shape, attributes) in enumerate(held):
        areas.put_area(
            session, layer.id, version, actor=SYSTEM, name=f"{key} {number}", geometry=shape, attributes=attributes
        )
    territories.publish(session, layer.id, version, actor=SYSTEM, reason="first", effective_from=since)


def test_one_customer_by_hand(session: Session) -> None:
    """A shop 1 km north, one 20 km north, a competitor 2 km south; six neighbours in a row, two too far or too new."""
    customer = makers.make_customer(session, LON, LAT)
    metres = {}
    for name, kind, north in (("near", "own", 0.009), ("far", "own", 0.18), ("rival", "competitor", -0.018)):
        makers.make_place(session, LON, LAT + north, kind)
        metres[name] = GEOD.inv(LON, LAT, LON, LAT + north)[2]
    makers.make_place(session, LON, LAT, "depot")
    neighbours = [makers.make_customer(session, LON + 0.001 * (i + 1), LAT) for i in range(6)]
    for i, neighbour in enumerate(neighbours):
        buy(session, neighbour, (500, "80"), *([] if i < 2 else [(100, str(100 * i))]))
    far = makers.make_customer(session, LON + 0.07, LAT)
    buy(session, far, (100, "9999"))
    new = makers.make_customer(session, LON, LAT)
    buy(session, new, (0, "9999"), (-5, "9999"))
    makers.make_customer(session, LON, LAT)  # never buys
    box = makers.square(LON, LAT, 0.1)
    facts = {"population": 50_000, "income": "61000.5", "kind": "city"}
    wide = makers.square(LON, LAT, 1)
    publish_areas(session, "counties", [(wide, {"population": 10, "income": 1, "age": 41})], ago(900))
    publish_areas(session, "zips", [(box, facts)], ago(900))
    statistics.refresh(session, CUTOFF)
    row = read(session, (*NAMES, "area.income", "area.age", "area.kind")).loc[customer.id]
    area_km2 = session.scalar(text("SELECT ST_Area(geography(ST_GeomFromText(:box, 4326))) / 1e6"), {"box": box.wkt})
    towns = towns_of("US")
    assert towns is not None
    km2 = 2 * math.pi * 6371.0088**2 * (1 - math.cos(25 / 6371.0088))
    expected = {
        "location_precision_m": 25, "own_shop_m": metres["near"], "competitor_m": metres["rival"],
        "own_shops_near": 1, "competitors_near": 1, "shop_density": 3 / km2,
        "neighbours_sales_365": (200 + 300 + 400 + 500) / 6, "neighbours_left": 2 / 6,
        "neighbours_growth": 1400 / 480 - 1, "population_density": 50_000 / area_km2,
        "local_penetration": 7 / 50, "area.income": 61_000.5, "area.age": 41,
    }  # fmt: skip
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-9), name
    assert math.isnan(row["area.kind"])
    assert set(expected) == set(row.index) - {"urbanity", "area.kind"}
    assert 2.5 < row["urbanity"] < 4  # Denver: some thousand people a square kilometre


def test_neighbours_are_those_of_brute_force(session: Session) -> None:
    rng = np.random.default_rng(8)
    customers, points, spent = [], [], []
    for _ in range(60):
        lon, lat = 179.99 + rng.normal(0, 0.01), -17 + rng.normal(0, 0.01)
        lon = lon - 360 if lon > 180 else lon
        customers.append(makers.make_customer(session, lon, lat))
        points.append((lon, lat))
        spent.append(int(rng.integers(1, 1000)))
        buy(session, customers[-1], (30, str(spent[-1])))
    statistics.refresh(session, CUTOFF)
    measures = Measures(neighbours=7, reach_m=900, fewest=3)
    frame = read(session, ["neighbours_sales_365"], measures=measures, chunk_rows=17)
    known = 0
    for i, customer in enumerate(customers):
        metres = [GEOD.inv(*points[i], *other)[2] for other in points]
        near = sorted((m, j) for j, m in enumerate(metres) if j != i and m <= 900)[:7]
        value = frame["neighbours_sales_365"][customer.id]
        if len(near) < 3:
            assert math.isnan(value)
        else:
            known += 1
            assert value == pytest.approx(np.mean([spent[j] for _, j in near]))
    assert known > 20


def crowd(session: Session, rng: np.random.Generator, n: int) -> list[Any]:
    made = []
    for _ in range(n):
        customer = makers.make_customer(session, LON + rng.normal(0, 0.01), LAT + rng.normal(0, 0.01))
        buy(session, customer, (rng.uniform(1, 800), "50"), (rng.uniform(1, 800), "20"))
        made.append(customer)
    return made


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6))
def test_nothing_after_the_cutoff_changes_a_feature_of_place(database: Database, seed: int) -> None:
    """Bit for bit: sales, shops opened, closed later, new customers, moved primary sites, areas in force since."""
    with _rolled_back(database) as session:
        rng = np.random.default_rng(seed)
        customers = crowd(session, rng, 14)
        makers.make_place(session, LON + 0.03, LAT, "own", attributes={"opened_on": "2019-05-01"})
        closing = makers.make_place(session, LON + 0.02, LAT, "competitor")
        makers.make_place(session, LON, LAT, "competitor", attributes={"opened_on": "2010", "closed_on": "2020-01-01"})
        publish_areas(session, "counties", [(makers.square(LON, LAT), {"population": 900, "income": 5})], ago(30))
        statistics.refresh(session, CUTOFF, full=True)
        names = (*NAMES, "area.income")
        before = read(session, names)
        assert before.notna().any().all()

        for customer in customers:
            sale = makers.make_sale(session, customer, "77", occurred_at=ago(-rng.uniform(0, 50)))
            statistics.tell_added(session, customer.id, sale.id)
        for kind in ("own", "competitor"):
            opened = CUTOFF.date() + timedelta(days=int(rng.integers(0, 3)))
            makers.make_place(session, LON, LAT, kind, attributes={"opened_on": opened.isoformat()})
        closing.attributes = {"closed_on": "2026-01-01"}
        fresh = makers.make_customer(session, LON, LAT)
        buy(session, fresh, (-1, "500"))
        moved = customers[0]
        former = session.scalar(text("SELECT id FROM sites WHERE customer_id = :id"), {"id": moved.id})
        session.execute(text("UPDATE sites SET is_primary = false WHERE id = :id"), {"id": former})
        makers.make_site(session, moved, LON, LAT, is_primary=True)
        makers._add(session, FormerPrimarySite(customer_id=moved.id, until=ago(-3), site_id=former))
        publish_areas(session, "zips", [(makers.square(LON, LAT, 0.2), {"population": 5, "income": 7})], CUTOFF)
        statistics.refresh(session, CUTOFF)
        after = read(session, names).drop(index=fresh.id)
        pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_places_opened_before_and_closed_after_count(session: Session) -> None:
    customer = makers.make_customer(session, LON, LAT)
    for days, attributes in enumerate(
        (
            {"opened_on": "2025-12-31"}, {"closed_on": "2026-01-01"}, {"opened_on": ""}, {},  # open at the cutoff
            {"opened_on": "2026-01-01"}, {"closed_on": "2025-12-31"},
            {"opened_on": "in spring"},
        )
    ):  # fmt: skip
        makers.make_place(session, LON + 0.001 * days, LAT, "own", attributes=attributes)
    makers.make_place(session, LON, LAT, "own", location_precision="postcode", precision_m=9_000.0)
    makers.make_place(session, LON, LAT, "own", placement="flagged", flags=["swapped"])
    statistics.refresh(session, CUTOFF)
    around = surroundings.Surroundings(session, CUTOFF, ["own_shops_near"])
    assert around.read(np.array([customer.id]))["own_shops_near"].tolist() == [4]
    assert [note.split(" places")[0] for note in around.notes] == ["1", "1"]


def test_what_a_coarse_point_cannot_carry_is_not_known(session: Session) -> None:
    makers.make_place(session, LON, LAT, "own")
    makers.make_place(session, LON, LAT, "competitor")
    crowd(session, np.random.default_rng(1), 8)
    publish_areas(session, "zips", [(makers.square(LON, LAT, 0.02), {"population": 900})], ago(30))  # some 4 km wide
    kinds: dict[str, dict[str, Any]] = {
        "sharp": {}, "postcode": {"location_precision": "postcode", "precision_m": 700.0},
        "street": {"location_precision": "street", "precision_m": 1_200.0},
        "town": {"location_precision": "locality", "precision_m": 2_400.0},
        "region": {"location_precision": "region", "precision_m": 40_000.0},
        "flagged": {"placement": "flagged"},
    }  # fmt: skip
    made = {name: makers.make_customer(session, LON, LAT, site=fields) for name, fields in kinds.items()}
    made["nowhere"] = makers.make_customer(session)
    for customer in made.values():
        buy(session, customer, (20, "7000"))
    statistics.refresh(session, CUTOFF)
    frame = read(session)
    known = {name: set(frame.columns[frame.loc[customer.id].notna()]) for name, customer in made.items()}
    shops = {"location_precision_m", "own_shop_m", "competitor_m", "own_shops_near", "competitors_near", "shop_density"}
    of_areas, of_neighbours = {"population_density", "local_penetration"}, {n for n in NAMES if n.startswith("neigh")}
    assert known["sharp"] == set(NAMES)
    assert known["postcode"] == shops | of_areas | {"urbanity"}
    assert known["street"] == shops | of_neighbours | {"urbanity"}
    assert known["town"] == shops
    assert known["region"] == {"location_precision_m"}
    assert known["flagged"] == known["nowhere"] == set()
    assert frame["location_precision_m"][made["town"].id] == 2_400
    # of them all only the two sharp points are neighbours of anybody, and three are counted in the area
    assert frame["neighbours_sales_365"].max() < 7_000 * 2 / 5 + 70
    counted = read(session, ["local_penetration"])["local_penetration"]
    inside = int((counted.notna()).sum())
    assert counted[made["sharp"].id] == pytest.approx((inside - 1) / 900 * 1_000)


def test_what_nobody_has_is_said(session: Session) -> None:
    five = [makers.make_customer(session, LON, LAT, site={"country": "AQ"}) for _ in range(5)]
    for customer in five:
        buy(session, customer, (10, "5"))
    publish_areas(session, "zips", [(makers.square(LON, LAT), {"population": "many"})], ago(30))
    statistics.refresh(session, CUTOFF)
    names = (*NAMES, "area.income")
    around = surroundings.Surroundings(session, CUTOFF, names)
    frame = around.read(np.array([customer.id for customer in five]))
    lacking = set(frame.columns[frame.isna().all()])
    assert lacking == set(names) - {"location_precision_m"}
    assert set(around.reasons) == lacking
    assert around.reasons["competitor_m"] == "No competitor with a known place was open at the cutoff."
    assert "more than 5 customers" in around.reasons["neighbours_left"]
    assert "attribute 'income'" in around.reasons["area.income"]
    assert around.reasons["urbanity"] == "NaN where no towns are known of AQ."


def test_five_customers_and_a_shop(session: Session) -> None:
    five = [makers.make_customer(session, LON + 0.01 * i, LAT) for i in range(5)]
    for customer in five:
        buy(session, customer, (10, "5"))
    makers.make_place(session, LON, LAT, "own")
    statistics.refresh(session, CUTOFF)
    frame = read(session, ["own_shop_m", "neighbours_sales_365"])
    assert frame["own_shop_m"].tolist() == [GEOD.inv(LON, LAT, LON + 0.01 * i, LAT)[2] if i else 0 for i in range(5)]
    assert frame["neighbours_sales_365"].isna().all()
    assert read(session, ["neighbours_sales_365"], measures=Measures(fewest=4)).iloc[0, 0] == 5


def test_chunks_and_erased_customers(session: Session) -> None:
    customers = crowd(session, np.random.default_rng(2), 9)
    makers.make_place(session, LON, LAT, "own")
    session.execute(text("UPDATE customers SET erased_at = now() WHERE id = :id"), {"id": customers[3].id})
    statistics.refresh(session, CUTOFF)
    names = ["frequency", "neighbours_sales_365", "own_shop_m", "location_precision_m"]
    whole = read(session, names)
    assert list(whole.columns) == names
    assert customers[3].id not in whole.index
    pd.testing.assert_frame_equal(whole, read(session, names, chunk_rows=2), check_exact=True)
    one = customers[5].id
    pd.testing.assert_frame_equal(whole.loc[[one]], read(session, names, customer_id=one), check_exact=True)


def test_a_refresh_while_neighbours_are_read_is_noticed(session: Session) -> None:
    customers = crowd(session, np.random.default_rng(3), 8)
    statistics.refresh(session, CUTOFF)
    around = surroundings.Surroundings(session, CUTOFF, ["neighbours_left"])
    statistics.refresh(session, CUTOFF, full=True)
    with pytest.raises(TryAgain):
        around.read(np.array([customers[0].id]))


def test_names_are_told_apart(session: Session) -> None:
    statistics.refresh(session, CUTOFF)
    assert surroundings.Surroundings(session, CUTOFF, ["frequency", "area.income"]).read(
        np.array([1])
    ).columns.tolist() == ["area.income"]
    with pytest.raises(Invalid, match="own_shop_m"):
        read(session, ["shop_m"])
    with pytest.raises(Invalid, match="beside the others: own_shop_m"):
        list(features.read_features(session, CUTOFF, ["own_shop_m"]))


def test_every_feature_of_place_is_explained_in_the_docs(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs" / "methods" / "place-features.md").read_text(encoding="utf-8")
    assert not [
        feature.name
        for feature in feature_registry.PLACE_FEATURES
        if f"| `{feature.name}` | {feature.unit}" not in page
    ]
