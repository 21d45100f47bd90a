"""Row builders for tests: each test states only the fields that it is about."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, TypeVar

from geoalchemy2 import WKTElement
from shapely import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db import models

_NUMBERS = count(1)
Row = TypeVar("Row", bound=models.Base)
# Fails as a statement does that PostgreSQL chose as the victim of a deadlock.
DEADLOCK = text("DO 'BEGIN RAISE EXCEPTION USING ERRCODE = ''40P01'', MESSAGE = ''deadlock detected''; END'")


def make_team(session: Session, name: str | None = None, **fields: Any) -> models.Team:
    """A team."""
    return _add(session, models.Team(name=name or f"Team {next(_NUMBERS)}", **fields))


def make_user(session: Session, role: str = "rep", **fields: Any) -> models.User:
    """A user; no password unless given."""
    number = next(_NUMBERS)
    values = {"email": f"user{number}@example.com", "name": f"User {number}", "role": role} | fields
    return _add(session, models.User(**values))


def actor_of(session: Session, user: models.User) -> access.Actor:
    """The user as actor, with the rows it sees now."""
    return access.load_actor(session, user.id)


def make_customer(
    session: Session,
    lon: float | None = None,
    lat: float | None = None,
    *,
    site: Mapping[str, Any] | None = None,
    **fields: Any,
) -> models.Customer:
    """A customer with one primary site, placed at lon, lat where given and pending otherwise.

    Only `customers` and `sites` are written; call `territories.evaluate` and `lookup.refresh` where a test needs them.
    """
    values: dict[str, Any] = {"kind": "person", "stage": "active", "name": f"Customer {next(_NUMBERS)}"} | fields
    customer = _add(session, models.Customer(**values))
    make_site(session, customer, lon, lat, is_primary=True, **(site or {}))
    return customer


def make_site(
    session: Session, customer: models.Customer, lon: float | None = None, lat: float | None = None, **fields: Any
) -> models.Site:
    """A site of the customer."""
    values: dict[str, Any] = {"customer_id": customer.id, "country": "US", "placement": "pending"}
    if lon is not None and lat is not None:
        values |= {
            "location": WKTElement(f"POINT({lon!r} {lat!r})", srid=4326),
            "placement": "placed",
            "location_precision": "given",
            "precision_m": 25.0,
            "location_source": "file",
        }
    return _add(session, models.Site(**(values | fields)))


def make_sale(session: Session, customer: models.Customer, amount: str = "10.00", **fields: Any) -> models.Sale:
    """A sale without lines."""
    values: dict[str, Any] = {
        "customer_id": customer.id,
        "amount": Decimal(amount),
        "currency": "USD",
        "occurred_at": datetime(2026, 1, 15, 12, tzinfo=UTC),
    }
    return _add(session, models.Sale(**(values | fields)))


def make_place(session: Session, lon: float, lat: float, kind: str = "own", **fields: Any) -> models.Place:
    """A placed place."""
    values: dict[str, Any] = {"name": f"Shop {next(_NUMBERS)}", "location_precision": "given", "precision_m": 25.0}
    location = WKTElement(f"POINT({lon!r} {lat!r})", srid=4326)
    return _add(session, models.Place(kind=kind, location=location, **(values | fields)))


def square(lon: float, lat: float, half_deg: float = 0.5) -> Polygon:
    """A square around a point."""
    return box(lon - half_deg, lat - half_deg, lon + half_deg, lat + half_deg)


def multi(geometry: BaseGeometry) -> WKTElement:
    """A polygon as the MULTIPOLYGON that `area_versions` stores."""
    if isinstance(geometry, Polygon):
        geometry = MultiPolygon([geometry])
    return WKTElement(geometry.wkt, srid=4326)


def _add(session: Session, row: Row) -> Row:
    session.add(row)
    session.flush()
    return row
