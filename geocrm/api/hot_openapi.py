"""What OpenAPI says of the hot lookups; the application merges it into its own."""

from typing import Any, Final

from geocrm import filters
from geocrm.campaigns.eligibility import MOST_OTHERS, MOST_SHOWN, OTHERS, REASONS
from geocrm.spatial import nearby, tiles

_TILE: Final = "application/vnd.mapbox-vector-tile"
_JSON: Final = "application/json"


def openapi_paths() -> dict[str, Any]:
    """The operations of this module for the paths of the OpenAPI document."""
    lon = _parameter(
        "lon", {"type": "number", "minimum": -180, "maximum": 180}, "Degrees east.", -104.9903, needed=True
    )
    lat = _parameter("lat", {"type": "number", "minimum": -90, "maximum": 90}, "Degrees north.", 39.7392, needed=True)
    narrowing = [
        _parameter(name, {"type": "string"}, f"{filters.FIELDS[name].help}; several with commas.", None)
        for name in filters.SHORT_FORMS
    ]
    narrowing.append(_parameter("filter", {"type": "string"}, "A filter as JSON; see the reference of filters.", None))
    tile = [
        _parameter(name, {"type": "integer", "minimum": 0}, text, example, place="path", needed=True)
        for name, text, example in (
            ("z", "Zoom, 0 to 22.", 9),
            ("x", "Column from the west.", 106),
            ("y", "Row from the north.", 194),
        )
    ]
    layer = _parameter("layer", {"type": "string"}, "A layer.", "lay_sales", place="path", needed=True)
    edition = _parameter("edition", {"type": "string"}, "Ignored; makes an address new.", None)
    known = {
        "name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"},
        "description": "The ETag of the tile you have.",
    }  # fmt: skip
    mvt = {
        "200": {
            "description": "A Mapbox vector tile.",
            "content": {_TILE: {"schema": {"type": "string", "format": "binary"}}},
        },
        "204": {"description": "Nothing there."},
        "304": {"description": "You have it already."},
    }
    return {
        "/v1/customers/nearby": {"get": _operation(
            "find_customers_nearby", "The nearest sites of customers, by geodesic distance", "lookups",
            [lon, lat,
             _parameter("radius_m", {"type": "number", "exclusiveMinimum": 0}, "Only within these metres.", 5000),
             _parameter("limit", {"type": "integer", "minimum": 1, "maximum": nearby.MAX_LIMIT}, "How many.", 20),
             _parameter("cursor", {"type": "string"}, "next_cursor of the page before.", None), *narrowing],
            {"200": _json("The nearest sites.", _NEAR_SCHEMA, _NEAR_EXAMPLE)}, {422},
        )},
        "/v1/territories/at": {"get": _operation(
            "get_territories_at", "Whose territory a point is in, now or on a past day", "lookups",
            [lon, lat, _parameter("as_of", {"type": "string"}, "Date or time; now if absent.", "2025-12-31")],
            {"200": _json("One entry a layer.", _TERRITORY_SCHEMA, _TERRITORY_EXAMPLE)}, {422},
        )},
        "/v1/offers/eligible": {"get": _operation(
            "find_eligible_offers", "Which offers hold for a customer here and now", "lookups",
            [_parameter("customer", {"type": "string", "pattern": "^cus_[1-9][0-9]{0,17}$"}, "Who.", "cus_1042",
                        needed=True),
             lon, lat,
             _parameter("at", {"type": "string"}, "Date or time; now if absent.", "2026-03-14T09:30:00Z"),
             _parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST_SHOWN}, "How many; 20 if absent.",
                        20),
             _parameter("explain", {"type": "boolean"}, "Say of every other live offer why not.", False),
             _parameter("explain_from", {"type": "integer", "minimum": 0}, "Leave out so many of the others.", None),
             _parameter("explain_limit", {"type": "integer", "minimum": 1, "maximum": MOST_OTHERS},
                        f"So many of the others; {OTHERS} if absent.", None),
             _parameter("record", {"type": "boolean"},
                        "Remember what a key shows, so that its effect can be measured; true if absent. What people "
                        "look at is never remembered, nor another moment.", True)],
            {"200": _json("What holds, and on request what does not.", _OFFERS_SCHEMA, _OFFERS_EXAMPLE)}, {404, 422},
        )},
        "/tiles/customers.json": {"get": _operation(
            "get_customer_tilejson", "TileJSON of the customers you see", "tiles", [],
            {"200": _json("TileJSON 3.0.0.", _CUSTOMER_TILEJSON_SCHEMA, _CUSTOMER_TILEJSON_EXAMPLE)}, set(),
        )},
        "/tiles/customers/{z}/{x}/{y}.mvt": {"get": _operation(
            "get_customer_tile", "Customers as cells (to zoom 11) or points", "tiles",
            [*tile,
             _parameter("colour", {"type": "string"}, f"What cells count: {', '.join(tiles.COLOURS)}; or"
                        " scores.KEY.NAME, a score of the published run of a segmentation.", "stage"),
             _parameter("cuts", {"type": "string"}, "Of a score: where its shades begin, ascending, with commas, at"
                        f" most {tiles.MAX_CUTS}; `shades` of the segmentation suggest some.", None),
             edition, known, *narrowing], mvt, {404, 422},
        )},
        "/tiles/areas/{layer}.json": {"get": _operation(
            "get_area_tilejson", "TileJSON of a layer's areas", "tiles", [layer],
            {"200": _json("TileJSON 3.0.0.", _TILEJSON_SCHEMA, _tilejson_example("Sales", "areas/lay_sales"))}, {404},
        )},
        "/tiles/areas/{layer}/{z}/{x}/{y}.mvt": {"get": _operation(
            "get_area_tile", "The areas of a layer, as published", "tiles", [layer, *tile, edition, known],
            mvt, {404, 422},
        )},
    }  # fmt: skip


