"""Probabilities against numerical integration, distances and nearest fences against dense geodesics."""

import tracemalloc

import numpy as np
import pytest
import shapely
from scipy.stats import ncx2

from geocrm.campaigns import fence_index
from geocrm.campaigns.fence_index import SIGMAS_OF_ACCURACY, Fence, FenceIndex, in_circle
from tests.campaigns import walks
from tests.campaigns.test_crossings import SEED, fence_of


def test_probabilities_are_those_of_the_integral() -> None:
    random = np.random.default_rng(SEED)
    drawn = [walks.draw_fence(random) for _ in range(60)]
    index = FenceIndex([fence_of(one) for one in drawn])
    compared = 0
    for number, one in enumerate(drawn):
        fixes = [fix for batch in walks.draw_walk(random, one, 12) for fix in batch]
        got = index.standings([f.lon for f in fixes], [f.lat for f in fixes], [f.accuracy_m for f in fixes])
        assert (np.diff(got.position) >= 0).all()
        own = got.fence == number
        found = dict(zip(got.position[own].tolist(), got.probability[own].tolist(), strict=True))
        border = dict(zip(got.position[own].tolist(), got.border_m[own].tolist(), strict=True))
        for row, fix in enumerate(fixes):
            expected = walks.probability(one, fix)
            assert found.get(row, 0.0) == pytest.approx(expected, abs=1e-3), (SEED, number, row)
            away = min(_away(ring, fix.lon, fix.lat) for ring in one.border())
            if np.isfinite(border.get(row, np.inf)):
                assert abs(border[row]) == pytest.approx(away, abs=0.05, rel=2e-3)
                compared += 1
            else:
                assert away > 6 * max(fix.accuracy_m, 5) / walks.SIGMAS
    assert compared > 200


def _away(ring: np.ndarray, lon: float, lat: float) -> float:
    return float(shapely.distance(shapely.Point(0, 0), shapely.LineString(walks.flat(lon, lat, ring))))


def test_a_point_on_the_border_is_inside_by_half() -> None:
    corners = np.array([[8.0, 47.0], [8.3, 47.0], [8.3, 47.2], [8.0, 47.2], [8.0, 47.0]])
    index = FenceIndex([Fence(shapely.Polygon(corners)), Fence(shapely.Polygon(corners[::-1] + [[-0.3, 0]] * 5))])
    for lon, lat in ((8.1, 47.0), (8.0, 47.1), (8.0, 47.1 + 1e-13), (8.0 - 1e-14, 47.1), (8.0 + 1e-14, 47.05)):
        got = index.standings([lon], [lat], [20.0])
        assert got.probability[got.fence == 0] == pytest.approx([0.5], abs=1e-6)
    for lon, lat in ((8.0 + 1e-9, 47.0 + 1e-9), (8.0 - 1e-9, 47.0 - 1e-9), (8.0 + 1e-9, 47.0 - 1e-9)):
        assert index.standings([lon], [lat], [20.0]).probability.tolist() == pytest.approx([0.25, 0.25], abs=1e-4)
    assert index.standings([8.15], [47.1], [20.0]).border_m.tolist() == [-np.inf]


def test_circles_are_non_central_chi_square_on_both_sides_of_the_date_line() -> None:
    for ratio in (0.5, 3.0, 20.0, 26.0, 60.0, 400.0):
        away = ratio + np.linspace(-3.9, 3.9, 40)
        away = away[away > 0]
        got = in_circle(away, np.full(len(away), ratio), np.ones(len(away)))
        exact = ncx2.cdf(ratio**2, 2, away**2)
        assert got == pytest.approx(exact, abs=2e-4, rel=0.02)
    index = FenceIndex([Fence(None, 179.9995, 0.0, 100.0), Fence(None, -30.0, 84.0, 50_000.0)])
    got = index.standings([-179.9995, 179.999, 0.0], [0.0, 0.0, 0.0], [5.0, 5.0, 5.0])
    assert list(zip(got.position.tolist(), got.fence.tolist(), strict=True)) == [(0, 0), (1, 0)]
    assert got.probability.tolist() == pytest.approx([0.0, 1.0], abs=0.01)
    x, y, _ = walks.GEOD.fwd(-30.0, 84.0, 75.0, 50_000.0)
    assert index.standings([x], [y], [30.0]).probability.tolist() == pytest.approx([0.5], abs=1e-3)
    assert abs(SIGMAS_OF_ACCURACY - walks.SIGMAS) < 1e-12


