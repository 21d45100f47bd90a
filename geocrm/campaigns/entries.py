"""Audiences that customers are entered into by automations, each until its end. Filters name them, and so do offers."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from geocrm import filters, ids
from geocrm.access import Actor, require
from geocrm.campaigns import audiences
from geocrm.db import audience_changes, audit
from geocrm.db.models import Audience
from geocrm.db.queries import named
from geocrm.errors import Conflict, Invalid, NotFound

MOST: Final = 1000
_LOCK: Final = 7_305_417_231
_SEPARATOR: Final = "\x1f"


def create(session: Session, actor: Actor, name: str) -> int:
    """A new audience, which nobody is in yet; its id. Raises Forbidden, Conflict for a name that is taken or where
    there are too many."""
    require(actor, "automations:write")
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    names = session.scalars(select(Audience.name).where(Audience.name.is_not(None))).all()
    if name in names:
        raise Conflict("There is an audience of this name already.")
    if len(names) >= MOST:
        raise Conflict(f"There are {MOST:,} audiences already: delete those that nothing names.")
    made = Audience(name=name, digest=secrets.token_bytes(32), filter={}, created_by=actor.user_id)
    session.add(made)
    session.flush()
    wanted = filters.parse({"audience": ids.show("aud", made.id)})
    made.filter, made.digest = wanted.to_json(), audiences.digest_of(wanted)
    session.flush()
    _record(session, actor, "audience.create", made.id, after={"name": name})
    return made.id


def find(session: Session, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """Audiences by id."""
    values = {"after": after, "id": None, "limit": limit, "count": False}
    return [_shown(row) for row in session.execute(text(named("automations", "audiences")), values)]


def get(session: Session, audience_id: int, *, count: bool = False) -> dict[str, Any]:
    """One audience; where it is asked for with how many are in it, of the customers that the reader sees. Raises
    NotFound."""
    values = {"after": 0, "id": audience_id, "limit": 1, "count": count}
    row = session.execute(text(named("automations", "audiences")), values).one_or_none()
    if row is None:
        raise NotFound()
    return _shown(row)


def open_for_edit(session: Session, audience_id: int) -> Audience:
    """The audience, locked; raises NotFound."""
    found = session.get(Audience, audience_id, with_for_update={"key_share": True}, populate_existing=True)
    if found is None or found.name is None:
        raise NotFound()
    return found


def rename(session: Session, actor: Actor, audience: Audience, name: str) -> None:
    """Another name. Raises Forbidden, Conflict for one that is taken."""
    require(actor, "automations:write")
    other = session.scalars(select(Audience.id).where(Audience.name == name, Audience.id != audience.id)).first()
    if other is not None:
        raise Conflict("There is an audience of this name already.")
    before = {"name": audience.name}
    audience.name = name
    audience.version += 1
    session.flush()
    _record(session, actor, "audience.update", audience.id, before=before, after={"name": name})


def delete(session: Session, actor: Actor, audience: Audience) -> None:
    """Take an audience away, with who is in it. Raises Forbidden, Conflict where an automation or an offer that has not
    ended names it."""
    require(actor, "automations:publish")
    values = {"audience": audience.id}
    by = session.scalars(text(named("automations", "audience_is_named")), values).first()
    if by is not None:
        raise Conflict(f"The {by} names this audience: change or delete that first.")
    session.execute(text("DELETE FROM audience_members WHERE audience_id = CAST(:audience AS bigint)"), values)
    session.execute(
        text("UPDATE offer_versions SET audience_id = NULL WHERE audience_id = CAST(:audience AS bigint)"), values
    )  # of offers that have ended; what they said stays
    before = {"name": audience.name}
    session.delete(audience)
    session.flush()
    _record(session, actor, "audience.delete", values["audience"], before=before)


def find_members(session: Session, audience_id: int, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """Who is in an audience now, by id, of the customers that the reader sees; raises NotFound."""
    get(session, audience_id)
    values = {"audience": audience_id, "after": after, "limit": limit}
    return [
        {
            "customer": ids.reference("cus", row.customer_id, row.name),
            "entered_at": row.entered_at,
            "expires_at": row.expires_at,
        }
        for row in session.execute(text(named("automations", "entries")), values)
    ]


def enter(
    session: Session,
    audience_id: int,
    ends: Mapping[int, datetime | None],
    *,
    now: datetime,
    purposes: Mapping[int, Sequence[str]],
    automation_id: int | None = None,
) -> None:
    """Put customers into an audience until their `ends` (None: for good). `purposes` are those of the consents that
    this is done under; withdrawn, the entry goes. Who is in it already stays for the longer of the two."""
    if not ends:
        return
    session.execute(
        text(named("automations", "enter")),
        {
            "audience": audience_id,
            "now": now,
            "automation": automation_id,
            "customers": list(ends),
            "ends": list(ends.values()),
            "purposes": [pack(purposes[customer]) for customer in ends],
        },
    )
    _tell(session, {audience_id}, list(ends))


def leave_expired(session: Session, *, now: datetime, most: int = 5000) -> int:
    """Take out those who are at their end, at most so many; how many."""
    gone = session.execute(text(named("automations", "leave")), {"now": now, "most": most}).all()
    _tell(session, {row.audience_id for row in gone}, sorted({row.customer_id for row in gone}))
    return len(gone)


def pack(purposes: Sequence[str]) -> str:
    """Purposes as the queries take them: arrays of arrays are all of one length."""
    return _SEPARATOR.join(purposes)


def audience_of(said: Mapping[str, Any] | None) -> int | None:
    """The one audience that a customer must be in to pass a filter; None where there is none, or more than one."""
    named_ones = filters.parse(said, reader=filters.Reader(contacts=True)).audiences(required=True)
    return named_ones[0] if len(named_ones) == 1 else None


def check_there(session: Session, audience_id: int, pointer: str) -> None:
    """Raise Invalid where there is no such audience."""
    found = session.get(Audience, audience_id)
    if found is None or found.name is None:
        fault = f"there is no audience {ids.show('aud', audience_id)}"
        raise Invalid(f"{pointer.lstrip('/')}: {fault}", errors=[{"pointer": pointer, "detail": fault}])


def _tell(session: Session, changed: set[int], customers: Sequence[int]) -> None:
    """Let audiences that ask who is in these follow."""
    if changed and session.scalar(text(named("automations", "asked_elsewhere")), {"audiences": sorted(changed)}):
        audience_changes.tell(session, customers)


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": ids.show("aud", row.id),
        "name": row.name,
        "members": row.members,
        "version": row.version,
        "created_at": row.created_at,
    }


def _record(session: Session, actor: Actor, action: str, audience_id: int, **payload: Any) -> None:
    audit.record(
        session, action, actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("aud", audience_id), **payload
    )
