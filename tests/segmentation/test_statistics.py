"""Sufficient statistics: equal to those summed by hand, and after any changes equal to those made anew."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.crm import sales as crm_sales
from geocrm.db.engine import Database
from geocrm.errors import Invalid
from geocrm.segmentation import customer_statistics, sales_reading, statistics
from geocrm.segmentation.sales_statistics import NO_DAY
from tests import makers
from tests.ingest.conftest import Desk

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
CHANNELS = ("shop", "web", None)


def stored(session: Session, cutoff: datetime = CUTOFF) -> dict[int, dict[str, Any]]:
    """What stands in the database, customer by customer."""
    header = statistics.find_cutoff(session, cutoff)
    assert header is not None
    widths = {"channels": len(header.channels), "categories": len(header.categories)}
    held = customer_statistics.read(session, header.id, 0, 2**62, **widths)
    rows = {}
    for i, customer in enumerate(held["customer_id"].tolist()):
        row = {name: values[i].tolist() for name, values in held.items()}
        for name in ("first_day", "last_day"):
            row[name] = None if row[name] == NO_DAY else date(2000, 1, 1) + timedelta(days=row[name])
        rows[customer] = row
    return rows


def by_hand(session: Session, cutoff: datetime = CUTOFF) -> dict[int, dict[str, Any]]:
    """The same from the sales, one by one."""
    header = statistics.find_cutoff(session, cutoff)
    assert header is not None
    lines: dict[int, list[Any]] = {}
    for line in session.execute(
        text("SELECT l.*, p.category FROM sale_lines l LEFT JOIN products p ON p.id = l.product_id")
    ):
        lines.setdefault(line.sale_id, []).append(line)
    sales: dict[int, list[Any]] = {}
    for sale in session.execute(
        text("SELECT * FROM sales WHERE occurred_at < :cutoff ORDER BY occurred_at"), {"cutoff": cutoff}
    ):
        sales.setdefault(sale.customer_id, []).append(sale)
    rates = {name: Decimal(rate) for name, rate in header.rates.items()}

    def e4(amount: Decimal, currency: str) -> int:
        if not rates:
            return int(amount * 10_000)
        exact = amount * rates[currency] * 10_000
        whole = int(abs(exact) + Decimal("0.5"))  # half away from zero, as PostgreSQL rounds
        return whole if exact >= 0 else -whole

    made = {}
    for customer, all_of in sales.items():
        orders = [s for s in all_of if not s.returned]
        days = sorted({s.occurred_at.astimezone(UTC).date() for s in orders})

        def since(days: int) -> datetime:
            return cutoff - timedelta(days=days)

        def total(chosen: list[Any]) -> int:
            return sum(e4(s.amount, s.currency) for s in chosen)

        late = [s for s in all_of if s.occurred_at >= since(365)]
        before = [s for s in all_of if since(730) <= s.occurred_at < since(365)]
        costed = [s for s in all_of if s.cost is not None]
        made[customer] = {
            "customer_id": customer,
            "orders": len(orders),
            "returns": len(all_of) - len(orders),
            "orders_90": sum(s.occurred_at >= since(90) for s in orders),
            "orders_365": sum(not s.returned for s in late),
            "returns_365": sum(s.returned for s in late),
            "orders_year_before": sum(not s.returned for s in before),
            "first_day": days[0] if days else None,
            "last_day": days[-1] if days else None,
            "purchase_days": len(days),
            "gap_squares": sum((b - a).days ** 2 for a, b in pairwise(days)),
            "amount_e4": total(all_of),
            "amount_90_e4": total([s for s in all_of if s.occurred_at >= since(90)]),
            "amount_365_e4": total(late),
            "amount_year_before_e4": total(before),
            "order_amount_e4": total(orders),
            "first_day_amount_e4": total([s for s in orders if s.occurred_at.astimezone(UTC).date() == days[0]]),
            "discount_e4": sum(e4(s.discount, s.currency) for s in orders),
            "margin_e4": sum(e4(s.amount, s.currency) - e4(s.cost, s.currency) for s in costed),
            "margin_365_e4": sum(e4(s.amount, s.currency) - e4(s.cost, s.currency) for s in costed if s in late),
            "costed": len(costed),
            "costed_365": sum(s.cost is not None for s in late),
            "lined_orders": sum(s.id in lines for s in orders),
            "lines": sum(len(lines.get(s.id, [])) for s in orders),
            "channel_orders": [sum(s.channel == name for s in orders) for name in header.channels],
            "category_amounts_e4": [
                sum(
                    e4(line.amount, s.currency) for s in orders for line in lines.get(s.id, []) if line.category == name
                )
                for name in header.categories
            ],
        }
    return made


class World:
    """A few customers whose sales change, with the log written as the writers of geocrm write it."""

    def __init__(self, session: Session, seed: int, currencies: tuple[str, ...] = ("USD",)) -> None:
        self.session = session
        self.rng = random.Random(seed)
        self.currencies = currencies
        self.customers = [makers.make_customer(session) for _ in range(6)]
        self.products = [
            makers._add(session, makers.models.Product(name=name, category=category, sku=name))
            for name, category in (("tent", "Camp"), ("rope", "Climb"), ("voucher", None))
        ]
        self.batch = 0
        self.kept: dict[int, list[dict[str, Any]]] = {}

    def sale(self, batch: int | None = None, *, newest: bool = False) -> int:
        rng = self.rng
        returned = rng.random() < 0.2
        back = rng.random() * (2 if newest else 900) - 1  # some are after the cutoff
        lines = rng.choice([0, 0, 1, 3])
        amount = Decimal(rng.randint(1, 99_999)).scaleb(-2) * (-1 if returned else 1)
        sale = makers.make_sale(
            self.session,
            rng.choice(self.customers),
            amount=str(amount),
            cost=None if rng.random() < 0.2 else amount / 2,
            discount=Decimal(rng.randint(0, 3)),
            returned=returned,
            currency=rng.choice(self.currencies),
            channel=rng.choice(CHANNELS),
            occurred_at=CUTOFF - timedelta(days=back if rng.random() < 0.8 else round(back)),
            batch_id=batch,
        )
        for number in range(lines):
            makers._add(
                self.session,
                makers.models.SaleLine(
                    customer_id=sale.customer_id, sale_id=sale.id, line_no=number + 1, quantity=Decimal(1),
                    product_id=rng.choice(self.products).id, unit_price=amount, amount=amount,
                ),
            )  # fmt: skip
        self.session.expunge_all()
        if batch is None:
            statistics.tell_added(self.session, sale.customer_id, sale.id)
        return sale.id

    def load(self, count: int, *, newest: bool = False) -> int:
        """An import of new sales."""
        self.batch += 1
        for _ in range(count):
            self.sale(self.batch, newest=newest)
        statistics.tell_import(self.session, self.batch)
        return self.batch

    def any_sale(self) -> Any:
        return self.session.execute(text("SELECT * FROM sales ORDER BY id")).mappings().all()

    def edit(self) -> None:
        sale = self.rng.choice(self.any_sale())
        self.session.execute(
            text("UPDATE sales SET amount = amount + 1, occurred_at = occurred_at - interval '9 days' WHERE id = :id"),
            {"id": sale["id"]},
        )
        statistics.tell_changed(self.session, [sale["customer_id"]])

    def move(self) -> None:
        """Another customer's from now on, written by an import: deleted and inserted under its own id."""
        sale = dict(self.rng.choice(self.any_sale()))
        former, sale["customer_id"] = sale["customer_id"], self.rng.choice(self.customers).id
        self.session.execute(text("DELETE FROM sales WHERE id = :id"), {"id": sale["id"]})
        self.batch += 1
        self.session.execute(makers.models.Sale.__table__.insert(), sale | {"batch_id": self.batch})
        statistics.tell_import(self.session, self.batch)
        statistics.tell_changed(self.session, [former, sale["customer_id"]])

    def delete(self) -> None:
        sale = self.rng.choice(self.any_sale())
        self.session.execute(text("DELETE FROM sales WHERE id = :id"), {"id": sale["id"]})
        statistics.tell_changed(self.session, [sale["customer_id"]])

    def undo(self) -> None:
        batch = self.rng.randint(1, max(self.batch, 1))
        gone = self.session.execute(
            text("DELETE FROM sales WHERE batch_id = :batch RETURNING customer_id"), {"batch": batch}
        )
        statistics.tell_changed(self.session, gone.scalars().all())


