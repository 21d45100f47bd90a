"""Interactions: what passed between us and a customer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.crm import changes, customers, points
from geocrm.db import audience_changes, audit
from geocrm.db.models import Interaction, InteractionSource
from geocrm.errors import Conflict, NotFound

CLIENT = "client"  # the source of ids that a phone or program made itself
_COLUMNS = """
SELECT i.id, i.customer_id, i.kind, i.channel, i.direction, i.department, i.user_id, u.name AS user_name, i.occurred_at,
       i.subject, i.body, i.outcome, i.score, ST_X(i.location) AS lon, ST_Y(i.location) AS lat, i.follow_up_at,
       i.version, i.created_at
FROM visible.interactions i LEFT JOIN users u ON u.id = i.user_id
WHERE i.customer_id = CAST(:customer_id AS bigint) AND """


def find(
    session: Session, customer_id: int, *, after: tuple[datetime, int] | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """The interactions with a customer that the reader sees, newest first; raises NotFound for a foreign customer."""
    customers.see(session, customer_id)
    sql = (
        _COLUMNS + "(CAST(:after_at AS timestamptz) IS NULL OR (i.occurred_at, i.id) < (CAST(:after_at AS timestamptz),"
        " CAST(:after AS bigint))) ORDER BY i.occurred_at DESC, i.id DESC LIMIT CAST(:limit AS bigint)"
    )
    values = {
        "customer_id": customer_id,
        "after_at": None if after is None else after[0],
        "after": 0 if after is None else after[1],
        "limit": limit,
    }
    return [_interaction(row) for row in session.execute(text(sql), values)]


def get(session: Session, customer_id: int, interaction_id: int) -> dict[str, Any]:
    """One interaction; raises NotFound."""
    row = session.execute(
        text(_COLUMNS + "i.id = CAST(:interaction_id AS bigint)"),
        {"customer_id": customer_id, "interaction_id": interaction_id},
    ).one_or_none()
    if row is None:
        raise NotFound()
    return _interaction(row)


def create(
    session: Session, actor: Actor, customer_id: int, values: Mapping[str, Any], client_id: str | None = None
) -> int:
    """Record an interaction, in the worker's session; its id.

    `client_id` is a UUID that the sender made: what arrives twice, as visits logged offline do, is recorded once.
    Raises NotFound for a foreign customer, Conflict where the UUID stands for an interaction with somebody else.
    """
    customer = changes.open_for_edit(session, actor, customer_id)
    if client_id is not None:
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 12))"), {"name": f"interaction:{client_id}"}
        )
        known = session.get(InteractionSource, (CLIENT, client_id))
        if known is not None:
            if known.customer_id != customer_id:
                raise Conflict("This client_id stands for an interaction with another customer.")
            return known.interaction_id
    given = dict(values)
    given["user_id"] = actor.user_id
    interaction = Interaction(customer_id=customer.id, **_stored(given))
    session.add(interaction)
    session.flush()
    if client_id is not None:
        session.add(
            InteractionSource(
                source=CLIENT, external_id=client_id, customer_id=customer.id, interaction_id=interaction.id
            )
        )
    audience_changes.tell(session, [customer.id])
    audit.record(
        session,
        "interaction.create",
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=ids.show("cus", customer.id),
        after={"interaction": ids.show("int", interaction.id), "kind": interaction.kind},
    )
    return interaction.id


def open_for_edit(session: Session, actor: Actor, customer_id: int, interaction_id: int) -> Interaction:
    """The interaction, locked, where the actor sees it; raises NotFound."""
    with access.as_user(session, actor):
        get(session, customer_id, interaction_id)
    found = session.get(Interaction, (customer_id, interaction_id), with_for_update=True, populate_existing=True)
    if found is None:
        raise NotFound()
    return found


def edit(session: Session, actor: Actor, interaction: Interaction, changed: Mapping[str, Any]) -> None:
    """Change an interaction; what it said before and says now is kept with the record of the change."""
    different = {name: value for name, value in changed.items() if _value(interaction, name) != value}
    if not different:
        return
    before = {name: _value(interaction, name) for name in different}
    for name, value in _stored(dict(different)).items():
        setattr(interaction, name, value)
    interaction.version += 1
    session.flush()
    which = {"interaction": ids.show("int", interaction.id)}
    audit.record(
        session,
        "interaction.update",
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=ids.show("cus", interaction.customer_id),
        before=which | before,
        after=which | different,
    )


def _value(interaction: Interaction, name: str) -> Any:
    if name != "location":
        return getattr(interaction, name)
    lon, lat = points.coordinates(interaction.location)
    return None if lon is None else {"lon": lon, "lat": lat}


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    if values.get("location") is not None:
        place = values["location"]
        values["location"] = points.make(float(place["lon"]), float(place["lat"]))
    return values


def _interaction(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": ids.show("int", row.id),
        "customer_id": ids.show("cus", row.customer_id),
        "kind": row.kind,
        "channel": row.channel,
        "direction": row.direction,
        "department": row.department,
        "user": ids.reference("usr", row.user_id, row.user_name),
        "occurred_at": row.occurred_at,
        "subject": row.subject,
        "body": row.body,
        "outcome": row.outcome,
        "score": row.score,
        "location": None if row.lon is None else {"lon": row.lon, "lat": row.lat},
        "follow_up_at": row.follow_up_at,
        "version": row.version,
        "created_at": row.created_at,
    }
