"""Sufficient statistics of each customer's sales at a cutoff: what all features of behaviour are made from.

`refresh` makes them in one pass over the sales, and follows later ones in a small part of that time: whoever writes
sales tells so in `sale_changes`, in the same transaction (`tell_added`, `tell_import`, `tell_changed`), so a refresh
knows what committed since it last looked, whatever the order in which transactions began and ended. Sales that were
only added are put to the statistics; a customer any of whose sales was changed, or was added before the last one, is
read anew as a whole. The result is the one of a full run, to the last digit: amounts are summed in ten-thousandths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from geocrm.db.models import CustomerStatistics, FeatureCutoff
from geocrm.db.queries import named
from geocrm.errors import Invalid, NotFound

SQL: Final = "features_statistics"
CHANNELS: Final = 24
"""Channels, and categories, that are told apart: those with most sales (products)."""
NO_CURRENCY: Final = "XXX"
"""ISO 4217 for "no currency": of a cutoff before all sales."""
RERUN_SHARE: Final = 0.2
RERUN_AT_LEAST: Final = 5_000
"""Where so many customers are to be read anew, or so much was added, all is read anew."""

_NAMES: Final = re.compile(r"(?<!:):([a-z_][a-z0-9_]*)")
_LOCK: Final = 7_305_417_203
_PARALLEL_FROM: Final = 200_000
_COLUMNS: Final = tuple(
    column.name for column in CustomerStatistics.__table__.columns if column.name not in ("cutoff_id",)
)
_ARRAYS: Final = ("channel_orders", "category_amounts_e4")
_NOT_SUMMED: Final = ("customer_id", "first_day", "last_day", "purchase_days", "gap_squares", "first_day_amount_e4")


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did: `full`, why, and how many customers' statistics it wrote."""

    cutoff_id: int
    full: bool
    why: str
    customers: int


# --- telling what changed: called by whoever writes sales, in the same transaction ---


def tell_added(session: Session, customer_id: int, sale_id: int) -> None:
    """A sale was added."""
    session.execute(
        text(
            "INSERT INTO sale_changes (customer_id, sale_id) VALUES (CAST(:customer_id AS bigint),"
            " CAST(:sale_id AS bigint))"
        ),
        {"customer_id": customer_id, "sale_id": sale_id},
    )


def tell_import(session: Session, batch_id: int) -> None:
    """Sales were added that carry this batch. Customers whose other sales it wrote are told by `tell_changed`."""
    session.execute(
        text("INSERT INTO sale_changes (batch_id) VALUES (CAST(:batch_id AS bigint))"), {"batch_id": batch_id}
    )


def tell_changed(session: Session, customer_ids: Iterable[int]) -> None:
    """Sales of these customers, or lines of them, were changed, deleted, or moved to or from them."""
    session.execute(
        text("INSERT INTO sale_changes (customer_id) SELECT DISTINCT unnest(CAST(:ids AS bigint[]))"),
        {"ids": [int(i) for i in customer_ids]},
    )


def tell_all(session: Session) -> None:
    """Any sale may be different."""
    session.execute(text("INSERT INTO sale_changes DEFAULT VALUES"))


# --- the statistics ---


def find_cutoff(session: Session, cutoff: datetime) -> FeatureCutoff | None:
    """The statistics that stand at a cutoff; None where there are none."""
    return session.scalars(
        select(FeatureCutoff)
        .where(FeatureCutoff.cutoff == cutoff_moment(cutoff))
        .execution_options(populate_existing=True)
    ).one_or_none()


