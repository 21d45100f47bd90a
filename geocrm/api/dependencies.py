"""What routes ask for: who acts and may they, a session in one transaction, If-Match.

Apart from `geocrm.db` this is the only place that commits. A session is committed when the route has returned and
before the answer is sent, so that a failing commit is never answered with success. Whoever loses a deadlock is rolled
back and done again from the beginning.
"""

import hashlib
import hmac
import itertools
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, Final, TypeVar

import anyio
import anyio.to_thread
import psycopg
import structlog
from fastapi import Depends, Header, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIRouter
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from geocrm import access
from geocrm.access import Actor
from geocrm.api.edge import credential
from geocrm.api.errors import LOST, sqlstate
from geocrm.campaigns.geofences import Holder
from geocrm.crm import people
from geocrm.db.engine import Database
from geocrm.errors import Forbidden, Invalid, PreconditionFailed, PreconditionRequired, Unauthenticated
from geocrm.settings import Settings

log = structlog.get_logger("geocrm.api")

CSRF_HEADER = "X-CSRF-Token"
_TOUCH_S = 300
_TRIES = 4
_PATIENCE_S = 12.0  # a little more than the lock timeout
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
T = TypeVar("T")


class Gate:
    """As many requests at a time as there are connections: the others wait here, and hold no thread meanwhile.

    (Threads that wait for a connection, which those hold who wait for a thread, would all wait for ever.)
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.reading = anyio.CapacityLimiter(database.settings.read_pool_size)
        self.writing = anyio.CapacityLimiter(database.settings.write_pool_size)
        self.hashing = anyio.CapacityLimiter(2)  # argon2 takes 64 MB each
        self.files = anyio.CapacityLimiter(2)  # so is the memory that parsing takes bounded
        self.touched: dict[bytes, float] = {}


def gate_of(request: Request) -> Gate:
    """The gate of the application."""
    gate: Gate = request.app.state.gate
    return gate


def fences_of(request: Request) -> Holder:
    """All geofences, held in the memory of the application."""
    held: Holder = request.app.state.fences
    return held


def settings_of(request: Request) -> Settings:
    """The settings of the application."""
    settings: Settings = request.app.state.settings
    return settings


# ---------------------------------------------------------------- who acts, and may they


class Allowed:
    """A dependency: somebody who is signed in and has one of these permissions (none: signed in is enough)."""

    def __init__(self, *permissions: str) -> None:
        self.permissions = permissions

    def __call__(self, request: Request) -> Actor:
        """The actor, whom `Route` has authenticated before the body was read."""
        actor: Actor = request.state.actor
        return actor

    def check(self, actor: Actor) -> None:
        """Raise Forbidden unless the actor has one of the permissions."""
        if self.permissions:
            access.require_any(actor, self.permissions)


SignedIn = Annotated[Actor, Depends(Allowed())]
CanReadCustomers = Annotated[Actor, Depends(Allowed("customers:read"))]
CanEditCustomers = Annotated[Actor, Depends(Allowed("customers:write"))]
CanReadLayers = Annotated[Actor, Depends(Allowed("layers:read"))]
CanDraftAreas = Annotated[Actor, Depends(Allowed("territories:draft", "trading_areas:write"))]
CanPublishAreas = Annotated[Actor, Depends(Allowed("territories:publish", "trading_areas:write"))]
CanReassign = Annotated[Actor, Depends(Allowed("customers:reassign"))]
CanEditPlaces = Annotated[Actor, Depends(Allowed("places:write"))]
CanImport = Annotated[Actor, Depends(Allowed("imports:customers", "imports:reference"))]
CanReadSegments = Annotated[Actor, Depends(Allowed("segmentations:read"))]
CanEditSegments = Annotated[Actor, Depends(Allowed("segmentations:write"))]
CanPublishSegments = Annotated[Actor, Depends(Allowed("segmentations:publish"))]
CanReadAnalyses = Annotated[Actor, Depends(Allowed("analyses:read"))]
CanAnalyse = Annotated[Actor, Depends(Allowed("analyses:write"))]
CanReadOffers = Annotated[Actor, Depends(Allowed("offers:read"))]
CanEditOffers = Annotated[Actor, Depends(Allowed("offers:write"))]
CanPublishOffers = Annotated[Actor, Depends(Allowed("offers:publish"))]
CanRedeemOffers = Annotated[Actor, Depends(Allowed("offers:redeem"))]
CanReadAutomations = Annotated[Actor, Depends(Allowed("automations:read"))]
CanEditAutomations = Annotated[Actor, Depends(Allowed("automations:write"))]
CanEnableAutomations = Annotated[Actor, Depends(Allowed("automations:publish"))]
CanReadFences = Annotated[Actor, Depends(Allowed("geofences:read"))]
CanEditFences = Annotated[Actor, Depends(Allowed("geofences:write"))]
CanSendPositions = Annotated[Actor, Depends(Allowed("positions:write"))]
CanReadEvents = Annotated[Actor, Depends(Allowed("customers:read"))]
CanExport = Annotated[Actor, Depends(Allowed("exports"))]
CanExportTotals = Annotated[Actor, Depends(Allowed("exports:aggregated"))]
CanManageUsers = Annotated[Actor, Depends(Allowed("users:manage"))]
CanManageKeys = Annotated[Actor, Depends(Allowed("keys:manage"))]
CanManageWebhooks = Annotated[Actor, Depends(Allowed("webhooks:manage"))]
CanReadAudit = Annotated[Actor, Depends(Allowed("audit:read"))]


class Route(APIRoute):
    """A route that knows who may call it, and asks before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler: authenticate and check the permission, then go on as every route."""
        handler = super().get_route_handler()
        allowed = allowed_of(self.dependant)
        known = queries_of(self.dependant)
        writes = _depends_on(self.dependant, _writing)

        async def handle(request: Request) -> Response:
            if allowed is not None:
                actor = await authenticate(request)
                allowed.check(actor)
                request.state.actor = actor
            check_query(request.query_params.multi_items(), known)
            return await again_when_lost(lambda: once(request)) if writes else await handler(request)

        async def once(request: Request) -> Response:
            # the session ends with each try, not with the request: FastAPI puts it on the stack that it finds here
            outer = request.scope["fastapi_function_astack"]
            try:
                async with AsyncExitStack() as stack:
                    request.scope["fastapi_function_astack"] = stack
                    return await handler(request)
            finally:
                request.scope["fastapi_function_astack"] = outer

        return handle


def check_query(items: Iterable[tuple[str, str]], known: Collection[str]) -> None:
    """Raise Invalid for a query parameter that there is not, or that is given twice: a misspelt filter, or one of two,
    left aside in silence would show too much."""
    seen: set[str] = set()
    for name, _ in items:
        if name not in known or name in seen:
            detail = "given twice; several values are separated by commas" if name in seen else "no such parameter"
            shown = name[:60]
            pointer = "/" + shown.replace("~", "~0").replace("/", "~1")
            raise Invalid(f"{shown}: {detail}", errors=[{"pointer": pointer, "detail": detail}])
        seen.add(name)


def router(tag: str) -> APIRouter:
    """A router of routes that know who may call them."""
    return APIRouter(route_class=Route, tags=[tag])


def allowed_of(dependant: Dependant) -> Allowed | None:
    """Whom a route lets in; None for a route that is open to everybody."""
    if isinstance(dependant.call, Allowed):
        return dependant.call
    return next((found for part in dependant.dependencies if (found := allowed_of(part))), None)


def _depends_on(dependant: Dependant, call: object) -> bool:
    return dependant.call is call or any(_depends_on(part, call) for part in dependant.dependencies)


async def again_when_lost(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, one transaction, which is begun anew where the database ended it in favour of another one.

    Nothing of it was changed then, so that it may be: some times, as long as the asker has not waited for long.
    """
    began = time.monotonic()
    for tried in itertools.count(1):
        try:
            return await work()
        except (DBAPIError, psycopg.Error) as error:
            waited = time.monotonic() - began
            if sqlstate(error) not in LOST or tried >= _TRIES or waited > _PATIENCE_S:
                raise
            log.info("again", sqlstate=sqlstate(error), tried=tried)
        await anyio.sleep(0.05 * 2**tried * (0.5 + random.random()))
    raise AssertionError("unreachable")


