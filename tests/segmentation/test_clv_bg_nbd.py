import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import beta, gamma

from geocrm.errors import Invalid, NotConverged, TooLittleData
from geocrm.segmentation.clv import bg_nbd
from geocrm.segmentation.clv.bg_nbd import STARTS, BgNbd, Likelihood
from geocrm.segmentation.clv.counts import Counts, collapse
from geocrm.segmentation.clv.likelihood import Estimate
from tests.segmentation import cdnow

PUBLISHED = BgNbd(0.243, 4.414, 0.793, 2.426)
positive = st.floats(-2.5, 2.5).map(lambda power: 10**power)
models = st.builds(BgNbd, positive, positive, positive, positive)
moderate = st.floats(-1.2, 1.2).map(lambda power: 10**power)
usual = st.builds(BgNbd, moderate, moderate, moderate, moderate)
histories = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 7, 40, 3000]), st.floats(0, 1), st.floats(0.1, 1e4), st.integers(1, 50)),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def counts() -> Counts:
    d = cdnow.summary()
    return collapse(d["x"], d["t_x"], d["T"])


@pytest.fixture(scope="module")
def fitted(counts: Counts) -> Estimate[BgNbd]:
    return bg_nbd.fit(counts)


def made(rows: list[tuple[int, float, float, int]]) -> Counts:
    x, share, t, number = (np.array(column) for column in zip(*rows, strict=True))
    return collapse(x, np.where(x > 0, share * t, 0.0), t, number)


def test_published_parameters_of_cdnow(fitted: Estimate[BgNbd]) -> None:
    """Fader, Hardie and Lee (2005), table 2."""
    assert [round(value, 3) for value in fitted.model.values] == [0.243, 4.414, 0.793, 2.426]
    assert round(fitted.log_likelihood, 1) == -9582.4
    assert fitted.customers == 2357


