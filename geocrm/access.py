"""Who may do what, and who may see which rows: actors, roles, permissions, scopes, passwords, tokens.

Row visibility is decided in the database (`db/sql/security.sql`); this module tells the database who acts.
"""

import base64
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from geocrm.errors import Forbidden, Invalid, NotFound, Unauthenticated

Role = Literal["administrator", "manager", "rep", "marketer", "analyst"]
ROLES: tuple[Role, ...] = ("administrator", "manager", "rep", "marketer", "analyst")

_ALL = frozenset(ROLES)
_SALES_SIDE: frozenset[Role] = frozenset({"administrator", "manager", "rep"})
_STEERING: frozenset[Role] = frozenset({"administrator", "manager"})

# Permission → the roles that have it. Rows are a second question, answered by row security.
PERMISSIONS: dict[str, frozenset[Role]] = {
    "customers:read": _ALL,
    "customers:write": _SALES_SIDE,
    "customers:reassign": _STEERING,
    "imports:customers": _STEERING,
    "imports:reference": frozenset({"administrator", "marketer"}),
    "places:write": frozenset({"administrator", "marketer"}),
    "layers:read": _ALL,
    "territories:draft": _STEERING,
    "territories:publish": _STEERING,
    "trading_areas:write": frozenset({"administrator", "marketer"}),
    "segmentations:read": _ALL,
    "segmentations:write": frozenset({"administrator", "marketer", "analyst"}),
    "segmentations:publish": frozenset({"administrator", "marketer"}),
    "analyses:read": frozenset({"administrator", "marketer", "analyst"}),
    "analyses:write": frozenset({"administrator", "marketer", "analyst"}),
    "offers:read": _ALL,
    "offers:write": frozenset({"administrator", "marketer", "analyst"}),
    "offers:publish": frozenset({"administrator", "marketer"}),
    "offers:redeem": frozenset({"administrator", "manager", "rep", "marketer"}),
    "automations:read": _ALL,
    "automations:write": frozenset({"administrator", "marketer", "analyst"}),
    "automations:publish": frozenset({"administrator", "marketer"}),
    "geofences:read": _ALL,
    "geofences:write": frozenset({"administrator", "marketer"}),
    "positions:write": frozenset({"administrator", "manager", "rep", "marketer"}),
    "exports": frozenset({"administrator", "manager", "rep", "marketer"}),
    "exports:aggregated": frozenset({"administrator", "manager", "marketer", "analyst"}),
    "webhooks:manage": frozenset({"administrator"}),
    "users:manage": frozenset({"administrator"}),
    "keys:manage": frozenset({"administrator"}),
    "audit:read": frozenset({"administrator"}),
}

