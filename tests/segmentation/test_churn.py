"""Churn: true probabilities lie within the intervals, nothing leaks, and small companies get honest answers."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import churn, classifiers, validation
from geocrm.segmentation.calibration import Curve
from geocrm.segmentation.churn import Labels, at_cutoff, fit, labels_of_contracts, labels_of_orders
from tests.segmentation.leaving import CUTOFF, DESCRIBED, DRIVERS, WINDOW_DAYS, Leaving, buy, leave


def folds_of(world: Leaving, seed: int, size_m: float = 15_000.0) -> validation.Folds:
    return validation.make_folds(world.places, size_m, seed=seed, buffer_m=1_000)


def truth_within(curve: Curve, predicted: pd.DataFrame, truth: np.ndarray) -> bool:
    """Whether the mean true probability of the customers of each bin lies within their mean interval."""
    p, low, high = (predicted[name].to_numpy() for name in ("probability", "low", "high"))
    at = np.searchsorted([each.most for each in curve.bins][:-1], p)
    return all(
        low[at == number].mean() <= truth[at == number].mean() <= high[at == number].mean() for number in np.unique(at)
    )


def in_order(model: churn.ChurnModel) -> bool:
    """Whether the planted drivers stand in their order, before all others."""
    return tuple(each.feature.name for each in model.drivers)[: len(DRIVERS)] == DRIVERS


# --- labels


def moment(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def test_labels_by_hand() -> None:
    before = pd.Series({1: 1.0, 2: 4.0, 3: 2.0, 4: 1.0, 5: 3.0})
    after = pd.Series({5: 3.0, 1: 2.0, 2: 5.0, 4: 1.0, 6: 1.0})
    window = {"cutoff": moment("2025-01-01"), "window_days": 90, "known_until": moment("2025-04-01")}
    labels = labels_of_orders(before, after, **window)
    assert labels.left.to_dict() == {1: 0, 2: 0, 4: 1, 5: 1}  # the third was erased meanwhile, the sixth came later
    assert labels.definition == "no order in the 90 days from 2025-01-01"
    with pytest.raises(Invalid, match="Customer 2 has fewer orders"):
        labels_of_orders(before, after - (after.index == 2) * 2.0, **window)
    ended = pd.Series(pd.to_datetime(["2024-12-31", "2025-01-01", "2025-03-31", "2025-04-01", None], utc=True))
    contracts = labels_of_contracts(
        ended, cutoff=moment("2025-01-01"), window_days=90, known_until=moment("2025-04-01")
    )
    assert contracts.left.to_dict() == {1: 1, 2: 1, 3: 0, 4: 0}  # the first had ended before
    assert contracts.share == 0.5
    with pytest.raises(Invalid, match="is not known on 2025-03-31"):
        labels_of_contracts(ended, cutoff=moment("2025-01-01"), window_days=90, known_until=moment("2025-03-31"))
    with pytest.raises(Invalid, match="with its zone"):
        labels_of_contracts(ended, cutoff=datetime(2025, 1, 1), window_days=90, known_until=moment("2025-04-01"))  # noqa: DTZ001
    with pytest.raises(Invalid, match="more than 0 days"):
        labels_of_contracts(ended, cutoff=moment("2025-01-01"), window_days=0, known_until=moment("2025-04-01"))


def test_features_that_know_the_future_are_refused() -> None:
    world = leave(1, 300)
    for late in (CUTOFF + timedelta(seconds=1), CUTOFF + timedelta(days=30)):
        with pytest.raises(Invalid, match="they would know who left"):
            fit(at_cutoff(world.frame, late), world.labels, DESCRIBED, seed=1)
    bare = world.frame.copy()
    bare.attrs = {}
    with pytest.raises(Invalid, match="mark them with at_cutoff"):
        fit(bare, world.labels, DESCRIBED, seed=1)
    model = fit(at_cutoff(world.frame, CUTOFF - timedelta(days=7)), world.labels, DESCRIBED, seed=1)
    with pytest.raises(Invalid, match="mark them with at_cutoff"):
        model.predict(bare)
    sooner = (world.frame, Labels(CUTOFF + timedelta(days=179), WINDOW_DAYS, "", world.labels.left))
    with pytest.raises(Invalid, match="the end of the window of the earlier one"):
        fit(world.frame, world.labels, DESCRIBED, seed=1, later=sooner)
    other = (world.frame, Labels(CUTOFF + timedelta(days=400), 90, "", world.labels.left))
    with pytest.raises(Invalid, match="take one length"):
        fit(world.frame, world.labels, DESCRIBED, seed=1, later=other)


def test_labels_do_not_reach_who_is_tested() -> None:
    """Outcomes of one fold turned round change no held-out prediction of it by the models that it was kept from."""
    world = leave(2, 400)
    folds = folds_of(world, 1)
    predict = churn.predictor(DESCRIBED, seed=1)
    before = validation.out_of_fold(world.frame, world.outcome, folds, predict)
    turned = np.where(folds.fold == 0, 1 - world.outcome, world.outcome)
    after = validation.out_of_fold(world.frame, turned, folds, predict)
    np.testing.assert_array_equal(before[folds.fold == 0], after[folds.fold == 0])
    assert (before[folds.fold == 1] != after[folds.fold == 1]).any()


# --- contracts


@pytest.mark.parametrize("seed", [1, 2])
def test_true_probabilities_lie_within_the_intervals(seed: int) -> None:
    world, fresh = leave(seed, 1_500, place=0.3), leave(seed + 1_000, 4_000, place=0.3)
    model = fit(world.frame, world.labels, DESCRIBED, seed=seed, folds=folds_of(world, seed), kinds=["logistic"])
    assert truth_within(model.evaluation.curve, model.predict(fresh.frame), fresh.probability)
    assert [each.feature.name for each in model.drivers][:2] == list(DRIVERS[:2])
    assert model.evaluation.gain.verdict == "helps"
    assert model.evaluation.roc.low > 0.7
    assert "blocks of 15.0 km held out" in model.evaluation.how


@pytest.mark.soak
@pytest.mark.parametrize("customers", [3_000, 12_000])
def test_true_probabilities_lie_within_the_intervals_over_twenty_seeds(customers: int) -> None:
    """With 3,000 calibration is Platt's, with 12,000 isotonic."""
    within, ordered, said = 0, 0, []
    for seed in range(20):
        world, fresh = leave(seed, customers, place=0.3), leave(seed + 1_000, 20_000, place=0.3)
        model = fit(world.frame, world.labels, DESCRIBED, seed=seed, folds=folds_of(world, seed))
        within += truth_within(model.evaluation.curve, model.predict(fresh.frame), fresh.probability)
        ordered += in_order(model)
        said.append((model.kind, model.calibrator.method))
    print(f"{customers} customers: within {within} of 20, drivers in order {ordered} of 20, {set(said)}")
    assert within >= 18
    assert ordered >= 18


