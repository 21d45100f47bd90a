"""Positions in, events out."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from geocrm.api import pages
from geocrm.api.dependencies import CanReadEvents, CanSendPositions, Reading, Writing, fences_of, router, settings_of
from geocrm.api.shapes import CustomerId, Lat, Lon, Page, Shown, When
from geocrm.campaigns import events, positions
from geocrm.errors import Forbidden

routes = router("Positions and events")

_EVENT = {
    "customer_id": "cus_1042",
    "geofence": {"id": "fen_4", "tag": "shops", "external_id": "denver-1", "name": "Union Station", "metadata": {}},
    "detected_at": "2026-11-22T10:31:20Z",
    "entered_at": "2026-11-22T10:31:05Z",
    "confidence": "high",
    "probability": 0.9991,
    "distance_to_border_m": 41.3,
}  # fmt: skip


class Position(BaseModel):
    """Where a customer's phone was."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    customer_id: CustomerId = Field(examples=["cus_1042"])
    lon: Lon = Field(examples=[-104.9903])
    lat: Lat = Field(examples=[39.7392])
    accuracy_m: Annotated[float, Field(strict=True, ge=0, lt=1e7)] = Field(
        description="The radius that holds the true point in 68 % of cases, as phones give it.", examples=[12.5]
    )
    recorded_at: When = Field(examples=["2026-01-31T09:00:00Z"])


class SentPositions(BaseModel):
    """One position or many, in any order, of one customer or many."""

    model_config = ConfigDict(extra="forbid")

    positions: Annotated[list[Position], Field(min_length=1, max_length=positions.MOST)]


class Ignored(Shown):
    """A position that was not kept, and why."""

    pointer: str = Field(examples=["/positions/3"])
    reason: str = Field(examples=["an accuracy of more than 1000 m says too little"])


class ShownEvent(Shown):
    """Something that happened to a customer."""

    id: str = Field(examples=["evt_12"])
    type: str = Field(examples=["geofence.entered"])
    occurred_at: datetime
    data: dict[str, Any] = Field(examples=[_EVENT])


class RecordedEvent(ShownEvent):
    """An event on record."""

    created_at: datetime


class TakenPositions(Shown):
    """What became of positions."""

    stored: int = Field(examples=[1])
    doubles: int = Field(description="Known already; nothing was changed.", examples=[0])
    late: int = Field(description="Stored, but older than the newest of the customer: no events.", examples=[0])
    ignored: list[Ignored]
    events: list[ShownEvent] | None = Field(description="Null for keys without the scope `locations:exact`.")


@routes.post(
    "/positions",
    status_code=202,
    operation_id="send_positions",
    response_model=TakenPositions,
    summary="Send positions",
)
def send_positions(request: Request, session: Writing, actor: CanSendPositions, sent: SentPositions) -> object:
    """Under a consent of the customer with the purpose `location`, else 403 (`consent-required`) and nothing is kept.
    Late, double and disordered positions do no harm, so the same request may be sent again. One in the future is 422,
    a coarse or old one is ignored, which is said."""
    settings = settings_of(request)
    batch = positions.Batch.of(
        (one.customer_id, one.lon, one.lat, one.accuracy_m, one.recorded_at) for one in sent.positions
    )
    taken = positions.take(
        session,
        actor,
        fences_of(request).current(session),
        batch,
        now=datetime.now(UTC),
        keep_days=settings.position_days,
        max_accuracy_m=settings.position_max_accuracy_m,
    )
    return {
        "stored": taken.stored,
        "doubles": taken.doubles,
        "late": taken.late,
        "ignored": [{"pointer": f"/positions/{place}", "reason": reason} for place, reason in taken.ignored],
        # who may not know points exactly could learn from an exit that the customer was in a fence as small as may be
        "events": taken.events if actor.exact else None,
    }


@routes.get("/events", operation_id="list_events", response_model=Page[RecordedEvent], summary="List events")
def list_events(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadEvents,
    customer: Annotated[CustomerId | None, Query(description="Only of this customer.", examples=["cus_1042"])] = None,
    type: Annotated[
        str | None, Query(max_length=60, description="Only of this type.", examples=["geofence.entered"])
    ] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Newest first. An API key needs `locations:exact` too: events of small fences tell where a customer was."""
    if not actor.exact:
        raise Forbidden("Events tell where a customer was: the key needs the scope locations:exact.")
    rows = events.find(session, customer_id=customer, type=type, before=pages.read_id(cursor), limit=limit + 1)
    return pages.page(request, response, rows, limit, pages.id_of)
