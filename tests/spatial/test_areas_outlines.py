"""What is wrong with a polygon and where; what is mended, and how it is said."""

import math
from typing import Any

import numpy as np
import pytest
import shapely
from shapely import MultiPolygon, Point, Polygon, box

from geocrm.errors import InvalidGeometry, TooLarge
from geocrm.spatial.outlines import read_outline


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


SQUARE = [[8.0, 47.0], [9.0, 47.0], [9.0, 48.0], [8.0, 48.0], [8.0, 47.0]]
BOW_TIE = [[8.0, 47.0], [9.0, 48.0], [9.0, 47.0], [8.0, 48.0], [8.0, 47.0]]
OUTSIDE = [[20.0, 47.0], [21.0, 47.0], [21.0, 48.0], [20.0, 47.0]]
SPIKE = [[8.0, 47.0], [9.0, 47.0], [9.0, 48.0], [8.5, 48.0], [8.5, 49.0], [8.5, 48.0], [8.0, 48.0], [8.0, 47.0]]


@pytest.mark.parametrize(
    ("geometry", "pointer", "said", "place"),
    [
        (polygon(BOW_TIE), "/geometry/coordinates/0", "crosses itself", (8.5, 47.5)),
        (polygon(SQUARE[:-1]), "/geometry/coordinates/0", "not closed", (8.0, 48.0)),
        (polygon(SQUARE, OUTSIDE), "/geometry/coordinates/1", "hole reaches outside", None),
        (polygon(SPIKE), "/geometry/coordinates/0/4", "spike", (8.5, 49.0)),
        (polygon([[8, 47], [9, 47], [8, 47]]), "/geometry/coordinates/0", "at least 4 positions", None),
        (polygon([[8, 47], [9, 47], [9, 47], [8, 47]]), "/geometry/coordinates/0", "three different", (8.0, 47.0)),
        (polygon([[8, 47], [9, 47], [10, 47], [8, 47]]), "/geometry/coordinates/0/0", "spike", None),
        (polygon([[8, 47], [9, 147], [9, 48], [8, 47]]), "/geometry/coordinates/0/1", "no lon, lat", None),
        (polygon([[8, 47], [9, math.nan], [9, 48], [8, 47]]), "/geometry/coordinates/0/1", "not a finite", None),
        (polygon([[8, 47], [9, math.inf], [9, 48], [8, 47]]), "/geometry/coordinates/0/1", "not a finite", None),
        (polygon([[8, 47], [9, 10**400], [9, 48], [8, 47]]), "/geometry/coordinates/0/1", "not a finite", None),
        (polygon([[8, 47], ["9", 47], [9, 48], [8, 47]]), "/geometry/coordinates/0/1", "two numbers", None),
        (polygon([[8, 47], [9], [9, 48], [8, 47]]), "/geometry/coordinates/0/1", "a position", None),
        (polygon([[500000, 4649776], [500100, 4649776], [500100, 4649876], [500000, 4649776]]),
         "/geometry/coordinates/0/0", "reference system", None),
        (polygon(), "/geometry/coordinates", "empty", None),
        ({"type": "MultiPolygon", "coordinates": []}, "/geometry/coordinates", "empty", None),
        ({"type": "Point", "coordinates": [8, 47]}, "/geometry/type", "not 'Point'", None),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE], [BOW_TIE]]}, "/geometry/coordinates/1/0", "crosses", None),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}, "/geometry/coordinates", "overlap", None),
        ("POLYGON", "/geometry", "GeoJSON", None),
        (Point(8, 47), "/geometry/type", "Point", None),
        (Polygon(), "/geometry", "empty", None),
    ],
)  # fmt: skip
def test_a_faulty_outline_is_refused_with_its_place(
    geometry: Any, pointer: str, said: str, place: tuple[float, float] | None
) -> None:
    with pytest.raises(InvalidGeometry) as caught:
        read_outline(geometry)
    assert caught.value.errors[0]["pointer"] == pointer
    assert said in caught.value.errors[0]["detail"]
    if place is not None:
        assert (caught.value.extra["place"]["lon"], caught.value.extra["place"]["lat"]) == pytest.approx(place)


