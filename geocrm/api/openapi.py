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
from geocrm.api.errors import PROBLEM
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
    """An example on every request and answer, made from the examples of the fields."""
    schemas = document["components"]["schemas"]
    for item in document["paths"].values():
        for operation in item.values():
            contents = [operation.get("requestBody", {}).get("content", {})]
            contents += [answer.get("content", {}) for answer in operation["responses"].values()]
            for content in contents:
                for kind, body in content.items():
                    if kind.endswith("json") and "example" not in body and "examples" not in body:
                        body["example"] = example_of(body.get("schema", {}), schemas)


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """An example of a schema: its own, else its default, else one made from its parts."""
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, name, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        solid = [option for option in options if option.get("type") != "null"]
        if schema.get("default", 0) is None and name not in _TELLING:
            return None
        return example_of(solid[0], schemas, name, depth + 1)
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        needed = schema.get("properties", {})
        return {key: example_of(part, schemas, key, depth + 1) for key, part in needed.items()} if depth < 8 else {}
    if kind == "array":
        return [example_of(schema.get("items", {}), schemas, name, depth + 1)] if depth < 8 else []
    if name in _TELLING:
        return _TELLING[name]
    if name.endswith("_id") or name == "id":
        return "cus_1042"
    return _BY_TYPE.get((kind, schema.get("format")), _BY_TYPE.get((kind, None)))


_BY_TYPE: dict[tuple[Any, Any], Any] = {
    ("string", None): "text",
    ("string", "date-time"): "2026-01-31T09:00:00Z",
    ("string", "date"): "2026-01-31",
    ("integer", None): 1,
    ("number", None): 25.0,
    ("boolean", None): True,
}
_TELLING: dict[str, Any] = {
    "name": "Alpine Outfitters",
    "label": "Main shop",
    "line1": "1701 Wynkoop St",
    "city": "Denver",
    "region": "CO",
    "postal_code": "80202",
    "country": "US",
    "lon": -104.9903,
    "lat": 39.7392,
    "email": "ada@example.com",
    "phone": "+1 303 555 0100",
    "reason": "Boulder joins the north",
    "industry": "retail",
    "channel": "shop",
    "currency": "USD",
    "amount": "129.9000",
    "unit_price": "64.9500",
    "version": 3,
    "location_precision": "given",
    "precision_m": 25.0,
    "placement": "placed",
    "source": "shop",
    "external_id": "C-1001",
    "kind": "organisation",
    "status": "done",
    "next_cursor": "WzEwNDJd",
    "territory_basis": "polygon",
    "basis": "polygon",
}


def main() -> None:
    """Print the description."""
    from geocrm.api.app import create_app

    json.dump(create_app().openapi(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
