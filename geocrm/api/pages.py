"""Lists in pages: `limit`, an opaque cursor, `Link: rel="next"`.

A cursor holds the key of the last row, so that a row which exists throughout is seen exactly once, whatever is
written meanwhile.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request, Response

from geocrm.api.shapes import Page
from geocrm.errors import Invalid

Row = TypeVar("Row")
Limit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Cursor = Annotated[
    str | None,
    Query(max_length=500, description="Where to go on: `next_cursor` of the page before.", examples=[None]),
]


def write(*key: str | int | float | None) -> str:
    """A cursor for the key of the last row."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def read(cursor: str | None, *types: type) -> tuple[Any, ...] | None:
    """The key in a cursor; None for the first page; raises Invalid for what is no cursor of this list."""
    if cursor is None:
        return None
    try:
        key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(key, list) or len(key) != len(types):
            raise ValueError
        for part, kind in zip(key, types, strict=True):
            if not isinstance(part, kind) or isinstance(part, bool):
                raise ValueError
            if isinstance(part, int) and not -(2**63) <= part < 2**63:
                raise ValueError
            if isinstance(part, float) and not -1e300 < part < 1e300:
                raise ValueError
            if isinstance(part, str) and "\x00" in part:
                raise ValueError
            if isinstance(part, str):
                part.encode()
    except (ValueError, TypeError, binascii.Error, RecursionError):
        fault = "not a cursor of this list; use next_cursor of the page before"
        raise Invalid(f"cursor: {fault}", errors=[{"pointer": "/cursor", "detail": fault}]) from None
    return tuple(key)


def read_id(cursor: str | None) -> int | None:
    """The id in a cursor; None for the first page; raises Invalid as `read`."""
    key = read(cursor, int)
    return None if key is None else int(key[0])


def id_of(row: Mapping[str, Any]) -> list[int]:
    """The key of a row in a list by id, which it shows as `usr_7`."""
    return [int(row["id"].partition("_")[2])]


def read_moment(cursor: str | None) -> tuple[datetime, int] | None:
    """The time and id in a cursor; None for the first page; raises Invalid as `read`."""
    key = read(cursor, str, int)
    if key is None:
        return None
    try:
        moment = datetime.fromisoformat(key[0])
        if moment.tzinfo is None:
            raise ValueError
    except ValueError:
        fault = "not a cursor of this list; use next_cursor of the page before"
        raise Invalid(f"cursor: {fault}", errors=[{"pointer": "/cursor", "detail": fault}]) from None
    return moment, key[1]


def page(
    request: Request, response: Response, rows: Sequence[Row], limit: int, key: Callable[[Row], Sequence[Any]]
) -> dict[str, Any]:
    """A page of at most `limit` of `rows`, of which one more was asked for than is shown; sets Link."""
    shown = list(rows[:limit])
    more = len(rows) > limit
    cursor = write(*key(shown[-1])) if more else None
    if cursor is not None:
        link(request, response, cursor)
    return {"data": shown, "has_more": more, "next_cursor": cursor}


def link(request: Request, response: Response, cursor: str) -> None:
    """The header that leads to the next page."""
    url = request.url.include_query_params(cursor=cursor)
    target = url.path + (f"?{url.query}" if url.query else "")
    response.headers["Link"] = f'<{target}>; rel="next"'


__all__ = ["Cursor", "Limit", "Page", "link", "page", "read", "write"]
