"""Forecasts: smoothing against published numbers and the formulas, choice and intervals on simulated series."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import adding_up, backtest, forecast, smoothing

# Saudi oil production 1996 to 2007, million tonnes: Hyndman and Athanasopoulos, Forecasting: Principles and Practice,
# 1st edition (2014), section 7.1, table 7.2: α 0.89, first level 447.5, forecast 496.5.
OIL = [446.6565, 454.4733, 455.6630, 423.6322, 456.2713, 440.5881]
OIL += [425.3325, 485.1494, 506.0482, 526.7920, 514.2689, 494.2110]

Season = list[float]


def one(values: list[float] | np.ndarray, **options: Any) -> smoothing.Smoothed:
    given = np.asarray(values, dtype=float)[None]
    return smoothing.fit(given, np.array([0]), np.array([given.shape[1]]), **options)


def by_hand(
    y: list[float], alpha: float, beta: float, gamma: float, phi: float, level: float, slope: float,
    season: Season, *, factor: bool, horizon: int,
) -> tuple[float, Season]:  # fmt: skip
    """Squared errors and forecasts of (A,Ad,A) or (A,Ad,M), period by period."""
    s, m, squares = list(season), len(season), 0.0
    for t, value in enumerate(y):
        base, here = level + phi * slope, s[t % m]
        error = value - (base * here if factor else base + here)
        squares += error**2
        pull = error / here if factor else error
        s[t % m] = here + gamma * error / (base if factor else 1)
        level, slope = base + alpha * pull, phi * slope + beta * pull
    ahead = []
    for h in range(1, horizon + 1):
        base = level + sum(phi**i for i in range(1, h + 1)) * slope
        here = s[(len(y) + h - 1) % m]
        ahead.append(base * here if factor else base + here)
    return squares, ahead


def grown(seed: int, series: int, periods: int, noise: float = 0.06) -> np.ndarray:
    """Series of (A,Ad,A): level, damped trend, season of a year."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(80, 300, series)
    size, slope, made = level.copy(), rng.normal(0.5, 0.5, series), np.zeros((series, periods))
    for t in range(periods):
        error = rng.normal(0, noise * size)
        made[:, t] = level + 0.9 * slope + 0.25 * np.sin(2 * np.pi * t / 12) * size + error
        level, slope = level + 0.9 * slope + 0.2 * error, 0.9 * slope + 0.02 * error
    return made


# --- smoothing ---


def test_simple_smoothing_against_published_numbers() -> None:
    found = one(OIL, horizon=2)
    assert found.alpha[0] == pytest.approx(0.892, abs=0.001)
    assert found.first_level[0] == pytest.approx(447.48, abs=0.02)
    assert found.means[0] == pytest.approx([496.49, 496.49], abs=0.02)


@pytest.mark.parametrize("factor", [False, True])
def test_seasonal_smoothing_is_the_formulas_one_by_one(factor: bool) -> None:
    y = grown(3, 1, 40)[0]
    season, _ = smoothing.decompose(y, 0, 12, multiplicative=factor) or (np.array([]), None)
    kind: smoothing.Season = "multiplicative" if factor else "additive"
    found = one(y, horizon=15, trend=True, season=kind, first_season=season[None])
    parameters = (found.alpha, found.beta, found.gamma, found.phi, found.first_level, found.first_trend)
    squares, ahead = by_hand(list(y), *(float(p[0]) for p in parameters), list(season), factor=factor, horizon=15)
    assert found.squares[0] == pytest.approx(squares)
    assert found.means[0] == pytest.approx(ahead)


def test_no_other_parameters_are_likelier() -> None:
    """Nelder and Mead's method on the formulas, from several starts, finds no smaller sum of squares."""
    y = list(grown(5, 1, 36)[0])
    found = one(y, horizon=1, trend=True)

    def squares(p: np.ndarray) -> float:
        if not (0 < p[0] < 1 and 0 < p[1] < p[0] and 0.8 < p[2] < 0.98):
            return 1e12
        return by_hand(y, p[0], p[1], 0, p[2], p[3], p[4], [0.0], factor=False, horizon=1)[0]

    least = min(
        minimize(squares, [a, a / 4, 0.9, y[0], 0.0], method="Nelder-Mead", options={"maxiter": 2500}).fun
        for a in (0.1, 0.5, 0.9)
    )
    assert found.squares[0] <= least * 1.005


def test_a_series_alone_is_that_among_others_of_other_lengths() -> None:
    y = grown(1, 3, 40)
    starts, ends = np.array([0, 5, 10]), np.array([40, 33, 38])
    together = smoothing.fit(y, starts, ends, horizon=4, trend=True)
    for row in range(3):
        alone = one(y[row, starts[row] : ends[row]], horizon=4, trend=True)
        assert together.means[row] == pytest.approx(alone.means[0], rel=1e-3)


