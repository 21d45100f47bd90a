"""What holds for every request and answer: its id, its limits, the security headers, one line in the log.

A plain ASGI middleware, so that the hot lookups pay microseconds for it.
"""

import hashlib
import ipaddress
import secrets
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog
from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geocrm import errors
from geocrm.api.errors import answer, handle_unexpected
from geocrm.api.request_log import RequestLog
from geocrm.crm.key_requests import Request as Noted
from geocrm.settings import Settings

log = structlog.get_logger("geocrm.api")

COOKIE = "geocrm_session"
WINDOW_S = 60
BODY_MAX_MB = 32
_UPLOADS = ("/v1/imports", "/v1/geofences/imports")
_MOST_BUCKETS = 100_000


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, settings: Settings, requests: RequestLog) -> None:
        self.app = app
        self.settings = settings
        self.requests = requests
        self.limits = Limits(settings.rate_limit_per_minute)
        self.proxies = trusted(settings.trusted_proxies)
        self.known: set[bytes] = set()  # digests of credentials that somebody was behind, here, not long ago
        self.headers = security_headers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = scope["geocrm.request_id"] = f"req_{secrets.token_hex(8)}"
        headers = Headers(scope=scope)
        if self.proxies:
            believe(scope, headers, self.proxies)
        path: str = scope["path"]
        limited = path.startswith(("/v1/", "/tiles/"))
        shown = shown_by(headers) if limited else None
        left, reset_s = self.limits.take(self._caller(scope, shown)) if limited else (1, WINDOW_S)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                out["X-Request-Id"] = request_id
                for name, value in self.headers:
                    out.setdefault(name, value)
                if limited:
                    out.setdefault("Cache-Control", "no-store")
                    out["RateLimit-Policy"] = f'"minute";q={self.limits.per_window};w={WINDOW_S}'
                    out["RateLimit"] = f'"minute";r={max(0, left)};t={reset_s}'
            await send(message)

        request = Request(scope)
        try:
            if left < 0:
                raise errors.TooManyRequests(
                    f"More than {self.limits.per_window} requests a minute.", retry_after_s=reset_s
                )
            await self.app(scope, self._capped(path, headers, receive), sending)
        except errors.GeocrmError as error:
            if status:
                raise
            await answer(request, error)(scope, receive, sending)
        except Exception as error:
            if status:  # the answer has begun: nothing but cutting it short is left
                raise
            await handle_unexpected(request, error)(scope, receive, sending)
        finally:
            route = scope.get("route")
            state = scope.get("state", {})
            actor = state.get("actor")
            # the route, not the address: addresses hold positions
            path_of_route = getattr(route, "path", None) or ("/" if not limited else "none")
            if path.startswith("/v1/") and path_of_route.startswith("/") and not path_of_route.startswith("/v1/"):
                path_of_route = f"/v1{path_of_route}"  # a route of an included router knows its own part only
            ms = round((time.perf_counter() - began) * 1000, 1)
            if shown is not None:
                known = actor is not None or bool(state.get("credential_is_known"))
                self._remember(shown, known=known, status=status)
                # 403 knows the key too, though perhaps in the database only
                if status and (known or status == 403 or shown in self.known) and "authorization" in headers:
                    at = datetime.now(UTC)
                    self.requests.note(Noted(shown, at, scope["method"], path_of_route, status, ms, request_id))
            log.info(
                "request",
                request_id=request_id,
                method=scope["method"],
                route=path_of_route,
                status=status,
                ms=ms,
                user_id=getattr(actor, "user_id", None),
                key_id=getattr(actor, "key_id", None),
            )

    def _caller(self, scope: Scope, shown: bytes | None) -> bytes:
        """Whose requests are counted together: the key's or session's, else the address's. A credential counts for
        itself only once it has proved good, so that invented ones gain nothing."""
        if shown is not None and shown in self.known:
            return shown
        client = scope.get("client")
        return (client[0] if client else "nobody").encode()

    def _remember(self, shown: bytes, *, known: bool, status: int) -> None:
        if status == 401:
            self.known.discard(shown)
        elif known and shown not in self.known:
            if len(self.known) >= _MOST_BUCKETS:
                self.known.clear()
            self.known.add(shown)

    def _capped(self, path: str, headers: Headers, receive: Receive) -> Receive:
        most_mb = self.settings.upload_max_mb if path.startswith(_UPLOADS) else BODY_MAX_MB
        most = most_mb * 1024 * 1024
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > most:
            raise errors.TooLarge(f"The body may have at most {most_mb} MB.")
        taken = 0

        async def receiving() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:  # of this class FastAPI passes it on instead of calling the body unreadable
                raise HTTPException(413)
            return message

        return receiving


