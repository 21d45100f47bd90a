"""Points as columns take and give them."""

from geoalchemy2 import WKBElement
from geoalchemy2.shape import to_shape
from shapely import Point

from geocrm.spatial import checks


def make(lon: float, lat: float) -> WKBElement:
    """A point in EPSG:4326 for a column."""
    return WKBElement(Point(lon, lat).wkb, srid=4326)


def coordinates(stored: WKBElement | None) -> tuple[float, float] | tuple[None, None]:
    """lon, lat of a column's point."""
    if stored is None:
        return None, None
    point = to_shape(stored)
    return point.x, point.y


def flag_of(lon: float, lat: float, country: str | None) -> str:
    """What is wrong with a point ("zero", "swapped", "out_of_country"), or nothing."""
    return str(checks.check_points([lon], [lat], country or "")[0])
