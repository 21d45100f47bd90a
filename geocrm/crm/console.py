"""Users and API keys at a terminal: how the first administrator of a new database comes to be."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import func, select

from geocrm import access, ids
from geocrm.access import ROLES, SCOPES, SYSTEM
from geocrm.crm import people
from geocrm.db.engine import command_session
from geocrm.db.models import Team, User
from geocrm.errors import Invalid, NotFound

Echo = Callable[[str], Any]


def add_user(email: str, name: str, role: str, team: str | None, password: str, *, echo: Echo) -> None:
    """Add a user, and the team of that name where there is none. Raises Invalid, Conflict."""
    if role not in ROLES:
        raise Invalid(f"{role!r} is no role; choose {', '.join(ROLES)}.")
    if email.count("@") != 1 or email.startswith("@") or email.endswith("@"):
        raise Invalid(f"{email!r} is no e-mail address.")
    hashed = access.hash_password(password)

    with command_session() as session:
        team_id = None
        if team is not None:
            team_id = session.scalar(select(Team.id).where(Team.name == team))
            if team_id is None:
                team_id = ids.read("tea", people.create_team(session, SYSTEM, team, None)["id"])
        user_id = people.create_user(
            session, SYSTEM, hashed, {"email": email, "name": name, "role": role, "team_id": team_id}
        )
        echo(f"{ids.show('usr', user_id)} {email} signs in as {role}.")


def list_users(*, as_json: bool = False, echo: Echo) -> None:
    """A line a user, or JSON."""

    with command_session() as session:
        rows = session.execute(select(User, Team.name).outerjoin(Team, Team.id == User.team_id).order_by(User.id)).all()
        if as_json:
            people_rows = [
                {
                    "id": ids.show("usr", user.id),
                    "email": user.email,
                    "name": user.name,
                    "role": user.role,
                    "team": team,
                    "active": user.active,
                }
                for user, team in rows
            ]
            echo(json.dumps(people_rows, ensure_ascii=False, indent=2))
            return
        if not rows:
            echo("Nobody yet: `geocrm users add ada@example.com --name 'Ada' --role administrator`.")
        else:
            echo(f"{'user':<10} {'e-mail':<36} {'role':<14} team")
        for user, team in rows:
            left = "" if user.active else " (left)"
            echo(f"{ids.show('usr', user.id):<10} {user.email:<36} {user.role:<14} {team or ''}{left}")


def make_key(email: str, name: str, scopes: Sequence[str], *, echo: Echo) -> None:
    """Make an API key that acts for a user, and print it: it is shown once. Raises Invalid, NotFound."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown:
        raise Invalid(f"{unknown[0]!r} is no scope; choose from {', '.join(SCOPES)}.")

    with command_session() as session:
        user_id = session.scalar(select(User.id).where(func.lower(User.email) == email.lower(), User.active))
        if user_id is None:
            raise NotFound(f"There is no active user {email}.")
        echo(people.create_key(session, SYSTEM, user_id, name, scopes, None)["secret"])
