"""What a place says of a customer, against brute force over all pairs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Geod

from geocrm.errors import Invalid
from geocrm.segmentation import place

Floats = NDArray[np.float64]
GEOD = Geod(ellps="WGS84")


def world(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Points: a town, some near ±180°, some near the poles, some anywhere, a tenth of them twice."""
    kind = rng.integers(0, 5, n)
    lon = np.select(
        [kind == 0, kind == 1, kind == 2],
        [8 + rng.normal(0, 0.02, n), rng.choice([-180.0, 180.0], n), rng.uniform(-180, 180, n)],
        rng.uniform(-180, 180, n),
    )
    lat = np.select(
        [kind == 0, kind == 1, kind == 2],
        [47 + rng.normal(0, 0.02, n), rng.normal(0, 0.02, n), rng.choice([-1, 1], n) * (90 - rng.exponential(0.05, n))],
        rng.uniform(-90, 90, n),
    )
    near = (kind == 1) & (rng.random(n) < 0.8)
    lon[near] -= np.sign(lon[near]) * rng.exponential(0.02, int(near.sum()))
    lat[kind == 2] = np.where(rng.random(int((kind == 2).sum())) < 0.1, 90.0, lat[kind == 2])
    twin = rng.integers(0, n, n // 10)
    lon[: len(twin)], lat[: len(twin)] = lon[twin], lat[twin]
    return lon, lat


def all_distances(lon: Floats, lat: Floats, to_lon: Floats, to_lat: Floats) -> Floats:
    n, m = len(lon), len(to_lon)
    _, _, metres = GEOD.inv(np.repeat(lon, m), np.repeat(lat, m), np.tile(to_lon, n), np.tile(to_lat, n))
    return np.asarray(metres).reshape(n, m)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), places=st.sampled_from([1, 2, 5, 40]))
def test_nearest_and_counts_are_those_of_brute_force(seed: int, places: int) -> None:
    rng = np.random.default_rng(seed)
    lon, lat = world(rng, 250)
    there = world(rng, places)
    metres = all_distances(lon, lat, *there)
    found = place.nearest_place(lon, lat, *there)
    assert np.array_equal(found.position, metres.argmin(axis=1))
    assert np.array_equal(found.distance_m, metres.min(axis=1))
    for radius in (500.0, 25_000.0, 3e6, float(metres[3, 0]) or 1.0):
        radius = min(radius, 1e7)
        counted = place.count_within(lon, lat, *there, radius)
        assert np.array_equal(counted, (metres <= radius).sum(axis=1))