def refresh(
    session: Session,
    cutoff: datetime,
    *,
    currency: str | None = None,
    rates: Mapping[str, Decimal] | None = None,
    full: bool = False,
) -> Refreshed:
    """Make the statistics of all sales before `cutoff` true to what is committed now, in the worker's session.

    The first time, after a change of `rates`, and with `full`, in one pass over all sales; else from what changed.
    `rates` says what one unit of each currency is worth in `currency`; amounts are rounded to a ten-thousandth, sale
    by sale. Without them the sales have to be of one currency. Later refreshes go on with the rates of the first
    where none are given. One refresh runs at a time; another one waits.

    Raises `errors.Invalid` for a cutoff without time zone, and for sales of several currencies where no rates are
    given, or of one that the rates do not name, with the currencies.
    """
    moment = cutoff_moment(cutoff)
    session.flush()
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    run = _Run(session, moment, find_cutoff(session, moment))
    wanted = _Money.read(currency, rates)
    why = "asked for" if full else run.why_full(wanted)
    if not why:
        done = run.follow()
        if isinstance(done, Refreshed):
            return done
        why = done
    if wanted is None and run.present is not None and run.present.rates:
        wanted = _Money(run.present.currency, {name: Decimal(rate) for name, rate in run.present.rates.items()})
    elif wanted is not None and not wanted.currency:
        wanted = None
    return run.make(wanted, why)


