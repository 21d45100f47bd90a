"""The hot lookups: who is near, whose territory, which offers hold, tiles. Milliseconds matter here.

Each is one round trip: a SQL function receives the digest of the token, authenticates, sets the row-security context
and composes the answer, and what it returns is passed on as bytes. Permissions, validation and errors are those of
every other route. Only a filter on fields without an index asks first who is reading, because what it may name and
which points it sees depend on that.
"""

import asyncio
import datetime as dt
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import psycopg
from fastapi import FastAPI
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGconn
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from geocrm import access, errors, filters, ids
from geocrm.api import dependencies
from geocrm.api.edge import credential
from geocrm.campaigns import eligibility
from geocrm.spatial import nearby, tiles

_NUMBER: Final = re.compile(r"^[+-]?(\d{1,20}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?$", re.ASCII)
_WHOLE: Final = re.compile(r"^\d{1,9}$", re.ASCII)
PATIENCE_S: Final = 30.0
"""A request waits for a connection so long."""
_ELIGIBLE: Final = ("customer", "lon", "lat", "at", "limit", "explain", "explain_from", "explain_limit", "record")
_TILE: Final = "application/vnd.mapbox-vector-tile"
_JSON: Final = "application/json"


@dataclass(frozen=True)
class Question:
    """A prepared statement: its name, SQL and parameter types, and whether the answer comes in binary."""

    name: str
    sql: str
    types: str
    binary: bool = True


def _call(function: str, types: str, *, columns: str = "*", binary: bool = True) -> Question:
    places = ", ".join(f"${i + 1}" for i in range(types.count(",") + 1))
    return Question(function, f"SELECT {columns} FROM {function}({places})", types, binary)


_NEARBY: Final = _call(
    "geocrm_hot_nearby",
    "bytea, float8, float8, float8, int, float8, bigint, int,"
    " text[], text[], bigint[], bigint[], bigint[], text, text[], text",
)
_TERRITORIES: Final = _call(
    "geocrm_territories_at", "bytea, float8, float8, timestamptz", columns="geocrm_territories_at"
)
_CUSTOMER_TILE: Final = _call(
    "geocrm_hot_customer_tile",
    "bytea, text, int, int, int, text, text[], text[], bigint[], bigint[], bigint[], text, text[], text, real[]",
)
_AREA_TILE: Final = _call("geocrm_hot_area_tile", "bytea, text, text, int, int, int")
_CUSTOMER_TILEJSON: Final = _call("geocrm_hot_customer_tilejson", "bytea", binary=False)
_AREA_TILEJSON: Final = _call("geocrm_hot_area_tilejson", "bytea, text", binary=False)
_OFFERS: Final = _call(
    "geocrm_hot_offers",
    "bytea, bigint, float8, float8, timestamptz, int, bool, bool, int, int",
    columns="geocrm_hot_offers",
)
_QUESTIONS: Final = (_NEARBY, _TERRITORIES, _OFFERS, _CUSTOMER_TILE, _AREA_TILE, _CUSTOMER_TILEJSON, _AREA_TILEJSON)

Fields = list[bytes | None]


