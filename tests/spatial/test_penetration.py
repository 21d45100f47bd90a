"""Penetration and potential: intervals against scipy, the published rat tumours, coverage; what is missing is said."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from geocrm import errors
from geocrm.spatial import penetration
from geocrm.spatial.intervals import of_share
from geocrm.spatial.penetration import spread_of

# Gelman, Carlin, Stern, Dunson, Vehtari & Rubin (2013), Bayesian Data Analysis, table 5.1: with a tumour, of how many
TUMOURS = [0] * 14 + [1] * 8 + [2] * 9 + [
    1, 5, 2, 5, 3, 2, 7, 7, 3, 3, 2, 9, 10, 4, 4, 4, 4, 4, 4, 4, 10, 4, 4, 4, 5, 11, 12, 5, 5, 6, 5, 6, 6, 6, 6, 16, 15,
    15, 9, 4,
]  # fmt: skip
RATS = [20] * 7 + [19] * 4 + [18] * 2 + [17] + [20] * 4 + [19] * 2 + [18] * 2 + [25, 24, 23] + [20] * 6 + [
    10, 49, 19, 46, 27, 17, 49, 47, 20, 20, 13, 48, 50, 20, 20, 20, 20, 20, 20, 20, 48, 19, 19, 19, 22, 46, 49, 20, 20,
    23, 19, 22, 20, 20, 20, 52, 46, 47, 24, 14,
]  # fmt: skip


def towns(seed: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Customers, population and true shares of towns, the latter beta-distributed about 3 %."""
    rng = np.random.default_rng(seed)
    people = np.ceil(rng.lognormal(7, 1.5, n))
    true = rng.beta(2, 60, n)
    return rng.binomial(people.astype(int), true).astype(float), people, true


def test_rat_tumours() -> None:
    """Section 5.3: posterior means of α and β are 2.4 and 14.3; the current experiment, 4 of 14, is drawn to 0.2."""
    spread = spread_of(np.array(TUMOURS, float), np.array(RATS, float))
    assert round(float(spread.alpha @ spread.weight), 1) == 2.4
    assert round(float(spread.beta @ spread.weight), 1) == 14.3
    shrunk = penetration.penetration(TUMOURS, RATS, seed=1).shrunk
    assert 0.19 < shrunk[-1] < 0.22 < 4 / 14
    assert 0.04 < shrunk[0] < 0.08  # 0 of 20


def test_exact_intervals() -> None:
    rng = np.random.default_rng(1)
    trials = rng.integers(1, 3000, 40)
    successes = np.concatenate([rng.binomial(trials[:30], 0.03), trials[30:35], np.zeros(5, int)])
    low, high = of_share(successes.astype(float), trials.astype(float), 0.9)
    for y, n, a, b in zip(successes.tolist(), trials.tolist(), low, high, strict=True):
        theirs = stats.binomtest(y, n).proportion_ci(0.9, method="exact")
        assert (a, b) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_spread_is_the_same_on_a_finer_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    customers, people, _ = towns(3, 60)
    coarse = spread_of(customers, people)
    monkeypatch.setattr(penetration, "_SIDE", 81)
    fine = spread_of(customers, people)
    mean = [(s.alpha / (s.alpha + s.beta)) @ s.weight for s in (coarse, fine)]
    size = [np.log(s.alpha + s.beta) @ s.weight for s in (coarse, fine)]
    assert mean[0] == pytest.approx(mean[1], rel=1e-3)
    assert size[0] == pytest.approx(size[1], abs=0.01)


def test_shrinking_helps_small_areas_and_covers() -> None:
    """Over 12 worlds of 80 towns: closer to the truth than plain shares, intervals cover 95 % of true shares."""
    covered, exact, plain, drawn = [], [], [], []
    for seed in range(12):
        customers, people, true = towns(seed, 80)
        made = penetration.penetration(customers, people, seed=seed)
        covered.append((made.shrunk_low <= true) & (true <= made.shrunk_high))
        exact.append((made.low <= true) & (true <= made.high))
        plain.append((made.share - true) ** 2)
        drawn.append((made.shrunk - true) ** 2)
    assert np.mean(drawn) < 0.8 * np.mean(plain)
    least, most = stats.binom.ppf([0.001, 0.999], 960, 0.95) / 960
    assert least <= np.mean(covered) <= most
    assert np.mean(exact) >= least


