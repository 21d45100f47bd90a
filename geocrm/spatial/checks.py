"""Which given points cannot be right: (0,0), out of range, lon and lat exchanged, far outside their country.

Pure: arrays in, arrays out (the outlines come from the atlas packages on disk). A flagged point is kept as it was given
and shown to people; it is on no map and in no lookup until it is mended.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry.base import BaseGeometry

from geocrm.spatial import atlas

ZERO, OUT_OF_RANGE, SWAPPED, OUT_OF_COUNTRY = "zero", "out_of_range", "swapped", "out_of_country"
FLAGS = (ZERO, OUT_OF_RANGE, SWAPPED, OUT_OF_COUNTRY)

TOLERANCE_M = 25_000.0
"""How far outside its country's outline a point may lie: coast lines are coarse and islands are missing."""

_ZERO_DEGREES = 0.0009  # 100 m at the equator
_METRES_A_DEGREE = 111_195.0
_GEOD = pyproj.Geod(ellps="WGS84")


def check_points(
    lon: ArrayLike, lat: ArrayLike, country: ArrayLike, *, tolerance_m: float = TOLERANCE_M
) -> NDArray[np.object_]:
    """The flag of each point, '' where nothing is wrong, as an object array of shape (n,).

    `lon`, `lat`: degrees, shape (n,). `country`: ISO alpha-2 codes, shape (n,) or one for all; other spellings are
    read by `atlas.country_code`; an empty, unknown or undrawn country is not checked. A point without coordinates
    (both NaN) has no flag.

    'zero': within some 100 m of (0,0). 'out_of_range': one of the two missing, infinite, beyond ±180° or ±90°.
    'out_of_country': more than `tolerance_m` (geodesic) outside the country's outline, Natural Earth 1:10 million.
    'swapped': the point is one of the last two as given, and within its country with lon and lat exchanged.
    """
    x = np.atleast_1d(np.asarray(lon, dtype=np.float64))
    y = np.atleast_1d(np.asarray(lat, dtype=np.float64))
    codes = np.asarray(country, dtype=object)
    if codes.ndim == 0:
        codes = np.full(len(x), codes.item(), dtype=object)
    flags = np.full(len(x), "", dtype=object)
    given = ~(np.isnan(x) & np.isnan(y))
    finite = np.isfinite(x) & np.isfinite(y)
    in_range = finite & (np.abs(x) <= 180) & (np.abs(y) <= 90)
    zero = in_range & (np.abs(x) <= _ZERO_DEGREES) & (np.abs(y) <= _ZERO_DEGREES)
    flags[given & ~in_range] = OUT_OF_RANGE
    flags[zero] = ZERO

    judged = given & finite & ~zero
    group, names = pd.factorize(pd.Series(codes, dtype=object))
    for number, name in enumerate(names):
        code = atlas.country_code(name)
        shape = atlas.country_shape(code) if code else None
        if shape is None:
            continue
        rows = np.flatnonzero(judged & (group == number))
        if not len(rows):
            continue
        here = rows[in_range[rows]]
        inside = within(shape, x[here], y[here], tolerance_m)
        outside = here[~inside]
        flags[outside] = OUT_OF_COUNTRY
        doubtful = np.concatenate([outside, rows[~in_range[rows]]])
        doubtful = doubtful[(np.abs(y[doubtful]) <= 180) & (np.abs(x[doubtful]) <= 90)]
        if len(doubtful):
            exchanged = within(shape, y[doubtful], x[doubtful], tolerance_m)
            flags[doubtful[exchanged]] = SWAPPED
    return flags


def within(
    shape: BaseGeometry, lon: NDArray[np.float64], lat: NDArray[np.float64], distance_m: float
) -> NDArray[np.bool_]:
    """Which points lie in `shape` or at most `distance_m` (geodesic) outside it, as a boolean array of shape (n,).

    Points in the polygon are settled first; only the rest is measured, in bands of latitude in which a degree of
    longitude is shortened to its true length, and on the ellipsoid where that is not clear enough.
    """
    result = shapely.intersects_xy(shape, lon, lat)
    rest = np.flatnonzero(~result)
    if not len(rest):
        return result
    west, south, east, north = shape.bounds
    reach = distance_m / _METRES_A_DEGREE * 1.02
    # a degree of longitude shrinks towards the poles: the box test must use the shortest one that can matter
    widest = reach / np.maximum(np.cos(np.radians(np.minimum(np.abs(lat[rest]) + reach, 89.9))), 1e-3)
    near = (lat[rest] >= south - reach) & (lat[rest] <= north + reach)
    for turn in (0.0, -360.0, 360.0):
        shifted = lon[rest] + turn
        chosen = near & (shifted >= west - widest) & (shifted <= east + widest)
        if chosen.any():
            rows = rest[chosen]
            result[rows] |= _near(shape, lon[rows] + turn, lat[rows], distance_m)
    return result


def _near(
    shape: BaseGeometry, lon: NDArray[np.float64], lat: NDArray[np.float64], distance_m: float
) -> NDArray[np.bool_]:
    result = np.zeros(len(lon), dtype=bool)
    reach = distance_m / _METRES_A_DEGREE
    west, south, east, north = shape.bounds
    # Towards the poles the shortening changes fast within a band, so that bands get narrower.
    width = 0.5 if np.abs(lat).max() < 75 else 0.05
    band = np.floor(lat / width).astype(int)
    for number in np.unique(band):
        rows = np.flatnonzero(band == number)
        shrink = max(np.cos(np.radians((number + 0.5) * width)), 1e-3)
        window = (
            max(west, lon[rows].min() - 2 * reach / shrink),
            max(south, lat[rows].min() - 2 * reach),
            min(east, lon[rows].max() + 2 * reach / shrink),
            min(north, lat[rows].max() + 2 * reach),
        )
        if window[0] > window[2] or window[1] > window[3]:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            part = shapely.clip_by_rect(shape, *window)
        if part.is_empty:
            continue
        flat = shapely.transform(part, lambda xy, shrink=shrink: xy * [shrink, 1.0])
        shapely.prepare(flat)
        points = shapely.points(lon[rows] * shrink, lat[rows])
        sure = shapely.dwithin(flat, points, reach * 0.97)
        unsure = ~sure & shapely.dwithin(flat, points, reach * 1.03)
        if unsure.any():
            lines = shapely.shortest_line(flat, points[unsure])
            ends = shapely.get_coordinates(lines).reshape(-1, 2, 2)[:, 0, :]
            _, _, metres = _GEOD.inv(lon[rows[unsure]], lat[rows[unsure]], ends[:, 0] / shrink, ends[:, 1])
            sure[unsure] = np.asarray(metres) <= distance_m
        result[rows] = sure
    return result
