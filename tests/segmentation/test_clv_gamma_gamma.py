import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.special import digamma
from scipy.stats import gamma as gamma_distribution

from geocrm.errors import Invalid, NotConverged, TooLittleData
from geocrm.segmentation.clv import gamma_gamma
from geocrm.segmentation.clv.gamma_gamma import NEAR, STARTS, GammaGamma, Likelihood, ValueEstimate
from tests.segmentation import cdnow

PUBLISHED = GammaGamma(6.25, 3.74, 15.44)
positive = st.floats(-1.5, 1.5).map(lambda power: 10**power)
models = st.builds(GammaGamma, positive, positive, st.floats(-2, 4).map(lambda power: 10**power))
customers = st.lists(
    st.tuples(st.sampled_from([1, 2, 5, 40, 3000]), st.floats(0.01, 1e5), st.integers(1, 50)), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def fitted() -> ValueEstimate:
    d = cdnow.summary()
    return gamma_gamma.fit(d["x"], d["zbar"])


def test_published_parameters_of_cdnow() -> None:
    """Fader and Hardie (2013), page 8: p 6.25, q 3.74, gamma 15.44 for the 946 customers with repeat purchases."""
    made = cdnow.histories()
    fitted = gamma_gamma.fit(made.frequency, made.mean_value)
    assert [round(value, 2) for value in fitted.model.values] == [6.25, 3.74, 15.44]
    assert fitted.customers == 946


def test_estimates_equal_those_of_lifetimes(fitted: ValueEstimate) -> None:
    d = cdnow.summary()
    repeat = d[d["x"] > 0]
    theirs = cdnow.lifetimes().GammaGammaFitter().fit(repeat["x"], repeat["zbar"])
    at_theirs = gamma_gamma.log_likelihood(repeat["x"], repeat["zbar"], GammaGamma(*theirs.params_))
    assert at_theirs == pytest.approx(-theirs._negative_log_likelihood_ * len(repeat), rel=1e-10)
    assert fitted.log_likelihood >= at_theirs
    assert fitted.log_likelihood == pytest.approx(at_theirs, rel=1e-6)
    for name, theirs_name in zip(fitted.names, ("p", "q", "v"), strict=True):
        assert fitted.standard_errors[name] == pytest.approx(theirs.standard_errors_[theirs_name], rel=5e-3)
    model = GammaGamma(*theirs.params_)
    np.testing.assert_allclose(
        model.expected_value(d["x"], d["zbar"]),
        theirs.conditional_expected_average_profit(d["x"], d["zbar"]),
        rtol=1e-12,
    )


def test_every_start_leads_to_the_same_maximum(fitted: ValueEstimate, monkeypatch: pytest.MonkeyPatch) -> None:
    d = cdnow.summary()
    for start in STARTS:
        monkeypatch.setattr(gamma_gamma, "STARTS", (start,))
        np.testing.assert_allclose(gamma_gamma.fit(d["x"], d["zbar"]).model.values, fitted.model.values, rtol=1e-6)


def test_weighted_rows_are_that_many_customers(fitted: ValueEstimate) -> None:
    d = cdnow.summary()
    counted = d.groupby(["x", "zbar"]).size().reset_index(name="number")
    assert len(counted) < len(d)
    again = gamma_gamma.fit(counted["x"], counted["zbar"], counted["number"])
    np.testing.assert_allclose(again.model.values, fitted.model.values, rtol=1e-7)
    assert again.customers == 946
    assert again.log_correlation == pytest.approx(fitted.log_correlation)


@given(customers, models)
@settings(max_examples=60, deadline=None)
def test_gradient_and_hessian_are_those_of_the_likelihood(
    rows: list[tuple[int, float, int]], model: GammaGamma
) -> None:
    x, mean, number = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    likelihood = Likelihood(x, mean, number)
    values = np.array(model.values)
    value, gradient, hessian = likelihood(values)
    assert np.isfinite(value)
    size = float(number @ (model.p * x + model.q)) * 30  # of the terms that cancel in the sum
    for i in range(3):
        step = values * (np.arange(3) == i) * 1e-5
        above, below = likelihood(values + step), likelihood(values - step)
        width = 2 * step[i]
        assert (above[0] - below[0]) / width == pytest.approx(gradient[i], rel=1e-4, abs=1e-14 * size / width + 1e-6)
        noise = 1e-14 * size / (values * width)
        assert (np.abs((above[1] - below[1]) / width - hessian[i]) <= 1e-4 * np.abs(hessian[i]) + noise + 1e-6).all()


@given(customers, models, st.floats(-0.999, 0.999))
@settings(max_examples=60, deadline=None)
def test_sums_by_series_are_those_of_all_customers(
    rows: list[tuple[int, float, int]], model: GammaGamma, part: float
) -> None:
    """Near where the sums were taken, up to nearly the whole of the step that the series may make."""
    x, mean, number = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    likelihood = Likelihood(x, mean, number)
    likelihood(np.array(model.values))
    gamma = model.gamma * (1 + part * NEAR)
    beyond = x * mean + gamma
    value, gradient, hessian = likelihood(np.array([model.p, model.q, gamma]))
    assert likelihood.centre == model.gamma
    again, anew, curve = Likelihood(x, mean, number)(np.array([model.p, model.q, gamma]))
    shape = number * (model.p * x + model.q)
    assert value == pytest.approx(again, abs=1e-13 * float(shape @ (1 + np.abs(np.log(beyond)))))
    of_gamma = float(shape @ (1 / beyond))
    np.testing.assert_allclose(gradient[:2], anew[:2], rtol=0, atol=1e-12 * float(number @ (x + 1)) * 30)
    assert gradient[2] == pytest.approx(anew[2], abs=1e-11 * of_gamma)
    np.testing.assert_allclose(hessian, curve, rtol=1e-9, atol=1e-9 * of_gamma * max(1.0, 1 / gamma))


def test_correlation_of_logarithms_is_that_of_all_customers(fitted: ValueEstimate) -> None:
    d = cdnow.summary()
    x, mean = d["x"][d["x"] > 0].to_numpy(), d["zbar"][d["x"] > 0].to_numpy()
    p = fitted.model.p
    freed = np.log(mean) + np.log(p * x) - digamma(p * x)
    assert fitted.log_correlation == pytest.approx(np.corrcoef(np.log(x), freed)[0, 1], rel=1e-9)


@pytest.mark.parametrize(("x", "mean"), [(1, 12.0), (4, 80.0), (20, 9.5)])
def test_likelihood_and_expectation_equal_numerical_integration(x: int, mean: float) -> None:
    """From the model's story: the rate ν gamma distributed (q, gamma), the sum of x purchases gamma (p·x, ν)."""
    p, q, gamma = PUBLISHED.values

    def joint(rate: float) -> float:
        of_mean = gamma_distribution.pdf(mean, p * x, scale=1 / (x * rate))
        return float(of_mean * gamma_distribution.pdf(rate, q, scale=1 / gamma))

    reach = 60 / (gamma + x * mean)
    all_rates, _ = integrate.quad(joint, 0, reach * (p * x + q), epsabs=0, limit=300)
    weighted, _ = integrate.quad(lambda rate: p / rate * joint(rate), 0, reach * (p * x + q), epsabs=0, limit=300)
    assert gamma_gamma.log_likelihood([x], [mean], PUBLISHED) == pytest.approx(np.log(all_rates), rel=1e-7)
    assert PUBLISHED.expected_value(x, mean)[0] == pytest.approx(weighted / all_rates, rel=1e-7)


def test_a_new_customer_is_expected_to_spend_the_mean_of_all() -> None:
    p, q, gamma = PUBLISHED.values
    assert PUBLISHED.expected_value(0, np.nan)[0] == pytest.approx(p * gamma / (q - 1))


def test_recovers_parameters_within_their_standard_errors() -> None:
    truth = np.array([3.0, 4.0, 60.0])
    rng = np.random.default_rng(31)
    z = []
    for _ in range(20):
        x = rng.geometric(0.4, 3000)
        mean = rng.gamma(truth[0] * x) / (x * rng.gamma(truth[1], 1 / truth[2], 3000))
        estimate = gamma_gamma.fit(x, mean)
        z.append(np.log(np.array(estimate.model.values) / truth) / np.sqrt(np.diag(estimate.log_covariance)))
        assert abs(estimate.log_correlation) < 4 / np.sqrt(3000)
    spread = np.array(z)
    assert 0.7 < spread.std() < 1.3
    assert (np.abs(spread) < 1.96).mean() > 0.85


def test_dependence_is_reported(fitted: ValueEstimate) -> None:
    d = cdnow.summary()
    repeat = d[d["x"] > 0]
    assert fitted.correlation == pytest.approx(np.corrcoef(repeat["x"], repeat["zbar"])[0, 1])
    rng = np.random.default_rng(2)
    x = rng.geometric(0.3, 4000)
    mean = rng.gamma(3.0 * x) / (x * rng.gamma(4.0, 1 / 60, 4000))
    assert "hardly depends" in gamma_gamma.fit(x, mean).independence
    assert "spend more at a purchase" in gamma_gamma.fit(x, mean * x**0.3).independence
    assert "spend less at a purchase" in gamma_gamma.fit(x, mean / x**0.3).independence


@pytest.mark.parametrize(
    ("x", "mean", "kind", "message"),
    [
        ([], [], TooLittleData, "needs repeat purchases"),
        ([0, 0], [np.nan, np.nan], TooLittleData, "none of the 2 customers has bought a second time"),
        ([2], [30.0], TooLittleData, "same mean value"),
        ([2, 3, 4] * 9, [25.0] * 27, TooLittleData, r"all 27 repeat buyers have the same mean value \(25\)"),
        ([1, 1, 1, 1, 1], [1.0, 2, 3, 4, 5], TooLittleData, "two repeat purchases or more"),
        ([1, 2, 3], [1.0, 2, 3], TooLittleData, "3 parameters"),
        ([1, 2, 3], [1.0, -2, 3], Invalid, "1 of 3 customers with repeat purchases have a mean value of 0 or less"),
        ([1, 2, 3], [1.0, 0, 3], Invalid, "first in row 1"),
        ([1, 2, 3], [1.0, np.nan, 3], Invalid, "row 1 is not a number"),
        ([1, 2.5, 3], [1.0, 2, 3], Invalid, "whole numbers"),
        ([1, -2, 3], [1.0, 2, 3], Invalid, "whole numbers"),
        ([1, 2], [1.0], Invalid, "one of each"),
        ([2, 3, 4, 5, 6] * 20, list(10 ** np.linspace(-9, 9, 100)), NotConverged, "spend"),
        ([60] * 200, list(100 + np.random.default_rng(1).normal(0, 0.01, 200)), NotConverged, "spend"),
    ],
)
def test_data_without_an_answer_are_told_so(
    x: list[float], mean: list[float], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        gamma_gamma.fit(x, mean)
    assert type(caught.value) is kind


def test_no_mean_is_no_expectation() -> None:
    wide = GammaGamma(2.0, 0.8, 15.0)
    assert wide.expected_value(3, 20.0)[0] > 0
    with pytest.raises(Invalid, match=r"q = 0\.80"):
        wide.expected_value([3, 0], [20.0, np.nan])


def test_weights_are_checked() -> None:
    with pytest.raises(Invalid, match="Weights"):
        gamma_gamma.fit([1, 2], [3.0, 4.0], [1, 0])
