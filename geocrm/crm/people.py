"""Sessions, users, teams and API keys: who works with geocrm."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.db import audit
from geocrm.db.models import ApiKey, KeyRequest, LoginAttempt, Team, User
from geocrm.errors import Conflict, Invalid, NotFound, TooManyRequests

ATTEMPTS_WINDOW_S = 900
# Behind one address sit many people: it takes this many times the failures of one account.
ADDRESS_FACTOR = 10


# ---------------------------------------------------------------- signing in


@dataclass(frozen=True, slots=True)
class Candidate:
    """The account that somebody tries to sign in to; nothing in it where there is none."""

    user_id: int | None
    password_hash: str | None


def begin_login(session: Session, email: str, address: str, most: int) -> Candidate:
    """Count an attempt for the account and for the address, then give what the password is checked against.

    The attempt is counted before the password is looked at, so that many at once gain nothing. Raises TooManyRequests
    where there were `most` for the account, or ten times as many for the address, within a quarter of an hour.
    """
    account, place = _subjects(email, address)
    for subject, most_here in ((account, most), (place, most * ADDRESS_FACTOR)):
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:subject, 11))"), {"subject": subject})
        made, oldest = session.execute(
            select(func.count(), func.min(LoginAttempt.at)).where(
                LoginAttempt.subject == subject,
                LoginAttempt.at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, ATTEMPTS_WINDOW_S),
            )
        ).one()
        if made >= most_here:
            waited = session.scalar(select(func.extract("epoch", func.now() - oldest)))
            raise TooManyRequests(
                "Too many failed logins; wait a few minutes.",
                retry_after_s=max(1, int(ATTEMPTS_WINDOW_S - float(waited or 0)) + 1),
            )
        session.add(LoginAttempt(subject=subject))
        session.flush()
    row = session.execute(
        select(User.id, User.password_hash).where(func.lower(User.email) == email.lower(), User.active)
    ).one_or_none()
    return Candidate(None, None) if row is None else Candidate(row.id, row.password_hash)


def finish_login(
    session: Session, user_id: int, email: str, address: str, hours: float, days: float
) -> tuple[str, Actor]:
    """A new web session of a user whose password was right: its token, and who it is.

    It ends so many hours after its last use and at the latest so many days after now.
    """
    account, place = _subjects(email, address)
    # of the address only this attempt: who has an account does not wash away tries at others
    session.execute(
        text(
            "DELETE FROM login_attempts WHERE subject = CAST(:account AS text) OR id = (SELECT max(id)"
            " FROM login_attempts WHERE subject = CAST(:place AS text))"
        ),
        {"account": account, "place": place},
    )
    token, digest = access.new_token()
    csrf_token, _ = access.new_token()
    session.execute(
        text(
            "INSERT INTO user_sessions (digest, user_id, csrf_token, expires_at) VALUES (CAST(:digest AS bytea),"
            " CAST(:user_id AS bigint), CAST(:csrf AS text), now() + make_interval(secs => CAST(:seconds AS float8)))"
        ),
        {
            "digest": digest,
            "user_id": user_id,
            "csrf": csrf_token,
            "seconds": min(hours * 3600, days * 86_400),
        },
    )
    audit.record(session, "session.create", actor_id=user_id, object_id=ids.show("usr", user_id))
    return token, access.authenticate(session, token)


def keep_session(session: Session, digest: bytes, hours: float, days: float) -> None:
    """A web session was used: it goes on for so many hours, but not for longer than so many days since its sign-in."""
    session.execute(
        text(
            "UPDATE user_sessions SET expires_at = LEAST(now() + make_interval(secs => CAST(:idle AS float8)),"
            " created_at + make_interval(secs => CAST(:whole AS float8))) WHERE digest = CAST(:digest AS bytea)"
        ),
        {"idle": hours * 3600, "whole": days * 86_400, "digest": digest},
    )


def end_session(session: Session, actor: Actor, token: str) -> None:
    """Sign out."""
    session.execute(
        text("DELETE FROM user_sessions WHERE digest = CAST(:digest AS bytea)"), {"digest": access.digest(token)}
    )
    audit.record(session, "session.delete", actor_id=actor.user_id, object_id=ids.show("usr", actor.user_id))


def _subjects(email: str, address: str) -> tuple[str, str]:
    return f"account:{email.lower()}", f"address:{address}"


# ---------------------------------------------------------------- users and teams


def find_users(session: Session, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """All users, by id."""
    rows = session.execute(
        select(User, Team.name)
        .outerjoin(Team, Team.id == User.team_id)
        .where(User.id > after)
        .order_by(User.id)
        .limit(limit)
    )
    return [_user(user, team) for user, team in rows]


def find_colleagues(session: Session, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """Names of all active users, for choosing an owner; readable by everyone."""
    rows = session.execute(
        text(
            "SELECT u.id, u.name, u.role, u.team_id, t.name AS team_name"
            " FROM users u LEFT JOIN teams t ON t.id = u.team_id"
            " WHERE u.active AND u.id > CAST(:after AS bigint) ORDER BY u.id LIMIT CAST(:limit AS bigint)"
        ),
        {"after": after, "limit": limit},
    )
    return [
        {
            "id": ids.show("usr", row.id),
            "name": row.name,
            "role": row.role,
            "team": None if row.team_id is None else {"id": ids.show("tea", row.team_id), "name": row.team_name},
        }
        for row in rows
    ]


def get_user(session: Session, user_id: int) -> tuple[User, dict[str, Any]]:
    """One user; raises NotFound."""
    row = session.execute(
        select(User, Team.name).outerjoin(Team, Team.id == User.team_id).where(User.id == user_id)
    ).one_or_none()
    if row is None:
        raise NotFound()
    return row[0], _user(row[0], row[1])


def create_user(session: Session, actor: Actor, password_hash: str | None, values: Mapping[str, Any]) -> int:
    """A new user; raises Conflict where the e-mail address is taken."""
    _check_team(session, values.get("team_id"))
    _check_email(session, values["email"])
    user = User(password_hash=password_hash, **values)
    session.add(user)
    session.flush()
    audit.record(
        session, "user.create", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("usr", user.id),
        after=dict(values),
    )  # fmt: skip
    return user.id


def edit_user(
    session: Session, actor: Actor, user: User, changes: Mapping[str, Any], password_hash: str | None = None
) -> None:
    """Change a user. A changed role, team or password, or leaving, ends the user's sessions where it must.

    Raises Conflict where nobody would be left who may manage users.
    """
    if "team_id" in changes:
        _check_team(session, changes["team_id"])
    if "email" in changes and changes["email"].lower() != user.email.lower():
        _check_email(session, changes["email"])
    before = {name: getattr(user, name) for name in changes}
    for name, value in changes.items():
        setattr(user, name, value)
    if password_hash is not None:
        user.password_hash = password_hash
    user.version += 1
    session.flush()
    if not session.scalar(select(func.count()).where(User.role == "administrator", User.active)):
        raise Conflict("At least one active administrator must remain.")
    if password_hash is not None or not user.active:
        session.execute(text("DELETE FROM user_sessions WHERE user_id = CAST(:id AS bigint)"), {"id": user.id})
    if not user.active:
        session.execute(
            update(ApiKey).where(ApiKey.user_id == user.id, ApiKey.revoked_at.is_(None)).values(revoked_at=func.now())
        )
    after = dict(changes) | ({"password": "changed"} if password_hash is not None else {})
    audit.record(
        session, "user.update", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("usr", user.id),
        before=before, after=after,
    )  # fmt: skip


def find_teams(session: Session) -> list[dict[str, Any]]:
    """All teams, by id."""
    return [_team(team) for team in session.scalars(select(Team).order_by(Team.id))]


def get_team(session: Session, team_id: int) -> Team:
    """One team; raises NotFound."""
    team = session.get(Team, team_id)
    if team is None:
        raise NotFound()
    return team


def create_team(session: Session, actor: Actor, name: str, parent_id: int | None) -> dict[str, Any]:
    """A new team; raises Conflict where the name is taken."""
    _check_team(session, parent_id)
    _check_team_name(session, name)
    team = Team(name=name, parent_id=parent_id)
    session.add(team)
    session.flush()
    audit.record(
        session, "team.create", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("tea", team.id),
        after={"name": name, "parent_id": parent_id},
    )  # fmt: skip
    return _team(team)


def edit_team(session: Session, actor: Actor, team_id: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Rename a team or put it below another one; raises Invalid for a circle."""
    team = session.get(Team, team_id, with_for_update=True)
    if team is None:
        raise NotFound()
    if changes.get("name", team.name) != team.name:
        _check_team_name(session, changes["name"])
    if changes.get("parent_id") is not None:
        _check_team(session, changes["parent_id"])
        above = session.scalars(
            text(
                "WITH RECURSIVE above AS (SELECT id, parent_id FROM teams WHERE id = CAST(:id AS bigint) UNION"
                " SELECT t.id, t.parent_id FROM teams t JOIN above a ON t.id = a.parent_id) SELECT id FROM above"
            ),
            {"id": changes["parent_id"]},
        ).all()
        if team_id in above:
            fault = "a team cannot stand below itself"
            raise Invalid(fault, errors=[{"pointer": "/parent_id", "detail": fault}])
    before = {name: getattr(team, name) for name in changes}
    for name, value in changes.items():
        setattr(team, name, value)
    session.flush()
    audit.record(
        session, "team.update", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("tea", team.id),
        before=before, after=dict(changes),
    )  # fmt: skip
    return _team(team)


