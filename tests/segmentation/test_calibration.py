"""Calibration against scikit-learn and hand-reckoned tables; intervals that cover; a noise level that is one."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom, binomtest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.calibration import (
    areas,
    brier_score,
    calibration_curve,
    calibration_error,
    fit_calibrator,
    lift_table,
)


def drawn(seed: int, customers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, true probabilities that are no logistic curve of them, outcomes."""
    draw = np.random.default_rng(seed)
    score = draw.normal(-1, 1.5, customers)
    true = 1 - np.exp(-np.exp(0.5 * score - 0.5))
    return score, true, (draw.random(customers) < true).astype(float)


def test_isotonic_and_platt_are_the_published_ones() -> None:
    score, _, outcome = drawn(1, 4_000)
    isotonic = fit_calibrator(score, outcome)
    assert isotonic.method == "isotonic"
    judge = IsotonicRegression(out_of_bounds="clip", y_min=1 / 4_002, y_max=1 - 1 / 4_002).fit(score, outcome)
    np.testing.assert_allclose(isotonic(score), judge.predict(score), atol=1e-12)
    asked = np.linspace(-9, 9, 50)
    assert (np.diff(isotonic(asked)) >= 0).all()

    few, happened = score[:300], outcome[:300]
    platt = fit_calibrator(few, happened)
    assert platt.method == "platt"
    left = happened.sum()
    target = np.where(happened > 0, (left + 1) / (left + 2), 1 / (300 - left + 2))
    doubled = np.repeat(few[:, None], 2, axis=0)  # fractional targets as weights
    judge = LogisticRegression(C=np.inf, tol=1e-10).fit(
        doubled, np.tile([1, 0], 300), sample_weight=np.stack((target, 1 - target), axis=1).ravel()
    )
    assert (platt.slope, platt.intercept) == pytest.approx((judge.coef_[0, 0], judge.intercept_[0]), abs=1e-5)
    wrong = fit_calibrator(-few, happened)
    assert wrong.slope == 0
    assert wrong(few[:2]) == pytest.approx((left + 0.5) / 301)
    assert fit_calibrator(np.zeros(30), happened[:30]).slope == 0
    with pytest.raises(TooLittleData, match="0 left, 3 stayed"):
        fit_calibrator(few[:3], np.zeros(3))


def test_brier_score_falls_apart_exactly() -> None:
    score, true, outcome = drawn(2, 800)
    for probability in (true, expit(score), np.round(true, 1), np.full(800, outcome.mean())):
        brier = brier_score(probability, outcome)
        assert brier.score == pytest.approx(brier_score_loss(outcome, probability))
        assert brier.score == pytest.approx(brier.miscalibration - brier.discrimination + brier.uncertainty)
        assert min(brier.miscalibration, brier.discrimination) >= -1e-12
    assert brier.uncertainty == pytest.approx(outcome.mean() * (1 - outcome.mean()))
    assert brier.skill == pytest.approx(0, abs=1e-12)
    # by hand: 0.2 for two of whom none leaves, 0.8 for two of whom one does
    hand = brier_score([0.2, 0.2, 0.8, 0.8], [0, 0, 1, 0])
    assert (hand.score, hand.miscalibration) == pytest.approx((0.19, 0.065))
    assert (hand.discrimination, hand.uncertainty) == pytest.approx((0.0625, 0.1875))


def test_curve_and_lift_by_hand() -> None:
    probability = np.repeat([0.1, 0.3, 0.6], [80, 80, 40])
    outcome = np.concatenate([np.arange(80) < 8, np.arange(80) < 32, np.arange(40) < 24]).astype(float)
    curve = calibration_curve(probability, outcome, bins=3)
    assert [(each.customers, each.left) for each in curve.bins] == [(80, 8), (80, 32), (40, 24)]
    assert (curve.bins[1].low, curve.bins[1].high) == pytest.approx(
        tuple(binomtest(32, 80).proportion_ci(1 - 0.05 / 3))
    )
    low, high = curve.interval([0.3, 0.6])
    assert low == pytest.approx([curve.bins[1].low, curve.bins[2].low])
    assert high == pytest.approx([curve.bins[1].high, curve.bins[2].high])
    assert len(calibration_curve(probability[:80], outcome[:80]).bins) == 1  # eight leavers are no curve

    table = lift_table(probability, outcome, parts=5)
    assert table["customers"].tolist() == [40, 80, 80]  # equal probabilities stay together
    assert table["left"].tolist() == [24, 32, 8]
    assert table["lift"].tolist() == pytest.approx([0.6 / 0.32, 0.4 / 0.32, 0.1 / 0.32])
    assert table["gained"].tolist() == pytest.approx([24 / 64, 56 / 64, 1.0])
    assert table["reached"].tolist() == pytest.approx([0.2, 0.6, 1.0])
    assert (table.loc[1, "low"], table.loc[1, "high"]) == pytest.approx(tuple(binomtest(24, 40).proportion_ci()))
    assert table.loc[1, "lift_high"] == pytest.approx(table.loc[1, "high"] / 0.32)
    assert lift_table([0.5] * 5, [0] * 5)["lift"].isna().all()


def test_intervals_hold_all_true_shares_at_once_also_where_neighbours_share_their_luck() -> None:
    held = {"alone": 0, "shared": 0, "blind": 0}
    for seed in range(60):
        draw = np.random.default_rng([seed, 9])
        _, true, outcome = drawn(seed, 1_200)
        block = draw.integers(0, 30, 1_200)
        luck = expit(logit(true) + 0.7 * draw.normal(size=30)[block])  # a bad year in some towns
        together = (draw.random(1_200) < luck).astype(float)
        average = expit(logit(true)[:, None] + 0.7 * draw.normal(size=200)).mean(axis=1)
        for name, y, truth, blocks in (
            ("alone", outcome, true, block),
            ("shared", together, average, block),
            ("blind", together, average, None),
        ):
            curve = calibration_curve(true, y, blocks=blocks)
            held[name] += all(
                each.low <= truth[(true >= each.least) & (true <= each.most)].mean() <= each.high for each in curve.bins
            )
    assert held["alone"] >= binom.ppf(0.005, 60, 0.95)
    assert held["shared"] >= binom.ppf(0.005, 60, 0.95)
    assert held["blind"] < held["shared"]


def test_error_of_calibration_has_a_noise_level() -> None:
    beyond = 0
    for seed in range(40):
        score, true, outcome = drawn(seed, 600)
        right = calibration_error(true, outcome, seed=seed, replicates=200)
        beyond += right.error > right.by_chance_95
    assert beyond <= binom.ppf(0.995, 40, 0.05)
    assert right.by_chance > 0.01  # never 0, however right the probabilities
    wrong = calibration_error(expit(score), outcome, seed=1)
    assert wrong.error > wrong.by_chance_95
    assert "more than chance" in wrong.sentence
    assert calibration_error(expit(score), outcome, seed=1) == wrong


def test_areas_have_intervals() -> None:
    _, true, outcome = drawn(3, 500)
    roc, precision = areas(true, outcome, seed=1)
    assert roc.low < roc.value < roc.high
    assert precision.low < precision.value < precision.high
    assert 0.05 < roc.high - roc.low < 0.15
    assert areas(true, outcome, seed=1) == (roc, precision)
    none, _ = areas(true[:4], np.zeros(4), seed=1)
    assert np.isnan([none.value, none.low]).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(Invalid, match="between 0 and 1"):
        brier_score([1.5], [1])
    with pytest.raises(Invalid, match="one of each"):
        brier_score([0.5, 0.5], [1])
    with pytest.raises(TooLittleData, match="no customer"):
        lift_table([], [])
