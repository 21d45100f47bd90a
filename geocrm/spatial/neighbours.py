"""Who is next to whom: contiguous cells and areas, places within a distance, the k nearest.

Pure. Every structure is a sparse matrix of ones without a diagonal; what has no neighbour is listed in `islands`, never
dropped. Distances are geodesics on the WGS 84 ellipsoid (Karney 2013): candidates come from a k-d tree over geocentric
coordinates, where the chord is never longer than the geodesic, so that nothing within a distance is missed, at ±180°
and at the poles as anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pyproj
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.spatial import KDTree

from geocrm import errors

Touch = Literal["queen", "rook"]
"""`queen`: a common edge or corner. `rook`: a common edge only."""

_GEOD: Final = pyproj.Geod(ellps="WGS84")
_MAJOR_M: Final = 6378137.0
_E2: Final = 0.0066943799901413165
_METRES_A_DEGREE: Final = 111_194.9
_MOST_PAIRS: Final = 50_000_000


@dataclass(frozen=True)
class Neighbours:
    """A neighbour structure of n cells, areas or places: `matrix` (n, n) of float64 ones, row i the neighbours of i,
    zero diagonal; `kind` says how it was made."""

    matrix: sparse.csr_array
    kind: str

    @property
    def size(self) -> int:
        """n."""
        return int(self.matrix.shape[0])

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many neighbours each has, (n,)."""
        return np.diff(self.matrix.indptr).astype(np.int64)

    @property
    def islands(self) -> NDArray[np.int64]:
        """Those without any neighbour, by position."""
        return np.flatnonzero(self.counts == 0)

    @property
    def symmetric(self) -> bool:
        """Whether i is a neighbour of j wherever j is one of i (k nearest need not be)."""
        return bool((self.matrix != self.matrix.T).nnz == 0)

    def either(self) -> Neighbours:
        """The symmetric structure in which two are neighbours as soon as one counts the other."""
        return Neighbours(sparse.csr_array(self.matrix.maximum(self.matrix.T)), f"{self.kind}, either way")


def grid(
    x: ArrayLike, y: ArrayLike, *, touch: Touch = "queen", rings: int = 1, columns: int | None = None
) -> Neighbours:
    """Cells of a square grid, whole column and row numbers (n,), each cell once: those at most `rings` steps away.

    A step is a king's (`queen`) or a rook's; it does not need the cells between to be there. With `columns` the grid
    goes round the earth: column 0 lies beside column `columns` − 1. Symmetric. Raises errors.Invalid."""
    xs, ys = np.asarray(x, dtype=np.int64), np.asarray(y, dtype=np.int64)
    if xs.shape != ys.shape or xs.ndim != 1:
        raise errors.Invalid("Columns and rows of the cells differ in number.")
    if rings < 1 or (columns is not None and columns <= 2 * rings):
        raise errors.Invalid("Rings of neighbours: expected at least 1, and fewer than half of the grid's columns.")
    n = len(xs)
    if n == 0:
        return Neighbours(sparse.csr_array((0, 0)), "grid")
    if columns is not None:
        xs = xs % columns
        low_x, width = 0, columns
    else:
        low_x, width = int(xs.min()) - rings, int(xs.max() - xs.min()) + 2 * rings + 1
    key = (ys - ys.min()) * width + (xs - low_x)
    order = np.argsort(key, kind="stable")
    known = key[order]
    if (known[1:] == known[:-1]).any():
        raise errors.Invalid("A cell of the grid is there twice: neighbours are between different cells.")
    rows, cols = [], []
    for dy in range(-rings, rings + 1):
        for dx in range(-rings, rings + 1):
            if (dx, dy) == (0, 0) or (touch == "rook" and abs(dx) + abs(dy) > rings):
                continue
            moved = xs + dx
            if columns is not None:
                moved = moved % columns
            wanted = (ys - ys.min() + dy) * width + (moved - low_x)
            at = np.minimum(np.searchsorted(known, wanted), n - 1)
            hit = known[at] == wanted
            rows.append(np.flatnonzero(hit))
            cols.append(order[at[hit]])
    return _made(np.concatenate(rows), np.concatenate(cols), n, f"grid, {touch}, {rings} ring{'s' * (rings > 1)}")


def within_distance(lon: ArrayLike, lat: ArrayLike, distance_m: float) -> Neighbours:
    """Places, degrees (n,): all others within a geodesic distance. Symmetric. Raises errors.Invalid for points that are
    not on earth, and errors.TooLarge where that is more than 50 million pairs."""
    lons, lats = _points(lon, lat)
    if not 0 < distance_m < np.inf:
        raise errors.Invalid("The distance of neighbours: expected more than 0 metres.")
    tree = KDTree(geocentric(lons, lats))
    if tree.count_neighbors(tree, distance_m) > 2 * _MOST_PAIRS:
        raise errors.TooLarge(
            f"More than {_MOST_PAIRS:,} pairs lie within {distance_m:g} m; choose a shorter distance."
        )
    pairs = tree.query_pairs(distance_m, output_type="ndarray")
    near = _distance_m(lons, lats, pairs[:, 0], pairs[:, 1]) <= distance_m
    first, second = pairs[near, 0], pairs[near, 1]
    return _made(
        np.concatenate([first, second]), np.concatenate([second, first]), len(lons), f"within {distance_m:g} m"
    )


