"""Features of place, read beside the others: shops, neighbours, people and areas around customers at a cutoff.

Dated like everything else: the primary site of that time, shops open then, reference areas in force then, neighbours'
sales before it. Sites move without history otherwise: a point that was corrected counts as corrected. A point that is
known too coarsely for a feature gives NaN; what lacks for everybody stands in `Surroundings.reasons`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.copying import driver, read_binary
from geocrm.db.queries import for_driver, named
from geocrm.errors import TryAgain
from geocrm.segmentation import features, place
from geocrm.segmentation.sales_statistics import Columns
from geocrm.spatial.towns import towns_of

SQL: Final = "features_place"
POINT: Final = ("lon", "lat")
Floats = NDArray[np.float64]

_SITE: Final = (*POINT, "precision_m", "is_centroid", "country")
OF_NEIGHBOURS: Final = ("neighbours_sales_365", "neighbours_left", "neighbours_growth")
OF_BUYERS: Final = (*OF_NEIGHBOURS, "local_penetration")
"""Features for which a pass over all buyers is made."""
_OF_SHOPS: Final = {
    "own_shop_m": ("own",),
    "own_shops_near": ("own",),
    "competitor_m": ("competitor",),
    "competitors_near": ("competitor",),
    "shop_density": ("own", "competitor"),
}
_SAID: Final = {"own": "own shop", "competitor": "competitor"}


@dataclass(frozen=True)
class Measures:
    """What near means. Shops are counted within `near_m`, their density taken within `wide_m`; neighbours are the up to
    `neighbours` nearest buyers within `reach_m`, and of fewer than `fewest` nothing is said. A point serves a feature
    where its precision_m is at most `share` of the feature's scale: `near_m` for shops, `reach_m` for neighbours and
    people around, the edge of a square as large as the area for areas. Points of postal codes, towns and regions have
    no neighbours and are nobody's."""

    near_m: float = 10_000.0
    wide_m: float = 25_000.0
    reach_m: float = 5_000.0
    neighbours: int = 30
    fewest: int = 5
    share: float = 0.25


def read_features(
    session: Session,
    cutoff: datetime,
    names: Sequence[str],
    *,
    measures: Measures | None = None,
    **options: Any,
) -> Iterator[pd.DataFrame]:
    """`features.read_features` with features of place among the names; `options` are its other ones."""
    around = Surroundings(session, cutoff, names, measures=measures)
    return features.read_features(session, cutoff, names, place=around.read, **options)


