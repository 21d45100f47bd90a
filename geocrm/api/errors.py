"""What went wrong, as problem+json (RFC 9457): one table says which status each error has.

Nothing of the inside is told: no SQL, no trace, no path. An unexpected error is logged with its trace and answered
with the id of the request.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import sqlalchemy.exc
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from geocrm import errors, logs
from geocrm.api import faults as wording

log = structlog.get_logger("geocrm.api")

PROBLEM = "application/problem+json"
TYPES = "https://geocrm.example/problems/"  # an identifier, never fetched; each stands in the docs by its last part

STATUS: dict[type[errors.GeocrmError], int] = {
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.Invalid: 422,
    errors.PreconditionRequired: 428,
    errors.TooManyRequests: 429,
    errors.SetupError: 503,
    errors.Unavailable: 503,
    errors.GeocrmError: 500,
}
LOST = (
    "40001",
    "40P01",
    "55P03",
)  # serialization failure, deadlock, lock not to be had: the same may succeed next time
PLAIN = {
    400: ("bad-request", "The request cannot be read."),
    404: ("not-found", "There is nothing at this address."),
    405: ("method-not-allowed", "This address does not take that method."),
    413: ("too-large", "The input is larger than allowed."),
    415: ("unsupported-media-type", "This address does not take that content type."),
}


def status_of(error: errors.GeocrmError) -> int:
    """The HTTP status of an error, by its class or the nearest one above it."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    request: Request,
    status: int,
    slug: str,
    title: str,
    detail: str | None = None,
    *,
    faults: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem+json answer."""
    content: dict[str, Any] = {"type": TYPES + slug, "title": title, "status": status}
    if detail and detail != title:
        content["detail"] = detail
    if faults:
        content["errors"] = list(faults)
    content["instance"] = request.scope.get("geocrm.request_id", "")
    content |= {key: value for key, value in (extra or {}).items() if key not in content}
    body = json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "replace")
    return Response(body, status, headers=dict(headers or {}), media_type=PROBLEM)


def answer(request: Request, error: errors.GeocrmError) -> Response:
    """The answer to an error of geocrm's own."""
    headers: dict[str, str] = {}
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.TooManyRequests | errors.TryAgain):
        headers["Retry-After"] = str(max(1, error.retry_after_s))
    return problem(
        request,
        status_of(error),
        error.slug,
        error.title,
        error.detail,
        faults=error.errors,
        extra=error.extra,
        headers=headers,
    )


def pointer(place: Sequence[str | int]) -> str:
    """A JSON pointer for a place in the input; a parameter or header is `/name`."""
    parts = list(place)
    if parts and parts[0] in ("body", "query", "path", "header", "cookie"):
        parts = parts[1:]
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def sqlstate(error: BaseException) -> str:
    """The code of an error of the database; empty where it has none."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def translate(error: sqlalchemy.exc.SQLAlchemyError | psycopg.Error) -> errors.GeocrmError | None:
    """What an error of the database means for the one who asked; None where it is a fault of ours."""
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return errors.Unavailable("Too many requests at once; try again in a moment.")
    origin = getattr(error, "orig", error)
    state = sqlstate(error)
    if state == "GC422":  # a filter names a segmentation or score that there is not
        said = str(getattr(getattr(origin, "diag", None), "message_primary", None) or "the filter is not valid")
        return errors.InvalidFilter(f"Filter: {said}", errors=[{"pointer": "/filter", "detail": said}])
    if state == "57014":
        return errors.Unavailable("This took too long and was stopped: narrow the filter or the area.")
    if state in LOST:
        return errors.TryAgain()
    if state in ("53100", "53200", "53300"):
        return errors.Unavailable("The database is out of room; reading still works.")
    if state == "23505":
        return errors.Conflict("There is one already.")
    if state == "23503":
        return errors.Invalid("It names something that does not exist.")
    if state.startswith("22") or state == "23514":
        return errors.Invalid("A value is outside what can be stored.")
    if isinstance(origin, psycopg.DataError):
        return errors.Invalid("A value cannot be stored: it holds a character that no text may hold.")
    if state.startswith(("08", "57P")) or isinstance(origin, psycopg.OperationalError | psycopg.InterfaceError):
        return errors.Unavailable("The database does not answer; try again in a moment.")
    return None


def handle_own(request: Request, error: Exception) -> Response:
    """Errors of geocrm's own."""
    assert isinstance(error, errors.GeocrmError)
    status = status_of(error)
    if status >= 500:
        log.error("request_failed", request_id=request.scope.get("geocrm.request_id"), slug=error.slug)
    return answer(request, error)


def handle_validation(request: Request, error: Exception) -> Response:
    """Input that does not have the declared shape."""
    assert isinstance(error, RequestValidationError)
    faults = []
    for fault in error.errors()[:50]:
        whole = fault["type"] == "json_invalid"  # its place is a character, not a field
        faults.append({"pointer": "" if whole else pointer(fault["loc"]), "detail": wording.of(fault)})
    first = faults[0] if faults else {"pointer": "", "detail": "not valid"}
    detail = f"{first['pointer'].lstrip('/') or 'the body'}: {first['detail']}"
    return problem(request, 422, errors.Invalid.slug, errors.Invalid.__doc__ or "", detail, faults=faults)


def handle_plain(request: Request, error: Exception) -> Response:
    """No such route, wrong method, unreadable body."""
    assert isinstance(error, HTTPException)
    slug, title = PLAIN.get(error.status_code, ("error", "The request failed."))
    return problem(request, error.status_code, slug, title, headers=error.headers)


def handle_database(request: Request, error: Exception) -> Response:
    """Errors of the database."""
    assert isinstance(error, sqlalchemy.exc.SQLAlchemyError | psycopg.Error)
    known = translate(error)
    if known is None:
        return handle_unexpected(request, error)
    if isinstance(known, errors.Unavailable):
        log.warning("database", request_id=request.scope.get("geocrm.request_id"), sqlstate=sqlstate(error) or None)
    return answer(request, known)


def handle_unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours: logged with its trace, told without it."""
    # only where it happened, not what the values were: they may be personal data
    log.error(
        "unexpected",
        request_id=request.scope.get("geocrm.request_id"),
        error=type(error).__name__,
        trace=logs.where(error),
    )
    return problem(request, 500, "internal", "Something went wrong here; it has been logged.")


def install(app: FastAPI) -> None:
    """Answer every kind of error as a problem."""
    app.add_exception_handler(errors.GeocrmError, handle_own)
    app.add_exception_handler(RequestValidationError, handle_validation)
    app.add_exception_handler(HTTPException, handle_plain)
    app.add_exception_handler(sqlalchemy.exc.SQLAlchemyError, handle_database)
    app.add_exception_handler(psycopg.Error, handle_database)