def neighbours_by_hand(
    metres: Floats, own: NDArray[np.int64], of: NDArray[np.int64], same: NDArray[np.bool_], k: int, reach: float
) -> list[list[int]]:
    """`same[j, l]`: base points j and l are one point: a customer counts there once."""
    answers = []
    for row, who in zip(metres, own, strict=True):
        chosen: list[int] = []
        for j in np.lexsort((np.arange(len(row)), row)):
            if row[j] > reach or len(chosen) == k:
                break
            if of[j] != who and not any(of[j] == of[c] and same[j, c] for c in chosen):
                chosen.append(int(j))
        answers.append(sorted(chosen))
    return answers


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    k=st.sampled_from([1, 3, 12, 400]),
    reach=st.sampled_from([50.0, 2_000.0, 40_000.0, 9e6]),
)
def test_neighbours_are_those_of_brute_force(seed: int, k: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    lon, lat = world(rng, 220)
    if seed % 2:  # a pile of many at one point, some customers twice in it
        lon[100:150], lat[100:150] = lon[99], lat[99]
    owner = rng.integers(0, 150, 220)
    ask = rng.permutation(220)[:60]
    metres = all_distances(lon[ask], lat[ask], lon, lat)
    same = all_distances(lon, lat, lon, lat) == 0
    found = place.Neighbourhood(lon, lat, owner, most=k).find(lon[ask], lat[ask], owner[ask], reach_m=reach)
    expected = neighbours_by_hand(metres, owner[ask], owner, same, k, reach)
    assert [[int(j) for j in row if j >= 0] for row in found] == expected
    assert found.shape == (60, k)


def test_more_equally_near_than_candidates_are_looked_at_first() -> None:
    """Forty round the pole, nearer by less than a micrometre in an order that the tree does not know."""
    lon, lat = np.linspace(-179, 179, 40), np.full(40, 89.99)
    pole = np.array([0.0]), np.array([90.0])
    metres = all_distances(*pole, lon, lat)
    assert np.ptp(metres) < 1e-6
    for turn in range(0, 40, 7):  # whichever the tree gives first
        ring = np.roll(lon, turn)
        order = np.lexsort((np.arange(40), all_distances(*pole, ring, lat)[0]))
        found = place.nearest_place(*pole, ring, lat)
        assert (found.position[0], found.distance_m[0]) == (order[0], metres.min())
        around = place.Neighbourhood(ring, lat, np.arange(40), most=3)
        assert around.find(*pole, np.array([99]), reach_m=5_000)[0].tolist() == sorted(order[:3])


def test_blocks_do_not_change_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    lon, lat = world(np.random.default_rng(3), 300)
    owner = np.arange(300)
    there = world(np.random.default_rng(4), 30)

    def answers() -> list[NDArray[Any]]:
        around = place.Neighbourhood(lon, lat, owner, most=5)
        return [
            around.find(lon, lat, owner, reach_m=1e5),
            place.nearest_place(lon, lat, *there).distance_m,
            place.count_within(lon, lat, *there, 1e6),
        ]

    whole = answers()
    monkeypatch.setattr(place, "_BLOCK", 16)
    for one, other in zip(whole, answers(), strict=True):
        assert np.array_equal(one, other)


def test_a_pile_of_customers_at_one_point_is_thinned_and_answers_the_same() -> None:
    """A hundred thousand at one point: kept are as many as anybody needs."""
    n = 100_000
    around = place.Neighbourhood(np.full(n, 8.0), np.full(n, 47.0), np.arange(n), most=3)
    assert len(around._kept) == 4
    found = around.find(np.full(n, 8.0)[:3], np.full(n, 47.0)[:3], np.array([0, 2, n - 1]), reach_m=10)
    assert found.tolist() == [[1, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_means_leave_the_customer_out_and_need_enough_neighbours() -> None:
    lon, lat = np.full(4, 8.0), 47 + np.array([0.0, 1e-4, 2e-4, 3e-4])
    owner = np.array([1, 2, 3, 1])
    found = place.Neighbourhood(lon, lat, owner, most=3).find(lon, lat, owner, reach_m=1_000)
    values = np.array([1_000.0, 10.0, 20.0, 1_000.0])
    assert place.mean_of(found, values, fewest=2).tolist() == [
        15,
        (1_000 + 20 + 1_000) / 3,
        (1_000 + 10 + 1_000) / 3,
        15,
    ]
    changed = place.mean_of(found, np.array([-7.0, 10.0, 20.0, 3.0]), fewest=2)
    assert changed[0] == changed[3] == 15  # its own spend, at either site, is not in it
    assert np.isnan(place.mean_of(found, values, fewest=3)[[0, 3]]).all()
    values[1] = np.nan
    assert np.isnan(place.mean_of(found, values, fewest=2)[0])
    assert place.mean_of(found, values, fewest=1)[0] == 20


def test_nobody_and_nothing() -> None:
    lon, lat = np.array([8.0, np.nan]), np.array([47.0, 47.0])
    none = np.empty(0)
    found = place.nearest_place(lon, lat, none, none)
    assert found.position.tolist() == [-1, -1]
    assert np.isnan(found.distance_m).all()
    assert np.array_equal(place.count_within(lon, lat, none, none, 10), [0, np.nan], equal_nan=True)
    around = place.Neighbourhood(none, none, none, most=2)
    alone = around.find(lon, lat, np.array([1, 2]), reach_m=10)
    assert (alone == -1).all()
    assert np.isnan(place.mean_of(alone, none, fewest=1)).all()
    assert np.array_equal(place.people_km2(lon, lat, none, none, none), [0, np.nan], equal_nan=True)
    somewhere = place.nearest_place(lon, lat, np.array([8.0]), np.array([47.0]))
    assert somewhere.distance_m[0] == 0
    assert np.isnan(somewhere.distance_m[1])


def test_density_is_that_of_the_circle() -> None:
    assert place.density_km2(np.array([0, 10]), 1_000.0) == pytest.approx([0, 10 / np.pi], rel=1e-6)


def test_penetration_leaves_the_customer_out() -> None:
    made = place.penetration_of_others([0, 0, 1, 2, -1], [True, False, True, True, False], [5, 1, 4], [1_000, 500, 0])
    assert np.array_equal(made, [4, 5, 0, np.nan, np.nan], equal_nan=True)
    with pytest.raises(Invalid, match="counts nobody"):
        place.penetration_of_others([0], [True], [0], [10])


def test_people_around_are_all_the_people_there_are() -> None:
    """Summed over a fine grid, the density gives the inhabitants back; a larger town is denser and reaches farther."""
    side = np.linspace(-0.9, 0.9, 181)
    lon, lat = (part.ravel() for part in np.meshgrid(side, side))
    cell_km2 = (0.01 * 111.32) * (0.01 * 110.574)
    small, large = (place.people_km2(lon, lat, [0.0], [0.0], [people]) for people in (5_000.0, 800_000.0))
    assert small.sum() * cell_km2 == pytest.approx(5_000, rel=2e-3)
    assert large.sum() * cell_km2 == pytest.approx(800_000, rel=2e-3)
    assert large.max() > 10 * small.max()
    both = place.people_km2(lon, lat, [0.0, 0.0], [0.0, 0.0], [5_000.0, 800_000.0])
    assert both == pytest.approx(small + large)
    across = place.people_km2([179.99, -179.99], [0.0, 0.0], [180.0], [0.0], [1_000.0])
    assert across[0] == pytest.approx(across[1])
    assert across[0] > 10


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: place.nearest_place([200.0], [0.0], [0.0], [0.0]), "not on earth"),
        (lambda: place.nearest_place([0.0], [0.0], [np.nan], [0.0]), "leave out those without"),
        (lambda: place.nearest_place([0.0, 1.0], [0.0], [0.0], [0.0]), "differ in number"),
        (lambda: place.count_within([0.0], [0.0], [0.0], [0.0], 0.0), "more than 0"),
        (lambda: place.count_within([0.0], [0.0], [0.0], [0.0], np.nan), "more than 0"),
        (lambda: place.Neighbourhood([0.0], [0.0], [1, 2], most=1), "Owners"),
        (lambda: place.Neighbourhood([0.0], [0.0], [1], most=0), "at least 1"),
    ],
)
def test_what_cannot_be_is_said(call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Invalid, match=said):
        call()