def forget(session: Session, cutoff: datetime) -> None:
    """Take the statistics of a cutoff away; raises NotFound where there are none."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    present = find_cutoff(session, cutoff)
    if present is None:
        raise NotFound(f"There are no statistics of customers at {cutoff_moment(cutoff).isoformat()}.")
    _delete(session, present.id)


def cutoff_moment(cutoff: datetime) -> datetime:
    """A cutoff in UTC; raises `errors.Invalid` where it has no time zone."""
    if cutoff.tzinfo is None:
        raise Invalid("The cutoff needs a time zone: 2026-01-01T00:00:00Z, for all that happened before 2026.")
    return cutoff.astimezone(UTC)


@dataclass(frozen=True)
class _Money:
    """The currency of amounts, and what one unit of others is worth in it."""

    currency: str
    rates: dict[str, Decimal]

    @classmethod
    def read(cls, currency: str | None, rates: Mapping[str, Decimal] | None) -> _Money | None:
        """What was asked for; None where nothing was. Raises Invalid."""
        if rates is None:
            return None if currency is None else cls(currency, {})
        if currency is None:
            raise Invalid("Rates need the currency that they lead to: currency='EUR', rates={'USD': …}.")
        read = {name: Decimal(str(rate)) for name, rate in rates.items()} | {currency: Decimal(1)}
        for name, rate in read.items():
            if not (rate.is_finite() and 0 < rate < Decimal(10) ** 9):
                raise Invalid(f"The rate of {name} has to be a number above 0.")
        return cls(currency, {name: rate.normalize() for name, rate in sorted(read.items())})

    def same_as(self, present: FeatureCutoff) -> bool:
        stored = {name: Decimal(rate) for name, rate in present.rates.items()}
        return self.currency == present.currency and self.rates == stored


class _Run:
    """One refresh, from the first look at the sales to the last."""

    def __init__(self, session: Session, cutoff: datetime, present: FeatureCutoff | None) -> None:
        self.session = session
        self.cutoff = cutoff
        self.present = present
        self.seen = self._snapshot()
        self.values: dict[str, Any] = {"cutoff": cutoff} | {
            f"from_{days}": cutoff - timedelta(days=days) for days in (90, 365, 730)
        }

    # --- following what changed ---

    def why_full(self, wanted: _Money | None) -> str:
        """Why all sales have to be read; empty where what changed is enough."""
        present = self.present
        if present is None:
            return "there were none"
        if wanted is not None and not wanted.same_as(present):
            return "other rates"
        if present.system_identifier != self.seen.system_identifier:
            return "the database was restored"
        if present.currency == NO_CURRENCY:
            return "there were no sales"
        if self._run("products", newest=present.newest_product_id).one().digest != present.products_digest:
            return "categories of products changed"
        return ""

    def follow(self) -> Refreshed | str:
        """Make the statistics follow what changed; or why they could not."""
        assert self.present is not None
        session, present = self.session, self.present
        self._drop("sales_told", "sales_changed", "statistics_new", "statistics_anew")
        self._run("told", cutoff_id=present.id)
        told = session.execute(
            text(
                "SELECT count(*) AS n, coalesce(bool_or(batch_id IS NULL AND customer_id IS NULL), false) AS all_of"
                ", array_agg(batch_id) FILTER (WHERE NOT doubtful AND batch_id IS NOT NULL) AS batches FROM sales_told"
            )
        ).one()
        if told.all_of:
            return "any sale may be different"
        if not told.n:
            self._finish(present.id, None)
            return Refreshed(present.id, False, "nothing changed", 0)
        self._run("changed")
        most = max(RERUN_AT_LEAST, int(RERUN_SHARE * present.customers))
        added = self._count("customer_statistics_added WHERE cutoff_id = CAST(:id AS bigint)", id=present.id)
        if added > most or self._count("sales_changed") > most:
            return "much changed"
        session.execute(text("ANALYZE sales_told, sales_changed"))
        unchanged = "AND NOT EXISTS (SELECT FROM sales_changed c WHERE c.customer_id = s.customer_id)"
        money = _Money(present.currency, {name: Decimal(rate) for name, rate in present.rates.items()})
        sales = _Sales(named(SQL, "added_sales"), unchanged, money)
        self._collapse("statistics_new", [sales], present, strange=True, batches=told.batches or [])
        new = session.execute(
            text("SELECT count(*) AS customers, min(first_day) AS first, max(last_day) AS last FROM statistics_new")
        ).one()
        if new.first is not None and present.last_day is not None and new.first < present.last_day:
            session.execute(text("ANALYZE statistics_new"))
            self._run("late", cutoff_id=present.id)
            self._run("forget_late")
        changed = self._count("sales_changed")
        if changed:
            if changed > most:
                return "much changed"
            session.execute(text("ANALYZE sales_changed"))
            sales = _Sales("(SELECT a.* FROM sales a JOIN sales_changed USING (customer_id))", "", money)
            self._collapse("statistics_anew", [sales], present, strange=True)
            last = session.scalar(text("SELECT max(last_day) FROM statistics_anew"))
            days = [day for day in (new.last, last) if day is not None]
        else:
            days = [] if new.last is None else [new.last]
        if why := self._strange(changed > 0):
            return why
        columns = {"columns": ", ".join(_COLUMNS)}
        if changed:
            for table in ("customer_statistics", "customer_statistics_added"):
                self._run("delete_changed", {"table": table}, cutoff_id=present.id)
            self._run(
                "insert", columns | {"table": "customer_statistics", "made": "statistics_anew"}, cutoff_id=present.id
            )
        if added:
            self._run("add", columns | {"put_together": _put_together(present)}, cutoff_id=present.id)
        else:
            self._run(
                "insert",
                columns | {"table": "customer_statistics_added", "made": "statistics_new"},
                cutoff_id=present.id,
            )
        self._finish(present.id, max(days, default=None))
        return Refreshed(present.id, False, "what changed", int(self._count("statistics_new")) + changed)

    def _strange(self, anew: bool) -> str:
        """Whether a currency, channel or category came that the present statistics have no place for."""
        tables = ["statistics_new", *(["statistics_anew"] if anew else [])]
        union = " UNION ALL ".join(f"SELECT strange FROM {table}" for table in tables)
        strange = self.session.scalar(text(f"SELECT coalesce(sum(strange), 0) FROM ({union}) AS t"))
        return "a new currency, channel or category" if strange else ""

    # --- all sales ---

    def make(self, money: _Money | None, why: str) -> Refreshed:
        """Read all sales before the cutoff."""
        session = self.session
        self._drop("statistics_made")
        surveyed = self._run("survey").all()
        money = _checked(money, surveyed, self.cutoff)
        newest = self._run("products", newest=0).one().newest
        header = FeatureCutoff(
            cutoff=self.cutoff,
            currency=money.currency,
            rates={name: str(rate) for name, rate in money.rates.items()},
            channels=_most(surveyed),
            categories=sorted(self._run("categories", limit=CHANNELS).scalars()),
            customers=0,
            sales=0,
            newest_product_id=newest,
            products_digest=self._run("products", newest=newest).one().digest,
            version=0 if self.present is None else self.present.version,
            system_identifier=self.seen.system_identifier,
            seen_before="", seen_after="", seen_by=0, seen_up_to=0,
        )  # fmt: skip
        parts, values = self._parts(sum(row.sales for row in surveyed), money)
        self._collapse("statistics_made", parts, header, **values)
        if self.present is not None:
            _delete(session, self.present.id)
        session.add(header)
        session.flush()
        self._run(
            "insert",
            {"columns": ", ".join(_COLUMNS), "table": "customer_statistics", "made": "statistics_made"},
            cutoff_id=header.id,
        )
        totals = self._run("totals", {"made": "statistics_made"}).one()
        header.customers, header.sales = totals.customers, totals.sales
        session.flush()
        self._finish(header.id, totals.last_day)
        session.execute(text("DROP TABLE statistics_made"))
        return Refreshed(header.id, True, why, totals.customers)

    def _parts(self, count: int, money: _Money) -> tuple[list[_Sales], dict[str, Any]]:
        """The sales in as many parts as there are processes for one statement, by ranges of customers."""
        processes = int(self.session.scalar(text("SHOW max_parallel_workers_per_gather")) or 0)
        bounds: list[int] = []
        if count >= _PARALLEL_FROM and processes > 1:
            shares = [i / processes for i in range(1, processes)]
            bounds = sorted(set(self._run("bounds", shares=shares).scalar() or []))
        edges = [0, *bounds, 2**63 - 1]
        values = {f"edge_{i}": edge for i, edge in enumerate(edges)}
        parts = [
            _Sales(
                "sales",
                f"AND s.customer_id >= CAST(:edge_{i} AS bigint) AND s.customer_id < CAST(:edge_{i + 1} AS bigint)",
                money,
            )
            for i in range(len(edges) - 1)
        ]
        return parts, values

    # --- what both share ---

    def _collapse(
        self, table: str, parts: list[_Sales], header: FeatureCutoff, *, strange: bool = False, **values: Any
    ) -> None:
        """A temporary table with the statistics of some sales. Its parts, each of other customers, run side by side."""
        categories = {f"category_{i}": name for i, name in enumerate(header.categories)}
        channels = {f"channel_{i}": name for i, name in enumerate(header.channels)}
        currency = {f"currency_{i}": name for i, name in enumerate(header.rates or [header.currency])}
        full = len(header.channels) >= CHANNELS, len(header.categories) >= CHANNELS
        conditions = [f"s.currency <> ALL (ARRAY[{_texts(currency)}])"]
        if not full[0]:
            conditions.append(f"s.channel IS NOT NULL AND s.channel <> ALL (CAST(ARRAY[{_texts(channels)}] AS text[]))")
        slots = {
            "no_categories": f"CAST(ARRAY[{', '.join('0' for _ in categories)}] AS bigint[])",
            "channels": _array(
                [
                    f"CAST(count(*) FILTER (WHERE NOT s.returned AND s.channel = :{name}) AS integer)"
                    for name in channels
                ],
                "integer",
            ),
            "strange_sales": f"count(*) FILTER (WHERE {' OR '.join(conditions)})" if strange else "0",
            "strange_lines": (
                "count(*) FILTER (WHERE p.category IS NOT NULL AND"
                f" p.category <> ALL (CAST(ARRAY[{_texts(categories)}] AS text[])))"
                if strange and not full[1]
                else "0"
            ),
        }
        bodies = []
        for part in parts:
            line = f"coalesce(sum({part.line_amount}) FILTER (WHERE p.category = :{{}}), 0) * 10000"
            own = {"categories": _array([f"CAST({line.format(name)} AS bigint)" for name in categories], "bigint")}
            bodies.append(_fill(named(SQL, "collapse"), slots | own | {"sales": part.sql()}))
        values = self.values | values | categories | channels
        if strange:
            values |= currency
        if any(part.money.rates for part in parts):
            rates = parts[0].money.rates
            values |= {"rate_names": list(rates), "rate_values": list(rates.values())}
        statement = f"CREATE TEMP TABLE {table} ON COMMIT DROP AS " + " UNION ALL ".join(bodies)
        with _planned_for_sorting(self.session):
            self.session.execute(text(statement), _used(statement, values))

    def _finish(self, cutoff_id: int, last_day: Any) -> None:
        after = self._snapshot()
        self._run(
            "finish",
            cutoff_id=cutoff_id,
            last_day=last_day,
            seen_before=self.seen.snapshot,
            seen_after=after.snapshot,
            seen_by=self.seen.transaction,
            seen_up_to=self.seen.up_to,
        )
        self._run("prune")

    def _snapshot(self) -> Row[Any]:
        return self._run("snapshot").one()

    def _count(self, table: str, **values: Any) -> int:
        return int(self.session.scalar(text(f"SELECT count(*) FROM {table}"), values) or 0)

    def _drop(self, *tables: str) -> None:
        """Temporary tables of a former refresh in the same transaction."""
        self.session.execute(text("DROP TABLE IF EXISTS " + ", ".join(f"pg_temp.{table}" for table in tables)))

    def _run(self, name: str, slots: Mapping[str, str] | None = None, /, **values: Any) -> Any:
        statement = _fill(named(SQL, name), slots or {})
        return self.session.execute(text(statement), _used(statement, getattr(self, "values", {}) | values))


@dataclass(frozen=True)
class _Sales:
    """Some of the sales: where they come from, which of them, and in which money."""

    source: str
    condition: str
    money: _Money

    @property
    def line_amount(self) -> str:
        return "round(l.amount * s.rate, 4)" if self.money.rates else "l.amount"

    def sql(self) -> str:
        amounts, rates = "s.amount, s.cost, s.discount", ""
        if self.money.rates:
            amounts = ", ".join(f"round(s.{name} * r.rate, 4) AS {name}" for name in ("amount", "cost", "discount"))
            amounts += ", r.rate"
            rates = (
                "LEFT JOIN unnest(CAST(:rate_names AS text[]), CAST(:rate_values AS numeric[])) AS r(currency, rate)"
                " ON r.currency = s.currency"
            )
        slots = {"source": self.source, "and": self.condition, "amounts": amounts, "rates": rates}
        return _fill(named(SQL, "sales"), slots)


def _checked(money: _Money | None, surveyed: Iterable[Row[Any]], cutoff: datetime) -> _Money:
    """The money of these sales. Raises Invalid where their currencies cannot be summed."""
    count: dict[str, int] = {}
    for row in surveyed:
        count[row.currency] = count.get(row.currency, 0) + row.sales
    said = ", ".join(f"{name} ({n:,} sales)" for name, n in sorted(count.items(), key=lambda kept: -kept[1]))
    if money is not None and money.rates:
        missing = sorted(set(count) - set(money.rates))
        if missing:
            raise Invalid(f"There is no rate for {', '.join(missing)}; before {cutoff:%Y-%m-%d} there are {said}.")
        return money
    if len(count) > 1:
        raise Invalid(
            f"The sales before {cutoff:%Y-%m-%d} are in several currencies: {said}. Amounts of different currencies "
            "are not summed; give rates to one of them: currency='EUR', rates={'USD': …}."
        )
    if not count:
        return _Money(NO_CURRENCY if money is None else money.currency, {})
    (only,) = count
    if money is not None and money.currency != only:
        raise Invalid(f"The sales are in {only}; to have them in {money.currency} give a rate: rates={{{only!r}: …}}.")
    return _Money(only, {})


def _most(surveyed: Iterable[Row[Any]]) -> list[str]:
    """The channels with most sales, by name."""
    count: dict[str, int] = {}
    for row in surveyed:
        if row.channel is not None:
            count[row.channel] = count.get(row.channel, 0) + row.sales
    return sorted(sorted(count, key=lambda name: (-count[name], name))[:CHANNELS])


def _put_together(header: FeatureCutoff) -> str:
    """The assignments that put new statistics (EXCLUDED) to those in the table (a), none of whose days is later."""
    sums = [name for name in _COLUMNS if name not in (*_NOT_SUMMED, *_ARRAYS)]
    parts = [f"{name} = a.{name} + EXCLUDED.{name}" for name in sums]
    for name, count, of in (
        ("channel_orders", len(header.channels), "integer"),
        ("category_amounts_e4", len(header.categories), "bigint"),
    ):
        parts.append(f"{name} = " + _array([f"a.{name}[{i}] + EXCLUDED.{name}[{i}]" for i in range(1, count + 1)], of))
    parts += [f"{name} = {joined}" for name, joined in joined_days("a", "EXCLUDED").items()]
    return ", ".join(parts)


def joined_days(early: str, late: str) -> dict[str, str]:
    """Expressions for what is not summed, of two rows of statistics; `late` has no day before `early`'s last."""
    gap = f"coalesce({late}.first_day - {early}.last_day, 0)"
    return {
        "first_day": f"coalesce({early}.first_day, {late}.first_day)",
        "last_day": f"coalesce({late}.last_day, {early}.last_day)",
        "purchase_days": f"{early}.purchase_days + {late}.purchase_days"
        f" - CASE WHEN {late}.first_day = {early}.last_day THEN 1 ELSE 0 END",
        "gap_squares": f"{early}.gap_squares + {late}.gap_squares + CAST({gap} AS bigint) * {gap}",
        "first_day_amount_e4": f"{early}.first_day_amount_e4 + CASE WHEN {early}.first_day IS NULL"
        f" OR {early}.first_day = {late}.first_day THEN {late}.first_day_amount_e4 ELSE 0 END",
    }


