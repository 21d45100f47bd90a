"""Tiles: sums per cell against the points, the union of tiles against the query, none lost at the edges, z0 to z16."""

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, errors, filters
from geocrm.spatial import lookup, tiles
from tests.makers import make_customer, make_site, make_user, square
from tests.spatial import mvt

N = 260
STAGES = ["prospect", "lead", "active", "lapsed"]


def grid(lon: float, lat: float, z: int) -> tuple[int, int]:
    """Column and row of a point among 2^z, by the formula of web Mercator."""
    x = (lon + 180) / 360
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2
    return min(int(x * 2**z), 2**z - 1), min(max(int(y * 2**z), 0), 2**z - 1)


@pytest.fixture
def company(session: Session) -> dict[str, Any]:
    """Customers all over, with clusters, tile corners, ±180° and some beyond 85.05°; two owners, three territories."""
    rng = np.random.default_rng(11)
    lon = np.concatenate([rng.uniform(-180, 180, 100), rng.normal(-105, 0.02, 120), np.full(40, 0.0)])
    lat = np.concatenate([rng.uniform(-89, 89, 100), rng.normal(39.7, 0.02, 120), np.zeros(40)])
    lon[:6], lat[:6] = [180, -180, 90, -90, 0, 45], [10, 10, 0, 0, 66.51326044311186, 0]
    rows = {
        "lon": lon.tolist(),
        "lat": lat.tolist(),
        "stage": rng.choice(STAGES, N).tolist(),
        "owner": rng.choice([0, 7, 8], N).tolist(),
        "territory": rng.choice([0, 1, 2], N).tolist(),
    }
    session.execute(
        text(
            "INSERT INTO customers (id, kind, name, stage, owner_id, territory_ids) OVERRIDING SYSTEM VALUE"
            " SELECT i, 'person', 'C' || i, stage, nullif(owner, 0), CASE WHEN t > 0 THEN ARRAY[t] ELSE '{}' END"
            " FROM unnest(CAST(:stage AS text[]), CAST(:owner AS bigint[]), CAST(:territory AS bigint[]))"
            " WITH ORDINALITY AS w(stage, owner, t, i)"
        ),
        rows,
    )
    session.execute(
        text(
            "INSERT INTO sites (customer_id, id, country, location, location_precision, precision_m, location_source,"
            " placement, is_primary, territory_id) OVERRIDING SYSTEM VALUE"
            " SELECT i, i, 'US', ST_SetSRID(ST_MakePoint(lon, lat), 4326), 'given', 25, 'file', 'placed', true,"
            " nullif(t, 0) FROM unnest(CAST(:lon AS float8[]), CAST(:lat AS float8[]), CAST(:territory AS bigint[]))"
            " WITH ORDINALITY AS w(lon, lat, t, i)"
        ),
        rows,
    )
    lookup.refresh(session, range(1, N + 1))
    return rows


def every_tile(session: Session, actor: access.Actor, z: int, lon: list[float], lat: list[float], **more: Any) -> Any:
    """The features of all tiles of a zoom that hold a site, by tile."""
    wanted = {grid(a, b, z) for a, b in zip(lon, lat, strict=True) if abs(b) <= 85.0511}
    return {
        (x, y): mvt.read(tiles.customer_tile(session, actor, z, x, y, **more)).get("customers", []) for x, y in wanted
    }


REP = access.Actor(user_id=7, name="rep", role="rep", owners=(7,), territories=(1,))


