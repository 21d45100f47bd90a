"""The description of the API (OpenAPI 3.1): what each operation may answer is derived from what it asks for.

`python -m geocrm.api.openapi` prints it.
"""

import json
import sys
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from geocrm.api import hot_openapi
from geocrm.api.dependencies import allowed_of
from geocrm.api.errors import PROBLEM
from geocrm.api.shapes import Problem, ProblemFault

DESCRIPTION = """\
Customers, sales and territories on PostGIS. Coordinates are `lon, lat` (WGS 84), distances metres, times RFC 3339 UTC,
money texts with four decimals beside an ISO currency. Sign in with `POST /v1/sessions` (cookie, and `X-CSRF-Token` on
writes) or send an API key as `Authorization: Bearer gk_…`. Errors are `application/problem+json` (RFC 9457).
"""
_TITLES = {
    400: "The request cannot be read",
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
        app.openapi_schema = document
    return app.openapi_schema


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
        statuses |= {400, 413, 422}
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


def main() -> None:
    """Print the description."""
    from geocrm.api.app import create_app

    json.dump(create_app().openapi(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
