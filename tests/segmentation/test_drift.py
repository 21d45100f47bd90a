"""Identity of groups over runs, against hand-made cases and brute force."""

from itertools import permutations

import numpy as np
import pytest

from geocrm.errors import Invalid
from geocrm.segmentation.drift import Drift, follow, stability_index


def members(*sizes: int) -> tuple[np.ndarray, np.ndarray]:
    """Customers 0 … n − 1 in groups 0, 1, … of these sizes."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return np.arange(len(groups)), groups


def by_label(drift: Drift) -> dict[int, tuple[int, str, tuple[int, ...]]]:
    return {each.label: (each.identity, each.kind, each.from_identities) for each in drift.lineages}


def test_the_same_groups_under_other_numbers_keep_their_identity() -> None:
    ids, groups = members(50, 30, 20)
    identities = np.array([7, 3, 9])[groups]
    labels = np.array([2, 0, 1])[groups]
    labels[:5] = 0  # five of the first group moved to the second
    drift = follow(ids, identities, ids, labels)
    assert by_label(drift) == {0: (3, "same", (3,)), 1: (9, "same", (9,)), 2: (7, "same", (7,))}
    assert drift.gone == ()
    assert drift.next_identity == 10
    assert drift.moved == pytest.approx(0.05)
    assert drift.moves.loc["7"].to_dict() == {"3": 5, "7": 45, "9": 0, "nobody": 0, "left": 0}
    np.testing.assert_array_equal(drift.identities(labels)[[0, 10, 60, 99]], [3, 7, 3, 9])
    np.testing.assert_array_equal(drift.identities(np.array([-1, 2])), [-1, 7])
    shared = next(each for each in drift.lineages if each.label == 2)
    assert shared.overlap == pytest.approx(45 / 50)


def test_order_of_the_customers_does_not_matter() -> None:
    draw = np.random.default_rng(1)
    ids, groups = members(50, 30, 20)
    labels = np.where(draw.random(100) < 0.2, draw.integers(0, 3, 100), groups)
    mixed = draw.permutation(100)
    first, second = follow(ids, groups, ids, labels), follow(ids, groups, ids[mixed], labels[mixed])
    assert by_label(first) == by_label(second)
    assert first.moves.equals(second.moves)


def test_split_and_merged_and_new_and_gone() -> None:
    ids, groups = members(40, 40, 20)
    halves = groups.copy()
    halves[20:40] = 5  # group 0 falls into two halves: neither is it any more
    drift = follow(ids, groups, ids, halves)
    assert by_label(drift)[0] == (3, "split", (0,))
    assert by_label(drift)[5] == (4, "split", (0,))
    assert drift.gone == (0,)
    uneven = groups.copy()
    uneven[:12] = 5  # 70 % stay together: it is the same, and a piece broke off
    drift = follow(ids, groups, ids, uneven)
    assert by_label(drift)[0] == (0, "same", (0,))
    assert by_label(drift)[5] == (3, "split", (0,))
    together = np.where(groups == 1, 0, groups)
    drift = follow(ids, groups, ids, together)
    assert by_label(drift)[0] == (3, "merged", (0, 1))
    assert drift.gone == (0, 1)
    new_ids, new_groups = np.arange(130), np.append(groups, np.full(30, 8))
    drift = follow(ids, groups, new_ids, new_groups, next_identity=12)
    assert by_label(drift)[8] == (12, "new", ())
    assert drift.next_identity == 13
    assert drift.moves.loc["arrived", "12"] == 30
    drift = follow(new_ids, new_groups, ids, groups)
    assert drift.gone == (8,)
    assert drift.moves.loc["8", "left"] == 30
    assert drift.moved == 0.0  # who left did not move


def test_other_members_of_the_same_kind_keep_the_identity_by_profile() -> None:
    ids, groups = members(40, 40)
    profiles = {0: [1.0, 0.0], 1: [-1.0, 0.5]}
    swapped = {0: [-0.9, 0.4], 1: [1.1, 0.1]}
    drift = follow(ids, groups, ids + 1_000, groups, old_profiles=profiles, new_profiles=swapped)
    assert {each.label: (each.identity, each.by_profile) for each in drift.lineages} == {0: (1, True), 1: (0, True)}
    far = {0: [3.0, 3.0], 1: [1.1, 0.1]}
    drift = follow(ids, groups, ids + 1_000, groups, old_profiles=profiles, new_profiles=far)
    assert by_label(drift) == {0: (2, "new", ()), 1: (0, "same", ())}
    assert drift.gone == (1,)
    # the same customers, dealt out anew: members decide, however alike the profiles are
    drift = follow(ids, groups, ids, np.tile([0, 1], 40), old_profiles=profiles, new_profiles=profiles)
    assert not any(each.by_profile for each in drift.lineages)
    assert drift.gone == (0, 1)
    assert drift.moved == 1.0


def test_matching_is_the_best_of_all_by_brute_force() -> None:
    draw = np.random.default_rng(2)
    for _ in range(20):
        ids, old = np.arange(120), draw.integers(0, 4, 120)
        new = np.where(draw.random(120) < 0.4, draw.integers(0, 4, 120), draw.permutation(4)[old])
        overlap = np.array(
            [[((old == a) & (new == b)).sum() / ((old == a) | (new == b)).sum() for b in range(4)] for a in range(4)]
        )
        best = max(permutations(range(4)), key=lambda order: sum(overlap[a, order[a]] for a in range(4)))
        expected = {best[a]: a for a in range(4) if overlap[a, best[a]] > 0.5}
        found = {each.label: each.identity for each in follow(ids, old, ids, new).lineages}
        assert {label: identity for label, identity in found.items() if identity < 4} == expected


def test_moves_count_every_customer_once() -> None:
    draw = np.random.default_rng(3)
    old_ids, new_ids = draw.choice(500, 300, replace=False), draw.choice(500, 320, replace=False)
    old, new = draw.integers(-1, 4, 300), draw.integers(-1, 5, 320)
    drift = follow(old_ids, old, new_ids, new)
    assert drift.moves.to_numpy().sum() == len(np.union1d(old_ids, new_ids))
    assert drift.moves["left"].sum() == len(np.setdiff1d(old_ids, new_ids))
    assert drift.moves.loc["arrived"].sum() == len(np.setdiff1d(new_ids, old_ids))
    assert drift.moves.loc["arrived", "left"] == 0
    assert drift.moves.loc["nobody"].sum() == (old == -1).sum()
    names = dict(zip(new_ids.tolist(), drift.identities(new).tolist(), strict=True))
    both = [(o, names[c]) for c, o in zip(old_ids.tolist(), old.tolist(), strict=True) if c in names]
    assert drift.moved == pytest.approx(np.mean([a != b for a, b in both]))


def test_population_stability_index() -> None:
    old, new = np.repeat([0, 1], [600, 400]), np.repeat([0, 1], [500, 500])
    expected = (0.5 - 0.6) * np.log(0.5 / 0.6) + (0.5 - 0.4) * np.log(0.5 / 0.4)
    assert stability_index(old, new) == pytest.approx(expected, rel=0.01)
    assert stability_index(old, old) == 0.0
    assert np.isfinite(stability_index(old, np.full(10, 5)))
    assert stability_index(old[:0], new) == 0.0
    drift = follow(np.arange(1_000), old, np.arange(1_000), np.repeat([0, 1], [900, 100]))
    assert drift.stability_index > 0.25
    assert "shifted much" in drift.verdict


def test_empty_runs_and_wrong_input() -> None:
    ids, groups = members(5, 5)
    none = np.array([], dtype=np.int64)
    drift = follow(none, none, ids, groups)
    assert by_label(drift) == {0: (1, "new", ()), 1: (2, "new", ())}
    assert follow(ids, groups, none, none).gone == (0, 1)
    assert follow(ids, np.full(10, -1), ids, np.full(10, -1)).lineages == ()
    with pytest.raises(Invalid, match="stands twice in the new run"):
        follow(ids, groups, np.zeros(10, dtype=np.int64), groups)
    with pytest.raises(Invalid, match="one group a customer of the old run"):
        follow(ids, groups[:3], ids, groups)
    with pytest.raises(Invalid, match="is used already"):
        follow(ids, groups, ids, groups, next_identity=1)
