"""Hot spots as a method of segmentations: who lives where a value is higher, or lower, than chance would make it.

The statistics stand in `geocrm.spatial.hotspots`. A customer counts, and gets the label of its cell or area, only where
its primary site is known to lie in it: centroids of postal codes and towns, and points known less exactly than
half the edge, neither count nor get a label. Memory: 24 bytes a customer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from sqlalchemy import text

from geocrm import ids
from geocrm.db.queries import named
from geocrm.errors import TooLittleData
from geocrm.segmentation import features
from geocrm.segmentation.as_json import number
from geocrm.segmentation.methods import (
    MONEY,
    NONE,
    Group,
    Method,
    Outcome,
    Part,
    Reader,
    check_money,
    check_names,
    check_whole,
    names_of,
    number_of,
    read_rule,
    wrong,
)  # fmt: skip
from geocrm.spatial import hotspots, layers, neighbours
from geocrm.spatial.hotspot_data import HIGHEST_ZOOM, LOWEST_ZOOM, CellCounts, LeftOut

MEASURES: Final = {
    "sales": "net sales of the year before",
    "customers": "customers with an order in the year before",
    "churn": "share of last year's buyers who ordered nothing in the year since",
    "share": "share of customers in a group",
}
STATISTICS: Final = {"gi_star": "getis_ord", "local_moran": "local_moran"}
USUAL_ZOOM: Final = 11
MOST_CELLS: Final = 5_000
"""So many cells or areas stand in the results: those that are hot or cold first, then those with most customers."""
_RATES: Final = ("churn", "share")
_READS: Final = {
    "sales": ["sales_365", "orders_365"],
    "customers": ["orders_365"],
    "churn": ["orders_year_before", "orders_365"],
    "share": ["frequency"],
}
_PLACE: Final = ("lon", "lat", "column", "row", "precision_m", "event", "verdict")
_LABELS: Final = ("hot", "cold", "none", "high-high", "low-low", "high-low", "low-high")
_EQUATOR_M: Final = 40_075_016.68557849
_PART_ROWS: Final = 200_000


@dataclass(frozen=True, eq=False)
class _Gathered:
    """Customers who fit, by id (n,): their cell or area as a number, whether they count, and what they add."""

    ids: NDArray[np.int64]
    unit: NDArray[np.int64]
    exposed: NDArray[np.bool_]
    value: NDArray[np.float64]


class HotSpots(Method):
    """Hot and cold spots of a measure on cells of a grid or on the areas of a layer.

    Parameters: `measure` (sales), with `filter` for `share`; `zoom` of the cells (11) or `layer`, the key of a layer,
    for shares; `statistic` gi_star or local_moran; `alpha`, the accepted share of false ones among those named (0.05);
    `rings` of cells around that are neighbours (1); `gap_m` between areas that are neighbours (0)."""

    name = "hotspots"
    scores = ("z", "q", "local")

    @staticmethod
    def check(parameters: Mapping[str, Any]) -> None:
        check_names(parameters, {"measure", "filter", "zoom", "layer", "statistic", "alpha", "rings", "gap_m", *MONEY})
        check_money(parameters)
        measure = parameters.get("measure", "sales")
        if not isinstance(measure, str) or measure not in MEASURES:
            raise wrong("measure", f"expected one of {', '.join(MEASURES)}")
        if (measure == "share") != ("filter" in parameters):
            raise wrong("filter", "the measure share, and no other, takes the filter of a group")
        if measure == "share" and not read_rule(parameters["filter"], "/parameters/filter"):
            raise wrong("filter", "everybody passes it: a group has to leave somebody out")
        statistic = parameters.get("statistic", "gi_star")
        if not isinstance(statistic, str) or statistic not in STATISTICS:
            raise wrong("statistic", f"expected one of {', '.join(STATISTICS)}")
        number_of(parameters, "alpha", 0.05, 0.001, 0.5)
        number_of(parameters, "gap_m", 0, 0, 50_000)
        check_whole(parameters, "rings", 1, 1, 5)
        if "layer" not in parameters:
            check_whole(parameters, "zoom", USUAL_ZOOM, LOWEST_ZOOM, HIGHEST_ZOOM)
            return
        if "zoom" in parameters:
            raise wrong("zoom", "cells of a zoom, or the areas of a layer, not both")
        if not isinstance(parameters["layer"], str):
            raise wrong("layer", "expected the key of a layer")
        if measure not in _RATES:
            raise wrong("layer", f"{measure} of areas follow their size: take cells, or a share ({', '.join(_RATES)})")

    def __init__(self, reader: Reader, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__(reader, parameters, seed)
        self._measure: str = parameters.get("measure", "sales")
        self._statistic: str = parameters.get("statistic", "gi_star")
        self._zoom: int = parameters.get("zoom", USUAL_ZOOM)
        self._areas: _Areas | None = None
        self._left = dict.fromkeys(("centroid", "coarse", "beyond", "outside"), 0)

    def parts(self) -> Iterator[Part]:
        session = self.reader.session
        if "layer" in self.parameters:
            layer = layers.get_layer(session, str(self.parameters["layer"]).removeprefix("lay_"))
            query = text(named("hotspots", "areas_by_rank"))
            self._areas = _Areas(list(session.execute(query, {"layer": layer.id})))
        held = self._gather()
        self._keys, unit = np.unique(held.unit, return_inverse=True)
        if self._areas is not None:  # areas without customers are none to test, but stand between others
            self._keys, unit = np.arange(len(self._areas.ids)), held.unit
        many = len(self._keys)
        self._customers = np.bincount(unit[held.exposed], minlength=many)
        self._values = np.bincount(unit[held.exposed], weights=held.value[held.exposed], minlength=many)
        if not self._customers.any():
            lost = ", ".join(f"{n:,} {_LOST[why]}" for why, n in self._left.items() if n) or "nobody is"
            raise TooLittleData(
                f"Hot spots of {MEASURES[self._measure]} need customers whose place is known and who count: {lost}."
            )
        self.reader.tell("comparing with random maps", 0, None)
        self._found = self._test()
        at = np.full(many, -1)
        at[self._tested] = np.arange(len(self._tested))
        labels = np.array([_LABELS.index("none" if one == "island" else one) for one in self._found.label])
        of_unit = np.where(at >= 0, labels[at], NONE).astype(np.int32)
        numbers = np.column_stack([self._found.z, self._found.p_adjusted, self._found.local])[at]
        numbers[at < 0] = np.nan
        for first in range(0, len(held.ids), _PART_ROWS):
            rows = slice(first, first + _PART_ROWS)
            yield Part(held.ids[rows], of_unit[unit[rows]], numbers[unit[rows]].astype(np.float32))

    def outcome(self) -> Outcome:
        moran = self._statistic == "local_moran"
        words = MEASURES[self._measure]
        if self._measure == "share":
            words += f" ({read_rule(self.parameters['filter']).sentence(names_of(self.reader.session))})"
        around = "with the areas beside it" if self._areas is not None else "with the cells around it"
        said = {
            "hot": ("Hot spot", f"where the {words} is higher than elsewhere, {around}, beyond chance"),
            "cold": ("Cold spot", f"where the {words} is lower than elsewhere, {around}, beyond chance"),
            "none": ("Neither", f"where the {words} does not differ from elsewhere beyond chance"),
            "high-high": ("High among high", f"{words}: high, and high around, beyond chance"),
            "low-low": ("Low among low", f"{words}: low, and low around, beyond chance"),
            "high-low": ("High among low", f"{words}: high where all around is low, beyond chance"),
            "low-high": ("Low among high", f"{words}: low where all around is high, beyond chance"),
        }
        groups = tuple(
            Group(label, *said[name]) for label, name in enumerate(_LABELS) if name == "none" or ("-" in name) == moran
        )
        notes = [*self._found.notes]
        for why, n in self._left.items():
            if n:
                notes.append(f"{n:,} customers {_LOST[why]}: they neither count nor have a label.")
        rows, kept = self._rows(), len(self._tested)
        if kept > MOST_CELLS:
            notes.append(
                f"Of {kept:,} cells the {MOST_CELLS:,} hot or cold ones, or those with most customers, are listed."
            )
        results: dict[str, Any] = {
            "measure": self._measure,
            "about": words,
            "statistic": self._statistic,
            "unit": "cell" if self._areas is None else "area",
            "zoom": self._zoom if self._areas is None else None,
            "layer": self.parameters.get("layer"),
            "alpha": self._found.q,
            "overall": number(self._found.overall),
            "random_maps": self._found.draws,
            "tested": int(np.isfinite(self._found.z).sum()),
            "counted": int(self._customers.sum()),
            "left_out": self._left,
            "currency": features.get_cutoff(self.reader.session, self.reader.cutoff).currency
            if self._measure == "sales"
            else None,
            "cells": rows,
            "notes": notes,
        }
        return Outcome(groups, results)

    def _gather(self) -> _Gathered:
        session = self.reader.session
        condition, bound = "false", dict[str, Any]()
        if self._measure == "share":
            compiled = read_rule(self.parameters["filter"]).compile("customer", schema="public")
            condition, bound = compiled.named("event"), compiled.params("event")
        query = text(named("hotspots", "places_of_chunk").replace("{events}", condition))
        found: list[tuple[NDArray[Any], ...]] = []
        for frame in self.reader.chunks(_READS[self._measure], phase="reading"):
            own = frame.index.to_numpy()
            values = {"first": int(own[0]), "last": int(own[-1]), "zoom": self._zoom}
            rows = np.array([tuple(row) for row in session.execute(query, bound | values)], dtype=np.float64)
            rows = rows.reshape(-1, 8)
            who = rows[:, 0].astype(np.int64)
            rows, who = rows[np.isin(who, own)], who[np.isin(who, own)]
            self.reader.saw(pd.DataFrame(rows[:, 1:], index=pd.Index(who, name="customer_id"), columns=list(_PLACE)))
            unit = self._unit(rows)
            exposed, value = self._counted(frame.loc[who], rows[:, 6])
            fits = unit >= 0
            found.append((who[fits], unit[fits], exposed[fits], value[fits]))
        if not found:
            raise TooLittleData("Hot spots need customers; there are none.")
        return _Gathered(*(np.concatenate(part) for part in zip(*found, strict=True)))

    def _unit(self, rows: NDArray[np.float64]) -> NDArray[np.int64]:
        """The cell or area of customers, −1 where it is not known; counts those by why."""
        lon, lat, precision_m, verdict = rows[:, 1], rows[:, 2], rows[:, 5], rows[:, 7]
        if self._areas is None:
            unit = (rows[:, 4] * 2**self._zoom + rows[:, 3]).astype(np.int64)
            reach = _EQUATOR_M / 2**self._zoom * np.cos(np.radians(lat)) / 2
        else:
            unit = self._areas.holding(lon, lat)
            reach = np.where(unit >= 0, self._areas.reach_m[unit], np.inf)
            verdict = np.where(verdict == 1, 1, 0)
        coarse = (verdict == 0) & (unit >= 0) & (precision_m > reach)
        for why, lost in (("centroid", verdict == 1), ("beyond", verdict == 2), ("coarse", coarse),
                          ("outside", (verdict == 0) & (unit < 0))):  # fmt: skip
            self._left[why] += int(lost.sum())
        return np.where((verdict == 0) & ~coarse, unit, -1)

    def _counted(
        self, frame: pd.DataFrame, events: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Who counts, and what each adds to its cell."""
        if self._measure == "share":
            return np.ones(len(frame), dtype=np.bool_), events
        bought = frame["orders_365"].to_numpy() > 0
        if self._measure == "churn":
            before = frame["orders_year_before"].to_numpy() > 0
            return before, (before & ~bought).astype(np.float64)
        if self._measure == "sales":
            amount = frame["sales_365"].to_numpy()
            return bought | (amount != 0), amount
        return bought, np.ones(len(frame))

    def _test(self) -> hotspots.LocalStatistics:
        alpha = number_of(self.parameters, "alpha", 0.05, 0.001, 0.5)
        rated = self._measure in _RATES
        self._tested = np.flatnonzero(self._customers > 0) if rated else np.arange(len(self._customers))
        if self._areas is None:
            rings, side = int(self.parameters.get("rings", 1)), 2**self._zoom
            x, y = self._keys[self._tested] % side, self._keys[self._tested] // side
            beside = neighbours.grid(x, y, rings=rings, columns=side if side > 2 * rings else None)
        else:
            gap_m = number_of(self.parameters, "gap_m", 0, 0, 50_000)
            beside = neighbours.touching(self._areas.shapes[self._tested], gap_m=gap_m)
        values, exposed = self._values[self._tested], self._customers[self._tested]
        if rated:
            of_rates = hotspots.getis_ord_rates if self._statistic == "gi_star" else hotspots.local_moran_rates
            return of_rates(values, exposed, beside, seed=self.seed, q=alpha)
        of_values = hotspots.getis_ord if self._statistic == "gi_star" else hotspots.local_moran
        return of_values(values, beside, seed=self.seed, q=alpha)

    def _rows(self) -> list[dict[str, Any]]:
        found = self._found
        customers, values = self._customers[self._tested], self._values[self._tested]
        plain = np.isin(found.label, ["none", "island"])
        order = np.lexsort((-customers, plain))[:MOST_CELLS]
        keys = self._keys[self._tested]
        if self._areas is None:
            side, none = 2**self._zoom, np.zeros(0, dtype=np.int64)
            bounds = CellCounts(self._zoom, keys % side, keys // side, none, none, LeftOut()).bounds
            names: list[dict[str, Any]] = [{"cell": f"{self._zoom}/{key % side}/{key // side}"} for key in keys]
        else:
            bounds = shapely.bounds(self._areas.shapes[self._tested])
            names = [{"area": ids.show("are", int(self._areas.ids[key])), "name": self._areas.names[key]}
                     for key in keys]  # fmt: skip
        return [
            names[i] | {
                "bounds": [round(float(edge), 6) for edge in bounds[i]],
                "customers": int(customers[i]), "value": number(values[i]), "local": number(found.local[i]),
                "z": number(found.z[i]), "q": number(found.p_adjusted[i]), "label": str(found.label[i]),
            }
            for i in order
        ]  # fmt: skip


_LOST: Final = {
    "centroid": "are known by the centroid of a postal code, town or region only",
    "coarse": "are known too coarsely for cells or areas of this size",
    "beyond": "lie beyond ±85.05°, where there are no cells",
    "outside": "lie outside of all areas",
}


class _Areas:
    """The areas of a layer, the one first that holds a point which lies in several."""

    def __init__(self, rows: list[Any]) -> None:
        if not rows:
            raise TooLittleData("The layer has no area with a polygon in force: hot spots need some.")
        self.ids = np.array([row.id for row in rows], dtype=np.int64)
        self.names = [str(row.name) for row in rows]
        self.shapes = np.array([shapely.from_wkb(bytes(row.geometry)) for row in rows], dtype=object)
        self.reach_m = np.array([math.sqrt(row.area_m2) / 2 for row in rows])
        self._tree = shapely.STRtree(self.shapes)

    def holding(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int64]:
        """The area of points (n,), by position; −1 where none holds it."""
        made = np.full(len(lon), -1, dtype=np.int64)
        point, area = self._tree.query(shapely.points(lon, lat), predicate="intersects")
        order = np.lexsort((-area, point))  # of several the first one is written last
        made[point[order]] = area[order]
        return made