class Pool:
    """Connections of the login under row security, opened as needed and kept.

    It belongs to no event loop, and it does not check a connection before use: a question that meets a cut one is asked
    again on a new one, which is safe: exposures, all that is written here, are written once. Statements are prepared
    when a connection opens and asked through libpq itself: values go as text, what comes back is passed on, so a cursor
    has nothing to do."""

    def __init__(self, conninfo: str, size: int) -> None:
        self.conninfo = conninfo
        self.size = size
        self.opened = 0
        self.idle: list[psycopg.AsyncConnection[Any]] = []
        self.waiting: deque[asyncio.Future[psycopg.AsyncConnection[Any] | None]] = deque()

    async def ask(self, question: Question, values: tuple[Any, ...]) -> Fields:
        """The columns of the one row that answers."""
        packed = [_packed(value) for value in values]
        for attempt in (1, 2):
            connection = await self._take(fresh=attempt == 2)
            try:
                row = await _ask(connection.pgconn, question, packed)
            except psycopg.OperationalError:
                self._give(connection)
                if attempt == 2 or not connection.closed:
                    raise
            except BaseException as error:
                if not isinstance(error, psycopg.Error):  # cancelled in the middle: its answer would meet the next one
                    connection.pgconn.finish()
                self._give(connection)
                raise
            else:
                self._give(connection)
                return row
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close what is idle."""
        while self.idle:
            await self.idle.pop().close()
            self.opened -= 1

    async def _take(self, *, fresh: bool) -> psycopg.AsyncConnection[Any]:
        if fresh:
            await self.close()  # what lay beside a cut connection is cut too
        if self.idle:
            return self.idle.pop()
        if self.opened < self.size:
            self.opened += 1
        else:
            handed = await self._turn()
            if handed is not None:
                return handed  # else: a place to open one in
        connection: psycopg.AsyncConnection[Any] | None = None
        try:
            connection = await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True, connect_timeout=5)
            for question in _QUESTIONS:
                await connection.execute(f"PREPARE {question.name}({question.types}) AS {question.sql}", prepare=False)
        except BaseException:  # given up, too
            if connection is not None:
                connection.pgconn.finish()
            self._leave()
            raise
        connection.pgconn.nonblocking = 1
        return connection

    async def _turn(self) -> psycopg.AsyncConnection[Any] | None:
        turn: asyncio.Future[psycopg.AsyncConnection[Any] | None] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            return await asyncio.wait_for(turn, PATIENCE_S)
        except TimeoutError:
            if turn.done() and not turn.cancelled():  # given at the same moment after all
                return turn.result()
            raise errors.Unavailable("Too many requests at once; try again in a moment.") from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # given at the same moment: pass it on
                given = turn.result()
                if given is None:
                    self._leave()
                else:
                    self._give(given)
            raise

    def _give(self, connection: psycopg.AsyncConnection[Any]) -> None:
        if connection.closed or connection.pgconn.transaction_status != TransactionStatus.IDLE:
            connection.pgconn.finish()
            self._leave()
        elif not self._wake(connection):
            self.idle.append(connection)

    def _leave(self) -> None:
        """Give up a place: to who waits, else to who comes."""
        if not self._wake(None):
            self.opened -= 1

    def _wake(self, connection: psycopg.AsyncConnection[Any] | None) -> bool:
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False


async def _ask(pgconn: PGconn, question: Question, values: list[bytes | None]) -> Fields:
    pgconn.send_query_prepared(question.name.encode(), values, result_format=Format.BINARY if question.binary else 0)
    loop = asyncio.get_running_loop()
    while pgconn.flush():
        await _until(loop.add_writer, loop.remove_writer, pgconn.socket)
    row: Fields | None = None
    fault: psycopg.Error | None = None
    while True:
        while pgconn.is_busy():
            await _until(loop.add_reader, loop.remove_reader, pgconn.socket)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            break
        if result.status == ExecStatus.TUPLES_OK:
            row = [result.get_value(0, column) for column in range(result.nfields)]
        else:
            fault = psycopg.errors.error_from_result(result)
    if fault is not None:
        raise fault
    if row is None:
        raise psycopg.OperationalError("the connection is lost")
    return row


async def _until(add: Callable[..., Any], remove: Callable[[int], Any], socket: int) -> None:
    ready = asyncio.get_running_loop().create_future()
    add(socket, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove(socket)


def _packed(value: Any) -> bytes | None:
    """A value as PostgreSQL reads it from text; lists become array literals."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return b"\\x" + value.hex().encode()
    if isinstance(value, list):
        quoted = ('"' + str(v).replace("\\", "\\\\").replace('"', '\\"') + '"' for v in value)
        return ("{" + ",".join(quoted) + "}").encode()
    return str(value).encode()


def pool_of(app: FastAPI) -> Pool:
    """The pool of an application, made on first use."""
    if not hasattr(app.state, "hot_pool"):
        database = app.state.database
        app.state.hot_pool = Pool(database.conninfo("api"), database.settings.read_pool_size)
    pool: Pool = app.state.hot_pool
    return pool


async def close(app: FastAPI) -> None:
    """Close the application's connections."""
    if hasattr(app.state, "hot_pool"):
        await app.state.hot_pool.close()
        del app.state.hot_pool


