"""Flags of given points, against brute force on the ellipsoid."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely

from geocrm.spatial import atlas
from geocrm.spatial.checks import check_points, within

GEOD = pyproj.Geod(ellps="WGS84")


@pytest.mark.parametrize(
    ("lon", "lat", "country", "flag"),
    [
        (0.0, 0.0, "US", "zero"), (0.0005, -0.0008, "GH", "zero"), (0.01, 0.0, "GB", "out_of_country"),
        (-104.99, 39.74, "US", ""), (39.74, -104.99, "US", "swapped"), (13.4, 52.5, "US", "out_of_country"),
        (52.5, 13.4, "DE", "swapped"), (200.0, 0.0, "US", "out_of_range"), (0.0, 91.0, None, "out_of_range"),
        (float("inf"), 0.0, "US", "out_of_range"), (float("nan"), 1.0, "US", "out_of_range"),
        (float("nan"), float("nan"), "US", ""), (13.4, 52.5, None, ""), (13.4, 52.5, "", ""), (13.4, 52.5, "??", ""),
        (-66.1, 18.4, "US", ""), (-61.0, 14.6, "MQ", ""), (55.45, -20.88, "FR", ""), (55.45, -20.88, "RE", ""),
        (34.1, 44.95, "UA", ""), (34.1, 44.95, "RU", ""), (21.0, 42.6, "RS", ""), (-179.99, -16.5, "FJ", ""),
        (179.99, 66.0, "RU", ""), (-63.05, 18.07, "SX", ""), (7.42, 43.74, "MC", ""), (-5.35, 36.14, "GI", ""),
        (-157.86, 21.31, "United States", ""), (2.35, 48.86, "FRA", ""),
    ],
)  # fmt: skip
def test_flag(lon: float, lat: float, country: str | None, flag: str) -> None:
    assert check_points([lon], [lat], [country]).tolist() == [flag]


def test_one_country_for_all_and_empty_input() -> None:
    assert check_points([-104.99, 39.74], [39.74, -104.99], "US").tolist() == ["", "swapped"]
    assert check_points([], [], []).tolist() == []


def _geodesic_distance_m(shape: shapely.Geometry, lon: float, lat: float) -> float:
    """Brute force: the least geodesic distance to the outline, its segments cut into pieces of at most 0.005°."""
    if shape.intersects(shapely.Point(lon, lat)):
        return 0.0
    near = shape.boundary.intersection(shapely.box(lon - 3, lat - 1, lon + 3, lat + 1))
    if near.is_empty:
        return float("inf")
    points = shapely.get_coordinates(shapely.segmentize(near, 0.005))
    _, _, metres = GEOD.inv(np.full(len(points), lon), np.full(len(points), lat), points[:, 0], points[:, 1])
    return float(np.min(metres))


@pytest.mark.parametrize("country", ["PT", "NO", "HR", "SG"])
def test_25_km_is_geodesic(country: str) -> None:
    seed = 7
    random = np.random.default_rng(seed)
    shape = atlas.country_shape(country)
    assert shape is not None
    edge = shapely.get_coordinates(shape.boundary)
    start = edge[random.integers(len(edge), size=100)]
    start = start[np.abs(start[:, 1]) < 72]
    lon, lat, _ = GEOD.fwd(
        start[:, 0], start[:, 1], random.uniform(0, 360, len(start)), random.uniform(0, 130_000, len(start))
    )
    lon, lat = np.asarray(lon), np.asarray(lat)
    truth = np.array([_geodesic_distance_m(shape, x, y) for x, y in zip(lon, lat, strict=True)])
    clear = np.abs(truth - 25_000) > 15  # the brute force itself is good to some metres
    assert within(shape, lon, lat, 25_000)[clear].tolist() == (truth[clear] <= 25_000).tolist(), f"seed {seed}"
    assert 3 < (truth[clear] > 25_000).sum() < clear.sum() - 3  # both sides were tried


def test_no_land_point_near_any_shore_is_flagged() -> None:
    """Points on the 1:50 million outline of every country that has a code: none may count as outside its country."""
    frame = atlas.countries("50m")
    lon, lat, code = [], [], []
    for iso2, shape in zip(frame["iso2"], frame.geometry, strict=True):
        if iso2 is not None:
            points = shapely.get_coordinates(shape)[::17]
            lon.extend(points[:, 0])
            lat.extend(points[:, 1])
            code.extend([iso2] * len(points))
    flags = check_points(lon, lat, code)
    wrong = pd.Series(code)[flags != ""].value_counts()
    assert wrong.empty, wrong.to_dict()


def test_100_000_points_a_second_with_many_off_the_coast() -> None:
    seed = 11
    random = np.random.default_rng(seed)
    n = 100_000
    inland = random.uniform([-120, 30], [-80, 48], (n * 9 // 10, 2))
    shore = random.uniform([-126, 25], [-66, 50], (n // 10, 2))
    points = np.vstack([inland, shore])
    check_points(points[:10, 0], points[:10, 1], "US")
    began = time.perf_counter()
    flags = check_points(points[:, 0], points[:, 1], "US")
    seconds = time.perf_counter() - began
    print(f"seed {seed}: {n / seconds:,.0f} points/s, {(flags != '').sum()} flagged")
    assert seconds < 5  # well under 1 s on an idle core
    assert 1_000 < (flags != "").sum() < n // 5


def test_adventureworks(shared_data: Path) -> None:
    frame = pd.read_csv(shared_data / "adventureworks" / "customers_geo.csv", keep_default_na=False)
    flags = check_points(frame["lon"], frame["lat"], frame["country"])
    assert pd.Series(flags).value_counts().to_dict() == {"": 17_275, "zero": 873}
    swapped = check_points(frame["lat"], frame["lon"], frame["country"])
    assert pd.Series(swapped).value_counts().to_dict() == {"swapped": 17_275, "zero": 873}
