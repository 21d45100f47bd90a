"""From any coordinate reference system to EPSG:4326, lon before lat.

Every transformation uses `always_xy`, so that coordinates come and go as (x, y) = (easting or lon, northing or lat),
whatever axis order the reference system's own definition states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj.exceptions import CRSError
from shapely.geometry.base import BaseGeometry

from geocrm import errors

WGS84 = pyproj.CRS.from_epsg(4326)
_CRS84_NAMES = {"CRS84", "OGC:CRS84", "URN:OGC:DEF:CRS:OGC:1.3:CRS84", "URN:OGC:DEF:CRS:OGC::CRS84", "WGS84", "WGS 84"}


@dataclass(frozen=True)
class Reprojected:
    """Points in EPSG:4326: `lon`, `lat` of shape (n,), NaN where `bad`, a boolean (n,), is true."""

    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    bad: NDArray[np.bool_]


@lru_cache(maxsize=256)
def _parse(text: str) -> pyproj.CRS:
    if text.upper() in _CRS84_NAMES:
        return WGS84
    try:
        return pyproj.CRS.from_user_input(int(text) if text.isdigit() else text)
    except CRSError:
        raise errors.Invalid(
            f"the coordinate reference system {text!r} is not known: name it by its EPSG number, for example EPSG:25832"
        ) from None


def read_crs(value: Any) -> pyproj.CRS:
    """A CRS from an EPSG number, 'EPSG:25832', a WKT or PROJ text or a pyproj CRS.

    Raises `errors.Invalid` where it is missing or unknown, or where it is not one of places on earth (a local
    engineering grid, a vertical system).
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise errors.Invalid(
            "the coordinate reference system is missing: name it by its EPSG number, for example EPSG:4326 for "
            "longitude and latitude in degrees"
        )
    crs = value if isinstance(value, pyproj.CRS) else _parse(str(value).strip())
    if crs.is_compound:
        crs = next((part for part in crs.sub_crs_list if part.is_geographic or part.is_projected), crs)
    if not (crs.is_geographic or crs.is_projected):
        kind = "vertical" if crs.is_vertical else "local" if crs.is_engineering else crs.type_name
        raise errors.Invalid(
            f"the coordinate reference system {crs.name!r} ({kind}) does not say where on earth its points lie: "
            "name a geographic or projected one, for example EPSG:4326"
        )
    return crs


def is_lonlat(crs: Any) -> bool:
    """True where coordinates in this CRS, x before y, are already EPSG:4326 lon, lat."""
    return bool(read_crs(crs).equals(WGS84, ignore_axis_order=True))


@lru_cache(maxsize=64)
def _transformer(crs: pyproj.CRS) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs, WGS84, always_xy=True)


def to_lonlat(x: ArrayLike, y: ArrayLike, crs: Any) -> Reprojected:
    """Points (x, y), arrays of shape (n,) in `crs`, as lon, lat in degrees.

    x is the easting or longitude, y the northing or latitude, also where the CRS's definition states the reverse.
    Points that are not finite, that the transformation cannot reach, or that come out beyond ±180°, ±90° are NaN and
    marked `bad`: the caller rejects them with their place in the file.
    """
    source = read_crs(crs)
    xs = np.atleast_1d(np.asarray(x, dtype=np.float64))
    ys = np.atleast_1d(np.asarray(y, dtype=np.float64))
    if xs.shape != ys.shape:
        raise errors.Invalid(f"x and y differ in length: {xs.shape[0]} and {ys.shape[0]}")
    if source.equals(WGS84, ignore_axis_order=True):
        lon, lat = xs.copy(), ys.copy()
    else:
        lon, lat = (np.asarray(part, dtype=np.float64) for part in _transformer(source).transform(xs, ys))
    bad = ~(np.isfinite(lon) & np.isfinite(lat)) | (np.abs(lon) > 180) | (np.abs(lat) > 90)
    lon[bad] = np.nan
    lat[bad] = np.nan
    return Reprojected(lon, lat, bad)


def geometry_to_lonlat(geometries: ArrayLike, crs: Any) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Geometries (n,) in `crs` as EPSG:4326, and a boolean (n,) that marks those with a coordinate out of range.

    A marked geometry is None. Heights and measures are dropped. None stays None and is not marked.
    """
    source = read_crs(crs)
    given = np.atleast_1d(np.asarray(geometries, dtype=object))
    flat = shapely.force_2d(given)
    if not source.equals(WGS84, ignore_axis_order=True):
        transformer = _transformer(source)
        flat = shapely.transform(flat, lambda x, y: transformer.transform(x, y), interleaved=False)
    coordinates, owner = shapely.get_coordinates(flat, return_index=True)
    wrong = ~np.isfinite(coordinates).all(axis=1) | (np.abs(coordinates[:, 0]) > 180) | (np.abs(coordinates[:, 1]) > 90)
    bad = np.zeros(len(flat), dtype=bool)
    bad[np.unique(owner[wrong])] = True
    result = np.array(flat, dtype=object)
    result[bad] = None
    return result, bad


def guess_swapped(x: ArrayLike, y: ArrayLike) -> bool:
    """True where columns named x and y can only be lat, lon: no |x| is above 90°, some |y| is.

    A mixed or small file cannot be judged this way; `geocoding.check_points` judges each point by its country.
    """
    xs = np.asarray(x, dtype=np.float64)
    ys = np.asarray(y, dtype=np.float64)
    usable = np.isfinite(xs) & np.isfinite(ys)
    if not usable.any():
        return False
    over = np.abs(ys[usable]) > 90
    return bool(over.any() and (np.abs(xs[usable]) <= 90).all() and (np.abs(ys[usable]) <= 180).all())


def describe(crs: Any) -> str:
    """A CRS as people name it: 'EPSG:25832 (ETRS89 / UTM zone 32N)', or its name alone where it has no number."""
    parsed = read_crs(crs)
    number = parsed.to_epsg()
    return f"EPSG:{number} ({parsed.name})" if number else str(parsed.name)


__all__ = [
    "WGS84",
    "BaseGeometry",
    "Reprojected",
    "describe",
    "geometry_to_lonlat",
    "guess_swapped",
    "is_lonlat",
    "read_crs",
    "to_lonlat",
]
