"""Contiguous groups: which units are neighbours, and Ward's method that merges neighbours only.

Units are areas with given borders, or small cells of customers; each counts as many customers as live in it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, QhullError, cKDTree

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.scaling import EARTH_RADIUS_KM

Floats = NDArray[np.float64]
Labels = NDArray[np.int32]
Edges = NDArray[np.int64]  # m × 2, numbers of units

MOST_UNITS = 4_000


@dataclass(frozen=True, eq=False)
class Units:
    """Cells of customers: mean features (u × columns), longitude and latitude (u × 2), customers in each,
    neighbours."""

    matrix: Floats
    lonlat: Floats
    weights: Floats
    edges: Edges
    of_row: NDArray[np.int64]  # the unit of each customer


def make_units(matrix: Floats, lonlat: Floats, *, most: int = MOST_UNITS) -> Units:
    """Customers gathered into places; where there are more than `most` places, into square cells of an equal-area
    plane.

    The cells are the smallest, of sides that double from 0.25 km, of which at most `most` hold customers. A cell
    stands at the middle of its customers. Neighbours are those of the Gabriel graph. Raises Invalid where a
    coordinate is not known.
    """
    if lost := int((~np.isfinite(lonlat).all(axis=1)).sum()):
        raise Invalid(
            f"Contiguous groups need a place for each customer; {lost} have none. Leave them out or place them first."
        )
    centre = _centre(lonlat)
    plane = equal_area_km(lonlat, centre)
    _, of_row = np.unique(lonlat, axis=0, return_inverse=True)
    side = 0.25
    while of_row.max() + 1 > most:
        _, of_row = np.unique(np.floor(plane / side), axis=0, return_inverse=True)
        side *= 2
    of_row = of_row.reshape(-1).astype(np.int64)
    counts = np.bincount(of_row).astype(np.float64)
    means = _means(matrix, of_row, counts)
    places = _means(plane, of_row, counts)
    return Units(means, from_equal_area_km(places, centre), counts, gabriel_edges(places), of_row)


def equal_area_km(lonlat: Floats, centre: tuple[float, float]) -> Floats:
    """Lambert's azimuthal equal-area plane about `centre` (lon, lat), in kilometres; Snyder 1987, (22-4) and (24-2)."""
    lon, lat = np.radians(lonlat[:, 0] - centre[0]), np.radians(lonlat[:, 1])
    lat_0 = np.radians(centre[1])
    cosine = np.sin(lat_0) * np.sin(lat) + np.cos(lat_0) * np.cos(lat) * np.cos(lon)
    scale = EARTH_RADIUS_KM * np.sqrt(2.0 / np.maximum(1.0 + cosine, 1e-12))
    across = np.cos(lat) * np.sin(lon)
    up = np.cos(lat_0) * np.sin(lat) - np.sin(lat_0) * np.cos(lat) * np.cos(lon)
    return np.column_stack([scale * across, scale * up])


def from_equal_area_km(plane: Floats, centre: tuple[float, float]) -> Floats:
    """Longitude and latitude of points of that plane; Snyder 1987, (20-14), (20-15) and (24-16)."""
    rho = np.hypot(plane[:, 0], plane[:, 1])
    angle = 2.0 * np.arcsin(np.minimum(rho / (2.0 * EARTH_RADIUS_KM), 1.0))
    lat_0 = np.radians(centre[1])
    safe = np.where(rho > 0, rho, 1.0)
    lat = np.arcsin(np.clip(np.cos(angle) * np.sin(lat_0) + plane[:, 1] * np.sin(angle) * np.cos(lat_0) / safe, -1, 1))
    down = rho * np.cos(lat_0) * np.cos(angle) - plane[:, 1] * np.sin(lat_0) * np.sin(angle)
    lon = centre[0] + np.degrees(np.arctan2(plane[:, 0] * np.sin(angle), np.where(rho > 0, down, 1.0)))
    return np.column_stack([(lon + 180.0) % 360.0 - 180.0, np.degrees(lat)])


