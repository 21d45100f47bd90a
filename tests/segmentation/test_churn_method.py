"""Churn as a method of runs: in shops and with contracts, what is told of customers, and what it would need."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import Invalid, TryAgain
from geocrm.segmentation import (
    churn,
    churn_method,
    handing_on,
    published,
    publishing,
    runs,
    segmentations,
    statistics,
    suppressing,
)
from tests.makers import make_customer, make_place, make_sale

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = 120
PEOPLE = 500


def fill(session: Session, people: int = PEOPLE, seed: int = 3) -> None:
    """Customers of a shop: frequent ones, who stay, and seldom ones, who leave; of those with a contract organisations
    end it sooner."""
    dice = np.random.default_rng(seed)
    make_place(session, -105.0, 39.7)
    sales: list[dict[str, Any]] = []
    for number in range(people):
        stays = number % 2 == 0
        calm = number % 3 > 0
        began = CUTOFF - timedelta(days=float(dice.uniform(130, 900)))
        ends = began + timedelta(days=float(dice.exponential(1000 if calm else 250)))
        attributes = {"since": began.date().isoformat()} if number % 8 else {}
        if attributes and ends < CUTOFF:
            attributes["until"] = ends.date().isoformat()
        town = (-105.0, 39.7) if number % 5 else (-106.5, 38.5)
        customer = make_customer(
            session, town[0] + dice.normal(0, 0.2), town[1] + dice.normal(0, 0.2), attributes=attributes,
            site={"region": "CO" if number % 5 else "UT"}, kind="person" if calm else "organisation",
        )  # fmt: skip
        day = float(dice.uniform(400, 800))
        gap, leaves = (25.0, 0.01) if stays else (70.0, 0.12)
        while day > 1:
            occurred = CUTOFF - timedelta(days=day)
            sales.append(
                {"customer_id": customer.id, "amount": Decimal(f"{dice.gamma(3, 20):.2f}"), "currency": "USD",
                 "occurred_at": occurred, "channel": "shop"}
            )  # fmt: skip
            day -= float(dice.exponential(gap))
            if dice.random() < leaves:
                break
    if sales:
        session.execute(insert(models.Sale), sales)


@pytest.fixture(scope="module")
def shop(new_database: Callable[[], Database]) -> Database:
    database = new_database()
    with database.writing() as session:
        fill(session)
    return database


def run(database: Database, key: str, *, seed: int = 1, chunk_rows: int = 100_000, **parameters: Any) -> Any:
    with database.writing() as session:
        held = session.query(models.Segmentation).filter_by(key=key).one_or_none()
        if held is None:
            held = segmentations.create_segmentation(
                session, actor=SYSTEM, key=key, name=key, method="churn",
                parameters={"window_days": WINDOW} | parameters,
            )  # fmt: skip
        started = runs.start(session, held.id, actor=SYSTEM, cutoff=CUTOFF, seed=seed, queued=False)
    runs.execute(database, started.id, chunk_rows=chunk_rows)
    with database.writing() as session:
        return session.get_one(models.SegmentationRun, started.id)


def scores(database: Database, done: Any) -> dict[int, dict[str, float | None]]:
    with database.writing() as session:
        rows = session.execute(text("SELECT customer_id, numbers FROM scores WHERE run_id = :id"), {"id": done.id})
        return {row.customer_id: published.scores_by_name(done.score_names, row.numbers) for row in rows}


def cutoffs(database: Database) -> set[datetime]:
    with database.writing() as session:
        return set(session.scalars(text("SELECT cutoff FROM feature_cutoffs")))


def test_who_will_not_order(shop: Database) -> None:
    """Segments by risk, probabilities with intervals, drivers on the card; again bit for bit, in any chunks."""
    done = run(shop, "quiet", active_days=200)
    assert (done.status, done.error) == ("done", None)
    told = scores(shop, done)
    found = done.results
    assert done.score_names[:5] == ["churn", "churn_low", "churn_high", "p_alive", "overdue_days"]
    for row in told.values():
        assert 0 <= row["churn_low"] <= row["churn"] <= row["churn_high"] <= 1  # type: ignore[operator]
    with shop.writing() as session:
        query = text("SELECT customer_id, label FROM (SELECT m.customer_id, s.identity AS label FROM segment_members m"
                     " JOIN segments s ON s.id = m.segment_id WHERE m.run_id = :id) t")  # fmt: skip
        label = {row.customer_id: row.label for row in session.execute(query, {"id": done.id})}
        late = text(
            "SELECT customer_id, max(occurred_at) AS last FROM sales WHERE occurred_at < :cutoff GROUP BY customer_id"
        )
        last = {row.customer_id: row.last for row in session.execute(late, {"cutoff": CUTOFF})}
    recent = {customer for customer, moment in last.items() if (CUTOFF - moment).days < 200}
    assert set(label) == recent == set(told), "who left long ago is in no segment"
    cuts = found["cuts"]
    for customer, row in told.items():
        chance = row["churn"]
        assert chance is not None
        expected = 0 if chance >= cuts["high"] else 1 if chance >= cuts["raised"] else 2
        assert label[customer] == expected or min(abs(chance - cut) for cut in cuts.values()) < 1e-6
    assert [row["name"] for row in found["segments"]] == ["High risk", "Raised risk", "Low risk"]
    assert f"no order within {WINDOW} days: a chance of at least" in found["segments"][0]["sentence"]
    assert found["evaluation"]["gain"]["verdict"] == "helps"
    assert found["evaluation"]["roc"]["low"] > 0.6
    assert "in the window from 2025-09-03" in found["evaluation"]["how"]
    assert sum(row["n"] for row in found["expected"]) == len(recent)
    assert found["place"]["verdict"] in ("does not help", "cannot tell")  # nothing was planted
    assert {row["feature"] for row in found["dropped"]} == set(churn_method.PLACE)
    assert all(row["reason"] for row in found["dropped"])
    rates = {row["region"]: row for row in found["churn_rate"]}
    assert set(rates) == {"US CO", "US UT", "all regions"}
    start = CUTOFF - timedelta(days=365)
    with shop.writing() as session:
        counted = session.execute(
            text(
                "SELECT count(*) FILTER (WHERE before), count(*) FILTER (WHERE before AND NOT during)"
                " FROM (SELECT bool_or(occurred_at < :start) AS before, bool_or(occurred_at >= :start) AS during"
                " FROM sales WHERE occurred_at < :end AND occurred_at >= :former GROUP BY customer_id) t"
            ),
            {"start": start, "end": CUTOFF, "former": start - timedelta(days=365)},
        ).one()
    assert (rates["all regions"]["opening"], rates["all regions"]["left"]) == tuple(counted)
    rep = access.Actor(user_id=1, role="rep", name="Rep", sees_all=False)
    assert any(0 < row[name] < 10 for row in found["churn_rate"] for name in ("joined", "left", "opening", "closing"))
    shown = suppressing.results_for(rep, found)
    assert shown["churn_rate"] == handing_on.churn_rates(found["churn_rate"])[0]
    assert not any(0 < row[name] < 10 for row in shown["churn_rate"] for name in ("joined", "left", "opening"))
    assert not any(
        0 < row["left"] < 10 or 0 < row["customers"] - row["left"] < 10 for row in shown["evaluation"]["lift"]
    )
    assert {row["label"] for row in shown["expected"]} == {row["label"] for row in shown["segments"] if row["size"]}
    riskiest = max(told, key=lambda customer: told[customer]["churn"] or 0)
    with shop.writing() as session:
        publishing.publish(session, done.segmentation_id, done.number, actor=SYSTEM)
        with access.as_user(session, SYSTEM):
            segments, _ = published.of_customer(session, riskiest)
    assert "the odds of leaving" in segments[0]["because"][0]
    again = run(shop, "quiet", chunk_rows=37)
    assert again.result_version == done.result_version
    assert cutoffs(shop) == {CUTOFF}, "statistics that were made to learn from are forgotten"


def test_whose_contract_ends(shop: Database) -> None:
    """Only who has a contract at the cutoff is asked of; who ended it is known; the attribute cannot foretell it."""
    contract = {"since": "since", "ended": "until"}
    with shop.writing() as session:
        lost = session.scalars(
            text(
                'UPDATE customers SET attributes = attributes || \'{"since": "soon"}\' WHERE id = (SELECT min(id)'
                " FROM customers WHERE attributes ? 'since' AND NOT attributes ? 'until') RETURNING id"
            )
        ).one()
    done = run(shop, "contracts", contract=contract, features=["is_organisation", "frequency"])
    assert (done.status, done.error) == ("done", None)
    with shop.writing() as session:
        running = set(
            session.scalars(text("SELECT id FROM customers WHERE attributes ? 'since' AND NOT attributes ? 'until'"))
        )
    told = scores(shop, done)
    assert set(told) == running - {lost}
    assert "Customers whose contract has a day that is none, or an end before its begin: 1." in done.results["notes"]
    assert done.score_names == ["churn", "churn_low", "churn_high", "odds_is_organisation", *done.score_names[4:]]
    assert done.results["drivers"][0]["feature"] == "is_organisation"
    assert done.results["left"].startswith("the contract ended")
    raised = [row["churn"] for row in told.values() if (row["odds_is_organisation"] or 0) > 1]
    assert min(raised) > max(row["churn"] for row in told.values() if (row["odds_is_organisation"] or 0) < 1)
    total = done.results["churn_rate"][-1]
    assert total["closing"] == len(running) - 1
    with pytest.raises(Invalid, match="foretell"):
        churn_method.Churn.check({"contract": contract, "features": ["attributes.until"]})


def test_trees_tell_drivers_of_high_risk_alone(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As each customer's take a while; where trees are not better they are not taken, so they are forced here."""
    fit = churn.fit_shops
    monkeypatch.setattr(churn, "fit_shops", lambda *given, **more: fit(*given, **(more | {"kinds": ["boosting"]})))
    done = run(shop, "trees", features=["frequency", "is_organisation"], trees=True)
    assert done.results["kind"] == "boosting"
    told = scores(shop, done)
    high = {customer for customer, row in told.items() if (row["churn"] or 0) >= done.results["cuts"]["high"]}
    assert high
    assert {customer for customer, row in told.items() if row["odds_frequency"] is not None} == high
    assert any("of high risk alone" in note for note in done.results["notes"])


