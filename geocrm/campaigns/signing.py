"""Signatures of webhooks as Standard Webhooks 1.0 has them (standardwebhooks.com): HMAC-SHA256 over id, time and body.

Pure. The text of a secret is `whsec_` and base64; a signature is `v1,` and base64, and several may stand in one header,
separated by blanks, while a new secret takes the place of an old one.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final

from geocrm.errors import Invalid

PREFIX: Final = "whsec_"
LENGTH: Final = 32
TOLERANCE_S: Final = 300


def new_secret() -> bytes:
    """A new secret of 32 random bytes."""
    return secrets.token_bytes(LENGTH)


def show_secret(secret: bytes) -> str:
    """A secret as text."""
    return PREFIX + base64.b64encode(secret).decode()


def read_secret(shown: str) -> bytes:
    """The secret in a text; raises Invalid."""
    try:
        return base64.b64decode(shown.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"A secret is {PREFIX} and base64.") from None


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature of a message sent at a time, seconds since 1970."""
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()


def headers(secrets_: list[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a message, signed with each of the secrets."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, message_id, timestamp, body) for secret in secrets_),
    }


def verify(secret: bytes, received: Mapping[str, str], body: bytes, *, now: float) -> None:
    """Check the headers of a message that was received, by names in small letters; raises Invalid where it is not from
    who has the secret, or not of the last five minutes."""
    try:
        timestamp = int(received["webhook-timestamp"])
        message_id, given = received["webhook-id"], received["webhook-signature"]
    except (KeyError, ValueError):
        raise Invalid("The headers webhook-id, webhook-timestamp and webhook-signature are needed.") from None
    if abs(now - timestamp) > TOLERANCE_S:
        raise Invalid("The message is too old, or from the future.")
    expected = sign(secret, message_id, timestamp, body).encode()
    if not any(hmac.compare_digest(expected, one.encode()) for one in given.split(" ")):
        raise Invalid("The signature is not right.")