@pytest.mark.parametrize("geometry", [polygon(BOW_TIE), polygon(SQUARE[:-1]), polygon(SPIKE), polygon(SQUARE, OUTSIDE)])
def test_repair_mends_visibly(geometry: dict[str, Any]) -> None:
    mended = read_outline(geometry, repair=True)
    assert mended.geometry.is_valid
    assert mended.geometry.area > 0.4
    assert len(mended.notes) == 1


def test_nothing_is_left_of_a_line() -> None:
    with pytest.raises(InvalidGeometry, match="Nothing is left"):
        read_outline(polygon([[8, 47], [9, 47], [10, 47], [8, 47]]), repair=True)


def test_a_good_outline_is_kept_as_it_is() -> None:
    holed = polygon(SQUARE, [[8.2, 47.2], [8.2, 47.4], [8.4, 47.4], [8.2, 47.2]])
    outline = read_outline(holed)
    assert outline.notes == ()
    assert shapely.equals(outline.geometry, shapely.from_geojson(shapely.to_geojson(outline.geometry)))
    assert not outline.geometry.covers(Point(8.25, 47.3))
    assert outline.geometry.covers(Point(8.9, 47.9))
    assert read_outline({"type": "Feature", "geometry": holed}).geometry.equals(outline.geometry)


@pytest.mark.parametrize(
    "ring",
    [
        [[179, -18], [-179, -18], [-179, -16], [179, -16], [179, -18]],  # jumps at ±180°
        [[179, -18], [181, -18], [181, -16], [179, -16], [179, -18]],  # goes on beyond it
        [[-181, -18], [-179, -18], [-179, -16], [-181, -16], [-181, -18]],
    ],
)
def test_an_outline_across_the_antimeridian_is_cut_in_two(ring: list[list[float]]) -> None:
    outline = read_outline(polygon(ring))
    assert outline.notes == ("cut at ±180°",)
    assert isinstance(outline.geometry, MultiPolygon)
    wanted = box(179, -18, 180, -16).union(box(-180, -18, -179, -16))
    assert outline.geometry.equals(wanted)


def test_a_hole_across_the_antimeridian_stays_a_hole() -> None:
    outer = [[178, -20], [-178, -20], [-178, -14], [178, -14], [178, -20]]
    hole = [[179, -18], [179, -16], [-179, -16], [-179, -18], [179, -18]]
    outline = read_outline(polygon(outer, hole)).geometry
    assert outline.area == pytest.approx(4 * 6 - 2 * 2)
    for lon in (179.5, -179.5):
        assert not outline.covers(Point(lon, -17))
        assert outline.covers(Point(lon, -15))


def test_the_whole_world_and_a_ring_round_a_pole() -> None:
    world = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    assert read_outline(polygon(world)).geometry.area == 360 * 180
    with pytest.raises(InvalidGeometry, match="pole"):
        read_outline(polygon([[0, 80], [120, 80], [-120, 80], [0, 80]]))


def test_other_reference_systems_are_transformed() -> None:
    square = box(500_000, 5_000_000, 510_000, 5_010_000)
    outline = read_outline(square, crs="EPSG:32632")
    assert outline.geometry.covers(Point(9.05, 45.19))
    with pytest.raises(InvalidGeometry, match="within"):
        read_outline(box(0, 1e30, 1e30, 2e30), crs="EPSG:32632")


def test_too_many_vertices() -> None:
    angles = np.linspace(0, 2 * np.pi, 1_000_002)
    circle = Polygon(np.column_stack([np.cos(angles), np.sin(angles)]))
    with pytest.raises(TooLarge, match="simplify"):
        read_outline(circle)
