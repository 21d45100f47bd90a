"""Geofences: put, list, find the nearest for a phone."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from pydantic import Field, WithJsonSchema
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.api import geojson, pages
from geocrm.api.dependencies import (
    CanEditFences,
    CanReadFences,
    IfMatch,
    IfMatchWhereSent,
    Reading,
    Writing,
    etag,
    fences_of,
    router,
)
from geocrm.api.places import Box, read_box
from geocrm.api.shapes import Body, Name, Page, Point, Shown, ShownPoint
from geocrm.campaigns import geofences

routes = router("Geofences")

Tag = Annotated[
    str,
    Path(
        pattern="^[a-z0-9][a-z0-9_-]{0,62}$",
        description="What kind of fence it is, in words of your own.",
        examples=["shops"],
    ),
]
ExternalId = Annotated[
    str,
    Path(
        pattern="^[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$",
        description="What you call it; with the tag it names one fence.",
        examples=["denver-1"],
    ),
]
_POLYGON = {
    "type": "Polygon",
    "coordinates": [[[-104.99, 39.74], [-104.98, 39.74], [-104.98, 39.75], [-104.99, 39.75], [-104.99, 39.74]]],
}
_HOURS = [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "18:00"}]
Geometry = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "description": "GeoJSON Polygon or MultiPolygon.", "examples": [_POLYGON]}),
]
Hours = Annotated[
    list[dict[str, Any]],
    Field(max_length=100),
    WithJsonSchema(
        {
            "type": "array",
            "maxItems": 100,
            "items": {"type": "object"},
            "description": "Spans of the week on the clock of `time_zone`; outside them the fence says nothing.",
            "examples": [_HOURS],
        }
    ),
]
Metres = Annotated[float, Field(strict=True, ge=geofences.SMALLEST_M, le=geofences.LARGEST_M / 2, allow_inf_nan=False)]
Metadata = Annotated[dict[str, Any], Field(max_length=50)]


class PutFence(Body):
    """A polygon, or a circle by `center` and `radius_m`."""

    geometry: Geometry | None = Field(None, examples=[None])
    center: Point | None = None
    radius_m: Metres | None = Field(None, examples=[150.0])
    name: Name | None = Field(None, examples=["Denver Union Station"])
    dwell_s: Annotated[float, Field(strict=True, gt=0, le=geofences.LONGEST_DWELL_S)] | None = Field(
        None, description="Who is seen inside for so long has dwelled.", examples=[300.0]
    )
    hours: Hours | None = None
    time_zone: Annotated[Name, Field(max_length=60)] | None = Field(None, examples=["America/Denver"])
    metadata: Metadata = Field(default_factory=dict, examples=[{"shop": "42"}])


class ShownFence(Shown):
    """A geofence. Of a circle, `geometry` is an outline that covers it."""

    id: str = Field(examples=["fen_4"])
    tag: str = Field(examples=["shops"])
    external_id: str = Field(examples=["denver-1"])
    name: str | None = Field(examples=["Denver Union Station"])
    kind: str = Field(examples=["circle"])
    geometry: dict[str, Any] = Field(examples=[_POLYGON | {"type": "MultiPolygon", "coordinates": []}])
    center: ShownPoint | None
    radius_m: float | None = Field(examples=[150.0])
    dwell_s: float | None = Field(examples=[300.0])
    hours: list[dict[str, Any]] | None = Field(examples=[_HOURS])
    time_zone: str | None = Field(examples=["America/Denver"])
    metadata: dict[str, Any] = Field(examples=[{"shop": "42"}])
    version: int
    created_at: datetime
    updated_at: datetime


class ShownOneFence(ShownFence):
    """A geofence, and which others it overlaps: who stands in several is in each of them."""

    overlaps: list[str] = Field(
        description=f"Tag and external id, those of its tag first; at most {geofences.MOST_OVERLAPPING}.",
        examples=[["shops/denver-2"]],
    )


class Watched(Shown):
    """The circle that a phone watches for a fence."""

    lon: float
    lat: float
    radius_m: float = Field(examples=[150.0])


class NearFence(Shown):
    """A fence near a point."""

    id: str = Field(examples=["fen_4"])
    tag: str = Field(examples=["shops"])
    external_id: str = Field(examples=["denver-1"])
    name: str | None = Field(examples=["Denver Union Station"])
    metadata: dict[str, Any] = Field(examples=[{"shop": "42"}])
    distance_m: float = Field(description="To the fence; 0 inside.", examples=[812.4])
    border_m: float = Field(description="To its border, from inside or outside.", examples=[812.4])
    inside: bool
    dwell_s: float | None = Field(examples=[300.0])
    watch: Watched


class NearFences(Shown):
    """The fences that a phone watches, and when it asks again."""

    data: list[NearFence]
    ask_again_m: float = Field(
        description="Until the phone has moved so far from the point, it can cross no border unseen.",
        examples=[1240.0],
    )


@routes.put(
    "/geofences/{tag}/{external_id}",
    operation_id="put_geofence",
    response_model=ShownOneFence,
    responses={201: {"model": ShownOneFence, "description": "It is new"}},
    summary="Put a geofence",
)
def put_geofence(
    response: Response,
    session: Writing,
    actor: CanEditFences,
    tag: Tag,
    external_id: ExternalId,
    expected: IfMatchWhereSent,
    fence: PutFence,
) -> object:
    """The same call twice is one fence. It is watched from the next position on. With If-Match it is put only where it
    is the version that you read."""
    put = geofences.put(
        session, actor, tag, external_id, fence.model_dump(), check=None if expected is None else expected.check
    )
    found = _one(session, tag, external_id)
    response.status_code = 201 if put.created else 200
    if put.created:
        response.headers["Location"] = f"/v1/geofences/{tag}/{external_id}"
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.get(
    "/geofences",
    operation_id="list_geofences",
    response_model=Page[ShownFence],
    summary="List geofences",
    responses={200: {"content": {geojson.MEDIA_TYPE: {"schema": geojson.SCHEMA}}}},
)
def list_geofences(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadFences,
    tag: Annotated[str | None, Query(max_length=63, description="Only of this tag.", examples=["shops"])] = None,
    bbox: Box = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """By id. With `Accept: application/geo+json` a FeatureCollection."""
    rows = geofences.find(session, tag=tag, box=read_box(bbox), after=pages.read_id(cursor) or 0, limit=limit + 1)
    made = pages.page(request, response, rows, limit, pages.id_of)
    return geojson.answer(made, response) if geojson.wanted(request) else made


@routes.get(
    "/geofences/nearest",
    operation_id="find_nearest_geofences",
    response_model=NearFences,
    summary="The fences that a phone watches",
)
def find_nearest_geofences(
    request: Request,
    session: Reading,
    actor: CanReadFences,
    lon: Annotated[float, Query(ge=-180, le=180, allow_inf_nan=False, examples=[-104.9903])],
    lat: Annotated[float, Query(ge=-90, le=90, allow_inf_nan=False, examples=[39.7392])],
    limit: Annotated[int, Query(ge=1, le=100, description="iOS watches 20, Android 100.")] = 20,
) -> object:
    """Those whose borders are nearest, from inside or outside, and the distance after which to ask again."""
    return geofences.nearest(fences_of(request).current(session), lon, lat, limit)


@routes.get(
    "/geofences/{tag}/{external_id}",
    operation_id="get_geofence",
    response_model=ShownOneFence,
    summary="One geofence",
)
def get_geofence(
    response: Response, session: Reading, actor: CanReadFences, tag: Tag, external_id: ExternalId
) -> object:
    """By tag and external id."""
    found = _one(session, tag, external_id)
    response.headers["ETag"] = etag(found["version"])
    return found


def _one(session: Session, tag: str, external_id: str) -> dict[str, Any]:
    found = geofences.get(session, tag, external_id)
    return found | {"overlaps": geofences.find_overlapping(session, ids.read("fen", found["id"]))}


@routes.delete(
    "/geofences/{tag}/{external_id}",
    status_code=204,
    operation_id="delete_geofence",
    summary="Delete a geofence",
)
def delete_geofence(
    session: Writing, actor: CanEditFences, tag: Tag, external_id: ExternalId, expected: IfMatch
) -> None:
    """It is watched no longer; who is inside does not leave it by that. Put again, it is the same fence. 409 where a
    live offer names it."""
    geofences.delete(session, actor, tag, external_id, check=expected.check)
