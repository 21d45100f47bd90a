"""Take an import back: every current row becomes what it was before, exactly; ledger and audit keep their history.

Rows that were edited since, by a person or a later import, are conflicts: the undo is refused with their list, or
leaves them alone where that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import SYSTEM, Actor
from geocrm.db import audit
from geocrm.db.engine import Database, open_database
from geocrm.db.models import Base, ImportBatch
from geocrm.db.queries import named
from geocrm.errors import Conflict
from geocrm.ingest.batches import PERMISSION, find_batch, summary
from geocrm.settings import get_settings
from geocrm.spatial import layers, ledger

SQL = "import_undo"
MAX_CONFLICTS_SHOWN = 1000
_PREFIX = {
    "customer": "cus",
    "site": "sit",
    "contact": "con",
    "sale": "sal",
    "interaction": "int",
    "place": "pla",
    "product": "prd",
}


def check(session: Session, batch_id: int) -> None:
    """Raise Conflict, with the list, where the batch cannot be undone as a whole. Writes nothing."""
    trial = session.begin_nested()
    try:
        batch = _open(session, batch_id)
        conflicts = _find_conflicts(session, batch)
    finally:
        trial.rollback()
    if conflicts:
        raise _conflict(conflicts)


def find_conflicts(session: Session, batch_id: int) -> list[dict[str, Any]]:
    """What stands in the way of undoing a batch: [{"id", "line", "reason"}]. Writes nothing."""
    trial = session.begin_nested()
    try:
        return _find_conflicts(session, _open(session, batch_id))
    finally:
        trial.rollback()


def undo(
    batch_id: int, *, database: Database | None = None, skip_conflicts: bool = False, actor: Actor | None = None
) -> dict[str, Any]:
    """Undo a batch in a transaction of its own; its summary. On failure the batch is done as before, and the error is
    raised.
    """
    database = database or open_database(get_settings())
    try:
        with database.writing() as session:
            take_back(session, batch_id, actor or SYSTEM, skip_conflicts=skip_conflicts)
            return summary(session, batch_id)
    except Exception:
        with database.writing() as session:
            session.execute(
                text("UPDATE import_batches SET status = 'done' WHERE id = CAST(:id AS bigint) AND status = 'undoing'"),
                {"id": batch_id},
            )
        raise


def take_back(session: Session, batch_id: int, actor: Actor, *, skip_conflicts: bool = False) -> list[dict[str, Any]]:
    """Undo a batch in the session's transaction; the conflicts that were left alone. Raises Conflict, NotFound,
    Forbidden.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(7305417300 + CAST(:id AS bigint))"), {"id": batch_id})
    batch = _open(session, batch_id)
    access.require(actor, PERMISSION[batch.kind])
    conflicts = _find_conflicts(session, batch)
    if conflicts and not skip_conflicts:
        raise _conflict(conflicts)
    run = _Runner(session, batch)
    if batch.kind == "areas":
        _discard_drafts(session, batch, actor)
    else:
        run("spare_customers")
        run("spare")
        run("changed")
        session.execute(text("ALTER TABLE changed_customers ADD PRIMARY KEY (customer_id)"))
        _restore(run)
        ledger.evaluate_bulk(session, actor=actor, reason=f"undo of import {ids.show('imp', batch_id)}")
    counts = dict(batch.counts or {}) | {"left_alone": len(conflicts)}
    session.execute(
        text(
            "UPDATE import_batches SET status = 'undone', counts = CAST(:counts AS jsonb) WHERE id = CAST(:id AS "
            "bigint)"
        ),
        {"counts": json.dumps(counts), "id": batch_id},
    )
    audit.record(
        session,
        "import.undo",
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=ids.show("imp", batch_id),
        after={"left_alone": len(conflicts)},
    )
    return conflicts


class _Runner:
    """Runs the named queries of an undo."""

    def __init__(self, session: Session, batch: ImportBatch) -> None:
        self.session = session
        self.values = {"batch_id": batch.id, "source": batch.source}

    def __call__(self, name: str, slots: Mapping[str, str] | None = None, **values: Any) -> Any:
        statement = named(SQL, name)
        for slot, fragment in (slots or {}).items():
            statement = statement.replace("{" + slot + "}", fragment)
        bound = {key: value for key, value in (self.values | values).items() if f":{key}" in statement}
        return self.session.execute(text(statement), bound)


def _open(session: Session, batch_id: int) -> ImportBatch:
    batch = find_batch(session, batch_id)
    if batch.status not in ("done", "undoing"):
        raise Conflict(f"This import is {batch.status}; only one that is done can be undone.")
    return batch


