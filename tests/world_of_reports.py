"""A small committed world for frames and reports: two reps, two territories, customers whose names are attacks."""

from dataclasses import dataclass

from geoalchemy2 import WKTElement
from shapely import box
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.spatial import areas, layers, ledger, publishing
from tests import makers

SCRIPT = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>"
TEMPLATE = "{{ 7*7 }}{% raw %}${alert(1)}"
QUOTES = 'O\'Neil & Söhne "GmbH" <b>bold</b>\u2028'


@dataclass(frozen=True)
class World:
    database: Database
    rep: int
    other: int
    analyst: int
    marketer: int
    customers: int


def build(database: Database) -> World:
    """West of 105° W belongs to `rep`, east of it to `other`; one customer is pending, one lies outside both."""
    with database.writing() as session:
        rep = makers.make_user(session, name="Rita Rep", email="rita@example.com")
        other = makers.make_user(session, name=SCRIPT, email="other@example.com")
        analyst = makers.make_user(session, "analyst", email="ana@example.com")
        marketer = makers.make_user(session, "marketer", email="mark@example.com")
        layer = layers.create_layer(
            session, key="sales", name=f"Sales {TEMPLATE}", kind="territories", actor=SYSTEM, is_primary=True
        )
        draft = layers.create_draft(session, layer.id, actor=SYSTEM, source="empty")
        shapes = {f"West {SCRIPT}": (box(-106, 39, -105, 41), rep), "East": (box(-105, 39, -104, 41), other)}
        for name, (shape, owner) in shapes.items():
            areas.put_area(session, layer.id, draft.version, actor=SYSTEM, name=name, geometry=shape, owner_id=owner.id)
        publishing.publish(session, layer.id, draft.version, actor=SYSTEM, reason="first")
        made = [
            makers.make_customer(session, -105.5, 40.0, name=SCRIPT, stage="active", attributes={"plan": "gold"}),
            makers.make_customer(session, -105.51, 40.01, name=TEMPLATE, stage="lead", kind="organisation"),
            makers.make_customer(session, -104.5, 39.7, name=QUOTES, stage="prospect"),
            makers.make_customer(session, 179.99, -17.0, name="Far away", stage="lapsed", site={"country": "FJ"}),
            makers.make_customer(session, name="Nowhere yet", owner_id=rep.id),
        ]
        makers.make_site(session, made[2], -105.2, 39.5, label="second")
        for number, customer in enumerate(made[:3]):
            makers.make_sale(session, customer, f"{number + 1}.1234")
        consent(session, made[0])
        ledger.evaluate(session, [customer.id for customer in made], actor=SYSTEM, reason="made")
        return World(database, rep.id, other.id, analyst.id, marketer.id, len(made))


def consent(session: Session, customer: models.Customer) -> None:
    session.execute(
        text(
            "INSERT INTO consents (customer_id, purpose, channel, granted_at) VALUES (:id, 'marketing', 'email', now())"
        ),
        {"id": customer.id},
    )


def point(lon: float, lat: float) -> WKTElement:
    return WKTElement(f"POINT({lon} {lat})", srid=4326)
