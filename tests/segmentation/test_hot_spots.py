"""Hot spots as segments: labels are those of the statistic, centroids stay outside, what few make is not told."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import shapely
from sqlalchemy import text

from geocrm import filters
from geocrm.access import SYSTEM
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import Invalid
from geocrm.segmentation import hot_spots, publishing, runs, segmentations, suppressing
from geocrm.spatial import areas, hotspot_data, hotspots, layers, neighbours, territories
from tests.makers import actor_of, make_user
from tests.spatial.test_hotspot_data import LAPSED, LEFT, TOP, ZOOM, add, cell_of, even_land, middle

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
BLOCK = [(LEFT + 4 + i, TOP + 4 + j) for i in range(4) for j in range(4)]
GROUP = {"field": "stage", "op": "=", "value": "lapsed"}


def planted() -> list[dict[str, Any]]:
    """Even land, with ten lapsed customers more in each cell of a block, and a pile on the centroid of another."""
    rows = even_land()
    for x, y in BLOCK:
        lon, lat = middle(x + 0.5, y + 0.5)
        rows += [{"lon": lon, "lat": lat, "stage": "lapsed"}] * 10
    for i in range(60):
        lon, lat = middle(LEFT + 12.5 + i % 3, TOP + 12.5)
        rows.append({"lon": lon, "lat": lat, "stage": "lapsed", "precision": "postcode", "precision_m": 10.0})
    return rows


@pytest.fixture(scope="module")
def company(new_database: Callable[[], Database]) -> Database:
    database = new_database()
    with database.writing() as session:
        add(session, planted())
        session.execute(
            text(
                "INSERT INTO sales (customer_id, occurred_at, channel, currency, amount)"
                " SELECT id, TIMESTAMPTZ '2025-10-01 12:00Z', 'shop', 'USD', 100 + id % 7 FROM customers"
            )
        )
    return database


def run(database: Database, key: str, **parameters: Any) -> models.SegmentationRun:
    with database.writing() as session:
        held = segmentations.create_segmentation(
            session, actor=SYSTEM, key=key, name=key, method="hotspots", parameters=parameters
        )
        started = runs.start(session, held.id, actor=SYSTEM, cutoff=CUTOFF, queued=False)
    runs.execute(database, started.id)
    with database.writing() as session:
        publishing.publish(session, held.id, started.number, actor=SYSTEM)
        return session.get_one(models.SegmentationRun, started.id)


def members(database: Database, run_id: int) -> dict[int, str]:
    with database.writing() as session:
        rows = session.execute(
            text("SELECT m.customer_id, s.name FROM segment_members m JOIN segments s ON s.id = m.segment_id"
                 " WHERE m.run_id = :id"), {"id": run_id}
        )  # fmt: skip
        return {row.customer_id: row.name for row in rows}


def places(database: Database) -> dict[int, tuple[tuple[int, int], str]]:
    with database.writing() as session:
        rows = session.execute(
            text(
                "SELECT customer_id, ST_X(location) AS lon, ST_Y(location) AS lat, location_precision FROM site_lookup"
            )
        )
        return {row.customer_id: (cell_of(row.lon, row.lat), row.location_precision) for row in rows}


@pytest.mark.parametrize("statistic", ["gi_star", "local_moran"])
def test_labels_are_those_of_the_statistic(company: Database, statistic: str) -> None:
    """Each customer has the label of its cell by `find_hot_cells`, those on the centroid have none; the planted block
    is hot; filters and a second run agree."""
    key = f"lapsed-{statistic}".replace("_", "-")
    done = run(company, key, measure="share", filter=GROUP, zoom=ZOOM, statistic=statistic)
    with company.writing() as session:
        found = hotspot_data.find_hot_cells(
            session, SYSTEM, zoom=ZOOM, events=LAPSED, seed=1, statistic=hot_spots.STATISTICS[statistic]
        )
    words = {"hot": "Hot spot", "cold": "Cold spot", "none": "Neither", "high-high": "High among high",
             "low-low": "Low among low", "high-low": "High among low", "low-high": "Low among high"}  # fmt: skip
    cells = zip(found.counts.x.tolist(), found.counts.y.tolist(), strict=True)
    label = {cell: words[str(one)] for cell, one in zip(cells, found.statistics.label, strict=True)}
    where, held = places(company), members(company, done.id)
    assert held == {who: label[cell] for who, (cell, precision) in where.items() if precision == "given"}
    hot = {where[who][0] for who, name in held.items() if name in ("Hot spot", "High among high")}
    assert hot >= {(LEFT + 5, TOP + 5), (LEFT + 6, TOP + 6)}
    assert done.results["left_out"] == {"centroid": 60, "coarse": 0, "beyond": 0, "outside": 0}
    assert done.results["counted"] == len(held) == done.customers
    segment = next(row for row in done.results["segments"] if row["name"] in ("Hot spot", "High among high"))
    with company.writing() as session:
        rule = filters.parse({"all": [{"field": f"segments.{key}", "op": "=", "value": f"seg_{segment['segment']}"},
                                      {"field": f"scores.{key}.z", "op": ">", "value": 0}]})  # fmt: skip
        compiled = rule.compile("customer", schema="public")
        query = f"SELECT count(*) FROM customers c WHERE {compiled.named()}"
        assert session.scalar(text(query), compiled.params()) == segment["size"] > 100
        again = runs.start(session, done.segmentation_id, actor=SYSTEM, cutoff=CUTOFF, queued=False)
    runs.execute(company, again.id)
    with company.writing() as session:
        same = session.get_one(models.SegmentationRun, again.id)
        assert (same.data_version, same.result_version) == (done.data_version, done.result_version)


def test_sales_and_what_few_make(company: Database) -> None:
    """Sums by cell as counted by hand; who does not see all, or no exact places, is told of segments, not of cells."""
    done = run(company, "sales", measure="sales", zoom=ZOOM)
    where = places(company)
    with company.writing() as session:
        bought = dict(session.execute(text("SELECT customer_id, sum(amount) FROM sales GROUP BY 1")).all())
        rep = actor_of(session, make_user(session, "rep"))
    sums: dict[str, list[float]] = {}
    for who, (cell, precision) in where.items():
        if precision == "given":
            sums.setdefault(f"{ZOOM}/{cell[0]}/{cell[1]}", []).append(float(bought[who]))
    rows = {row["cell"]: row for row in done.results["cells"]}
    assert {cell: (row["customers"], row["value"]) for cell, row in rows.items()} == {
        cell: (len(amounts), pytest.approx(sum(amounts))) for cell, amounts in sums.items()
    }
    assert suppressing.results_for(SYSTEM, done.results)["cells"] == done.results["cells"]
    for reader in (rep, replace(SYSTEM, exact=False)):
        told = suppressing.results_for(reader, done.results)
        assert "cells" not in told
        assert told["segments"]


def test_areas_with_islands_and_overlaps(company: Database) -> None:
    """Shares by area are those of the areas' customers; of two areas at a point the one of higher priority counts."""
    with company.writing() as session:
        layer = layers.create_layer(session, actor=SYSTEM, key="blocks", name="Blocks", kind="reference")
        draft = layers.create_draft(session, layer.id, actor=SYSTEM)
        for i in range(4):
            for j in range(4):
                west, north = middle(LEFT + 4 * i, TOP + 4 * j)
                east, south = middle(LEFT + 4 * i + 4, TOP + 4 * j + 4)
                areas.put_area(session, layer.id, draft.version, actor=SYSTEM, name=f"{i} {j}",
                               geometry=shapely.box(west, south, east, north))  # fmt: skip
        territories.publish(session, layer.id, draft.version, actor=SYSTEM, reason="first")
    done = run(company, "by-area", measure="share", filter=GROUP, layer="blocks")
    rows = {row["name"]: row for row in done.results["cells"]}
    assert rows["1 1"]["customers"] == 16 * 5 + 160
    held = places(company)
    with company.writing() as session:
        lapsed = set(session.scalars(text("SELECT id FROM customers WHERE stage = 'lapsed'")))
    exact = {who: ((x - LEFT) // 4, (y - TOP) // 4) for who, ((x, y), given) in held.items() if given == "given"}
    for (i, j), row in {tuple(map(int, name.split())): row for name, row in rows.items()}.items():
        here = {who for who, at in exact.items() if at == (i, j)}
        assert (row["customers"], row["value"]) == (len(here), len(here & lapsed))
    grid = neighbours.grid([int(n[0]) for n in rows], [int(n[2]) for n in rows])
    counts = np.array([[row["value"], row["customers"]] for row in rows.values()])
    z = hotspots.getis_ord_rates(counts[:, 0], counts[:, 1], grid, seed=1).z
    assert [row["z"] for row in rows.values()] == pytest.approx(z)


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"measure": "love"}, "measure"),
        ({"measure": []}, "measure"),
        ({"statistic": {}}, "statistic"),
        ({"currency": "EUR", "rates": {"US": 1}}, "rates"),
        ({"measure": "share"}, "filter"),
        ({"filter": GROUP}, "filter"),
        ({"measure": "share", "filter": {"all": []}}, "filter"),
        ({"zoom": 18}, "zoom"),
        ({"zoom": True}, "zoom"),
        ({"rings": 0}, "rings"),
        ({"alpha": 1}, "alpha"),
        ({"layer": "counties"}, "layer"),
        ({"measure": "churn", "layer": "counties", "zoom": 9}, "zoom"),
        ({"statistic": "join_count"}, "statistic"),
        ({"seed": 3}, "seed"),
    ],
)
def test_parameters_that_it_does_not_take(parameters: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        hot_spots.HotSpots.check(parameters)
    assert caught.value.errors[0]["pointer"] == f"/parameters/{pointer}"
