"""Sufficient statistics of each customer's sales at a cutoff: what all features of behaviour are made from.

`refresh` makes them in one pass over the sales, and follows later ones in a small part of that time: whoever writes
sales tells so in `sale_changes`, in the same transaction (`tell_added`, `tell_import`, `tell_changed`), so a refresh
knows what committed since it last looked, whatever the order in which transactions began and ended. Sales that were
only added are put to the statistics; a customer any of whose sales was changed, or was added before the last one, is
read anew as a whole. The result is the one of a full run, to the last digit: amounts are summed in ten-thousandths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from geocrm.db.copying import driver
from geocrm.db.engine import side_by_side
from geocrm.db.models import FeatureCutoff
from geocrm.db.queries import named
from geocrm.errors import Invalid, NotFound, TryAgain
from geocrm.segmentation import customer_statistics
from geocrm.segmentation.sales_reading import (
    Buckets,
    Products,
    Reading,
    Sales,
    buckets_of,
    microseconds,
    whole_tables,
)
from geocrm.segmentation.sales_statistics import LINE, NO_DAY, SALE, Columns, Windows, nothing, summarise

SQL: Final = "features_statistics"
CHANNELS: Final = 24
"""Channels, and categories, that are told apart: those with most sales (products)."""
NO_CURRENCY: Final = "XXX"
"""ISO 4217 for "no currency": of a cutoff before all sales."""
RERUN_SHARE: Final = 0.2
RERUN_AT_LEAST: Final = 5_000
"""Where so many customers are to be read anew, or so much was added, all is read anew."""

MOST_FOLLOWED: Final = 4_000_000
"""So many sales at most are followed in memory."""

_NAMES: Final = re.compile(r"(?<!:):([a-z_][a-z0-9_]*)")
LOCK: Final = 7_305_417_203
"""The advisory lock that a refresh holds to the end of its transaction."""
_FIRST_DAY: Final = date(2000, 1, 1)


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
    folder: Path | None = None,
) -> Refreshed:
    """Make the statistics of all sales before `cutoff` true to what is committed now, in the worker's session.

    The first time, after a change of `rates`, and with `full`, in one pass over all sales; else from what changed.
    `rates` says what one unit of each currency is worth in `currency`; amounts are rounded to a ten-thousandth, sale
    by sale. Without them the sales have to be of one currency. Later refreshes go on with the rates of the first
    where none are given. One refresh runs at a time; another one waits. `folder` is where millions of sales are put
    apart by customers, 46 bytes each: the system's folder for temporary files where none is given.

    Raises `errors.Invalid` for a cutoff without time zone, and for sales of several currencies where no rates are
    given, or of one that the rates do not name, with the currencies.
    """
    moment = cutoff_moment(cutoff)
    session.flush()
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    run = _Run(session, moment, find_cutoff(session, moment), folder)
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
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
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

    def __init__(self, session: Session, cutoff: datetime, present: FeatureCutoff | None, folder: Path | None) -> None:
        self.session = session
        self.folder = folder
        self._why = ""
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
        self._drop("sales_told", "sales_changed")
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
            self._finish(present.id, None, moved=False)
            return Refreshed(present.id, False, "nothing changed", 0)
        self._run("changed")
        most = max(RERUN_AT_LEAST, int(RERUN_SHARE * present.customers))
        added = customer_statistics.count_added(session, present.id)
        if added > most or self._count("sales_changed") > most:
            return "much changed"
        session.execute(text("ANALYZE sales_told, sales_changed"))
        unchanged = "AND NOT EXISTS (SELECT FROM sales_changed c WHERE c.customer_id = s.customer_id)"
        money = _Money(present.currency, {name: Decimal(rate) for name, rate in present.rates.items()})
        new = self._of_some(Sales(named(SQL, "added_sales"), unchanged, money.rates), batches=told.batches or [])
        if new is not None and len(new["customer_id"]):
            new = self._without_late(new)
        changed = self._count("sales_changed")
        anew = None
        if changed > most:
            return "much changed"
        if new is not None and changed:
            session.execute(text("ANALYZE sales_changed"))
            anew = self._of_some(
                Sales("(SELECT a.* FROM sales a JOIN sales_changed USING (customer_id))", "", money.rates)
            )
        if new is None or (changed and anew is None):
            return self._why
        fresh = self._fresh(new, anew)
        if len(fresh["customer_id"]):
            customer_statistics.add(session, present.id, fresh, **_widths(present))
        self._finish(present.id, _last_day(new, anew), moved=len(fresh["customer_id"]) > 0)
        return Refreshed(present.id, False, "what changed", len(new["customer_id"]) + changed)

    def _fresh(self, added: Columns, anew: Columns | None) -> Columns:
        """Statistics to add, and those made anew of customers whose sales changed, of some of whom none are left."""
        assert self.present is not None
        parts = [added | {"whole": np.zeros(len(added["customer_id"]), np.bool_)}]
        if anew is not None:
            changed = np.array(self._run("changed_ids").scalars().all(), np.int64)
            gone = nothing(np.setdiff1d(changed, anew["customer_id"]), **_widths(self.present))
            parts += [part | {"whole": np.ones(len(part["customer_id"]), np.bool_)} for part in (anew, gone)]
        made = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = np.argsort(made["customer_id"])
        return {name: values[order] for name, values in made.items()}

    def _of_some(self, sales: Sales, **values: Any) -> Columns | None:
        """The statistics of some sales; None where `_why` says why all have to be read."""
        present = self.present
        assert present is not None
        of = _fill(
            "SELECT count(*) FROM (SELECT FROM {sales} LIMIT CAST(:limit AS bigint)) AS s",
            {"sales": sales.source + " AS s"},
        )
        limit = min(max(RERUN_AT_LEAST, int(RERUN_SHARE * present.sales)), MOST_FOLLOWED) + 1
        if int(self.session.scalar(text(of), _used(of, values | {"limit": limit})) or 0) == limit:
            self._why = "much changed"
            return None
        reading = self._reading(present.categories)
        read = list(
            reading.read(
                [sales.packed_sales(), *([sales.packed_lines()] if self._run("pages").one().lines else [])],
                self.values | values | sales.values() | {"currencies": list(sales.rates) or [present.currency]},
            )
        )
        told_apart = set(present.channels)
        if (
            reading.strange_currencies
            or (len(present.channels) < CHANNELS and reading.channels.sales.keys() - told_apart)
            or (len(present.categories) < CHANNELS and reading.strange_categories)
        ):
            self._why = "a new currency, channel or category"
            return None
        records = np.concatenate([np.zeros(0, SALE), *(sold for sold, _ in read)])
        lines = np.concatenate([np.zeros(0, LINE), *(lined for _, lined in read)])
        return self._summarised(records, lines, reading, present)

    def _without_late(self, new: Columns) -> Columns:
        """New statistics without those of customers who have a later sale already: these are read anew."""
        present = self.present
        assert present is not None
        days = new["first_day"]
        early = days[days != NO_DAY].min(initial=np.iinfo(np.int32).max)
        if present.last_day is None or early >= day_number(present.last_day):
            return new
        late = customer_statistics.of_earlier_sales(self.session, present.id, new)
        self._run("add_changed", ids=late.tolist())
        kept = ~np.isin(new["customer_id"], late)
        return {name: values[kept] for name, values in new.items()}

    # --- all sales ---

    def make(self, money: _Money | None, why: str) -> Refreshed:
        """Read all sales before the cutoff."""
        session = self.session
        known = money
        if known is None:
            first = self._run("first_currency").scalar_one_or_none()
            known = _Money(NO_CURRENCY if first is None else first, {})
        newest = self._run("products", newest=0).one().newest
        header = FeatureCutoff(
            cutoff=self.cutoff,
            currency=known.currency,
            rates={name: str(rate) for name, rate in known.rates.items()},
            channels=[],
            categories=sorted(self._run("categories", limit=CHANNELS).scalars()),
            customers=0,
            sales=0,
            newest_product_id=newest,
            products_digest=self._run("products", newest=newest).one().digest,
            version=0 if self.present is None else self.present.version,
            system_identifier=self.seen.system_identifier,
            seen_before="", seen_after="", seen_by=0, seen_up_to=0,
        )  # fmt: skip
        pages = self._run("pages").one()
        reading = self._reading(header.categories)
        number = buckets_of(pages.sales)
        bounds = []
        if number > 1:
            shares = [i / number for i in range(1, number)]
            bounds = sorted(set(self._run("bounds", shares=shares).scalar() or []))
        with Buckets(bounds, SALE, self.folder) as sales, Buckets(bounds, LINE, self.folder) as lines:
            by_key = dict.fromkeys(("enable_hashjoin", "enable_mergejoin", "enable_memoize"), "off")  # lines find sales
            with side_by_side(session, **by_key):
                for sold, lined in reading.read(*self._queries(known, pages)):
                    sales.put(sold)
                    lines.put(lined)
            if reading.strange_currencies:
                _check(money, self._run("survey").all(), self.cutoff)
                raise TryAgain("Sales changed while they were read.")
            header.channels = reading.channels.most(CHANNELS)
            if self.present is not None:
                _delete(session, self.present.id)
            session.add(header)
            session.flush()
            days = []

            def made() -> Iterator[Columns]:
                for i in range(len(bounds) + 1):
                    part = self._summarised(sales.take(i), lines.take(i), reading, header)
                    header.customers += len(part["customer_id"])
                    header.sales += int(part["orders"].sum() + part["returns"].sum())
                    days.append(_last_day(part))
                    yield part | {"whole": np.ones(len(part["customer_id"]), np.bool_)}

            customer_statistics.write(session, header.id, made())
        session.flush()
        self._finish(header.id, max((day for day in days if day is not None), default=None), moved=True)
        return Refreshed(header.id, True, why, header.customers)

    def _queries(self, money: _Money, pages: Row[Any]) -> tuple[list[str], dict[str, Any]]:
        """Queries that pack all sales and lines before the cutoff, and what they bind."""
        sales = Sales("sales", "", money.rates)
        queries, values = whole_tables(sales, {"sales": pages.sales, "lines": pages.lines})
        currencies = list(money.rates) or [money.currency]
        return queries, self.values | sales.values() | values | {"currencies": currencies}

    # --- what both share ---

    def _reading(self, categories: Sequence[str]) -> Reading:
        rows = [(row.id, row.category) for row in self._run("product_categories")]
        return Reading(driver(self.session), Products.of(rows, categories))

    def _summarised(
        self, sales: NDArray[np.void], lines: NDArray[np.void], reading: Reading, header: FeatureCutoff
    ) -> Columns:
        """Statistics of customers all of whose sales in question these are."""
        sales = sales.copy() if not sales.flags.writeable else sales
        sales["channel"] = reading.channels.slots(header.channels)[sales["channel"]]
        windows = Windows(*(microseconds(self.values[f"from_{days}"]) for days in (90, 365, 730)))
        return summarise(sales, lines, windows, **_widths(header))

    def _finish(self, cutoff_id: int, last_day: Any, *, moved: bool) -> None:
        """Note what was seen; where nothing `moved`, whoever reads goes on."""
        after = self._snapshot()
        self._run(
            "finish",
            cutoff_id=cutoff_id,
            last_day=last_day,
            moved=moved,
            seen_before=self.seen.snapshot,
            seen_after=after.snapshot,
            seen_by=self.seen.transaction,
            seen_up_to=self.seen.up_to,
        )
        self._run("prune")

    def _snapshot(self) -> Row[Any]:
        return self._run("snapshot").one()

    def _count(self, table: str) -> int:
        return int(self.session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)

    def _drop(self, *tables: str) -> None:
        """Temporary tables of a former refresh in the same transaction."""
        self.session.execute(text("DROP TABLE IF EXISTS " + ", ".join(f"pg_temp.{table}" for table in tables)))

    def _run(self, name: str, slots: Mapping[str, str] | None = None, /, **values: Any) -> Any:
        statement = _fill(named(SQL, name), slots or {})
        return self.session.execute(text(statement), _used(statement, getattr(self, "values", {}) | values))


def _check(money: _Money | None, surveyed: Iterable[Row[Any]], cutoff: datetime) -> None:
    """Raises Invalid where the currencies of these sales cannot be summed."""
    count: dict[str, int] = {}
    for row in surveyed:
        count[row.currency] = count.get(row.currency, 0) + row.sales
    said = ", ".join(f"{name} ({n:,} sales)" for name, n in sorted(count.items(), key=lambda kept: -kept[1]))
    if money is not None and money.rates:
        if missing := sorted(set(count) - set(money.rates)):
            raise Invalid(f"There is no rate for {', '.join(missing)}; before {cutoff:%Y-%m-%d} there are {said}.")
        return
    if len(count) > 1:
        raise Invalid(
            f"The sales before {cutoff:%Y-%m-%d} are in several currencies: {said}. Amounts of different currencies "
            "are not summed; give rates to one of them: currency='EUR', rates={'USD': …}."
        )
    only = next(iter(count), None)
    if money is not None and only not in (None, money.currency):
        raise Invalid(f"The sales are in {only}; to have them in {money.currency} give a rate: rates={{{only!r}: …}}.")


def day_number(day: date) -> int:
    """Days from 2000-01-01 to a day, as the statistics count."""
    return (day - _FIRST_DAY).days


def _last_day(*parts: Columns | None) -> date | None:
    """The last day of an order in statistics."""
    last = max((int(part["last_day"].max(initial=NO_DAY)) for part in parts if part is not None), default=NO_DAY)
    return None if last == NO_DAY else _FIRST_DAY + timedelta(days=last)


def _widths(header: FeatureCutoff) -> dict[str, int]:
    return {"channels": len(header.channels), "categories": len(header.categories)}


def _delete(session: Session, cutoff_id: int) -> None:
    customer_statistics.delete(session, cutoff_id)
    session.execute(text("DELETE FROM feature_cutoffs WHERE id = CAST(:id AS bigint)"), {"id": cutoff_id})


def _used(statement: str, values: Mapping[str, Any]) -> dict[str, Any]:
    named_here = set(_NAMES.findall(statement))
    return {name: value for name, value in values.items() if name in named_here}


def _fill(statement: str, slots: Mapping[str, str]) -> str:
    for slot, fragment in slots.items():
        statement = statement.replace("{" + slot + "}", fragment)
    return statement