def test_what_comes_later_is_not_read(shop: Database) -> None:
    before = run(shop, "leak", features=["frequency"])
    with shop.writing() as session:
        buyer = session.scalars(text("SELECT customer_id FROM sales ORDER BY 1 LIMIT 1")).one()
        customer = session.get_one(models.Customer, buyer)
        sale = make_sale(session, customer, "9", occurred_at=CUTOFF + timedelta(days=1))
        statistics.tell_added(session, buyer, sale.id)
    after = run(shop, "leak")
    assert (before.data_version, before.result_version) == (after.data_version, after.result_version)


def order_long_ago(database: Database) -> None:
    """An import of old orders of some who left before the first window, or in it."""
    first = CUTOFF - 2 * timedelta(days=WINDOW)
    with database.writing() as session:
        quiet = session.scalars(
            text(
                "SELECT customer_id FROM sales WHERE occurred_at < :end GROUP BY 1 HAVING max(occurred_at) < :first"
                " ORDER BY 1 LIMIT 30"
            ),
            {"first": first, "end": first + timedelta(days=WINDOW)},
        ).all()
        assert len(quiet) == 30
        session.execute(
            insert(models.Sale),
            [{"customer_id": one, "amount": Decimal(20), "currency": "USD", "occurred_at": first - timedelta(days=3)}
             for one in quiet],
        )  # fmt: skip
        statistics.tell_changed(session, quiet)