def test_trees_are_taken_only_where_they_gain() -> None:
    world = leave(3, 1_200)
    crossed = (world.frame["complaints"] > 0) ^ (world.frame["recency_days"] > 40)  # no sum of features tells this
    left = (np.random.default_rng(1).random(1_200) < np.where(crossed, 0.7, 0.15)).astype(float)
    labels = Labels(CUTOFF, WINDOW_DAYS, "", pd.Series(left, index=world.frame.index))
    trees = fit(world.frame, labels, DESCRIBED[:2], seed=1, folds=folds_of(world, 1))
    assert trees.kind == "boosting"
    assert "Boosting helps" in " ".join(trees.notes)
    explained = trees.contributions(world.frame.iloc[:3])
    np.testing.assert_allclose(explained.score, trees.classifier.score(world.frame.iloc[:3]), atol=1e-9)
    plain = fit(world.frame, world.labels, DESCRIBED[:2], seed=1, folds=folds_of(world, 1))
    assert plain.kind == "logistic"
    assert "by boosted trees" in plain.notes[0]


def test_ridge_is_that_of_scikit_learn() -> None:
    world = leave(4, 500)
    features = classifiers.gather(world.frame, DESCRIBED)
    for model in classifiers.fit_logistic(world.frame, world.outcome, features, (0.5, 50.0), seed=1):
        judge = LogisticRegression(C=1 / model.penalty, tol=1e-10, max_iter=1_000)
        judge.fit(model.prepared(world.frame), world.outcome)
        np.testing.assert_allclose(model.slopes, judge.coef_[0], atol=1e-5)
        np.testing.assert_allclose(model.intercept, judge.intercept_[0], atol=1e-5)


