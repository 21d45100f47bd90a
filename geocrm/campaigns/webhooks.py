"""Webhooks: who is told events, and the log of what was sent."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor
from geocrm.campaigns import events, receivers, signing
from geocrm.db import audit
from geocrm.db.models import Webhook, WebhookDelivery
from geocrm.db.queries import named
from geocrm.errors import Conflict, Invalid, NotFound

MOST: Final = 50
TEST: Final = "webhook.test"
FORMER_HOURS: Final = 24
"""After a change of the secret, messages are signed with the former one too for so long."""


def create(
    session: Session,
    actor: Actor,
    *,
    url: str,
    types: Sequence[str] = (),
    description: str | None = None,
    allow_private: bool = False,
) -> dict[str, Any]:
    """A new webhook; `secret` is in this answer and never again. Raises Invalid for an address that is not public or
    an unknown type, Conflict where there are too many, or another sends such events to the same address."""
    _check(url, types, allow_private)
    _check_doubles(session, url, types)
    if int(session.scalar(text("SELECT count(*) FROM webhooks")) or 0) >= MOST:
        raise Conflict(f"There are {MOST} webhooks already: one can be told every type of event.")
    secret = signing.new_secret()
    hook = Webhook(url=url, types=sorted(set(types)), description=description, secret=secret, created_by=actor.user_id)
    session.add(hook)
    session.flush()
    _record(session, actor, "webhook.create", hook.id, after={"url": url, "types": hook.types})
    return get(session, hook.id) | {"secret": signing.show_secret(secret)}


def find(session: Session, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """Webhooks, by id."""
    rows = session.execute(text(named("webhooks", "find")), {"after": after, "id": None, "limit": limit})
    return [_shown(row) for row in rows]


def get(session: Session, webhook_id: int) -> dict[str, Any]:
    """One webhook; raises NotFound."""
    row = session.execute(text(named("webhooks", "find")), {"after": 0, "id": webhook_id, "limit": 1}).one_or_none()
    if row is None:
        raise NotFound()
    return _shown(row)


def open_for_edit(session: Session, webhook_id: int) -> Webhook:
    """The webhook, locked; raises NotFound."""
    hook = session.get(Webhook, webhook_id, with_for_update={"key_share": True}, populate_existing=True)
    if hook is None:
        raise NotFound()
    return hook


def edit(
    session: Session, actor: Actor, hook: Webhook, changes: Mapping[str, Any], *, allow_private: bool = False
) -> None:
    """Change url, types, description, or whether it is enabled; what is changed may be tried at once. Raises as
    `create`."""
    _check(changes.get("url", hook.url) if "url" in changes else None, changes.get("types", ()), allow_private)
    if changes.get("enabled", hook.enabled) and changes.keys() & {"url", "types", "enabled"}:
        _check_doubles(session, changes.get("url", hook.url), changes.get("types", hook.types), but=hook.id)
    before = {name: getattr(hook, name) for name in changes}
    for name, value in changes.items():
        setattr(hook, name, sorted(set(value)) if name == "types" else value)
    if hook.enabled:
        hook.disabled_because, hook.failures, hook.next_at = None, 0, func.now()
    hook.version += 1
    hook.updated_at = func.now()
    session.flush()
    _record(session, actor, "webhook.update", hook.id, before=before, after=dict(changes))


def change_secret(session: Session, actor: Actor, hook: Webhook) -> str:
    """A new secret as text; for a day messages are signed with the former one too."""
    hook.former_secret, hook.former_until = hook.secret, datetime.now(UTC) + timedelta(hours=FORMER_HOURS)
    hook.secret = signing.new_secret()
    hook.version += 1
    hook.updated_at = func.now()
    session.flush()
    _record(session, actor, "webhook.secret", hook.id)
    return signing.show_secret(hook.secret)


def delete(session: Session, actor: Actor, hook: Webhook) -> None:
    """Take a webhook away, with its log and what waits for it."""
    before = {"url": hook.url, "types": hook.types}
    session.execute(text("DELETE FROM webhooks WHERE id = CAST(:id AS bigint)"), {"id": hook.id})
    session.expunge(hook)
    _record(session, actor, "webhook.delete", hook.id, before=before)


def send_test(session: Session, actor: Actor, hook: Webhook) -> dict[str, Any]:
    """Queue a test, which is tried at once even where the webhook pauses; its delivery. Raises Conflict where the
    webhook is not enabled."""
    if not hook.enabled:
        raise Conflict("This webhook is not enabled: enable it first.")
    made = WebhookDelivery(webhook_id=hook.id, type=TEST)
    session.add(made)
    session.flush()
    session.execute(text(named("webhooks", "wake")), {"webhook": hook.id})
    _record(session, actor, "webhook.test", hook.id)
    return get_delivery(session, hook.id, made.id)


def resend(session: Session, actor: Actor, hook: Webhook, delivery_id: int) -> dict[str, Any]:
    """Queue a delivery again, under the same id of its event; raises NotFound, Conflict as `send_test`."""
    if not hook.enabled:
        raise Conflict("This webhook is not enabled: enable it first.")
    values = {"webhook": hook.id, "id": delivery_id}
    if session.scalar(text(named("webhooks", "resend")), values) is None:
        raise NotFound()
    session.execute(text(named("webhooks", "wake")), {"webhook": hook.id})
    _record(session, actor, "webhook.resend", hook.id, after={"delivery": ids.show("dlv", delivery_id)})
    return get_delivery(session, hook.id, delivery_id)


def find_deliveries(
    session: Session, webhook_id: int, *, status: str | None = None, before: int | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """The log of a webhook, newest first; raises NotFound."""
    get(session, webhook_id)
    rows = session.execute(
        text(named("webhooks", "deliveries")),
        {"webhook": webhook_id, "status": status, "before": before, "id": None, "limit": limit},
    )
    return [_delivery(row) for row in rows]


def get_delivery(session: Session, webhook_id: int, delivery_id: int) -> dict[str, Any]:
    """One delivery with its tries, newest first; raises NotFound."""
    row = session.execute(
        text(named("webhooks", "deliveries")),
        {"webhook": webhook_id, "status": None, "before": None, "id": delivery_id, "limit": 1},
    ).one_or_none()
    if row is None:
        raise NotFound()
    tries = session.execute(text(named("webhooks", "attempts")), {"delivery": delivery_id})
    return _delivery(row) | {"tries": [dict(one._mapping) for one in tries]}


def _check(url: str | None, types: Sequence[str], allow_private: bool) -> None:
    unknown = [name for name in types if name not in events.TYPES]
    if unknown:
        fault = f"no event of type {unknown[0][:60]!r}; there are {', '.join(events.TYPES)}"
        raise Invalid(f"types: {fault}", errors=[{"pointer": "/types", "detail": fault}])
    if url is not None:
        target = receivers.read_url(url, allow_private=allow_private)
        receivers.resolve(target, allow_private=allow_private)


def _check_doubles(session: Session, url: str, types: Sequence[str], but: int | None = None) -> None:
    """Raise Conflict where an enabled webhook sends some of these events to the address already. Whoever asks is alone
    with it until the transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('webhooks', 12))"))
    target = receivers.read_url(url, allow_private=True)
    for other in session.scalars(select(Webhook).where(Webhook.enabled).order_by(Webhook.id)):
        common = not types or not other.types or set(types) & set(other.types)
        if other.id != but and common and receivers.read_url(other.url, allow_private=True) == target:
            number = ids.show("whk", other.id)
            raise Conflict(
                f"{number} sends such events to this address already, and each would come twice: change the types of"
                f" one, or disable or delete {number}.",
                webhook_id=number,
            )


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": ids.show("whk", row.id),
        "url": row.url,
        "description": row.description,
        "types": row.types,
        "enabled": row.enabled,
        "disabled_because": row.disabled_because,
        "failures": row.failures,
        "next_at": row.next_at if row.failures else None,
        "waiting": row.waiting,
        "waiting_since": row.oldest,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _delivery(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": ids.show("dlv", row.id),
        "type": row.type,
        "event_id": ids.show("evt", row.event_id),
        "status": row.status,
        "attempts": row.attempts,
        "next_at": row.next_at if row.status == "queued" else None,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "last_try": None
        if row.tried_at is None
        else {"at": row.tried_at, "took_ms": row.took_ms, "status": row.answered, "error": row.error},
    }


def _record(session: Session, actor: Actor, action: str, webhook_id: int, **payload: Any) -> None:
    audit.record(
        session, action, actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("whk", webhook_id), **payload
    )
