"""What a place says of a customer: how near shops are, what the neighbours do, how many people live around.

Pure: arrays in, arrays out. Points are lon, lat in degrees (n,); a point that is not known (NaN) gets NaN. Distances
are geodesics on the WGS 84 ellipsoid (Karney, "Algorithms for geodesics", Journal of Geodesy 87, 2013); candidates come
from k-d trees, at ±180° and at the poles as anywhere. Three bounds make the pruning exact: a geodesic is never shorter
than its chord, and never shorter than the polar radius times the angle seen from the centre (the radial projection onto
a ball inside the ellipsoid shortens), and it is at most 2R asin(chord / 2R), R the least radius of curvature of the
ellipsoid (Schur's comparison theorem, as no geodesic bends more than that).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyproj
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from geocrm.errors import Invalid
from geocrm.spatial.neighbours import geocentric

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]

PEOPLE_KM2: Final = 1_000.0
"""How densely the people of a town are taken to live, for its extent."""
SMOOTHING_M: Final = 3_000.0

_GEOD: Final = pyproj.Geod(ellps="WGS84")
_POLAR_M: Final = 6_356_752.314245179
_LEAST_BEND_M: Final = 6_335_439.327  # a (1 − e²): the meridian's radius of curvature at the equator
_MEAN_M: Final = 6_371_008.8
_SLACK_M: Final = 1e-6  # rounding of coordinates and of geodesics, with room to spare
_BLOCK: Final = 2_000_000  # candidates looked at together
_FARTHEST_M: Final = 1e7


@dataclass(frozen=True)
class Nearest:
    """The nearest place of each point: its position among the places (-1 where there is none) and the geodesic distance
    in metres (NaN), both (n,)."""

    position: Positions
    distance_m: Floats


def nearest_place(lon: ArrayLike, lat: ArrayLike, place_lon: ArrayLike, place_lat: ArrayLike) -> Nearest:
    """The place with the shortest geodesic, of equally near ones the first; no places is an answer too: NaN.

    Raises errors.Invalid for points off the earth and for places that are not known."""
    lons, lats = _points(lon, lat)
    there_lon, there_lat = _places(place_lon, place_lat)
    position, distance = np.full(len(lons), -1, dtype=np.int64), np.full(len(lons), np.nan)
    m = len(there_lon)
    known = np.flatnonzero(np.isfinite(lons))
    if m == 0 or len(known) == 0:
        return Nearest(position, distance)
    tree = KDTree(_directions(there_lon, there_lat))
    waiting, take = known, min(m, 3)
    while len(waiting):
        again = []
        for rows in _blocks(waiting, take):
            chord, found = tree.query(_directions(lons[rows], lats[rows]), k=[*range(1, take + 1)])
            least = _POLAR_M * 2 * np.arcsin(np.minimum(chord / 2, 1.0)) - _SLACK_M  # no geodesic is shorter
            first = _geodesic(lons[rows], lats[rows], there_lon[found[:, 0]], there_lat[found[:, 0]])
            at, column = np.nonzero(least <= first[:, None])
            metres = np.full(found.shape, np.inf)
            other = found[at, column]
            metres[at, column] = _geodesic(lons[rows[at]], lats[rows[at]], there_lon[other], there_lat[other])
            best = np.lexsort((found, metres), axis=1)[:, 0]
            line = np.arange(len(rows))
            sure = (least[:, -1] > first) | (take == m)
            position[rows[sure]] = found[line, best][sure]
            distance[rows[sure]] = metres[line, best][sure]
            again.append(rows[~sure])
        waiting, take = np.concatenate(again), min(m, take * 4)
    return Nearest(position, distance)


def count_within(lon: ArrayLike, lat: ArrayLike, place_lon: ArrayLike, place_lat: ArrayLike, radius_m: float) -> Floats:
    """How many places lie within a geodesic distance of each point, (n,); NaN where the point is not known.

    Raises errors.Invalid as `nearest_place`, and for a radius that is not above 0 and at most 10,000 km."""
    lons, lats = _points(lon, lat)
    there_lon, there_lat = _places(place_lon, place_lat)
    _require_radius(radius_m)
    counts = np.full(len(lons), np.nan)
    known = np.flatnonzero(np.isfinite(lons))
    if len(there_lon) == 0 or len(known) == 0:
        counts[known] = 0
        return counts
    tree = KDTree(geocentric(there_lon, there_lat))
    inside = max(2 * _LEAST_BEND_M * np.sin(radius_m / 2 / _LEAST_BEND_M) - _SLACK_M, 0.0)  # chords surely within
    for rows in _blocks(known, 1):
        points = geocentric(lons[rows], lats[rows])
        sure = tree.query_ball_point(points, inside, return_length=True)
        most = tree.query_ball_point(points, radius_m + _SLACK_M, return_length=True)
        counts[rows] = most
        for at in np.flatnonzero(most > sure):
            near = np.array(tree.query_ball_point(points[at], radius_m + _SLACK_M), dtype=np.int64)
            own = np.full(len(near), rows[at])
            metres = _geodesic(lons[own], lats[own], there_lon[near], there_lat[near])
            counts[rows[at]] = int((metres <= radius_m).sum())
    return counts


def density_km2(counts: ArrayLike, radius_m: float) -> Floats:
    """Counts within a radius per square kilometre of the circle, sea and mountains included, (n,)."""
    _require_radius(radius_m)
    cap_m2 = 2 * np.pi * _MEAN_M**2 * (1 - np.cos(radius_m / _MEAN_M))
    return np.asarray(np.asarray(counts, dtype=np.float64) / (cap_m2 / 1e6), dtype=np.float64)


class Neighbourhood:
    """Customers among whom neighbours are looked for: points (m,) and whose they are, `owner` (m,) whole numbers.

    A customer counts once at a point. At one point the first `most` + 1 customers by position are enough to know the
    `most` nearest of anybody, so piles of customers at one point cost nothing. Memory: some 60 bytes a customer."""

    def __init__(self, lon: ArrayLike, lat: ArrayLike, owner: ArrayLike, *, most: int) -> None:
        if most < 1:
            raise Invalid("The number of neighbours: expected at least 1.")
        lons, lats = _places(lon, lat)
        owners = np.asarray(owner, dtype=np.int64)
        if owners.shape != lons.shape:
            raise Invalid("Owners and points differ in number.")
        self.most = most
        self._kept = _thinned(lons, lats, owners, most + 1)
        self._lon, self._lat, self._owner = lons[self._kept], lats[self._kept], owners[self._kept]
        self._tree = KDTree(geocentric(self._lon, self._lat)) if len(self._kept) else None

    def find(self, lon: ArrayLike, lat: ArrayLike, owner: ArrayLike, *, reach_m: float) -> Positions:
        """The up to `most` nearest points of others within `reach_m`, (n, most): positions in what the neighbourhood
        was made of, ascending, -1 in front where there are fewer. All points of the same owner are left out; of
        equally distant ones the first by position count."""
        lons, lats = _points(lon, lat)
        owners = np.asarray(owner, dtype=np.int64)
        if owners.shape != lons.shape:
            raise Invalid("Owners and points differ in number.")
        _require_radius(reach_m)
        made = np.full((len(lons), self.most), -1, dtype=np.int64)
        m = len(self._kept)
        waiting, take = np.flatnonzero(np.isfinite(lons)), min(m, self.most + 8)
        while self._tree is not None and len(waiting):
            again = [np.empty(0, dtype=np.int64)]
            for rows in _blocks(waiting, take):
                chosen, sure = self._nearest(lons[rows], lats[rows], owners[rows], take, reach_m)
                chosen.sort(axis=1)
                made[rows[sure]] = np.where(chosen >= 0, self._kept[chosen], -1)[sure]
                again.append(rows[~sure])
            waiting, take = np.concatenate(again), min(m, take * 2)
        return made

    def _nearest(
        self, lon: Floats, lat: Floats, owner: Positions, take: int, reach_m: float
    ) -> tuple[Positions, NDArray[np.bool_]]:
        """Neighbours of a block from `take` candidates, and which of them are certain."""
        assert self._tree is not None
        m, k = len(self._kept), self.most
        chord, found = self._tree.query(
            geocentric(lon, lat), k=[*range(1, take + 1)], distance_upper_bound=reach_m + 2 * _SLACK_M
        )
        seen_all = ~np.isfinite(chord[:, -1]) | (take == m)
        held = np.isfinite(chord)
        at = np.minimum(found, m - 1)
        held &= self._owner[at] != owner[:, None]
        rank = np.cumsum(held, axis=1)
        chosen = held & (rank <= k)
        last = np.where(chosen, chord, 0.0).max(axis=1)
        bound = _longest(last)  # no geodesic to a chosen one is longer
        enough = rank[:, -1] >= k
        sure = seen_all | (enough & (chord[:, -1] > bound + _SLACK_M))
        following = np.where(held & (rank == k + 1), chord, np.inf).min(axis=1)
        close = sure & ((following <= bound + _SLACK_M) | (bound > reach_m))
        answer = np.full((len(lon), k), -1, dtype=np.int64)
        row, column = np.nonzero(chosen & ~close[:, None])
        answer[row, rank[row, column] - 1] = at[row, column]
        row, column = np.nonzero(held & close[:, None])
        if len(row):  # the tree's order is not yet that of geodesics
            metres = np.full(held.shape, np.inf)
            metres[row, column] = _geodesic(lon[row], lat[row], self._lon[at[row, column]], self._lat[at[row, column]])
            metres[metres > reach_m] = np.inf
            order = np.lexsort((at[close], metres[close]), axis=1)[:, :k]
            ranked = np.take_along_axis(at[close], order, axis=1)
            ranked[~np.isfinite(np.take_along_axis(metres[close], order, axis=1))] = -1
            answer[close, : ranked.shape[1]] = ranked
        return answer, sure


def mean_of(found: Positions, values: ArrayLike, *, fewest: int) -> Floats:
    """The mean of the neighbours' values, (n,): `found` (n, k) of `Neighbourhood.find`, `values` (m,), NaN where a
    neighbour's is not known. NaN with fewer than `fewest` known ones."""
    totals, known = sum_of(found, values)
    return np.where(known >= max(fewest, 1), totals / np.maximum(known, 1), np.nan)


