"""What an offer brought, from exposures and sales in the database."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.campaigns import experiments, offers, results
from geocrm.campaigns.experiments import Effect, effect
from geocrm.db import models
from geocrm.errors import Invalid, NotFound
from tests import makers

FIRST = datetime(2026, 6, 3, 10, tzinfo=UTC)
UNTIL = FIRST + timedelta(days=40)


class World:
    """An offer with exposures; a third of 90 customers is held out, and buys less."""

    def __init__(self, session: Session, *, unit: str = "customer") -> None:
        rng = np.random.default_rng(5)
        self.session = session
        self.offer = offers.create_offer(session, actor=SYSTEM, name="Coffee", title="A coffee")
        self.customers = [makers.make_customer(session) for _ in range(90)]
        self.held_out = np.arange(90) % 3 == 0
        self.after, self.before = np.zeros(90), np.zeros(90)
        for i, customer in enumerate(self.customers):
            first = FIRST + timedelta(hours=i)
            for days, count in ((-rng.integers(1, 180), 2), (rng.integers(1, 30), 1 if self.held_out[i] else 2)):
                for _ in range(count):
                    amount = Decimal(int(rng.integers(100, 9_000))).scaleb(-2)
                    makers.make_sale(
                        session, customer, str(amount), cost=amount / 2, occurred_at=first + timedelta(days=int(days))
                    )
                    (self.before if days < 0 else self.after)[i] += float(amount)
            makers.make_sale(session, customer, "999", cost=Decimal(1), occurred_at=first - timedelta(days=183))
            makers.make_sale(session, customer, "999", cost=Decimal(1), occurred_at=UNTIL)
            session.add(
                models.Exposure(
                    customer_id=customer.id, offer_id=self.offer.id, version=1, first_at=first,
                    held_out=bool(self.held_out[i]), hold_out_key=f"off_{self.offer.id}",
                    unit=f"cus_{customer.id}" if unit == "customer" else f"are_{i % 3 * 100 + i // 3}",
                )
            )  # fmt: skip
        session.flush()

    def find(self, **options: Any) -> results.Results:
        return results.find_results(self.session, self.offer.id, until=UNTIL, **options)


@pytest.fixture
def world(session: Session, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(results, "_ROWS_AT_ONCE", 7)
    return World(session)


def same(one: Effect | None, other: Effect) -> None:
    assert one is not None
    assert asdict(one) == pytest.approx(asdict(other))


def test_the_effect_is_of_what_was_bought_since(world: World, session: Session) -> None:
    found = world.find()
    expected = effect(world.after, ~world.held_out, before=world.before)
    same(found.sales.effect, expected)
    assert expected.shown
    assert found.margin.effect is not None
    assert found.margin.effect.total == pytest.approx(expected.total / 2)
    assert (found.shown, found.held_out, found.redeemed, found.currency) == (60, 30, 0, "USD")
    bounds = f"{expected.total_low:,.0f} and {expected.total_high:,.0f} USD (95%)"
    said = f"Sales: {expected.total:,.0f} USD more, between {bounds}."
    assert results.sentence(found.sales, "Sales", "USD") == said
    makers.make_sale(session, world.customers[0], "10", occurred_at=UNTIL - timedelta(hours=1))
    assert world.find().margin.reason == "The cost of 1 of the 151 sales is not known."
    world.customers[4].erased_at = FIRST
    session.flush()
    assert world.find().shown == 59


def test_areas_held_out_as_a_whole_are_one_observation_each(session: Session) -> None:
    world = World(session, unit="area")
    found = world.find()
    areas = np.array([f"are_{i % 3 * 100 + i // 3}" for i in range(90)])
    same(found.sales.effect, effect(world.after, ~world.held_out, before=world.before, areas=areas))
    assert found.notes == ("Areas were held out as a whole, so each area is one observation.",)


def test_by_segment_of_before_and_by_territory(world: World, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound):
        world.find(by="nothing")
    unseen = offers.create_offer(session, actor=SYSTEM, name="Tea")
    segmentation = makers._add(session, models.Segmentation(key="worth", name="Worth", method="rfm", parameters={}))
    segments = [
        makers._add(session, models.Segment(segmentation_id=segmentation.id, identity=i, name=name))
        for i, name in enumerate(("Most", "Few"))
    ]

    def run(number: int, cutoff: datetime) -> models.SegmentationRun:
        return makers._add(
            session,
            models.SegmentationRun(
                segmentation_id=segmentation.id, number=number, status="done", cutoff=cutoff, seed=1, parameters={}
            ),
        )

    run(1, FIRST + timedelta(days=1))
    early = results.find_results(session, unseen.id, by="worth")  # nobody has been shown it: said, as without `by`
    assert (early.by, early.parts, early.sales.reason) == ("worth", (), "Nobody has been shown this offer yet.")
    with pytest.raises(Invalid, match="2026-06-03T10:00:00Z, when this offer was first shown"):
        world.find(by="worth")
    before = run(2, FIRST - timedelta(days=1))
    for i, customer in enumerate(world.customers):
        segment = segments[i >= 72]
        session.add(models.SegmentMember(customer_id=customer.id, run_id=before.id, segment_id=segment.id))
    session.flush()
    most, few = world.find(by="worth").parts
    inside = np.arange(90) < 72
    assert (most.name, most.shown, most.held_out) == ("Most", 48, 24)
    same(most.sales.effect, effect(world.after[inside], ~world.held_out[inside], before=world.before[inside]))
    assert few.sales.reason == "Too few to tell an effect: customers that got it: 12; needed: 20 in each group."
    assert world.find(by="territory").parts == ()  # none of them has one
    monkeypatch.setattr(experiments, "LEAST", 6)  # both are told now, each at a confidence that holds for the two
    both = [part.sales for part in world.find(by="worth").parts]
    assert [told.effect and told.effect.confidence for told in both] == [0.975, 0.975]
    assert all("USD (97.5%)" in results.sentence(told, "Sales", "USD") for told in both)


def test_what_cannot_be_told_is_said(session: Session) -> None:
    world = World(session)
    makers.make_sale(session, world.customers[0], "10", currency="CHF", occurred_at=FIRST + timedelta(days=2))
    with pytest.raises(Invalid, match="several currencies: CHF, USD"):
        world.find()
    nobody = offers.create_offer(session, actor=SYSTEM, name="Tea")
    found = results.find_results(session, nobody.id)
    assert (found.shown, found.sales.reason) == (0, "Nobody has been shown this offer yet.")
    assert results.sentence(found.sales, "Sales", None) == "Sales: Nobody has been shown this offer yet."
    session.execute(text("UPDATE exposures SET held_out = false"))
    session.execute(text("DELETE FROM sales WHERE currency = 'CHF'"))
    assert world.find().sales.reason == (
        "Nobody was held out, so nothing tells what would have been bought without it."
    )
    with pytest.raises(NotFound):
        results.find_results(session, 10**9)


def test_a_null_is_said(world: World, session: Session) -> None:
    session.execute(text("UPDATE sales SET amount = 20 WHERE amount < 900"))
    session.execute(text("DELETE FROM sales WHERE occurred_at > CAST(:first AS timestamptz)"), {"first": FIRST})
    found = world.find()
    assert results.sentence(found.sales, "Sales", "USD") == (
        "Sales: no effect is shown; it lies between 0 and 0 USD (95%)."
    )