def queries_of(dependant: Dependant) -> set[str]:
    """The query parameters of a route, with those of what it depends on."""
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*map(queries_of, dependant.dependencies))


async def authenticate(request: Request) -> Actor:
    """The actor of a request; raises Unauthenticated, or Forbidden where a cookie comes without its CSRF token."""
    found = credential(request.headers)
    if found is None:
        raise Unauthenticated()
    token, bearer = found
    gate = gate_of(request)

    def look_up() -> Actor:
        with gate.database.reading() as session:
            return access.authenticate(session, token)

    try:
        token.encode()
    except UnicodeEncodeError:
        raise Unauthenticated() from None
    async with gate.reading:
        actor = await run_in_threadpool(look_up)
    if not bearer:
        if request.method not in _SAFE:
            sent = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(sent.encode(), (actor.csrf_token or "\x00").encode()):
                raise Forbidden(f"Send the header {CSRF_HEADER} with the token of your session.")
        await keep_alive(request, gate, token)
    return actor


async def keep_alive(request: Request, gate: Gate, token: str) -> None:
    """A session lives for hours since its last use, and days in all; what is written is every fifth minute of it."""
    digest = access.digest(token)
    now = time.monotonic()
    if now - gate.touched.get(digest, -_TOUCH_S) < _TOUCH_S:
        return
    if len(gate.touched) > 10_000:
        gate.touched.clear()
    gate.touched[digest] = now
    settings = settings_of(request)
    await in_transaction(
        request, lambda session: people.keep_session(session, digest, settings.session_hours, settings.session_days)
    )


# ---------------------------------------------------------------- sessions of the database


