"""Which polygon holds each of many points: the exact predicate on a tree of polygons, a chunk at a time.

Pure: arrays in, arrays out.
"""

import numpy as np
import shapely
from numpy.typing import NDArray


class Polygons:
    """Polygons in order of precedence, ready to be asked for many points."""

    def __init__(self, polygons: NDArray[np.object_]) -> None:
        self.polygons = np.asarray(polygons, dtype=object)
        shapely.prepare(self.polygons)
        self.tree = shapely.STRtree(self.polygons)

    def first(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int64]:
        """For each point, degrees of shape (n,), the index of the first polygon that covers it, borders included; -1
        where none does or a coordinate is NaN."""
        best = np.full(len(lon), len(self.polygons), dtype=np.int64)
        given = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
        if len(given) and len(self.polygons):
            near = self.tree.query(shapely.points(lon[given], lat[given]))
            point, polygon = given[near[0]], near[1]
            inside = shapely.intersects_xy(self.polygons[polygon], lon[point], lat[point])
            np.minimum.at(best, point[inside], polygon[inside])
        best[best == len(self.polygons)] = -1
        return best