# Scope of an API key → the permissions that it lets through. A key never does more than its user's role, and there is
# no scope for drafting and publishing, for changing owners, for segmentations, places, exports and settings: those are
# for people.
SCOPES: dict[str, frozenset[str]] = {
    "customers:read": frozenset(
        {"customers:read", "layers:read", "segmentations:read", "offers:read", "automations:read", "geofences:read"}
    ),
    "customers:write": frozenset({"customers:write"}),
    "offers:redeem": frozenset({"offers:read", "offers:redeem"}),
    "imports": frozenset({"imports:customers", "imports:reference"}),
    "geofences:write": frozenset({"geofences:read", "geofences:write"}),
    "positions:write": frozenset({"geofences:read", "positions:write"}),
    "contacts": frozenset(),  # shows contact details
    "locations:exact": frozenset(),  # without it every point is snapped to a 500 m grid
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a signed-in user, an API key for a user, or geocrm itself (`SYSTEM`)."""

    user_id: int | None
    name: str
    role: Role
    team_ids: tuple[int, ...] = ()
    owners: tuple[int, ...] = ()  # users whose customers are seen
    territories: tuple[int, ...] = ()  # areas of the primary layer whose sites are seen
    sees_all: bool = False
    key_id: int | None = None
    scopes: frozenset[str] | None = None  # None: a session, limited by the role alone
    exact: bool = True  # False: points, distances and orders are those of the 500 m grid
    contacts: Literal["shown", "consented", "masked"] = "masked"
    csrf_token: str | None = field(default=None, repr=False)

    def may(self, permission: str) -> bool:
        """Whether role and key allow this operation (rows are another question)."""
        if self.role not in PERMISSIONS[permission]:
            return False
        if self.scopes is None:
            return True
        if permission == "customers:write" and "customers:read" not in self.scopes:
            return False  # what is written is answered with, whole
        return any(permission in SCOPES.get(scope, ()) for scope in self.scopes)


SYSTEM = Actor(user_id=None, name="geocrm", role="administrator", sees_all=True, contacts="shown")


def require(actor: Actor, permission: str) -> None:
    """Raise Forbidden unless the actor has the permission."""
    require_any(actor, (permission,))


def require_any(actor: Actor, permissions: Sequence[str]) -> None:
    """Raise Forbidden, with who may, unless the actor has one of the permissions."""
    if any(actor.may(permission) for permission in permissions):
        return
    held = [permission for permission in permissions if actor.role in PERMISSIONS[permission]]
    if not held:
        roles = " and ".join(f"{role}s" for role in ROLES if any(role in PERMISSIONS[one] for one in permissions))
        who = f"The role {actor.role}" + ("" if actor.key_id is None else ", for which this API key acts,")
        may = roles.replace(" and ", ", ", roles.count(" and ") - 1)
        raise Forbidden(f"{who} may not do this: it is for {may}. An administrator gives roles.")
    scopes = [name for name, lets in SCOPES.items() if lets.intersection(held) and name not in (actor.scopes or ())]
    if not scopes and "customers:write" not in held:
        raise Forbidden("No API key may do this: it is for people who sign in.")
    wanted = " or ".join(scopes or ["customers:read"])
    raise lacks(wanted)


def lacks(scope: str) -> Forbidden:
    """What an API key without this scope is told."""
    return Forbidden(f"This API key lacks the scope {scope}: an administrator makes keys, with the scopes they need.")


def load_actor(session: Session, user_id: int, *, key_id: int | None = None) -> Actor:
    """The user as actor of a session of their own, or as what a key of theirs may do and see.

    Raises NotFound for an unknown or inactive user, and for a key that is not the user's, revoked or expired."""
    row = session.execute(
        text("SELECT * FROM geocrm_actor(CAST(:user_id AS bigint))"), {"user_id": user_id}
    ).one_or_none()
    if row is None or row.user_id is None:
        raise NotFound(f"There is no active user usr_{user_id}.")
    shown: Literal["shown", "consented", "masked"] = (
        "shown" if row.role in _SALES_SIDE else "consented" if row.role == "marketer" else "masked"
    )
    scopes: frozenset[str] | None = None
    if key_id is not None:
        held = session.scalar(
            text(
                "SELECT scopes FROM api_keys WHERE id = CAST(:key AS bigint) AND user_id = CAST(:user AS bigint)"
                " AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
            ),
            {"key": key_id, "user": user_id},
        )
        if held is None:
            raise NotFound("The API key that asked for this is no longer valid.")
        scopes = frozenset(held)
        shown = shown if "contacts" in scopes else "masked"
    return Actor(
        user_id=row.user_id,
        name=row.name,
        role=row.role,
        team_ids=tuple(row.team_ids or ()),
        owners=tuple(row.owners or ()),
        territories=tuple(row.territories or ()),
        sees_all=row.sees_all,
        key_id=key_id,
        scopes=scopes,
        exact=scopes is None or "locations:exact" in scopes,
        contacts=shown,
    )


def authenticate(session: Session, token: str) -> Actor:
    """The actor behind a session token or API key; raises Unauthenticated."""
    row = session.execute(
        text("SELECT * FROM geocrm_authenticate(CAST(:digest AS bytea))"), {"digest": digest(token)}
    ).one_or_none()
    if row is None or row.user_id is None:
        raise Unauthenticated()
    return Actor(
        user_id=row.user_id,
        name=row.name,
        role=row.role,
        team_ids=tuple(row.team_ids or ()),
        owners=tuple(row.owners or ()),
        territories=tuple(row.territories or ()),
        sees_all=row.sees_all,
        key_id=row.key_id,
        scopes=None if row.scopes is None else frozenset(row.scopes),
        exact=row.exact,
        contacts=row.contacts,
        csrf_token=row.csrf_token,
    )


def enter(session: Session, actor: Actor) -> None:
    """Set the row-security context of this transaction to the actor's."""
    session.execute(
        text(
            "SELECT geocrm_set_context(CAST(:user_id AS bigint), CAST(:sees_all AS boolean), "
            "CAST(:owners AS bigint[]), CAST(:territories AS bigint[]), CAST(:exact AS boolean), "
            "CAST(:contacts AS text), CAST(:key_id AS bigint))"
        ),
        {
            "user_id": actor.user_id or 0,
            "sees_all": actor.sees_all,
            "owners": list(actor.owners),
            "territories": list(actor.territories),
            "exact": actor.exact,
            "contacts": actor.contacts,
            "key_id": actor.key_id,
        },
    )


@contextmanager
def as_user(session: Session, actor: Actor) -> Iterator[Session]:
    """Within the block a worker's session sees what the actor sees, under row security; afterwards it is worker again.

    Objects loaded inside stay attached and may be changed after the block.
    """
    session.flush()
    session.execute(text("SET LOCAL ROLE geocrm_api"))
    enter(session, actor)
    try:
        yield session
    except BaseException:
        with suppress(
            DBAPIError
        ):  # a statement failed: the transaction, or the savepoint, is rolled back and the role with it
            _leave(session)
        raise
    else:
        _leave(session)


def _leave(session: Session) -> None:
    if session.get_transaction() is not None and session.is_active:
        session.execute(text("SET LOCAL ROLE geocrm_worker"))


_HASHER = PasswordHasher()


def _hash_of_nothing() -> str:
    """What a hash of `_HASHER` looks like, made without hashing: to verify it takes as long, and nothing fits it."""
    parts = (secrets.token_bytes(length) for length in (_HASHER.salt_len, _HASHER.hash_len))
    salt, made = (base64.b64encode(part).decode().rstrip("=") for part in parts)
    cost = f"m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${cost}${salt}${made}"


# Verified when there is no such account, so that its absence takes as long as a wrong password. Every command makes it
# when it starts, and so does not hash for it.
_NOBODY = _hash_of_nothing()


def hash_password(password: str) -> str:
    """argon2id hash; raises Invalid for a password under 10 characters."""
    if len(password) < 10:
        raise Invalid(
            "A password has at least 10 characters.",
            errors=[{"pointer": "/password", "detail": "at least 10 characters"}],
        )
    return _HASHER.hash(password)


def verify_password(password: str, stored: str | None) -> bool:
    """Whether the password fits; takes equally long where there is no account."""
    try:
        return _HASHER.verify(stored or _NOBODY, password) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def new_token(prefix: str = "") -> tuple[str, bytes]:
    """A new secret token and the digest under which it is stored."""
    token = prefix + secrets.token_urlsafe(32)
    return token, digest(token)


def digest(token: str) -> bytes:
    """The digest of a token: SHA-256 is enough, as tokens are random and long."""
    return hashlib.sha256(token.encode()).digest()