def _parameter(
    name: str, schema: dict[str, Any], text: str, example: Any, *, place: str = "query", needed: bool = False
) -> dict[str, Any]:
    made = {"name": name, "in": place, "required": needed, "schema": schema, "description": text}
    return made if example is None else made | {"example": example}


def _json(text: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"description": text, "content": {_JSON: {"schema": schema, "example": example}}}


def _operation(
    name: str, summary: str, tag: str, parameters: list[dict[str, Any]], responses: dict[str, Any], more: set[int]
) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    faults = {
        str(status): {"description": _FAULTS[status], "content": dict(problem)}
        for status in sorted({401, 403, 429, 503} | more)
    }
    return {
        "operationId": name, "summary": summary, "tags": [tag], "parameters": parameters,
        "security": [{"session": []}, {"key": []}], "responses": responses | faults,
    }  # fmt: skip


_FAULTS: Final = {
    401: "Not signed in", 403: "Not allowed", 404: "No such object", 422: "Not valid, with the place of each fault",
    429: "Too many requests", 503: "Cannot be done right now",
}  # fmt: skip
_REFERENCE: Final = {"anyOf": [{"$ref": "#/components/schemas/Named"}, {"type": "null"}]}
_TILEJSON_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["tilejson", "tiles"],
    "properties": {
        "tilejson": {"type": "string"}, "name": {"type": "string"},
        "tiles": {"type": "array", "items": {"type": "string"}},
        "minzoom": {"type": "integer"}, "maxzoom": {"type": "integer"},
        "bounds": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4,
                   "description": "West, south, east, north; absent where nothing is visible."},
    },
}  # fmt: skip
_COUNTS: Final = {"type": "object", "additionalProperties": {"type": "integer"}}
_CUSTOMER_TILEJSON_SCHEMA: Final[dict[str, Any]] = {
    **_TILEJSON_SCHEMA,
    "required": ["tilejson", "tiles", "sites"],
    "properties": {
        **_TILEJSON_SCHEMA["properties"],
        "sites": {"type": "integer", "description": "Placed sites that you see."},
        "sites_beyond_85": {"type": "integer", "description": "Those beyond ±85.05°, which are in no tile."},
        "keys": {
            "type": "object", "required": ["stage", "owner", "territory", "segment"],
            "properties": {"stage": _COUNTS, "owner": _COUNTS, "territory": _COUNTS, "segment": _COUNTS},
            "description": "The sites in tiles by stage, owner, territory and segment of the active segmentation, an "
                           "empty key for none; absent where you see snapped places only.",
        },
    },
}  # fmt: skip


def _tilejson_example(name: str, path: str) -> dict[str, Any]:
    tiles_at = f"https://geocrm.example/tiles/{path}/{{z}}/{{x}}/{{y}}.mvt"
    return {"tilejson": "3.0.0", "name": name, "tiles": [tiles_at], "bounds": [-114.1, 31.3, -102.0, 45.0]}