def refreshed(session: Session, **options: Any) -> statistics.Refreshed:
    done = statistics.refresh(session, CUTOFF, **options)
    assert stored(session) == by_hand(session)
    return done


def test_a_full_run_sums_what_there_is(session: Session) -> None:
    world = World(session, seed=1)
    world.load(80)
    done = refreshed(session)
    assert done.full
    assert done.customers == len(by_hand(session)) > 3
    header = statistics.find_cutoff(session, CUTOFF)
    assert header is not None
    assert (header.currency, header.channels, header.categories) == ("USD", ["shop", "web"], ["Camp", "Climb"])


@pytest.mark.parametrize("side_by_side", [0, 10_000])
def test_parts_and_buckets_give_the_same(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, side_by_side: int
) -> None:
    monkeypatch.setattr(sales_reading, "SIDE_BY_SIDE", side_by_side)
    monkeypatch.setattr(sales_reading, "PAGES", 1)
    monkeypatch.setattr(statistics, "buckets_of", lambda pages: 3)
    monkeypatch.setattr(statistics._Run, "_run", _with_bounds(statistics._Run._run))
    World(session, seed=2).load(300)
    session.execute(text("SET LOCAL max_parallel_workers_per_gather = 3"))
    pages = session.execute(text(statistics.named(statistics.SQL, "pages"))).one()
    assert min(pages.sales, pages.lines) > 1
    assert refreshed(session, folder=tmp_path).full
    assert not list(tmp_path.iterdir())


