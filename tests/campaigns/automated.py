"""Automations of tests: one, what sets it off, and what came of it."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.campaigns import (
    acting,
    automations,
    entries,
    events,
)
from geocrm.campaigns.events import NewEvent
from geocrm.db import models

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)  # a Sunday
ENTERED = {"kind": "event", "type": "geofence.entered", "tag": "shops"}
DAILY = {"kind": "schedule", "at": "09:00", "time_zone": "America/Denver"}
CIRCLE = {"center": {"lon": 8.54, "lat": 47.37}, "radius_m": 120.0}


def make_automation(session: Session, *, enabled: bool = True, now: datetime = NOW, **values: Any) -> models.Automation:
    """One that enters whoever comes into a shop into an audience, without a consent, unless said otherwise."""
    given: dict[str, Any] = {"name": "At the door", "trigger": ENTERED, "consent_purpose": None} | values
    if "action" not in given:
        given["action"] = {"kind": "audience", "audience_id": make_audience(session), "hours": 2.0}
    made = automations.create(session, SYSTEM, given)
    if enabled:
        automations.enable(session, SYSTEM, made, now=now)
    return made


def make_audience(session: Session) -> int:
    count = session.scalar(text("SELECT count(*) FROM audiences"))
    return entries.create(session, SYSTEM, f"Audience {count}")


def happen(session: Session, fence: int, *customers: models.Customer, at: datetime = NOW, **more: Any) -> list[int]:
    given = {"type": "geofence.entered", "purpose": "location", "geofence_id": fence} | more
    return events.record(session, [NewEvent(one.id, occurred_at=at, data={}, **given) for one in customers])


def act(session: Session, automation: models.Automation, now: datetime = NOW, **more: Any) -> int:
    session.flush()
    return acting.act(session, automation.id, now=now, **more)


def outcomes(session: Session, automation: models.Automation) -> list[tuple[int | None, str, str | None]]:
    rows = session.execute(
        text("SELECT customer_id, status, reason FROM automation_runs WHERE automation_id = :id ORDER BY id"),
        {"id": automation.id},
    )
    return [(row.customer_id, row.status, row.reason) for row in rows]


def members(session: Session, audience_id: int | None) -> dict[int, datetime | None]:
    with access.as_user(session, SYSTEM):
        found = session.execute(
            text("SELECT customer_id, expires_at FROM visible.audience_members WHERE audience_id = :id"),
            {"id": audience_id},
        )
        return {row.customer_id: row.expires_at for row in found}


def consent(session: Session, customer: models.Customer, purpose: str) -> None:
    granted = datetime(2026, 1, 1, tzinfo=UTC)
    session.add(models.Consent(customer_id=customer.id, purpose=purpose, channel="app", granted_at=granted))
    session.flush()
