"""Simulated walks: the events that positions would make, without storing anything."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from geocrm.api.dependencies import CanReadFences, Reading, fences_of, router, settings_of
from geocrm.api.shapes import Lat, Lon, Shown, When
from geocrm.campaigns import walks

routes = router("Geofences")

_FENCE = {"id": "fen_4", "tag": "shops", "external_id": "denver-1", "name": "Union Station", "metadata": {}}


class Step(BaseModel):
    """Where a phone would be, and when."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    lon: Lon = Field(examples=[-104.9903])
    lat: Lat = Field(examples=[39.7392])
    accuracy_m: Annotated[float, Field(strict=True, ge=0, lt=1e7)] = Field(
        description="The radius that holds the true point in 68 % of cases, as phones give it.", examples=[12.5]
    )
    recorded_at: When = Field(
        description="Fences that keep hours speak within them.", examples=["2026-01-31T09:00:00Z"]
    )


class Walk(BaseModel):
    """The positions of one phone, in any order."""

    model_config = ConfigDict(extra="forbid")

    positions: Annotated[list[Step], Field(min_length=1, max_length=walks.MOST)]
    tags: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=100)] = Field(
        default_factory=list, description="Only fences of these tags; none: all.", examples=[["shops"]]
    )


class WalkEvent(Shown):
    """What would be told."""

    type: str = Field(examples=["geofence.entered"])
    geofence: dict[str, Any] = Field(examples=[_FENCE])
    position: int = Field(description="The place, among those sent, of the position that decided it.", examples=[7])
    occurred_at: datetime
    detected_at: datetime
    entered_at: datetime
    confidence: str = Field(examples=["high"])
    probability: float = Field(examples=[0.9991])
    distance_to_border_m: float | None = Field(examples=[41.3])


class Replayed(Shown):
    """The events of a walk, by when they are detected."""

    data: list[WalkEvent]
    ignored: list[int] = Field(description="Positions, by their place, whose accuracy says too little.", examples=[[]])


@routes.post(
    "/geofences/walks",
    operation_id="replay_walk",
    response_model=Replayed,
    summary="Which events a walk would make",
)
def replay_walk(request: Request, session: Reading, actor: CanReadFences, walk: Walk) -> object:
    """By the same rules as positions of customers, for a phone that was in no fence before. Nothing is stored, no
    customer is in it, and no webhook is told."""
    found = walks.replay(
        fences_of(request).current(session),
        walks.Walk.of((one.lon, one.lat, one.accuracy_m, one.recorded_at) for one in walk.positions),
        tags=walk.tags,
        max_accuracy_m=settings_of(request).position_max_accuracy_m,
    )
    return {"data": found.events, "ignored": found.ignored}