def _with_bounds(run: Any) -> Any:
    """A sample of a small table holds nothing: the bounds are given."""

    def patched(self: Any, name: str, *rest: Any, **values: Any) -> Any:
        if name != "bounds":
            return run(self, name, *rest, **values)
        ids = self.session.execute(text("SELECT array_agg(DISTINCT customer_id) FROM sales")).scalar_one()
        return self.session.execute(text("SELECT CAST(:ids AS bigint[])"), {"ids": [ids[1], ids[-2]]})

    return patched


def test_only_new_sales_are_put_to_the_statistics(session: Session) -> None:
    world = World(session, seed=3)
    world.load(60)
    refreshed(session)
    assert refreshed(session).why == "nothing changed"
    world.sale(newest=True)
    world.load(8, newest=True)
    assert not refreshed(session).full
    world.load(8, newest=True)
    assert not refreshed(session).full
    assert session.scalar(text("SELECT count(*) FROM sale_changes")) == 0  # what all have read is forgotten


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10**6),
    steps=st.lists(
        st.sampled_from(["sale", "load", "newest", "edit", "move", "delete", "undo", "refresh"]),
        min_size=4,
        max_size=14,
    ),
)
def test_after_any_changes_a_refresh_equals_a_full_run(database: Database, seed: int, steps: list[str]) -> None:
    with _rolled_back(database) as session:
        world = World(session, seed)
        world.load(30)
        refreshed(session)
        for step in steps:
            match step:
                case "newest":
                    world.load(3, newest=True)
                case "load":
                    world.load(3)
                case "refresh":
                    refreshed(session)
                case "sale":
                    world.sale()
                case _ if world.any_sale():
                    getattr(world, step)()
        refreshed(session)
        followed = stored(session)
        assert statistics.refresh(session, CUTOFF, full=True).full
        anew = stored(session)
        for rows in (followed, anew):
            for row in rows.values():
                del row["channel_orders"]  # a full run forgets channels that have no sales any more
        assert anew == followed


@contextmanager
def _rolled_back(database: Database) -> Iterator[Session]:
    with database.writing_engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as opened:
            yield opened
        transaction.rollback()


def test_a_new_channel_and_changed_categories_read_all_anew(session: Session) -> None:
    world = World(session, seed=4)
    world.load(40)
    refreshed(session)
    customer = world.customers[0]
    sale = makers.make_sale(session, customer, channel="fair", occurred_at=CUTOFF - timedelta(days=1))
    statistics.tell_added(session, customer.id, sale.id)
    assert refreshed(session).why == "a new currency, channel or category"
    session.execute(text("UPDATE products SET category = 'Camp' WHERE name = 'rope'"))
    assert refreshed(session).why == "categories of products changed"
    statistics.tell_all(session)
    assert refreshed(session).why == "any sale may be different"


def test_currencies_are_never_summed(session: Session) -> None:
    world = World(session, seed=5, currencies=("USD", "CHF"))
    world.load(40)
    with pytest.raises(Invalid, match=r"several currencies: (USD|CHF) \(\d+ sales\), (USD|CHF) \(\d+ sales\)"):
        statistics.refresh(session, CUTOFF)
    with pytest.raises(Invalid, match="no rate for CHF"):
        statistics.refresh(session, CUTOFF, currency="USD", rates={"EUR": Decimal("1.1")})
    with pytest.raises(Invalid, match="above 0"):
        statistics.refresh(session, CUTOFF, currency="USD", rates={"CHF": Decimal(0)})
    rates = {"CHF": Decimal("1.12345")}
    assert refreshed(session, currency="USD", rates=rates).full
    world.load(5)
    assert not refreshed(session, currency="USD", rates=rates).full
    assert refreshed(session, currency="USD", rates={"CHF": Decimal("1.2")}).why == "other rates"
    world.load(2)
    assert not refreshed(session).full  # goes on with the rates it has
    world.currencies = ("EUR",)
    world.load(8)
    with pytest.raises(Invalid, match="no rate for EUR"):
        statistics.refresh(session, CUTOFF)


