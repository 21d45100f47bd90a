"""Sales as series by region, segment, owner or stage, from sums made in SQL, and their forecasts.

Nothing at or after the cutoff is read. Sales are net: a return is negative, in the period in which it came back.
Periods are whole: the one that the cutoff falls into is not part of the history, but the first that is forecast. So is
one in which the books end: mid-month makes no drop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.engine import expecting_many_rows
from geocrm.db.queries import named
from geocrm.errors import Invalid, NotFound, TooLittleData
from geocrm.segmentation import forecast
from geocrm.spatial import layers, territories

SQL: Final = "forecast"
SEASONS: Final = {"month": 12, "week": 52}
"""Periods of a year."""

By = Literal["region", "segment", "owner", "stage", "nothing"]
Period = Literal["month", "week"]
Key = int | str | None

_GROUPS: Final[dict[str, tuple[str, str, str]]] = {
    "segment": (
        "m.segment_id",
        "t.name",
        "LEFT JOIN {schema}.segment_members m ON m.customer_id = s.customer_id AND m.run_id = CAST(:run_id AS bigint)\n"
        "LEFT JOIN segments t ON t.id = m.segment_id",
    ),
    "owner": ("c.owner_id", "u.name", "LEFT JOIN users u ON u.id = c.owner_id"),
    "stage": ("c.stage", "c.stage", ""),
    "nothing": ("CAST(NULL AS bigint)", "CAST(NULL AS text)", ""),
}
_WITHOUT: Final = {"region": "no region", "segment": "no segment", "owner": "no owner", "nothing": "all sales"}
_DAYS: Final = 800
_DAYS_TO_GUESS: Final = 20  # with sales, from which on pauses say something


@dataclass(frozen=True)
class SalesSeries:
    """Net sales by group and period.

    `starts` (t,) are the first days of complete periods, the oldest first; `amounts` and `sales` (n, t) are sums and
    numbers of sales, returns among these; `customers` (n, t) are so many different ones at least, `counted` exactly
    where all was sold in one currency. `running` is the first day of the period that is not complete, if any, and
    `running_amounts` (n,) what was sold in it so far."""

    by: By
    period: Period
    currency: str
    keys: tuple[Key, ...]
    names: tuple[str, ...]
    starts: tuple[date, ...]
    amounts: NDArray[np.float64]
    sales: NDArray[np.int64]
    customers: NDArray[np.int64]
    counted: bool
    running: date | None
    running_amounts: NDArray[np.float64]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SalesForecast:
    """Series and what is forecast of them; `periods` are the first days of the periods ahead. Row 0 of the forecasts is
    the whole, row i + 1 series i."""

    series: SalesSeries
    periods: tuple[date, ...]
    forecasts: forecast.Forecasts


@dataclass(frozen=True)
class _Sum:
    period: date
    key: Key
    name: str | None
    currency: str
    amount: Decimal
    sales: int
    customers: int


def read_series(
    session: Session,
    cutoff: datetime,
    *,
    by: By = "region",
    period: Period = "month",
    layer: int | str | None = None,
    basis: territories.Basis = "restated",
    segmentation: int | str | None = None,
    currency: str | None = None,
    rates: Mapping[str, Decimal] | None = None,
    known_until: datetime | None = None,
) -> SalesSeries:
    """Net sales before `cutoff`, of the customers that the session sees.

    Args:
        by: "region", areas of `layer` (an exclusive one), `restated` by the assignments valid at the cutoff or
            `as_was` at each sale; "segment", those of the published run of `segmentation`; "owner" and "stage", as the
            customers have them now; "nothing", one series.
        period: "month", or "week" from Monday; both in UTC.
        currency, rates: what one unit of each currency is worth in `currency`. Without them sales have to be of one.
        known_until: up to when all sales are in the books; else guessed: the cutoff, or the end of the last day with
            sales where the time since then is longer than any such pause before.

    Raises Invalid for a cutoff without time zone or in the future, for several currencies without rates, and for a
    segmentation whose run knows what came after the cutoff; NotFound for layer and segmentation; TooLittleData where
    nothing was sold in a complete period.
    """
    moment = _checked(session, cutoff, by, period, known_until)
    schema = territories.facts(session)
    notes: list[str] = []
    if by == "region":
        if layer is None:
            raise Invalid("Sales by region need the layer of the regions.")
        rows = territories.sales_by_territory(
            session, layers.get_layer(session, layer).id, datetime(1, 1, 2, tzinfo=UTC), moment,
            basis=basis, period=period, now=moment,
        )  # fmt: skip
        sums = [
            _Sum(row.period, row.area_id, row.name, row.currency, row.amount, row.sales, row.customers) for row in rows
        ]
    else:
        values: dict[str, Any] = {"period": period, "cutoff": moment}
        if by == "segment":
            values["run_id"] = _published(session, segmentation, moment, notes)
        elif by == "stage":
            notes.append("Stages are today's: who stopped buying is lapsed by definition, and sold nothing lately.")
        key, name, groups = _GROUPS[by]
        query = named(SQL, "sales_by_group").replace("{key}", key).replace("{name}", name)
        query = query.replace("{groups}", groups).replace("{schema}", schema)
        with expecting_many_rows(session):
            sums = [_Sum(*row) for row in session.execute(text(query), values)]
    counted = len({one.currency for one in sums}) == 1
    money, sums = _in_one_currency(sums, currency, rates, moment)
    until = moment if known_until is None else min(moment, known_until.astimezone(UTC))
    first, guessed = _days(session, schema, moment)
    if known_until is None and guessed is not None:
        notes.append(
            f"The last sale is of {guessed - timedelta(days=1)}, and no pause before was so long: the books are "
            "taken to end there. Say up to when they are complete (known_until) if customers did stop."
        )
        until = datetime.combine(guessed, datetime.min.time(), UTC)
    starts, running = _periods(first, until, period)
    if not starts:
        raise TooLittleData(f"A forecast needs complete {period}s with sales before {moment:%Y-%m-%d}; there is none.")
    return _laid_out(sums, starts, running, by, period, money, counted, notes)


def forecast_sales(
    session: Session, cutoff: datetime, *, horizon: int, levels: Sequence[float] = (0.8, 0.95), **options: Any
) -> SalesForecast:
    """Forecast the series that `read_series` reads with these options, `horizon` periods from the running one on.

    Raises what `read_series` and `forecast.forecast` do."""
    series = read_series(session, cutoff, **options)
    made = forecast.forecast(
        series.amounts, season_length=SEASONS[series.period], horizon=horizon, names=series.names, levels=levels,
        period=series.period,
    )  # fmt: skip
    ahead = [_next(series.starts[-1], series.period)]
    while len(ahead) < horizon:
        ahead.append(_next(ahead[-1], series.period))
    return SalesForecast(series, tuple(ahead), made)


def _checked(session: Session, cutoff: datetime, by: str, period: str, known_until: datetime | None) -> datetime:
    if by not in get_args(By) or period not in get_args(Period):
        raise Invalid(f"Sales are forecast by {', '.join(get_args(By))}, by {' or '.join(get_args(Period))}.")
    if cutoff.tzinfo is None or (known_until is not None and known_until.tzinfo is None):
        raise Invalid("The cutoff needs a time zone: 2026-01-01T00:00:00Z, for all that happened before 2026.")
    moment = cutoff.astimezone(UTC)
    if moment > session.execute(text("SELECT now()")).scalar_one():
        raise Invalid("The cutoff lies in the future: the sales until then are not known.")
    return moment


def _published(session: Session, segmentation: int | str | None, cutoff: datetime, notes: list[str]) -> int:
    """The run whose segments count; raises."""
    if segmentation is None:
        raise Invalid("Sales by segment need the segmentation.")
    row = session.execute(text(named(SQL, "published_run")), {"segmentation": str(segmentation)}).one_or_none()
    if row is None or row.run_id is None:
        raise NotFound(f"There is no segmentation {segmentation!r} with a published run.")
    if row.cutoff > cutoff:
        raise Invalid(
            f"The segments of {row.name!r} know what happened until {row.cutoff:%Y-%m-%d}: a forecast from "
            f"{cutoff:%Y-%m-%d} needs a run of that time or earlier."
        )
    notes.append(
        f"Segments are those at {row.cutoff:%Y-%m-%d}, for all their past too: a group chosen by what its customers "
        "bought rose or fell before by that choice, and need not go on so."
    )
    return int(row.run_id)


def _in_one_currency(
    sums: list[_Sum], currency: str | None, rates: Mapping[str, Decimal] | None, cutoff: datetime
) -> tuple[str, list[_Sum]]:
    count: dict[str, int] = {}
    for one in sums:
        count[one.currency] = count.get(one.currency, 0) + one.sales
    if not count:
        raise TooLittleData(f"There are no sales before {cutoff:%Y-%m-%d}: a forecast needs a year of them at least.")
    said = ", ".join(f"{name} ({n:,} sales)" for name, n in sorted(count.items(), key=lambda kept: -kept[1]))
    if rates is None:
        if len(count) > 1:
            raise Invalid(
                f"The sales before {cutoff:%Y-%m-%d} are in several currencies: {said}. Amounts of different "
                "currencies are not summed; give rates to one of them: currency='EUR', rates={'USD': …}."
            )
        (only,) = count
        if currency not in (None, only):
            raise Invalid(f"The sales are in {only}; to have them in {currency} give a rate: rates={{{only!r}: …}}.")
        return only, sums
    if currency is None:
        raise Invalid("Rates need the currency that they lead to: currency='EUR', rates={'USD': …}.")
    worth = {name: Decimal(str(rate)) for name, rate in rates.items()} | {currency: Decimal(1)}
    if missing := sorted(set(count) - set(worth)):
        raise Invalid(f"There is no rate for {', '.join(missing)}; before {cutoff:%Y-%m-%d} there are {said}.")
    for name, rate in worth.items():
        if not (rate.is_finite() and rate > 0):
            raise Invalid(f"The rate of {name} has to be a number above 0.")
    return currency, [replace(one, currency=currency, amount=one.amount * worth[one.currency]) for one in sums]


def _days(session: Session, schema: str, cutoff: datetime) -> tuple[date, date | None]:
    """The first day with sales, and the day after the last one where the books seem to end with it."""
    query = named(SQL, "first_day").replace("{schema}", schema)
    first = session.execute(text(query), {"cutoff": cutoff}).scalar_one()
    query = named(SQL, "selling_days").replace("{schema}", schema)
    days = list(session.scalars(text(query), {"cutoff": cutoff, "limit": _DAYS}))
    longest = max(((late - early).days for late, early in pairwise(days)), default=0)
    after = days[0] + timedelta(days=1)
    pause = cutoff - datetime.combine(after, datetime.min.time(), UTC)
    seems = len(days) >= _DAYS_TO_GUESS and pause >= timedelta(days=longest)
    return first, after if seems else None


def _floor(day: date, period: Period) -> date:
    return day.replace(day=1) if period == "month" else day - timedelta(days=day.weekday())


def _next(start: date, period: Period) -> date:
    return _floor(start + timedelta(days=31), period) if period == "month" else start + timedelta(days=7)


def _periods(first: date, until: datetime, period: Period) -> tuple[list[date], date]:
    """Complete periods, and the one after them. The first with sales counts if these begin in its first three days: its
    beginning may lie before the books."""
    start = _floor(first, period)
    if first - start > timedelta(days=2):
        start = _next(start, period)
    starts = []
    while (after := _next(start, period)) <= until.date():  # midnight of that day ends the period
        starts.append(start)
        start = after
    return starts, start


def _laid_out(
    sums: Iterable[_Sum],
    starts: list[date],
    running: date,
    by: By,
    period: Period,
    currency: str,
    counted: bool,
    notes: list[str],
) -> SalesSeries:
    names: dict[Key, str] = {}
    for one in sums:
        names[one.key] = one.name or _WITHOUT.get(by, str(one.key))
    keys = sorted(names, key=lambda key: (key is None, names[key], str(key)))
    at = {key: row for row, key in enumerate(keys)}
    when = {start: column for column, start in enumerate(starts)}
    amounts, counts = np.zeros((len(keys), len(starts))), np.zeros((len(keys), len(starts)), dtype=np.int64)
    customers = np.zeros_like(counts)
    since = np.zeros(len(keys))
    begun = False
    for one in sums:
        if one.period in when:
            amounts[at[one.key], when[one.period]] += float(one.amount)
            place = at[one.key], when[one.period]
            counts[place] += one.sales
            customers[place] = max(customers[place], one.customers)
        elif one.period == running:
            since[at[one.key]] += float(one.amount)
            begun = True
    return SalesSeries(
        by=by, period=period, currency=currency, keys=tuple(keys), names=tuple(names[key] for key in keys),
        starts=tuple(starts), amounts=amounts, sales=counts, customers=customers, counted=counted,
        running=running if begun else None, running_amounts=since, notes=tuple(notes),
    )  # fmt: skip