class Limits:
    """Requests of each caller in the present minute; in this process."""

    def __init__(self, per_window: int) -> None:
        self.per_window = per_window
        self.window = 0
        self.counts: dict[bytes, int] = {}

    def take(self, who: bytes) -> tuple[int, int]:
        """Count one request: how many are left (below 0: too many), and in how many seconds the count starts anew."""
        now = time.time()
        window = int(now // WINDOW_S)
        if window != self.window:
            self.window = window
            self.counts = {}
        if len(self.counts) >= _MOST_BUCKETS and who not in self.counts:
            who = b"everybody else"
        taken = self.counts[who] = self.counts.get(who, 0) + 1
        return self.per_window - taken, max(1, round((window + 1) * WINDOW_S - now))


def credential(headers: Headers) -> tuple[str, bool] | None:
    """The token a request carries and whether it came as a bearer key (else as the cookie)."""
    authorization = headers.get("authorization", "")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip(), True
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and value:
            return value, False
    return None


def shown_by(headers: Headers) -> bytes | None:
    """The digest of the credential that a request carries, good or not."""
    found = credential(headers)
    return None if found is None else hashlib.sha256(found[0].encode("utf-8", "replace")).digest()


Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def trusted(given: str) -> Networks:
    """The networks of the setting GEOCRM_TRUSTED_PROXIES; raises SetupError for what is none."""
    try:
        return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in given.split(",") if part.strip())
    except ValueError as error:
        raise errors.SetupError(
            f"GEOCRM_TRUSTED_PROXIES: {error}; write addresses or networks such as 10.0.0.0/8, with commas"
        ) from None


def believe(scope: Scope, headers: Headers, proxies: Networks) -> None:
    """Where the other side is a trusted proxy, let the request be from whom it says: the last address in
    X-Forwarded-For that is no trusted proxy itself, because what stands left of it anybody may have written."""
    client = scope.get("client")
    if client is None or not _is_in(client[0], proxies):
        return
    address = client[0]
    hops = ",".join(headers.getlist("x-forwarded-for")).split(",")
    for hop in reversed([part.strip() for part in hops if part.strip()]):
        if _address(hop) is None:
            break
        address = hop
        if not _is_in(hop, proxies):
            break
    scope["client"] = (address, client[1] if address == client[0] else 0)
    scheme = headers.get("x-forwarded-proto", "").strip().lower()
    if scheme in ("http", "https"):
        scope["scheme"] = scheme


def _address(given: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(given)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _is_in(given: str, networks: Networks) -> bool:
    found = _address(given)
    return found is not None and any(found in network for network in networks)


def security_headers(settings: Settings) -> list[tuple[str, str]]:
    """The same on every answer."""
    elsewhere = ""
    if settings.map_style_url:
        parts = urlsplit(settings.map_style_url)
        if parts.scheme and parts.netloc:
            elsewhere = f" {parts.scheme}://{parts.netloc}"
    policy = [
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        f"img-src 'self' data: blob:{elsewhere}",
        f"connect-src 'self'{elsewhere}",
        f"font-src 'self' data:{elsewhere}",
        "worker-src 'self' blob:",
        "child-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
    headers = [
        ("Content-Security-Policy", "; ".join(policy)),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Permissions-Policy", "geolocation=(self), camera=(), microphone=()"),
    ]
    if settings.secure_cookies:
        headers.append(("Strict-Transport-Security", "max-age=31536000; includeSubDomains"))
    return headers