def test_without_sales_there_is_nothing_to_sum(session: Session) -> None:
    done = statistics.refresh(session, CUTOFF)
    assert (done.customers, stored(session)) == (0, {})
    World(session, seed=6).load(5)
    assert refreshed(session).why == "there were no sales"


def test_a_cutoff_needs_a_time_zone(session: Session) -> None:
    with pytest.raises(Invalid, match="time zone"):
        statistics.refresh(session, datetime(2026, 1, 1))  # noqa: DTZ001


def test_what_commits_while_a_refresh_runs_is_read_by_the_next(new_database: Any) -> None:
    database = new_database()
    with database.writing() as session:
        customer = makers.make_customer(session)
        sale = makers.make_sale(session, customer, occurred_at=CUTOFF - timedelta(days=9))
        statistics.tell_added(session, customer.id, sale.id)
    with Session(database.writing_engine) as slow, slow.begin():  # begins before the refresh, commits after it
        late = makers.make_sale(slow, customer, occurred_at=CUTOFF - timedelta(days=8))
        statistics.tell_added(slow, customer.id, late.id)
        with database.writing() as session:
            statistics.refresh(session, CUTOFF)
        with database.writing() as session:
            assert stored(session)[customer.id]["orders"] == 1
    with database.writing() as session:
        refreshed(session)
        assert stored(session)[customer.id]["orders"] == 2
    original = statistics._Run._reading

    def interrupted(self: Any, *given: Any) -> Any:
        """Between the look at the log and the reading of the sales, somebody commits a sale."""
        with database.writing() as other:
            between = makers.make_sale(other, customer, occurred_at=CUTOFF - timedelta(days=7))
            statistics.tell_added(other, customer.id, between.id)
        return original(self, *given)

    with pytest.MonkeyPatch.context() as patch, database.writing() as session:
        patch.setattr(statistics._Run, "_reading", interrupted)
        statistics.refresh(session, CUTOFF, full=True)
    with database.writing() as session:
        done = refreshed(session)
        assert not done.full
        assert stored(session)[customer.id]["orders"] == 3


def test_whoever_writes_sales_tells_so(new_database: Any, tmp_path: Path) -> None:
    """Imports, one that changes and moves sales, a sale entered by hand, undo: each followed, none by a full run."""
    database: Database = new_database()
    desk = Desk(database, tmp_path)
    people = "".join(f"c{i},Customer {i}\n" for i in range(4))
    desk.run("external_id,name\n" + people, "customers", source="shop")

    def follow() -> None:
        with database.writing() as session:
            assert refreshed(session).why == "what changed"

    def load(*rows: str) -> dict[str, Any]:
        head = "external_id,customer,occurred_at,amount,currency,channel\n"
        summary = desk.run(head + "\n".join(rows) + "\n", "sales", source="shop")
        assert summary["counts"]["rejected"] == 0
        return summary

    load(*(f"s{i},c{i % 4},2025-0{1 + i % 9}-0{1 + i % 7}T10:00:00Z,{10 + i},USD,web" for i in range(30)))
    with database.writing() as session:
        assert refreshed(session).full
    load("n1,c1,2025-12-20T10:00:00Z,5,USD,web", "n2,c2,2025-02-03T10:00:00Z,7,USD,web")
    follow()
    changed = load("s3,c3,2025-03-01T10:00:00Z,99,USD,web", "s4,c2,2025-04-01T10:00:00Z,1,USD,web")
    follow()
    desk.undo(changed)
    follow()
    with database.writing() as session:
        customer = session.scalars(text("SELECT customer_id FROM sale_sources WHERE external_id = 's1'")).one()
        values = {"occurred_at": CUTOFF - timedelta(days=2), "amount": Decimal(8), "currency": "USD", "channel": "web"}
        crm_sales.create(session, SYSTEM, session.get_one(makers.models.Customer, customer), values)
    follow()
    gone = load("g1,c0,2025-12-28T10:00:00Z,5,USD,web")
    desk.undo(gone)  # before anybody has read it
    follow()
