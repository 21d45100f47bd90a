import warnings

import numpy as np
import pandas as pd
import pytest

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.clv.counts import collapse, summarise
from tests.segmentation import cdnow


def test_collapsed_rows_stand_for_all_customers() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 4, 5000)
    t = rng.integers(1, 12, 5000).astype(float) / 7
    recency = np.where(x > 0, np.floor(t * rng.random(5000) * 7) / 7, 0.0)
    counts = collapse(x, recency, t)
    expected = pd.DataFrame({"x": x, "r": recency, "t": t}).groupby(["x", "r", "t"]).size()
    assert counts.customers == 5000
    doubled = collapse(x, recency, t, np.full(5000, 2))
    np.testing.assert_array_equal(doubled.weights, 2 * counts.weights)
    assert counts.weights.dtype == np.int64
    pd.testing.assert_series_equal(
        pd.Series(
            counts.weights,
            index=pd.MultiIndex.from_arrays(
                [counts.frequency, counts.recency_weeks, counts.t_weeks], names=["x", "r", "t"]
            ),
        ),
        expected,
    )
    for column, given in ((counts.frequency, x), (counts.recency_weeks, recency), (counts.t_weeks, t)):
        np.testing.assert_array_equal(column[counts.row], given)


def test_chunks_collapsed_apart_make_the_same_counts() -> None:
    d = cdnow.summary()
    whole = collapse(d["x"], d["t_x"], d["T"])
    parts = [collapse(p["x"], p["t_x"], p["T"]) for p in (d[:900], d[900:])]
    names = ("frequency", "recency_weeks", "t_weeks", "weights")
    merged = collapse(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
    for name in names:
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))


def test_order_of_customers_does_not_matter() -> None:
    d = cdnow.summary()
    shuffled = d.sample(frac=1, random_state=1)
    one, other = collapse(d["x"], d["t_x"], d["T"]), collapse(shuffled["x"], shuffled["t_x"], shuffled["T"])
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.recency_weeks, other.recency_weeks)


@pytest.mark.parametrize("end", [None, "2014-08-15"])
def test_summary_equals_that_of_lifetimes_on_its_own_data(end: str | None) -> None:
    bought = pd.read_csv(cdnow.file("example_transactions.csv"))
    bought["amount"] = np.random.default_rng(8).gamma(2, 20, len(bought)).round(2)
    ours = summarise(bought["id"], pd.to_datetime(bought["date"]), bought["amount"], end=end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = cdnow.lifetimes().utils.summary_data_from_transaction_data(
            bought, "id", "date", "amount", observation_period_end=end, freq="D", freq_multiplier=7
        )
    theirs = theirs.sort_index()
    np.testing.assert_array_equal(ours.customer_id, theirs.index)
    np.testing.assert_array_equal(ours.frequency, theirs["frequency"])
    np.testing.assert_allclose(ours.recency_weeks, theirs["recency"], rtol=1e-12)
    np.testing.assert_allclose(ours.t_weeks, theirs["T"], rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(ours.mean_value), ours.frequency == 0)
    np.testing.assert_allclose(np.nan_to_num(ours.mean_value), theirs["monetary_value"], rtol=1e-12)


def test_summary_equals_the_published_one_of_cdnow() -> None:
    ours = cdnow.histories()
    published = cdnow.summary()
    np.testing.assert_array_equal(ours.frequency, published["x"])
    np.testing.assert_allclose(ours.recency_weeks, published["t_x"], atol=0.006)  # published to two decimals
    np.testing.assert_allclose(ours.t_weeks, published["T"], atol=0.006)
    np.testing.assert_allclose(np.nan_to_num(ours.mean_value), published["zbar"], atol=0.006)


@pytest.mark.parametrize(
    ("x", "recency", "t", "message"),
    [
        ([1, -1], [1, 1], [2, 2], "frequency is negative in row 1"),
        ([1, 1], [1, np.nan], [2, 2], "recency_weeks is not a number in row 1"),
        ([1, 1], [1, 1], [2, np.inf], "t_weeks is not a number in row 1"),
        ([1.5, 1], [1, 1], [2, 2], "row 0 frequency is not a whole number"),
        ([1, 1], [1, 3], [2, 2], "row 1 recency_weeks is greater than t_weeks"),
        ([1, 0], [1, 1], [2, 2], "row 1 recency_weeks is not 0 although there is no repeat purchase"),
        ([1], [1, 1], [2, 2], "1 frequencies, 2 recencies"),
        ([[1]], [1], [2], "frequency has the shape"),
    ],
)
def test_bad_histories_are_refused(x: list, recency: list, t: list, message: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        collapse(x, recency, t)
    assert type(caught.value) is Invalid


def test_no_customers_is_too_little() -> None:
    with pytest.raises(TooLittleData, match="no customer with a purchase"):
        collapse([], [], [])
    with pytest.raises(TooLittleData, match="no purchase up to the cutoff"):
        summarise([1], ["2024-05-02"], end="2024-05-01")
    with pytest.raises(TooLittleData, match="no purchase up to the cutoff"):
        summarise([], np.array([], dtype="datetime64[D]"))


@pytest.mark.parametrize("weights", [[1, 0], [1, 1.5], [1]])
def test_weights_are_numbers_of_customers(weights: list[float]) -> None:
    with pytest.raises(Invalid, match="Weights are numbers of customers"):
        collapse([1, 2], [1, 1], [2, 2], weights)


def test_purchases_without_time_or_amount_are_refused() -> None:
    with pytest.raises(Invalid, match="Purchase 1 has no time"):
        summarise([1, 1], np.array(["2024-05-01", "NaT"], dtype="datetime64[D]"))
    with pytest.raises(Invalid, match="amount of purchase 0"):
        summarise([1], ["2024-05-01"], [np.nan])
    with pytest.raises(Invalid, match="give one of each a purchase"):
        summarise([1, 2], ["2024-05-01"])