def _conflict(conflicts: list[dict[str, Any]]) -> Conflict:
    count = len(conflicts)
    return Conflict(
        f"{count:,} {'row was' if count == 1 else 'rows were'} edited since this import; undo all others, or mend "
        f"these first.",
        errors=[
            {"pointer": f"/{entry['id']}", "detail": entry["reason"], "line": entry["line"]}
            for entry in conflicts[:MAX_CONFLICTS_SHOWN]
        ],
        conflicts=count,
    )


def _find_conflicts(session: Session, batch: ImportBatch) -> list[dict[str, Any]]:
    run = _Runner(session, batch)
    run("parts")
    run("conflicts")
    match batch.kind:
        case "customers":
            run("new_objects", {"object": "r.customer_id"}, part="customer")
            session.execute(text("ANALYZE undo_parts"))
            run("customer_conflicts")
            _families(run)
        case "sales":
            run("new_objects", {"object": "r.object_id"}, part="sale")
            run("customers_made")
            session.execute(text("ANALYZE undo_parts"))
            run("customer_conflicts")
            run("plain_conflicts", {"table": "sales"}, part="sale")
        case "interactions":
            run("new_objects", {"object": "r.object_id"}, part="interaction")
            run("versioned_conflicts", {"table": "interactions"}, part="interaction")
        case "places":
            run("new_objects", {"object": "r.object_id"}, part="place")
            run("versioned_conflicts", {"table": "places"}, part="place")
            run("place_conflicts")
        case "products":
            run("new_objects", {"object": "r.object_id"}, part="product")
            run("plain_conflicts", {"table": "products"}, part="product")
            run("product_conflicts")
        case "areas":
            return _published_drafts(session, batch)
    rows = session.execute(
        text("SELECT part, object_id, line_no, reason FROM undo_conflicts ORDER BY line_no, part, object_id")
    ).all()
    return [
        {"id": ids.show(_PREFIX[row.part], row.object_id), "line": row.line_no, "reason": row.reason} for row in rows
    ]


def _families(run: _Runner) -> None:
    while run("family_conflicts").rowcount:
        continue


def _restore(run: _Runner) -> None:
    session = run.session
    of_customer = "AND t.customer_id = p.customer_id"
    # sales before customers, who may go with them
    run("tell_changed")
    run("delete_sales")
    run("restore_sales", _columns("sales"))
    run("restore_lines", _columns("sale_lines"))
    run("forget_sales")
    run("move_sales_back")
    run("delete_products")
    run("delete_interactions")
    run("restore_interactions", _columns("interactions"))
    run("forget_interactions")
    run("move_interactions_back")
    for part, sources, column in (("place", "place_sources", "place_id"), ("product", "product_sources", "product_id")):
        table = {"table": f"{part}s"}
        run("forget_objects", {"sources": sources, "id": column}, part=part)
        run("delete_rows", table | {"and_customer": ""}, part=part)
        run("restore_rows", table | _columns(f"{part}s") | {"and_customer": ""}, part=part)
    run("forget_sites")
    run("forget_customers")
    for derived in ("segment_members", "scores", "audience_members", "exposures", "automation_runs"):
        run("forget_derived", {"table": derived})
    session.execute(
        text(
            "UPDATE customers c SET parent_id = NULL FROM undo_parts p WHERE p.part = 'customer' AND p.before IS "
            "NULL AND c.id = p.object_id"
        )
    )
    for part in ("contact", "site"):
        table = {"table": f"{part}s", "and_customer": of_customer}
        run("delete_rows", table, part=part)
        run("restore_rows", table | _columns(f"{part}s"), part=part)
    table = {"table": "customers", "and_customer": ""}
    run("restore_rows", table | _columns("customers"), part="customer")
    run("delete_rows", table, part="customer")


def _columns(table: str) -> dict[str, str]:
    names = [column.name for column in Base.metadata.tables[table].columns]
    return {"columns": ", ".join(names), "record": ", ".join(f"r.{name}" for name in names)}


def _published_drafts(session: Session, batch: ImportBatch) -> list[dict[str, Any]]:
    rows = session.execute(
        text(
            "SELECT y.key, v.version, v.status FROM layer_versions v JOIN layers y ON y.id = v.layer_id "
            "WHERE v.batch_id = CAST(:id AS bigint) AND v.status IN ('published', 'scheduled')"
        ),
        {"id": batch.id},
    ).all()
    return [
        {
            "id": f"{row.key} version {row.version}",
            "line": 0,
            "reason": f"the draft is {row.status}; publish the former version of the layer instead",
        }
        for row in rows
    ]


def _discard_drafts(session: Session, batch: ImportBatch, actor: Actor) -> None:
    drafts = session.execute(
        text("SELECT layer_id, version FROM layer_versions WHERE batch_id = CAST(:id AS bigint) AND status = 'draft'"),
        {"id": batch.id},
    ).all()
    for draft in drafts:
        layers.discard_draft(session, draft.layer_id, draft.version, actor=actor)