@pytest.mark.parametrize(("z", "merged"), [*((z, False) for z in range(17)), *((z, True) for z in (1, 4, 8, 11))])
def test_tiles_hold_every_site_once(session: Session, company: dict[str, Any], z: int, merged: bool) -> None:
    """Cells sum to the sites in them, points are the sites, from deltas as from the merged pyramid, for each reader."""
    if merged:
        assert lookup.merge_cells(session) > 0
    lon, lat, stage = company["lon"], company["lat"], company["stage"]
    seen = {
        access.SYSTEM: range(N),
        REP: [i for i in range(N) if company["owner"][i] == 7 or company["territory"][i] == 1],
    }
    for actor, visible in seen.items():
        shown = [i for i in visible if abs(lat[i]) <= 85.0511]
        found = every_tile(session, actor, z, lon, lat)
        if z < tiles.POINTS_FROM_ZOOM:
            cells = Counter(grid(lon[i], lat[i], z + 6) for i in shown)
            drawn: Counter[tuple[int, int]] = Counter()
            for (x, y), features in found.items():
                for f in features:
                    drawn[x * 64 + f["_x"] // 64, y * 64 + f["_y"] // 64] += f["n"]
                    assert sum(json.loads(f["counts"]).values()) == f["n"]
                    assert f["key"] == next(iter(json.loads(f["counts"])))
            assert drawn == cells
        else:
            ids = Counter((f["site_id"], tile) for tile, features in found.items() for f in features)
            assert ids == Counter((f"sit_{i + 1}", grid(lon[i], lat[i], z)) for i in shown)
            for (x, y), features in found.items():
                for f in features:
                    i = int(f["site_id"][4:]) - 1
                    assert f["stage"] == stage[i]
                    assert (x * 4096 + f["_x"], y * 4096 + f["_y"]) == pytest.approx(
                        ((lon[i] + 180) / 360 * 2**z * 4096,
                         (1 - math.asinh(math.tan(math.radians(lat[i]))) / math.pi) / 2 * 2**z * 4096), abs=1.01
                    )  # fmt: skip


def test_filters_on_tiles(session: Session, company: dict[str, Any]) -> None:
    """Indexed and ad-hoc filters give the same sums as counting by hand, on cells and on points."""
    lon, lat = company["lon"], company["lat"]
    for value, holds in (
        ({"field": "stage", "value": "lead"}, lambda i: company["stage"][i] == "lead"),
        ({"field": "owner", "op": "in", "value": ["usr_7", "usr_8"]}, lambda i: company["owner"][i] != 0),
        ({"field": "name", "op": "contains", "value": "7"}, lambda i: "7" in f"C{i + 1}"),
        ({"not": {"field": "territory", "value": "ter_1"}}, lambda i: company["territory"][i] != 1),
    ):
        wanted = sum(1 for i in range(N) if holds(i) and abs(lat[i]) <= 85.0511)
        for z in (0, 3, 9, 14):
            found = every_tile(session, access.SYSTEM, z, lon, lat, filter=filters.parse(value))
            assert sum(f.get("n", 1) for features in found.values() for f in features) == wanted


def test_a_crowded_tile_becomes_cells(session: Session) -> None:
    """More than 5,000 sites in a tile at zoom 14: cells, whose sum is right."""
    session.execute(
        text(
            "INSERT INTO site_lookup SELECT i, i, ST_SetSRID(ST_MakePoint(7.001 + 0.004 * random(), 46.001 + 0.004 *"
            " random()), 4326), 'active', 'person', 1, NULL, NULL, true, 'given', 25 FROM generate_series(1, 5200) i"
        )
    )
    x, y = grid(7.003, 46.003, 14)
    found = [
        f
        for dx in (-1, 0, 1)
        for dy in (-1, 0, 1)
        for f in mvt.read(tiles.customer_tile(session, access.SYSTEM, 14, x + dx, y + dy)).get("customers", [])
    ]
    assert any("n" in f for f in found)
    assert sum(f.get("n", 1) for f in found) == 5200


def test_keys_without_exact_places_see_the_grid_only(session: Session, company: dict[str, Any]) -> None:
    """Two sites in one cell of the 500 m grid cannot be told apart, at any zoom."""
    make_customer(session, 8.54001, 47.37001, id=5001)
    make_customer(session, 8.54101, 47.37101, id=5002)
    lookup.refresh(session, [5001, 5002])
    a, b = (
        session.execute(
            text("SELECT ST_AsText(geocrm_snap(location)) FROM sites WHERE customer_id = :i"), {"i": i}
        ).scalar()
        for i in (5001, 5002)
    )
    assert a == b
    key = access.Actor(user_id=1, name="key", role="administrator", sees_all=True, exact=False)
    for z in (11, 14, 16):
        x, y = grid(8.54, 47.37, z)
        found = [
            f
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
            for f in mvt.read(tiles.customer_tile(session, key, z, x + dx, y + dy)).get("customers", [])
        ]
        assert len({(f["_x"], f["_y"]) for f in found}) == 1
        assert sum(f.get("n", 1) for f in found) == 2


def test_counts_follow_edits(session: Session) -> None:
    """A move, a change of stage and a withdrawal are seen at once, before any merge."""
    owner = make_user(session).id
    customer = make_customer(session, 7.0, 46.0, owner_id=owner)
    extra = make_site(session, customer, 7.5, 46.5)
    lookup.refresh(session, [customer.id])
    x, y = grid(7.0, 46.0, 6)

    def cells() -> list[tuple[int, str]]:
        made = mvt.read(tiles.customer_tile(session, access.SYSTEM, 6, x, y)).get("customers", [])
        return sorted((f["n"], f["key"]) for f in made)

    assert cells() == [(1, "active"), (1, "active")]
    customer.stage = "lapsed"
    assert lookup.refresh(session, [customer.id]) == 2
    assert cells() == [(1, "lapsed"), (1, "lapsed")]
    extra.placement = "flagged"
    extra.flags = ["zero"]
    assert lookup.refresh(session, [customer.id]) == 1
    assert cells() == [(1, "lapsed")]
    assert lookup.refresh(session, [customer.id]) == 0
    lookup.merge_cells(session)
    assert cells() == [(1, "lapsed")]
    session.delete(customer)
    session.flush()
    lookup.refresh(session, [customer.id])
    assert cells() == []


def test_area_tiles(session: Session) -> None:
    """Areas are in the tiles they touch, those of the version in force."""
    from geocrm.db import models
    from tests.makers import multi

    layer = models.Layer(key="t", name="T", kind="territories", current_version=1)
    session.add(layer)
    session.flush()
    area = models.Area(layer_id=layer.id, name="North", owner_id=3)
    session.add_all([area, models.LayerVersion(layer_id=layer.id, version=1, status="published")])
    session.flush()
    session.add(models.AreaVersion(area_id=area.id, version=1, name="North", geometry=multi(square(8, 47))))
    session.flush()
    session.add(models.LayerArea(layer_id=layer.id, layer_version=1, area_id=area.id, area_version=1))
    session.flush()
    for z in range(15):
        x, y = grid(8.0, 47.0, z)
        (found,) = mvt.read(tiles.area_tile(session, layer.id, z, x, y))["areas"]
        assert (found["id"], found["name"], found["owner"]) == (f"ter_{area.id}", "North", "usr_3")
    assert tiles.area_tile(session, layer.id, 5, 0, 0) == b""


@pytest.mark.parametrize("tile", [(-1, 0, 0), (23, 0, 0), (2, 4, 0), (2, 0, -1)])
def test_there_is_no_such_tile(tile: tuple[int, int, int]) -> None:
    """Numbers beyond the zoom are refused."""
    with pytest.raises(errors.Invalid):
        tiles.check_tile(*tile)