def test_decomposition_against_plain_sums() -> None:
    factors = np.array([0.8, 1.1, 1.3, 0.8])
    y = np.tile(factors, 4) * 50
    season, variances = smoothing.decompose(y, 0, 4, multiplicative=True) or (np.array([]), np.array([]))
    assert season == pytest.approx(factors)
    assert variances == pytest.approx(np.zeros(4))
    moved, _ = smoothing.decompose(y[1:], 1, 4, multiplicative=False) or (np.array([]), None)
    assert moved == pytest.approx(factors * 50 - 50)
    assert smoothing.decompose(y[:7], 0, 4, multiplicative=True) is None


def test_rare_sales_by_hand() -> None:
    """Croston's method with Syntetos and Boylan's factor, TSB, and none for who sold nothing."""
    y = np.array([[0, 0, 6, 0, 0, 6, 0, 0, 6, 0, 0, 6], [0.0] * 12])
    bounds = np.array([0, 0]), np.array([12, 12])
    rates = smoothing.sba(y, *bounds)
    allowed = [(1 - a / 2) * 2 for a in (0.05, 0.1, 0.15, 0.2, 0.3)]  # size 6 every 3rd period
    assert min(abs(rates[0] - rate) for rate in allowed) < 1e-9
    assert rates[1] == 0
    ended = np.array([[5.0, 0, 5, 0, 5, 0, 5, 0, 5] + [0] * 15])
    fading = smoothing.tsb(ended, np.array([0]), np.array([24]))[0]
    chance = ended[0].astype(bool).mean()
    options = []
    for beta in (0.05, 0.1, 0.15, 0.2, 0.3):
        p = chance
        for value in ended[0]:
            p += beta * ((value != 0) - p)
        options.append(5 * p)
    assert min(abs(fading - option) for option in options) < 1e-9
    assert fading < smoothing.sba(ended, np.array([0]), np.array([24]))[0]


# --- the choice ---


def test_seasonal_series_beat_the_seasonal_naive_and_add_up() -> None:
    made = grown(11, 5, 54)
    found = forecast.forecast(made[:, :48], season_length=12, horizon=6, names=list("abcde"), period="month")
    assert found.names == ("whole", *"abcde")
    assert found.means[0] == pytest.approx(found.means[1:].sum(axis=0))
    assert (found.mase <= found.naive_mase + 1e-12).all()
    came = made[:, 48:]
    ours, naive = np.abs(came - found.means[1:]).mean(), np.abs(came - made[:, 36:42]).mean()
    assert ours < 0.9 * naive
    assert sum("season" in method for method in found.methods if method != backtest.NAIVE) >= 4
    assert (found.low <= found.means).all()
    assert (found.means <= found.high).all()
    assert (found.low[1] <= found.low[0]).all()


def test_white_noise_gets_no_season_and_no_trend() -> None:
    noise = np.random.default_rng(2).normal(100, 10, (5, 48))
    found = forecast.forecast(noise, season_length=12, horizon=6)
    plain = [method in ("mean", "level", backtest.NAIVE) for method in found.methods]
    assert np.mean(plain) > 0.8
    assert np.abs(found.means[1:] - 100).max() < 10


def test_a_season_that_only_repeats_is_the_seasonal_naive() -> None:
    """Nothing is better than perfect: it is used, and said."""
    year = np.array([3.0, 4, 9, 2, 7, 5, 8, 6, 1, 12, 10, 11])
    found = forecast.forecast(np.tile(year, (1, 4)), season_length=12, horizon=12)
    assert set(found.methods) == {backtest.NAIVE}
    assert found.means[0] == pytest.approx(year)
    assert "no other method" in found.reasons[0]


def test_a_short_series_takes_its_season_from_the_whole() -> None:
    made = grown(21, 4, 60, noise=0.03)
    made[3, :44] = 0
    shares = forecast.share_seasons(np.vstack([made.sum(axis=0), made]), np.array([0, 0, 0, 0, 44]), 60, 12)
    assert shares[4] == pytest.approx(shares[0])
    assert 0 < np.abs(shares[1] - shares[0]).max() < 0.1
    found = forecast.forecast(made, season_length=12, horizon=6)
    assert np.isfinite(found.means).all()
    assert found.tested[4] < found.tested[1]


