import numpy as np
import pytest
from scipy import integrate

from geocrm.errors import Invalid
from geocrm.segmentation.clv import bg_nbd, gamma_gamma, pareto_nbd
from geocrm.segmentation.clv.counts import collapse
from geocrm.segmentation.clv.value import Expectations, customer_value, expected_purchases, weekly_rate
from tests.segmentation import cdnow

MODELS = [bg_nbd, pareto_nbd]


@pytest.fixture(scope="module", params=MODELS, ids=["BG/NBD", "Pareto/NBD"])
def purchases(request: pytest.FixtureRequest):
    d = cdnow.summary()
    return request.param.fit(collapse(d["x"], d["t_x"], d["T"]))


@pytest.fixture(scope="module")
def values():
    d = cdnow.summary()
    return gamma_gamma.fit(d["x"], d["zbar"])


@pytest.fixture(scope="module")
def held_out() -> np.ndarray:
    """Purchase days of each customer in the 39 weeks after the cutoff."""
    d = cdnow.purchases()
    after = d[d["day"] > cdnow.CUTOFF].groupby("customer")["day"].nunique()
    return after.reindex(np.arange(1, 2358), fill_value=0).to_numpy()


def test_purchases_of_the_following_weeks_are_those_expected(purchases, held_out: np.ndarray) -> None:
    """CDNOW, 39 weeks: an eighth too few purchases are expected by both models, which is 5 % of all 78 weeks'."""
    d = cdnow.summary()
    expected = expected_purchases(purchases, d["x"], d["t_x"], d["T"], horizon_weeks=39)
    assert held_out.sum() == 1882
    assert -0.13 < expected.value.sum() / held_out.sum() - 1 < -0.11
    for x in range(7):
        among = d["x"].to_numpy() == x
        error = held_out[among].std() / np.sqrt(among.sum())
        assert abs(expected.value[among].mean() - held_out[among].mean()) < 5 * error
    assert np.corrcoef(expected.value, held_out)[0, 1] > 0.6


def test_value_is_the_discounted_integral_of_the_rate(purchases, values) -> None:
    worth = customer_value(
        purchases, values, [0, 2, 9], [0, 30.43, 35.0], [30, 38.86, 38.86], [np.nan, 22.35, 60.0],
        horizon_weeks=104, discount_a_year=0.15,
    )  # fmt: skip
    rate = np.log(1.15) * 7 / 365.2425
    for i, (x, recency, t, mean) in enumerate([(0, 0, 30, np.nan), (2, 30.43, 38.86, 22.35), (9, 35.0, 38.86, 60.0)]):
        total, _ = integrate.quad(
            lambda w, *history: np.exp(-rate * w) * purchases.model.purchase_rate(w, *history)[0], 0, 104,
            args=(x, recency, t),
        )  # fmt: skip
        assert worth.value[i] == pytest.approx(total * values.model.expected_value(x, mean)[0], rel=1e-8)


def test_value_by_month_is_near_that_of_lifetimes(purchases, values) -> None:
    """lifetimes discounts by months, at their ends: with the same monthly rate the sums differ by half a month."""
    package = cdnow.lifetimes()
    fitter = package.BetaGeoFitter() if purchases.names[2] == "a" else package.ParetoNBDFitter()
    fitter.params_ = dict(zip(purchases.names, purchases.model.values, strict=True))
    fitter.predict = fitter.conditional_expected_number_of_purchases_up_to_time
    d = cdnow.summary()[lambda d: d["x"] > 0]
    spent = package.GammaGammaFitter()
    spent.params_ = dict(zip("pqv", values.model.values, strict=True))
    with np.errstate(divide="ignore"):
        theirs = spent.customer_lifetime_value(fitter, d["x"], d["t_x"], d["T"], d["zbar"], 12, 0.01, "W")
    ours = customer_value(
        purchases, values, d["x"], d["t_x"], d["T"], d["zbar"],
        horizon_weeks=12 * 4.345, discount_a_year=1.01**12 - 1,
    )  # fmt: skip
    assert ours.value.sum() == pytest.approx(theirs.sum() * 1.01**0.5, rel=2e-3)
    np.testing.assert_allclose(ours.value, theirs * 1.01**0.5, rtol=0.03)


