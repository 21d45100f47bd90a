"""Blocked validation: nobody learns from a neighbour, place helps where it was planted and not where it was not."""

import re
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.metrics import average_precision_score, roc_auc_score

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation import churn, validation
from geocrm.segmentation.validation import Gain, RocCurve
from tests.segmentation.leaving import DESCRIBED, PLACE, leave


def scattered(seed: int, customers: int, side_m: float = 100_000.0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    index = pd.Index(draw.permutation(customers) + 10, name="customer_id")
    return pd.DataFrame(draw.random((customers, 2)) * side_m, columns=["x_m", "y_m"], index=index)


def test_nobody_is_learnt_from_who_lives_near_the_tested() -> None:
    places = scattered(1, 800)
    places.iloc[:20] = np.nan
    folds = validation.make_folds(places, 12_000, seed=3, buffer_m=3_000)
    xy = places.to_numpy()
    tested: list[int] = []
    for train, test in folds.split(places.index):
        assert not set(train) & set(test)
        assert not set(folds.block[train]) & set(folds.block[test])
        apart = np.hypot(*(xy[train][:, None] - xy[test][None]).transpose(2, 0, 1))
        assert np.nanmin(apart) > 3_000
        left_out = np.setdiff1d(np.arange(len(xy)), np.concatenate((train, test)))
        near = np.hypot(*(xy[left_out][:, None] - xy[test][None]).transpose(2, 0, 1))
        assert (np.nanmin(near, axis=1) <= 3_000).all()  # and nobody else goes
        tested += test.tolist()
    assert sorted(tested) == list(range(len(xy)))
    for block in np.unique(folds.block[20:]):
        own = xy[folds.block == block]
        assert (np.ptp(own, axis=0) <= 12_000).all()
    assert len(set(folds.block[:20])) == 20  # without a place each is alone
    sizes = np.bincount(folds.fold)
    assert sizes.max() - sizes.min() <= np.bincount(folds.block).max()
    again = validation.make_folds(places, 12_000, seed=3, buffer_m=3_000)
    np.testing.assert_array_equal(folds.fold, again.fold)


def test_out_of_time_and_out_of_place_at_once() -> None:
    places = scattered(2, 300)
    folds = validation.make_folds(places, 20_000, seed=1)
    earlier, later = places.index[:200], places.index[100:]
    for train, test in folds.split(earlier, later):
        assert not set(earlier[train]) & set(later[test])
    with pytest.raises(Invalid, match="in none of the blocks"):
        next(folds.split(pd.Index([-1])))
    start = datetime(2025, 1, 1, tzinfo=UTC)
    validation.check_out_of_time(start, 90, datetime(2025, 4, 1, tzinfo=UTC))
    with pytest.raises(Invalid, match="before 2025-04-01, the end of the window"):
        validation.check_out_of_time(start, 90, datetime(2025, 3, 31, tzinfo=UTC))


def test_blocks_that_cannot_be() -> None:
    places = scattered(3, 30, side_m=10.0)
    with pytest.raises(TooLittleData, match="one block"):
        validation.make_folds(places * 0 + 5.0, 50_000, seed=0)
    with pytest.raises(Invalid, match="size"):
        validation.make_folds(places, 0.0, seed=0)
    with pytest.raises(Invalid, match="once"):
        validation.make_folds(pd.concat([places, places]), 5.0, seed=0)
    with pytest.raises(TooLittleData, match="at least 50"):
        validation.choose_block_size(places["x_m"], places["y_m"], np.ones(30), seed=0)


def test_blocks_are_as_wide_as_residuals_are_alike() -> None:
    places = scattered(4, 900)
    draw = np.random.default_rng(4)
    noise = draw.normal(size=900)
    alone = validation.choose_block_size(places["x_m"], places["y_m"], noise, seed=1)
    assert alone.range_m < 3_000
    cells = np.floor(places / 5_000) @ np.array([1, 100])
    shared = pd.Series(draw.normal(size=20_000))[cells.astype(int)].to_numpy()
    alike = validation.choose_block_size(places["x_m"], places["y_m"], shared + noise, seed=1)
    assert 2_500 <= alike.range_m <= 10_000  # neighbours within a cell of 5 km share what others do not
    assert alike.size_m >= 1.9 * alike.range_m
    assert "alike up to" in alike.reason
    wide = validation.choose_block_size(places["x_m"], places["y_m"], places["x_m"], seed=1)
    assert "fewer than 20" in wide.reason
    assert len(np.unique(validation.make_folds(places, wide.size_m, seed=1).block)) >= validation.FEWEST_BLOCKS


def test_areas_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(5)
    score = np.round(draw.normal(size=500), 1)  # with ties
    outcome = (draw.random(500) < 0.3).astype(float)
    weights = draw.integers(0, 3, 500).astype(float)
    curve = RocCurve(outcome, score)
    for w in (np.ones(500), weights):
        assert curve.area(w) == pytest.approx(roc_auc_score(outcome, score, sample_weight=w))
        assert curve.average_precision(w) == pytest.approx(average_precision_score(outcome, score, sample_weight=w))
    assert np.isnan(RocCurve(np.zeros(3), score[:3]).area())
    assert np.isnan(RocCurve(np.zeros(3), score[:3]).average_precision())


def test_interval_of_a_gain_covers_where_neighbours_share_their_luck() -> None:
    """The mean squared error gains 1 on average, by what a block shares: blocks bear witness, customers do not."""
    held = {"blocks": 0, "customers": 0}
    for seed in range(40):
        draw = np.random.default_rng(seed)
        block = draw.integers(0, 40, 800)
        better = 1 + draw.normal(size=40)[block] * 3 + draw.normal(size=800)
        without = np.full(800, 5.0)
        with_ = np.sqrt(np.maximum(25.0 - better, 0))
        for name, blocks in (("blocks", block), ("customers", np.arange(800))):
            gain = validation.compare(np.zeros(800), without, with_, blocks, seed=seed, loss="squared", replicates=200)
            held[name] += gain.first.low <= 1 <= gain.first.high
    assert held["blocks"] >= binom.ppf(0.005, 40, 0.92)
    assert held["customers"] < 28


def gain(seed: int, customers: int, *, place: float, field: float = 0.0) -> Gain:
    world = leave(seed, customers, place=place, field=field)
    predict = churn.predictor(DESCRIBED, seed=seed)
    size, buffer = 15_000.0, 1_000.0
    if field:
        less = world.frame.drop(columns=list(PLACE))
        anywhere = validation.random_folds(world.frame.index, seed=seed)
        residual = world.outcome - validation.out_of_fold(less, world.outcome, anywhere, predict)
        chosen = validation.choose_block_size(world.places["x_m"], world.places["y_m"], residual, seed=seed)
        size, buffer = chosen.size_m, min(chosen.range_m, chosen.size_m / 4)
    folds = validation.make_folds(world.places, size, seed=seed, buffer_m=buffer)
    return validation.gain_of_place(world.frame, world.outcome, PLACE, folds, predict, seed=seed)


def test_place_helps_where_planted_and_not_where_not() -> None:
    planted = gain(7, 1_500, place=0.8)
    assert planted.verdict == "helps"
    assert re.fullmatch(
        r"Place helps: with it the error \(log loss\) is [\d.]+% smaller \([\d.]+% to [\d.]+%\) on blocks never seen"
        r"(, though perhaps by less than the 1\.0% that matter)?\.", planted.sentence
    )  # fmt: skip
    assert [each.name for each in planted.measures] == ["log loss", "Brier score", "AUC"]
    assert all(each.low > 0 for each in planted.measures)
    nulls = [gain(900 + seed, 500, place=0.0) for seed in range(6)]
    assert sum(each.verdict == "helps" for each in nulls) <= binom.ppf(0.99, 6, 0.05)
    null = gain(1, 2_000, place=0.0)
    assert null.verdict == "does not help"
    assert "Place does not help" in null.sentence
    assert gain(900, 500, place=0.0).measures == nulls[0].measures


@pytest.mark.parametrize(
    ("better", "noise", "said"),
    [
        (0.05, 0.02, r"Place helps: with it the error \(mean squared\) is \d\.\d% smaller \(\d\.\d% to \d\.\d%\)"),
        (-0.05, 0.02, r"Place does not help: .* is \d\.\d% larger \(\d\.\d% to \d\.\d%\) on blocks never seen\."),
        (0.0, 0.02, r"Place does not help: .* \(from 0\.\d% larger to 0\.\d% smaller\) .*; 1\.0% smaller would"),
        (0.0, 1.0, r"Whether place helps cannot be told .* \(from \d+\.\d% larger to \d+\.\d% smaller\); more"),
    ],
)  # fmt: skip
def test_gains_and_losses_are_said_in_words(better: float, noise: float, said: str) -> None:
    """Squared errors of 1 without, and of 1 - better with it, more or less by block."""
    blocks = np.arange(4_000) % 40
    apart = np.random.default_rng(2).normal(0, noise, 40)[blocks]
    with_ = np.sqrt(np.maximum(1 - better + apart - apart.mean(), 0))
    found = validation.compare(np.zeros(4_000), np.ones(4_000), with_, blocks, seed=1, loss="squared")
    assert re.match(said, found.sentence), found.sentence


def test_without_any_error_nothing_can_get_better() -> None:
    same = np.ones(400)
    found = validation.compare(same, same, same, np.arange(400) % 40, seed=1, loss="squared")
    assert found.sentence.endswith("there is no error that could get smaller.")
    assert found.verdict == "cannot tell"


@pytest.mark.soak
@pytest.mark.parametrize(("field", "worlds"), [(0.0, 300), (0.6, 150)])
def test_place_is_not_said_to_help_where_it_does_not(field: float, worlds: int) -> None:
    """Also where neighbours are alike for reasons that no feature tells, with blocks as wide as that asks for."""
    verdicts = Counter(gain(5_000 + seed, 1_000, place=0.0, field=field).verdict for seed in range(worlds))
    print(f"field {field}: {dict(verdicts)}")
    assert verdicts["helps"] <= binom.ppf(0.99, worlds, 0.05)


def test_too_few_blocks_cannot_tell() -> None:
    world = leave(1, 300)
    folds = validation.make_folds(world.places, 100_000, seed=1)
    found = validation.gain_of_place(
        world.frame, world.outcome, PLACE, folds, churn.predictor(DESCRIBED, seed=1), seed=1
    )
    assert found.verdict == "cannot tell"
    assert not found.measures
    assert "an interval needs at least 20" in found.sentence
    with pytest.raises(Invalid, match="lacks the columns x"):
        validation.gain_of_place(world.frame, world.outcome, ["x"], folds, churn.predictor(DESCRIBED, seed=1), seed=1)
    little = gain(3, 120, place=0.3)
    assert little.verdict == "cannot tell"
    assert "cannot be told from these data" in little.sentence


def test_features_that_do_not_earn_their_place_go() -> None:
    world = leave(11, 1_200)
    draw = np.random.default_rng(11)
    frame = world.frame[["complaints", "recency_days"]].assign(noise=draw.normal(size=1_200))
    columns = [each for each in DESCRIBED if each.name in frame.columns]
    columns.append(type(DESCRIBED[0])("noise", "", "nothing"))
    folds = validation.make_folds(world.places, 15_000, seed=1)
    groups = {"complaints": ["complaints"], "rhythm": ["recency_days"], "noise": ["noise"]}
    predict = churn.predictor(columns, seed=1)
    kept = validation.eliminate(frame, world.outcome, groups, folds, predict, seed=1, replicates=1_000)
    assert kept.names == ("complaints", "rhythm")
    assert [each.name for each in kept.dropped] == ["noise"]
    assert kept.looks == 6
    assert kept.level == pytest.approx(1 - 0.05 / 6)
    assert all(each.first.low > 0 for each in kept.gains)
    alone = validation.eliminate(frame[["noise"]], world.outcome, {"noise": ["noise"]}, folds, predict, seed=1)
    assert alone.names == ()  # even the last one goes: the mean is as good


def test_any_model_can_ask_whether_place_helps() -> None:
    """The same rule for amounts: least squares, squared loss."""
    world = leave(12, 800)
    spend = 3.0 - np.log(world.frame["shop_m"]).to_numpy() + np.random.default_rng(1).normal(size=800)

    def predict(train: pd.DataFrame, outcome: np.ndarray, test: pd.DataFrame) -> np.ndarray:
        columns = [np.column_stack((np.ones(len(f)), np.log1p(f.to_numpy(dtype=float)))) for f in (train, test)]
        return columns[1] @ np.linalg.lstsq(columns[0], outcome, rcond=None)[0]

    folds = validation.make_folds(world.places, 15_000, seed=1)
    frame = world.frame[["tenure_days", "shop_m"]]
    found = validation.gain_of_place(frame, spend, PLACE, folds, predict, seed=1, loss="squared")
    assert found.verdict == "helps"
    assert [each.name for each in found.measures] == ["mean squared error"]