def test_potential_is_what_peers_have() -> None:
    """Over 12 worlds the number of an area like its peers lies in the interval in 95 % of cases; an odd one is told."""
    inside, sold = [], []
    for seed in range(12):
        customers, people, _ = towns(seed, 60)
        sales = np.round(customers * np.random.default_rng(seed).lognormal(4, 0.4, 60), 2)
        made = penetration.potential(customers, people, seed=seed, sales=sales)
        inside.append((made.low <= 0) & (made.high >= 0))
        sold.append((made.sales_low <= 0) & (made.sales_high >= 0))
    least, most = stats.binom.ppf([0.001, 0.999], 720, 0.95) / 720
    assert least <= np.mean(inside) <= most
    assert np.mean(sold) >= least
    rng = np.random.default_rng(1)
    people = np.full(40, 10_000.0)
    customers = rng.binomial(10_000, 0.05 * rng.uniform(0.9, 1.1, 40)).astype(float)
    customers[7] = 100
    made = penetration.potential(customers, people, seed=1, sales=customers * 20)
    rest = np.delete(customers, 7)
    assert made.customers[7] == pytest.approx(rest.mean() - 100, rel=0.02)  # itself left out
    assert made.low[7] > 200
    assert made.sales[7] == pytest.approx(20 * made.customers[7])
    assert made.sales_low[7] == pytest.approx(20 * made.low[7])


def test_peers_are_compared_with_their_like() -> None:
    rng = np.random.default_rng(2)
    people = np.full(30, 5_000.0)
    kind = np.array(["town", "country"] * 14 + ["alp"] * 2)
    customers = rng.binomial(5_000, np.where(kind == "town", 0.10, 0.01)).astype(float)
    made = penetration.potential(customers, people, seed=1, peers=kind)
    assert (np.abs(made.customers[:28]) < 150).all()
    assert np.isnan(made.customers[28:]).all()
    assert made.notes == ("2 areas have fewer than 5 peers, or peers without customers: no potential.",)
    mixed = penetration.potential(customers, people, seed=1)
    assert (mixed.customers[kind == "town"] < -150).all()


def test_population_that_is_not_known_is_said() -> None:
    customers, people = np.array([5.0, 5, 5, 5, 5, 5, 5, 90]), np.array([100.0, 120, 90, 80, np.nan, 0, 110, 50])
    made = penetration.penetration(customers, people, seed=1)
    assert made.known.tolist() == [True] * 4 + [False, False, True, False]
    for part in (made.share, made.low, made.high, made.shrunk, made.shrunk_low, made.shrunk_high):
        assert np.isnan(part).tolist() == (~made.known).tolist()
    assert made.overall == 25 / 500
    assert "population of 2 of 8 areas is not known" in made.notes[0]
    assert "1 of 8 areas have more customers than population" in made.notes[1]
    held = penetration.potential(customers, people, seed=1, sales=np.where(np.isnan(people), np.nan, 1.0))
    assert np.isnan(held.sales).tolist() == (~made.known).tolist()


def test_few_areas() -> None:
    made = penetration.penetration([3, 0], [100, 50], seed=1)
    assert made.share.tolist() == [0.03, 0.0]
    assert made.low[1] == 0
    assert np.isnan(made.shrunk).all()
    assert "fewer than 5 areas" in made.notes[0]
    none = penetration.penetration([0] * 9, [100] * 9, seed=1)
    assert (none.share == 0).all()
    assert (none.high > 0.03).all()
    assert "no customer" in none.notes[0]
    assert np.isnan(penetration.potential([0] * 9, [100] * 9, seed=1).customers).all()


def test_seeds_reproduce() -> None:
    customers, people, _ = towns(1, 30)
    one, same, other = (penetration.penetration(customers, people, seed=s).shrunk_low for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert other == pytest.approx(one, rel=0.2)
    first, again = (penetration.potential(customers, people, seed=4).high for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize(
    ("customers", "people", "error", "said"),
    [
        ([1.0, 2], [10.0], errors.Invalid, "differ in number"),
        ([1.5], [10.0], errors.Invalid, "whole numbers"),
        ([-1.0], [10.0], errors.Invalid, "at least 0"),
        ([1.0, 2], [np.nan, 0.0], errors.TooLittleData, "No area has a usable population"),
    ],
)
def test_what_cannot_be_is_said(
    customers: list[float], people: list[float], error: type[errors.Invalid], said: str
) -> None:
    with pytest.raises(error, match=said):
        penetration.penetration(customers, people, seed=1)