def folded(schema: str, channels: int, categories: int, *, added: bool, chunk: bool) -> str:
    """A query for one row of statistics per customer, base and added put together, with the numbers of channels and
    categories of its cutoff. Binds cutoff_id, and with `chunk` after and upto: customers from beyond one to another.
    `schema`: visible or public."""
    condition = "cutoff_id = CAST(:cutoff_id AS bigint)"
    if chunk:
        condition += " AND customer_id > CAST(:after AS bigint) AND customer_id <= CAST(:upto AS bigint)"
    base = f"SELECT {', '.join(_COLUMNS)} FROM {schema}.customer_statistics WHERE {condition}"
    if not added:
        return base
    joined = joined_days("b", "a")
    for name, count in (("channel_orders", channels), ("category_amounts_e4", categories)):
        of = "integer" if name == "channel_orders" else "bigint"
        joined[name] = _array([f"b.{name}[{i}] + a.{name}[{i}]" for i in range(1, count + 1)], of)
    fields = [
        f"CASE WHEN a.customer_id IS NULL THEN b.{name} WHEN b.customer_id IS NULL THEN a.{name}"
        f" ELSE {joined.get(name, f'b.{name} + a.{name}')} END AS {name}"
        for name in _COLUMNS[1:]
    ]
    return (
        f"SELECT coalesce(b.customer_id, a.customer_id) AS customer_id, {', '.join(fields)} FROM ({base}) AS b"
        f" FULL JOIN (SELECT * FROM {schema}.customer_statistics_added WHERE {condition}) AS a"
        " ON a.customer_id = b.customer_id"
    )


