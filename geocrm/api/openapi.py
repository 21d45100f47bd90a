"""The description of the API (OpenAPI 3.1): what each operation may answer is derived from what it asks for.

`python -m geocrm.api.openapi` prints it.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.concurrency import run_in_threadpool

from geocrm.api import hot_openapi
from geocrm.api.dependencies import allowed_of
from geocrm.api.errors import PLAIN, PROBLEM, STATUS, TYPES
from geocrm.api.shapes import Problem, ProblemFault

DESCRIPTION = """\
Customers, sales and territories on PostGIS. Coordinates are `lon, lat` (WGS 84), distances metres, times RFC 3339 UTC,
money texts with four decimals beside an ISO currency. Sign in with `POST /v1/sessions` (cookie, and `X-CSRF-Token` on
writes) or send an API key as `Authorization: Bearer gk_…`. Errors are `application/problem+json` (RFC 9457).
"""
_UNREADABLE: dict[str, Any] = {
    "description": "The request cannot be read. What is no HTTP, or has an address over 65,535 bytes, is refused as "
    "plain text by the server in front of the application.",
    "content": {
        PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}},
        "text/plain": {"schema": {"type": "string"}, "example": "Invalid HTTP request received."},
    },
}
_REFUSED = {"$ref": "#/components/responses/Unreadable"}
_TITLES = {
    401: "Not signed in",
    403: "Not allowed",
    404: "No such object, or not yours to see",
    409: "Conflicts with the present state",
    412: "Changed since you read it",
    413: "Too large",
    422: "Not valid, with the place of each fault",
    428: "If-Match is missing",
    429: "Too many requests",
    503: "Cannot be done right now",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of an application, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=app.openapi_tags
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (ProblemFault, Problem):
            schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas[model.__name__].pop("$defs", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        document["components"]["responses"] = {"Unreadable": _UNREADABLE}
        document["components"]["securitySchemes"] = {
            "session": {"type": "apiKey", "in": "cookie", "name": "geocrm_session"},
            "key": {"type": "http", "scheme": "bearer", "bearerFormat": "gk_…"},
        }
        for route in iter_route_contexts(app.routes):
            if isinstance(route.original_route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    _complete(document, route, document["paths"][route.path_format][method.lower()])
        for path, operations in hot_openapi.openapi_paths().items():
            document["paths"].setdefault(path, {}).update(operations)
        for item in document["paths"].values():
            for operation in item.values():
                operation["responses"] = dict(sorted({**operation["responses"], "400": _REFUSED}.items()))
        _illustrate(document)
        app.openapi_schema = document
    return app.openapi_schema


async def serve(request: Request) -> Response:
    """GET /openapi.json."""
    document = await run_in_threadpool(request.app.openapi)
    return Response(json.dumps(document, ensure_ascii=False), media_type="application/json")


def _complete(document: dict[str, Any], route: RouteContext, operation: dict[str, Any]) -> None:
    open_to_all = allowed_of(route.dependant) is None
    parameters = operation.get("parameters", [])
    places = {parameter["in"] for parameter in parameters}
    headers = {parameter["name"].lower() for parameter in parameters if parameter["in"] == "header"}
    statuses = set()
    if (route.path or "").startswith("/v1/"):
        statuses |= {429, 503}
    if not open_to_all:
        operation["security"] = [{"session": []}, {"key": []}]
        statuses |= {401, 403}
    if places - {"header"}:
        statuses.add(422)
    if "path" in places:
        statuses.add(404)
    if "requestBody" in operation:
        statuses |= {413, 422}
        if not open_to_all:  # a body may name what is not there
            statuses.add(404)
    if set(route.methods or ()) & {"POST", "PUT", "PATCH", "DELETE"} and not open_to_all:
        statuses.add(409)
    if "if-match" in headers:
        statuses |= {412, 428}
    if "idempotency-key" in headers:
        statuses |= {422}
    if operation["operationId"] == "sign_in":
        statuses.add(401)
    if operation["operationId"] == "get_ready":
        statuses.add(503)
    responses = operation["responses"]
    responses.pop("422", None)
    for status in sorted(statuses):
        responses[str(status)] = {
            "description": _TITLES[status],
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }


def _illustrate(document: dict[str, Any]) -> None:
    """An example on every request and answer, made from the examples of the fields; a problem's is that of its
    status."""
    schemas = document["components"]["schemas"]
    for item in document["paths"].values():
        for operation in item.values():
            answers = [(status, answer.get("content", {})) for status, answer in operation["responses"].items()]
            for status, content in [("", operation.get("requestBody", {}).get("content", {})), *answers]:
                for kind, body in content.items():
                    if kind == PROBLEM:
                        content[kind] = body | {"example": problem_of(int(status))}
                    elif kind.endswith("json") and "examples" not in body:
                        shape = body.get("schema", {})
                        stated = body["example"] if "example" in body else example_of(shape, schemas)
                        body["example"] = _whole(stated, shape, schemas)
    for answer in document["components"]["responses"].values():
        answer["content"][PROBLEM]["example"] = problem_of(400)


def _whole(example: Any, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """An example with the nulls that making a description takes away from the examples of a model."""
    if "$ref" in schema:
        return _whole(example, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if isinstance(example, list):
        return [_whole(part, schema.get("items", {}), schemas) for part in example]
    if not isinstance(example, dict):
        return example
    parts = schema.get("properties", {})
    empty = {key: None for key in schema.get("required", ()) if key in parts and key not in example}
    return {key: _whole(part, parts.get(key, {}), schemas) for key, part in (example | empty).items()}


def problem_of(status: int) -> dict[str, Any]:
    """The problem that an answer of this status holds."""
    if status in _PLAIN_ONLY:
        slug, title = PLAIN[status]
    else:
        kind = {known: kind for kind, known in STATUS.items()}[status]
        slug, title = kind.slug, kind().title
    made: dict[str, Any] = {"type": TYPES + slug, "title": title, "status": status}
    if status == 422:
        fault = {"pointer": "/limit", "detail": "expected at least 1"}
        made |= {"detail": f"limit: {fault['detail']}", "errors": [fault]}
    return made | {"instance": "req_0f3c9a7be8d14c55"}


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """An example of a schema: its own, else its default, else one made from its parts. `name` is the field's; an object
    by id and name is the one that the field speaks of."""
    told = _TELLING.get(name)
    if schema.get("$ref") == _NAMED and name in _REFERENCES:
        number, said = _REFERENCES[name]
        return {"id": number, "name": said}
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, name, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return told if told in schema["enum"] else schema["enum"][0]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        solid = [option for option in options if option.get("type") != "null"]
        if len(solid) < len(options) and (name in _NOT_YET or (schema.get("default", 0) is None and told is None)):
            return None
        return example_of(solid[0], schemas, name, depth + 1)
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        needed = schema.get("properties", {})
        return {key: example_of(part, schemas, key, depth + 1) for key, part in needed.items()} if depth < 12 else {}
    if kind == "array":
        return [example_of(schema.get("items", {}), schemas, name, depth + 1)] if depth < 12 else []
    if told is not None and isinstance(told, _TYPES.get(kind, object)):
        return told
    if name.removesuffix("_id") in _PREFIX:
        return f"{_PREFIX[name.removesuffix('_id')]}_7"
    return _BY_TYPE.get((kind, schema.get("format")), _BY_TYPE.get((kind, None)))


_NAMED = "#/components/schemas/Named"
_PLAIN_ONLY = set(PLAIN) - set(STATUS.values())
_TYPES: dict[Any, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_BY_TYPE: dict[tuple[Any, Any], Any] = {
    ("string", None): "text",
    ("string", "date-time"): "2026-01-31T09:00:00Z",
    ("string", "date"): "2026-01-31",
    ("integer", None): 1,
    ("number", None): 25.0,
    ("boolean", None): True,
}
# What a field named …_id holds, by what stands before; a field that speaks of something else has an example of its own.
_PREFIX = {
    "customer": "cus", "parent": "cus", "site": "sit", "contact": "con", "sale": "sal", "product": "prd",
    "place": "pla", "layer": "lay", "area": "ter", "other_area": "ter", "wins_area": "ter", "from_area": "ter",
    "to_area": "ter", "territory": "ter", "import": "imp", "interaction": "int", "user": "usr", "owner": "usr",
    "actor": "usr", "from_user": "usr", "to_user": "usr", "team": "tea", "key": "key", "job": "job", "segment": "seg",
    "segmentation": "sgm", "offer": "off", "campaign": "cam",
}  # fmt: skip
_REFERENCES = {
    "area": ("ter_3", "Front Range"),
    "territory": ("ter_3", "Front Range"),
    "territories": ("ter_3", "Front Range"),
    "polygon_area": ("ter_4", "Western Slope"),
    "other": ("ter_4", "Western Slope"),
    "customer": ("cus_1042", "Alpine Outfitters"),
    "parent": ("cus_7", "Alpine Group"),
    "place": ("pla_3", "Denver Union Station"),
    "product": ("prd_4", "Trail shoe"),
    "team": ("tea_2", "Mountain"),
    "teams": ("tea_2", "Mountain"),
    "segmentation": ("sgm_2", "Recency, frequency, money"),
    "segment": ("seg_4", "Champions"),
    "from_segment": ("seg_4", "Champions"),
    "to_segment": ("seg_5", "Loyal"),
}
# Empty in an example whatever their type: there was no error, nothing is over that goes on.
_NOT_YET = {"error", "archived_at", "revoked_at", "withdrawn_at", "superseded_at", "valid_to"}
_TELLING: dict[str, Any] = {
    "name": "Alpine Outfitters",
    "customer_name": "Alpine Outfitters",
    "label": "Main shop",
    "line1": "1701 Wynkoop St",
    "line2": "Suite 200",
    "city": "Denver",
    "region": "CO",
    "postal_code": "80202",
    "country": "US",
    "lon": -104.9903,
    "lat": 39.7392,
    "email": "ada@example.com",
    "phone": "+1 303 555 0100",
    "reason": "Boulder joins the north",
    "territory_reason": "Boulder joins the north",
    "industry": "retail",
    "size_class": "10-49",
    "preferred_channel": "email",
    "channel": "shop",
    "purpose": "marketing",
    "currency": "USD",
    "department": "sales",
    "body": "Wants the new catalogue in May.",
    "brand": "Alpine",
    "why": "the postal code is not known",
    "location_source": "import",
    "amount": "129.9000",
    "unit_price": "64.9500",
    "version": 3,
    "location_precision": "given",
    "precision_m": 25.0,
    "placement": "placed",
    "source": "shop",
    "external_id": "C-1001",
    "kind": "organisation",
    "stage": "active",
    "status": "done",
    "next_cursor": "WzEwNDJd",
    "territory_basis": "polygon",
    "basis": "polygon",
    "started_at": "2026-01-31T09:00:02Z",
    "finished_at": "2026-01-31T09:00:14Z",
    "updated_at": "2026-01-31T09:00:00Z",
}


def main() -> None:
    """Print the description."""
    from geocrm.api.app import create_app

    json.dump(create_app().openapi(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
