"""Groups in words: the planted rule is told, in units, and a bad explanation says that it is bad."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from geocrm.errors import Invalid, TooLittleData
from geocrm.segmentation.explain import Explanation, Wording, explain, show_value

WORDS = {
    "shop_m": Wording("distance to a shop", "m", "{} from a shop", "within {} of a shop", "over {} from a shop",
                      "far from shops", "close to a shop"),
    "interval_days": Wording("interval between orders", "days", "buys every {}", "buys at least every {}",
                             "buys less than every {}", "rare buyers", "frequent buyers"),
    "share_online": Wording("share bought online", "share", "{} online", high="online buyers", low="shop buyers"),
    "kind": Wording("kind", typical="{}"),
    "noise": Wording("noise", "points"),
}  # fmt: skip


def shoppers(rows: int = 900) -> tuple[pd.DataFrame, np.ndarray]:
    """Three groups: near and frequent, far and online, and organisations."""
    draw = np.random.default_rng(1)
    group = draw.choice(3, rows, p=[0.5, 0.3, 0.2])
    frame = pd.DataFrame(
        {
            "shop_m": np.array([900.0, 15_000.0, 14_000.0])[group] * draw.lognormal(0, 0.3, rows),
            "interval_days": np.array([21.0, 60.0, 60.0])[group] * draw.lognormal(0, 0.4, rows),
            "share_online": draw.beta(np.array([2.0, 8.0, 2.0])[group], np.array([8.0, 2.0, 8.0])[group]),
            "kind": np.where((group == 2) & (draw.random(rows) < 0.95), "organisation", "person"),
            "noise": draw.normal(size=rows),
        }
    )
    frame.loc[::17, "share_online"] = np.nan
    return frame, group


@pytest.fixture(scope="module")
def explained() -> Explanation:
    frame, group = shoppers()
    return explain(frame, group, WORDS, seed=1)


def test_sentences_tell_the_planted_rule_in_units(explained: Explanation) -> None:
    near, far, firms = explained.groups
    assert "within" in near.rule
    assert "km of a shop" in near.rule
    assert "buys every 3 weeks" in near.sentence
    assert near.precision > 0.95
    assert near.coverage > 0.95
    assert near.name == "Close to a shop, frequent buyers"
    assert "over" in far.rule
    assert "online" in far.sentence
    assert "organisation" in firms.sentence
    assert "rganisation" in firms.name
    assert not any("noise" in words.sentence for words in explained.groups)
    assert sum(words.size for words in explained.groups) == 900
    assert len({words.name for words in explained.groups}) == 3
    assert explained.balanced_accuracy > 0.9
    assert explained.verdict.endswith("the sentences describe the groups well.")


def test_it_is_the_same_each_time(explained: Explanation) -> None:
    frame, group = shoppers()
    again = explain(frame, group, WORDS, seed=1)
    assert again.groups == explained.groups
    assert (again.accuracy, again.balanced_accuracy) == (explained.accuracy, explained.balanced_accuracy)
    pd.testing.assert_frame_equal(again.profiles, explained.profiles, check_exact=True)


def test_profiles_by_brute_force(explained: Explanation) -> None:
    frame, group = shoppers()
    profiles = explained.profiles.set_index(["group", "feature", "level"])
    online = frame["share_online"]
    for label in range(3):
        row = profiles.loc[(label, "share_online", "")]
        held, others = online[group == label].dropna(), online[group != label].dropna()
        assert row["n"] == len(held)
        assert row["mean"] == pytest.approx(held.mean())
        assert row["median"] == pytest.approx(held.median())
        assert row["average"] == pytest.approx(online.mean())
        assert row["lift"] == pytest.approx(held.mean() / online.mean())
        delta = np.mean([np.sign(a - b) for a, b in product(held, others)])
        assert row["delta"] == pytest.approx(delta)
        share = (frame["kind"][group == label] == "organisation").mean()
        row = profiles.loc[(label, "kind", "organisation")]
        assert row["share"] == pytest.approx(share)
        assert row["delta"] == pytest.approx(share - (frame["kind"][group != label] == "organisation").mean())


def test_what_is_known_of_few_says_nothing_of_their_group() -> None:
    """Those who bought once have no interval between orders; that of the few who bought twice is not theirs."""
    frame, group = shoppers()
    words = {"gap": Wording("interval", "days", "buys every {}", high="rare buyers", low="frequent buyers")}
    frame = pd.DataFrame({"gap": np.where(group == 0, 1_000.0, 30.0) + np.arange(len(frame)) % 7})
    told = explain(frame, group, words, seed=1).groups[0]
    assert (told.name, told.sentence.split()[0]) == ("Rare buyers", "interval")
    frame.loc[(group == 0) & (np.arange(len(frame)) % 3 > 0), "gap"] = np.nan
    told = explain(frame, group, words, seed=1).groups[0]
    assert told.name == "Like the average"
    assert "buys every" not in told.sentence


def test_the_rule_holds_what_it_says(explained: Explanation) -> None:
    """Precision and coverage against the words themselves, for the one rule of one condition."""
    frame, group = shoppers()
    near = explained.groups[0]
    assert near.rule.startswith("within ")
    inside = frame["shop_m"] <= 1000.0 * float(near.rule.split()[1])
    assert (group[inside] == 0).mean() == pytest.approx(near.precision, abs=0.03)
    assert inside[group == 0].mean() == pytest.approx(near.coverage, abs=0.03)


def test_groups_that_no_tree_tells_apart_are_said_to_be_so() -> None:
    draw = np.random.default_rng(2)
    frame = pd.DataFrame({"noise": draw.normal(size=600), "shop_m": draw.exponential(size=600)})
    found = explain(frame, draw.integers(0, 3, 600), {name: WORDS[name] for name in frame}, seed=1)
    assert found.balanced_accuracy < 0.45
    assert "describe the groups badly" in found.verdict
    names = [words.name for words in found.groups]
    assert names == ["Like the average", "Like the average (2)", "Like the average (3)"]
    assert all(words.sentence for words in found.groups)


def test_noise_is_left_out_and_one_group_is_everybody() -> None:
    frame, group = shoppers(300)
    found = explain(frame, np.where(group == 2, -1, group), WORDS, seed=1)
    assert [words.group for words in found.groups] == [0, 1]
    assert sum(words.size for words in found.groups) == (group < 2).sum()
    alone = explain(frame, np.zeros(300, dtype=int), WORDS, seed=1)
    assert alone.groups[0].name == "All customers"
    assert "one group" in alone.verdict
    assert set(alone.profiles["lift"].dropna().round(9)) == {1.0}


def test_what_is_not_known_of_anybody_is_no_trait() -> None:
    frame, group = shoppers(200)
    frame["noise"] = np.nan
    found = explain(frame, group, WORDS, seed=1)
    assert not any("noise" in words.sentence for words in found.groups)
    assert (found.profiles.loc[found.profiles["feature"] == "noise", "n"] == 0).all()
    flags = pd.DataFrame({"kind": group == 0})
    words = explain(flags, group, {"kind": Wording("member", typical="club members")}, seed=1)
    assert "club members" in words.groups[0].sentence


def test_wrong_input_is_said() -> None:
    frame, group = shoppers(50)
    with pytest.raises(Invalid, match="lacks the columns kind"):
        explain(frame.drop(columns="kind"), group, WORDS, seed=1)
    with pytest.raises(Invalid, match="in which words"):
        explain(frame, group, {}, seed=1)
    with pytest.raises(TooLittleData, match="no group"):
        explain(frame, np.full(50, -1), WORDS, seed=1)
    with pytest.raises(TooLittleData, match="group of one"):
        explain(frame, np.arange(50) // 49, WORDS, seed=1)
    five = explain(frame.head(5), np.array([0, 0, 0, 1, 1]), WORDS, seed=1)
    assert [words.size for words in five.groups] == [3, 2]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (2_130.0, "m", "2.1 km"), (412.7, "m", "413 m"), (21.0, "days", "3 weeks"), (1.0, "days", "1 day"),
        (8.0, "days", "8 days"), (90.0, "days", "3 months"), (800.0, "days", "2.2 years"), (3.0, "weeks", "3 weeks"),
        (0.784, "share", "78 %"), (1_243.6, "USD", "1,240 USD"), (0.0, "", "0"), (3.14, "orders", "3.1 orders"),
        (1.0, "orders", "1 order"), (1.0, "USD", "1 USD"),
    ],
)  # fmt: skip
def test_values_are_said_with_their_units(value: float, unit: str, said: str) -> None:
    assert show_value(value, unit) == said