def test_no_discount_is_plain_expectation(purchases) -> None:
    d = cdnow.summary()[:200]
    plain = expected_purchases(purchases, d["x"], d["t_x"], d["T"], horizon_weeks=52)
    nearly = expected_purchases(purchases, d["x"], d["t_x"], d["T"], horizon_weeks=52, discount_a_year=1e-9)
    np.testing.assert_allclose(plain.value, nearly.value, rtol=1e-7)
    np.testing.assert_allclose(plain.standard_error, nearly.standard_error, rtol=1e-4)
    assert weekly_rate(0.1) * 365.2425 / 7 == pytest.approx(np.log(1.1))


def test_standard_errors_are_the_spread_over_parameters_drawn(purchases, values) -> None:
    """The delta method against 800 parameter vectors drawn from the normal distribution of their logarithms."""
    rng = np.random.default_rng(4)
    x, recency, t, mean = (
        np.array([0, 1, 4, 12]), np.array([0, 5.0, 38, 38]), np.array([38.86] * 4), np.array([np.nan, 20, 35, 50]),
    )  # fmt: skip
    worth = customer_value(purchases, values, x, recency, t, mean, horizon_weeks=52, discount_a_year=0.1)
    drawn = []
    one, two = (rng.multivariate_normal(np.log(e.model.values), e.log_covariance, 800) for e in (purchases, values))
    rate = weekly_rate(0.1)
    for a, b in zip(np.exp(one), np.exp(two), strict=True):
        model = type(purchases.model)(*a)
        coming = model.discounted_purchases(52, rate, x, recency, t)
        drawn.append(coming * type(values.model)(*b).expected_value(x, mean))
    log_spread = np.log(np.array(drawn)).std(axis=0)
    np.testing.assert_allclose(worth.standard_error / worth.value, log_spread, rtol=0.12)
    both = worth.totals(["a", "a", "b", "b"])
    sums = np.array(drawn)
    for i, columns in enumerate(([0, 1], [2, 3])):
        spread = np.log(sums[:, columns].sum(axis=1)).std()
        assert both.standard_error[i] / both.total[i] == pytest.approx(spread, rel=0.12)


def test_totals_add_up_and_errors_do_not_even_out(purchases) -> None:
    d = cdnow.summary()
    expected = expected_purchases(purchases, d["x"], d["t_x"], d["T"], horizon_weeks=39)
    group = np.where(d["x"] == 0, "once", "again")
    totals = expected.totals(group)
    assert totals.group.tolist() == ["again", "once"]
    assert totals.customers.tolist() == [946, 1411]
    for i, name in enumerate(totals.group):
        among = group == name
        assert totals.total[i] == pytest.approx(expected.value[among].sum())
        assert totals.standard_error[i] > np.sqrt((expected.standard_error[among] ** 2).sum())
        assert totals.standard_error[i] <= expected.standard_error[among].sum() * (1 + 1e-9)
        assert totals.lower[i] < totals.total[i] < totals.upper[i]
    lower, upper = expected.interval(0.8)
    assert (lower > 0).all()
    assert (lower < expected.value).all()
    assert (expected.value < upper).all()


def test_nobody_is_worth_nothing(purchases, values) -> None:
    worth = customer_value(purchases, values, [], [], [], [], horizon_weeks=52, discount_a_year=0.1)
    assert worth.value.shape == (0,)
    assert worth.totals([]).total.shape == (0,)


def test_input_is_checked(purchases, values) -> None:
    for discount in (-0.1, np.nan):
        with pytest.raises(Invalid, match="discount"):
            expected_purchases(purchases, 1, 1, 2, horizon_weeks=5, discount_a_year=discount)
    with pytest.raises(Invalid, match="horizon"):
        expected_purchases(purchases, [1], [1], [2], horizon_weeks=-5)
    with pytest.raises(Invalid, match="mean value of 0 or less"):
        customer_value(purchases, values, [1], [1], [2], [-3.0], horizon_weeks=5, discount_a_year=0.1)
    some = Expectations(np.ones(3), np.zeros((3, 4)), np.eye(4))
    with pytest.raises(Invalid, match="labels"):
        some.totals(["a"])
    with pytest.raises(Invalid, match="level"):
        some.interval(95)