def sum_of(found: Positions, values: ArrayLike) -> tuple[Floats, Positions]:
    """The sum of the neighbours' known values, and how many are known, (n,) each."""
    of = np.asarray(values, dtype=np.float64)
    if len(of) == 0:
        return np.zeros(len(found)), np.zeros(len(found), dtype=np.int64)
    looked_up = np.where(found >= 0, of[found], np.nan)
    known = np.isfinite(looked_up)
    return np.where(known, looked_up, 0.0).sum(axis=1), known.sum(axis=1)


def penetration_of_others(area: ArrayLike, counted: ArrayLike, customers: ArrayLike, population: ArrayLike) -> Floats:
    """Customers per 1,000 people of the area without the customer itself, (n,).

    `area` (n,): position of the customer's area, -1 for none; `counted` (n,): whether the customer is one of its
    `customers` (areas,), people are `population` (areas,). NaN without an area or a population above 0."""
    at, itself = np.asarray(area, dtype=np.int64), np.asarray(counted, dtype=bool)
    count, people = np.asarray(customers, dtype=np.float64), np.asarray(population, dtype=np.float64)
    made = np.full(len(at), np.nan)
    held = np.flatnonzero(at >= 0)
    held = held[people[at[held]] > 0]
    made[held] = (count[at[held]] - itself[held]) / people[at[held]] * 1_000
    if (made < 0).any():
        raise Invalid("A customer is said to be counted in an area that counts nobody.")
    return made


