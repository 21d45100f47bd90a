"""RFM against tables computed by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import methods, rfm

NAN = float("nan")


def frame(recency: list[float], frequency: list[float], money: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"recency_days": recency, "frequency": frequency, "monetary_value": money},
        index=pd.Index(range(1, len(recency) + 1), name="customer_id"),
    )


def test_ten_customers_by_hand() -> None:
    """Recency: two in each class. Frequency: 1 ×6 (ranks 1–6, middle 3 of 10: class 2), 2 ×2 (middle 7: class 4),
    3 and 9 (8.5 and 9.5 of 10: class 5). Money: 5 ×2 (middle 1: class 1), then 10 … 80 at 2.5, 3.5 … 9.5."""
    customers = frame(
        [10, 20, 30, 40, 50, 60, 70, 80, 90, 100],
        [9, 3, 2, 1, 1, 2, 1, 1, 1, 1],
        [80, 70, 60, 5, 5, 50, 40, 30, 20, 10],
    )
    scored = rfm.score(customers, rfm.cut_by_quantiles(customers))
    assert scored["r"].tolist() == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert scored["f"].tolist() == [5, 5, 4, 2, 2, 4, 2, 2, 2, 2]
    assert scored["m"].tolist() == [5, 5, 4, 1, 1, 4, 3, 3, 2, 2]
    assert scored["fm"].tolist() == [5, 5, 4, 2, 2, 4, 3, 3, 2, 2]
    assert scored["segment"].tolist() == [
        *("Champions", "Champions", "Champions", "Potential loyalists", "About to sleep", "Loyal"),
        *("At risk", "At risk", "Lost", "Lost"),
    ]


def test_fixed_cuts_by_hand() -> None:
    cuts = rfm.RfmCuts(
        recency=rfm.fixed_cuts((365, 180, 90, 30), less_is_better=True),
        frequency=rfm.fixed_cuts((2, 3, 5, 10)),
        monetary=rfm.fixed_cuts((50, 100, 500, 1000)),
    )
    customers = frame([0, 30, 31, 180, 365, 366, NAN], [1, 2, 4, 10, 99, 0, NAN], [-5, 50, 99.99, 1000, 500, 0, NAN])
    scored = rfm.score(customers, cuts)
    assert scored["r"].tolist()[:6] == [5, 5, 4, 3, 2, 1]
    assert scored["f"].tolist()[:6] == [1, 2, 3, 5, 5, 1]
    assert scored["m"].tolist()[:6] == [1, 2, 2, 5, 4, 1]
    assert scored["fm"].tolist()[:6] == [1, 2, 3, 5, 5, 1]
    assert scored["segment"].tolist()[:6] == ["New", "Potential loyalists", "Loyal", "Loyal", "At risk", "Lost"]
    assert scored.loc[7].isna().all()


def test_five_customers_get_one_to_five() -> None:
    assert rfm.quantile_cuts([3.0, 1, 5, 2, 4]).score([1, 2, 3, 4, 5]).tolist() == [1, 2, 3, 4, 5]


def test_customers_who_are_all_the_same_are_in_the_middle() -> None:
    customers = frame([7] * 5, [2] * 5, [10] * 5)
    scored = rfm.score(customers, rfm.cut_by_quantiles(customers))
    assert (scored[["r", "f", "m", "fm"]] == 3).all(axis=None)
    assert set(scored["segment"]) == {"Need attention"}
    assert rfm.quantile_cuts([7.0]).score([7, 6, 8]).tolist() == [3, 1, 3]


def test_without_values_there_is_no_quantile() -> None:
    with pytest.raises(TooLittleData, match="at least one customer"):
        rfm.quantile_cuts([NAN, NAN])
    with pytest.raises(TooLittleData):
        rfm.cut_by_quantiles(frame([], [], []))


def test_cuts_have_to_be_in_order() -> None:
    with pytest.raises(Invalid, match="rise"):
        rfm.fixed_cuts((1, 5, 3, 9))
    with pytest.raises(Invalid, match="fall"):
        rfm.fixed_cuts((30, 90), less_is_better=True)


def test_every_pair_of_scores_has_one_segment_and_every_segment_a_pair() -> None:
    assert set(rfm.SEGMENT_OF) == {(r, fm) for r in range(1, 6) for fm in range(1, 6)}
    assert set(rfm.SEGMENT_OF.values()) == set(rfm.SEGMENTS)


@given(st.lists(st.integers(-5, 30), min_size=1, max_size=60), st.booleans(), st.integers(2, 10))
def test_scores_follow_the_definition(values: list[int], less: bool, classes: int) -> None:
    cuts = rfm.quantile_cuts(values, classes=classes, less_is_better=less)
    scores = cuts.score(values)
    for value, got in zip(values, scores, strict=True):
        below = sum((v > value) if less else (v < value) for v in values)
        ties = values.count(value)
        assert got == 1 + classes * (2 * below + ties) // (2 * len(values))
    distinct, counts = np.unique(values, return_counts=True)
    assert rfm.quantile_cuts(distinct, counts, classes=classes, less_is_better=less) == cuts


def test_every_segment_says_in_words_what_it_holds() -> None:
    said = {name: methods._rfm_words(name) for name in rfm.SEGMENTS}
    assert said["Champions"] == "bought lately, often and for much (R 4–5, FM 4–5)"
    assert said["Loyal"] == (
        "bought lately, as often and for as much as most; or bought a while ago, often and for much"
        " (R 4–5, FM 3; R 3, FM 4–5)"
    )
    words = {name: sentence.partition(" (R ")[0] for name, sentence in said.items()}
    assert len(set(words.values())) == len(rfm.SEGMENTS), "no two are said alike"
