"""Messages of webhooks: from whom they are, and what they say.

The signature is that of Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over id, time and body.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable
from typing import Any, Final, Protocol

TOLERANCE_S: Final = 300


class NotFromGeocrm(Exception):
    """The message is not signed with the webhook's secret, or not of the last five minutes."""


class Headers(Protocol):
    """The headers of a request, as every framework has them."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names and values."""


def read(secret: str, headers: Headers, body: bytes, *, now: float | None = None) -> dict[str, Any]:
    """What a message says, once its signature has proved right; raises NotFromGeocrm. `secret` is the text that came
    when the webhook was made (`whsec_…`), `headers` and `body` are those of the request, `now` seconds since 1970."""
    found = {name.lower(): value for name, value in headers.items()}
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        sent = int(found["webhook-timestamp"])
        signed = b".".join((found["webhook-id"].encode(), str(sent).encode(), body))
        given = found["webhook-signature"].split(" ")
    except (KeyError, ValueError, binascii.Error):
        raise NotFromGeocrm("no secret, or no signature") from None
    if abs((time.time() if now is None else now) - sent) > TOLERANCE_S:
        raise NotFromGeocrm("the message is too old, or from the future")
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    if not any(hmac.compare_digest(expected, one.encode()) for one in given):
        raise NotFromGeocrm("the signature is not right")
    message: dict[str, Any] = json.loads(body)
    return message
