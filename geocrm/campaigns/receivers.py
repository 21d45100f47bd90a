"""Where webhooks may be sent, and sending one message there.

Whoever registers an address must not reach into the network that geocrm stands in. So a name is resolved here, every
address it has must be a public one, and the connection goes to the address that was checked, not to the name again;
redirects are not followed. The same is done at registration, for a clear word early, and at every sending.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from geocrm.errors import Invalid

LONGEST_URL: Final = 2_000
OPEN_S: Final = 60.0
_MOST_ANSWER: Final = 65_536
_LATE: Final = "no answer in time"
_SITE_LOCAL: Final = ipaddress.IPv6Network("fec0::/10")
_PRIVATE: Final = tuple(
    ipaddress.ip_network(net)
    for net in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_METADATA: Final = (ipaddress.IPv6Address("fd00:ec2::254"), ipaddress.IPv6Address("fd20:ce::254"))
"""Where hosters tell a machine its secrets, within `fc00::/7`; elsewhere these addresses are link-local."""
ALLOW: Final = "GEOCRM_WEBHOOK_ALLOW_PRIVATE=true"
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """An address to send to, taken apart."""

    secure: bool
    host: str
    port: int
    path: str


def read_url(url: str, *, allow_private: bool) -> Target:
    """Take an address apart; raises Invalid for one that webhooks are not sent to. Asks no name server.

    With `allow_private` (development, tests) http is let through."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("this is no address such as https://example.com/hooks") from None
    if len(url) > LONGEST_URL or not url.isascii() or any(c.isspace() or ord(c) < 33 for c in url):
        raise _refused(f"an address has at most {LONGEST_URL} characters, none of them a blank or beyond ASCII")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise _refused("expected an address such as https://example.com/hooks")
    if parts.scheme == "http" and not allow_private:
        raise _refused(f"webhooks are sent over https only; while you develop, start geocrm with {ALLOW}")
    if parts.username is not None or parts.password is not None:
        raise _refused("leave user and password out: the signature tells who sends")
    if port == 0:
        raise _refused("there is no port 0")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    secure = parts.scheme == "https"
    return Target(secure, parts.hostname, port or (443 if secure else 80), path)


def resolve(target: Target, *, allow_private: bool) -> list[str]:
    """The addresses of a target's host; raises Invalid where it has none, or one that is not public. With
    `allow_private` those of this machine and of private networks are let through; link-local ones never are."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _refused(f"{target.host} has no address: is the name written right?") from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    for address in addresses:
        if is_public(address):
            continue
        if not is_private(address):
            raise _refused(
                f"{target.host} is link-local, shared or reserved: webhooks are never sent there, send them to"
                " an address that is reached from the internet"
            )
        if not allow_private:
            raise _refused(
                f"{target.host} is an address of a private network or of this machine: name one that is reached from"
                f" the internet, or, while you develop, start geocrm with {ALLOW}"
            )
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address is one of the whole internet, looking also into IPv6 addresses that hold an IPv4 one."""
    found = ipaddress.ip_address(address)
    return all(
        one.is_global and not (one.is_multicast or one.is_reserved or one.is_unspecified or one in _SITE_LOCAL)
        for one in _held(found)
    )


def is_private(address: str) -> bool:
    """Whether an IP address is of this machine or of a private network: not link-local, multicast or unspecified, and
    none where a hoster tells secrets."""
    found = ipaddress.ip_address(address)
    inner = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    one = inner or found
    return one not in _METADATA and any(one in net for net in _PRIVATE)


def _held(found: Address) -> list[Address]:
    if isinstance(found, ipaddress.IPv4Address):
        return [found]
    inner = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
    if found in _NAT64:
        inner.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
    held: list[Address] = [one for one in inner if one is not None]
    return held if found.ipv4_mapped is not None else [found, *held]


def _refused(fault: str) -> Invalid:
    return Invalid(f"url: {fault}", errors=[{"pointer": "/url", "detail": fault}])


