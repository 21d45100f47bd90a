import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.special import gammaln, hyperu

from geocrm.errors import Invalid, NotConverged, TooLittleData
from geocrm.segmentation.clv import pareto_nbd
from geocrm.segmentation.clv.counts import Counts, collapse
from geocrm.segmentation.clv.likelihood import Estimate
from geocrm.segmentation.clv.pareto_nbd import STARTS, Likelihood, ParetoNbd
from tests.segmentation import cdnow

PUBLISHED = ParetoNbd(0.553, 10.578, 0.606, 11.669)
OTHERS = [PUBLISHED, ParetoNbd(2, 9, 1.0, 30), ParetoNbd(1.5, 40, 2.5, 4), ParetoNbd(0.5, 7, 0.8, 7)]
positive = st.floats(-2, 2).map(lambda power: 10**power)
models = st.builds(ParetoNbd, positive, positive, positive, positive)
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
def fitted(counts: Counts) -> Estimate[ParetoNbd]:
    return pareto_nbd.fit(counts)


def test_published_parameters_of_cdnow() -> None:
    """Fader, Hardie and Lee (2005), table 2."""
    made = cdnow.histories()
    fitted = pareto_nbd.fit(collapse(made.frequency, made.recency_weeks, made.t_weeks))
    assert [round(value, 3) for value in fitted.model.values] == [0.553, 10.578, 0.606, 11.669]
    assert round(fitted.log_likelihood, 1) == -9595.0