def test_all_cutoffs_of_a_run_are_of_one_moment(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old orders that are imported between two refreshes are in none of them, else they would pass for new ones."""
    before = run(shop, "moment", features=["frequency"])
    make, made = statistics.refresh, []

    def refresh(*given: Any, **more: Any) -> statistics.Refreshed:
        made.append(make(*given, **more))
        if len(made) == 1:
            order_long_ago(shop)
        return made[-1]

    monkeypatch.setattr(statistics, "refresh", refresh)
    during = run(shop, "moment")
    assert len(made) == 3
    assert (during.data_version, during.result_version) == (before.data_version, before.result_version)
    after = run(shop, "moment")
    assert after.data_version != before.data_version, "the next run has them"
    assert after.results["evaluation"]["customers"] >= before.results["evaluation"]["customers"]


def test_statistics_that_move_while_a_run_reads_them(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read would be of two moments: the run is done again, and then it is that of what is there now. A refresh
    that finds nothing new, or sales after the cutoff alone, disturbs nobody."""
    fit = churn.fit_shops
    since = CUTOFF - timedelta(days=WINDOW)

    def sell_then_fit(moment: datetime) -> Callable[..., churn.ShopModel]:
        def made(*given: Any, **more: Any) -> churn.ShopModel:
            with shop.writing() as session:
                customer = session.scalars(select(models.Customer).order_by(models.Customer.id)).first()
                assert customer is not None
                sale = make_sale(session, customer, "9", occurred_at=moment)
                statistics.tell_added(session, customer.id, sale.id)
            with shop.writing() as session:
                statistics.refresh(session, since)
                statistics.refresh(session, since)
            return fit(*given, **more)

        return made

    monkeypatch.setattr(churn, "fit_shops", sell_then_fit(since + timedelta(days=1)))
    assert run(shop, "undisturbed", features=["frequency"]).status == "done"
    monkeypatch.setattr(churn, "fit_shops", sell_then_fit(since - timedelta(days=1)))
    with pytest.raises(TryAgain):
        run(shop, "moved", features=["frequency"])
    with shop.writing() as session:
        held = session.query(models.Segmentation).filter_by(key="moved").one()
        left = session.query(models.SegmentationRun).filter_by(segmentation_id=held.id).one()
        assert left.status == "running"
    assert len(cutoffs(shop)) == 3, "they are needed again"
    monkeypatch.undo()
    assert runs.execute(shop, left.id)["status"] == "done"

    def cancel_then_fit(*given: Any, **more: Any) -> churn.ShopModel:
        with shop.writing() as session:
            runs.cancel(session, held.id, left.number + 1, actor=SYSTEM)
        return fit(*given, **more)

    monkeypatch.setattr(churn, "fit_shops", cancel_then_fit)
    assert run(shop, "moved").status == "cancelled"
    assert cutoffs(shop) == {CUTOFF}, "what it was to learn from is forgotten"


@pytest.mark.parametrize("people", [0, 5, 50])
def test_few_customers(new_database: Callable[[], Database], people: int) -> None:
    """What is missing is said, with the share that is known where there is one; no model is made up."""
    database = new_database()
    with database.writing() as session:
        fill(session, people)
    with pytest.raises(Exception, match="customer"):
        run(database, "few")
    with database.writing() as session:
        failed = session.query(models.SegmentationRun).one()
    assert failed.status == "failed"
    assert cutoffs(database) == {CUTOFF}
    assert "at least 20 who left" in failed.error["detail"] or "no customer" in failed.error["detail"], failed.error
