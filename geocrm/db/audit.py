"""Record who did what. Payloads stand in a table of their own, where erasure can reach them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from geocrm.db.models import AuditEntry, AuditPayload


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
