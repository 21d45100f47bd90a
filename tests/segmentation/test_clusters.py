"""Groups: planted ones come back, the dial matters, contiguous ones hold together, a seed gives the same bits."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import clusters, kmeans
from geocrm.segmentation.clusters import Clustering, Method, Model, fit, fit_chunks
from geocrm.segmentation.regions import pieces
from geocrm.segmentation.scaling import fit_scaling
from tests.segmentation.planted import BEHAVIOUR, FEATURES, Planted, plant


def blobs(seed: int, rows: int, groups: int, columns: int = 5) -> np.ndarray:
    draw = np.random.default_rng(seed)
    middles = draw.normal(size=(groups, columns)) * 3.0
    return middles[draw.integers(0, groups, rows)] + draw.normal(size=(rows, columns))


def recovery(world: Planted, method: Method, groups: int, dial: float) -> tuple[float, float]:
    """The adjusted Rand index as a share of the oracle's, and that of the two groups that only place tells apart.

    The oracle is a quadratic discriminant that was told the true features and every true group.
    """
    features = FEATURES if dial else BEHAVIOUR
    scaling = fit_scaling(world.frame, features, seed=1)
    labels = fit(scaling.turn(scaling.apply(world.frame), dial), method, groups, seed=1).labels
    oracle = QuadraticDiscriminantAnalysis(reg_param=1e-3).fit(world.true_features, world.truth)
    best = adjusted_rand_score(world.truth, oracle.predict(world.true_features))
    spatial = world.truth >= groups - 2
    return (
        adjusted_rand_score(world.truth, labels) / best,
        adjusted_rand_score(world.truth[spatial], labels[spatial]),
    )


@pytest.mark.parametrize("method", ["kmeans", "mixture"])
def test_planted_groups_come_back_and_only_with_place(method: Method) -> None:
    found = np.array([recovery(plant(seed, 1_500, 3 + seed % 3), method, 3 + seed % 3, 0.5) for seed in range(7)])
    blind = np.array([recovery(plant(seed, 1_500, 3 + seed % 3), method, 3 + seed % 3, 0.0) for seed in range(7)])
    assert np.median(found[:, 0]) >= 0.8
    assert np.median(found[:, 1]) >= 0.8
    assert np.abs(blind[:, 1]).max() < 0.1  # without place the spatial pair is not to be told apart
    assert np.median(blind[:, 0]) < 0.8


@pytest.mark.soak
@pytest.mark.parametrize("method", ["kmeans", "mixture"])
def test_planted_groups_come_back_over_many_seeds(method: Method) -> None:
    found = np.array([recovery(plant(seed, 5_000, 3 + seed % 3), method, 3 + seed % 3, 0.5) for seed in range(20)])
    blind = np.array([recovery(plant(seed, 5_000, 3 + seed % 3), method, 3 + seed % 3, 0.0) for seed in range(20)])
    print(f"{method}: {np.median(found, axis=0)} with place, {np.median(blind, axis=0)} without")
    assert np.median(found[:, 0]) >= 0.8
    assert np.abs(blind[:, 1]).max() < 0.1


def every_kind(matrix: np.ndarray, lonlat: np.ndarray) -> Iterator[Clustering]:
    for method in clusters.METHODS:
        yield fit(
            matrix,
            method,
            None if method == "hdbscan" else 4,
            seed=7,
            lonlat=lonlat if method == "contiguous" else None,
        )


def test_a_seed_gives_the_same_bits_and_json_and_chunks_too() -> None:
    matrix = blobs(1, 1_200, 4)
    lonlat = np.random.default_rng(1).normal([-105.0, 39.0], 0.5, (1_200, 2))
    for first, second in zip(every_kind(matrix, lonlat), every_kind(matrix, lonlat), strict=True):
        np.testing.assert_array_equal(first.labels, second.labels)
        for name, array in first.model.arrays.items():
            np.testing.assert_array_equal(array, second.model.arrays[name])
        stored = Model.from_json(json.loads(json.dumps(first.model.to_json(), allow_nan=False)))
        for size in (1, 333, 1_200):
            parts = [
                stored.assign(matrix[start : start + size], lonlat[start : start + size])
                for start in range(0, len(matrix), size)
            ]
            np.testing.assert_array_equal(np.concatenate(parts), first.labels)
        assert first.sizes == tuple(np.bincount(first.labels[first.labels >= 0], minlength=first.k))
        assert first.noise == (first.labels == -1).sum()
        if first.model.method != "mixture":
            assert list(first.sizes) == sorted(first.sizes, reverse=True)


def test_chunked_fit_is_that_of_the_whole_and_as_good_as_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "TRIAL_ROWS", 2_000)
    monkeypatch.setattr(kmeans, "SAMPLE_ROWS", 8_000)
    monkeypatch.setattr(kmeans, "BLOCK_ROWS", 4_096)
    matrix = blobs(2, 40_000, 6)
    whole = fit(matrix, "kmeans", 6, seed=3)
    for size in (1_000, 7_777, 50_000):

        def chunks(size: int = size) -> Iterator[np.ndarray]:
            return (matrix[start : start + size] for start in range(0, len(matrix), size))

        model = fit_chunks(chunks, len(matrix), 6, seed=3)
        np.testing.assert_array_equal(model.arrays["centres"], whole.model.arrays["centres"])
    peer = KMeans(6, n_init=1, random_state=0).fit(matrix)
    assert whole.inertia <= 1.01 * peer.inertia_
    centres = whole.model.arrays["centres"]
    squared = ((matrix[:500, None] - centres) ** 2).sum(axis=2)
    np.testing.assert_array_equal(whole.labels[:500], squared.argmin(axis=1))
    direct = sum(((matrix[whole.labels == g] - matrix[whole.labels == g].mean(axis=0)) ** 2).sum() for g in range(6))
    assert whole.inertia == pytest.approx(direct)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_memberships_are_those_of_the_mixture(covariance: str) -> None:
    matrix = np.random.default_rng(3).normal(size=(600, 4)) * [1.0, 2.0, 1.5, 0.5]  # components overlap
    ours = fit(matrix, "mixture", 3, seed=1, covariance=covariance)  # type: ignore[arg-type]
    arrays = ours.model.arrays
    peer = GaussianMixture(3, covariance_type="full")
    peer.weights_, peer.means_, peer.precisions_cholesky_ = arrays["weights"], arrays["means"], arrays["roots"]
    np.testing.assert_allclose(ours.model.memberships(matrix), peer.predict_proba(matrix), atol=1e-9)
    np.testing.assert_array_equal(ours.model.memberships(matrix).argmax(axis=1), ours.labels)
    with pytest.raises(Invalid, match="gives no probabilities"):
        fit(matrix, "kmeans", 3, seed=1).model.memberships(matrix)


def test_density_says_noise_and_keeps_it_out_of_groups() -> None:
    draw = np.random.default_rng(4)
    matrix = np.concatenate(
        [draw.normal(-5, 0.3, (200, 2)), draw.normal(5, 0.3, (100, 2)), draw.uniform(-40, 40, (60, 2))]
    )
    found = fit(matrix, "hdbscan", seed=1, smallest=20)
    assert found.k == 2
    assert (found.labels[300:] == -1).mean() > 0.8
    np.testing.assert_array_equal(
        found.model.assign(np.array([[-5.0, -5.0], [5.0, 5.0], [0.0, 30.0], [500.0, 0.0]])), [0, 1, -1, -1]
    )
    flat = fit(draw.uniform(size=(300, 2)) * 1e-9, "hdbscan", seed=1, smallest=149)
    assert flat.k == 0
    assert flat.noise == 300
    assert "no groups" in flat.notes[0]


def test_a_customer_beyond_the_core_distance_of_the_nearest_reference_is_noise() -> None:
    arrays = {
        "references": np.array([[0.0], [9.0]]),
        "labels": np.array([0, 1], np.int32),
        "reach": np.array([1.0, 2.0]),
    }
    labels = Model("hdbscan", 2, 1, arrays).assign(np.array([[0.9], [1.1], [7.1], [6.9], [99.0]]))
    assert labels.tolist() == [0, -1, 1, -1, -1]


def test_contiguous_groups_hold_together() -> None:
    world = plant(5, 900, 4)
    lonlat = world.frame[["lon", "lat"]].to_numpy()
    scaling = fit_scaling(world.frame, BEHAVIOUR, seed=1)
    matrix = scaling.turn(scaling.apply(world.frame), 0.0)
    found = fit(matrix, "contiguous", 5, seed=1, lonlat=lonlat)
    units = clusters.regions.make_units(matrix, lonlat)
    of_unit = np.empty(len(units.weights), dtype=np.int64)
    of_unit[units.of_row] = found.labels
    for group in range(5):
        inside = (of_unit[units.edges] == group).all(axis=1)
        inner, part = pieces(len(of_unit), units.edges[inside])
        assert len(set(part[of_unit == group])) == 1, inner
    by_behaviour = fit(matrix, "kmeans", 5, seed=1)
    assert by_behaviour.inertia < found.inertia  # holding together has its price


def test_customers_of_a_cell_stay_together_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    lonlat = np.random.default_rng(6).normal([-105.0, 39.0], 0.5, (3_000, 2))
    matrix = (lonlat[:, :1] > -105.0) + np.random.default_rng(7).normal(0, 0.3, (3_000, 1))
    units = clusters.regions.make_units(matrix, lonlat, most=200)
    assert len(units.weights) <= 200
    assert units.weights.sum() == 3_000
    np.testing.assert_allclose(units.weights @ units.matrix / 3_000, matrix.mean(axis=0))
    monkeypatch.setattr(clusters.regions.make_units, "__kwdefaults__", {"most": 200})
    found = fit(matrix, "contiguous", 2, seed=1, lonlat=lonlat)
    assert adjusted_rand_score(lonlat[:, 0] > -105.0, found.labels) > 0.8
    assert (found.model.assign(matrix[:50], lonlat[:50]) == found.labels[:50]).mean() > 0.9


@pytest.mark.parametrize("method", ["kmeans", "mixture", "contiguous"])
def test_too_few_customers_are_said(method: Method) -> None:
    draw = np.random.default_rng(8)
    matrix, lonlat = draw.normal(size=(50, 3)), draw.normal([8.5, 47.4], 0.1, (50, 2))
    where = lonlat if method == "contiguous" else None
    few = None if where is None else where[:5]
    with pytest.raises(TooLittleData, match=r"3 groups by .* need at least 15 customers .*; there are 5. With so few"):
        fit(matrix[:5], method, 3, seed=1, lonlat=few)
    with pytest.raises(TooLittleData, match="Ask for at most 10 groups"):
        fit(matrix, method, 60, seed=1, lonlat=where)
    assert fit(matrix[:5], method, 1, seed=1, lonlat=few).sizes == (5,)
    assert sum(fit(matrix, method, 4, seed=1, lonlat=where).sizes) == 50
    with pytest.raises(TooLittleData, match="no customers"):
        fit(matrix[:0], method, 1, seed=1)
    one_feature = fit(matrix[:, :1], method, 2, seed=1, lonlat=where)
    assert min(one_feature.sizes) > 0


def test_wrong_input_is_said() -> None:
    matrix = blobs(9, 60, 2)
    with pytest.raises(TooLittleData, match="there are 1 different ones"):
        fit(np.ones((60, 2)), "kmeans", 2, seed=1)
    with pytest.raises(
        TooLittleData, match="HDBSCAN looks for groups of at least 10 customers and needs 20; there are 5"
    ):
        fit(matrix[:5], "hdbscan", seed=1)
    with pytest.raises(Invalid, match="values that are not known"):
        fit(np.where(matrix > 2, np.nan, matrix), "kmeans", 2, seed=1)
    with pytest.raises(Invalid, match="needs the number of groups"):
        fit(matrix, "kmeans", seed=1)
    with pytest.raises(Invalid, match="finds the number of groups by itself"):
        fit(matrix, "hdbscan", 3, seed=1)
    with pytest.raises(Invalid, match="no method"):
        fit(matrix, "magic", 3, seed=1)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="either longitude and latitude"):
        fit(matrix, "contiguous", 2, seed=1)
    with pytest.raises(Invalid, match="1 have none"):
        fit(matrix, "contiguous", 2, seed=1, lonlat=np.vstack([np.zeros((59, 2)), [[np.nan, 0.0]]]))
    with pytest.raises(Invalid, match="made of 5 columns; there are 2"):
        fit(matrix, "kmeans", 2, seed=1).model.assign(matrix[:, :2])
