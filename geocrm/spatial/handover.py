"""Owners of territories, and the hand-over of everything that a leaver owned."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.models import Area, User
from geocrm.errors import Invalid, NotFound
from geocrm.spatial import ledger, owners


@dataclass(frozen=True)
class HandedOver:
    """What changed hands: territories by id, and how many customers."""

    territories: tuple[int, ...]
    customers: int


def hand_over(
    session: Session,
    from_user_id: int,
    to_user_id: int,
    *,
    actor: Actor,
    reason: str,
    territories: bool = True,
    customers: bool = True,
    now: datetime | None = None,
) -> HandedOver:
    """Give a leaver's territories and owned customers to another, from now on; sight and lookups follow.

    Territories do not move and named accounts stay named: only who owns them changes. A manager hands over within own
    team. Raises NotFound (unknown or foreign users), Forbidden, Invalid."""
    require(actor, "customers:reassign")
    if not reason or not reason.strip():
        raise Invalid("Say why you hand over.", errors=[{"pointer": "/reason", "detail": "is missing"}])
    if from_user_id == to_user_id:
        raise Invalid("Hand over to another user.", errors=[{"pointer": "/to", "detail": "is the same user"}])
    _user(session, from_user_id, actor)
    if not _user(session, to_user_id, actor).active:
        raise Invalid(
            f"The user {ids.show('usr', to_user_id)} is not active.",
            errors=[{"pointer": "/to", "detail": "not active"}],
        )
    moment = ledger.clock(session, now)[0]
    given: tuple[int, ...] = ()
    if territories:
        found = session.scalars(
            select(Area.id).where(Area.owner_id == from_user_id).order_by(Area.id).with_for_update()
        )
        given = tuple(found)
        for area_id in given:
            _write_owner(session, area_id, {"owner_id": to_user_id}, actor=actor, reason=reason, moment=moment)
        # what is set for later: versions that wait, and owners to come
        session.execute(
            text(
                "UPDATE area_owners SET owner_id = CAST(:to_user AS bigint) "
                "WHERE owner_id = CAST(:from_user AS bigint) AND valid_from > CAST(:now AS timestamptz)"
            ),
            {"to_user": to_user_id, "from_user": from_user_id, "now": moment},
        )
    count = 0
    if customers:
        count = _give_customers(session, from_user_id, to_user_id, moment)
    audit.record(
        session, "users.hand_over", actor_id=actor.user_id, key_id=actor.key_id,
        object_id=ids.show("usr", from_user_id),
        after={"to": ids.show("usr", to_user_id), "reason": reason, "customers": count,
               "territories": [ids.show("ter", area) for area in given]},
    )  # fmt: skip
    return HandedOver(given, count)


def set_owner(
    session: Session,
    area_id: int,
    *,
    owner_id: int | None,
    team_id: int | None,
    actor: Actor,
    reason: str,
    now: datetime | None = None,
) -> Area:
    """Give an area another owner and team from now on.

    The owner is active, the team exists; a manager gives areas of own team to people and teams of own team, and to
    nobody (both None) only an administrator does. Raises NotFound (an unknown or foreign area), Forbidden, Invalid."""
    require(actor, "customers:reassign")
    if not reason or not reason.strip():
        raise Invalid("Say why the owner changes.", errors=[{"pointer": "/reason", "detail": "is missing"}])
    area = session.scalar(
        select(Area).where(Area.id == area_id).with_for_update().execution_options(populate_existing=True)
    )
    if area is None:
        raise NotFound(f"There is no area {ids.show('ter', area_id)}.")
    if actor.role == "manager" and not (area.owner_id in actor.owners or area.team_id in actor.team_ids):
        raise NotFound(f"There is no area {ids.show('ter', area_id)} of your team.")
    owners.check(session, actor, owner_id=owner_id, team_id=team_id)
    before = {"owner": ids.show("usr", area.owner_id), "team": ids.show("tea", area.team_id)}
    moment = ledger.clock(session, now)[0]
    _write_owner(
        session, area_id, {"owner_id": owner_id, "team_id": team_id}, actor=actor, reason=reason, moment=moment
    )
    audit.record(
        session, "area.owner", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("ter", area_id),
        before=before,
        after={"owner": ids.show("usr", owner_id), "team": ids.show("tea", team_id), "reason": reason},
    )  # fmt: skip
    session.refresh(area)
    return area


def _user(session: Session, user_id: int, actor: Actor) -> User:
    user = session.get(User, user_id)
    if user is None or (actor.role == "manager" and user_id not in actor.owners):
        raise NotFound(f"There is no user {ids.show('usr', user_id)} in your team.")
    return user


def _write_owner(
    session: Session, area_id: int, owner: dict[str, int | None], *, actor: Actor, reason: str, moment: datetime
) -> None:
    values: dict[str, Any] = {
        "area": area_id, "now": moment, "actor": actor.user_id, "reason": reason,
        "owner": owner.get("owner_id"), "team": owner.get("team_id"), "sets_team": "team_id" in owner,
    }  # fmt: skip
    # the owner of until now is put down first where nobody has recorded one
    session.execute(
        text(
            "INSERT INTO area_owners (area_id, valid_from, owner_id, team_id) "
            "SELECT a.id, a.created_at, a.owner_id, a.team_id FROM areas a WHERE a.id = CAST(:area AS bigint) "
            "AND a.owner_id IS NOT NULL AND a.created_at < CAST(:now AS timestamptz) "
            "AND NOT EXISTS (SELECT FROM area_owners o WHERE o.area_id = a.id)"
        ),
        values,
    )
    session.execute(
        text(
            "WITH ending AS (UPDATE area_owners SET valid_to = CAST(:now AS timestamptz) "
            "WHERE area_id = CAST(:area AS bigint) AND valid_from < CAST(:now AS timestamptz) "
            "AND (valid_to IS NULL OR valid_to > CAST(:now AS timestamptz)) RETURNING area_id) "
            "INSERT INTO area_owners (area_id, valid_from, valid_to, owner_id, team_id, actor_id, reason) "
            "SELECT a.id, CAST(:now AS timestamptz), (SELECT min(n.valid_from) FROM area_owners n "
            "WHERE n.area_id = a.id AND n.valid_from > CAST(:now AS timestamptz)), CAST(:owner AS bigint), "
            "CASE WHEN CAST(:sets_team AS boolean) THEN CAST(:team AS bigint) ELSE a.team_id END, "
            "CAST(:actor AS bigint), CAST(:reason AS text) FROM areas a WHERE a.id = CAST(:area AS bigint) "
            "ON CONFLICT (area_id, valid_from) DO UPDATE SET owner_id = excluded.owner_id, team_id = excluded.team_id, "
            "actor_id = excluded.actor_id, reason = excluded.reason"
        ),
        values,
    )
    session.execute(
        text(
            "UPDATE areas SET owner_id = CAST(:owner AS bigint), version = version + 1, "
            "team_id = CASE WHEN CAST(:sets_team AS boolean) THEN CAST(:team AS bigint) ELSE team_id END "
            "WHERE id = CAST(:area AS bigint)"
        ),
        values,
    )
    area = session.identity_map.get(session.identity_key(Area, area_id))
    if area is not None:
        session.expire(area)


def _give_customers(session: Session, from_user_id: int, to_user_id: int, moment: datetime) -> int:
    ledger.make_changed_customers(session)
    session.execute(
        text(
            "WITH changed AS (UPDATE customers SET owner_id = CAST(:to_user AS bigint), version = version + 1, "
            "updated_at = CAST(:now AS timestamptz) WHERE owner_id = CAST(:from_user AS bigint) RETURNING id) "
            "INSERT INTO changed_customers SELECT id FROM changed"
        ),
        {"to_user": to_user_id, "from_user": from_user_id, "now": moment},
    )
    count = ledger.refresh_changed_customers(session)
    session.expire_all()
    return count