_CUSTOMER_TILEJSON_EXAMPLE: Final = {
    **_tilejson_example("Customers", "customers"),
    "sites": 3, "sites_beyond_85": 0,
    "keys": {"stage": {"active": 2, "lead": 1}, "owner": {"": 1, "usr_7": 2}, "territory": {"ter_3": 3},
             "segment": {"": 1, "seg_4": 2}},
}  # fmt: skip
_NEAR_EXAMPLE: Final = {
    "data": [{
        "id": "cus_1042", "site_id": "sit_1042", "name": "Alpine Outfitters", "kind": "organisation", "stage": "active",
        "distance_m": 412.7, "bearing_deg": 312.4, "location": {"lon": -104.9939, "lat": 39.7417},
        "location_precision": "given", "precision_m": 25, "is_primary": True,
        "owner": {"id": "usr_7", "name": "Ada Young"}, "territory": {"id": "ter_3", "name": "Front Range"},
    }],
    "has_more": False, "next_cursor": None,
}  # fmt: skip
_NEAR_SCHEMA: Final = {
    "type": "object",
    "required": ["data", "has_more", "next_cursor"],
    "properties": {
        "data": {"type": "array", "items": {
            "type": "object",
            "required": list(_NEAR_EXAMPLE["data"][0]),  # type: ignore[index]
            "properties": {
                "id": {"type": "string"}, "site_id": {"type": "string"}, "name": {"type": "string"},
                "kind": {"type": "string", "enum": list(filters.FIELDS["kind"].choices)},
                "stage": {"type": "string", "enum": list(filters.FIELDS["stage"].choices)},
                "distance_m": {"type": "number"}, "bearing_deg": {"type": "number"},
                "location": {"type": "object", "required": ["lon", "lat"],
                             "properties": {"lon": {"type": "number"}, "lat": {"type": "number"}}},
                "location_precision": {"type": "string"}, "precision_m": {"type": "number"},
                "is_primary": {"type": "boolean"}, "owner": _REFERENCE, "territory": _REFERENCE,
            },
        }},
        "has_more": {"type": "boolean"},
        "next_cursor": {"type": ["string", "null"]},
    },
}  # fmt: skip
_TERRITORY_EXAMPLE: Final = {
    "data": [{
        "layer": {"id": "lay_1", "key": "sales", "name": "Sales territories", "is_primary": True},
        "area": {"id": "ter_3", "name": "Front Range"}, "owner": {"id": "usr_7", "name": "Ada Young"}, "team": None,
        "basis": "polygon", "reason": "initial import", "since": "2024-01-01T00:00:00Z", "until": None,
        "layer_version": 3,
    }],
}  # fmt: skip
_TERRITORY_SCHEMA: Final = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "array", "items": {"$ref": "#/components/schemas/TerritoryAt"}}},
}
_OFFERS_EXAMPLE: Final[dict[str, Any]] = {
    "data": [{
        "id": "off_3", "version": 1, "name": "Spring coffee", "title": "A coffee on us",
        "terms": "One a day, before eleven.", "products": [{"id": "prd_4", "name": "Coffee"}],
        "attributes": {"code": "COFFEE"}, "priority": 0,
        "where": {"kind": "places", "id": "pla_3", "name": "Denver Union Station", "place_kind": "own",
                 "geofence": None, "radius_m": 300.0},
        "open_until": "2026-03-14T17:00:00Z", "ends_at": "2026-03-31T22:00:00Z",
        "left": {"in_all": 387, "for_customer": 1},
    }],
    "others": [{
        "id": "off_4", "version": 2, "name": "Lunch", "title": "Two lunches for one",
        "reasons": [{"reason": "closed", "opens_at": "2026-03-14T18:00:00Z"},
                    {"reason": "outside", "distance_m": 340.2}],
    }],
    "others_in_all": 1,
    "at": "2026-03-14T09:30:00Z",
}  # fmt: skip
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_OFFERS_SCHEMA: Final = {
    "type": "object",
    "required": ["data", "others", "others_in_all", "at"],
    "properties": {
        "data": {"type": "array", "items": {
            "type": "object",
            "required": list(_OFFERS_EXAMPLE["data"][0]),
            "properties": {
                "id": {"type": "string"}, "version": {"type": "integer"}, "name": {"type": "string"},
                "title": _MAYBE_TEXT, "terms": _MAYBE_TEXT,
                "products": {"type": "array", "items": {"$ref": "#/components/schemas/Named"}},
                "attributes": {"type": "object"}, "priority": {"type": "integer"},
                "where": {"type": ["object", "null"], "description": "What holds the point; null: everywhere.",
                         "properties": {
                    "kind": {"type": "string", "enum": ["area", "place", "places", "geofence", "geofences"]},
                    "id": {"type": "string"}, "name": {"type": "string"}, "place_kind": _MAYBE_TEXT,
                    "geofence": {"type": ["string", "null"], "description": "Its tag and external id."},
                    "radius_m": {"type": ["number", "null"]}}},
                "open_until": {"type": "string"}, "ends_at": {"type": "string"},
                "left": {"type": "object", "required": ["in_all", "for_customer"], "description": "Null: no cap.",
                         "properties": {"in_all": {"type": ["integer", "null"]},
                                        "for_customer": {"type": ["integer", "null"]}}},
            },
        }},
        "others": {"type": ["array", "null"], "description": "With explain=true: why not.", "items": {
            "type": "object",
            "required": ["id", "version", "name", "title", "reasons"],
            "properties": {
                "id": {"type": "string"}, "version": {"type": "integer"}, "name": {"type": "string"},
                "title": _MAYBE_TEXT,
                "reasons": {"type": "array", "items": {
                    "type": "object", "required": ["reason"],
                    "properties": {"reason": {"type": "string", "enum": list(REASONS)},
                                   "distance_m": {"type": "number"}, "purpose": {"type": "string"},
                                   "opens_at": {"type": "string"}}}},
            },
        }},
        "others_in_all": {"type": ["integer", "null"], "description": "With explain=true: how many others there are."},
        "at": {"type": "string"},
    },
}  # fmt: skip
