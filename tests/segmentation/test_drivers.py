"""Drivers: contributions add up and are Shapley's, importance asks for features and not for columns."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import classifiers, drivers
from geocrm.segmentation.classifiers import Boosting, Logistic, fit_boosting, fit_logistic, gather
from tests.segmentation.leaving import DESCRIBED, Column, leave

FEW = tuple(each for each in DESCRIBED if each.name in ("complaints", "recency_days", "plan", "basket_value"))


def fitted(kind: str, seed: int = 1, customers: int = 600) -> tuple[Logistic | Boosting, pd.DataFrame]:
    world = leave(seed, customers)
    features = gather(world.frame, FEW)
    if kind == "logistic":
        return fit_logistic(world.frame, world.outcome, features, (5.0,), seed=1)[0], world.frame
    return fit_boosting(world.frame, world.outcome, features, 40, seed=1), world.frame


def shapley(model: Logistic | Boosting, own: pd.DataFrame, others: pd.DataFrame) -> np.ndarray:
    """By the definition, over all subsets of features; the value of a subset is the mean score of the others with the
    customer's own values in it."""
    names = [feature.name for feature in model.features]

    def value(subset: tuple[str, ...]) -> float:
        mixed = others.copy()
        for name in subset:
            mixed[name] = (
                pd.Categorical([own[name].iloc[0]] * len(mixed), categories=others[name].cat.categories)
                if (name == "plan")
                else own[name].iloc[0]
            )
        return float(model.score(mixed).mean())

    values = {s: value(s) for size in range(len(names) + 1) for s in itertools.combinations(names, size)}
    found = np.zeros(len(names))
    for at, name in enumerate(names):
        rest = [other for other in names if other != name]
        for size in range(len(rest) + 1):
            weight = math.factorial(size) * math.factorial(len(names) - size - 1) / math.factorial(len(names))
            for subset in itertools.combinations(rest, size):
                with_ = tuple(each for each in names if each in (*subset, name))
                found[at] += weight * (values[with_] - values[subset])
    return found


def test_contributions_of_trees_add_up_and_are_shapleys() -> None:
    model, frame = fitted("boosting")
    asked, others = frame.iloc[:6], frame.iloc[100:150]
    made = drivers.contributions(model, asked, others, seed=3)
    np.testing.assert_allclose(made.score, model.score(asked), atol=1e-9)
    assert made.base == pytest.approx(float(model.score(others).mean()))
    true = np.array([shapley(model, asked.iloc[[row]], others) for row in range(len(asked))])
    away = np.abs(made.added - true)
    assert (away <= 4 * made.error + 1e-9).all()
    assert away.max() < 0.15
    assert np.abs(true).max() > 0.5
    one = drivers.contributions(model, asked, others, seed=3)
    np.testing.assert_array_equal(made.added, one.added)


def test_contributions_of_a_linear_model_are_exact() -> None:
    model, frame = fitted("logistic")
    made = drivers.contributions(model, frame, frame, seed=1)
    np.testing.assert_allclose(made.score, model.score(frame), atol=1e-9)
    np.testing.assert_allclose(made.added.mean(axis=0), 0, atol=1e-9)  # against the average customer
    np.testing.assert_allclose(made.added[0], shapley(model, frame.iloc[[0]], frame), atol=1e-9)
    assert not made.error.any()


@pytest.mark.parametrize("kind", ["logistic", "boosting"])
def test_importance_is_of_features_as_the_reader_knows_them(kind: str) -> None:
    model, _ = fitted(kind)
    fresh = leave(77, 1_500)
    shares = pd.DataFrame({"channel_share.web": 0.4, "channel_share.shop": 0.6}, index=fresh.frame.index)
    assert {
        each.name
        for each in gather(fresh.frame.join(shares), (*FEW, *(Column(name, "share", name) for name in shares)))
    } == {*(each.name for each in FEW), "channel_share"}
    found = drivers.importance(
        [(model, np.arange(1_500))], fresh.frame, fresh.outcome, model.features, np.arange(1_500), seed=1
    )
    assert [each.feature.name for each in found][:2] == ["complaints", "recency_days"]
    assert {each.feature.name for each in found} == {each.name for each in FEW}
    assert all(each.low <= each.loss <= each.high for each in found)
    assert found[0].low > 0
    assert found[-1].low < 0.002


def test_sentences_say_values_and_units() -> None:
    frame = pd.DataFrame(
        {"recency_days": [240.0, 1.5], "plan": ["gold", None], "web_share": [0.783, np.nan], "is_organisation": [1, 0],
         "category_share.Climb": [0.9, 0.1], "category_share.Ride": [0.1, 0.9]},
        index=pd.Index([7, 8], name="customer_id"),
    )  # fmt: skip
    columns = (
        Column("recency_days", "days", "since the last order"), Column("plan", "word", "plan of the contract"),
        Column("web_share", "share", "orders on the web"), Column("is_organisation", "0 or 1", "an organisation"),
        Column("category_share.Climb", "share", "…"), Column("category_share.Ride", "share", "…"),
    )  # fmt: skip
    features = gather(frame, columns)
    added = np.array([[1.0, -0.5, 0.1, 0.2, 0.6], [0.01, 0.0, 0.3, 0.0, -0.1]])
    error = np.zeros_like(added)
    error[1, 2] = 0.2  # may be nothing at all
    made = drivers.Contributions(features, frame.index, added, error, -1.0, "by hand")
    first, second = drivers.sentences(made, frame, drivers.typical(frame, features), most=5)
    assert first == [
        "Since the last order: 240 days (typically 121 days) raises the odds of leaving 2.7 times.",
        "Shares of each category, Climb: 90% (typically 50%) raises the odds of leaving by 82%.",
        "Plan of the contract: gold (as is typical) lowers the odds of leaving by 39%.",
        "An organisation: yes (typically no) raises the odds of leaving by 22%.",
        "Orders on the web: 78% (as is typical) raises the odds of leaving by 11%.",
    ]
    assert second == ["Shares of each category, Climb: 10% (typically 50%) lowers the odds of leaving by 10%."]
    with pytest.raises(Invalid, match="the frame that"):
        drivers.sentences(made, frame.iloc[:1], {})


def test_what_cannot_be_is_refused() -> None:
    model, frame = fitted("boosting")
    with pytest.raises(TooLittleData, match="no customer"):
        drivers.contributions(model, frame.iloc[:0], frame, seed=1)
    with pytest.raises(TooLittleData, match="at least 2"):
        drivers.contributions(model, frame, frame.iloc[:1], seed=1)
    with pytest.raises(Invalid, match="named twice"):
        gather(frame, (FEW[0], FEW[0]))
    with pytest.raises(Invalid, match="lacks the columns x"):
        gather(frame, (Column("x", "", ""),))
    with pytest.raises(Invalid, match="at least one"):
        gather(frame, ())
    unseen = frame.iloc[:3].assign(plan=["platinum", None, "gold"], basket_value=np.inf)
    for either in (model, fitted("logistic")[0]):
        assert np.isfinite(either.score(unseen)).all()
    assert classifiers.FAMILIES == ("channel_share", "category_share")