def _check_email(session: Session, email: str) -> None:
    if session.scalar(select(User.id).where(func.lower(User.email) == email.lower())) is not None:
        raise Conflict("There is a user with this e-mail address already.")


def _check_team_name(session: Session, name: str) -> None:
    if session.scalar(select(Team.id).where(Team.name == name)) is not None:
        raise Conflict("There is a team of this name already.")


def _check_team(session: Session, team_id: int | None) -> None:
    if team_id is not None and session.get(Team, team_id) is None:
        fault = f"there is no team {ids.show('tea', team_id)}"
        raise Invalid(fault, errors=[{"pointer": "/team_id", "detail": fault}])


def _user(user: User, team: str | None) -> dict[str, Any]:
    return {
        "id": ids.show("usr", user.id),
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "team": None if user.team_id is None else {"id": ids.show("tea", user.team_id), "name": team},
        "active": user.active,
        "version": user.version,
        "created_at": user.created_at,
    }


def _team(team: Team) -> dict[str, Any]:
    return {"id": ids.show("tea", team.id), "name": team.name, "parent_id": ids.show("tea", team.parent_id)}


# ---------------------------------------------------------------- API keys


def find_keys(session: Session, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """All API keys, by id, revoked ones too."""
    newest = (
        select(KeyRequest.at)
        .where(KeyRequest.key_id == ApiKey.id)
        .order_by(KeyRequest.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = session.execute(
        select(ApiKey, User.name, newest)
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.id > after)
        .order_by(ApiKey.id)
        .limit(limit)
    )
    return [_key(key, name, last_used_at) for key, name, last_used_at in rows]


def create_key(
    session: Session, actor: Actor, user_id: int, name: str, scopes: Iterable[str], expires_at: datetime | None
) -> dict[str, Any]:
    """A new API key that acts for a user within its scopes; `secret` is in this answer and never again."""
    user = session.get(User, user_id)
    if user is None or not user.active:
        fault = f"there is no active user {ids.show('usr', user_id)}"
        raise Invalid(fault, errors=[{"pointer": "/user_id", "detail": fault}])
    token, digest = access.new_token("gk_")
    key = ApiKey(
        user_id=user_id, name=name, prefix=token[:10], digest=digest, scopes=sorted(set(scopes)), expires_at=expires_at
    )
    session.add(key)
    session.flush()
    audit.record(
        session, "key.create", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("key", key.id),
        after={"user_id": user_id, "name": name, "scopes": key.scopes, "expires_at": expires_at},
    )  # fmt: skip
    return _key(key, user.name, None) | {"secret": token}


def revoke_key(session: Session, actor: Actor, key_id: int) -> None:
    """The key is good for nothing from the next request on; raises NotFound."""
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None:
        raise NotFound()
    if key.revoked_at is None:
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.now()))
        audit.record(
            session, "key.revoke", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("key", key_id)
        )


def _key(key: ApiKey, user_name: str, last_used_at: datetime | None) -> dict[str, Any]:
    return {
        "id": ids.show("key", key.id),
        "name": key.name,
        "user": {"id": ids.show("usr", key.user_id), "name": user_name},
        "prefix": key.prefix,
        "scopes": key.scopes,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": last_used_at,
    }
