"""Events: what happened to customers, with its deliveries to webhooks, in the transaction in which it happened."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.db.arrays import of_numbers
from geocrm.db.queries import named

TYPES: Final = ("geofence.entered", "geofence.exited", "geofence.dwelled")


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened to a customer; `purpose` is that of the consent it was made under, if any."""

    customer_id: int
    type: str
    occurred_at: datetime
    data: Mapping[str, Any]
    purpose: str | None = None
    geofence_id: int | None = None


def record(session: Session, happened: Iterable[NewEvent]) -> list[int]:
    """Write events and queue their deliveries to the webhooks that want them; their ids, in the order given.

    Events of one customer reach a webhook in the order of their ids: whoever records holds what orders them."""
    listed = list(happened)
    if not listed:
        return []
    return list(
        session.scalars(
            text(named("events", "record")),
            {
                "customers": of_numbers(event.customer_id for event in listed),
                "types": [event.type for event in listed],
                "purposes": [event.purpose for event in listed],
                "fences": of_numbers(event.geofence_id for event in listed),
                "moments": [event.occurred_at for event in listed],
                "data": [json.dumps(dict(event.data), ensure_ascii=False) for event in listed],
            },
        )
    )


def find(
    session: Session,
    *,
    customer_id: int | None = None,
    type: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Events that the actor sees, newest first: of a customer, of a type."""
    rows = session.execute(
        text(named("events", "find")), {"customer": customer_id, "type": type, "before": before, "limit": limit}
    )
    return [
        {
            "id": ids.show("evt", row.id),
            "type": row.type,
            "occurred_at": row.occurred_at,
            "created_at": row.created_at,
            "data": row.data,
        }
        for row in rows
    ]
