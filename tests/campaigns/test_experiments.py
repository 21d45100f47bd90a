"""What an offer brought: nothing told of nothing, and the true figure inside the interval where there is one."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from geocrm.campaigns import experiments
from geocrm.campaigns.experiments import LEAST, effect
from geocrm.errors import Invalid, TooLittleData

Floats = NDArray[np.float64]


def histories(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Sales of half a year and of the six weeks after it: most buy rarely, some often, amounts have a long tail."""
    rate, typical = rng.gamma(0.5, 2.0, n), np.exp(rng.normal(3.5, 0.6, n))

    def sales(weeks: float) -> Floats:
        orders = rng.poisson(rate * weeks / 26)
        return np.where(orders > 0, typical * rng.gamma(np.maximum(orders, 1)), 0.0)

    return sales(26), sales(6)


def held_out(rng: np.random.Generator, n: int, share: float) -> NDArray[np.bool_]:
    treated = np.ones(n, np.bool_)
    treated[rng.permutation(n)[: round(n * share)]] = False
    return treated


def by_areas(rng: np.random.Generator, n: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], Floats, Floats]:
    """Areas of unlike size whose customers are alike; half of them held out."""
    area = rng.choice(60, n, p=rng.dirichlet(np.full(60, 4.0)))
    spending = np.exp(rng.normal(0, 0.3, 60))[area]
    before, after = histories(rng, n)
    return area, held_out(rng, 60, 0.5)[area], before * spending, after * spending


def trials(series: int, seed: int, n: int, share: float, *, areas: bool = False) -> tuple[int, int]:
    """In how many of the series an effect is told where there is none, and in how many the interval holds what a lift
    of 30 % added to the sales."""
    told = covered = 0
    for number in range(series):
        rng = np.random.default_rng([seed, number])
        if areas:
            area, treated, before, after = by_areas(rng, n)
        else:
            (before, after), area, treated = histories(rng, n), None, held_out(rng, n, share)
        told += effect(after, treated, before=before, areas=area, seed=number).shown
        added = 0.3 * after * treated
        found = effect(after + added, treated, before=before, areas=area, seed=number)
        covered += found.total_low <= added.sum() <= found.total_high
    return told, covered


def allowed(series: int) -> tuple[float, float]:
    """How often at most something may be told, at least the interval has to hold: binomial bounds of 99 %."""
    return stats.binom.ppf(0.99, series, 0.05), stats.binom.ppf(0.01, series, 0.95)


@pytest.mark.parametrize(("n", "share", "areas"), [(400, 0.1, False), (1_500, 0.5, True)])
def test_nothing_is_told_of_nothing_and_a_lift_is_held(
    monkeypatch: pytest.MonkeyPatch, n: int, share: float, areas: bool
) -> None:
    monkeypatch.setattr(experiments, "DRAWS", 199)
    told, covered = trials(120, 31, n, share, areas=areas)
    most, least = allowed(120)
    assert told <= most
    assert covered >= least


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("n", "share", "areas"),
    [(300, 0.1, False), (600, 0.1, False), (2_000, 0.1, False), (2_000, 0.5, False), (3_000, 0.5, True)],
)
def test_a_thousand_offers_that_brought_nothing_and_as_many_that_did(n: int, share: float, areas: bool) -> None:
    told, covered = trials(1_000, 32, n, share, areas=areas)
    print(
        f"{n:,} customers, {share:.0%} held out{' by areas' if areas else ''}: told {told}, covered {covered} of 1,000"
    )
    assert told <= allowed(1_000)[0]
    assert covered >= 930


def test_the_figures_are_those_of_welch() -> None:
    rng = np.random.default_rng(1)
    after = rng.normal(10, 2, 500)
    treated = held_out(rng, 500, 0.3)
    found = effect(after, treated)
    theirs = stats.ttest_ind(after[treated], after[~treated], equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert found.each == pytest.approx(after[treated].mean() - after[~treated].mean())
    assert (found.each_low, found.each_high) == pytest.approx((interval.low, interval.high), rel=0.1, abs=0.03)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.03)
    assert (found.total, found.total_low) == (found.each * 350, found.each_low * 350)
    assert (found.treated, found.held_out, found.units) == (350, 150, 500)
    assert found == effect(after, treated)  # bit for bit, by the seed


def test_the_hold_out_may_be_the_larger_group() -> None:
    rng = np.random.default_rng(2)
    _, after = histories(rng, 900)
    treated = held_out(rng, 900, 0.9)
    one, other = effect(after, treated), effect(-after, ~treated)
    assert one.each == pytest.approx(other.each)
    assert (one.each_low, one.each_high) == pytest.approx((other.each_low, other.each_high), rel=0.2)


def test_what_was_known_before_narrows_the_interval() -> None:
    rng = np.random.default_rng(3)
    before = rng.gamma(2, 50, 2_000)
    after = before * rng.normal(1, 0.2, 2_000)
    treated = held_out(rng, 2_000, 0.2)
    plain, adjusted = effect(after, treated), effect(after, treated, before=before)
    assert (adjusted.each_high - adjusted.each_low) < 0.5 * (plain.each_high - plain.each_low)


def test_very_many_have_the_normal_for_a_reference() -> None:
    rng = np.random.default_rng(4)
    n = 3 * experiments.MANY
    after = rng.exponential(10, n)
    treated = held_out(rng, n, 0.5)
    found = effect(after + treated, treated)
    error = np.sqrt(after[treated].var(ddof=1) / treated.sum() + after[~treated].var(ddof=1) / (~treated).sum())
    assert found.each_high - found.each_low == pytest.approx(2 * 1.959964 * error, rel=1e-6)
    assert found.shown


def test_a_null_is_a_null() -> None:
    found = effect(np.full(100, 7.0), np.arange(100) < 50)
    assert (found.each, found.each_low, found.each_high, found.p_value, found.shown) == (0, 0, 0, 1, False)


def test_what_cannot_be_told_is_said() -> None:
    after, treated = np.ones(50), np.arange(50) < 50 - (LEAST - 1)
    with pytest.raises(TooLittleData, match="customers that were held out: 19; needed: 20 in each group"):
        effect(after, treated)
    with pytest.raises(TooLittleData, match="areas that got it: 1"):
        effect(after, treated, areas=treated.astype(int))
    with pytest.raises(Invalid, match="Of the customers of area 3 some were held out"):
        effect(after, treated, areas=np.full(50, 3))
    with pytest.raises(Invalid, match="numbers for every customer"):
        effect(np.full(50, np.nan), treated)
