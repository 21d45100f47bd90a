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


CUTS = [-1.0, 0.5, 2.0]
WORTH: dict[str, Any] = {"colour": "scores.value.worth", "cuts": CUTS}


@pytest.fixture
def worths(session: Session, company: dict[str, Any]) -> list[float | None]:
    """The second score of the published run, by customer: on cuts, between, NaN, and none at all; other runs differ."""
    rng = np.random.default_rng(3)
    numbers = [
        None if i % 5 == 0 else math.nan if i % 5 == 1 else float(np.float32(rng.normal(0, 3))) for i in range(N)
    ]
    numbers[2:5] = [-1.0, 0.5, 2.0]
    session.execute(
        text(
            "INSERT INTO segmentations (id, key, name, method, current_run_id) OVERRIDING SYSTEM VALUE"
            " VALUES (1, 'value', 'Worth', 'value', 2);"
            " INSERT INTO segmentation_runs"
            " (id, segmentation_id, number, status, cutoff, seed, parameters, score_names) OVERRIDING SYSTEM VALUE"
            " VALUES (1, 1, 1, 'done', now(), 1, '{}', '{worth}'),"
            " (2, 1, 2, 'done', now(), 1, '{}', '{p_alive,worth}');"
            " INSERT INTO scores SELECT i, 1, ARRAY[7] FROM generate_series(1, 260) i"
        )
    )
    session.execute(
        text(
            "INSERT INTO scores SELECT i, 2, ARRAY[0, number] FROM unnest(CAST(:numbers AS real[]))"
            " WITH ORDINALITY AS w(number, i) WHERE number IS NOT NULL"
        ),
        {"numbers": numbers},
    )
    return [None if number is None or math.isnan(number) else number for number in numbers]


def shade_of(number: float | None) -> str:
    return "" if number is None else str(sum(cut <= number for cut in CUTS))


@pytest.mark.parametrize("z", [0, 9, 12, 15])
def test_tiles_coloured_by_a_score(
    session: Session, company: dict[str, Any], worths: list[float | None], z: int
) -> None:
    """Each reader gets the shades of the sites they see, on points as on cells, whole as filtered; others none."""
    lon, lat = company["lon"], company["lat"]
    active = filters.parse({"field": "stage", "value": "active"})
    for actor, filter in ((access.SYSTEM, None), (access.SYSTEM, active), (REP, None), (REP, active)):
        seen = [
            i for i in range(N)
            if abs(lat[i]) <= 85.0511 and (actor.sees_all or company["owner"][i] == 7 or company["territory"][i] == 1)
            and (filter is None or company["stage"][i] == "active")
        ]  # fmt: skip
        found = every_tile(session, actor, z, lon, lat, filter=filter, **WORTH)
        if z < tiles.POINTS_FROM_ZOOM:
            wanted: dict[tuple[int, int], Counter[str]] = {}
            for i in seen:
                wanted.setdefault(grid(lon[i], lat[i], z + 6), Counter())[shade_of(worths[i])] += 1
            drawn = {
                (x * 64 + f["_x"] // 64, y * 64 + f["_y"] // 64): f for (x, y), made in found.items() for f in made
            }
            assert {cell: Counter(json.loads(f["counts"])) for cell, f in drawn.items()} == wanted
            for cell, f in drawn.items():
                assert f["n"] == f["looked_at"] == wanted[cell].total()
                known = sorted(shade for shade in wanted[cell].elements() if shade)
                assert f["key"] == (known[(len(known) - 1) // 2] if known else "")
        else:
            drawn_sites = {f["site_id"]: f for made in found.values() for f in made}
            assert set(drawn_sites) == {f"sit_{i + 1}" for i in seen}
            for i in seen:
                f = drawn_sites[f"sit_{i + 1}"]
                assert f.get("score") == (None if worths[i] is None else pytest.approx(worths[i]))
                assert str(f.get("shade", "")) == shade_of(worths[i])


def test_a_full_tile_is_coloured_by_a_sample(session: Session, worths: list[float | None]) -> None:
    """Over 10,000 sites in a tile: every cell says how many it holds, and shades of a part of them, as they lie."""
    session.execute(
        text(
            "INSERT INTO site_lookup SELECT i, i, ST_SetSRID(ST_MakePoint(7 + (i % 100) * 0.001, 46 + i * 1e-6), 4326),"
            " CASE WHEN i % 3 = 0 THEN 'lead' ELSE 'active' END, 'person', 1, NULL, NULL, true, 'given', 25"
            " FROM generate_series(1001, 31000) i;"
            " INSERT INTO scores SELECT i, 2, ARRAY[0, CASE WHEN i % 100 < 50 THEN -5 ELSE 5 END]"
            " FROM generate_series(1001, 31000) i;"
            " INSERT INTO customers (id, kind, name, stage) OVERRIDING SYSTEM VALUE"
            " SELECT i, 'person', 'S', 'active' FROM generate_series(1001, 31000) i;"
            " INSERT INTO site_cells (level, cell, stage, kind, owner_id, n)"
            " SELECT z, geocrm_cell(location, z), stage, kind, owner_id, count(*)"
            " FROM site_lookup, unnest(ARRAY[8, 14]) z WHERE customer_id > 1000 GROUP BY 1, 2, 3, 4, 5"
        )
    )
    x, y = grid(7.05, 46.015, 7)
    for filter, n in ((None, 30_000), (filters.parse({"field": "stage", "value": "lead"}), 10_000)):
        made = mvt.read(tiles.customer_tile(session, access.SYSTEM, 7, x, y, filter=filter, **WORTH))["customers"]
        looked = sum(f["looked_at"] for f in made)
        assert sum(f["n"] for f in made) == n
        if filter is None:
            assert looked == sum(1 for i in range(1001, 31001) if i % 16 == 0)
        else:
            assert looked == n  # few enough to look at each
        shades = Counter[str]()
        for f in made:
            assert sum(json.loads(f["counts"]).values()) == f["looked_at"] <= f["n"]
            shades.update(json.loads(f["counts"]))
        assert set(shades) == {"0", "3"}
        assert abs(shades["0"] - shades["3"]) <= looked * 0.1
    crowded = mvt.read(tiles.customer_tile(session, access.SYSTEM, 12, *grid(7.05, 46.015, 12), **WORTH))["customers"]
    whole, looked = (sum(f[name] for f in crowded) for name in ("n", "looked_at"))
    assert 10_000 < whole < 20 * looked < 2 * whole


def test_colours_that_there_are_not(session: Session, worths: list[float | None]) -> None:
    for wrong, pointer in (
        ({"colour": "shoe"}, "/colour"), ({"colour": "scores.value"}, "/colour"), ({"cuts": [1.0]}, "/cuts"),
        ({"colour": "scores.value.worth"}, "/cuts"), (WORTH | {"cuts": [2.0, 1.0]}, "/cuts"),
        (WORTH | {"cuts": [math.nan]}, "/cuts"), (WORTH | {"cuts": list(map(float, range(9)))}, "/cuts"),
    ):  # fmt: skip
        with pytest.raises(errors.Invalid) as caught:
            tiles.customer_tile(session, access.SYSTEM, 0, 0, 0, **wrong)
        assert caught.value.errors[0]["pointer"] == pointer


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