def gabriel_edges(places: Floats) -> Edges:
    """Pairs of points with no third one inside the circle over their distance (Gabriel and Sokal 1969).

    The graph holds the shortest spanning tree, so it is connected. Points must differ; points on one line are
    neighbours in their order along it.
    """
    count = len(places)
    if count < 2:
        return np.empty((0, 2), dtype=np.int64)
    if count == 2:
        return np.array([[0, 1]], dtype=np.int64)
    try:
        net = Delaunay(places)
    except QhullError:  # all on one line
        order = np.lexsort((places[:, 1], places[:, 0]))
        return np.sort(np.column_stack([order[:-1], order[1:]]), axis=1).astype(np.int64)
    corners = net.simplices
    pairs = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]]]), axis=1)
    pairs = np.unique(pairs, axis=0).astype(np.int64)
    middles = (places[pairs[:, 0]] + places[pairs[:, 1]]) / 2.0
    radius = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1) / 2.0
    closest, _ = cKDTree(places).query(middles)
    left_out = np.sort(net.coplanar[:, [0, 2]], axis=1).astype(np.int64)  # so close to another that the net skips them
    return np.concatenate([pairs[closest >= radius * (1.0 - 1e-9)], left_out])


def pieces(units: int, edges: Edges) -> tuple[int, Labels]:
    """How many connected pieces the units form, and the piece of each."""
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(units, units))
    count, labels = connected_components(graph, directed=False)
    return int(count), labels.astype(np.int32)


def merge_neighbours(matrix: Floats, weights: Floats, edges: Edges, k: int) -> tuple[Labels, tuple[float, ...]]:
    """Ward's method under the constraint that only neighbours merge (Ward 1963; Murtagh 1985), units with weights.

    Merging groups of weights a and b whose means lie d apart raises the sum of squares by ab/(a + b) · d²; the cheapest
    pair of neighbours merges until k groups are left (equal costs: the pair of the lowest numbers). Returns the group
    of each unit and the costs of the merges in their order. Raises TooLittleData where the units form more than k
    pieces that do not touch, or are fewer than k.
    """
    count = len(matrix)
    if count < k:
        raise TooLittleData(f"{k} contiguous groups need at least {k} places or areas; there are {count}.")
    apart, _ = pieces(count, edges)
    if apart > k:
        raise TooLittleData(
            f"The areas form {apart} pieces that do not touch: contiguous groups are at least {apart}, not {k}."
        )
    means: list[Floats] = list(matrix)
    masses: list[float] = list(map(float, weights))
    near: list[set[int]] = [set() for _ in range(count)]
    for one, other in edges.tolist():
        if one != other:
            near[one].add(other)
            near[other].add(one)

    def cost(one: int, other: int) -> float:
        away = means[one] - means[other]
        return masses[one] * masses[other] / (masses[one] + masses[other]) * float((away * away).sum())

    waiting = [(cost(one, other), one, other) for one in range(count) for other in near[one] if one < other]
    heapq.heapify(waiting)
    alive = [True] * count
    members = [[number] for number in range(count)]
    costs = []
    left = count
    while left > k:
        price, one, other = heapq.heappop(waiting)
        if not (alive[one] and alive[other]):
            continue
        made = len(means)
        mass = masses[one] + masses[other]
        means.append((masses[one] * means[one] + masses[other] * means[other]) / mass)
        masses.append(mass)
        alive[one] = alive[other] = False
        alive.append(True)
        members.append(members[one] + members[other])
        members[one], members[other] = [], []
        around = (near[one] | near[other]) - {one, other}
        near.append(around)
        for neighbour in sorted(around):
            near[neighbour] -= {one, other}
            near[neighbour].add(made)
            heapq.heappush(waiting, (cost(neighbour, made), neighbour, made))
        costs.append(price)
        left -= 1
    labels = np.empty(count, dtype=np.int32)
    for number, group in enumerate(group for group in members if group):
        labels[group] = number
    return labels, tuple(costs)


def _centre(lonlat: Floats) -> tuple[float, float]:
    """The middle on the globe, so that a company on both sides of ±180° has its middle there."""
    lon, lat = np.radians(lonlat[:, 0]), np.radians(lonlat[:, 1])
    x, y, z = (np.cos(lat) * np.cos(lon)).mean(), (np.cos(lat) * np.sin(lon)).mean(), np.sin(lat).mean()
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def _means(values: Floats, of_row: NDArray[np.int64], counts: Floats) -> Floats:
    return np.column_stack([np.bincount(of_row, weights=column) / counts for column in values.T])
