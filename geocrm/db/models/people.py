"""Who works with geocrm: users, teams, roles, sessions, API keys."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Base, Created, Id, one_of


class Role(Base):
    """What a person may do; the permissions of each role stand in `geocrm.access`."""

    __tablename__ = "roles"
    __table_args__ = (CheckConstraint(one_of("rows", "all", "team", "own"), name="rows"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[str]  # which customers it sees


class Team(Base):
    """A team of people; teams nest."""

    __tablename__ = "teams"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"))


class User(Base):
    """A person who signs in."""

    __tablename__ = "users"
    __table_args__ = (Index("uq_users_email", func.lower(text("email")), unique=True),)

    id: Mapped[Id]
    email: Mapped[str]
    name: Mapped[str]
    role: Mapped[str] = mapped_column(ForeignKey("roles.name"))
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id"), index=True)
    password_hash: Mapped[str | None]
    active: Mapped[bool] = mapped_column(server_default="true")
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[Created]


class UserSession(Base):
    """A signed-in browser; only the digest of its token is kept."""

    __tablename__ = "user_sessions"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    csrf_token: Mapped[str]
    created_at: Mapped[Created]
    expires_at: Mapped[datetime]


class ApiKey(Base):
    """A key for a program, which acts for one user within its scopes; only its digest is kept."""

    __tablename__ = "api_keys"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]  # the first characters, to recognise it in a list
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[Created]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class KeyRequest(Base):
    """A request that a key made: the newest of each key, for who builds with it. The route and never the address:
    addresses hold positions."""

    __tablename__ = "key_requests"
    __table_args__ = (Index("ix_key_requests_key_id", "key_id", "id"), Index("ix_key_requests_at", "at"))

    id: Mapped[Id]
    key_id: Mapped[int] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    method: Mapped[str]
    route: Mapped[str]
    status: Mapped[int] = mapped_column(SmallInteger)
    took_ms: Mapped[float]
    request_id: Mapped[str]


class LoginAttempt(Base):
    """A failed login, for throttling by account and by address."""

    __tablename__ = "login_attempts"
    __table_args__ = (Index("ix_login_attempts_subject_at", "subject", "at"),)

    id: Mapped[Id]
    subject: Mapped[str]
    at: Mapped[Created]


class IdempotencyKey(Base):
    """The stored answer to a creating request, so that a repeat has one effect."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[int] = mapped_column(primary_key=True)
    key_id: Mapped[int] = mapped_column(primary_key=True)  # of the API key that asked; 0: a web session
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[Created]
