"""Reprojection: known points, axis order, what cannot be read, what comes out beyond the earth."""

import numpy as np
import pytest
import shapely

from geocrm import errors
from geocrm.spatial import crs


def test_known_points_of_national_grids() -> None:
    # Published: Ordnance Survey's worked example, Framingham (E 651409.903, N 313177.270 in OSGB36 = WGS84 52.658007,
    # 1.716074 within the metres of a Helmert shift).
    point = crs.to_lonlat([651409.903], [313177.270], "EPSG:27700")
    assert point.lon[0] == pytest.approx(1.716074, abs=1e-4)
    assert point.lat[0] == pytest.approx(52.658007, abs=1e-4)
    # Berlin's Brandenburg Gate, ETRS89 / UTM 33N
    gate = crs.to_lonlat([389903.0], [5819698.0], 25833)
    assert gate.lon[0] == pytest.approx(13.3777, abs=3e-4)
    assert gate.lat[0] == pytest.approx(52.5163, abs=2e-4)


@pytest.mark.parametrize("name", ["EPSG:4326", 4326, "4326", "OGC:CRS84", "urn:ogc:def:crs:OGC:1.3:CRS84", "WGS84"])
def test_x_is_longitude_whatever_the_definition_says(name: object) -> None:
    # EPSG:4326 is defined lat before lon: files and people write lon before lat all the same
    point = crs.to_lonlat([-104.99], [39.74], name)
    assert (point.lon[0], point.lat[0]) == (-104.99, 39.74)
    assert crs.is_lonlat(name)


def test_axis_order_of_a_projected_system_defined_north_first() -> None:
    # EPSG:31467 (Gauss-Krüger zone 3) is defined (northing, easting); x is the easting here
    point = crs.to_lonlat([3513500.0], [5404000.0], 31467)
    assert 9.0 < point.lon[0] < 9.3
    assert 48.6 < point.lat[0] < 48.9


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "missing"),
        ("", "missing"),
        ("EPSG:999999", "not known"),
        ("banana", "not known"),
        (5773, "vertical"),
        ('ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["m",1]]', "local"),
    ],
)  # fmt: skip
def test_crs_that_cannot_be_used(given: object, said: str) -> None:
    with pytest.raises(errors.Invalid, match=said) as raised:
        crs.read_crs(given)
    assert "EPSG:" in str(raised.value)  # the mend


def test_points_beyond_the_earth_are_marked_not_guessed() -> None:
    given = crs.to_lonlat([10.0, 181.0, np.nan, np.inf, -180.0], [95.0, 0.0, 0.0, 0.0, 90.0], 4326)
    assert given.bad.tolist() == [True, True, True, True, False]
    assert np.isnan(given.lon[:4]).all()
    # Web Mercator values stated as UTM come out nowhere
    far = crs.to_lonlat([1e12], [1e12], 25832)
    assert far.bad.tolist() == [True]


def test_geometries_lose_height_and_bad_ones_are_marked() -> None:
    good = shapely.from_wkt("POLYGON Z ((389000 5819000 5, 390000 5819000 5, 390000 5820000 5, 389000 5819000 5))")
    bad = shapely.Point(1e15, 1e15)
    result, marked = crs.geometry_to_lonlat([good, bad, None], 25833)
    assert marked.tolist() == [False, True, False]
    assert result[1] is None
    assert result[2] is None
    assert not shapely.has_z(result[0])
    assert result[0].centroid.x == pytest.approx(13.37, abs=0.02)


def test_swapped_columns_are_suspected_only_where_they_must_be() -> None:
    assert crs.guess_swapped([39.7, 40.1], [-104.9, -105.2])
    assert not crs.guess_swapped([-104.9, 39.7], [39.7, -104.9])
    assert not crs.guess_swapped([48.1, 52.5], [11.5, 13.4])  # could be either: left to the check by country
    assert not crs.guess_swapped([np.nan], [np.nan])


def test_length_mismatch_is_an_error() -> None:
    with pytest.raises(errors.Invalid, match="length"):
        crs.to_lonlat([1, 2], [1], 4326)


def test_describe_names_number_and_name() -> None:
    assert crs.describe(25832) == "EPSG:25832 (ETRS89 / UTM zone 32N)"