def test_every_start_leads_to_the_same_maximum(
    counts: Counts, fitted: Estimate[BgNbd], monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in STARTS:
        monkeypatch.setattr(bg_nbd, "STARTS", (start,))
        again = bg_nbd.fit(counts)
        np.testing.assert_allclose(again.model.values, fitted.model.values, rtol=1e-6)


def test_no_more_likely_parameters_are_found_by_lifetimes(counts: Counts, fitted: Estimate[BgNbd]) -> None:
    d = cdnow.summary()
    theirs = cdnow.lifetimes().BetaGeoFitter().fit(d["x"], d["t_x"], d["T"])
    at_theirs = bg_nbd.log_likelihood(counts, BgNbd(*theirs.params_))
    scaled = -theirs._negative_log_likelihood_ * len(d) + d["x"].sum() * np.log(theirs._scale)  # times were scaled
    assert at_theirs == pytest.approx(scaled, rel=1e-10)
    assert fitted.log_likelihood >= at_theirs
    assert fitted.log_likelihood == pytest.approx(at_theirs, rel=1e-6)
    for name, error in theirs.standard_errors_.items():
        assert fitted.standard_errors[name] == pytest.approx(error, rel=1e-3)


@given(histories, models)
@settings(max_examples=60, deadline=None)
def test_gradient_and_hessian_are_those_of_the_likelihood(
    rows: list[tuple[int, float, float, int]], model: BgNbd
) -> None:
    likelihood = Likelihood(made(rows))
    values = np.array(model.values)
    value, gradient, hessian = likelihood(values)
    assert np.isfinite(value)
    for i in range(4):
        step = values * (np.arange(4) == i) * 1e-5
        above, below = likelihood(values + step), likelihood(values - step)
        width = 2 * step[i]
        noise = 1e-13 * abs(value) / width
        assert (above[0] - below[0]) / width == pytest.approx(gradient[i], rel=1e-5, abs=100 * noise + 1e-7)
        scale = np.abs(above[1]) + np.abs(below[1])
        terms = np.abs(hessian[i]) * 1e-5 + 1e-9 * np.abs(hessian).max() + 1e-11 * (scale + abs(value)) / width
        assert (np.abs((above[1] - below[1]) / width - hessian[i]) <= terms + 1e-9).all()


@given(histories, models)
@settings(max_examples=60, deadline=None)
def test_likelihood_is_the_textbook_formula(rows: list[tuple[int, float, float, int]], model: BgNbd) -> None:
    """Equation (6) in the logarithms of gamma functions."""
    from scipy.special import betaln, gammaln

    c = made(rows)
    x, r, alpha, a, b = c.frequency, *model.values
    stays = betaln(a, b + x) - (r + x) * np.log(alpha + c.t_weeks)
    leaves = betaln(a + 1, b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + c.recency_weeks)
    each = gammaln(r + x) - gammaln(r) + r * np.log(alpha) - betaln(a, b)
    each += np.where(x > 0, np.logaddexp(stays, leaves), stays)
    assert bg_nbd.log_likelihood(c, model) == pytest.approx(float(c.weights @ each), rel=1e-8, abs=1e-6)


def test_expectations_equal_those_of_lifetimes(fitted: Estimate[BgNbd], counts: Counts) -> None:
    theirs = cdnow.lifetimes().BetaGeoFitter()
    theirs.params_ = dict(zip(fitted.names, fitted.model.values, strict=True))
    history = counts.frequency, counts.recency_weeks, counts.t_weeks
    np.testing.assert_allclose(
        fitted.model.expected_purchases(39, *history),
        theirs.conditional_expected_number_of_purchases_up_to_time(39, *history),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        fitted.model.probability_alive(*history), theirs.conditional_probability_alive(*history), rtol=1e-12
    )
    weeks = np.array([1.0, 10, 39, 500])
    np.testing.assert_allclose(
        fitted.model.expected_since_first(weeks), theirs.expected_number_of_purchases_up_to_time(weeks), rtol=1e-10
    )
    for n in range(5):
        np.testing.assert_allclose(
            fitted.model.probability_of(n, 20.0), theirs.probability_of_n_purchases_up_to_time(20.0, n), rtol=1e-10
        )


def by_integration(model: BgNbd, horizon: float, x: int, recency: float, t: float) -> tuple[float, float]:
    """P(alive) and expected purchases from the model's story: λ and p given the history, integrated numerically."""
    r, alpha, a, b = model.values
    alive, _ = integrate.quad(lambda p: beta.pdf(p, a, b) * (1 - p) ** x, 0, 1)
    gone = 0.0
    if x > 0:
        gone, _ = integrate.quad(lambda p: beta.pdf(p, a, b) * p * (1 - p) ** (x - 1), 0, 1)
    stay = alive * (alpha + t) ** -(r + x)
    leave = gone * (alpha + recency) ** -(r + x)
    left = stay / (stay + leave)

    def future(p: float) -> float:  # E[(1 - exp(-λ p h)) / p], λ gamma distributed
        return (1 - (1 + p * horizon / (alpha + t)) ** -(r + x)) / p

    mean, _ = integrate.quad(lambda p: beta.pdf(p, a, b + x) * future(p), 0, 1, epsabs=1e-12, limit=200)
    return left, left * mean


@pytest.mark.parametrize(
    "model",
    [PUBLISHED, BgNbd(2, 9, 1.0, 3), BgNbd(2, 9, 0.25, 0.75), BgNbd(1.5, 20, 2.5, 4), BgNbd(0.5, 3, 1.0000004, 9)],
)
@pytest.mark.parametrize("history", [(0, 0.0, 12.0), (1, 3.0, 30.0), (4, 28.0, 30.0), (25, 60.0, 70.0)])
def test_expectations_equal_numerical_integration(model: BgNbd, history: tuple[int, float, float]) -> None:
    alive, mean = by_integration(model, 26.0, *history)
    assert model.probability_alive(*history)[0] == pytest.approx(alive, rel=1e-8)
    assert model.expected_purchases(26, *history)[0] == pytest.approx(mean, rel=1e-6)
    assert model.discounted_purchases(26, 0.0, *history)[0] == pytest.approx(mean, rel=1e-6)
    discounted, _ = integrate.quad(lambda w: np.exp(-0.01 * w) * model.purchase_rate(w, *history)[0], 0, 26)
    assert model.discounted_purchases(26, 0.01, *history)[0] == pytest.approx(discounted, rel=1e-9)


def simulate(model: BgNbd, customers: int, weeks: float, rng: np.random.Generator) -> np.ndarray:
    """Repeat purchases of new customers within `weeks`, one customer after the other's story."""
    rate = gamma.rvs(model.r, scale=1 / model.alpha, size=customers, random_state=rng)
    leave = rng.beta(model.a, model.b, customers)
    time, bought, there = np.zeros(customers), np.zeros(customers, dtype=int), np.ones(customers, dtype=bool)
    while there.any():
        time[there] += rng.exponential(1 / rate[there])
        there &= time <= weeks
        bought[there] += 1
        there &= rng.random(customers) >= leave
    return bought


def test_purchases_of_new_customers_equal_a_simulation() -> None:
    model = BgNbd(0.8, 6.0, 0.9, 2.5)
    bought = simulate(model, 200_000, 40.0, np.random.default_rng(11))
    error = bought.std() / np.sqrt(len(bought))
    assert abs(bought.mean() - model.expected_since_first(40.0)[0]) < 4 * error
    for n in range(6):
        share = float(model.probability_of(n, 40.0)[0])
        assert abs((bought == n).mean() - share) < 4 * np.sqrt(share * (1 - share) / len(bought))


def test_probabilities_of_numbers_add_up() -> None:
    number = np.arange(3000)
    share = PUBLISHED.probability_of(number, 39.0)
    assert share.sum() == pytest.approx(1, abs=1e-9)
    assert (share * number).sum() == pytest.approx(PUBLISHED.expected_since_first(39.0)[0], rel=1e-8)
    assert PUBLISHED.probability_of([0, 1], 0.0).tolist() == [1.0, 0.0]


def test_thousands_of_purchases_and_weeks_stay_finite() -> None:
    history = np.array([5000, 20_000, 1, 0]), np.array([9999.0, 10_000, 1e-6, 0]), np.array([1e4] * 4)
    for model in (PUBLISHED, BgNbd(60, 0.1, 0.01, 50), BgNbd(0.01, 300, 20, 0.05)):
        for answer in (
            model.expected_purchases(520, *history),
            model.discounted_purchases(520, 0.002, *history),
            model.probability_alive(*history),
        ):
            assert np.isfinite(answer).all()
            assert (answer >= 0).all()
    busy = PUBLISHED.expected_purchases(10, 5000, 9999.0, 1e4)[0]
    assert busy == pytest.approx(5, rel=0.01)  # 5,000 in 10,000 weeks


@given(usual, st.sampled_from([0, 1, 6, 300]), st.floats(0.01, 1), st.floats(1, 300), st.floats(0.1, 500))
@settings(max_examples=80, deadline=None)
def test_expectation_grows_with_the_horizon_and_is_the_integral_of_the_rate(
    model: BgNbd, x: int, share: float, t: float, weeks: float
) -> None:
    history = x, share * t if x else 0.0, t
    now, later = (model.expected_purchases(w, *history)[0] for w in (weeks, 2 * weeks))
    assert 0 <= now <= later * (1 + 1e-9)
    assert model.discounted_purchases(weeks, 0.0, *history)[0] == pytest.approx(now, rel=1e-5, abs=1e-9)
    assert model.discounted_purchases(weeks, 0.01, *history)[0] <= now * (1 + 1e-5) + 1e-9


def test_recovers_parameters_within_their_standard_errors() -> None:
    """Simulated histories of 20 worlds: the true parameters are 2 standard errors away about as often as they may."""
    truth = np.array([0.8, 6.0, 0.9, 2.5])
    rng = np.random.default_rng(17)
    z = []
    for _ in range(20):
        t = rng.integers(20, 53, 4000).astype(float)
        rate, leave = rng.gamma(truth[0], 1 / truth[1], 4000), rng.beta(truth[2], truth[3], 4000)
        time, last, bought, there = np.zeros(4000), np.zeros(4000), np.zeros(4000, dtype=int), np.ones(4000, dtype=bool)
        while there.any():
            time[there] += rng.exponential(1 / rate[there])
            there &= time <= t
            bought[there] += 1
            last[there] = time[there]
            there &= rng.random(4000) >= leave
        estimate = bg_nbd.fit(collapse(bought, last, t))
        z.append(np.log(np.array(estimate.model.values) / truth) / np.sqrt(np.diag(estimate.log_covariance)))
    spread = np.array(z)
    assert 0.7 < spread.std() < 1.3
    assert (np.abs(spread) < 1.96).mean() > 0.88


def test_intervals_hold_the_estimate_and_widen_with_the_level(fitted: Estimate[BgNbd]) -> None:
    narrow, wide = fitted.intervals(0.5), fitted.intervals(0.99)
    for name, value in zip(fitted.names, fitted.model.values, strict=True):
        assert 0 < wide[name][0] < narrow[name][0] < value < narrow[name][1] < wide[name][1]


@pytest.mark.parametrize(
    ("x", "recency", "t", "kind", "message"),
    [
        ([2], [3.0], [9.0], TooLittleData, r"there are 1 \(customers: 1\)"),
        ([0] * 50, [0.0] * 50, list(range(1, 51)), TooLittleData, "none of the 50 customers has bought a second time"),
        ([3] * 80, [7.0] * 80, [10.0] * 80, TooLittleData, r"there are 1 \(customers: 80\)"),
        ([0] * 9, [0.0] * 9, [0.0] * 9, TooLittleData, "on the cutoff itself"),
        ([4] * 40, list(np.linspace(5, 9, 40)), [10.0] * 40, NotConverged, "one and the same rate"),
        ([0, 1, 2, 3, 4] * 40, [0, 9.9, 9.9, 9.9, 9.9] * 40, list(np.linspace(10, 11, 200)), NotConverged, "Hardly"),
    ],
)
def test_data_without_an_answer_are_told_so(
    x: list[int], recency: list[float], t: list[float], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        bg_nbd.fit(collapse(x, recency, t))
    assert type(caught.value) is kind


@pytest.mark.parametrize("customers", [5, 50, 500])
def test_small_companies_get_an_estimate_or_a_reason(customers: int) -> None:
    for seed in range(6):
        d = cdnow.summary().sample(customers, random_state=seed)
        estimate, reason = None, ""
        try:
            estimate = bg_nbd.fit(collapse(d["x"], d["t_x"], d["T"]))
        except (TooLittleData, NotConverged) as refusal:
            reason = refusal.detail
        if estimate is None:
            assert customers < 500
            assert "repeat" in reason or "histories" in reason
        else:
            assert np.isfinite(estimate.log_covariance).all()
            assert (np.diag(estimate.log_covariance) < 25).all()


def test_horizons_and_numbers_are_checked() -> None:
    with pytest.raises(Invalid, match="horizon"):
        PUBLISHED.expected_purchases(-1, 1, 1, 2)
    with pytest.raises(Invalid, match="horizon"):
        PUBLISHED.discounted_purchases(np.nan, 0.01, 1, 1, 2)
    with pytest.raises(Invalid, match="discount"):
        PUBLISHED.discounted_purchases(10, -0.01, 1, 1, 2)
    with pytest.raises(Invalid, match="whole number"):
        PUBLISHED.probability_of(1.5, 10)
    with pytest.raises(Invalid, match="greater than t_weeks"):
        PUBLISHED.expected_purchases(10, 1, 3, 2)


@pytest.mark.parametrize("x", [1, 300, 3000])
def test_whole_parameters_and_a_far_horizon_have_an_answer(x: int) -> None:
    """SciPy's 2F1 overflows where C - A - B is a large whole number and z is near 1."""
    whole, near = BgNbd(1.0, 2.0, 2.0, 3.0), BgNbd(1.0 + 1e-7, 2.0, 2.0 - 1e-7, 3.0)
    one, other = (model.expected_purchases(1000, x, 1.0, 1.0)[0] for model in (whole, near))
    assert one == pytest.approx(other, rel=1e-5)
    assert 0 < one < (x + 1) * 1000 / 3