def nearest(lon: ArrayLike, lat: ArrayLike, k: int) -> Neighbours:
    """Places, degrees (n,): the k others that are nearest by geodesic, ties by position. Not symmetric in general, see
    `Neighbours.either`. Raises errors.Invalid, and errors.TooLittleData where there are no k others."""
    lons, lats = _points(lon, lat)
    n = len(lons)
    if k < 1:
        raise errors.Invalid("The number of nearest neighbours: expected at least 1.")
    if n <= k:
        raise errors.TooLittleData(f"{k} nearest neighbours need more than {k} places; there are {n}.")
    points = geocentric(lons, lats)
    tree = KDTree(points)
    chosen = np.empty((n, k), dtype=np.int64)
    waiting, take = np.arange(n), min(n, k + 9)
    while len(waiting):
        chord, found = tree.query(points[waiting], k=take)
        own = np.repeat(waiting, take)
        metres = _distance_m(lons, lats, own, found.ravel()).reshape(found.shape)
        metres[found == waiting[:, None]] = np.inf
        order = np.lexsort((found, metres), axis=1)[:, :k]
        bound = np.take_along_axis(metres, order[:, -1:], axis=1)[:, 0]
        # what the tree left out lies further by chord, so further by geodesic, than the last that it gave
        sure = (chord[:, -1] > bound) | (take == n)
        chosen[waiting[sure]] = np.take_along_axis(found, order, axis=1)[sure]
        waiting, take = waiting[~sure], min(n, take * 2)
    return _made(np.repeat(np.arange(n), k), chosen.ravel(), n, f"{k} nearest")


def touching(areas: ArrayLike, *, touch: Touch = "queen", gap_m: float = 0.0) -> Neighbours:
    """Polygons in degrees (n,), shapely: those that share a point of the boundary (`queen`) or a stretch of it
    (`rook`), across ±180° too; overlapping areas are neighbours. Symmetric.

    `gap_m` bridges slivers between borders that were drawn apart (`queen` only), measured in degrees of longitude as
    they are at the middle of the map. Raises errors.Invalid for a missing or empty polygon."""
    shapes = np.atleast_1d(np.asarray(areas, dtype=object))
    n = len(shapes)
    lacking = np.flatnonzero(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    if len(lacking):
        raise errors.Invalid(f"{len(lacking)} of {n} areas have no polygon: leave them out of what is next to what.")
    if gap_m < 0 or (gap_m > 0 and touch == "rook"):
        raise errors.Invalid("A gap in metres is bridged between queen neighbours only, and is not negative.")
    bounds = shapely.bounds(shapes).reshape(n, 4)
    # a copy of what lies at the eastern edge of the map, put at its western one
    edge = np.flatnonzero(bounds[:, 2] >= 180 - 1e-9)
    copies = shapely.transform(shapes[edge], lambda c: c - [360.0, 0.0])
    every = np.concatenate([shapes, copies])
    owner = np.concatenate([np.arange(n), edge])
    if gap_m > 0:
        narrow = float(np.cos(np.radians((bounds[:, 1].min() + bounds[:, 3].max()) / 2))) if n else 1.0
        every = shapely.transform(every, lambda c: c * [narrow, 1.0])
        pairs = shapely.STRtree(every).query(every, predicate="dwithin", distance=gap_m / _METRES_A_DEGREE)
    else:
        pairs = shapely.STRtree(every).query(every, predicate="intersects")
    first, second = pairs[:, pairs[0] < pairs[1]]
    if touch == "rook" and len(first):
        # a stretch in common: the boundaries meet in a line, or the interiors overlap
        lines = shapely.relate_pattern(every[first], every[second], "****1****")
        lines |= shapely.relate_pattern(every[first], every[second], "2********")
        first, second = first[lines], second[lines]
    a, b = owner[first], owner[second]
    differ = a != b
    return _made(
        np.concatenate([a[differ], b[differ]]), np.concatenate([b[differ], a[differ]]), n, f"areas, {touch} contiguity"
    )


def _made(rows: NDArray, cols: NDArray, n: int, kind: str) -> Neighbours:
    matrix = sparse.csr_array((np.ones(len(rows)), (rows, cols)), shape=(n, n))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return Neighbours(matrix, kind)


def _points(lon: ArrayLike, lat: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lons, lats = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    if lons.shape != lats.shape or lons.ndim != 1:
        raise errors.Invalid("Longitudes and latitudes differ in number.")
    if not ((np.abs(lons) <= 180) & (np.abs(lats) <= 90)).all():  # NaN fails as well
        raise errors.Invalid("A point is missing or not on earth: neighbours need lon, lat in degrees.")
    return lons, lats


def geocentric(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of the ellipsoid in metres from the centre of the earth, (n, 3)."""
    phi, lam = np.radians(lat), np.radians(lon)
    normal = _MAJOR_M / np.sqrt(1 - _E2 * np.sin(phi) ** 2)
    return np.column_stack(
        [normal * np.cos(phi) * np.cos(lam), normal * np.cos(phi) * np.sin(lam), normal * (1 - _E2) * np.sin(phi)]
    )


def _distance_m(lon: NDArray, lat: NDArray, first: NDArray, second: NDArray) -> NDArray[np.float64]:
    if len(first) == 0:
        return np.zeros(0)
    return np.asarray(_GEOD.inv(lon[first], lat[first], lon[second], lat[second])[2], dtype=np.float64)
