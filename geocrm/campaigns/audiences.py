"""Audiences: who passes a filter, kept worked out, so that a lookup need not ask the filter.

A customer's change is followed by a job within seconds. What changes by itself or in bulk (a window of days that moves
on, imports, borders, segments) is followed when the audience is worked out anew: after ten minutes, or after fifty
times as long as that takes, so that no more than a fiftieth of a processor goes into it.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy import func, or_, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from geocrm import filters, ids
from geocrm.db.engine import Database
from geocrm.db.models import Audience, AudienceMember, Automation
from geocrm.db.queries import named
from geocrm.filters import Filter

log = structlog.get_logger("geocrm.campaigns")

REFRESH_AFTER_S: Final = 600
FOLLOW_AT_ONCE: Final = 2000
FRESH_S: Final = 60
_LOCK: Final = 7_305_417_230
_ALL = filters.Reader(contacts=True, exact=True)


def find_or_make(session: Session, wanted: Filter) -> Audience:
    """The audience of a filter; offers with the same filter share it. Raises Invalid where the filter names an audience
    that there is not."""
    check_named(session, wanted, pointer="/audience")
    said = wanted.to_json()
    digest = digest_of(wanted)
    session.execute(
        text(
            "INSERT INTO audiences (digest, filter) VALUES (CAST(:digest AS bytea), CAST(:said AS jsonb))"
            " ON CONFLICT (digest) DO NOTHING"
        ),
        {"digest": digest, "said": json.dumps(said, default=str)},
    )
    return session.scalars(select(Audience).where(Audience.digest == digest)).one()


def digest_of(wanted: Filter) -> bytes:
    """What tells a filter from others."""
    return hashlib.sha256(json.dumps(wanted.to_json(), sort_keys=True, default=str).encode()).digest()


def check_named(session: Session, wanted: Filter, *, pointer: str) -> None:
    """Raise Invalid where a filter names an audience that there is not."""
    asked = wanted.audiences()
    known = set(session.scalars(select(Audience.id).where(Audience.id.in_(asked), Audience.name.is_not(None))))
    unknown = [number for number in asked if number not in known]
    if unknown:
        raise filters.invalid(pointer, f"there is no audience {ids.show('aud', unknown[0])}")


def is_awaited(session: Session, audience: Audience, offer_id: int) -> bool:
    """Whether an automation puts customers into what this audience asks for, or makes this offer: so it need not be
    full before."""
    asked = filters.parse(audience.filter, reader=_ALL).audiences(required=True)
    feeding = select(Automation.id).where(or_(Automation.audience_id.in_(asked), Automation.offer_id == offer_id))
    return bool(asked) and session.scalars(feeding.limit(1)).first() is not None


def refresh(session: Session, audience_id: int) -> int:
    """Work an audience out anew; how many are in it. One is worked out at a time. One with a name is not worked out:
    its members are entered."""
    audience = session.get_one(Audience, audience_id, populate_existing=True)
    if audience.name is not None:
        current = or_(AudienceMember.expires_at.is_(None), AudienceMember.expires_at > func.now())
        count = (
            select(func.count()).select_from(AudienceMember).where(AudienceMember.audience_id == audience_id, current)
        )
        return session.scalar(count) or 0
    _alone(session)
    session.refresh(audience)
    began = time.perf_counter()
    condition, values = _condition(audience)
    statement = named("audiences", "refresh").replace("{condition}", condition)
    row = session.execute(text(statement), values | {"audience": audience_id}).one()
    audience.members = int(row.members)
    audience.refreshed_at = datetime.now(UTC)
    audience.took_s = time.perf_counter() - began
    session.flush()
    return audience.members


def count_fresh(session: Session, audience_id: int) -> int:
    """How many are in an audience, as worked out within the last minute; else it is worked out now."""
    audience = session.get_one(Audience, audience_id, populate_existing=True)
    known = audience.members is not None and audience.refreshed_at is not None
    if known and (datetime.now(UTC) - audience.refreshed_at).total_seconds() < FRESH_S:  # type: ignore[operator]
        return audience.members or 0
    return refresh(session, audience_id)


def follow(session: Session) -> int:
    """Look at every audience for the customers that changed since; how many customers."""
    _alone(session)
    changed = session.scalars(
        text(
            "DELETE FROM audience_changes WHERE id IN (SELECT id FROM audience_changes ORDER BY id"
            " LIMIT CAST(:most AS integer) FOR UPDATE SKIP LOCKED) RETURNING customer_id"
        ),
        {"most": FOLLOW_AT_ONCE},
    ).all()
    ids = sorted(set(changed))
    if ids:
        worked_out = select(Audience).where(Audience.refreshed_at.is_not(None), Audience.name.is_(None))
        for audience in session.scalars(worked_out).all():
            follow_customers(session, audience, ids)
    return len(ids)


def follow_customers(session: Session, audience: Audience, customer_ids: Sequence[int]) -> None:
    """Make an audience right for these customers."""
    condition, values = _condition(audience)
    statement = named("audiences", "refresh_customers").replace("{condition}", condition)
    more = session.scalar(text(statement), values | {"audience": audience.id, "ids": list(customer_ids)})
    audience.members = (audience.members or 0) + int(more or 0)
    session.flush()


def refresh_due(database: Database, *, after_s: float = REFRESH_AFTER_S) -> int:
    """Work out anew what is due, each audience in a transaction of its own; how many. One that cannot be (its filter
    names a segmentation that is gone) keeps its members, and the log says so."""
    with database.writing() as session:
        session.execute(text(named("audiences", "forget")))
        due = session.scalars(text(named("audiences", "due")), {"after_s": after_s}).all()
    done = 0
    for audience_id in due:
        try:
            with database.writing() as session:
                refresh(session, audience_id)
            done += 1
        except DBAPIError as error:
            log.warning("audience_not_refreshed", audience=audience_id, sqlstate=getattr(error.orig, "sqlstate", None))
    return done


def passes(session: Session, audience: Audience, customer_id: int) -> bool:
    """Whether a customer passes the filter now, asked of the customer and not of what is kept."""
    condition, values = _condition(audience)
    statement = named("audiences", "passes").replace("{condition}", condition)
    return bool(session.scalar(text(statement), values | {"customer": customer_id}))


def asks_where(session: Session, audience: Audience) -> bool:
    """Whether the filter asks where customers are, so that who is in it tells of exact points."""
    said = {"filter": json.dumps(audience.filter, default=str)}
    return bool(session.scalar(text("SELECT geocrm_asks_where(CAST(:filter AS jsonb))"), said))


def _condition(audience: Audience) -> tuple[str, dict[str, Any]]:
    made = filters.parse(audience.filter, reader=_ALL).compile("customer", schema="public")
    return made.named(), made.params()


def _alone(session: Session) -> None:
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
