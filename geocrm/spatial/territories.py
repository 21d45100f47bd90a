"""Territories: whose is it, since when, and why; the door to the ledger.

Reading works on any session: under row security (`access.as_user`, or the login that answers reads) it shows what the
actor may see. Writing (`evaluate`, `publish`, `move` …, offered here as well) needs the worker's role.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Literal, get_args

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.db.engine import expecting_many_rows
from geocrm.db.queries import named
from geocrm.errors import Invalid, TooLarge
from geocrm.spatial.ledger import evaluate, evaluate_bulk
from geocrm.spatial.publishing import Published, make_due_current, move, publish, undo

__all__ = [
    "AtPoint",
    "Held",
    "Published",
    "TerritorySales",
    "as_shown",
    "at",
    "at_points",
    "evaluate",
    "evaluate_bulk",
    "history",
    "make_due_current",
    "move",
    "of_customer",
    "publish",
    "sales_by_territory",
    "undo",
]

MAX_POINTS: Final = 1000
Basis = Literal["as_was", "restated"]
Period = Literal["day", "week", "month", "quarter", "year"]


@dataclass(frozen=True)
class AtPoint:
    """What a layer's polygons say of a point at a moment; `area_id` is None where no polygon covers it."""

    layer_id: int
    layer_key: str
    layer_name: str
    is_primary: bool
    area_id: int | None
    name: str | None  # of the area, then
    owner_id: int | None  # then
    owner_name: str | None
    team_id: int | None
    team_name: str | None
    basis: str  # polygon or none
    valid_from: datetime | None  # this and what follows: None where there is no area
    valid_to: datetime | None
    reason: str | None  # why the version that began the period was published
    layer_version: int | None


@dataclass(frozen=True)
class Held:
    """A row of the ledger: to whom a site belonged on a layer, from when to when, since when known, and why."""

    site_id: int
    layer_id: int
    layer_key: str
    layer_name: str
    is_primary: bool
    area_id: int | None
    name: str | None
    owner_id: int | None  # of the area then
    owner_name: str | None
    team_id: int | None
    team_name: str | None
    basis: str
    valid_from: datetime
    valid_to: datetime | None
    recorded_at: datetime
    superseded_at: datetime | None
    layer_version: int | None
    actor_id: int | None
    actor_name: str | None
    reason: str | None
    by_edit: bool  # began with a change of the customer, not of the layer


def as_shown(answer: AtPoint | Held) -> dict[str, Any]:
    """The one shape in which an answer about territories is shown, by the API, the command line and in notebooks:

    `layer` {id, key, name, is_primary}; `area`, `owner`, `team` {id, name}, None where there is none; `basis` named,
    rule, polygon or none; `reason`; `since`, `until` (datetimes, until None: for good); `layer_version`. An answer from
    the ledger has besides `site_id`, `recorded_at`, `superseded_at` and `by` {id, name}."""
    shown = {
        "layer": {
            "id": ids.show("lay", answer.layer_id),
            "key": answer.layer_key,
            "name": answer.layer_name,
            "is_primary": answer.is_primary,
        },
        "area": ids.reference("ter", answer.area_id, answer.name),
        "owner": ids.reference("usr", answer.owner_id, answer.owner_name),
        "team": ids.reference("tea", answer.team_id, answer.team_name),
        "basis": answer.basis,
        "reason": answer.reason,
        "since": answer.valid_from,
        "until": answer.valid_to,
        "layer_version": answer.layer_version,
    }
    if isinstance(answer, AtPoint):
        return shown
    return {
        "site_id": ids.show("sit", answer.site_id),
        **shown,
        "recorded_at": answer.recorded_at,
        "superseded_at": answer.superseded_at,
        "by": ids.reference("usr", answer.actor_id, answer.actor_name),
    }


def at(session: Session, lon: float, lat: float, *, as_of: datetime | None = None) -> list[AtPoint]:
    """Per exclusive layer in force then, the territory at a point at a moment (default now), the primary layer first.

    A reader without exact places is answered for the point snapped to the 500 m grid. Raises Invalid."""
    return at_points(session, [lon], [lat], as_of=as_of)[0]


