"""Read customers: lists, search, one whole. Every function runs in a session entered as the reader."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor
from geocrm.db.queries import named
from geocrm.errors import NotFound
from geocrm.filters import Filter
from geocrm.segmentation import published

LIKENESS = 0.4  # of 1: how much of a searched text must be found in a name

Values = Mapping[str, Any]


def find(session: Session, actor: Actor, wanted: Filter, *, after: int = 0, limit: int = 50) -> list[dict[str, Any]]:
    """The visible customers that pass a filter, by id, beginning after an id; at most `limit`."""
    condition = wanted.compile("customer", snapped=not actor.exact)
    sql = _fill("page", condition.named())
    rows = session.execute(text(sql), {"after": after, "limit": limit} | condition.params()).all()
    return [_brief(row) for row in rows]


def search(
    session: Session,
    actor: Actor,
    words: str,
    wanted: Filter,
    *,
    after: tuple[float, int] | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """The visible customers whose name is like `words`, most alike first, each with its `score` (0 to 1)."""
    condition = wanted.compile("customer", snapped=not actor.exact)
    session.execute(
        text("SELECT set_config('pg_trgm.word_similarity_threshold', :likeness, true)"), {"likeness": str(LIKENESS)}
    )
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    values = {"q": words, "pattern": f"%{escaped}%", "limit": limit} | condition.params()
    values |= {"after_score": None if after is None else after[0], "after": 0 if after is None else after[1]}
    rows = session.execute(text(_fill("search", condition.named())), values).all()
    return [_brief(row) | {"score": round(float(row.score), 6)} for row in rows]


def count(session: Session, actor: Actor, wanted: Filter) -> dict[str, Any]:
    """How many visible customers pass a filter, in all, by stage and by kind."""
    condition = wanted.compile("customer", snapped=not actor.exact)
    sql = named_part("counts").replace("{condition}", condition.named())
    rows = session.execute(text(sql), condition.params()).all()
    by_stage: dict[str, int] = {}
    by_kind: dict[str, int] = {}
    for row in rows:
        by_stage[row.stage] = by_stage.get(row.stage, 0) + row.n
        by_kind[row.kind] = by_kind.get(row.kind, 0) + row.n
    return {"customers": sum(by_stage.values()), "by_stage": by_stage, "by_kind": by_kind}


def get(session: Session, customer_id: int) -> dict[str, Any]:
    """One customer whole: sites with territory and why, contacts, consents, names in source systems.

    Raises NotFound where there is none, or none that the reader may see.
    """
    only = "c.id = CAST(:customer_id AS bigint)"
    values = {"after": 0, "limit": 1, "customer_id": customer_id}
    row = session.execute(text(_fill("page", only)), values).one_or_none()
    if row is None:
        raise NotFound()
    found = _brief(row)
    del found["site"]
    found["parent"] = _parent(session, row.parent_id)
    found["sites"] = [_site(part) | _why(part) for part in _rows(session, "sites", customer_id)]
    found["contacts"] = [_contact(part) for part in _rows(session, "contacts", customer_id)]
    found["consents"] = [dict(part._mapping) for part in _rows(session, "consents", customer_id)]
    found["segments"], found["scores"] = published.of_customer(session, customer_id)
    found["sources"] = [dict(part._mapping) for part in _rows(session, "sources", customer_id)]
    return found


def see(session: Session, customer_id: int) -> None:
    """Raise NotFound unless the reader sees the customer."""
    found = session.scalar(
        text("SELECT true FROM customers WHERE id = CAST(:customer_id AS bigint)"), {"customer_id": customer_id}
    )
    if not found:
        raise NotFound()


def _rows(session: Session, name: str, customer_id: int) -> Sequence[Row[Any]]:
    return session.execute(text(named("customers", name)), {"customer_id": customer_id}).all()


def _fill(name: str, condition: str) -> str:
    sql = named_part(name).replace("{condition}", condition)
    return sql.replace("{columns}", named_part("columns")).replace("{joins}", named_part("joins"))


def named_part(name: str) -> str:
    """A piece of SQL that several queries share, without its description."""
    lines = named("customers", name).splitlines()
    return "\n".join(line for line in lines if not line.startswith("--"))


def _parent(session: Session, parent_id: int | None) -> dict[str, Any] | None:
    if parent_id is None:
        return None
    name = session.scalar(text("SELECT name FROM customers WHERE id = CAST(:id AS bigint)"), {"id": parent_id})
    return None if name is None else {"id": ids.show("cus", parent_id), "name": name}


def _brief(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": ids.show("cus", row.id),
        "kind": row.kind,
        "name": row.name,
        "stage": row.stage,
        "parent_id": ids.show("cus", row.parent_id),
        "owner": ids.reference("usr", row.owner_id, row.owner_name),
        "territories": row.territories or [],
        "industry": row.industry,
        "size_class": row.size_class,
        "preferred_channel": row.preferred_channel,
        "attributes": row.attributes,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "site": None if row.site_id is None else _site(row, row.site_id),
    }


def _site(row: Row[Any], site_id: int | None = None) -> dict[str, Any]:
    return {
        "id": ids.show("sit", site_id if site_id is not None else row.id),
        "label": row.label,
        "line1": row.line1,
        "line2": row.line2,
        "city": row.city,
        "region": row.region,
        "postal_code": row.postal_code,
        "country": row.country,
        "location": None if row.lon is None else {"lon": row.lon, "lat": row.lat},
        "location_precision": row.location_precision,
        "precision_m": row.precision_m,
        "location_source": row.location_source,
        "placement": row.placement,
        "flags": row.flags,
        "is_primary": row.is_primary,
        "territory": ids.reference("ter", row.territory_id, row.territory_name),
    }


def _why(row: Row[Any]) -> dict[str, Any]:
    return {
        "territory_basis": row.basis,
        "territory_reason": row.reason,
        "territory_since": row.since,
        "territory_owner": ids.reference("usr", row.territory_owner_id, row.territory_owner_name),
    }


def _contact(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping) | {"id": ids.show("con", row.id)}
