"""GeoJSON (RFC 7946) where the client asks for it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.encoders import jsonable_encoder

MEDIA_TYPE = "application/geo+json"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "geometry", "properties"],
                "properties": {
                    "type": {"const": "Feature"},
                    "id": {"type": "string", "examples": ["cus_1042"]},
                    "geometry": {
                        "type": ["object", "null"],
                        "examples": [{"type": "Point", "coordinates": [-104.9903, 39.7392]}],
                    },
                    "properties": {"type": "object"},
                },
            },
        },
        "has_more": {"type": "boolean"},
        "next_cursor": {"type": ["string", "null"]},
    },
}


def wanted(request: Request) -> bool:
    """Whether the client asks for GeoJSON rather than JSON."""
    return MEDIA_TYPE in request.headers.get("accept", "")


def point(place: Mapping[str, float] | None) -> dict[str, Any] | None:
    """A point geometry, lon before lat."""
    return None if place is None else {"type": "Point", "coordinates": [place["lon"], place["lat"]]}


def answer(
    page: Mapping[str, Any],
    response: Response,
    locate: Callable[[dict[str, Any]], Mapping[str, float] | None] | None = None,
) -> Response:
    """A page as FeatureCollection. Rows carry a `geometry`, or `locate` finds their point."""
    features = []
    for row in page["data"]:
        properties = {key: value for key, value in row.items() if key not in ("id", "geometry", "location")}
        geometry = point(locate(row)) if locate is not None else row.get("geometry")
        features.append({"type": "Feature", "id": row["id"], "geometry": geometry, "properties": properties})
    content = {
        "type": "FeatureCollection",
        "features": features,
        "has_more": page["has_more"],
        "next_cursor": page["next_cursor"],
    }
    body = json.dumps(jsonable_encoder(content), ensure_ascii=False, allow_nan=False).encode()
    headers = {name: value for name, value in response.headers.items() if name.lower() != "content-length"}
    return Response(body, headers=headers, media_type=MEDIA_TYPE)