def at_points(
    session: Session, lon: Sequence[float], lat: Sequence[float], *, as_of: datetime | None = None
) -> list[list[AtPoint]]:
    """The same for up to 1,000 points at once, in the order given. Raises Invalid, TooLarge."""
    if len(lon) != len(lat):
        raise Invalid(f"There are {len(lon)} longitudes and {len(lat)} latitudes.")
    if len(lon) > MAX_POINTS:
        raise TooLarge(f"At most {MAX_POINTS} points at once, not {len(lon)}.")
    x, y = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    wrong = ~(np.isfinite(x) & np.isfinite(y)) | (np.abs(x) > 180) | (np.abs(y) > 90)
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise Invalid(
            f"{x[place]}, {y[place]} is no lon, lat in degrees.",
            errors=[{"pointer": f"/points/{place}", "detail": "lon within ±180, lat within ±90"}],
        )
    found: list[list[AtPoint]] = [[] for _ in range(len(x))]
    rows = session.execute(
        text(named("territories_reading", "at_points")), {"lon": x.tolist(), "lat": y.tolist(), "as_of": as_of}
    )
    for row in rows:
        values = dict(row._mapping)
        found[values.pop("number") - 1].append(AtPoint(**values))
    return found


def of_customer(
    session: Session, customer_id: int, *, as_of: datetime | None = None, known_at: datetime | None = None
) -> list[Held]:
    """Per site and exclusive layer, where a customer belonged at `as_of` (default now): as known now, or as it was
    known at `known_at`. Empty for a customer who is not seen."""
    query = named("territories_reading", "of_customer").replace("{schema}", facts(session))
    rows = session.execute(text(query), {"customer": customer_id, "as_of": as_of, "known_at": known_at})
    return [Held(**row._mapping) for row in rows]


def history(
    session: Session,
    customer_id: int,
    *,
    layer_id: int | None = None,
    known_at: datetime | None = None,
    superseded: bool = False,
) -> list[Held]:
    """The ledger of a customer, newest first: as known now; as known at `known_at`; or, with `superseded`, every row
    that was ever recorded. Empty for a customer who is not seen."""
    query = named("territories_reading", "history").replace("{schema}", facts(session))
    values: dict[str, Any] = {
        "customer": customer_id, "layer": layer_id, "known_at": known_at, "superseded": superseded,
    }  # fmt: skip
    return [Held(**row._mapping) for row in session.execute(text(query), values)]


@dataclass(frozen=True)
class TerritorySales:
    """Sales of a territory in a period and currency; `area_id` is None for sales of no territory."""

    period: date  # its first day, UTC
    area_id: int | None
    name: str | None
    currency: str
    amount: Decimal
    sales: int
    customers: int


def sales_by_territory(
    session: Session,
    layer_id: int,
    start: datetime,
    end: datetime,
    *,
    basis: Basis = "as_was",
    period: Period = "month",
    now: datetime | None = None,
) -> list[TerritorySales]:
    """Sales in [start, end) per territory, period and currency, of the customers that the session sees.

    `as_was` counts a sale for the territory that its site belonged to at the sale, as known now; `restated` for
    today's. A sale without a site is that of the site that was the customer's primary one at the sale, `restated` of
    today's. Raises Invalid."""
    if basis not in get_args(Basis) or period not in get_args(Period):
        raise Invalid(
            f"Sales are reported {' or '.join(get_args(Basis))}, by {', '.join(get_args(Period))}.",
            errors=[{"pointer": "/basis" if basis not in get_args(Basis) else "/period", "detail": "unknown"}],
        )
    moment = None
    if basis == "restated":
        moment = now if now is not None else session.scalar(text("SELECT now()"))
    schema = facts(session)
    # a sale at a site that the reader does not see is nobody's territory, not that of the primary site
    query = named("territories_reading", "sales_by_territory").replace("{schema}", schema)
    query = query.replace("{hidden}", "s.site_hidden" if schema == "visible" else "false")
    values = {"layer": layer_id, "start": start, "end": end, "period": period, "moment": moment}
    with expecting_many_rows(session):
        return [TerritorySales(**row._mapping) for row in session.execute(text(query), values)]


def facts(session: Session) -> str:
    """The schema in which this session may read facts: `visible` under row security, else `public`."""
    may = session.scalar(text("SELECT has_table_privilege(CAST('public.assignments' AS regclass), 'SELECT')"))
    return "public" if may else "visible"