class Asked:
    """One request: its parameters, who asks."""

    def __init__(self, scope: Scope, allowed: tuple[str, ...]) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        found = credential(self.headers)
        if found is None:
            raise errors.Unauthenticated()
        self.token, self.bearer = found
        try:
            self.digest = access.digest(self.token)
        except UnicodeEncodeError:
            raise errors.Unauthenticated() from None
        raw = scope.get("query_string", b"").decode("latin-1")
        try:
            self.items = parse_qsl(raw, keep_blank_values=True, max_num_fields=300)
        except ValueError:
            raise errors.Invalid("Too many query parameters.") from None
        narrowing = ("filter", *filters.SHORT_FORMS) if "filter" in allowed else ()
        dependencies.check_query(self.items, (*allowed, *narrowing))
        self.one = {name: value for name, value in self.items if name in allowed}

    @property
    def pool(self) -> Pool:
        """The application's connections."""
        return pool_of(self.scope["app"])

    def number(self, name: str, *, needed: bool = False) -> float | None:
        """A parameter as number."""
        value = self.one.get(name)
        if value is None:
            if needed:
                raise _invalid(name, "is missing")
            return None
        if not _NUMBER.match(value):
            raise _invalid(name, "expected a number")
        return float(value)

    def whole(self, name: str, unsaid: int, least: int, most: int) -> int:
        """A parameter as whole number."""
        value = self.one.get(name)
        if value is None:
            return unsaid
        if not _WHOLE.match(value) or not least <= int(value) <= most:
            raise _invalid(name, f"expected a whole number from {least} to {most}")
        return int(value)

    def flag(self, name: str, unsaid: bool) -> bool:
        """A parameter as true or false."""
        value = self.one.get(name)
        if value not in (None, "true", "false"):
            raise _invalid(name, "expected true or false")
        return unsaid if value is None else value == "true"

    def numbers(self, name: str) -> list[float] | None:
        """A parameter as numbers with commas; none in an empty one."""
        value = self.one.get(name)
        if not value:
            return None if value is None else []
        parts = value.split(",")
        if not all(_NUMBER.match(part) for part in parts):
            raise _invalid(name, "expected numbers with commas")
        return [float(part) for part in parts]

    async def filter(self) -> tuple[filters.Filter, bool]:
        """The filter and whether the reader sees exact places. Who reads is only looked up where it matters."""
        given = [(name, value) for name, value in self.items if name == "filter" or name in filters.SHORT_FORMS]
        if not given:
            return filters.Filter(), True
        plain = {"stage", "kind", "owner", "territory", "segment"}
        if all(name in plain for name, _ in given):
            return filters.from_query(given), True
        request = Request(self.scope)
        actor = await dependencies.authenticate(request)
        access.require(actor, "customers:read")
        request.state.actor = actor
        reader = filters.Reader(contacts=actor.contacts != "masked", exact=actor.exact)
        return filters.from_query(given, reader=reader), actor.exact

    async def ask(self, question: Question, values: tuple[Any, ...]) -> Fields:
        """Ask the database; errors of the function become ours."""
        try:
            row = await self.pool.ask(question, values)
        except psycopg.DatabaseError as error:
            if error.sqlstate == "GC401":
                raise errors.Unauthenticated() from None
            if error.sqlstate == "GC404":
                raise errors.NotFound() from None
            if error.sqlstate == "GC403":
                raise access.lacks("customers:read") from None
            raise
        self.scope.setdefault("state", {})["credential_is_known"] = True
        if not self.bearer:
            request = Request(self.scope)
            await dependencies.keep_alive(request, dependencies.gate_of(request), self.token)
        return row


Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
Handler = Callable[[Scope], Awaitable[Answer]]