def _delete(session: Session, cutoff_id: int) -> None:
    keys = {"customer_statistics": "cutoff_id", "customer_statistics_added": "cutoff_id", "feature_cutoffs": "id"}
    for table, key in keys.items():
        session.execute(text(f"DELETE FROM {table} WHERE {key} = CAST(:id AS bigint)"), {"id": cutoff_id})


@contextmanager
def _planned_for_sorting(session: Session) -> Iterator[None]:
    """Within the block customers are grouped by sorting, with 256 MB for each sort, and the parts of a UNION ALL run in
    processes of their own, rather than each part in several."""
    wanted = {
        "enable_hashagg": "off",
        "work_mem": "256MB",
        "jit": "off",
        "min_parallel_table_scan_size": "715827882",  # blocks: the largest there is
        "min_parallel_index_scan_size": "715827882",
    }
    setting = text("SELECT set_config(:name, :value, true)")
    former = {name: session.scalar(text("SELECT current_setting(:name)"), {"name": name}) for name in wanted}
    for name, value in wanted.items():
        session.execute(setting, {"name": name, "value": value})
    yield
    for name, value in former.items():  # after an error the roll-back takes them back
        session.execute(setting, {"name": name, "value": value})


def _array(items: list[str], of: str) -> str:
    return f"CAST(ARRAY[{', '.join(items)}] AS {of}[])"


def _texts(names: Iterable[str]) -> str:
    return ", ".join(f"CAST(:{name} AS text)" for name in names)


def _used(statement: str, values: Mapping[str, Any]) -> dict[str, Any]:
    named_here = set(_NAMES.findall(statement))
    return {name: value for name, value in values.items() if name in named_here}


def _fill(statement: str, slots: Mapping[str, str]) -> str:
    for slot, fragment in slots.items():
        statement = statement.replace("{" + slot + "}", fragment)
    return statement
