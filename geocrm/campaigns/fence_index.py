"""Where a point stands to many fences: how likely it is inside each, how far from each border, and which are nearest.

Pure. A position is a fix and its accuracy: the radius that holds the true point in 68 % of cases, as phones give it.
The true point is taken as normal around the fix, alike in all directions, so the probability of being inside is the
integral of that normal over the fence, exactly, however small or ragged the fence is. For a polygon it is the sum, over
its edges, of Owen's T function (D. B. Owen, "Tables for computing bivariate normal probabilities", Annals of
Mathematical Statistics 27, 1956); for a circle the non-central chi-square distribution. Degrees become metres at the
latitude of the fix, so edges stay straight and what matters lies near; distances to centres of circles are geodesics
on WGS 84.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pyproj
import shapely
from numpy.typing import ArrayLike, NDArray
from scipy import special
from shapely import MultiPolygon, Polygon

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shapes = NDArray[np.object_]

SIGMAS_OF_ACCURACY: Final = float(np.sqrt(-2 * np.log(1 - 0.68)))
"""A circle of 68 % around a normal point has this many standard deviations as its radius: about 1.51."""
LEAST_ACCURACY_M: Final = 5.0
"""No fix is believed to be closer than this, whatever it says of itself."""
REACH_SIGMAS: Final = 6.5
"""Beyond so many standard deviations from the border a point is inside or outside for certain (within 1e-10)."""
EDGES_A_CHUNK: Final = 16
EDGES_AT_ONCE: Final = 250_000
"""So many are measured at a time, which takes some 50 MB."""

_GEOD: Final = pyproj.Geod(ellps="WGS84")
_MAJOR_M: Final = 6378137.0
_E2: Final = 0.0066943799901413165
_SMALL_CIRCLE_SIGMAS: Final = 25.0
_NEAR_M: Final = 1e-9
_EARTH_M: Final = 6_371_008.8
_LONGEST_EDGE_M: Final = 2_000.0
_SLACK_SIGMAS: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Fence:
    """A fence: a polygon (lon, lat, within ±180°), or a circle by its centre and radius in metres."""

    polygon: Polygon | MultiPolygon | None
    lon: float = 0.0
    lat: float = 0.0
    radius_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Standings:
    """How positions stand to fences that may hold them; a pair that is not listed is outside for certain.

    All (k,): `position` and `fence` by their place in what was given, in order of position, then fence; `probability`
    that the true point is inside; `border_m`, metres to the border, negative inside, infinite where it is further than
    the reach of the fix's accuracy.
    """

    position: Ints
    fence: Ints
    probability: Floats
    border_m: Floats


@dataclass(frozen=True, slots=True)
class Followed:
    """Whose positions are asked: `subjects` (n,), and the fences that are known to hold a subject, (k,) each, the
    fences by their place. A fence matters to a subject that it holds, and to one with a position that it may hold with
    the probability `least`, over a half; then it matters at all positions of the subject."""

    subjects: Ints
    held_subjects: Ints
    held_fences: Ints
    least: float


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Pairs of subject and fence, as sorted keys; the subject of each position by its place, and whether there is any
    pair of it."""

    subject: Ints
    keys: Ints
    size: int
    has_any: NDArray[np.bool_]

    def holds(self, position: Ints, fence: Ints) -> NDArray[np.bool_]:
        """Which pairs of position and fence are wanted."""
        asked = self.subject[position] * self.size + fence
        place = np.searchsorted(self.keys, asked)
        return self.keys[np.minimum(place, len(self.keys) - 1)] == asked


@dataclass(frozen=True, slots=True)
class Nearest:
    """The fences whose borders are nearest to a point, nearest first: their places, and metres to the border (k,),
    negative inside. `next_m` is that of the nearest one left out, infinite where there is none."""

    fence: Ints
    border_m: Floats
    next_m: float