def test_many_fences_around_coarse_positions_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(SEED)
    shapes = [shapely.Point(*random.uniform(-0.01, 0.01, 2)).buffer(0.001, quad_segs=8) for _ in range(200)]
    index = FenceIndex([Fence(shape) for shape in shapes])
    lon, lat = random.uniform(-0.01, 0.01, (2, 60))
    one_by_one = [index.standings([x], [y], [600.0]) for x, y in zip(lon, lat, strict=True)]
    monkeypatch.setattr(fence_index, "EDGES_AT_ONCE", 5_000)
    tracemalloc.start()
    got = index.standings(lon, lat, [600.0] * len(lon))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.fence.tolist() == [number for one in one_by_one for number in one.fence]
    assert got.probability == pytest.approx(np.concatenate([one.probability for one in one_by_one]), abs=1e-12)
    assert got.border_m == pytest.approx(np.concatenate([one.border_m for one in one_by_one]))
    assert len(got.fence) > 11_000  # nearly all are near all: 380,000 edges, of some 190 bytes each where all at once
    assert peak < 20e6


def test_no_fences_no_standings() -> None:
    empty = FenceIndex([])
    assert len(empty.standings([8.0], [47.0], [10.0]).fence) == 0
    assert len(empty.nearest(8.0, 47.0, 20).fence) == 0


@pytest.mark.parametrize("where", [(8.0, 47.0, 0.5), (179.95, -16.5, 0.5), (-100.0, 70.0, 20.0)])
def test_the_nearest_are_those_of_dense_borders_and_within_the_distance_none_is_crossed(
    where: tuple[float, float, float],
) -> None:
    random = np.random.default_rng(SEED)
    lon, lat, spread = where
    drawn = []
    for _ in range(220):
        one = walks.draw_fence(random)
        x = (lon + random.normal(0, spread) + 180) % 360 - 180
        y = float(np.clip(lat + random.normal(0, spread / 2), -85, 85))
        rings = [ring - np.array([one.lon, one.lat]) for ring in one.rings]
        if rings and abs(x) > 179.5:
            continue  # a polygon does not cross ±180°
        one.rings, one.lon, one.lat = [ring + np.array([x, y]) for ring in rings], x, y
        drawn.append(one)
    index = FenceIndex([fence_of(one) for one in drawn])
    shapes = [one.border() for one in drawn]
    for _ in range(6):
        x, y = (lon + random.normal(0, spread / 2) + 180) % 360 - 180, float(lat + random.normal(0, spread / 4))
        exact = np.array([min(_away(ring, x, y) for ring in rings) for rings in shapes])
        got = index.nearest(x, y, 20)
        assert np.abs(got.border_m) == pytest.approx(np.sort(exact)[:20], rel=1e-3, abs=0.1)
        assert np.abs(got.border_m) == pytest.approx(exact[got.fence], rel=1e-3, abs=0.1)
        assert got.next_m == pytest.approx(np.sort(exact)[20], rel=1e-3, abs=0.1)
        left_out = np.setdiff1d(np.arange(len(drawn)), got.fence)
        for turn in random.uniform(0, 360, 5):
            there = walks.GEOD.fwd(x, y, turn, 0.995 * got.next_m)[:2]
            for fence in left_out[np.argsort(exact[left_out])[:5]]:
                one = drawn[fence]
                assert _inside(one, *there) == _inside(one, x, y)


def _inside(one: walks.Drawn, lon: float, lat: float) -> bool:
    if not one.rings:
        return bool(walks.GEOD.inv(one.lon, one.lat, lon, lat)[2] <= one.radius_m)
    return bool(shapely.Polygon(one.rings[0], one.rings[1:]).covers(shapely.Point(lon, lat)))
