"""The company of the territories' tests: a primary layer with two squares side by side, published long ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from geocrm.access import SYSTEM, Actor
from geocrm.db import models
from geocrm.spatial import areas, layers, territories
from tests.makers import square

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def day(days: float) -> datetime:
    return NOW + timedelta(days=days)


@dataclass
class Sales:
    """A primary layer with two squares side by side, published long ago."""

    session: Session
    layer: models.Layer
    west: int
    east: int

    def draft(self, actor: Actor = SYSTEM) -> int:
        return layers.create_draft(self.session, self.layer.id, actor=actor).version

    def publish(self, version: int, actor: Actor = SYSTEM, **options: Any) -> territories.Published:
        values = {"reason": "plan", "now": NOW} | options
        return territories.publish(self.session, self.layer.id, version, actor=actor, **values)

    def evaluate(self, *customers: models.Customer, now: datetime = NOW) -> None:
        ids = [c.id for c in customers]
        territories.evaluate(self.session, ids, actor=SYSTEM, reason="edit", now=now)

    def of(self, customer: models.Customer, as_of: datetime = NOW) -> list[tuple[int | None, str]]:
        return [
            (h.area_id, h.basis)
            for h in territories.of_customer(self.session, customer.id, as_of=as_of)
            if h.layer_id == self.layer.id
        ]


def make_sales_layer(session: Session) -> Sales:
    """The layer, with West and East."""
    layer = layers.create_layer(session, key="sales", name="Sales", kind="territories", is_primary=True, actor=SYSTEM)
    draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
    west = areas.put_area(session, layer.id, draft, actor=SYSTEM, name="West", geometry=square(0.5, 0.5)).area_id
    east = areas.put_area(session, layer.id, draft, actor=SYSTEM, name="East", geometry=square(1.5, 0.5)).area_id
    territories.publish(
        session,
        layer.id,
        draft,
        actor=SYSTEM,
        reason="initial import",
        effective_from=START,
        now=NOW - timedelta(days=9),
    )
    return Sales(session, layer, west, east)