def test_reconciliation_against_least_squares() -> None:
    """Errors of one size, unrelated: orthogonal projection. A whole forecast without error is kept."""
    rng = np.random.default_rng(4)
    regions = rng.normal(0, 1, (5000, 3))
    equal = np.column_stack([rng.normal(0, 1, 5000), regions])
    summing = np.vstack([np.ones(3), np.eye(3)])
    expected = summing @ np.linalg.inv(summing.T @ summing) @ summing.T
    assert adding_up.reconcile_weights(equal) == pytest.approx(expected, abs=0.03)
    certain = np.column_stack([rng.normal(0, 1e-3, 5000), regions])
    weights = adding_up.reconcile_weights(certain)
    assert weights[0] == pytest.approx([1, 0, 0, 0], abs=0.01)
    assert weights @ summing == pytest.approx(summing, abs=1e-8)  # what adds up stays as it is


# --- intervals ---


def test_intervals_hold_what_they_say() -> None:
    """Over series that know nothing of each other: the share of future values within, one value a series."""
    trials = 3 * 20
    inside = np.zeros(2)
    for seed in range(3):
        made = grown(100 + seed, 20, 48 + 3)
        found = forecast.forecast(made[:, :48], season_length=12, horizon=3)
        came = made[:, 50]
        inside += ((found.low[:, 1:, 2] <= came) & (came <= found.high[:, 1:, 2])).sum(axis=1)
    for hits, level in zip(inside, (0.8, 0.95), strict=True):
        assert binom.ppf(0.001, trials, level) <= hits <= binom.ppf(0.999, trials, level), (hits, trials)


# --- honest answers ---


def test_too_little_says_what_it_needs() -> None:
    five = np.zeros((1, 24))
    five[0, [0, 5, 9, 13, 20]] = 10
    with pytest.raises(TooLittleData, match=r"12 complete months .* 8 of them with sales; there are 24, 5 of them"):
        forecast.forecast(five, season_length=12, horizon=3, period="month")
    with pytest.raises(TooLittleData, match="there are 0, 0 of them"):
        forecast.forecast(np.zeros((2, 24)), season_length=12, horizon=3)
    with pytest.raises(TooLittleData, match="it reaches 8"):
        forecast.forecast(np.arange(1.0, 17)[None], season_length=12, horizon=9)


def test_less_than_two_seasons_has_no_season() -> None:
    y = np.random.default_rng(3).normal(50, 5, (2, 20))
    found = forecast.forecast(y, season_length=12, horizon=4, period="month")
    assert found.season_length == 1
    assert found.notes == ("No season: that takes two of 12 months, there are 20 months.",)
    assert not any("season" in method for method in found.methods if method != backtest.NAIVE)


def test_all_the_same_and_small_series() -> None:
    y = np.full((2, 30), 7.0)
    y = np.vstack([y, np.zeros(30)])
    y[2, [3, 28]] = 5
    found = forecast.forecast(y, season_length=12, horizon=6, names=["north", "south", "new"])
    assert found.names == ("whole", "north", "south", "new", "others")
    assert found.means[1] == pytest.approx(np.full(6, 7.0))
    assert found.reasons[1].endswith("every period was the same")
    assert np.isnan(found.means[3]).all()
    assert found.reasons[3] == "too few sales"
    assert "new" in found.notes[-1]
    assert found.means[0] == pytest.approx(found.means[[1, 2, 4]].sum(axis=0))
    assert 0 <= found.means[4].mean() < 5


def test_rare_sales_are_told_and_never_negative() -> None:
    rng = np.random.default_rng(6)
    y = rng.poisson(0.4, (3, 48)) * rng.lognormal(3, 0.4, (3, 48))
    found = forecast.forecast(y, season_length=12, horizon=6)
    assert set(found.methods[1:]) <= {backtest.NAIVE, "mean", "rare sales", "fading sales"}
    assert (found.low >= 0).all()
    assert np.abs(found.means[1:].mean(axis=1) / y.mean(axis=1) - 1).max() < 0.8


def test_the_same_again_bit_for_bit_and_money_has_no_unit() -> None:
    y = grown(8, 2, 40)
    first, again = (forecast.forecast(y, season_length=12, horizon=3) for _ in range(2))
    assert first.means.tobytes() == again.means.tobytes()
    assert first.high.tobytes() == again.high.tobytes()
    scaled = forecast.forecast(y * 1e6, season_length=12, horizon=3)
    assert scaled.means == pytest.approx(first.means * 1e6, rel=1e-4)


def test_what_is_not_a_table_of_sales_is_refused() -> None:
    with pytest.raises(Invalid, match="not known"):
        forecast.forecast([[1, float("nan")]], season_length=12, horizon=3)
    with pytest.raises(Invalid, match="one row"):
        forecast.forecast([1.0, 2.0], season_length=12, horizon=3)
    with pytest.raises(Invalid, match="at least one"):
        forecast.forecast(np.ones((1, 30)), season_length=12, horizon=0)
    with pytest.raises(Invalid, match="between 0 and 1"):
        forecast.forecast(np.ones((1, 30)), season_length=12, horizon=2, levels=(95,))