class Hot:
    """A handler as ASGI application."""

    def __init__(self, path: str, handler: Handler) -> None:
        self.route = SimpleNamespace(path=path.replace(":int", ""))
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["route"] = self.route
        status, headers, body = await self.handler(scope)
        if status not in (204, 304):
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def find_customers_nearby(scope: Scope) -> Answer:
    """GET /v1/customers/nearby."""
    asked = Asked(scope, ("lon", "lat", "radius_m", "limit", "cursor", "filter"))
    lon, lat = asked.number("lon", needed=True), asked.number("lat", needed=True)
    limit = asked.one.get("limit", str(nearby.DEFAULT_LIMIT))
    if not _WHOLE.match(limit):
        raise _invalid("limit", f"expected a whole number from 1 to {nearby.MAX_LIMIT}")
    filter, exact = await asked.filter()
    assert lon is not None
    assert lat is not None
    arguments = nearby.arguments(
        lon, lat, radius_m=asked.number("radius_m"), limit=int(limit), filter=filter, cursor=asked.one.get("cursor"),
        exact=exact, max_radius_m=scope["app"].state.settings.max_radius_m,
    )  # fmt: skip
    body, cursor = await asked.ask(_NEARBY, (asked.digest, *arguments))
    headers = [(b"content-type", _JSON.encode())]
    if cursor is not None:
        query = [(name, value) for name, value in asked.items if name != "cursor"] + [("cursor", cursor.decode())]
        headers.append((b"link", f'<{scope["path"]}?{urlencode(query)}>; rel="next"'.encode()))
    return 200, headers, body or b""


async def find_territories_at(scope: Scope) -> Answer:
    """GET /v1/territories/at."""
    asked = Asked(scope, ("lon", "lat", "as_of"))
    lon, lat = asked.number("lon", needed=True), asked.number("lat", needed=True)
    assert lon is not None
    assert lat is not None
    nearby.check_point(lon, lat)
    (body,) = await asked.ask(_TERRITORIES, (asked.digest, lon, lat, _moment(asked.one.get("as_of"))))
    return 200, [(b"content-type", _JSON.encode())], body or b""


async def find_eligible_offers(scope: Scope) -> Answer:
    """GET /v1/offers/eligible."""
    asked = Asked(scope, _ELIGIBLE)
    lon, lat = asked.number("lon", needed=True), asked.number("lat", needed=True)
    assert lon is not None
    assert lat is not None
    nearby.check_point(lon, lat)
    limit = asked.whole("limit", 20, 1, eligibility.MOST_SHOWN)
    skipped = asked.whole("explain_from", 0, 0, 10**9 - 1)
    most = asked.whole("explain_limit", eligibility.OTHERS, 1, eligibility.MOST_OTHERS)
    if "customer" not in asked.one:
        raise _invalid("customer", "is missing")
    try:
        customer = ids.read("cus", asked.one["customer"])
    except errors.Invalid as error:
        raise _invalid("customer", error.detail) from None
    moment = _moment(asked.one.get("at"), "at")
    (body,) = await asked.ask(
        _OFFERS, (asked.digest, customer, lon, lat, moment, limit, asked.flag("explain", False),
                  asked.flag("record", True), skipped, most),
    )  # fmt: skip
    return 200, [(b"content-type", _JSON.encode())], body or b""


async def get_customer_tile(scope: Scope) -> Answer:
    """GET /tiles/customers/{z}/{x}/{y}.mvt."""
    asked = Asked(scope, ("colour", "cuts", "edition", "filter"))
    z, x, y = _tile(scope)
    colour, cuts = asked.one.get("colour", "stage"), asked.numbers("cuts")
    filter, exact = await asked.filter()
    arguments = tiles.arguments(z, x, y, colour=colour, cuts=cuts, filter=filter, exact=exact)
    try:
        etag, tile = await asked.ask(_CUSTOMER_TILE, (asked.digest, _known(asked), *arguments))
    except psycopg.DatabaseError as error:
        if error.sqlstate == "GC422" and "filter" not in asked.one:  # no filter names what there is not
            raise _invalid("colour", error.diag.message_primary or "there is no such score") from None
        raise
    return _tile_answer(etag, tile)


async def get_area_tile(scope: Scope) -> Answer:
    """GET /tiles/areas/{layer}/{z}/{x}/{y}.mvt."""
    asked = Asked(scope, ("edition",))
    z, x, y = _tile(scope)
    known, etag, tile = await asked.ask(
        _AREA_TILE, (asked.digest, _known(asked), _layer(scope), z, x, y)
    )  # fmt: skip
    if known != b"\x01":
        raise errors.NotFound()
    return _tile_answer(etag, tile)


