"""Neighbours and Ward's method among them, against brute force and scikit-learn."""

from itertools import combinations

import numpy as np
import pyproj
import pytest
from scipy.sparse import coo_array
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from geocrm.errors import TooLittleData
from geocrm.segmentation.clusters import fit
from geocrm.segmentation.regions import (
    EARTH_RADIUS_KM,
    equal_area_km,
    from_equal_area_km,
    gabriel_edges,
    make_units,
    merge_neighbours,
    pieces,
)  # fmt: skip


def test_gabriel_graph_by_brute_force() -> None:
    places = np.random.default_rng(1).normal(size=(60, 2))
    expected = set()
    for a, b in combinations(range(60), 2):
        middle, radius = (places[a] + places[b]) / 2, np.linalg.norm(places[a] - places[b]) / 2
        if all(np.linalg.norm(places[c] - middle) >= radius for c in range(60) if c not in (a, b)):
            expected.add((a, b))
    found = gabriel_edges(places)
    assert set(map(tuple, found.tolist())) == expected
    assert pieces(60, found)[0] == 1


def test_few_points_and_points_on_a_line() -> None:
    assert gabriel_edges(np.zeros((1, 2))).shape == (0, 2)
    assert gabriel_edges(np.array([[0.0, 0.0], [1.0, 1.0]])).tolist() == [[0, 1]]
    line = np.column_stack([[3.0, 1.0, 2.0, 0.0], np.zeros(4)])
    assert sorted(map(tuple, gabriel_edges(line).tolist())) == [(0, 2), (1, 2), (1, 3)]
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    assert pieces(25, gabriel_edges(grid))[0] == 1


@pytest.mark.parametrize("centre", [(-105.0, 39.0), (179.5, -40.0), (0.0, 90.0)])
def test_equal_area_plane_is_that_of_proj(centre: tuple[float, float]) -> None:
    draw = np.random.default_rng(2)
    lonlat = np.column_stack([draw.uniform(-180, 180, 200), draw.uniform(-85, 85, 200)])
    peer = pyproj.Proj(proj="laea", lon_0=centre[0], lat_0=centre[1], R=EARTH_RADIUS_KM * 1000.0)
    found = equal_area_km(lonlat, centre)
    np.testing.assert_allclose(found, np.column_stack(peer(*lonlat.T)) / 1000.0, atol=1e-5)
    np.testing.assert_allclose(from_equal_area_km(found, centre), lonlat, atol=1e-6)
    middle = np.array([centre])
    if abs(centre[1]) < 90:
        np.testing.assert_allclose(from_equal_area_km(equal_area_km(middle, centre), centre), middle, atol=1e-9)


def test_merging_is_that_of_scikit_learn_where_weights_are_equal() -> None:
    draw = np.random.default_rng(3)
    places, values = draw.normal(size=(150, 2)), draw.normal(size=(150, 3))
    edges = gabriel_edges(places)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(150, 150)).tocsr()
    for k in (2, 5, 12):
        peer = AgglomerativeClustering(k, connectivity=graph + graph.T, linkage="ward").fit_predict(values)
        found, costs = merge_neighbours(values, np.ones(150), edges, k)
        assert adjusted_rand_score(peer, found) == 1.0
        inside = sum(((values[found == g] - values[found == g].mean(axis=0)) ** 2).sum() for g in range(k))
        assert sum(costs) == pytest.approx(inside)  # each merge costs what it adds to the sum of squares


def test_a_weight_is_as_many_customers_in_one_place() -> None:
    draw = np.random.default_rng(4)
    places, values = draw.normal(size=(40, 2)), draw.normal(size=(40, 2))
    times = draw.integers(1, 6, 40)
    found, _ = merge_neighbours(values, times.astype(float), gabriel_edges(places), 4)
    lonlat = np.repeat(places, times, axis=0) / 100.0  # near (0, 0), so that the plane keeps the neighbours
    units = make_units(np.repeat(values, times, axis=0), lonlat)
    assert sorted(units.weights) == sorted(times)
    whole = fit(np.repeat(values, times, axis=0), "contiguous", 4, seed=1, lonlat=lonlat)
    assert adjusted_rand_score(np.repeat(found, times), whole.labels) == 1.0


def test_pieces_that_do_not_touch() -> None:
    values, edges = np.arange(6.0)[:, None], np.array([[0, 1], [1, 2], [3, 4], [4, 5]])
    with pytest.raises(TooLittleData, match="form 2 pieces that do not touch: contiguous groups are at least 2, not 1"):
        merge_neighbours(values, np.full(6, 9.0), edges, 1)
    found = fit(values, "contiguous", 2, seed=1, neighbours=edges, weights=np.full(6, 9.0))
    assert found.labels.tolist() in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
