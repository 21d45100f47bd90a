"""Record who did what. Payloads stand in a table of their own, where erasure can reach them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from geocrm.db.models import AuditEntry, AuditPayload, AuditSeal

_SEAL_LOCK = 7_305_417_210


def record(
    session: Session,
    action: str,
    *,
    actor_id: int | None,
    key_id: int | None = None,
    object_id: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Append one entry, in the transaction of the action itself. `action` is like "customer.update"."""
    payload = json.dumps([before, after], sort_keys=True, default=str).encode() if (before or after) else None
    entry = AuditEntry(
        actor_id=actor_id,
        key_id=key_id,
        action=action,
        object=object_id,
        digest=None if payload is None else hashlib.sha256(payload).digest(),
    )
    session.add(entry)
    session.flush()
    if payload is not None:
        before_json, after_json = json.loads(payload)
        session.add(AuditPayload(entry_id=entry.id, before=before_json, after=after_json))


def seal(session: Session, *, limit: int = 5000) -> int:
    """Put committed entries that are not yet in the hash chain into it, at most `limit`; how many.

    Done by the worker after commit, so that writers never wait for each other.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SEAL_LOCK})
    last = session.execute(
        select(AuditSeal.position, AuditSeal.seal).order_by(AuditSeal.position.desc()).limit(1)
    ).first()
    position, former = (0, b"") if last is None else (last.position, bytes(last.seal))
    waiting = session.scalars(
        select(AuditEntry)
        .where(~select(AuditSeal.entry_id).where(AuditSeal.entry_id == AuditEntry.id).exists())
        .order_by(AuditEntry.id)
        .limit(limit)
    ).all()
    for entry in waiting:
        position += 1
        former = _link(former, entry)
        session.add(AuditSeal(entry_id=entry.id, position=position, seal=former))
    session.flush()
    return len(waiting)


def verify(session: Session) -> int | None:
    """The position of the first entry that is not what was sealed, None where the chain is whole.

    A missing entry, a changed one and a payload that is not the entry's (erased ones aside) are all found.
    """
    former = b""
    expected = 0
    rows = session.execute(
        select(AuditSeal, AuditEntry).join(AuditEntry, AuditEntry.id == AuditSeal.entry_id).order_by(AuditSeal.position)
    )
    for sealed, entry in rows.yield_per(1000):
        expected += 1
        former = _link(former, entry)
        if sealed.position != expected or bytes(sealed.seal) != former:
            return expected
    total = session.scalar(select(func.count()).select_from(AuditSeal))
    return None if total == expected else expected + 1


def _link(former: bytes, entry: AuditEntry) -> bytes:
    said = [entry.id, entry.at.timestamp(), entry.actor_id, entry.key_id, entry.action, entry.object]
    content = json.dumps([*said, None if entry.digest is None else bytes(entry.digest).hex()])
    return hashlib.sha256(former + content.encode()).digest()