async def get_customer_tilejson(scope: Scope) -> Answer:
    """GET /tiles/customers.json."""
    asked = Asked(scope, ())
    west, south, east, north, sites, outside, keys = await asked.ask(_CUSTOMER_TILEJSON, (asked.digest,))
    bounds = _bounds(west, south, east, north)
    body = tiles.customer_tilejson(
        _origin(scope),
        bounds=bounds,
        sites=int(sites or 0),
        outside=int(outside or 0),
        keys=json.loads(keys or b"null"),
    )
    return 200, [(b"content-type", _JSON.encode())], body


async def get_area_tilejson(scope: Scope) -> Answer:
    """GET /tiles/areas/{layer}.json."""
    asked = Asked(scope, ())
    layer = _layer(scope)
    name, west, south, east, north = await asked.ask(_AREA_TILEJSON, (asked.digest, layer))
    if name is None:
        raise errors.NotFound()
    bounds = _bounds(west, south, east, north)
    body = tiles.area_tilejson(_origin(scope), layer=f"lay_{layer}", name=name.decode(), bounds=bounds)
    return 200, [(b"content-type", _JSON.encode())], body


_PATHS: Final[dict[str, Handler]] = {
    "/v1/customers/nearby": find_customers_nearby,
    "/v1/territories/at": find_territories_at,
    "/v1/offers/eligible": find_eligible_offers,
    "/tiles/customers.json": get_customer_tilejson,
    "/tiles/customers/{z:int}/{x:int}/{y:int}.mvt": get_customer_tile,
    "/tiles/areas/{layer}.json": get_area_tilejson,
    "/tiles/areas/{layer}/{z:int}/{x:int}/{y:int}.mvt": get_area_tile,
}
routes: Final[list[Route]] = [
    Route(path, Hot(path, handler), methods=["GET"], name=handler.__name__) for path, handler in _PATHS.items()
]
"""Mounted before the other routes, so that `/v1/customers/nearby` is no customer's id."""


def _tile(scope: Scope) -> tuple[int, int, int]:
    place = scope["path_params"]
    return tiles.check_tile(place["z"], place["x"], place["y"])


def _layer(scope: Scope) -> str:
    shown: str = scope["path_params"]["layer"]
    if not shown.startswith("lay_") or "\x00" in shown or len(shown) > 200:
        raise errors.NotFound()
    return shown.removeprefix("lay_")


def _known(asked: Asked) -> str | None:
    match = re.search(r'"([0-9a-f]{32})"', asked.headers.get("if-none-match", ""))
    return match[1] if match else None


def _tile_answer(etag: bytes | None, tile: bytes | None) -> Answer:
    # private: what a tile shows depends on who asks; no-cache: kept, and asked about before it is shown again
    headers = [
        (b"etag", b'"' + (etag or b"") + b'"'),
        (b"cache-control", b"private, no-cache"),
        (b"vary", b"Cookie, Authorization"),
    ]
    if tile is None:
        return 304, headers, b""
    if not tile:
        return 204, headers, b""
    return 200, [*headers, (b"content-type", _TILE.encode())], tile


def _bounds(*edges: bytes | None) -> tuple[float, float, float, float] | None:
    west, south, east, north = (None if edge is None else float(edge) for edge in edges)
    return None if west is None or south is None or east is None or north is None else (west, south, east, north)


def _origin(scope: Scope) -> str:
    return str(Request(scope).base_url).rstrip("/")


def _moment(value: str | None, name: str = "as_of") -> str | None:
    if value is None:
        return None
    try:
        made = dt.datetime.fromisoformat(value.replace(" ", "+"))  # a plus in a query arrives as a space
    except ValueError:
        raise _invalid(name, "expected a date or time such as 2026-01-31 or 2026-01-31T09:00:00Z") from None
    if not 1 < made.year < 9998:
        raise _invalid(name, "expected a year from 2 to 9997")
    if made.tzinfo is None:
        if len(value) > len("2026-01-31"):
            raise _invalid(name, "expected a time with its offset, such as 2026-01-31T09:00:00Z, or a day alone")
        made = made.replace(tzinfo=dt.UTC)
    return made.isoformat()


def _invalid(name: str, detail: str) -> errors.Invalid:
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return errors.Invalid(f"{name}: {detail}", errors=[{"pointer": pointer, "detail": detail}])