def test_every_start_leads_to_the_same_maximum(
    counts: Counts, fitted: Estimate[ParetoNbd], monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in STARTS[1:]:
        monkeypatch.setattr(pareto_nbd, "STARTS", (start,))
        np.testing.assert_allclose(pareto_nbd.fit(counts).model.values, fitted.model.values, rtol=1e-5)


def by_simpson(model: ParetoNbd, x: int, recency: float, t: float) -> float:
    """Log-likelihood of one history, its integral over log(min(α, β) + y) by Simpson's rule on 40,001 points."""
    r, alpha, s, beta = model.values
    nearer = min(alpha, beta)
    stay = -(r + x) * np.log(alpha + t) - s * np.log(beta + t)
    z, step = np.linspace(np.log(nearer + recency), np.log(nearer + t), 40_001, retstep=True)
    y = np.exp(z) - nearer
    log_part = -(r + x) * np.log(alpha + y) - (s + 1) * np.log(beta + y) + z
    highest = log_part.max()
    with np.errstate(divide="ignore"):
        leave = np.log(s) + highest + np.log(integrate.simpson(np.exp(log_part - highest), dx=step))
    return float(
        gammaln(r + x) - gammaln(r) + r * np.log(alpha) + s * np.log(beta) + np.logaddexp(stay, leave)
    )  # fmt: skip


@given(models, st.sampled_from([0, 1, 2, 7, 40, 400]), st.floats(0, 1), st.floats(0.1, 3000))
@settings(max_examples=80, deadline=None)
def test_likelihood_equals_a_fine_integration(model: ParetoNbd, x: int, share: float, t: float) -> None:
    recency = share * t if x else 0.0
    ours = pareto_nbd.log_likelihood(collapse([x], [recency], [t]), model)
    assert ours == pytest.approx(by_simpson(model, x, recency, t), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("model", OTHERS)
def test_likelihood_and_expectations_equal_those_of_lifetimes(model: ParetoNbd, counts: Counts) -> None:
    theirs = cdnow.lifetimes().ParetoNBDFitter()
    theirs.params_ = dict(zip(pareto_nbd.NAMES, model.values, strict=True))
    history = counts.frequency, counts.recency_weeks, counts.t_weeks
    each = theirs._conditional_log_likelihood(model.values, *history)
    assert pareto_nbd.log_likelihood(counts, model) == pytest.approx(float(counts.weights @ each), rel=1e-10)
    np.testing.assert_allclose(
        model.probability_alive(*history), theirs.conditional_probability_alive(*history), rtol=1e-8
    )
    if model.s == 1:  # lifetimes divides by 0
        return
    np.testing.assert_allclose(
        model.expected_purchases(39, *history),
        theirs.conditional_expected_number_of_purchases_up_to_time(39, *history),
        rtol=1e-8,
    )
    weeks = np.array([1.0, 10, 39, 500])
    np.testing.assert_allclose(
        model.expected_since_first(weeks), theirs.expected_number_of_purchases_up_to_time(weeks), rtol=1e-10
    )


def test_no_more_likely_parameters_are_found_by_lifetimes(counts: Counts, fitted: Estimate[ParetoNbd]) -> None:
    c = counts
    theirs = cdnow.lifetimes().ParetoNBDFitter()
    theirs.fit(c.frequency, c.recency_weeks, c.t_weeks, weights=c.weights)
    at_theirs = pareto_nbd.log_likelihood(counts, ParetoNbd(*theirs.params_))
    assert fitted.log_likelihood >= at_theirs
    assert fitted.log_likelihood == pytest.approx(at_theirs, rel=1e-6)


@given(histories, models)
@settings(max_examples=40, deadline=None)
def test_gradient_and_hessian_are_those_of_the_likelihood(
    rows: list[tuple[int, float, float, int]], model: ParetoNbd
) -> None:
    x, share, t, number = (np.array(column) for column in zip(*rows, strict=True))
    likelihood = Likelihood(collapse(x, np.where(x > 0, share * t, 0.0), t, number))
    values = np.array(model.values)
    value, gradient, hessian = likelihood(values)
    assert np.isfinite(value)
    assert np.isfinite(hessian).all()
    for i in range(4):
        step = values * (np.arange(4) == i) * 1e-5
        above, below = likelihood(values + step), likelihood(values - step)
        width = 2 * step[i]
        noise = 1e-11 * abs(value) / width
        assert (above[0] - below[0]) / width == pytest.approx(gradient[i], rel=1e-4, abs=noise + 1e-6)
        scale = np.abs(above[1]) + np.abs(below[1])
        terms = np.abs(hessian[i]) * 1e-4 + 1e-9 * np.abs(hessian).max() + 1e-9 * (scale + abs(value)) / width
        assert (np.abs((above[1] - below[1]) / width - hessian[i]) <= terms + 1e-8).all()


def simulate(
    model: ParetoNbd, customers: int, weeks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(x, t_x, still there at T, bought in the 26 weeks after T) by the model's story."""
    rate = rng.gamma(model.r, 1 / model.alpha, customers)
    gone_at = rng.exponential(1 / rng.gamma(model.s, 1 / model.beta, customers))
    until = np.minimum(gone_at, weeks)
    x = rng.poisson(rate * until)
    last = np.where(x > 0, until * rng.random(customers) ** (1 / np.maximum(x, 1)), 0.0)  # greatest of x uniform ones
    later = rng.poisson(rate * np.clip(gone_at - weeks, 0, 26))
    return x, last, gone_at > weeks, later


@pytest.mark.parametrize("model", [ParetoNbd(0.8, 6.0, 0.7, 15.0), ParetoNbd(1.5, 12.0, 1.0, 30.0)])
def test_expectations_equal_a_simulation(model: ParetoNbd) -> None:
    """Among simulated customers alike (by P(alive) and by purchases), the means are those expected."""
    rng = np.random.default_rng(5)
    weeks = rng.integers(20, 60, 100_000).astype(float)
    x, last, there, later = simulate(model, 100_000, weeks, rng)
    alive = model.probability_alive(x, last, weeks)
    expected = model.expected_purchases(26, x, last, weeks)
    for group in (x == 0, x == 1, (x > 1) & (alive < 0.5), (x > 1) & (alive >= 0.5)):
        for seen, said in ((there[group], alive[group]), (later[group], expected[group])):
            apart = seen.mean() - said.mean()
            assert abs(apart) < 4 * (seen - said).std() / np.sqrt(group.sum())
    new = model.expected_since_first(weeks)
    assert abs(x.mean() - new.mean()) < 4 * (x - new).std() / np.sqrt(len(x))
    among = weeks == 30
    for n in range(4):
        share = float(model.probability_of(n, 30.0)[0])
        assert abs((x[among] == n).mean() - share) < 4 * np.sqrt(share * (1 - share) / among.sum())


def test_recovers_parameters_within_their_standard_errors() -> None:
    truth = np.array([0.8, 6.0, 0.7, 15.0])
    rng = np.random.default_rng(23)
    z = []
    for _ in range(5):
        weeks = rng.integers(20, 60, 2000).astype(float)
        x, last, _, _ = simulate(ParetoNbd(*truth), 2000, weeks, rng)
        estimate = pareto_nbd.fit(collapse(x, np.round(last), weeks))
        z.append(np.log(np.array(estimate.model.values) / truth) / np.sqrt(np.diag(estimate.log_covariance)))
    spread = np.array(z)
    assert 0.5 < spread.std() < 1.5
    assert (np.abs(spread) < 1.96).mean() > 0.8


def test_probabilities_of_numbers_add_up() -> None:
    number = np.arange(3000)
    for model in OTHERS:
        share = model.probability_of(number, 39.0)
        assert share.sum() == pytest.approx(1, abs=1e-9)
        assert (share * number).sum() == pytest.approx(model.expected_since_first(39.0)[0], rel=1e-8)
    assert PUBLISHED.probability_of([0, 1], 0.0).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("model", OTHERS)
@pytest.mark.parametrize("history", [(0, 0.0, 12.0), (1, 3.0, 30.0), (25, 60.0, 70.0)])
def test_discounted_purchases_equal_numerical_integration(model: ParetoNbd, history: tuple[int, float, float]) -> None:
    def rate(w: float) -> float:
        return float(np.exp(-0.002 * w) * model.purchase_rate(w, *history)[0])

    year, _ = integrate.quad(rate, 0, 52)
    assert model.discounted_purchases(52, 0.002, *history)[0] == pytest.approx(year, rel=1e-9)
    ever, _ = integrate.quad(rate, 0, 20_000, limit=500)
    assert model.discounted_for_ever(0.002, *history)[0] == pytest.approx(ever, rel=1e-6)
    plain, _ = integrate.quad(lambda w: model.purchase_rate(w, *history)[0], 0, 52)
    assert model.expected_purchases(52, *history)[0] == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize(("x", "recency", "t"), [(0, 0.0, 77.86), (7, 35.0, 77.86), (3, 70.0, 77.86)])
def test_residual_transactions_are_the_published_formula(x: int, recency: float, t: float) -> None:
    """Fader, Hardie and Lee (2005): with Tricomi's function, over the likelihood, at 15 % a year."""
    r, alpha, s, beta = PUBLISHED.values
    rate = 0.15 / 52
    upper = r * np.log(alpha) + s * np.log(beta) + (s - 1) * np.log(rate) + gammaln(r + x + 1) - gammaln(r)
    upper += np.log(hyperu(s, s, rate * (beta + t))) - (r + x + 1) * np.log(alpha + t)
    formula = np.exp(upper - by_simpson(PUBLISHED, x, recency, t))
    assert PUBLISHED.discounted_for_ever(rate, x, recency, t)[0] == pytest.approx(formula, rel=1e-7)


def test_thousands_of_purchases_and_weeks_stay_finite() -> None:
    history = np.array([5000, 20_000, 1, 0]), np.array([9999.0, 10_000, 1e-6, 0]), np.array([1e4] * 4)
    for model in (PUBLISHED, ParetoNbd(60, 0.1, 0.01, 50), ParetoNbd(0.01, 300, 20, 0.05)):
        for answer in (model.expected_purchases(520, *history), model.probability_alive(*history)):
            assert np.isfinite(answer).all()
            assert (answer >= 0).all()
    assert PUBLISHED.expected_purchases(10, 5000, 9999.0, 1e4)[0] == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize(
    ("x", "recency", "t", "kind", "message"),
    [
        ([2], [3.0], [9.0], TooLittleData, "Pareto/NBD estimates 4 parameters"),
        ([0] * 50, [0.0] * 50, list(range(1, 51)), TooLittleData, "none of the 50 customers has bought a second time"),
        ([3] * 80, [7.0] * 80, [10.0] * 80, TooLittleData, r"there are 1 \(customers: 80\)"),
        ([0] * 9, [0.0] * 9, [0.0] * 9, TooLittleData, "on the cutoff itself"),
        ([4] * 40, list(np.linspace(5, 9, 40)), [10.0] * 40, NotConverged, "one and the same rate"),
        ([0, 1, 2, 3, 4] * 40, [0, 9.9, 9.9, 9.9, 9.9] * 40, list(np.linspace(10, 11, 200)), NotConverged, "stopped"),
    ],
)
def test_data_without_an_answer_are_told_so(
    x: list[int], recency: list[float], t: list[float], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        pareto_nbd.fit(collapse(x, recency, t))
    assert type(caught.value) is kind


def test_horizons_and_rates_are_checked() -> None:
    with pytest.raises(Invalid, match="horizon"):
        PUBLISHED.expected_purchases(-1, 1, 1, 2)
    with pytest.raises(Invalid, match="discount rate above 0"):
        PUBLISHED.discounted_for_ever(0.0, 1, 1, 2)
    with pytest.raises(Invalid, match="whole number"):
        PUBLISHED.probability_of(-1, 10)