@asynccontextmanager
async def _session(
    limiter: anyio.CapacityLimiter, scope: AbstractContextManager[Session], prepare: Callable[[Session], None]
) -> AsyncIterator[Session]:
    def begin() -> Session:
        session = scope.__enter__()
        try:
            prepare(session)
        except BaseException as error:
            scope.__exit__(type(error), error, error.__traceback__)
            raise
        return session

    async with limiter:
        session = await run_in_threadpool(begin)
        try:
            yield session
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(_roll_back, scope, error)
            raise
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(scope.__exit__, None, None, None)


def _roll_back(scope: AbstractContextManager[Session], error: BaseException) -> None:
    try:
        scope.__exit__(type(error), error, error.__traceback__)
    except BaseException as again:
        if again is not error:
            raise


async def _reading(request: Request) -> AsyncIterator[Session]:
    gate = gate_of(request)
    actor: Actor = request.state.actor
    async with _session(gate.reading, gate.database.reading(), lambda opened: access.enter(opened, actor)) as session:
        yield session


async def _writing(request: Request) -> AsyncIterator[Session]:
    gate = gate_of(request)
    async with _session(gate.writing, gate.database.writing(), _bounded(settings_of(request))) as session:
        yield session


Reading = Annotated[Session, Depends(_reading, scope="function")]
"""A session of the login that reads under row security, entered as the actor: it sees what the actor sees."""

Writing = Annotated[Session, Depends(_writing, scope="function")]
"""A session of the login that writes and sees all: look with `access.as_user` before you write."""


def _bounded(settings: Settings) -> Callable[[Session], None]:
    def prepare(session: Session) -> None:
        session.execute(
            text("SELECT set_config('statement_timeout', :timeout, true), set_config('lock_timeout', '10s', true)"),
            {"timeout": f"{int(settings.statement_timeout_s * 1000)}ms"},
        )

    return prepare


async def in_transaction(request: Request, work: Callable[[Session], T]) -> T:
    """Run `work` in a writing transaction of its own, for the few routes that need several; anew where it was lost."""
    gate = gate_of(request)

    def run() -> T:
        with gate.database.writing() as session:
            _bounded(settings_of(request))(session)
            return work(session)

    async def once() -> T:
        async with gate.writing:
            return await run_in_threadpool(run)

    return await again_when_lost(once)


async def as_actor(request: Request, actor: Actor, work: Callable[[Session], T]) -> T:
    """Run `work` in a reading transaction of its own, under the actor's row security."""
    gate = gate_of(request)

    def run() -> T:
        with gate.database.reading() as session:
            access.enter(session, actor)
            return work(session)

    async with gate.reading:
        return await run_in_threadpool(run)


async def on_files(request: Request, work: Callable[[], T]) -> T:
    """Run `work`, which copies or parses files and asks no database, in a thread: however long it takes, it holds no
    connection and no thread of those who do."""
    return await anyio.to_thread.run_sync(work, limiter=gate_of(request).files)


# ---------------------------------------------------------------- optimistic locking


class Expected:
    """The version that a client read, from If-Match."""

    def __init__(self, versions: frozenset[str] | None) -> None:
        self.versions = versions  # None: any

    def check(self, version: int) -> None:
        """Raise PreconditionFailed where the object has another version by now."""
        if self.versions is not None and etag(version) not in self.versions:
            raise PreconditionFailed(version=version)


_ETAG: Final = re.compile(r'"[^",]*"')
_MATCHES: Final = r'^(\*|"[^",]*"( *, *"[^",]*")*)$'


def _if_match(
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag that you read, so that nobody's change is lost.",
            examples=['"3"'],
            json_schema_extra={"pattern": _MATCHES},
        ),
    ] = None,
) -> Expected:
    if if_match is None or not if_match.strip():
        raise PreconditionRequired()
    if if_match.strip() == "*":
        return Expected(None)
    tags = frozenset(part.strip() for part in if_match.split(","))
    if not all(_ETAG.fullmatch(tag) for tag in tags):
        fault = 'expected the ETag as you read it, in its quotation marks, such as If-Match: "1"; or *'
        raise Invalid(f"If-Match: {fault}", errors=[{"pointer": "/If-Match", "detail": fault}])
    return Expected(tags)


IfMatch = Annotated[Expected, Depends(_if_match)]


def _if_match_where_sent(
    if_match: Annotated[
        str | None,
        Header(
            description="The ETag that you read, where nobody's change may be lost.",
            examples=[None],
            json_schema_extra={"pattern": _MATCHES},
        ),
    ] = None,
) -> Expected | None:
    return None if if_match is None else _if_match(if_match)


IfMatchWhereSent = Annotated[Expected | None, Depends(_if_match_where_sent)]


def etag(version: int) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def digest_of(*parts: bytes) -> bytes:
    """SHA-256 over parts that cannot run into each other."""
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part).to_bytes(8, "big"))
        made.update(part)
    return made.digest()


Handler = Callable[[Request], Awaitable[Response]]
