"""The churn rate of the year against tables reckoned by hand, and its intervals against SciPy's own distributions."""

import numpy as np
import pytest
from scipy import stats

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.churn_rate import Book, Spells, churn_rates, count_year
from geocrm.spatial import intervals

NAT = np.datetime64("NaT", "s")
YEAR = {"start": "2025-01-01", "end": "2026-01-01"}


def spells(*rows: tuple[int, str, str | None]) -> Spells:
    customer, began, ended = zip(*rows, strict=True)
    return Spells(
        np.array(customer), np.array(began, "datetime64[s]"), np.array([e or "NaT" for e in ended], "datetime64[s]")
    )


def test_books_of_two_regions_by_hand() -> None:
    given = spells(
        (1, "2020-05-01", None),  # stays
        (2, "2020-05-01", "2025-07-02"),  # leaves after 182 days of the year
        (3, "2025-07-02", None),  # joins: 183 days
        (4, "2025-02-01", "2025-03-01"),  # joins and leaves: 28 days
        (5, "2020-05-01", "2025-03-01"),  # away for March, then back: not lost; 59 + 275 days
        (5, "2025-04-01", None),
        (6, "2019-01-01", "2024-12-31"),  # gone before the year
        (7, "2026-01-01", None),  # joins after it
        (8, "2020-05-01", "2025-01-01"),  # leaves with its first moment: 0 days
    )
    north, south = count_year(given, ["N", "N", "N", "S", "S", "S", "S", "S", "N"], **YEAR)
    assert north == Book("N", opening=3, joined=1, left=2, left_of_opening=2, closing=2, customer_days=365 + 182 + 183)
    assert south == Book("S", opening=1, joined=1, left=1, left_of_opening=0, closing=1, customer_days=28 + 334)
    by_days, _, total = churn_rates((north, south))
    assert by_days.average == pytest.approx(2.0)
    assert by_days.rate == pytest.approx(1.0)
    assert by_days.opening_share == pytest.approx(2 / 3)
    assert total.book == Book("all regions", 4, 2, 3, 2, 3, 730 + 362)
    assert total.rate == pytest.approx(3 / (1092 / 365))
    by_ends = churn_rates((north, south), average="ends")
    assert by_ends[0].rate == pytest.approx(2 / 2.5)
    assert by_ends[2].rate == pytest.approx(3 / 3.5)


def test_hand_table_of_a_steady_and_a_growing_region() -> None:
    steady = Book("steady", opening=100, joined=20, left=20, left_of_opening=18, closing=100, customer_days=36_500)
    growing = Book("growing", opening=100, joined=150, left=30, left_of_opening=20, closing=220, customer_days=58_400)
    calm, grown, _ = churn_rates((steady, growing))
    assert (calm.rate, calm.opening_share) == pytest.approx((0.20, 0.18))
    assert not calm.distorted
    assert not calm.notes
    assert (grown.average, grown.rate, grown.opening_share) == pytest.approx((160, 0.1875, 0.20))
    assert grown.distorted
    assert "grew: 100 at the opening, 160.0 on average" in grown.sentence
    assert (calm.opening_low, calm.opening_high) == pytest.approx(tuple(stats.binomtest(18, 100).proportion_ci()))
    low, high = stats.chi2.ppf(0.025, 40) / 2, stats.chi2.ppf(0.975, 42) / 2
    assert (calm.rate_low, calm.rate_high) == pytest.approx((low / 100, high / 100))
    shrinking = Book("shrinking", opening=100, joined=0, left=60, left_of_opening=60, closing=40, customer_days=25_550)
    assert "shrank" in churn_rates((shrinking,))[0].sentence
    assert churn_rates((growing,), growth=0.5)[0].notes == ()


def test_nobody_only_new_ones_and_a_few() -> None:
    nobody = Book("empty", 0, 0, 0, 0, 0, 0.0)
    new = Book("new", opening=0, joined=40, left=4, left_of_opening=0, closing=36, customer_days=7_300)
    few = Book("few", opening=5, joined=0, left=1, left_of_opening=1, closing=4, customer_days=1_700)
    passing = Book("passing", opening=0, joined=3, left=3, left_of_opening=0, closing=0, customer_days=90)
    empty, fresh, little, _, _ = churn_rates((nobody, new, few, passing))
    assert np.isnan([empty.rate, empty.rate_low, empty.opening_share, empty.opening_low]).all()
    assert empty.sentence == "empty: no customers in this year, so there is no rate."
    assert fresh.rate == pytest.approx(0.2)
    assert np.isnan([fresh.opening_share, fresh.opening_high]).all()
    assert "All customers are new" in fresh.sentence
    assert little.small
    assert "Only 5 customers" in little.sentence
    assert little.opening_low < 0.01
    assert little.opening_high > 0.7
    both_ends = churn_rates((passing,), average="ends")[0]
    assert np.isnan(both_ends.rate)
    assert "3 came and left within it" in both_ends.sentence
    with pytest.raises(TooLittleData, match="needs customers"):
        churn_rates(())


