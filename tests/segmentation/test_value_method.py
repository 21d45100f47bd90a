"""Value as a method of runs: by margin where costs are known, and with sales in several currencies."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import GeocrmError, Invalid, TooLittleData
from geocrm.segmentation import runs, segmentations
from geocrm.segmentation.methods import check_money
from geocrm.segmentation.value_method import Value
from tests.makers import make_customer

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = ("p_alive", "purchases", "worth", "worth_low", "worth_high")


def fill(session: Session, people: int = 240) -> list[int]:
    """Every third customer earns nothing: cost is the amount; of the others half of it. One is called every week."""
    dice = np.random.default_rng(11)
    rows: list[dict[str, Any]] = []
    made = []
    for number in range(people):
        customer = make_customer(session)
        made.append(customer.id)
        day, rate, leaves = float(dice.uniform(300, 700)), dice.gamma(3.5, 1 / 60), dice.beta(0.8, 3)
        while day > 1:
            amount = Decimal(f"{dice.gamma(2, 1 / rate):.2f}")
            cost = amount if number % 3 == 0 else amount / 2
            rows.append(
                {"customer_id": customer.id, "amount": amount, "cost": cost, "currency": "USD",
                 "occurred_at": CUTOFF - timedelta(days=day)}
            )  # fmt: skip
            day -= float(dice.exponential(40))
            if dice.random() < leaves:
                break
    session.execute(insert(models.Sale), rows)
    calls = [
        {"customer_id": made[1], "kind": "call", "occurred_at": CUTOFF - timedelta(days=7 * week + 1)}
        for week in range(52)
    ]
    session.execute(insert(models.Interaction), calls)
    return made


@pytest.fixture(scope="module")
def company(new_database: Callable[[], Database]) -> tuple[Database, list[int]]:
    database = new_database()
    with database.writing() as session:
        return database, fill(session)


def run(database: Database, key: str, **parameters: Any) -> tuple[Any, dict[int, dict[str, float]]]:
    with database.writing() as session:
        held = segmentations.create_segmentation(
            session, actor=SYSTEM, key=key, name=key, method="value", parameters=parameters
        )
        started = runs.start(session, held.id, actor=SYSTEM, cutoff=CUTOFF, queued=False)
    runs.execute(database, started.id)
    with database.writing() as session:
        rows = session.execute(text("SELECT customer_id, numbers FROM scores WHERE run_id = :id"), {"id": started.id})
        scores = {row.customer_id: dict(zip(COLUMNS, map(float, row.numbers), strict=True)) for row in rows}
        return session.get_one(models.SegmentationRun, started.id), scores


def test_of_margin_is_what_is_left(company: tuple[Database, list[int]]) -> None:
    """Rates by hand, drawn to that of all by one order; the cost to serve is taken off."""
    database, made = company
    _, revenue = run(database, "revenue")
    done, margin = run(database, "margin", of="margin")
    with database.writing() as session:
        query = "SELECT customer_id, sum(amount) AS sales, sum(cost) AS cost, count(*) AS orders FROM sales GROUP BY 1"
        sums = {row.customer_id: row for row in session.execute(text(query))}
    sales, cost, orders = (
        float(sum(getattr(row, name) for row in sums.values())) for name in ("sales", "cost", "orders")
    )
    overall, order = (sales - cost) / sales, sales / orders
    for number, customer in enumerate(made):
        of = sums[customer]
        rate = (float(of.sales - of.cost) + overall * order) / (float(of.sales) + order)
        called = 52 * 10 * margin[customer]["p_alive"] * 52 * 7 / 365 if number == 1 else 0.0
        for name in ("worth", "worth_low", "worth_high"):
            assert margin[customer][name] == pytest.approx(rate * revenue[customer][name] - called, rel=2e-5, abs=1e-3)
        assert margin[customer]["p_alive"] == revenue[customer]["p_alive"]
    assert done.results["margin"]["rate"] == pytest.approx(overall)
    total = done.results["total"]
    assert total["worth"] == pytest.approx(sum(row["worth"] for row in margin.values()), rel=1e-5)
    assert total["low"] < total["worth"] < total["high"]


def test_currencies_need_rates(company: tuple[Database, list[int]]) -> None:
    """Without rates the currencies are named; with them worth is that of the sales in one money."""
    database, _ = company
    _, dollars = run(database, "dollars")
    with database.writing() as session:
        session.execute(
            text("UPDATE sales SET currency = 'EUR', amount = amount * 4, cost = cost * 4 WHERE id % 2 = 0")
        )
        session.execute(text("INSERT INTO sale_changes DEFAULT VALUES"))
    with pytest.raises(GeocrmError, match=r"EUR.*sales"):
        run(database, "mixed")
    with database.writing() as session:
        failed = session.scalars(text("SELECT error ->> 'detail' FROM segmentation_runs WHERE status = 'failed'")).one()
    assert "rates" in failed
    done, both = run(database, "rated", currency="USD", rates={"EUR": "0.25"})
    assert done.results["currency"] == "USD"
    for customer, row in both.items():
        assert row["worth"] == pytest.approx(dollars[customer]["worth"], rel=1e-4)
    with database.writing() as session:
        session.execute(text("UPDATE sales SET cost = NULL"))
        session.execute(text("INSERT INTO sale_changes DEFAULT VALUES"))
    with pytest.raises(TooLittleData, match="whose cost is known"):
        run(database, "unknown", of="margin", currency="USD", rates={"EUR": 0.25})


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"rates": {"EUR": 1}}, "/parameters/currency"),
        ({"currency": "usd", "rates": {"EUR": 1}}, "/parameters/currency"),
        ({"currency": "USD"}, "/parameters/rates"),
        ({"currency": "USD", "rates": {"EURO": 1}}, "/parameters/rates"),
        ({"currency": "USD", "rates": {"EUR": 0}}, "/parameters/rates/EUR"),
        ({"currency": "USD", "rates": {"EUR": "much"}}, "/parameters/rates/EUR"),
        ({"currency": "USD", "rates": {"EUR": True}}, "/parameters/rates/EUR"),
    ],
)
def test_wrong_money(parameters: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_money(parameters)
    assert caught.value.errors[0]["pointer"] == pointer
    with pytest.raises(Invalid, match="revenue or margin"):
        Value.check({"of": "profit"})
