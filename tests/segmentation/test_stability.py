"""The number of groups: planted ones are found, and no groups are one group."""

import numpy as np
import pandas as pd
import pytest

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.scaling import fit_scaling
from geocrm.segmentation.stability import FEWEST, _Null, choose_groups
from tests.segmentation.planted import BEHAVIOUR, FEATURES, plant


def prepared(seed: int, rows: int, groups: int, dial: float) -> np.ndarray:
    world = plant(seed, rows, groups)
    scaling = fit_scaling(world.frame, FEATURES if dial else BEHAVIOUR, seed=seed)
    return scaling.turn(scaling.apply(world.frame), dial)


def test_planted_number_comes_back_and_the_reason_is_said() -> None:
    choice = choose_groups(prepared(4, 1_200, 4, 0.5), candidates=(3, 4, 5), seed=1, sample=1_000, samples=1, pairs=4)
    assert choice.k == 4
    assert "come back from other samples with an adjusted Rand index of" in choice.reason
    assert list(choice.table["k"]) == [3, 4, 5]
    chosen = choice.table[choice.table["k"] == 4].iloc[0]
    assert chosen["stability"] > chosen["stability_null"]
    assert chosen["gain"] == pytest.approx(
        (chosen["stability"] - chosen["stability_null"]) / (1 - chosen["stability_null"])
    )


def test_a_seed_gives_the_same_table() -> None:
    matrix = prepared(5, 500, 3, 0.5)
    first, second = (choose_groups(matrix, candidates=(2,), seed=3, sample=300, samples=1, pairs=2) for _ in range(2))
    pd.testing.assert_frame_equal(first.table, second.table, check_exact=True)
    assert not first.table.equals(choose_groups(matrix, candidates=(2,), seed=4, sample=300, samples=1, pairs=2).table)


def test_samples_decide_together_and_say_what_each_would_have_chosen() -> None:
    matrix = prepared(4, 1_200, 4, 0.5)
    several = choose_groups(matrix, candidates=(3, 4), seed=1, sample=400, samples=2, pairs=2)
    one = choose_groups(matrix, candidates=(3, 4), seed=1, sample=400, samples=1, pairs=2)
    assert len(several.alone) == 2
    assert one.alone == ()
    rarest = 1 / (2 * 19 + 1)  # of all references together
    assert several.table["p_silhouette"].min() == pytest.approx(rarest)
    told = "Each of 2 samples" if set(several.alone) == {several.k} else "Taken alone, 2 samples"
    assert told in several.reason


def test_no_structure_is_one_group() -> None:
    choice = choose_groups(prepared(1, 1_200, 1, 0.0), candidates=(2, 3, 4), seed=1, sample=1_000, samples=1, pairs=4)
    assert choice.k == 1
    assert choice.reason.startswith("One group: ")
    assert not choice.table["eligible"].any()


def test_a_long_cloud_is_one_group_though_its_halves_come_back() -> None:
    draw = np.random.default_rng(6)
    long = draw.normal(size=(600, 1)) + 0.1 * draw.normal(size=(600, 3))
    choice = choose_groups(long, candidates=(2,), seed=1, sample=600, pairs=4)
    assert choice.table["stability"].iloc[0] > 0.8
    assert choice.k == 1


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_numbers_over_many_seeds() -> None:
    none = [choose_groups(prepared(seed, 3_000, 1, 0.0), candidates=range(2, 8), seed=seed).k for seed in range(20)]
    found = [
        choose_groups(prepared(seed, 3_000, 3 + seed % 3, 0.5), candidates=range(2, 8), seed=seed).k - 3 - seed % 3
        for seed in range(20)
    ]
    print("without structure", none, "planted, found less true", found)
    assert sum(k > 1 for k in none) <= 3
    assert np.median(np.abs(found)) <= 1


def test_reference_keeps_skewness_and_correlation_and_loses_the_second_peak() -> None:
    draw = np.random.default_rng(2)
    peaks = np.where(draw.random(4_000) < 0.5, -3.0, 3.0) + draw.normal(size=4_000)
    skewed = draw.exponential(size=4_000)
    made = _Null.fit(np.column_stack([peaks, skewed, skewed + 0.3 * draw.normal(size=4_000)])).draw(20_000, draw)
    assert made.std(axis=0) == pytest.approx([peaks.std(), skewed.std(), np.sqrt(1.09)], rel=0.1)
    counts, _ = np.histogram(made[:, 0], bins=9, range=(-9, 9))
    assert counts[4] >= 0.9 * counts.max()  # the trough between the two peaks is filled
    assert np.median(made[:, 1]) < made[:, 1].mean() - 0.15
    assert np.corrcoef(made[:, 1], made[:, 2])[0, 1] > 0.85


def test_contiguous_groups_are_chosen_against_customers_dealt_to_places_at_random() -> None:
    draw = np.random.default_rng(3)
    lonlat = draw.uniform([-1.0, -1.0], [1.0, 1.0], (400, 2))
    matrix = 4.0 * (lonlat[:, :1] > 0) + draw.normal(size=(400, 1))
    found = choose_groups(matrix, "contiguous", (2, 3), seed=1, lonlat=lonlat, sample=400, pairs=3)
    assert found.k >= 2
    mixed = choose_groups(draw.permutation(matrix), "contiguous", (2, 3), seed=1, lonlat=lonlat, sample=400, pairs=3)
    assert mixed.k == 1


def test_few_or_equal_customers() -> None:
    with pytest.raises(TooLittleData, match=f"needs at least {FEWEST} customers; there are 5"):
        choose_groups(np.zeros((5, 2)), seed=1)
    equal = choose_groups(np.ones((80, 2)), seed=1)
    assert equal.k == 1
    assert "the same in every feature" in equal.reason
    fifty = choose_groups(np.random.default_rng(1).normal(size=(50, 2)), seed=1, candidates=(2, 3))
    assert fifty.k == 1
    with pytest.raises(Invalid, match="by itself"):
        choose_groups(np.zeros((80, 2)), "hdbscan", seed=1)
    with pytest.raises(Invalid, match="at least one number of groups"):
        choose_groups(np.random.default_rng(1).normal(size=(80, 2)), candidates=(70,), seed=1)