def test_a_seed_gives_the_same_bits() -> None:
    world = leave(5, 600)
    first, second = (fit(world.frame, world.labels, DESCRIBED, seed=9, folds=folds_of(world, 9)) for _ in range(2))
    pd.testing.assert_frame_equal(first.predict(world.frame), second.predict(world.frame), check_exact=True)
    assert first.drivers == second.drivers
    assert first.notes == second.notes
    assert first.evaluation.roc == second.evaluation.roc


def test_out_of_time_and_out_of_place() -> None:
    """Learnt in one window, calibrated and tested in the next, in which twice as many leave."""
    world = leave(6, 1_500)
    next_year = leave(6, 1_500, cutoff=CUTOFF + timedelta(days=365), level=0.7)
    later = (next_year.frame, next_year.labels)
    model = fit(world.frame, world.labels, DESCRIBED, seed=1, folds=folds_of(world, 1), later=later, kinds=["logistic"])
    assert "in the window from 2026-01-01" in model.evaluation.how
    fresh = leave(99, 4_000, level=0.7)
    assert truth_within(model.evaluation.curve, model.predict(fresh.frame), fresh.probability)
    alone = fit(world.frame, world.labels, DESCRIBED, seed=1, folds=folds_of(world, 1), kinds=["logistic"])
    assert not truth_within(alone.evaluation.curve, alone.predict(fresh.frame), fresh.probability)


def test_five_fifty_and_five_hundred_customers() -> None:
    five, fifty, many = leave(1, 5), leave(1, 50), leave(1, 500)
    with pytest.raises(TooLittleData, match=r"of 5 customers left .* That share is all that can be said"):
        fit(five.frame, five.labels, DESCRIBED, seed=1)
    with pytest.raises(TooLittleData, match="at least 20 who left and 20 who stayed") as told:
        fit(fifty.frame, fifty.labels, DESCRIBED, seed=1)
    assert told.value.extra["low"] < told.value.extra["share"] < told.value.extra["high"]
    model = fit(many.frame, many.labels, DESCRIBED, seed=1, folds=folds_of(many, 1))
    assert model.kind == "logistic"
    assert any("boosted trees need 200" in note for note in model.notes)
    predicted = model.predict(many.frame)
    assert (predicted["high"] - predicted["low"]).median() > 0.15  # and says how little it knows
    with pytest.raises(TooLittleData, match="there is none"):
        fit(five.frame.iloc[:0], five.labels, DESCRIBED, seed=1)
    everybody = Labels(CUTOFF, WINDOW_DAYS, "x", pd.Series(1.0, index=many.frame.index))
    with pytest.raises(TooLittleData, match="500 of 500 customers left"):
        fit(many.frame, everybody, DESCRIBED, seed=1)
    assert len(model.predict(many.frame.iloc[:0])) == 0


def test_features_that_say_nothing() -> None:
    world = leave(8, 800)
    draw = np.random.default_rng(8)
    noise = at_cutoff(pd.DataFrame({"complaints": draw.normal(size=800)}, index=world.frame.index), CUTOFF)
    model = fit(noise, world.labels, DESCRIBED[:1], seed=1, folds=folds_of(world, 1))
    assert model.evaluation.gain.verdict != "helps"
    assert model.evaluation.roc.low < 0.55
    assert model.predict(noise)["probability"].std() < 0.03
    with pytest.raises(TooLittleData, match="No feature tells"):
        fit(at_cutoff(noise * 0, CUTOFF), world.labels, DESCRIBED[:1], seed=1)


# --- shops


