"""To whom an area may be given."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor
from geocrm.db.models import Team, User
from geocrm.errors import Fault, Forbidden, Invalid


def eligible(
    session: Session, actor: Actor, owner_ids: Iterable[int], team_ids: Iterable[int]
) -> tuple[set[int], set[int]]:
    """Of these users and teams, those to whom the actor may give areas: active users and teams that exist; for a
    manager those of own team and below."""
    users = set(session.scalars(select(User.id).where(User.id.in_(list(owner_ids)), User.active)))
    teams = set(session.scalars(select(Team.id).where(Team.id.in_(list(team_ids)))))
    if actor.role == "manager":
        return users & set(actor.owners), teams & set(actor.team_ids)
    return users, teams


def check(
    session: Session,
    actor: Actor,
    *,
    owner_id: int | None,
    team_id: int | None,
    before: tuple[int | None, int | None] | None = None,
) -> None:
    """Raise Invalid for an owner or team that the actor may not give an area to, and Forbidden for a manager who leaves
    it to nobody. What stays as it was in `before` (owner, team) may stay."""
    if (owner_id, team_id) == before:
        return
    if owner_id is None and team_id is None and actor.role == "manager":
        raise Forbidden("Give the territory an owner or a team of yours; only an administrator leaves it to nobody.")
    old_owner, old_team = before or (None, None)
    changed = (
        set() if owner_id is None or owner_id == old_owner else {owner_id},
        set() if team_id is None or team_id == old_team else {team_id},
    )
    users, teams = eligible(session, actor, *changed)
    own = " in your team" if actor.role == "manager" else ""
    faults: list[Fault] = []
    for number in changed[0] - users:
        faults.append({"pointer": "/owner_id", "detail": f"there is no active user {ids.show('usr', number)}{own}"})
    for number in changed[1] - teams:
        own = " that is yours" if actor.role == "manager" else ""
        faults.append({"pointer": "/team_id", "detail": f"there is no team {ids.show('tea', number)}{own}"})
    if faults:
        raise Invalid(faults[0]["detail"], errors=faults)