def people_km2(lon: ArrayLike, lat: ArrayLike, town_lon: ArrayLike, town_lat: ArrayLike, people: ArrayLike) -> Floats:
    """How many people live around each point, per square kilometre, from the towns and their inhabitants, (n,).

    Each town is a normal curve round its centre: its variance along an axis is that of a disc which holds the people at
    1,000 per km², and 3 km squared besides; it ends at four standard deviations. It does not know of our customers."""
    lons, lats = _points(lon, lat)
    there_lon, there_lat = _places(town_lon, town_lat)
    inhabitants = np.asarray(people, dtype=np.float64)
    made = np.full(len(lons), np.nan)
    known = np.flatnonzero(np.isfinite(lons))
    made[known] = 0.0
    if len(known) == 0 or len(there_lon) == 0:
        return made
    variance = inhabitants / PEOPLE_KM2 / np.pi * 1e6 / 4 + SMOOTHING_M**2
    points, centres = geocentric(lons[known], lats[known]), geocentric(there_lon, there_lat)
    tree = KDTree(points)
    reach = 4 * np.sqrt(variance)
    low, high = points.min(axis=0), points.max(axis=0)
    close = ((centres >= low - reach[:, None]) & (centres <= high + reach[:, None])).all(axis=1)
    for town in np.flatnonzero(close & (inhabitants > 0)):
        hit = np.array(tree.query_ball_point(centres[town], reach[town]), dtype=np.int64)
        squared = ((points[hit] - centres[town]) ** 2).sum(axis=1)
        peak = inhabitants[town] / (2 * np.pi * variance[town]) * 1e6
        made[known[hit]] += peak * np.exp(-squared / 2 / variance[town])
    return made


