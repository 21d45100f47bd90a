"""Pairs and offers from a database: against counting by hand, with what is planted, and nothing after the cutoff."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, count
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from scipy import sparse, stats
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.db.models import Analysis, Product
from geocrm.errors import Invalid, NotFound, TooLittleData
from geocrm.segmentation import affinity, next_offers, offers
from geocrm.spatial import areas, layers, lookup, territories
from tests import makers

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("tent", "mat", "skis", "wax", "boots", "poles", "rope", "lamp", "stove", "map", "cup", "gift card")
_SALES = count(10**9)


@dataclass
class Shop:
    """Customers in a west and an east half, products, orders."""

    session: Session
    customers: list[int] = field(default_factory=list)
    west: list[bool] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    rows: list[tuple[int, int, datetime, tuple[int, ...], bool]] = field(default_factory=list)
    sales: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def settle(self, many: int, *, placed: bool = False, **fields: Any) -> None:
        for number in range(many):
            west = number % 2 == 0
            place = (-106.5 + number % 7 * 0.1 if west else -104.5 + number % 7 * 0.1, 39.5) if placed else (None, None)
            self.customers.append(makers.make_customer(self.session, *place, **fields).id)
            self.west.append(west)
        if placed:
            lookup.refresh(self.session, self.customers)

    def stock(self, categories: tuple[str | None, ...] = ("Camp", "Camp", "Snow", "Snow", None)) -> None:
        for number, name in enumerate(NAMES):
            product = Product(name=name, category=categories[number % len(categories)])
            self.products.append(makers._add(self.session, product).id)

    def sell(self, customer: int, items: list[int | None], days: float, *, returned: bool = False, q: int = 1) -> None:
        """One order of products by place among NAMES (None: a line of something unknown), `days` before the cutoff."""
        at, sale = CUTOFF - timedelta(days=days), next(_SALES)
        who = self.customers[customer]
        self.sales.append({"c": who, "s": sale, "at": at, "amount": -5 if returned else 5, "returned": returned})
        for n, item in enumerate(items):
            product = None if item is None else self.products[item]
            self.lines.append({"c": who, "s": sale, "n": n, "q": -q if returned else q, "p": product})
        if not returned and q > 0:
            known = tuple(sorted({i for i in items if i is not None}))
            self.rows.append((customer, sale, at, known, self.west[customer]))

    def write(self) -> None:
        """All orders that are not in the database yet."""
        sales = (
            "INSERT INTO sales (customer_id, id, occurred_at, currency, amount, returned)"
            " VALUES (:c, :s, :at, 'USD', :amount, :returned)"
        )
        lines = (
            "INSERT INTO sale_lines (customer_id, sale_id, line_no, product_id, quantity, unit_price, amount)"
            " VALUES (:c, :s, :n, :p, :q, 5, 5)"
        )
        self.session.execute(text(sales), self.sales)
        self.session.execute(text(lines), self.lines)
        self.sales, self.lines = [], []

    def baskets(self, kind: str, days: float = 365) -> list[tuple[int, set[int], bool]]:
        """Customer, items and whether west, by an independent way."""
        held: dict[tuple[int, int], set[int]] = {}
        for customer, sale, at, items, _ in self.rows:
            if CUTOFF - timedelta(days=days) <= at < CUTOFF and items:
                held.setdefault((customer, sale if kind == "order" else 0), set()).update(items)
        return [(customer, items, self.west[customer]) for (customer, _), items in held.items()]


def halves(session: Session) -> int:
    layer = layers.create_layer(session, key="halves", name="Halves", kind="reference", actor=SYSTEM)
    version = layers.create_draft(session, layer.id, actor=SYSTEM).version
    for name, west in (("Mountains", -107), ("Plains", -105)):
        areas.put_area(
            session, layer.id, version, actor=SYSTEM, name=name, geometry=shapely.box(west, 39, west + 1.9, 40)
        )
    territories.publish(session, layer.id, version, actor=SYSTEM, reason="first")
    return layer.id


def wander(shop: Shop, seed: int, orders: int, *, noise: bool = True, since: int = 0) -> None:
    """Orders of random products, with returns, things taken back, unknown lines and later orders between them."""
    rng = np.random.default_rng(seed)
    for _ in range(orders):
        customer = int(rng.integers(since, len(shop.customers)))
        items: list[int | None] = [int(i) for i in rng.choice(len(NAMES), size=int(rng.integers(1, 6)), p=SHARES)]
        days = float(rng.uniform(-60, 500)) if noise else float(rng.uniform(1, 360))
        kind = rng.uniform() if noise else 1.0
        if kind < 0.1:
            items.append(None)
        shop.sell(customer, items, days, returned=bool(0.1 < kind < 0.2), q=-1 if 0.2 < kind < 0.25 else 1)
    shop.write()


SHARES = np.array([6, 5, 5, 4, 4, 3, 3, 2, 2, 2, 1, 1]) / 38


@pytest.mark.parametrize("basket", ["customer", "order"])
def test_counts_are_those_made_by_hand(session: Session, basket: affinity.Basket) -> None:
    shop = Shop(session)
    shop.settle(40, placed=True)
    shop.stock()
    layer = halves(session)
    wander(shop, 1, 220)
    shop.sell(0, list(range(12)), 5)  # beyond the cap
    shop.write()
    most = 8 if basket == "customer" else 6
    got = affinity.find_pairs(session, CUTOFF, basket=basket, regions=layer, most_items=most, fewest=4, sized=False)
    everything = shop.baskets(basket)
    baskets = [(c, items, west) for c, items, west in everything if len(items) <= most]
    assert got.left_out.large_baskets == len(everything) - len(baskets) > 0
    assert (got.baskets, got.customers) == (len(baskets), len({c for c, _, _ in baskets}))
    assert got.left_out.unknown_lines > 0
    assert got.left_out.customers_without_region == 0
    alone = Counter(i for _, items, _ in baskets for i in items)
    frequent = {i for i, n in alone.items() if n >= 4}
    assert got.left_out.rare_items == len(alone) - len(frequent)
    both = Counter(p for _, items, _ in baskets for p in combinations(sorted(items & frequent), 2))
    place = {product: i for i, product in enumerate(shop.products)}
    told = {(place[r.first], place[r.second]): r for r in got.pairs.itertuples()}
    assert {pair: row.both for pair, row in told.items()} == dict(both)
    for (i, j), row in told.items():
        assert row.lift == pytest.approx(both[i, j] * len(baskets) / alone[i] / alone[j])
        assert row.confidence == pytest.approx(both[i, j] / alone[i])
        if basket == "customer":
            p = stats.hypergeom.sf(both[i, j] - 1, len(baskets), alone[i], alone[j])
            assert row.p == pytest.approx(p, rel=1e-8)
    by_size = affinity.find_pairs(session, CUTOFF, basket=basket, most_items=most, fewest=4).pairs
    seen = by_size["expected"].sum() / sum(both.values())  # of all pairs, those never seen together too, it is 1
    assert 0.95 < seen <= 1 + 1e-9
    here = [items for _, items, west in baskets if west]
    of_west = Counter(p for items in here for p in combinations(sorted(items), 2))
    mountains = got.by_region[got.by_region["region_name"] == "Mountains"]
    assert len(mountains) > 10
    for row in mountains.itertuples():
        i, j = place[row.first], place[row.second]
        assert row.both == of_west[i, j]
        expected = sum(i in x for x in here) * sum(j in x for x in here) / len(here)
        assert row.lift == pytest.approx(of_west[i, j] / expected)


def test_what_goes_together_everywhere_only_here_or_for_the_region_alone(session: Session) -> None:
    """Tent and mat everywhere, skis and wax in the mountains only; rope and lamp both sell in the mountains and have
    nothing else to do with each other."""
    shop = Shop(session)
    shop.settle(700, placed=True)
    shop.stock()
    layer = halves(session)
    rng = np.random.default_rng(2)
    for customer in range(700):
        west = shop.west[customer]
        held = set(np.flatnonzero(rng.uniform(size=12) < 0.12).tolist()) - {6, 7}
        if 0 in held and rng.uniform() < 0.6:
            held.add(1)
        if 2 in held and west and rng.uniform() < 0.7:
            held.add(3)
        held |= {i for i in (6, 7) if rng.uniform() < (0.5 if west else 0.05)}
        if held:
            shop.sell(customer, sorted(held), 30)
    shop.write()
    got = affinity.find_pairs(session, CUTOFF, regions=layer)
    rows = {(r.first_name, r.second_name): r for r in got.pairs.itertuples()}
    sure = {names for names, r in rows.items() if r.p_adjusted <= 0.05}
    assert sure == {("tent", "mat"), ("skis", "wax"), ("rope", "lamp")}
    assert rows["rope", "lamp"].lift > 1.25
    assert rows["rope", "lamp"].lift_within == pytest.approx(1, abs=0.25)
    assert rows["tent", "mat"].lift_within == pytest.approx(rows["tent", "mat"].lift, rel=0.2)
    differs = {names for names, r in rows.items() if r.p_regions_adjusted <= 0.05}
    assert differs == {("skis", "wax")}
    here = got.by_region[got.by_region["more_here"]]
    assert [(r.first_name, r.second_name, r.region_name) for r in here.itertuples()] == [("skis", "wax", "Mountains")]
    everywhere = [rows[r.first_name, r.second_name].both for r in got.by_region.itertuples()]
    assert (got.by_region["both"] + got.by_region["both_elsewhere"]).tolist() == everywhere
    said = got.sentences()
    assert any(s.startswith("tent and mat are bought together") for s in said)
    assert any(re.match(r"skis and wax go together in Mountains, (hardly|less) elsewhere: \d", s) for s in said)
    assert (got.pairs["shrunken_low"] < got.pairs["shrunken"]).all()
    by_category = affinity.find_pairs(session, CUTOFF, by="category")
    assert set(by_category.pairs["first_name"]) | set(by_category.pairs["second_name"]) == {"Camp", "Snow"}
    assert "at least 30 pairs" in by_category.notes[0]


def follow(shop: Shop, seed: int, *, related: bool) -> None:
    """Everybody has one of six products, in the 90 days after the cutoff the one that goes with it, or any."""
    rng = np.random.default_rng(seed)
    for customer in range(len(shop.customers)):
        one, other, third = (int(i) for i in rng.permutation(12)[:3])
        if related:
            one, other, third = one % 6, one % 6 + 6, 6 + third % 6
        if rng.uniform() < 0.6:
            shop.sell(customer, [one, other], float(rng.uniform(5, 300)))
        else:
            shop.sell(customer, [one], float(rng.uniform(5, 300)))
            shop.sell(customer, [other if rng.uniform() < 0.8 else third], -30)
    shop.write()


@pytest.mark.parametrize("half_life", [None, 120.0])
def test_offers_are_judged_by_what_was_bought_later(session: Session, half_life: float | None) -> None:
    shop = Shop(session)
    shop.settle(300)
    shop.stock()
    follow(shop, 3, related=True)
    model = affinity.learn_offers(session, CUTOFF, half_life_days=half_life)
    told = affinity.judge_offers(session, model, seed=1, k=2)
    assert told.methods == ("what goes together", "what sells most")
    assert told.customers == sum(at > CUTOFF for _, _, at, _, _ in shop.rows)
    assert told.hit_rate[0] > 0.75
    assert told.gain_low[0] == told.gain_high[0] == 0
    assert told.gain_low[1] > 0
    assert "That beats what sells most" in told.sentence()
    again = affinity.judge_offers(session, model, seed=1, k=2, chunk_rows=37)
    assert (again.hit_rate == told.hit_rate).all()
    assert (again.gain_low == told.gain_low).all()
    frame = pd.concat(affinity.next_offers(session, model, k=3, chunk_rows=50))
    had = {(shop.customers[c], shop.products[i]) for c, _, at, items, _ in shop.rows if at < CUTOFF for i in items}
    assert not had & set(zip(frame["customer_id"], frame["item"], strict=True))
    first = shop.rows[0]
    one = pd.concat(affinity.next_offers(session, model, k=3, customer_id=shop.customers[first[0]]))
    assert one["rank"].tolist() == [1, 2, 3]


def test_offers_of_what_has_no_pattern_do_not_beat_popularity(session: Session) -> None:
    shop = Shop(session)
    shop.settle(300, placed=True)
    shop.stock()
    layer = halves(session)
    follow(shop, 4, related=False)
    told = affinity.judge_offers(session, affinity.learn_offers(session, CUTOFF, regions=layer), seed=1, k=2)
    assert told.methods[2] == "what sells most in the region"
    assert (told.gain_low <= 0).all()
    assert "That does not beat" in told.sentence() or "That is worse" in told.sentence()


def test_nothing_after_the_cutoff_is_learnt(session: Session) -> None:
    shop = Shop(session)
    shop.settle(50)
    shop.stock()
    wander(shop, 5, 200, noise=False)

    def learn() -> tuple[affinity.Affinity, affinity.OfferModel, pd.DataFrame]:
        model = affinity.learn_offers(session, CUTOFF, half_life_days=90)
        return affinity.find_pairs(session, CUTOFF), model, pd.concat(affinity.next_offers(session, model))

    before = learn()
    for customer in range(50):
        shop.sell(customer, [0, 3, 7, 11], 0)
        shop.sell(customer, [1, 2], -40)
        shop.sell(customer, [0, 1], 10, returned=True)  # a return is no purchase, whenever
    shop.write()
    after = learn()
    pd.testing.assert_frame_equal(before[0].pairs, after[0].pairs, check_exact=True)
    assert before[0].left_out == after[0].left_out
    assert (before[1].similar != after[1].similar).nnz == 0
    assert (before[1].popularity == after[1].popularity).all()
    pd.testing.assert_frame_equal(before[2], after[2], check_exact=True)


def test_readers_count_what_they_see(session: Session) -> None:
    rep = makers.make_user(session)
    shop = Shop(session)
    shop.settle(40, owner_id=rep.id)
    shop.stock()
    wander(shop, 6, 200, noise=False)
    alone = affinity.find_pairs(session, CUTOFF)
    offered = affinity.learn_offers(session, CUTOFF)
    shop.settle(40)
    wander(shop, 7, 300, noise=False, since=40)
    actor = makers.actor_of(session, rep)
    seen = affinity.find_pairs(session, CUTOFF, actor=actor)
    pd.testing.assert_frame_equal(seen.pairs, alone.pairs)
    assert affinity.find_pairs(session, CUTOFF).baskets > seen.baskets
    model = affinity.learn_offers(session, CUTOFF, actor=actor)
    assert (model.popularity == offered.popularity).all()
    who = set(pd.concat(affinity.next_offers(session, model))["customer_id"])
    assert who <= set(shop.customers[:40])
    nobody = access.Actor(user_id=rep.id + 999, name="nobody", role="rep", owners=(rep.id + 999,))
    with pytest.raises(TooLittleData, match="there are 0"):
        affinity.find_pairs(session, CUTOFF, actor=nobody)


def test_too_little_is_said(session: Session) -> None:
    with pytest.raises(TooLittleData, match="at least 30 baskets"):
        affinity.find_pairs(session, CUTOFF)
    with pytest.raises(TooLittleData, match="at least two products"):
        affinity.learn_offers(session, CUTOFF)
    shop = Shop(session)
    shop.settle(5)
    shop.stock(categories=(None,))
    for customer in range(5):
        shop.sell(customer, [0, 1], 10)
    shop.write()
    with pytest.raises(TooLittleData, match="there are 5"):
        affinity.find_pairs(session, CUTOFF)
    model = affinity.learn_offers(session, CUTOFF)
    with pytest.raises(TooLittleData, match="at least 50 customers"):
        affinity.judge_offers(session, model, seed=1)
    assert pd.concat(affinity.next_offers(session, model)).empty  # all have both: nothing is left to offer
    shop.settle(40)
    for customer in range(5, 45):
        shop.sell(customer, [0], 10)
    shop.write()
    with pytest.raises(TooLittleData, match="known categories"):
        affinity.find_pairs(session, CUTOFF, by="category")
    with pytest.raises(TooLittleData, match="there is 1"):
        affinity.find_pairs(session, CUTOFF, fewest=6)
    with pytest.raises(Invalid, match="time zone"):
        affinity.find_pairs(session, datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(NotFound, match="no layer"):
        affinity.find_pairs(session, CUTOFF, regions=987_654)


def test_ranks_and_likeness_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(8)
    w = rng.uniform(0.1, 1, (60, 9)) * (rng.uniform(size=(60, 9)) < 0.4)
    i, j = np.triu_indices(9, 1)
    dots = (w.T @ w)[i, j]
    seen = dots > 0
    norm = np.sqrt((w**2).sum(0))
    cosine = (w.T @ w) / np.outer(norm, norm) * (1 - np.eye(9))
    got = offers.likeness(i[seen], j[seen], dots[seen], (w**2).sum(0), neighbours=8)
    assert got.toarray() == pytest.approx(cosine)
    few = offers.likeness(i[seen], j[seen], dots[seen], (w**2).sum(0), neighbours=2).toarray()
    assert ((few > 0).sum(1) == 2).all()
    binary = (w > 0).astype(float)
    both = binary.T @ binary
    either = binary.sum(0)[:, None] + binary.sum(0)[None, :] - both
    jaccard = offers.likeness(i[seen], j[seen], both[i, j][seen], binary.sum(0), kind="jaccard", neighbours=8)
    assert jaccard.toarray() == pytest.approx(both / either * (1 - np.eye(9)))
    popularity = w.sum(0)
    items, scores = offers.rank_items(sparse.csr_array(w), popularity, k=4, similar=got)
    for c in range(60):
        score = w[c] @ cosine
        free = [p for p in range(9) if w[c, p] == 0]
        best = sorted(free, key=lambda p: (-score[p], -popularity[p] if score[p] == 0 else 0, p))[:4]
        assert items[c][: len(best)].tolist() == best
        assert scores[c][: len(best)] == pytest.approx(score[best])
        assert (items[c][len(best) :] == -1).all()


def test_intervals_of_gains_cover() -> None:
    """Two methods with true hit rates of 40 % and 30 %, paired: the interval of the difference holds 10 points in 95 %
    of 300 worlds, within the 99.9 % binomial bound."""
    rng = np.random.default_rng(9)
    covered = 0
    for world in range(300):
        draw = rng.uniform(size=(400, 2))
        hits = np.column_stack([draw[:, 0] < 0.4, np.where(draw[:, 1] < 0.5, draw[:, 0] < 0.4, draw[:, 0] > 0.8)])
        told = offers.judge(np.stack([hits, hits], axis=2).astype(float), ("a", "b"), k=1, seed=world, draws=500)
        covered += bool(told.gain_low[1] <= 0.1 <= told.gain_high[1])
    assert stats.binom.ppf(0.001, 300, 0.95) <= covered


def test_one_customer_is_offered_what_the_model_offers(session: Session) -> None:
    """By the kept model as by the model itself; figures by hand; nothing bought since; within sight; and why not."""
    rep = makers.make_user(session)
    shop = Shop(session)
    shop.settle(300, placed=True)
    shop.stock()
    layer = halves(session)
    follow(shop, 4, related=False)
    actor = makers.actor_of(session, rep)
    for found in (None, Analysis(id=7, results={"offers": None, "notes": []})):
        none = next_offers.for_customer(session, SYSTEM, found, shop.customers[0])
        assert none["data"] == []
        assert none["note"]
    for regions, by in ((layer, "product"), (None, "category")):
        model = affinity.learn_offers(session, CUTOFF, regions=regions, by=by, window_days=365)
        kept = json.loads(json.dumps(next_offers.kept(model)))
        analysis = Analysis(id=7, results={"offers": None, "notes": [], "model": kept})
        frame = pd.concat(affinity.next_offers(session, model, k=4))
        of_customer = {}
        bought_later = {shop.customers[c] for c, _, at, _, _ in shop.rows if at >= CUTOFF}
        for customer, wanted in frame.groupby("customer_id"):
            if customer in bought_later or customer % 6:
                continue
            with access.as_user(session, SYSTEM):
                told = of_customer[int(customer)] = next_offers.for_customer(
                    session, SYSTEM, analysis, int(customer), k=4
                )
            assert [row["product"]["name"] for row in told["data"]] == wanted["name"].tolist()
            assert [row["score"] for row in told["data"]] == pytest.approx(wanted["score"].tolist())
            assert (told["analysis"], told["note"], told["held_out"]) == ("ana_7", None, None)
        if by == "category":
            continue
        baskets = shop.baskets("customer")
        customer, one = next((c, row) for c, said in of_customer.items() for row in said["data"] if row["because"])
        because, offer = (shop.products.index(int(one[name]["id"][4:])) for name in ("because", "product"))
        has, has_other = ({c for c, items, _ in baskets if item in items} for item in (because, offer))
        assert one["customers_with_both"] == len(has & has_other)
        assert one["confidence"] == pytest.approx(len(has & has_other) / len(has))
        assert one["lift"] == pytest.approx(len(has & has_other) * len(baskets) / len(has) / len(has_other))
        assert one["lift_low"] < one["lift"] < one["lift_high"]
        # what was bought after the cutoff is not offered again
        with access.as_user(session, SYSTEM):
            for c, _, at, items, _ in shop.rows:
                if at >= CUTOFF:
                    told = next_offers.for_customer(session, SYSTEM, analysis, shop.customers[c], k=12)
                    assert not {f"prd_{shop.products[i]}" for i in items} & {
                        row["product"]["id"] for row in told["data"]
                    }
        # somebody who does not see every customer is told no figure of a few, and nothing of whom they do not see
        kept["both"] = [min(both, 9) for both in kept["both"]]
        seen = replace(actor, sees_all=False)
        with access.as_user(session, seen):
            assert next_offers.for_customer(session, seen, analysis, int(customer))["had"] == 0
        session.execute(
            text("UPDATE customers SET owner_id = :rep WHERE id = :id"), {"rep": rep.id, "id": int(customer)}
        )
        with access.as_user(session, seen):
            told = next_offers.for_customer(session, seen, analysis, int(customer))
        assert told["data"]
        assert all(row["lift"] is row["customers_with_both"] is None for row in told["data"])
    late = shop.customers[0]
    session.execute(text("DELETE FROM sale_lines WHERE customer_id = :id"), {"id": late})
    with access.as_user(session, SYSTEM):
        told = next_offers.for_customer(session, SYSTEM, analysis, late)
    assert (told["data"], told["had"]) == ([], 0)
    assert "bought nothing" in told["note"]
