"""What was done to a customer, by whom, as far as the reader may know; and the whole audit log for administrators."""

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.crm import customers

_PLACE_FIELDS = frozenset({"label", "line1", "line2", "postal_code", "location", "lon", "lat"})
_CONTACT_FIELDS = frozenset({"email", "phone"})
HIDDEN = "hidden"


def of_customer(
    session: Session, actor: Actor, customer_id: int, *, after: int | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """What was done to a customer, newest first, in the worker's session; raises NotFound for a foreign customer.

    Values that the reader may not see now are said to be hidden; so is every value of a site that they do not see.
    """
    with access.as_user(session, actor):
        customers.see(session, customer_id)
        sites = set(
            session.scalars(
                text("SELECT id FROM visible.sites WHERE customer_id = CAST(:id AS bigint)"), {"id": customer_id}
            )
        )
    rows = session.execute(
        text(
            "SELECT l.id, l.at, l.actor_id, u.name AS actor_name, l.key_id, l.action, p.before, p.after"
            " FROM audit_log l LEFT JOIN audit_payloads p ON p.entry_id = l.id LEFT JOIN users u ON u.id = l.actor_id"
            " WHERE l.object = CAST(:object AS text)"
            " AND (CAST(:after AS bigint) IS NULL OR l.id < CAST(:after AS bigint))"
            " ORDER BY l.id DESC LIMIT CAST(:limit AS bigint)"
        ),
        {"object": ids.show("cus", customer_id), "after": after, "limit": limit},
    )
    shown_sites = {ids.show("sit", site) for site in sites}
    return [_entry(row, actor, shown_sites) for row in rows]


def _entry(row: Row[Any], actor: Actor, sites: set[str | None]) -> dict[str, Any]:
    before, after = row.before or {}, row.after or {}
    site = before.get("site") or after.get("site")
    foreign = not actor.sees_all and site is not None and site not in sites
    changed = []
    for name in sorted({*before, *after} - {"site", "sites"}):
        if before.get(name) == after.get(name):
            continue
        hidden = (
            foreign
            or (name in _PLACE_FIELDS and not actor.exact)
            or (name in _CONTACT_FIELDS and actor.contacts != "shown")
        )
        changed.append(
            {
                "field": name,
                "before": HIDDEN if hidden and before.get(name) is not None else before.get(name),
                "after": HIDDEN if hidden and after.get(name) is not None else after.get(name),
            }
        )
    return {
        "id": row.id,
        "at": row.at,
        "action": row.action,
        "actor": ids.reference("usr", row.actor_id, row.actor_name),
        "key_id": ids.show("key", row.key_id),
        "site_id": None if foreign else site,
        "changes": changed,
    }


def find_entries(
    session: Session,
    *,
    action: str | None = None,
    object_id: str | None = None,
    after: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """The audit log, newest first, for administrators."""
    rows = session.execute(
        text(
            "SELECT l.id, l.at, l.actor_id, u.name AS actor_name, l.key_id, l.action, l.object, p.before, p.after,"
            " s.position FROM audit_log l LEFT JOIN audit_payloads p ON p.entry_id = l.id"
            " LEFT JOIN users u ON u.id = l.actor_id LEFT JOIN audit_seals s ON s.entry_id = l.id"
            " WHERE (CAST(:action AS text) IS NULL OR l.action = CAST(:action AS text))"
            " AND (CAST(:object AS text) IS NULL OR l.object = CAST(:object AS text))"
            " AND (CAST(:after AS bigint) IS NULL OR l.id < CAST(:after AS bigint))"
            " ORDER BY l.id DESC LIMIT CAST(:limit AS bigint)"
        ),
        {"action": action, "object": object_id, "after": after, "limit": limit},
    )
    return [
        {
            "id": row.id,
            "at": row.at,
            "action": row.action,
            "object": row.object,
            "actor": ids.reference("usr", row.actor_id, row.actor_name),
            "key_id": ids.show("key", row.key_id),
            "before": row.before,
            "after": row.after,
            "sealed": row.position is not None,
        }
        for row in rows
    ]