class FenceIndex:
    """Fences held so that many positions can be asked at once."""

    def __init__(self, fences: Sequence[Fence]) -> None:
        self.size = len(fences)
        circles = [(place, fence) for place, fence in enumerate(fences) if fence.polygon is None]
        self._circles = np.array([place for place, _ in circles], dtype=np.int64)
        self._centre_lon = np.array([fence.lon for _, fence in circles], dtype=np.float64)
        self._centre_lat = np.array([fence.lat for _, fence in circles], dtype=np.float64)
        self._radius_m = np.array([fence.radius_m for _, fence in circles], dtype=np.float64)
        self._circle_tree = shapely.STRtree(self._boxes_of_circles())
        polygons = [(place, fence.polygon) for place, fence in enumerate(fences) if fence.polygon is not None]
        self._polygons = np.array([place for place, _ in polygons], dtype=np.int64)
        self._shapes: Shapes = np.array([shape for _, shape in polygons], dtype=object)
        shapely.prepare(self._shapes)
        self._bounds = shapely.bounds(self._shapes).reshape(-1, 4)
        self._shape_tree = shapely.STRtree(shapely.envelope(self._shapes))
        self._cut_edges()

    # ------------------------------------------------------------ building

    def _boxes_of_circles(self) -> Shapes:
        """The box of each circle three times, one turn of the earth apart: longitude has no end at ±180°."""
        north, east = metres_a_degree(np.minimum(np.abs(self._centre_lat) + self._radius_m / 110_000, 89.9))
        tall, wide = self._radius_m / 110_500, self._radius_m / np.minimum(east, north)
        return np.concatenate(
            [
                shapely.box(
                    self._centre_lon + turn - wide,
                    self._centre_lat - tall,
                    self._centre_lon + turn + wide,
                    self._centre_lat + tall,
                )
                for turn in (0, -360, 360)
            ]
        )

    def _cut_edges(self) -> None:
        """All edges of all polygons, shells to the left and holes to the right of their inside, in chunks."""
        parts, whole = shapely.get_parts(shapely.orient_polygons(self._shapes), return_index=True)
        rings, part = shapely.get_rings(parts, return_index=True)
        corners, ring = shapely.get_coordinates(rings, return_index=True)
        begins = np.flatnonzero(ring[:-1] == ring[1:]) if len(ring) else np.empty(0, np.int64)
        self._from, self._to = corners[begins], corners[begins + 1]
        shape = whole[part[ring[begins]]]
        first = np.ones(len(begins), dtype=bool)
        first[1:] = shape[1:] != shape[:-1]
        starts = np.flatnonzero(first)
        nth = np.arange(len(begins)) - np.repeat(starts, np.diff([*starts, len(begins)]))
        self._chunk_start = np.flatnonzero(nth % EDGES_A_CHUNK == 0)
        self._chunk_end = np.append(self._chunk_start[1:], len(begins))
        self._chunk_shape = shape[self._chunk_start]
        if len(begins):
            low = np.minimum.reduceat(np.minimum(self._from, self._to), self._chunk_start)
            high = np.maximum.reduceat(np.maximum(self._from, self._to), self._chunk_start)
            self._chunk_tree = shapely.STRtree(shapely.box(low[:, 0], low[:, 1], high[:, 0], high[:, 1]))
        else:
            self._chunk_tree = shapely.STRtree([])

    # ------------------------------------------------------------ how likely inside

    def standings(
        self, lon: ArrayLike, lat: ArrayLike, accuracy_m: ArrayLike, *, of: Followed | None = None
    ) -> Standings:
        """How positions (n,) of these accuracies stand to the fences that may hold them; where they are `of` subjects
        that are followed, to those alone that matter to them."""
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        sigma = np.maximum(np.asarray(accuracy_m, dtype=np.float64), LEAST_ACCURACY_M) / SIGMAS_OF_ACCURACY
        wanted = None if of is None else self._that_matter(lon, lat, sigma, of)
        asked = np.arange(len(lon)) if wanted is None else np.flatnonzero(wanted.has_any)
        parts = [self._in_circles(lon, lat, sigma, asked, wanted), self._in_polygons(lon, lat, sigma, asked, wanted)]
        position, fence, probability, border = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.lexsort((fence, position))
        return Standings(position[order], fence[order], probability[order], border[order])

    def _that_matter(self, lon: Floats, lat: Floats, sigma: Floats, of: Followed) -> _Wanted:
        """Fences that subjects are held by, or that may hold one of their positions with the least probability.

        A fence lies on one side of the lines along its box (of a circle, of each tangent), so it holds at most what
        the normal has on that side: less than the least, where the fix is not so many standard deviations within."""
        names, subject = np.unique(of.subjects, return_inverse=True)
        within = sigma * (special.ndtri(of.least) - _SLACK_SIGMAS)
        points = shapely.points(lon, lat)
        position, entry = self._circle_tree.query(points)
        circle = entry % max(len(self._circles), 1)
        away = self._from_centres(circle, position, lon, lat)
        good = self._radius_m[circle] - away >= within[position]
        held, holder = self._shape_tree.query(points)
        north, east = metres_a_degree(lat[held])
        west, south, most_east, most_north = self._bounds[holder].T
        x, y, margin = lon[held], lat[held], within[held]
        wide = np.minimum(x - west, most_east - x) * east >= margin
        tall = np.minimum(y - south, most_north - y) * north >= margin
        given = np.isin(of.held_subjects, names)
        pairs = [
            (np.searchsorted(names, of.held_subjects[given]), of.held_fences[given]),
            (subject[position[good]], self._circles[circle[good]]),
            (subject[held[wide & tall]], self._polygons[holder[wide & tall]]),
        ]
        some, fence = (np.concatenate(column) for column in zip(*pairs, strict=True))
        return _Wanted(subject, np.unique(some * self.size + fence), self.size, np.isin(subject, some))

    def _boxes(self, lon: Floats, lat: Floats, sigma: Floats) -> Shapes:
        """What is within reach of fixes."""
        north, east = metres_a_degree(lat)
        tall, wide = REACH_SIGMAS * sigma / north, REACH_SIGMAS * sigma / east
        return np.asarray(shapely.box(lon - wide, lat - tall, lon + wide, lat + tall))

    def _from_centres(self, circle: Ints, position: Ints, lon: Floats, lat: Floats) -> Floats:
        return np.asarray(
            _GEOD.inv(self._centre_lon[circle], self._centre_lat[circle], lon[position], lat[position])[2]
        )

    def _in_circles(
        self, lon: Floats, lat: Floats, sigma: Floats, asked: Ints, wanted: _Wanted | None
    ) -> tuple[Ints, Ints, Floats, Floats]:
        place, entry = self._circle_tree.query(self._boxes(lon[asked], lat[asked], sigma[asked]))
        position, circle = asked[place], entry % max(len(self._circles), 1)
        if wanted is not None:
            kept = wanted.holds(position, self._circles[circle])
            position, circle = position[kept], circle[kept]
        away = self._from_centres(circle, position, lon, lat)
        border = away - self._radius_m[circle]
        near = border < REACH_SIGMAS * sigma[position]
        position, circle, away, border = position[near], circle[near], away[near], border[near]
        probability = in_circle(away, self._radius_m[circle], sigma[position])
        border = np.where(np.abs(border) <= REACH_SIGMAS * sigma[position], border, -np.inf)
        return position, self._circles[circle], probability, border

    def _in_polygons(
        self, lon: Floats, lat: Floats, sigma: Floats, asked: Ints, wanted: _Wanted | None
    ) -> tuple[Ints, Ints, Floats, Floats]:
        place, holder = self._shape_tree.query(shapely.points(lon[asked], lat[asked]))
        held = asked[place]
        place, chunk = self._chunk_tree.query(self._boxes(lon[asked], lat[asked], sigma[asked]))
        position = asked[place]
        if wanted is not None:
            kept = wanted.holds(held, self._polygons[holder])
            held, holder = held[kept], holder[kept]
            kept = wanted.holds(position, self._polygons[self._chunk_shape[chunk]])
            position, chunk = position[kept], chunk[kept]
        inside = shapely.intersects_xy(self._shapes[holder], lon[held], lat[held])
        held, holder = held[inside], holder[inside]
        count = len(self._shapes) or 1
        keys, place = np.unique(
            np.concatenate([held * count + holder, position * count + self._chunk_shape[chunk]]), return_inverse=True
        )
        is_inside = np.zeros(len(keys))
        is_inside[place[: len(held)]] = 1.0
        outside_by, border = self._past_edges(keys // count, place[len(held) :], position, chunk, lon, lat, sigma)
        probability = is_inside - outside_by
        # a point on an edge may be taken for either side of it by the one sum and the other
        probability = np.clip(probability - np.round(probability - 0.5) * (np.abs(probability - 0.5) > 0.75), 0.0, 1.0)
        border = np.where(is_inside > 0, -border, border)
        kept = (is_inside > 0) | (border <= REACH_SIGMAS * sigma[keys // count])
        border = np.where(np.abs(border) <= REACH_SIGMAS * sigma[keys // count], border, np.copysign(np.inf, border))
        return (keys // count)[kept], self._polygons[(keys % count)[kept]], probability[kept], border[kept]

    def _past_edges(
        self, of: Ints, pair: Ints, position: Ints, chunk: Ints, lon: Floats, lat: Floats, sigma: Floats
    ) -> tuple[Floats, Floats]:
        """What the edges of chunks take from being inside, and metres to the nearest, for each pair of `of`."""
        sums = np.zeros(len(of))
        nearest = np.full(len(of), np.inf)
        lengths = self._chunk_end[chunk] - self._chunk_start[chunk]
        before = np.cumsum(lengths) - lengths
        cuts = np.flatnonzero(np.diff(before // EDGES_AT_ONCE)) + 1
        for begin, end in pairwise([0, *cuts.tolist(), len(chunk)]):
            some = slice(begin, end)
            self._past_some(pair[some], position[some], chunk[some], lon, lat, sigma, sums, nearest)
        return sums, nearest

    def _past_some(
        self, pair: Ints, position: Ints, chunk: Ints, lon: Floats, lat: Floats, sigma: Floats, sums: Floats,
        nearest: Floats,
    ) -> None:  # fmt: skip
        """The same for some chunks, into `sums` and `nearest`."""
        lengths = self._chunk_end[chunk] - self._chunk_start[chunk]
        rows = np.repeat(np.arange(len(chunk)), lengths)
        edge = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + self._chunk_start[chunk][rows]
        at = position[rows]
        north, east = metres_a_degree(lat[at])
        here = np.column_stack([lon[at], lat[at]])
        scale = np.column_stack([east, north])
        begin, end = (self._from[edge] - here) * scale, (self._to[edge] - here) * scale
        height, left, right, metres = against_edges(begin, end)
        spread = sigma[at]
        tight = metres <= REACH_SIGMAS * spread
        taken = np.zeros(len(rows))
        h, t0, t1, s = height[tight], left[tight], right[tight], spread[tight]
        taken[tight] = special.owens_t(h / s, t1 / h) - special.owens_t(h / s, t0 / h)
        np.add.at(sums, pair[rows], taken)
        np.minimum.at(nearest, pair[rows], metres)

    # ------------------------------------------------------------ which are nearest

    def nearest(self, lon: float, lat: float, count: int) -> Nearest:
        """The `count` fences whose borders are nearest to a point, from inside or outside."""
        low = np.zeros(self.size)
        low[self._circles] = np.abs(haversine_m(self._centre_lon, self._centre_lat, lon, lat) - self._radius_m)
        low[self._polygons] = self._to_boxes(lon, lat)
        low *= 0.99  # of the sphere and the ellipsoid
        order = np.argsort(low, kind="stable")
        metres = np.full(self.size, np.inf)
        step = max(2 * (count + 1), 32)
        for begin in range(0, self.size, step):
            some = order[begin : begin + step]
            metres[some] = self._border_m(some, lon, lat)
            known = np.sort(np.abs(metres[order[: begin + step]]))
            beyond = begin + step
            if beyond >= self.size or (len(known) > count and known[count] <= low[order[beyond]]):
                break
        ranked = np.lexsort((np.arange(self.size), np.abs(metres)))
        rest = np.abs(metres[ranked[count]]) if self.size > count else np.inf
        chosen = ranked[:count]
        return Nearest(chosen, metres[chosen], float(rest))

    def _to_boxes(self, lon: float, lat: float) -> Floats:
        """Metres from a point to the box of each polygon, or less; 0 within it."""
        if not len(self._shapes):
            return np.empty(0)
        west, south, east, north = self._bounds.T
        beyond = np.maximum(0.0, np.maximum(_turn(west - lon), _turn(lon - east)))
        beyond = np.where((_turn(lon - west) >= 0) & (_turn(east - lon) >= 0), 0.0, np.abs(beyond))
        tall = np.maximum(0.0, np.maximum(south - lat, lat - north)) * 110_500
        # the least way over `beyond` degrees of longitude is the one nearest to a pole
        top = np.minimum(np.maximum(np.maximum(np.abs(south), np.abs(north)), abs(lat)), 90.0)
        angle = np.minimum(beyond, 90.0)
        wide = _EARTH_M * np.arcsin(np.clip(np.cos(np.radians(top)) * np.sin(np.radians(angle)), 0.0, 1.0))
        return np.maximum(tall, wide)

    def _border_m(self, fences: Ints, lon: float, lat: float) -> Floats:
        """Metres to the border of each of these fences, negative inside, by geodesics from the point."""
        made = np.empty(len(fences))
        place = np.full(self.size, -1, dtype=np.int64)
        place[self._circles] = np.arange(len(self._circles))
        place[self._polygons] = np.arange(len(self._polygons))
        for row, fence in enumerate(fences):
            at = place[fence]
            if at < len(self._circles) and self._circles[at] == fence:
                away = _GEOD.inv(self._centre_lon[at], self._centre_lat[at], lon, lat)[2]
                made[row] = away - self._radius_m[at]
            else:
                made[row] = self._polygon_border_m(self._shapes[at], lon, lat)
        return made

    @staticmethod
    def _polygon_border_m(shape: Polygon | MultiPolygon, lon: float, lat: float) -> float:
        step = _LONGEST_EDGE_M / 111_320
        rings = shapely.get_rings(shapely.get_parts(shapely.segmentize(shape, step)))
        least = np.inf
        for ring in rings:
            corners = shapely.get_coordinates(ring)
            ones = np.ones(len(corners))
            azimuth, _, away = _GEOD.inv(lon * ones, lat * ones, corners[:, 0], corners[:, 1])
            turned = np.radians(azimuth)
            flat = np.column_stack([away * np.sin(turned), away * np.cos(turned)])
            least = min(least, float(against_edges(flat[:-1], flat[1:])[3].min()))
        return -least if shapely.intersects_xy(shape, lon, lat) else least


def metres_a_degree(lat: ArrayLike) -> tuple[Floats, Floats]:
    """Metres of a degree of latitude and of longitude at a latitude, on WGS 84; at least 1 m to the east."""
    turned = np.radians(np.asarray(lat, dtype=np.float64))
    bent = 1 - _E2 * np.sin(turned) ** 2
    north = np.radians(_MAJOR_M * (1 - _E2) / bent**1.5)
    east = np.radians(_MAJOR_M * np.cos(turned) / np.sqrt(bent))
    return north, np.maximum(east, 1.0)


def against_edges(begin: Floats, end: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The origin against edges from `begin` to `end`, metres (n, 2): its height to the left of each edge's line (never
    0), where the edge begins and ends along that line from the foot of the height, and its distance to the edge."""
    along = end - begin
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), _NEAR_M)
    height = (begin[:, 0] * end[:, 1] - begin[:, 1] * end[:, 0]) / length
    left = (begin[:, 0] * along[:, 0] + begin[:, 1] * along[:, 1]) / length
    right = left + length
    beside = np.where(left > 0, left, np.where(right < 0, right, 0.0))
    height = np.where(np.abs(height) < _NEAR_M, _NEAR_M, height)
    return height, left, right, np.hypot(height, beside)


def in_circle(away_m: ArrayLike, radius_m: ArrayLike, sigma_m: ArrayLike) -> Floats:
    """The probability that a normal point of standard deviation `sigma_m`, whose middle is `away_m` from the centre of
    a circle, lies within it: non-central chi-square, and where that differs by less than 1e-3, the normal it tends to.
    """
    away, radius, sigma = (np.asarray(v, dtype=np.float64) for v in (away_m, radius_m, sigma_m))
    ratio = radius / sigma
    made = special.ndtr((radius - np.hypot(away, sigma)) / sigma)
    small = (ratio <= _SMALL_CIRCLE_SIGMAS) & (np.abs(away - radius) <= REACH_SIGMAS * sigma)
    if small.any():
        made[small] = special.chndtr(ratio[small] ** 2, 2.0, (away[small] / sigma[small]) ** 2)
    return np.clip(made, 0.0, 1.0)


def haversine_m(lon: ArrayLike, lat: ArrayLike, to_lon: ArrayLike, to_lat: ArrayLike) -> Floats:
    """Great-circle metres on the mean sphere, within 0.6 % of the geodesic."""
    a, b = np.radians(np.asarray(lat, dtype=np.float64)), np.radians(np.asarray(to_lat, dtype=np.float64))
    turned = np.radians(np.asarray(to_lon, dtype=np.float64) - np.asarray(lon, dtype=np.float64))
    chord = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(turned / 2) ** 2
    return 2 * _EARTH_M * np.arcsin(np.sqrt(np.clip(chord, 0.0, 1.0)))


def _turn(degrees: Floats) -> Floats:
    """Degrees within ±180."""
    return (degrees + 180.0) % 360.0 - 180.0
