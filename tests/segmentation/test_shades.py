"""Shades of scores against what the lines must do, counted by hand."""

import itertools

import numpy as np
import pytest

from geocrm.segmentation.shades import shades_of


def counts(scores: np.ndarray, cuts: tuple[float, ...]) -> list[int]:
    """How many are in each shade: at least the line below, less than the one above."""
    edges = [-np.inf, *map(np.float32, cuts), np.inf]
    return [int(((scores >= low) & (scores < high)).sum()) for low, high in itertools.pairwise(edges)]


def test_a_few_values_are_a_shade_each() -> None:
    found = shades_of(np.array([5, 1, 1, np.nan, 3, 5, 2, 4], dtype=np.float32))
    assert found is not None
    assert (found.by, found.values, found.cuts) == ("value", (1, 2, 3, 4, 5), (2, 3, 4, 5))
    one = shades_of(np.array([0.1, 0.1], dtype=np.float32))
    assert one is not None
    assert (one.values, one.cuts) == ((0.1,), ())
    assert shades_of(np.array([np.nan, np.inf], dtype=np.float32)) is None


@pytest.mark.parametrize("seed", range(5))
def test_many_values_are_fifths_between_figures_to_remember(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.lognormal(4, 1.5, 20_000).astype(np.float32)
    found = shades_of(np.append(scores, np.float32(np.nan)))
    assert found is not None
    assert found.by == "quantile"
    assert all(len(f"{cut:.12g}".replace("0.", "").strip("0").replace(".", "")) <= 2 for cut in found.cuts)
    assert all(abs(n - 4_000) < 600 for n in counts(scores, found.cuts))


def test_no_shade_is_empty() -> None:
    """Most have nothing; scores that lie close together; negative ones: fewer shades, or more digits."""
    most_nothing = np.concatenate([np.zeros(900), np.linspace(1, 50, 100)]).astype(np.float32)
    close = np.linspace(1000, 1010, 500).astype(np.float32)
    below = np.linspace(-30, 5, 500).astype(np.float32)
    for scores, least in ((most_nothing, 4), (close, 4), (below, 4)):
        found = shades_of(scores)
        assert found is not None
        assert len(found.cuts) >= least
        assert list(found.cuts) == sorted(set(found.cuts))
        assert min(counts(scores, found.cuts)) == found.fewest > 0
    found = shades_of(most_nothing)
    assert found is not None
    assert (found.by, counts(most_nothing, found.cuts)[0]) == ("lowest", 900)
