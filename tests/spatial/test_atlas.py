"""Outlines decoded from TopoJSON: valid, within ±180°, complete, found fast."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import shapely

from geocrm import errors
from geocrm.settings import Settings
from geocrm.spatial import atlas

# Capitals and far corners, from general knowledge, not from the packages.
PLACES = [
    ("US", -77.0369, 38.9072), ("US", -149.9003, 61.2181), ("US", 172.9, 52.9), ("US", -157.8583, 21.3069),
    ("RU", 37.6173, 55.7558), ("RU", -173.0, 66.0), ("RU", 176.0, 65.5), ("FJ", 178.0, -17.8), ("FJ", -179.95, -16.8),
    ("NZ", 174.7762, -41.2865), ("AQ", 0.0, -85.0), ("AQ", 110.0, -75.0), ("ZA", 28.0473, -26.2041),
    ("LS", 28.2336, -29.61), ("FR", -52.3, 4.0), ("DE", 13.405, 52.52), ("IT", 12.4964, 41.9028),
    ("CA", -75.6972, 45.4215),
]  # fmt: skip


@pytest.mark.parametrize("scale", ["50m", "10m"])
def test_countries_are_valid_and_within_range(scale: str) -> None:
    frame = atlas.countries(scale)
    assert len(frame) == {"50m": 241, "10m": 254}[scale]
    assert frame.geometry.is_valid.all()
    assert set(frame.geom_type) <= {"Polygon", "MultiPolygon"}
    west, south, east, north = frame.total_bounds
    assert (west, east) == (-180.0, 180.0)
    assert south >= -90
    assert north < 84
    # No country is a belt round the earth but the polar one: a ring not cut at ±180° would be
    wide = frame[(frame.bounds.maxx - frame.bounds.minx) > 350]
    assert set(wide["iso2"]) <= {"AQ", "RU", "FJ", "US", "NZ", "KI"}


def test_land_area_agrees_with_published_figures() -> None:
    # CIA World Factbook, total areas in km²; outlines at 1:10 million come within 5 %, coarse coasts of islands
    published = {"FJ": 18_274, "DE": 357_022, "ZA": 1_219_090, "AU": 7_741_220, "RU": 17_098_242, "AQ": 14_200_000}
    frame = atlas.countries("10m")
    import pyproj

    geod = pyproj.Geod(ellps="WGS84")
    for iso2, km2 in published.items():
        shapes = frame.geometry[frame["iso2"] == iso2]
        area = sum(abs(geod.geometry_area_perimeter(shapely.orient_polygons(shape))[0]) for shape in shapes) / 1e6
        assert area == pytest.approx(km2, rel=0.15 if iso2 == "AQ" else 0.05), iso2


def test_country_at_known_points() -> None:
    found = atlas.country_at([x for _, x, _ in PLACES], [y for _, _, y in PLACES])
    assert found.tolist() == [iso2 for iso2, _, _ in PLACES]
    assert atlas.country_at([-40.0, np.nan], [40.0, 0.0]).tolist() == [None, None]


def test_100_000_points_find_their_country_in_seconds() -> None:
    seed = 20261121
    random = np.random.default_rng(seed)
    lon, lat = random.uniform(-180, 180, 100_000), random.uniform(-60, 80, 100_000)
    atlas.country_at([0.0], [0.0])
    began = time.perf_counter()
    found = atlas.country_at(lon, lat)
    assert time.perf_counter() - began < 10, f"seed {seed}"  # 1.0 s on an idle core
    assert 0.2 < np.mean([code is not None for code in found]) < 0.4


def test_us_states_and_counties() -> None:
    states, counties = atlas.us_states(), atlas.us_counties()
    assert len(states) == 56
    assert states["state"].notna().all()
    assert counties.geometry.is_valid.all()
    assert counties["fips"].is_unique
    assert counties["state"].notna().all()
    denver = counties[counties.geometry.intersects(shapely.Point(-104.9903, 39.7392))]
    assert denver[["fips", "name", "state"]].to_numpy().tolist() == [["08031", "Denver", "CO"]]


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("US", "US"), ("usa", "US"), ("840", "US"), ("United States", "US"), ("UK", "GB"), ("Deutschland", None),
        ("Germany", "DE"), ("DEU", "DE"), (" fr ", "FR"), ("Kosovo", "XK"), ("", None), (None, None),
        ("Atlantis", None),
        ("XX", None), ("Viet Nam", "VN"),
    ],
)  # fmt: skip
def test_country_code_reads_what_people_write(written: str | None, code: str | None) -> None:
    assert atlas.country_code(written) == code


def test_missing_packages_are_named_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atlas, "get_settings", lambda: Settings(atlas_dir=tmp_path))
    with pytest.raises(errors.Unavailable, match=r"npm ci.*GEOCRM_ATLAS_DIR"):
        atlas.read_topology("world-atlas/countries-50m.json")


def test_decoding_a_quantized_topology_with_a_hole_and_a_reversed_arc(tmp_path: Path) -> None:
    # A square of 10° with a hole of 2°, on a grid of 0.5°; the hole's ring runs along its arc backwards
    topology = json.loads(
        """{"type":"Topology","transform":{"scale":[0.5,0.5],"translate":[0,0]},
        "arcs":[[[0,0],[20,0],[0,20],[-20,0],[0,-20]],[[8,8],[0,4],[4,0],[0,-4],[-4,0]]],
        "objects":{"x":{"type":"GeometryCollection","geometries":[{"type":"Polygon","arcs":[[0],[-2]]}]}}}"""
    )
    arcs = atlas.decode_arcs(topology)
    shape = atlas.decode_geometry(arcs, topology["objects"]["x"]["geometries"][0])
    assert shape is not None
    assert shape.area == pytest.approx(100 - 4)
    assert not shape.covers(shapely.Point(5, 5))


def test_a_ring_over_the_antimeridian_is_cut() -> None:
    ring = np.array([[170.0, 0.0], [-170.0, 0.0], [-170.0, 10.0], [170.0, 10.0], [170.0, 0.0]])
    shape = atlas._polygon([ring])
    assert shape is not None
    assert shape.area == pytest.approx(200)
    assert shape.bounds == (-180, 0, 180, 10)
    assert shape.covers(shapely.Point(179.9, 5))
    assert shape.covers(shapely.Point(-179.9, 5))
    assert not shape.covers(shapely.Point(0, 5))