def _thinned(lon: Floats, lat: Floats, owner: Positions, most: int) -> Positions:
    """Positions of the first `most` different owners at each point, ascending."""
    lon = np.where(np.abs(lat) == 90, 0.0, np.where(lon == -180, 180.0, lon))  # one point, one name
    order = np.lexsort((np.arange(len(lon)), owner, lat, lon))
    same_point = np.zeros(len(lon), dtype=bool)
    same_point[1:] = (lon[order][1:] == lon[order][:-1]) & (lat[order][1:] == lat[order][:-1])
    twice = same_point.copy()
    twice[1:] &= owner[order][1:] == owner[order][:-1]
    pile = np.cumsum(~same_point)
    first_of_owner = np.sort(order[~twice])
    pile_of = np.empty(len(lon), dtype=np.int64)
    pile_of[order] = pile
    by_pile = first_of_owner[np.argsort(pile_of[first_of_owner], kind="stable")]
    piles = pile_of[by_pile]
    starts = np.flatnonzero(np.diff(piles, prepend=-1))
    rank = np.arange(len(by_pile)) - np.repeat(starts, np.diff(starts, append=len(by_pile)))
    return np.sort(by_pile[rank < most])


def _longest(chord: Floats) -> Floats:
    return np.asarray(2 * _LEAST_BEND_M * np.arcsin(np.minimum(chord / 2 / _LEAST_BEND_M, 1.0)) + _SLACK_M)


def _directions(lon: Floats, lat: Floats) -> Floats:
    """Unit vectors from the centre of the earth, (n, 3)."""
    points = geocentric(lon, lat)
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def _geodesic(lon: Floats, lat: Floats, other_lon: Floats, other_lat: Floats) -> Floats:
    if len(lon) == 0:
        return np.zeros(0)
    return np.asarray(_GEOD.inv(lon, lat, other_lon, other_lat)[2], dtype=np.float64)


def _blocks(rows: Positions, wide: int) -> Iterator[Positions]:
    step = max(1, _BLOCK // max(wide, 16))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _points(lon: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    lons, lats = np.array(lon, dtype=np.float64), np.array(lat, dtype=np.float64)
    if lons.shape != lats.shape or lons.ndim != 1:
        raise Invalid("Longitudes and latitudes differ in number.")
    lost = np.isnan(lons) | np.isnan(lats)
    lons[lost] = lats[lost] = np.nan
    if ((np.abs(lons) > 180) | (np.abs(lats) > 90)).any():
        raise Invalid("A point is not on earth: expected lon, lat in degrees.")
    return lons, lats


def _places(lon: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    lons, lats = _points(lon, lat)
    if np.isnan(lons).any():
        raise Invalid("A place is not known: leave out those without lon, lat.")
    return lons, lats


def _require_radius(radius_m: float) -> None:
    if not 0 < radius_m <= _FARTHEST_M:
        raise Invalid("A radius: expected more than 0 and at most 10,000,000 metres.")
