"""Features made ready for distances: formulas by brute force, gaps, chunks, the dial."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.scaling import Feature, Scaling, fit_scaling, globe_km, mean_squared_distance
from tests.segmentation.planted import FEATURES, plant


def pairwise(matrix: np.ndarray) -> float:
    """The mean squared distance over all pairs, the slow way."""
    return float(np.mean([((a - b) ** 2).sum() for a, b in combinations(matrix, 2)]))


def test_each_block_has_a_mean_squared_distance_of_one_and_the_dial_shares_it() -> None:
    world = plant(1, 150, 3)
    scaling = fit_scaling(world.frame, FEATURES, seed=1)
    matrix = scaling.apply(world.frame)
    place = np.array([block == "place" for block in scaling.blocks])
    assert pairwise(matrix[:, ~place]) == pytest.approx(1.0)
    assert pairwise(matrix[:, place]) == pytest.approx(1.0)
    for dial in (0.0, 0.3, 1.0):
        turned = scaling.turn(matrix, dial)
        assert mean_squared_distance(turned) == pytest.approx(pairwise(turned)) == pytest.approx(1.0)
        of_place = np.array([name.startswith(("shop_m", "home")) for name in scaling.turned_names(dial)])
        assert turned.shape[1] == len(of_place)
        assert mean_squared_distance(turned[:, of_place]) == pytest.approx(dial, abs=1e-12)


def test_features_weigh_alike_whatever_their_unit_and_their_columns() -> None:
    world = plant(2, 400, 3)
    frame = world.frame.assign(orders=world.frame["orders"] * 1000.0)
    matrix = fit_scaling(frame, FEATURES, seed=1).apply(frame)
    scaling = fit_scaling(world.frame, FEATURES, seed=1)
    np.testing.assert_allclose(matrix, scaling.apply(world.frame), atol=1e-9)
    variances = dict.fromkeys((feature.name for feature in FEATURES), 0.0)
    names = iter(np.var(matrix, axis=0, ddof=1))
    for fitted in scaling.fitted:
        variances[fitted.feature.name] = sum(next(names) for _ in fitted.names)
    behaviour = [variances[feature.name] for feature in FEATURES if feature.block == "behaviour"]
    np.testing.assert_allclose(behaviour, 0.5 / len(behaviour))


def test_logarithm_where_the_skewness_asks_for_it() -> None:
    draw = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "skewed": draw.lognormal(sigma=1.5, size=500),
            "even": draw.normal(50, 5, 500),
            "margin": draw.normal(size=500),
        }
    )
    frame["margin"] = np.sinh(3.0 * frame["margin"] + 1.0)
    fitted = {
        each.feature.name: each.function
        for each in fit_scaling(frame, [Feature(name) for name in frame], seed=1).fitted
    }
    assert fitted == {"skewed": "log1p", "even": "identity", "margin": "asinh"}
    declared = fit_scaling(frame, [Feature("skewed", transform="none"), Feature("even", transform="log")], seed=1)
    assert [each.function for each in declared.fitted] == ["identity", "log1p"]


def test_an_outlier_is_drawn_in_and_the_formula_is_that_of_the_docs() -> None:
    values = np.append(np.random.default_rng(4).normal(10.0, 2.0, 200), 1e6)
    frame = pd.DataFrame({"x": values})
    made = fit_scaling(frame, [Feature("x", transform="none")], seed=1).apply(frame)[:, 0]
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    reach = 3.5 * (high - low) / 1.349
    expected = np.clip(values, middle - reach, middle + reach)
    expected = (expected - expected.mean()) / expected.std(ddof=1) / np.sqrt(2.0)
    np.testing.assert_allclose(made, expected)


def test_a_composition_is_the_root_of_its_shares_and_a_category_one_of_one_part() -> None:
    frame = pd.DataFrame(
        {"a": [1.0, 0.0, 4.0, 0.0], "b": [0.0, 3.0, 4.0, -2.0], "kind": ["person", "firm", "person", None]}
    )
    mix, kind = Feature("mix", kind="composition", columns=("a", "b")), Feature("kind", kind="category")
    scaling = fit_scaling(frame, [mix, kind], seed=1)
    made = scaling.apply(frame)
    assert scaling.names[:2] == ("a", "b")
    assert "kind = firm" in scaling.names
    distance = np.linalg.norm(made[:, None, :2] - made[None, :, :2], axis=2)
    halves = np.sqrt(0.5)
    hellinger = np.array([np.hypot(1, 1), np.hypot(1 - halves, halves)])
    np.testing.assert_allclose(distance[0, 1] / distance[0, 2], hellinger[0] / hellinger[1])
    assert any("mix: not known of 1 of 4" in note for note in scaling.notes)


def test_what_is_not_known_is_filled_said_and_beyond_a_half_left_out() -> None:
    draw = np.random.default_rng(5)
    frame = pd.DataFrame({name: draw.normal(size=200) for name in ("few", "some", "most", "all", "endless")})
    frame.loc[:3, "few"] = np.nan
    frame.loc[:40, "some"] = np.nan
    frame.loc[:150, "most"] = np.nan
    frame["all"] = np.nan
    frame.loc[:2, "endless"] = np.inf
    frame["same"] = 7.0
    scaling = fit_scaling(frame, [Feature(name) for name in frame], seed=1)
    assert scaling.names == ("few", "some", "some not known", "endless")
    assert {dropped.name: dropped.reason for dropped in scaling.dropped} == {
        "most": "not known of 76 % of the customers",
        "all": "not known of any customer",
        "same": "the same for all customers",
    }
    assert "few: not known of 4 of 200 customers, set to the median" in scaling.notes
    made = scaling.apply(frame)
    assert np.isfinite(made).all()
    spread = made[:, 1][41:].std(ddof=1)
    assert made[0, 2] - made[-1, 2] == pytest.approx(spread)  # "not known" is one standard deviation of the known
    assert mean_squared_distance(made) == pytest.approx(1.0)


def test_globe_has_no_seam() -> None:
    points = globe_km(np.array([179.99, -179.99, 0.0, 90.0]), np.array([10.0, 10.0, 89.999, 89.999]))
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(2.19, abs=0.01)
    assert np.linalg.norm(points[2] - points[3]) < 0.2


def test_a_far_home_does_not_flatten_the_others() -> None:
    draw = np.random.default_rng(6)
    frame = pd.DataFrame({"lon": draw.normal(-105, 0.1, 300), "lat": draw.normal(39.7, 0.1, 300)})
    frame.loc[0, ["lon", "lat"]] = (150.0, -33.0)
    scaling = fit_scaling(frame, [Feature("home", "place", "location", ("lon", "lat"))], seed=1)
    made = scaling.apply(frame)
    near = made[1:]
    assert np.linalg.norm(made[0] - near.mean(axis=0)) < 2.0 * np.linalg.norm(near - near.mean(axis=0), axis=1).max()


def test_chunks_and_json_give_the_same_bits() -> None:
    world = plant(3, 700, 4)
    scaling = fit_scaling(world.frame, FEATURES, seed=1)
    whole = scaling.apply(world.frame)
    stored = Scaling.from_json(json.loads(json.dumps(scaling.to_json(), allow_nan=False)))
    assert stored == scaling
    for size in (1, 97, 700):
        parts = [stored.apply(world.frame.iloc[start : start + size]) for start in range(0, 700, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_unseen_and_rare_categories() -> None:
    frame = pd.DataFrame({"town": [f"t{number}" for number in range(30)] * 3 + ["t0"] * 10})
    scaling = fit_scaling(frame, [Feature("town", kind="category")], seed=1)
    assert len(scaling.names) == 20
    made = scaling.apply(pd.DataFrame({"town": ["nowhere", "t29", "t0"]}))
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_what_cannot_be_scaled_is_said() -> None:
    frame = pd.DataFrame({"x": [1.0, 1.0, 1.0], "y": [1.0, 2.0, 3.0]})
    with pytest.raises(TooLittleData, match="x: the same for all customers"):
        fit_scaling(frame, [Feature("x")], seed=1)
    with pytest.raises(TooLittleData, match="at least 2 customers; there is 1"):
        fit_scaling(frame.head(1), [Feature("y")], seed=1)
    with pytest.raises(Invalid, match="lacks the columns z"):
        fit_scaling(frame, [Feature("z")], seed=1)
    with pytest.raises(Invalid, match="named twice: y"):
        fit_scaling(frame, [Feature("y"), Feature("y")], seed=1)
    with pytest.raises(Invalid, match="longitude and latitude"):
        fit_scaling(frame, [Feature("y", "place", "location")], seed=1)
    scaling = fit_scaling(frame, [Feature("y")], seed=1)
    with pytest.raises(Invalid, match="no usable feature of place"):
        scaling.turn(scaling.apply(frame), 0.5)
    with pytest.raises(Invalid, match=r"must lie in \[0, 1\]"):
        scaling.turn(scaling.apply(frame), 1.5)
