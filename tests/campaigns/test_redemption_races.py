"""Redemptions at the same time: caps hold, a key has one effect, whatever is killed."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.campaigns import offers, redemptions
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import Conflict
from tests.makers import make_customer

MANY = 200


@pytest.fixture(scope="module")
def shop(new_database: Callable[[], Database]) -> Database:
    return new_database()


def company(shop: Database, people: int = MANY, **values: object) -> tuple[int, list[int]]:
    """A live offer and so many customers."""
    with shop.writing() as session:
        ends = datetime.now(UTC) + timedelta(days=3)
        offer = offers.create_offer(
            session, actor=SYSTEM, name="Last one", title="The last one", ends_at=ends, consent_purpose=None, **values
        )
        offers.go_live(session, offer.id, actor=SYSTEM)
        return offer.id, [make_customer(session, 0, 0).id for _ in range(people)]


def at_once(shop: Database, work: Callable[[Session, int], str], times: int) -> Counter[str]:
    """What so many calls at the same time came to, on sixteen connections."""
    engine = create_engine(shop.worker_url, pool_size=16, max_overflow=0, pool_timeout=120)
    begin = threading.Barrier(16)

    def run(number: int) -> str:
        if number < 16:
            begin.wait(60)
        try:
            with Session(engine) as session, session.begin():
                return work(session, number)
        except Conflict as error:
            return ",".join(error.extra["reasons"])

    with ThreadPoolExecutor(16) as pool:
        found = Counter(pool.map(run, range(times)))
    engine.dispose()
    return found


def kept(shop: Database, offer_id: int) -> tuple[int, int]:
    """Redemptions that stand, and what the counter says."""
    with shop.writing() as session:
        rows = session.scalars(
            select(models.Redemption).where(
                models.Redemption.offer_id == offer_id, models.Redemption.reversed_at.is_(None)
            )
        ).all()
        return len(rows), redemptions.count_redeemed(session, offer_id)


def test_two_hundred_want_the_last_one(shop: Database) -> None:
    offer, people = company(shop, cap_total=1)

    def want(session: Session, number: int) -> str:
        redemptions.redeem(session, offer, people[number], actor=SYSTEM, key="mine")
        return "taken"

    assert at_once(shop, want, MANY) == {"taken": 1, "cap_reached": MANY - 1}
    assert kept(shop, offer) == (1, 1)


def test_one_customer_at_many_tills(shop: Database) -> None:
    offer, people = company(shop, 1, cap_per_customer=3)

    def want(session: Session, number: int) -> str:
        redemptions.redeem(session, offer, people[0], actor=SYSTEM, key=f"till {number}")
        return "taken"

    assert at_once(shop, want, 60) == {"taken": 3, "customer_cap_reached": 57}
    assert kept(shop, offer) == (3, 3)


def test_the_same_key_a_hundred_times(shop: Database) -> None:
    offer, people = company(shop, 1)

    def want(session: Session, number: int) -> str:
        made = redemptions.redeem(session, offer, people[0], actor=SYSTEM, key="once")
        return f"{made.redemption.id} {'again' if made.again else 'made'}"

    found = at_once(shop, want, 100)
    assert sorted(found.values()) == [1, 99]
    assert len({said.split()[0] for said in found}) == 1
    assert kept(shop, offer) == (1, 1)


def test_taken_and_given_back_at_once(shop: Database) -> None:
    """The counter is what stands, at the end of any mixture; and never above the cap."""
    offer, people = company(shop, 90, cap_total=5)

    def either(session: Session, number: int) -> str:
        if number % 3:
            redemptions.redeem(session, offer, people[number], actor=SYSTEM, key="mine")
            return "taken"
        row = session.execute(
            text(
                "SELECT id FROM redemptions WHERE offer_id = :offer AND reversed_at IS NULL ORDER BY random() LIMIT 1"
            ),
            {"offer": offer},
        ).first()
        if row is not None:
            redemptions.reverse(session, offer, row.id, actor=SYSTEM, reason="back")
        return "given back"

    found = at_once(shop, either, 90)
    stands, counted = kept(shop, offer)
    assert stands == counted <= 5
    assert set(found) <= {"taken", "given back", "cap_reached"}
    assert found["taken"] > 5


def test_killed_between_commit_and_answer(shop: Database) -> None:
    """Who did not hear the answer sends it again: one effect."""
    offer, people = company(shop, 2, cap_total=1)
    with shop.writing() as session:
        first = redemptions.redeem(session, offer, people[0], actor=SYSTEM, key="lost").redemption.id
    # and a transaction that was cut before its commit leaves nothing, not even in the counter
    other, _ = company(shop, 2, cap_total=1)
    cut = shop.writing_engine.connect()
    lost = Session(cut)
    redemptions.redeem(lost, other, people[1], actor=SYSTEM, key="cut")
    with shop.writing() as session:
        pid = lost.scalar(text("SELECT pg_backend_pid()"))
        session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    cut.invalidate()
    lost.close()
    with shop.writing() as session:
        again = redemptions.redeem(session, offer, people[0], actor=SYSTEM, key="lost")
        assert (again.redemption.id, again.again) == (first, True)
        assert not redemptions.redeem(session, other, people[1], actor=SYSTEM, key="cut").again
    assert kept(shop, offer) == kept(shop, other) == (1, 1)
