"""Statistics of pairs: against scipy, published tables, integrals and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import lift


def random_pairs(seed: int, many: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    total = rng.integers(1, 400, many)
    first, second = rng.integers(0, total + 1), rng.integers(0, total + 1)
    least, most = np.maximum(first + second - total, 0), np.minimum(first, second)
    return rng.integers(least, most + 1), first, second, total


def test_exact_p_is_that_of_scipy() -> None:
    both, first, second, total = random_pairs(1, 400)
    ours = lift.upper_tail(both, first, second, total)
    theirs = stats.hypergeom.sf(both - 1, total, first, second)
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-14)
    for n, a, b, m in list(zip(both, first, second, total, strict=True))[:20]:
        table = [[n, a - n], [b - n, m - a - b + n]]
        assert lift.upper_tail(n, a, b, m)[0] == pytest.approx(
            stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-9, abs=1e-14
        )


def test_exact_p_far_out_and_in_millions_of_baskets() -> None:
    assert lift.upper_tail(39, 100, 100, 1_000_000)[0] == pytest.approx(
        stats.hypergeom.sf(38, 1_000_000, 100, 100), rel=1e-6
    )
    n, a, b, total = 5_150, 200_000, 250_000, 10_000_000
    assert lift.upper_tail(n, a, b, total)[0] == pytest.approx(stats.hypergeom.sf(n - 1, total, a, b), rel=1e-5)


def test_one_pair_by_hand() -> None:
    got = lift.associate(30, 60, 100, 1_000)
    assert (got.support[0], got.confidence[0], got.confidence_back[0]) == (0.03, 0.5, 0.3)
    assert (got.expected[0], got.lift[0]) == (6, 5)
    exact = stats.binomtest(30, 60).proportion_ci(0.95, "exact")
    assert (got.confidence_low[0], got.confidence_high[0]) == pytest.approx((exact.low, exact.high))
    assert 3 < got.lift_low[0] < 5 < got.lift_high[0] < 7.5
    never = lift.associate(0, 60, 100, 1_000)
    assert (never.lift[0], never.lift_low[0], never.p[0]) == (0, 0, 1)
    assert 0 < never.lift_high[0] < 1


def test_pairs_never_together_count_as_tests() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(size=50) ** 3
    everything = stats.false_discovery_control(np.concatenate([p, np.ones(950)]))
    assert lift.adjust_among(p, 1_000) == pytest.approx(everything[:50])
    with pytest.raises(Invalid, match="at least as many"):
        lift.associate([1, 1], 2, 2, 10, tests=1)


@pytest.mark.parametrize(
    ("joint", "one", "two"), [(0.01, 0.05, 0.1), (0.1, 0.3, 0.3), (0.15, 0.3, 0.2), (0.4, 0.6, 0.7)]
)
def test_intervals_of_lift_cover(joint: float, one: float, two: float) -> None:
    """Of 3,000 samples of 600 baskets, within the 99.9 % binomial bound of 95 %, and not much more."""
    rng = np.random.default_rng(3)
    counts = rng.multinomial(600, [joint, one - joint, two - joint, 1 - one - two + joint], size=3_000)
    got = lift.associate(counts[:, 0], counts[:, :2].sum(1), counts[:, [0, 2]].sum(1), 600)
    true = joint / one / two
    covered = ((got.lift_low <= true) & (true <= got.lift_high)).mean()
    assert stats.binom.ppf(0.001, 3_000, 0.95) / 3_000 <= covered <= 0.99


def shelves(rng: np.random.Generator, customers: int, products: int, orders: int) -> np.ndarray:
    """Baskets in which products have nothing to do with each other; each customer orders the same basket again."""
    held = rng.uniform(size=(customers, products)) < rng.uniform(0.05, 0.3, products)
    return np.repeat(held, orders, axis=0)


@pytest.mark.parametrize("orders", [1, 4])
def test_unrelated_products_do_not_go_together(orders: int) -> None:
    """Naming any pair after FDR at 5 % happens in at most 5 % of shops without pattern, also where customers repeat
    themselves; without the account of clumps it happens nearly always."""
    rng = np.random.default_rng(4)
    i, j = np.triu_indices(20, 1)
    anything = naive = 0
    for _ in range(60):
        x = shelves(rng, 300, 20, orders).astype(np.int64)
        both, alone = (x.T @ x)[i, j], x.sum(0)
        by_customer = x.reshape(300, orders, 20).sum(1)
        together = x.reshape(300, orders, 20).astype(bool)
        squares = ((together[:, :, i] & together[:, :, j]).sum(1) ** 2).sum(0)
        clumping = lift.clumping_of(both, squares)
        assert by_customer.max() == orders
        got = lift.associate(both, alone[i], alone[j], len(x), clumping=clumping)
        anything += bool((got.p_adjusted <= 0.05).any())
        naive += bool((lift.associate(both, alone[i], alone[j], len(x)).p_adjusted <= 0.05).any())
    assert anything <= stats.binom.ppf(0.999, 60, 0.05)
    assert orders == 1 or naive > 55


def test_shrunken_lift_is_the_mean_of_its_posterior() -> None:
    prior = lift.Prior(0.3, (0.5, 4.0), (0.2, 5.0), 0.0)
    n, e = 3, 0.7

    def density(x: float) -> float:
        parts = [stats.gamma.pdf(x, a, scale=1 / b) for a, b in zip(prior.shapes, prior.rates, strict=True)]
        return (0.3 * parts[0] + 0.7 * parts[1]) * stats.poisson.pmf(n, x * e)

    whole = integrate.quad(density, 0, 80, limit=300)[0]
    mean = integrate.quad(lambda x: np.log(x) * density(x) / whole, 0, 80, limit=300)[0]
    got = lift.shrink([n], [e], prior)
    assert got.lift[0] == pytest.approx(np.exp(mean), rel=1e-6)
    assert integrate.quad(density, 0, got.low[0])[0] / whole == pytest.approx(0.05, rel=1e-5)


def test_prior_comes_back_from_seen_pairs_alone() -> None:
    """Lifts of 20,000 pairs from a known mixture; pairs never seen together are left out, and do not bend it. Shrunken
    lifts are nearer to the truth than raw ones."""
    rng = np.random.default_rng(5)
    special = rng.uniform(size=20_000) < 0.1
    true = np.where(special, rng.gamma(2.0, 1 / 0.5, 20_000), rng.gamma(20.0, 1 / 20.0, 20_000))
    e = np.exp(rng.normal(0.5, 1.2, 20_000))
    n = rng.poisson(true * e)
    prior = lift.fit_prior(n[n > 0], e[n > 0])
    means = [a / b for a, b in zip(prior.shapes, prior.rates, strict=True)]
    usual = int(np.argmax([prior.weight, 1 - prior.weight]))
    assert [prior.weight, 1 - prior.weight][usual] == pytest.approx(0.9, abs=0.04)
    assert means[usual] == pytest.approx(1.0, abs=0.05)
    assert means[1 - usual] == pytest.approx(4.0, rel=0.2)
    few = (n > 0) & (n <= 3)
    got = lift.shrink(n[few], e[few], prior)
    raw, drawn = np.log(n[few] / e[few]) - np.log(true[few]), np.log(got.lift) - np.log(true[few])
    assert (drawn**2).mean() < 0.6 * (raw**2).mean()
    everything = lift.shrink(n, e, prior)
    assert (everything.low < true).mean() == pytest.approx(0.95, abs=0.01)
    with pytest.raises(TooLittleData, match="at least 30 pairs"):
        lift.fit_prior([1, 2, 0], [1.0, 1.0, 1.0])


def test_comparison_is_the_published_one() -> None:
    """The migraine trial of the SAS/STAT documentation (procedure FREQ): women 16 of 27 better with the drug and
    5 of 25 without, men 12 of 28 and 7 of 26; Breslow–Day 1.4929, common odds ratio 3.3132."""
    got = lift.compare([[16, 12]], [[27, 28]], [[21, 19]], [[52, 54]])
    assert got.odds_ratio[0] == pytest.approx(3.3132, abs=5e-5)
    assert got.statistic[0] == pytest.approx(1.4929, abs=5e-5)
    assert stats.chi2.sf(got.statistic[0], 1) == pytest.approx(0.2218, abs=5e-5)
    assert 0 < got.statistic[0] - got.corrected[0] < 0.01
    assert got.regions[0] == 2


def test_comparison_finds_nothing_where_regions_are_alike() -> None:
    """Six regions with shares of their own and one odds ratio: p ≤ 0.05 in 5 % of 4,000 pairs, within the 99.9 %
    binomial bound; where the ratio differs, in most."""
    rng = np.random.default_rng(6)
    total = np.array([200, 300, 500, 800, 1_500, 3_000])
    one, two = rng.uniform(0.03, 0.25, (4_000, 6)), rng.uniform(0.03, 0.25, (4_000, 6))

    def sample(psi: np.ndarray) -> lift.Comparison:
        first = rng.binomial(total, one)
        with_first = psi * two / (1 - two + psi * two)
        both = rng.binomial(first, with_first)
        return lift.compare(both, first, both + rng.binomial(total - first, two), total)

    alike = sample(np.full((4_000, 1), 2.0)).p
    tested = alike[~np.isnan(alike)]
    assert len(tested) > 3_900
    assert (tested <= 0.05).mean() <= stats.binom.ppf(0.999, len(tested), 0.05) / len(tested)
    assert (tested <= 0.05).mean() >= 0.03
    other = sample(np.array([[1, 1, 1, 1, 1, 4.0]])).p
    assert (other <= 0.05).mean() > 0.8


def test_too_little_to_compare_or_wrong_counts() -> None:
    assert np.isnan(lift.compare([[5, 0]], [[10, 0]], [[10, 0]], [[50, 0]]).p[0])
    for counts in ((5, 4, 10, 20), (1, 15, 15, 20), (1.5, 4, 10, 20), (-1, 4, 10, 20), (1, np.nan, 3, 10)):
        with pytest.raises(Invalid):
            lift.associate(*counts)


def test_who_buys_much_makes_no_pairs() -> None:
    """Customers differ in how much they buy and products have nothing to do with each other: the usual lift finds pairs
    in each of 40 shops, the one given the sizes of baskets in no more than 5 % allow, and a planted pair in most."""
    rng = np.random.default_rng(10)
    i, j = np.triu_indices(20, 1)
    usual = sized = planted = 0
    for _ in range(40):
        share = rng.uniform(0.03, 0.15, 20) * rng.gamma(1.0, 1.0, (800, 1))
        x = (rng.uniform(size=(800, 20)) < share).astype(np.int64)
        for plant in (False, True):
            if plant:
                x[:, 1] |= x[:, 0] & (rng.uniform(size=800) < 0.5)
            size = x.sum(1)
            counts = np.stack([x[size == s].sum(0) for s in np.unique(size)])
            expected = lift.expected_by_size(counts, np.unique(size), i, j)
            both, alone = (x.T @ x)[i, j], x.sum(0)
            assert expected.sum() == pytest.approx(both.sum())
            got = lift.associate(both, alone[i], alone[j], len(x), expected=expected)
            if plant:
                planted += bool(got.p_adjusted[0] <= 0.05)
                continue
            sized += bool((got.p_adjusted <= 0.05).any())
            usual += bool((lift.associate(both, alone[i], alone[j], len(x)).p_adjusted <= 0.05).any())
    assert usual == 40
    assert sized <= stats.binom.ppf(0.999, 40, 0.05)
    assert planted >= 25