# ---------------------------------------------------------------- sending


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a message: the status, or why there is none; and how long it took."""

    status: int | None
    error: str | None
    took_ms: int

    @property
    def good(self) -> bool:
        """Whether the receiver took it."""
        return self.error is None


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, in the name of its host."""

    auto_open = 0  # only `connect` and `secure` open it

    def __init__(self, target: Target, address: str, timeout_s: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout_s)
        self._address = address
        self._context = ssl.create_default_context() if target.secure else None

    def connect(self) -> None:
        """Connect to the address, not to what the name says by now."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure(self) -> None:
        """Begin TLS, where the target wants it; `sock` is one that can be cut all the while."""
        if self._context is not None and not isinstance(self.sock, ssl.SSLSocket):
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()


class _Watch:
    """Cuts connections whose time is up: one thread for all, which a message does not wake."""

    def __init__(self) -> None:
        self._due: dict[_Pinned, float] = {}
        self._changed = threading.Condition()
        self._wakes_at: float | None = None
        self._thread: threading.Thread | None = None

    def begin(self, connection: _Pinned, seconds: float) -> None:
        """Cut it then, unless `end` comes before."""
        with self._changed:
            at = self._due[connection] = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="webhooks_watch", daemon=True)
                self._thread.start()
            elif self._wakes_at is None or at < self._wakes_at:
                self._changed.notify()

    def end(self, connection: _Pinned) -> bool:
        """Whether it was cut."""
        with self._changed:
            return self._due.pop(connection, None) is None

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for connection in [one for one, at in self._due.items() if at <= now]:
                    del self._due[connection]
                    if connection.sock is not None:
                        with contextlib.suppress(OSError):
                            connection.sock.shutdown(socket.SHUT_RDWR)
                self._wakes_at = min(self._due.values(), default=None)
                self._changed.wait(None if self._wakes_at is None else self._wakes_at - now)


_WATCH: Final = _Watch()


class Lane:
    """Sends messages to one receiver, one after the other, over one connection while it lasts, a minute at most.

    A message takes at most `timeout_s` once there is a connection, which may take as long, however slowly the receiver
    answers."""

    def __init__(self, url: str, *, timeout_s: float, allow_private: bool) -> None:
        self._url, self._timeout_s, self._allow_private = url, timeout_s, allow_private
        self._connection: _Pinned | None = None
        self._path = "/"
        self._opened_at = self._used_at = time.monotonic()

    def idle_s(self) -> float:
        """Seconds since the last message."""
        return time.monotonic() - self._used_at

    def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send one message."""
        began = time.monotonic()
        if began - self._opened_at > OPEN_S:
            self.close()  # what the name says is asked again
        reused = self._connection is not None
        status, error = self._try(headers, body)
        if error not in (None, _LATE) and status is None and reused:  # the receiver closed what we kept open
            status, error = self._try(headers, body)
        self._used_at = time.monotonic()
        return Answer(status, error, int((time.monotonic() - began) * 1000))

    def _try(self, headers: Mapping[str, str], body: bytes) -> tuple[int | None, str | None]:
        connection: _Pinned | None = None
        try:
            connection = self._connect()
            _WATCH.begin(connection, self._timeout_s)
            connection.secure()
            connection.request("POST", self._path, body, dict(headers) | {"Content-Type": "application/json"})
            answer = connection.getresponse()
            rest = answer.read(_MOST_ANSWER)
            if len(rest) == _MOST_ANSWER or answer.will_close:
                self.close()
        except Invalid as error:
            return None, error.detail
        except (OSError, http.client.HTTPException) as error:
            late = connection is not None and _WATCH.end(connection)
            self.close()
            return None, _LATE if late else _words(error)
        finally:
            if connection is not None:
                _WATCH.end(connection)
        if 200 <= answer.status < 300:
            return answer.status, None
        if 300 <= answer.status < 400:
            return answer.status, f"answered {answer.status}: redirects are not followed"
        return answer.status, f"answered {answer.status}"

    def _connect(self) -> _Pinned:
        if self._connection is None:
            target = read_url(self._url, allow_private=self._allow_private)
            addresses = resolve(target, allow_private=self._allow_private)
            self._connection, self._path = _Pinned(target, addresses[0], self._timeout_s), target.path
            self._opened_at = time.monotonic()
            self._connection.connect()
        return self._connection

    def close(self) -> None:
        """Close the connection; the next message opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return _LATE
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not right: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "no TLS connection could be made"
    if isinstance(error, ConnectionError | http.client.RemoteDisconnected):
        return "the connection was cut"
    if isinstance(error, http.client.HTTPException):
        return "the answer was no HTTP"
    return "it could not be reached"
