"""`Idempotency-Key`: the same creating request sent again has one effect and gets the same answer.

A key belongs to the web sessions of its user or to one of the user's API keys. It is written in the transaction of the
effect, so that either both are there or neither; a second request with the key waits for the first one's commit, and
then finds the stored answer.
"""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import Actor
from geocrm.api.dependencies import digest_of
from geocrm.errors import Invalid

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"  # on an answer that was given before
_KEPT = ("location", "etag")


class Once:
    """Does a creating request once."""

    def __init__(self, key: str | None, digest: bytes) -> None:
        self.key = key
        self.digest = digest

    def including(self, *parts: bytes) -> "Once":
        """The same with more of the request: of a form, whose body is not read here, what its fields and files say."""
        return Once(self.key, digest_of(self.digest, *parts))

    def answer(
        self,
        session: Session,
        actor: Actor,
        produce: Callable[[], tuple[Any, Mapping[str, str]]],
        *,
        shape: type[BaseModel],
        status: int = 201,
        as_it_is: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Response:
        """The answer of `produce` (content and headers), or the stored one where the request came before; with
        `as_it_is`, which is given that, what was made then as it is now.

        Raises Invalid where the key was used for another request.
        """
        if self.key is None:
            return _render(produce(), shape, status)
        # what one key may read, another key of the same user may not
        whose = {"user_id": actor.user_id, "key_id": actor.key_id or 0, "key": self.key}
        values = whose | {"digest": self.digest}
        begun = session.execute(
            text(
                "INSERT INTO idempotency_keys (user_id, key_id, key, request_digest) VALUES"
                " (CAST(:user_id AS bigint), CAST(:key_id AS bigint), CAST(:key AS text), CAST(:digest AS bytea))"
                " ON CONFLICT (user_id, key_id, key) DO NOTHING RETURNING 1"
            ),
            values,
        ).scalar()
        if begun is None:
            stored = self._stored(session, values)
            if as_it_is is None:
                return stored
            kept = {name: value for name, value in stored.headers.items() if name in (*_KEPT, REPLAYED.lower())}
            return _render((as_it_is(json.loads(bytes(stored.body))), kept), shape, stored.status_code)
        response = _render(produce(), shape, status)
        session.flush()
        kept = {name: value for name, value in response.headers.items() if name in _KEPT}
        session.execute(
            text(
                "UPDATE idempotency_keys SET status = CAST(:status AS bigint), headers = CAST(:headers AS jsonb),"
                " body = CAST(:body AS bytea) WHERE user_id = CAST(:user_id AS bigint)"
                " AND key_id = CAST(:key_id AS bigint) AND key = CAST(:key AS text)"
            ),
            whose | {"status": status, "headers": json.dumps(kept), "body": bytes(response.body)},
        )
        return response

    def _stored(self, session: Session, values: Mapping[str, Any]) -> Response:
        row = session.execute(
            text(
                "SELECT request_digest, status, headers, body FROM idempotency_keys"
                " WHERE user_id = CAST(:user_id AS bigint) AND key_id = CAST(:key_id AS bigint)"
                " AND key = CAST(:key AS text)"
            ),
            values,
        ).one()
        if bytes(row.request_digest) != self.digest:
            fault = "this key was used for another request; send a new one"
            raise Invalid(f"{HEADER}: {fault}", errors=[{"pointer": f"/{HEADER}", "detail": fault}])
        headers = dict(row.headers or {}) | {REPLAYED: "true"}
        return Response(bytes(row.body or b""), row.status or 200, headers=headers, media_type="application/json")


async def _once(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            pattern=r"^[\x21-\x7e]+$",
            description="A value of your own, such as a UUID: the request sent again with it has one effect.",
            examples=["5f0c8a7e-6c1b-4b0a-9a53-0f1f5a2b7d11"],
        ),
    ] = None,
) -> Once:
    multipart = request.headers.get("content-type", "").startswith("multipart/")
    body = b"" if multipart else await request.body()
    return Once(idempotency_key, digest_of(request.method.encode(), request.url.path.encode(), body))


Idempotent = Annotated[Once, Depends(_once)]


def _render(made: tuple[Any, Mapping[str, str]], shape: type[BaseModel], status: int) -> Response:
    content, headers = made
    adapter = TypeAdapter(shape)
    body = adapter.dump_json(adapter.validate_python(content))
    return Response(body, status, headers=dict(headers), media_type="application/json")
