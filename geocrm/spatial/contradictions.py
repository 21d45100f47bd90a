"""The queue of contradictions: a rule against the polygon, a rule without any polygon, no match at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor, require
from geocrm.db import audit
from geocrm.db.queries import named
from geocrm.errors import Invalid, NotFound
from geocrm.spatial import publishing
from geocrm.spatial.territories import facts

Kind = Literal["rule_against_polygon", "no_polygon", "nothing"]
Action = Literal["accept_rule", "name", "dismiss"]
Key = tuple[int, int, int]  # customer, site, layer


@dataclass(frozen=True)
class Entry:
    """A site to resolve. `area_id` is the rule's area (None where nothing matches), `polygon_area_id` the polygon's."""

    customer_id: int
    customer_name: str
    site_id: int
    layer_id: int
    layer_key: str
    kind: Kind
    area_id: int | None
    area_name: str | None
    polygon_area_id: int | None
    polygon_area_name: str | None
    since: datetime
    resolved_at: datetime | None
    resolved_by: int | None
    resolution: str | None


def find(
    session: Session,
    *,
    layer_id: int | None = None,
    kind: Kind | None = None,
    resolved: bool = False,
    after: Key = (0, 0, 0),
    limit: int = 100,
) -> list[Entry]:
    """Entries of the queue after `after`, by customer, site and layer: those that the session sees."""
    query = named("territories_reading", "contradictions").replace("{schema}", facts(session))
    values: dict[str, Any] = {
        "layer": layer_id, "kind": kind, "resolved": resolved, "limit": limit,
        "after_customer": after[0], "after_site": after[1], "after_layer": after[2],
    }  # fmt: skip
    return [Entry(**row._mapping) for row in session.execute(text(query), values)]


def count(session: Session, *, layer_id: int | None = None) -> dict[tuple[int, Kind], int]:
    """How many stand open, by layer and kind."""
    query = named("territories_reading", "contradiction_counts").replace("{schema}", facts(session))
    return {(row.layer_id, row.kind): row.open for row in session.execute(text(query), {"layer": layer_id})}


def resolve(
    session: Session,
    entries: Sequence[Key],
    *,
    action: Action,
    actor: Actor,
    reason: str,
    area_id: int | None = None,
    now: datetime | None = None,
) -> int:
    """Settle entries (customer, site, layer); returns how many.

    `accept_rule`: the rule is right, the polygon is not asked again. `name`: make the customers named accounts of
    `area_id` (by default of the rule's area), with a version published for it. `dismiss`: leave it as it is. An entry
    comes back when it becomes another contradiction. Raises NotFound for an entry that the actor does not see,
    Forbidden, Invalid."""
    require(actor, "customers:reassign")
    wanted = list(dict.fromkeys(entries))
    with access.as_user(session, actor):
        seen = {
            (row.customer_id, row.site_id, row.layer_id): row
            for row in session.execute(
                text(
                    "SELECT x.* FROM visible.contradictions x JOIN unnest(CAST(:customers AS bigint[]), "
                    "CAST(:sites AS bigint[]), CAST(:layers AS bigint[])) AS k (customer_id, site_id, layer_id) "
                    "ON k.customer_id = x.customer_id AND k.site_id = x.site_id AND k.layer_id = x.layer_id"
                ),
                _columns(wanted),
            )
        }
    for key in wanted:
        if key not in seen:
            raise NotFound(f"There is no contradiction of {ids.show('cus', key[0])} to resolve.")
    if action == "accept_rule" and any(row.area_id is None for row in seen.values()):
        raise Invalid("No rule matches there; name an area, or dismiss the entry.")
    if action == "name":
        by_layer: dict[int, dict[int, int]] = {}
        for (customer_id, _, layer_id), row in seen.items():
            target = area_id or row.area_id
            if target is None:
                raise Invalid(
                    "Say which area the customer belongs to.", errors=[{"pointer": "/area", "detail": "is missing"}]
                )
            by_layer.setdefault(layer_id, {})[customer_id] = target
        for layer_id, customers in by_layer.items():
            publishing.move(session, layer_id, customers, actor=actor, reason=reason, now=now)
    session.execute(
        text(
            "UPDATE contradictions x SET resolved_at = coalesce(CAST(:now AS timestamptz), now()), "
            "resolved_by = CAST(:actor AS bigint), resolution = CAST(:action AS text) "
            "FROM unnest(CAST(:customers AS bigint[]), CAST(:sites AS bigint[]), CAST(:layers AS bigint[])) "
            "AS k (customer_id, site_id, layer_id) "
            "WHERE k.customer_id = x.customer_id AND k.site_id = x.site_id AND k.layer_id = x.layer_id"
        ),
        _columns(wanted) | {"now": now, "actor": actor.user_id, "action": action},
    )
    audit.record(
        session, "contradictions.resolve", actor_id=actor.user_id, key_id=actor.key_id,
        after={"action": action, "reason": reason, "area": area_id,
               "entries": [[ids.show("cus", c), ids.show("sit", s), ids.show("lay", y)] for c, s, y in wanted[:1000]]},
    )  # fmt: skip
    return len(wanted)


def _columns(entries: Sequence[Key]) -> dict[str, Any]:
    return {
        "customers": [entry[0] for entry in entries],
        "sites": [entry[1] for entry in entries],
        "layers": [entry[2] for entry in entries],
    }
