"""Requests and answers: keys and sessions, problems as exceptions, waiting where the server asks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypedDict, TypeVar
from urllib.parse import quote

import httpx2

MOST_WAIT_S = 60
P = ParamSpec("P")
T = TypeVar("T")
Values = Mapping[str, Any]


class Problem(Exception):
    """What geocrm refuses, in its own words (RFC 9457)."""

    def __init__(self, status: int, told: Mapping[str, Any], request_id: str | None) -> None:
        self.status = status
        self.kind = str(told.get("type", "")).rpartition("/")[2]
        """The last part of `type`, such as `conflict`."""
        self.title = str(told.get("title", "geocrm answered with an error"))
        self.errors: list[dict[str, Any]] = list(told.get("errors") or [])
        """Each fault with the pointer to its place."""
        self.told = told
        self.request_id = request_id
        super().__init__(f"{status} {told.get('detail') or self.title}")


class Page(TypedDict, Generic[T]):
    """A page of a list."""

    data: list[T]
    has_more: bool
    next_cursor: str | None


class _Requests:
    """What both connections know: where, as whom, how often."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 30.0, retries: int = 2) -> None:
        """`url` is the address of geocrm without `/v1`; `key` an API key (`gk_…`), left out by who signs in. `retries`
        is how often to ask again where the server says that it is too busy."""
        self.retries = retries
        self.options: dict[str, Any] = {
            "base_url": url.rstrip("/"),
            "timeout": timeout_s,
            "headers": {"Accept": "application/json, */*;q=0.5"} | ({"Authorization": f"Bearer {key}"} if key else {}),
        }


class Connection(_Requests):
    """Requests that wait for the answer. One for a program; `with` closes it."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 30.0, retries: int = 2) -> None:
        super().__init__(url, key=key, timeout_s=timeout_s, retries=retries)
        self.http = httpx2.Client(**self.options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self.http.close()

    def every(self, ask: Callable[P, Page[T]], *given: P.args, **named: P.kwargs) -> Iterator[T]:
        """Every row of a list, page by page: `every(geocrm.list_customers, stage="active")`."""
        asking: Callable[..., Page[T]] = ask
        page = ask(*given, **named)
        yield from page["data"]
        while page["next_cursor"]:
            page = asking(*given, **{**named, "cursor": page["next_cursor"]})
            yield from page["data"]

    def _ask(self, method: str, path: str, *, reads: str, **parts: Any) -> Any:
        request = self.http.build_request(method, path, **request_of(**parts))
        for left in range(self.retries, -1, -1):
            answer = self.http.send(request)
            wait_s = pause(answer, left)
            if wait_s is None:
                break
            time.sleep(wait_s)
        found = read_answer(answer, reads)
        remember(self.http.headers, found)
        return found

    def _lines(self, method: str, path: str, **parts: Any) -> Iterator[str]:
        with self.http.stream(method, path, **request_of(**parts)) as answer:
            if answer.status_code >= 400:
                answer.read()
                read_answer(answer, "nothing")
            yield from answer.iter_lines()


class AsyncConnection(_Requests):
    """Requests for asyncio. One for a program; `async with` closes it."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 30.0, retries: int = 2) -> None:
        super().__init__(url, key=key, timeout_s=timeout_s, retries=retries)
        self.http = httpx2.AsyncClient(**self.options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self.http.aclose()

    async def every(self, ask: Callable[P, Awaitable[Page[T]]], *given: P.args, **named: P.kwargs) -> AsyncIterator[T]:
        """Every row of a list, page by page: `async for row in every(geocrm.list_customers, stage="active")`."""
        asking: Callable[..., Awaitable[Page[T]]] = ask
        page = await ask(*given, **named)
        for row in page["data"]:
            yield row
        while page["next_cursor"]:
            page = await asking(*given, **{**named, "cursor": page["next_cursor"]})
            for row in page["data"]:
                yield row

    async def _ask(self, method: str, path: str, *, reads: str, **parts: Any) -> Any:
        request = self.http.build_request(method, path, **request_of(**parts))
        for left in range(self.retries, -1, -1):
            answer = await self.http.send(request)
            wait_s = pause(answer, left)
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
        found = read_answer(answer, reads)
        remember(self.http.headers, found)
        return found

    async def _lines(self, method: str, path: str, **parts: Any) -> AsyncIterator[str]:
        async with self.http.stream(method, path, **request_of(**parts)) as answer:
            if answer.status_code >= 400:
                await answer.aread()
                read_answer(answer, "nothing")
            async for line in answer.aiter_lines():
                yield line


def quoted(part: str | int) -> str:
    """A part of a path."""
    return quote(str(part), safe="")


def request_of(
    *,
    query: Values | None = None,
    headers: Values | None = None,
    json: Any = None,
    form: Any = None,
) -> dict[str, Any]:
    """The parts of a request as the HTTP client takes them; what is None is left out."""
    made: dict[str, Any] = {
        "params": {name: value for name, value in (query or {}).items() if value is not None},
        # the version of an edit is the number in an ETag
        "headers": {
            name: f'"{value}"' if isinstance(value, int) else value
            for name, value in (headers or {}).items()
            if value is not None
        },
    }
    if json is not None:
        made["json"] = json
    if form is not None:
        made["files"] = {name: value for name, value in form.items() if isinstance(value, tuple)}
        made["data"] = {name: value for name, value in form.items() if not isinstance(value, tuple | None)}
    return made


def pause(answer: httpx2.Response, left: int) -> float | None:
    """How long to wait before asking again; None where that would not help or might do something twice."""
    asked = answer.request
    harmless = asked.method in ("GET", "PUT") or "idempotency-key" in asked.headers
    if not left or not (answer.status_code == 429 or (answer.status_code == 503 and harmless)):
        return None
    try:
        return min(MOST_WAIT_S, max(0.0, float(answer.headers.get("retry-after", "1"))))
    except ValueError:
        return 1.0


def read_answer(answer: httpx2.Response, reads: str) -> Any:
    """What an answer says; raises Problem for errors."""
    if answer.status_code >= 400:
        try:
            told = answer.json()
        except ValueError:  # from a server in front of geocrm
            told = {"title": answer.text[:200]}
        raise Problem(answer.status_code, told if isinstance(told, dict) else {}, answer.headers.get("x-request-id"))
    if answer.status_code == 204 or reads == "nothing":
        return None
    return answer.json() if reads == "json" else answer.content


def remember(headers: httpx2.Headers, found: Any) -> None:
    """The token that a signed-in session's writes carry, from the answer of `sign_in`."""
    if isinstance(found, dict) and isinstance(found.get("csrf_token"), str):
        headers["X-CSRF-Token"] = found["csrf_token"]