class Surroundings:
    """What lies around customers at a cutoff, ready to be asked chunk by chunk: `read` is the `place` of
    `features.read_features`.

    Only what the features of place among `names` need is read: shops; areas with their polygons; where neighbours or
    penetration are asked for, a pass over all buyers, of which some 120 bytes each stay in memory. `points`: `read`
    gives lon and lat as well. `reasons` says for a feature that nobody has why, `notes` what was left out. Raises
    NotFound where there are no statistics at the cutoff."""

    def __init__(
        self,
        session: Session,
        cutoff: datetime,
        names: Sequence[str],
        *,
        measures: Measures | None = None,
        points: bool = False,
    ) -> None:
        self.reasons: dict[str, str] = {}
        self.notes: list[str] = []
        self._session = session
        self._measures = measures or Measures()
        self._cutoff = features.get_cutoff(session, cutoff)
        self._names = [f.name for f in features.find_features(session, self._cutoff, names) if f.kind == "place"]
        self._columns = [*self._names, *(POINT if points else ())]
        attributes = {name.partition(".")[2] for name in self._names if name.startswith("area.")}
        if {"population_density", "local_penetration"} & set(self._names):
            attributes.add("population")
        self._shops = self._read_shops() if set(_OF_SHOPS) & set(self._names) else {}
        self._areas = _Areas(session, self._cutoff, attributes, self._measures.share)
        self._buyers: _Buyers | None = None
        if set(OF_BUYERS) & set(self._names):
            self._buyers = _Buyers(self, self._areas)
        self._say_why()

    def read(self, ids: NDArray[np.int64]) -> pd.DataFrame:
        """Features of place of customers, ids ascending; NaN where they are not known. With `points` lon and lat in
        degrees as well: of points that serve a distance to a shop and stand for no postal code, town or region."""
        if self._buyers is not None:
            version = self._session.scalar(text(named(features.SQL, "version")), {"cutoff_id": self._cutoff.id})
            if version != self._cutoff.version:
                raise TryAgain("The statistics of customers were refreshed while they were read.")
        made = pd.DataFrame(np.nan, index=pd.Index(ids, name="customer_id"), columns=self._columns)
        if len(ids) == 0 or not self._columns:
            return made
        rows = self._sites(int(ids[0]) - 1, int(ids[-1]))
        rows = rows[np.isin(rows["id"], ids)]
        at = np.searchsorted(ids, rows["id"].astype(np.int64))
        for name, values in self._values(_Sites.of(rows)).items():
            made.iloc[at, made.columns.get_loc(name)] = values
        return made

    def _sites(self, after: int, upto: int) -> NDArray[np.void]:
        """Sites of customers from beyond one to another, big-endian, by id."""
        fields = ", ".join(f"CAST(p.{name} AS double precision) AS {name}" for name in _SITE)
        statement = named(SQL, "read_sites").replace("{fields}", fields).replace("{sites}", named(SQL, "sites"))
        layout = [("fields", ">i2"), ("id_size", ">i4"), ("id", ">i8")]
        for name in _SITE:
            layout += [(f"{name}_size", ">i4"), (name, ">f8")]
        values = self._cutoff.binds() | {"after": after, "upto": upto}
        copy = f"COPY ({for_driver(statement)}) TO STDOUT (FORMAT binary)"
        return read_binary(driver(self._session), copy, values, np.dtype(layout))

    def buyers(self, chunk_rows: int = 200_000) -> Iterator[tuple[_Sites, Columns]]:
        """All who bought before the cutoff and have a point, by id, and the statistics of what they bought."""
        for ids in features.read_ids(self._session, chunk_rows):
            rows = self._sites(int(ids[0]) - 1, int(ids[-1]))
            sums = features.read_statistics(self._session, self._cutoff, ids)
            bought = sums["customer_id"][sums["orders"] > 0]
            rows = rows[np.isin(rows["id"], bought)]
            at = np.searchsorted(sums["customer_id"], rows["id"].astype(np.int64))
            yield _Sites.of(rows), {name: values[at] for name, values in sums.items()}

    @property
    def measures(self) -> Measures:
        """What near means."""
        return self._measures

    def _values(self, sites: _Sites) -> dict[str, Floats]:
        m = self._measures
        made: dict[str, Floats] = {"location_precision_m": sites.precision_m}
        made |= dict(zip(POINT, sites.points(m.share * m.near_m, centroids=False), strict=True))
        lon, lat = sites.points(m.share * m.near_m)
        for kind, distance, count in (
            ("own", "own_shop_m", "own_shops_near"),
            ("competitor", "competitor_m", "competitors_near"),
        ):
            if kind not in self._shops or not len(self._shops[kind]):
                continue
            shop_lon, shop_lat = self._shops[kind].T
            if distance in self._names:
                made[distance] = place.nearest_place(lon, lat, shop_lon, shop_lat).distance_m
            if count in self._names:
                made[count] = place.count_within(lon, lat, shop_lon, shop_lat, m.near_m)
        every = np.concatenate(list(self._shops.values())) if self._shops else np.empty((0, 2))
        if "shop_density" in self._names and len(every):
            count_wide = place.count_within(lon, lat, every[:, 0], every[:, 1], m.wide_m)
            made["shop_density"] = place.density_km2(count_wide, m.wide_m)
        if "urbanity" in self._names:
            made["urbanity"] = self._urbanity(sites)
        if self._buyers is not None:
            made |= self._buyers.values(sites)
        for name in self._names:
            if name == "population_density" or name.startswith("area."):
                attribute = "population" if name == "population_density" else name.partition(".")[2]
                area = self._areas.find(attribute, sites.lon, sites.lat, sites.precision_m)
                made[name] = self._areas.look_up(attribute, area)
                if name == "population_density":
                    made[name] = made[name] / self._areas.look_up_km2(area)
        return {name: values for name, values in made.items() if name in self._columns}

    def _urbanity(self, sites: _Sites) -> Floats:
        lon, lat = sites.points(self._measures.share * self._measures.reach_m)
        made = np.full(len(lon), np.nan)
        for letters in np.unique(sites.country):
            here = sites.country == letters
            country = chr(int(letters) // 256) + chr(int(letters) % 256)
            towns = towns_of(country) if letters else None
            if towns is None:
                said = f"no towns are known of {country}" if letters else "the country of some sites is not known"
                self.reasons.setdefault("urbanity", f"NaN where {said}.")
                continue
            people = place.people_km2(lon[here], lat[here], towns.lon, towns.lat, towns.population)
            made[here] = np.log10(1 + people)
        return made

    def _read_shops(self) -> dict[str, Floats]:
        found: dict[str, list[tuple[float, float]]] = {"own": [], "competitor": []}
        coarse, undated = 0, 0
        for row in self._session.execute(text(named(SQL, "places"))):
            centroid = row.location_precision in ("postcode", "locality", "region")
            known_m = row.precision_m if row.precision_m is not None else (np.inf if centroid else 0.0)
            try:
                opened, closed = _day(row.opened_on), _day(row.closed_on)
            except ValueError:
                undated += 1
                continue
            if known_m > self._measures.share * self._measures.near_m:
                coarse += 1
            elif not ((opened and opened >= self._cutoff.moment) or (closed and closed < self._cutoff.moment)):
                found[row.kind].append((row.lon, row.lat))
        if coarse:
            self.notes.append(f"{coarse} places are known too coarsely for distances; they are left out.")
        if undated:
            self.notes.append(f"{undated} places have an opened_on or closed_on that is no date; they are left out.")
        return {kind: np.array(points, dtype=np.float64).reshape(-1, 2) for kind, points in found.items()}

    def _say_why(self) -> None:
        for name in self._names:
            if name in _OF_SHOPS and not any(len(self._shops[kind]) for kind in _OF_SHOPS[name]):
                kinds = " or ".join(_SAID[kind] for kind in _OF_SHOPS[name])
                self.reasons[name] = f"No {kinds} with a known place was open at the cutoff."
            elif name in OF_NEIGHBOURS and self._buyers is not None and self._buyers.few:
                self.reasons[name] = (
                    f"Neighbours need more than {self._measures.fewest} customers who bought before the cutoff and"
                    " whose point is known well enough."
                )
            attribute = name.partition(".")[2] if name.startswith("area.") else "population"
            needs_area = name.startswith("area.") or name in ("population_density", "local_penetration")
            if needs_area and not self._areas.has(attribute):
                self.reasons[name] = (
                    f"No reference layer in force at the cutoff has areas with a number in the attribute {attribute!r}:"
                    " import one, effective from before the cutoff."
                )


@dataclass(frozen=True)
class _Sites:
    """Points of some customers, arrays (n,) in the order of their ids."""

    ids: NDArray[np.int64]
    lon: Floats
    lat: Floats
    precision_m: Floats
    is_centroid: NDArray[np.bool_]
    country: NDArray[np.int64]

    @classmethod
    def of(cls, rows: NDArray[np.void]) -> _Sites:
        return cls(
            rows["id"].astype(np.int64),
            rows["lon"].astype(np.float64),
            rows["lat"].astype(np.float64),
            rows["precision_m"].astype(np.float64),
            rows["is_centroid"] > 0,
            rows["country"].astype(np.int64),
        )

    def points(self, coarsest_m: float, *, centroids: bool = True) -> tuple[Floats, Floats]:
        """lon and lat of those known well enough, NaN of the others."""
        held = self.precision_m <= coarsest_m
        if not centroids:
            held &= ~self.is_centroid
        return np.where(held, self.lon, np.nan), np.where(held, self.lat, np.nan)


class _Buyers:
    """All customers who bought before the cutoff: neighbours, and how many of them an area has."""

    def __init__(self, around: Surroundings, areas: _Areas) -> None:
        self._measures = m = around.measures
        self._areas = areas
        self._counts = np.zeros(areas.size)
        every: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        parts: list[Floats] = [np.empty((6, 0))]
        for sites, sums in around.buyers():
            every.append(sites.ids)
            area = areas.find("population", sites.lon, sites.lat, sites.precision_m)
            self._counts += np.bincount(area[area >= 0], minlength=areas.size)
            lon, lat = sites.points(m.share * m.reach_m, centroids=False)
            held = np.isfinite(lon)
            spent, before = (sums[f"amount_{year}_e4"] / 10_000 for year in ("365", "year_before"))
            left = np.where(sums["orders_year_before"] > 0, (sums["orders_365"] == 0).astype(np.float64), np.nan)
            columns = (sites.ids.astype(np.float64), lon, lat, spent, before, left)
            parts.append(np.stack([column[held] for column in columns]))
        self._ids = np.concatenate(every)
        ids, lon, lat, self._spent, self._before, self._left = np.concatenate(parts, axis=1)
        self._around = place.Neighbourhood(lon, lat, ids.astype(np.int64), most=m.neighbours)
        self.few = len(ids) <= m.fewest

    def values(self, sites: _Sites) -> dict[str, Floats]:
        m = self._measures
        lon, lat = sites.points(m.share * m.reach_m, centroids=False)
        found = self._around.find(lon, lat, sites.ids, reach_m=m.reach_m)
        spent, known = place.sum_of(found, self._spent)
        before, _ = place.sum_of(found, self._before)
        grown = (known >= m.fewest) & (before > 0)
        area = self._areas.find("population", sites.lon, sites.lat, sites.precision_m)
        counted = np.isin(sites.ids, self._ids) & (area >= 0)
        people = self._areas.numbers("population")
        return {
            "neighbours_sales_365": place.mean_of(found, self._spent, fewest=m.fewest),
            "neighbours_left": place.mean_of(found, self._left, fewest=m.fewest),
            "neighbours_growth": np.where(grown, spent / np.where(grown, before, 1.0) - 1, np.nan),
            "local_penetration": place.penetration_of_others(area, counted, self._counts, people),
        }


class _Areas:
    """Reference areas in force at the cutoff with numbers among their attributes."""

    def __init__(self, session: Session, cutoff: features.Cutoff, attributes: set[str], share: float) -> None:
        values = {"cutoff": cutoff.moment, "wanted": sorted(attributes)}
        rows = session.execute(text(named(SQL, "areas")), values).all() if attributes else []
        self.size = len(rows)
        self._numbers = {name: np.array([_number(row.attributes.get(name)) for row in rows]) for name in attributes}
        self._shapes = np.array([shapely.from_wkb(bytes(row.geometry)) for row in rows], dtype=object)
        shapely.prepare(self._shapes)
        self._m2 = np.array([row.area_m2 for row in rows], dtype=np.float64)
        self._coarsest_m = share * np.sqrt(self._m2)

    def has(self, attribute: str) -> bool:
        """Whether any area has a number there."""
        return bool(np.isfinite(self.numbers(attribute)).any())

    def numbers(self, attribute: str) -> Floats:
        """The attribute of each area, NaN where it is no number."""
        return self._numbers.get(attribute, np.full(self.size, np.nan))

    def find(self, attribute: str, lon: Floats, lat: Floats, precision_m: Floats) -> NDArray[np.int64]:
        """The smallest area round each point that has a number in the attribute, of equally large ones the one of lower
        id; -1 where there is none, or the point is known too coarsely for it. (n,)"""
        made = np.full(len(lon), -1, dtype=np.int64)
        usable = np.flatnonzero(np.isfinite(self.numbers(attribute)))
        if len(usable) == 0 or len(lon) == 0:
            return made
        area, point = shapely.STRtree(shapely.points(lon, lat)).query(self._shapes[usable], predicate="intersects")
        area = usable[area]
        order = np.lexsort((area, self._m2[area], point))
        first = np.unique(point[order], return_index=True)
        chosen = area[order][first[1]]
        sharp = precision_m[first[0]] <= self._coarsest_m[chosen]
        made[first[0][sharp]] = chosen[sharp]
        return made

    def look_up(self, attribute: str, area: NDArray[np.int64]) -> Floats:
        """The attribute by position of the area, NaN for -1."""
        return self._by_position(self.numbers(attribute), area)

    def look_up_km2(self, area: NDArray[np.int64]) -> Floats:
        """The area's size by its position."""
        return self._by_position(self._m2 / 1e6, area)

    def _by_position(self, values: Floats, area: NDArray[np.int64]) -> Floats:
        made = np.full(len(area), np.nan)
        made[area >= 0] = values[area[area >= 0]]
        return made


def _day(said: str | None) -> datetime | None:
    """The beginning of a day, "2026-03-01" or "2026"; raises ValueError for anything else."""
    if said is None or not said.strip():
        return None
    said = said.strip()
    if len(said) == 4 and said.isdigit():
        said += "-01-01"
    day = date.fromisoformat(said[:10])
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _number(value: Any) -> float:
    if value is None or isinstance(value, bool | dict | list):
        return np.nan
    try:
        made = float(value)
    except ValueError:
        return np.nan
    return made if np.isfinite(made) else np.nan
