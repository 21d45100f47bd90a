"""The newest requests of each API key, for who builds with it: time, method, route, status, how long. No address and no
body is kept: they hold positions."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm.db.models import ApiKey, KeyRequest
from geocrm.db.queries import named
from geocrm.errors import NotFound

MOST: Final = 500


class Request(NamedTuple):
    """A request that was answered; `took_ms` milliseconds."""

    digest: bytes
    at: datetime
    method: str
    route: str
    status: int
    took_ms: float
    request_id: str


def write(session: Session, requests: Sequence[Request]) -> None:
    """Note requests, oldest first; of each key the newest 500 stay."""
    if not requests:
        return
    digests, ats, methods, routes, statuses, took_ms, request_ids = map(list, zip(*requests, strict=True))
    session.execute(
        text(named("keys", "write_requests")),
        {
            "digests": digests, "ats": ats, "methods": methods, "routes": routes, "statuses": statuses,
            "took_ms": took_ms, "request_ids": request_ids,
        },
    )  # fmt: skip
    session.execute(text(named("keys", "trim_requests")), {"digests": list(set(digests)), "most": MOST})


def check_there(session: Session, key_id: int) -> None:
    """Raise NotFound where there is no such key."""
    if session.get(ApiKey, key_id) is None:
        raise NotFound()


def find(session: Session, key_id: int, *, before: int | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """Requests of a key, newest first."""
    query = select(KeyRequest).where(KeyRequest.key_id == key_id).order_by(KeyRequest.id.desc()).limit(limit)
    if before is not None:
        query = query.where(KeyRequest.id < before)
    return [
        {
            "id": row.id, "at": row.at, "method": row.method, "route": row.route, "status": row.status,
            "took_ms": row.took_ms, "request_id": row.request_id,
        }
        for row in session.scalars(query)
    ]  # fmt: skip