def shop(seed: int, customers: int) -> tuple[churn.ShopModel, pd.DataFrame, np.ndarray]:
    cutoffs = tuple(moment(day) for day in ("2024-07-01", "2024-12-31", "2025-07-02"))
    frames, truths, orders = buy(seed, customers, cutoffs=cutoffs, window_days=182, since=moment("2017-07-01"))
    labels = [
        labels_of_orders(
            *(orders[orders["at"] < until].groupby("customer_id").size().reindex(frame.index).astype(float)
              for until in (cutoff, cutoff + timedelta(days=182))),
            cutoff=cutoff, window_days=182, known_until=moment("2026-01-01"),
        )
        for frame, cutoff in zip(frames, cutoffs, strict=True)
    ]  # fmt: skip
    model = churn.fit_shops(frames[0], labels[0], (frames[1], labels[1]), seed=seed)
    return model, frames[2], truths[2]


def test_shops_say_who_will_not_order() -> None:
    """Learnt in one half year, calibrated in the next, right in the third, though neither model's assumptions hold."""
    model, frame, truth = shop(1, 3_000)
    predicted = model.predict(frame)
    assert truth_within(model.churn.evaluation.curve, predicted, truth)
    assert np.corrcoef(predicted["probability"], truth)[0, 1] > 0.6
    raw = churn.with_rhythm(frame, model.purchases, 182)
    assert (raw["no_order"] >= 1 - raw["p_alive"] - 1e-12).all()
    late = (frame["t_weeks"] - frame["recency_weeks"]) * 7
    assert (predicted["overdue_days"] < late).all()
    told = " ".join(itself for told in model.explain(frame.iloc[:50]) for itself in told)
    assert "Time since the last purchase over its own usual gap" in told


def test_no_order_of_bg_nbd_by_simulation() -> None:
    """Customers drawn from the model itself: the share without an order among those with like histories."""
    draw = np.random.default_rng(1)
    n, t, window = 200_000, 26.0, 20.0
    rate, leave_after = draw.gamma(0.8, 1 / 6.0, n), draw.beta(1.2, 3.0, n)
    last, count, there, now = np.zeros(n), np.zeros(n), np.ones(n, dtype=bool), np.zeros(n)
    silent = np.ones(n, dtype=bool)
    while there.any():
        now = now + draw.exponential(1 / rate)
        bought = there & (now <= t)
        count, last = count + bought, np.where(bought, now, last)
        silent &= ~(there & (now > t) & (now <= t + window))
        there &= (now <= t) & ~(draw.random(n) < leave_after)
    frame = pd.DataFrame({"repeat_frequency": count, "recency_weeks": last, "t_weeks": t})
    made = churn.with_rhythm(frame, churn.BgNbd(0.8, 6.0, 1.2, 3.0), window * 7)
    for x in (0, 1, 2, 5):
        for half in (last <= t / 2, last > t / 2):
            here = (count == x) & half
            if here.sum() > 400:
                error = np.sqrt(0.25 / here.sum())
                assert abs(made["no_order"][here].mean() - silent[here].mean()) < 4 * error


def test_shops_without_histories() -> None:
    world = leave(1, 60)
    nobody = world.frame.assign(repeat_frequency=np.nan, recency_weeks=np.nan, t_weeks=np.nan)
    with pytest.raises(TooLittleData, match="no customer with a purchase"):
        churn.fit_shops(nobody, world.labels, (nobody, world.labels), seed=1)
    with pytest.raises(Invalid, match="Rhythm is made of"):
        churn.with_rhythm(world.frame, churn.BgNbd(1, 1, 1, 1), 90)
    never = pd.DataFrame({"repeat_frequency": [np.nan, 2.0], "recency_weeks": [np.nan, 8.0], "t_weeks": [np.nan, 10.0]})
    made = churn.with_rhythm(never, churn.BgNbd(1, 10, 1, 3), 90)
    assert np.isnan(made.loc[0, ["p_alive", "no_order", "lateness"]].astype(float)).all()
    assert made.loc[1, "overdue"] == pytest.approx((2 - 18 / 3) * 7)
