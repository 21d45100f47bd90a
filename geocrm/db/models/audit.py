"""Who did what, append-only; the payload stands apart, where erasure can reach it."""

from typing import Any

from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Base, Created, Id


class AuditEntry(Base):
    """One action; sealed into a hash chain by the worker after commit."""

    __tablename__ = "audit_log"

    id: Mapped[Id]
    at: Mapped[Created]
    actor_id: Mapped[int | None]
    key_id: Mapped[int | None]
    action: Mapped[str]
    object: Mapped[str | None]  # its prefixed id
    digest: Mapped[bytes | None] = mapped_column(LargeBinary)  # of the payload


class AuditSeal(Base):
    """The hash chain over `audit_log`: each seal covers its entry and the seal before."""

    __tablename__ = "audit_seals"

    entry_id: Mapped[int] = mapped_column(ForeignKey("audit_log.id"), primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(unique=True)
    seal: Mapped[bytes] = mapped_column(LargeBinary)


class AuditPayload(Base):
    """Before and after of an audited action."""

    __tablename__ = "audit_payloads"

    entry_id: Mapped[int] = mapped_column(ForeignKey("audit_log.id"), primary_key=True, autoincrement=False)
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