def test_books_that_do_not_balance_and_spells_that_cannot_be() -> None:
    with pytest.raises(Invalid, match="do not balance"):
        churn_rates((Book("N", opening=10, joined=5, left=3, left_of_opening=3, closing=10, customer_days=1.0),))
    with pytest.raises(Invalid, match="do not balance"):
        churn_rates((Book("N", opening=1, joined=5, left=3, left_of_opening=2, closing=3, customer_days=1.0),))
    with pytest.raises(Invalid, match="overlap"):
        count_year(spells((1, "2024-01-01", None), (1, "2025-01-01", None)), ["N", "N"], **YEAR)
    with pytest.raises(Invalid, match="two regions"):
        count_year(spells((1, "2024-01-01", "2024-02-01"), (1, "2025-01-01", None)), ["N", "S"], **YEAR)
    with pytest.raises(Invalid, match="ends before it begins"):
        count_year(spells((1, "2024-01-01", "2023-02-01")), ["N"], **YEAR)
    with pytest.raises(Invalid, match="before it starts"):
        count_year(spells((1, "2024-01-01", None)), ["N"], start="2025-01-01", end="2024-01-01")


def test_books_balance_and_agree_with_counting_customer_by_customer() -> None:
    draw = np.random.default_rng(5)
    n = 400
    who = np.repeat(np.arange(n), 2)
    first = np.datetime64("2023-01-01") + draw.integers(0, 900, n)
    gone = first + draw.integers(1, 500, n)
    back = gone + draw.integers(0, 300, n)
    began = np.column_stack([first, back]).ravel()
    ended = np.column_stack([gone, np.where(draw.random(n) < 0.5, NAT, back + draw.integers(0, 400, n))]).ravel()
    kept = (np.tile([True, False], n)) | (draw.random(2 * n) < 0.5)
    region = draw.choice(["a", "b", "c"], n)
    found = count_year(Spells(who[kept], began[kept], ended[kept]), region[who[kept]], **YEAR)
    days = np.arange(np.datetime64("2025-01-01"), np.datetime64("2026-01-01"))
    for book in found:
        opening = joined = left = left_of_opening = closing = total = 0
        for customer in np.flatnonzero(region == book.region):
            own = np.flatnonzero(kept & (who == customer))
            there = np.zeros(len(days), dtype=bool)
            at_start = touched = at_end = False
            for k in own:
                until = np.datetime64("2100-01-01") if np.isnat(ended[k]) else ended[k]
                there |= (days >= began[k]) & (days < until)
                at_start |= bool(began[k] < days[0] <= until)
                touched |= bool(began[k] <= days[-1] and until >= days[0])
                at_end |= bool(began[k] <= days[-1] < until)
            opening, closing, total = opening + at_start, closing + at_end, total + int(there.sum())
            joined, left = joined + (touched and not at_start), left + (touched and not at_end)
            left_of_opening += at_start and not at_end
        assert book == Book(book.region, opening, joined, left, left_of_opening, closing, total)
        assert book.opening + book.joined - book.left == book.closing


def test_intervals_agree_with_scipy_and_cover() -> None:
    for hits, trials in ((0, 7), (3, 7), (7, 7), (180, 1_000)):
        low, high = intervals.of_share(hits, trials, 0.9)
        assert (low, high) == pytest.approx(tuple(stats.binomtest(hits, trials).proportion_ci(0.9)))
    low, high = intervals.of_rate([0, 5], [10.0, 10.0])
    assert low.tolist() == pytest.approx([0.0, stats.chi2.ppf(0.025, 10) / 20])
    assert high.tolist() == pytest.approx([stats.chi2.ppf(0.975, 2) / 20, stats.chi2.ppf(0.975, 12) / 20])
    assert np.isnan(intervals.of_rate(1, 0.0)).all()
    assert intervals.of_share(0, 0) == (0.0, 1.0)
    for wrong in ((5, 3), (-1, 3)):
        with pytest.raises(Invalid, match="share"):
            intervals.of_share(*wrong)
    with pytest.raises(Invalid, match="level"):
        intervals.of_share(1, 3, 1.0)
