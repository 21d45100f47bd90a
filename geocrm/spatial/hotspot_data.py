"""Customers by cell and by area as a reader sees them, and what local statistics say of these: hot spots of a group of
customers, hot spots of penetration, penetration and potential of areas.

Counted in SQL (`db/sql/hotspots.sql`), under row security, one customer at its primary site. Cells are those of the
web Mercator grid that tiles use. For hot spots a customer counts only where it is known to be: its point is no centroid
of a postal code, town or region, and `precision_m` is at most half the edge of the cell (of an area: of a square
as large as it is), so that in 95 % of cases it lies in the cell or in one beside it. Who is left out is counted by why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import errors
from geocrm.access import Actor, as_user
from geocrm.db.queries import named
from geocrm.filters import Filter
from geocrm.spatial import hotspots, layers, neighbours
from geocrm.spatial.penetration import Penetration, Potential, penetration, potential

SNAPPED_M: Final = 500.0
"""What a point of the 500 m grid is known to, at best."""
LOWEST_ZOOM: Final = 3
HIGHEST_ZOOM: Final = 17
_EQUATOR_M: Final = 40_075_016.68557849
_SNAP_REACH: Final = 0.05  # degrees by which a snapped point may lie off, with room to spare

Statistic = Literal["getis_ord", "local_moran"]
Window = tuple[datetime, datetime]


@dataclass(frozen=True)
class LeftOut:
    """Customers that count nowhere: known by a `centroid` only, known too `coarse` for cell or area, `beyond` ±85.05°
    where there are no cells, `outside` of all areas. Sites without a place are not among them."""

    centroid: int = 0
    coarse: int = 0
    beyond: int = 0
    outside: int = 0


@dataclass(frozen=True)
class CellCounts:
    """Cells with at least one customer, arrays (n,): column `x` and row `y` at `zoom`, `customers` and those of them
    that are `events`."""

    zoom: int
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    customers: NDArray[np.int64]
    events: NDArray[np.int64]
    left_out: LeftOut

    @property
    def bounds(self) -> NDArray[np.float64]:
        """West, south, east and north of each cell in degrees, (n, 4)."""
        side = 2.0**self.zoom
        south, north = (np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (self.y + down) / side)))) for down in (1, 0))
        return np.column_stack([self.x / side * 360 - 180, south, (self.x + 1) / side * 360 - 180, north])

    @property
    def edge_m(self) -> NDArray[np.float64]:
        """Width of each cell at its middle, in metres, (n,)."""
        bounds = self.bounds
        return _EQUATOR_M / 2.0**self.zoom * np.cos(np.radians((bounds[:, 1] + bounds[:, 3]) / 2))


@dataclass(frozen=True)
class AreaCounts:
    """The areas of a layer as published now, arrays (n,) by id, those without customers too. `sales` in `currency` are
    NaN unless asked for, those of `buyers` different customers."""

    area_ids: NDArray[np.int64]
    names: tuple[str, ...]
    geometries: NDArray[np.object_]
    attributes: tuple[dict[str, Any], ...]
    customers: NDArray[np.int64]
    events: NDArray[np.int64]
    sales: NDArray[np.float64]
    buyers: NDArray[np.int64]
    currency: str | None
    left_out: LeftOut

    def numbers(self, attribute: str) -> NDArray[np.float64]:
        """An attribute as numbers (n,), NaN where it is missing or none (a text such as "1200" is a number)."""
        return np.array([_number(held.get(attribute)) for held in self.attributes], dtype=np.float64)


@dataclass(frozen=True)
class HotCells:
    """Cells and what the statistic says of each, in the same order."""

    counts: CellCounts
    statistics: hotspots.LocalStatistics


@dataclass(frozen=True)
class HotAreas:
    """Areas and what the statistic says of each, in the same order; `tested` are those with somebody exposed."""

    counts: AreaCounts
    tested: NDArray[np.int64]
    statistics: hotspots.LocalStatistics


@dataclass(frozen=True)
class AreaPenetration:
    """Areas with their penetration and potential, in the same order."""

    counts: AreaCounts
    population: NDArray[np.float64]
    penetration: Penetration
    potential: Potential


def count_cells(
    session: Session,
    actor: Actor,
    *,
    zoom: int,
    events: Filter | None = None,
    base: Filter | None = None,
    box: tuple[float, float, float, float] | None = None,
) -> CellCounts:
    """Customers by cell at `zoom` (3 to 17; the edge halves with each) for whom `base` holds, and for how many of them
    `events` does, as the actor sees them. `box` (west, south, east, north in degrees) is widened to whole cells.

    Reads every visible customer in the box. Raises errors.Invalid."""
    if not LOWEST_ZOOM <= zoom <= HIGHEST_ZOOM:
        raise _invalid("/zoom", f"expected {LOWEST_ZOOM} to {HIGHEST_ZOOM}")
    values: dict[str, Any] = {"zoom": zoom} | _whole_cells(box or (-180.0, -90.0, 180.0, 90.0), zoom)
    found: dict[str, int] = {}
    cells = []
    for row in _read(session, actor, "cells", events, base, values):
        if row.verdict == "fits":
            cells.append((row.x, row.y, row.customers, row.events))
        else:
            found[row.verdict] = row.customers
    x, y, customers, hits = np.array(cells, dtype=np.int64).reshape(-1, 4).T
    return CellCounts(zoom, x, y, customers, hits, LeftOut(**found))


def count_areas(
    session: Session,
    actor: Actor,
    layer: int | str,
    *,
    events: Filter | None = None,
    base: Filter | None = None,
    centroids: bool = False,
    currency: str | None = None,
    window: Window | None = None,
) -> AreaCounts:
    """Customers by area of a layer as published now for whom `base` holds, and for how many of them `events` does, as
    the actor sees them; with `currency` what they bought in it within `window` (start, end: not included).

    With `centroids`, customers known by a centroid count too where their precision fits the area: right for sums of
    large areas, never for hot spots. Raises errors.NotFound, errors.Invalid."""
    layer_id = layers.get_layer(session, layer).id
    if window is not None and not (window[0].tzinfo and window[1].tzinfo and window[0] < window[1]):
        raise _invalid("/window", "expected two times with their zone, the earlier first")
    rows = session.execute(text(named("hotspots", "areas")), {"layer": layer_id}).all()
    since, until = window or (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
    values = {
        "layer": layer_id,
        "areas": [row.id for row in rows],
        "versions": [row.version for row in rows],
        "reaches": [math.sqrt(row.area_m2) / 2 for row in rows],
        "centroids": centroids,
        "currency": currency,
        "since": since,
        "until": until,
    }
    at = {row.id: position for position, row in enumerate(rows)}
    customers, hits = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    sales = np.full(len(rows), np.nan if currency is None else 0.0)
    buyers = np.zeros(len(rows), dtype=np.int64)
    found: dict[str, int] = {}
    for row in _read(session, actor, "customers_of_areas", events, base, values):
        if row.verdict != "fits":
            found[row.verdict] = row.customers
            continue
        customers[at[row.area_id]], hits[at[row.area_id]] = row.customers, row.events
        if currency is not None:
            sales[at[row.area_id]], buyers[at[row.area_id]] = float(row.sales), row.buyers
    return AreaCounts(
        area_ids=np.array([row.id for row in rows], dtype=np.int64),
        names=tuple(row.name for row in rows),
        geometries=np.array([shapely.from_wkb(bytes(row.geometry)) for row in rows], dtype=object),
        attributes=tuple(row.attributes for row in rows),
        customers=customers,
        events=hits,
        sales=sales,
        buyers=buyers,
        currency=currency,
        left_out=LeftOut(**found),
    )


def find_hot_cells(
    session: Session,
    actor: Actor,
    *,
    zoom: int,
    events: Filter,
    seed: int,
    base: Filter | None = None,
    box: tuple[float, float, float, float] | None = None,
    statistic: Statistic = "getis_ord",
    rings: int = 1,
    q: float = 0.05,
) -> HotCells:
    """Cells where a larger or smaller share of the customers (for whom `base` holds) is of the group `events` than on
    the map as a whole, with their neighbours up to `rings` cells away. Raises as `count_cells` and
    `hotspots.getis_ord_rates` do."""
    counts = count_cells(session, actor, zoom=zoom, events=events, base=base, box=box)
    _require_customers(int(counts.customers.sum()), counts.left_out)
    beside = neighbours.grid(counts.x, counts.y, rings=rings, columns=2**zoom if 2**zoom > 2 * rings else None)
    return HotCells(counts, _METHODS[statistic](counts.events, counts.customers, beside, seed=seed, q=q))


def find_hot_areas(
    session: Session,
    actor: Actor,
    layer: int | str,
    *,
    seed: int,
    events: Filter | None = None,
    base: Filter | None = None,
    population: str | None = None,
    statistic: Statistic = "getis_ord",
    gap_m: float = 0.0,
    q: float = 0.05,
) -> HotAreas:
    """The same by area, with the areas that touch: the share of `events` among customers or, with the attribute that
    holds the `population`, customers per population. Areas without customers (or without a population) are not tested.
    Raises as `count_areas`, `neighbours.touching` and `hotspots.getis_ord_rates` do."""
    if (events is None) == (population is None):
        raise _invalid("/events", "expected either a group of customers or an attribute that holds the population")
    counts = count_areas(session, actor, layer, events=events, base=base)
    _require_customers(int(counts.customers.sum()), counts.left_out)
    if population is None:
        hits, exposed = counts.events.astype(np.float64), counts.customers.astype(np.float64)
    else:
        hits, exposed = counts.customers.astype(np.float64), counts.numbers(population)
    tested = np.flatnonzero(np.isfinite(exposed) & (exposed > 0))
    if not len(tested):
        raise errors.TooLittleData(f"No area of the layer has a number in the attribute {population!r}.")
    beside = neighbours.touching(counts.geometries[tested], gap_m=gap_m)
    made = _METHODS[statistic](
        hits[tested], exposed[tested], beside, seed=seed, q=q, family="binomial" if population is None else "poisson"
    )
    return HotAreas(counts, tested, made)


def find_penetration(
    session: Session,
    actor: Actor,
    layer: int | str,
    *,
    seed: int,
    population: str = "population",
    base: Filter | None = None,
    peers: str | None = None,
    currency: str | None = None,
    window: Window | None = None,
    level: float = 0.95,
) -> AreaPenetration:
    """Penetration and potential of a layer's areas: customers (for whom `base` holds) per what the attribute
    `population` says, people or households. `peers` names an attribute whose equal values make areas peers; with
    `currency`, sales in `window` are compared too. Customers known by centroids count where their precision fits.
    Raises as `count_areas` and `penetration.penetration` do."""
    counts = count_areas(session, actor, layer, base=base, centroids=True, currency=currency, window=window)
    people = counts.numbers(population)
    if not np.isfinite(people).any():
        raise errors.TooLittleData(
            f"No area of the layer has a number in the attribute {population!r}: penetration needs the population of "
            "areas; import the layer with it."
        )
    alike = None if peers is None else np.array([str(held.get(peers)) for held in counts.attributes], dtype=object)
    return AreaPenetration(
        counts,
        people,
        penetration(counts.customers, people, seed=seed, level=level),
        potential(
            counts.customers, people, seed=seed, peers=alike, sales=None if currency is None else counts.sales,
            level=level,
        ),
    )  # fmt: skip


_METHODS: Final = {"getis_ord": hotspots.getis_ord_rates, "local_moran": hotspots.local_moran_rates}


def _read(
    session: Session, actor: Actor, query: str, events: Filter | None, base: Filter | None, values: dict[str, Any]
) -> list[Any]:
    snapped = not actor.exact
    held = (events or Filter()).compile("lookup", snapped=snapped)
    among = (base or Filter()).compile("lookup", snapped=snapped)
    statement = (
        named("hotspots", query)
        .replace("{events}", held.named("events"))
        .replace("{base}", among.named("base"))
        .replace("{point}", "geocrm_snap(l.location)" if snapped else "l.location")
    )
    given = values | {"least_m": SNAPPED_M if snapped else 0.0} | held.params("events") | among.params("base")
    with as_user(session, actor):
        return list(session.execute(text(statement), given).all())


def _whole_cells(box: tuple[float, float, float, float], zoom: int) -> dict[str, float | int]:
    """Columns and rows of the cells that a box touches, and a box that holds all their points, snapped ones too."""
    west, south, east, north = box
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise _invalid("/box", "expected west, south, east, north in degrees; a box across ±180° is two boxes")
    side = 2**zoom

    def row(lat: float) -> int:
        place = (1 - math.asinh(math.tan(math.radians(min(max(lat, -89.9), 89.9)))) / math.pi) / 2 * side
        return min(max(math.floor(place), 0), side - 1)

    def edge(y: int) -> float:
        return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y / side))))

    first_x, last_x = (min(max(math.floor((lon + 180) / 360 * side), 0), side - 1) for lon in (west, east))
    first_y, last_y = row(north), row(south)
    return {
        "first_x": first_x, "last_x": last_x, "first_y": first_y, "last_y": last_y,
        "west": max(-180.0, first_x / side * 360 - 180 - _snap_lon(edge(first_y), edge(last_y + 1))),
        "east": min(180.0, (last_x + 1) / side * 360 - 180 + _snap_lon(edge(first_y), edge(last_y + 1))),
        "south": -90.0 if last_y == side - 1 else edge(last_y + 1) - _SNAP_REACH,
        "north": 90.0 if first_y == 0 else edge(first_y) + _SNAP_REACH,
    }  # fmt: skip


def _snap_lon(north: float, south: float) -> float:
    """How far a snapped point may lie off in longitude between two latitudes."""
    return _SNAP_REACH / max(math.cos(math.radians(max(abs(north), abs(south)))), 1e-3)


def _require_customers(many: int, left_out: LeftOut) -> None:
    if many:
        return
    lost = left_out.centroid + left_out.coarse
    detail = (
        f"{lost} are known by a centroid or too coarsely for cells or areas of this size"
        if lost
        else "none is seen here"
    )
    raise errors.TooLittleData(f"Hot spots need customers whose place is known: {detail}.")


def _number(value: Any) -> float:
    if isinstance(value, bool) or value is None:
        return math.nan
    try:
        made = float(value)
    except (TypeError, ValueError):
        return math.nan
    return made if math.isfinite(made) else math.nan


def _invalid(pointer: str, detail: str) -> errors.Invalid:
    return errors.Invalid(f"{pointer.removeprefix('/')}: {detail}", errors=[{"pointer": pointer, "detail": detail}])
