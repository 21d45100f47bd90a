"""The ledger of territory assignments: for each site and exclusive layer the area, basis, reason, actor, valid time
and recording time.

First match wins: named account, then rule, then polygon; higher priority, then lowest area id. What the ledger should
say of a site is computed for all time at once, from the periods in which areas and names are in force (past versions,
the present one, scheduled ones), and only the rows that differ are written; rows are superseded, never deleted.

Three things decide since when a new state of affairs counts:

* A site that the ledger does not know is taken to have been as it is for all the time of the layer.
* A change of a known customer counts from now on. Where it changes any answer, a row begins now, marked `by_edit`.
* A version counts from its effective time on, but not before the last change of a site: what the site was before
  that, nobody knows any more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import filters
from geocrm.access import Actor
from geocrm.db.models import Customer, Site
from geocrm.db.queries import named
from geocrm.spatial import ledger_bulk, lookup

RULES_AT_ONCE: Final = 40
BULK_AT: Final = 1000
"""From this many sites on, statistics are gathered before the large joins."""

REFRESH_LIST_AT_MOST: Final = 2000
"""Up to this many customers, lookups are refreshed by a list of ids."""

WORK_TABLES: Final = (
    "ledger_sites", "ledger_work", "ledger_candidates", "ledger_new", "ledger_moves", "ledger_found",
)  # fmt: skip

_LIST: Final = "(SELECT DISTINCT unnest(CAST(:ids AS bigint[])) AS customer_id)"
_TABLE: Final = "changed_customers"


@dataclass(frozen=True)
class LayerInForce:
    """An exclusive layer that has been published: since when, and what its areas are made of."""

    id: int
    is_primary: bool
    start: datetime
    flat: bool  # every area holds for all the layer's time
    has_polygons: bool  # at present
    has_rules: bool  # at any time


def evaluate(
    session: Session,
    customer_ids: Iterable[int],
    *,
    actor: Actor,
    reason: str,
    now: datetime | None = None,
) -> int:
    """Assign all sites of these customers anew, on every exclusive layer, now and under scheduled versions.

    To be called after a customer or site was created, edited, moved, re-placed or deleted, in the same transaction.
    Writes `assignments`, the queue of contradictions, `sites.territory_id` and `customers.territory_ids`, and makes the
    lookup rows follow. `now` is the moment from which the change counts, by default the transaction's. Returns the
    number of ledger rows written. Needs the worker's role."""
    ids = sorted({int(i) for i in customer_ids})
    if not ids:
        return 0
    written = _evaluate(session, _LIST, {"ids": ids}, actor=actor, reason=reason, now=now, bulk=len(ids) >= BULK_AT)
    refresh_lookups(session, ids)
    return written


def evaluate_bulk(session: Session, *, actor: Actor, reason: str, now: datetime | None = None) -> int:
    """The same for the customers of the temporary table `changed_customers(customer_id bigint primary key)`.

    Made for imports: millions of customers in a few statements, in bounded memory (temporary tables)."""
    session.flush()
    session.execute(text("ANALYZE changed_customers"))
    written = _assign_new(session, actor=actor, reason=reason, now=now)
    if written is None:
        written = _evaluate(session, _TABLE, {}, actor=actor, reason=reason, now=now, bulk=True)
    refresh_lookups(session, None)
    return written


def _assign_new(session: Session, *, actor: Actor, reason: str, now: datetime | None) -> int | None:
    """The fast way for customers whom the ledger does not know; None where it does not apply."""
    if not ledger_bulk.all_new(session):
        return None
    layers = polygon_layers(session, now=now)
    if layers is None or any(ledger_bulk.has_named(session, layer.id) for layer in layers):
        return None
    moment, recorded = clock(session, now)
    return sum(
        ledger_bulk.assign_new(session, layer, actor=actor, reason=reason, now=moment, recorded=recorded)
        for layer in layers
    )


def polygon_layers(session: Session, *, now: datetime | None = None) -> list[ledger_bulk.PolygonLayer] | None:
    """The layers in force, locked against publishing, with their polygons in memory; None where one of them is more
    than polygons that hold for all its time."""
    opened = []
    for layer in layers_in_force(session, now=now):
        found = (
            ledger_bulk.open_layer(session, layer.id, is_primary=layer.is_primary, start=layer.start)
            if layer.flat
            else None
        )
        if found is None:
            return None
        opened.append(found)
    return opened


def _evaluate(
    session: Session,
    changed: str,
    values: dict[str, Any],
    *,
    actor: Actor,
    reason: str,
    now: datetime | None,
    bulk: bool,
) -> int:
    session.flush()
    begin(session, bulk=bulk)
    layers = layers_in_force(session, now=now)
    moment, recorded = clock(session, now)
    times = {"now": moment, "recorded": recorded}
    session.execute(text(named("territories", "sites_of_customers").replace("{changed}", changed)), values)
    if bulk:
        session.execute(text("ANALYZE ledger_sites"))
    session.execute(text(named("territories", "close_gone_sites").replace("{changed}", changed)), values | times)
    written = 0
    for layer in layers:
        expect(session, layer, now=moment, bulk=bulk)
        queue_contradictions(session, layer, now=moment)
        written += write_changes(session, layer, actor=actor, reason=reason, now=moment, recorded=recorded, edit=True)
    primary = next((layer for layer in layers if layer.is_primary), None)
    follow(session, primary, f"SELECT customer_id FROM {changed} AS changed", values, now=moment)
    return written


def begin(session: Session, *, bulk: bool = False) -> None:
    """Make the work tables, empty."""
    session.execute(text(named("territories", "work_tables")))
    empty(session, *WORK_TABLES, bulk=bulk)


def empty(session: Session, *tables: str, bulk: bool = False) -> None:
    """Empty temporary tables: few rows by DELETE, which touches no file, many by TRUNCATE."""
    session.execute(text(f"TRUNCATE {', '.join(tables)}" if bulk else "; ".join(f"DELETE FROM {t}" for t in tables)))


def _count(result: Any) -> int:
    return int(result.rowcount)


def clock(session: Session, now: datetime | None) -> tuple[datetime, datetime]:
    """The moment from which a change counts and the moment at which it is recorded."""
    row = session.execute(
        text("SELECT coalesce(CAST(:now AS timestamptz), now()) AS moment, clock_timestamp() AS recorded"), {"now": now}
    ).one()
    return row.moment, row.recorded


def layers_in_force(
    session: Session, layer_id: int | None = None, *, now: datetime | None = None
) -> list[LayerInForce]:
    """Exclusive layers that have been published, locked against publishing until the transaction ends."""
    for row in session.execute(text(named("territories_layers", "unknown_periods"))).all():
        adopt(session, row.id, row.version, row.effective_from)
    found = session.execute(text(named("territories_layers", "in_force")), {"layer": layer_id, "now": now})
    return [
        LayerInForce(
            id=r.id,
            is_primary=r.is_primary,
            start=r.start,
            flat=r.flat,
            has_polygons=r.has_polygons,
            has_rules=r.has_rules,
        )
        for r in found
    ]


def adopt(session: Session, layer_id: int, version: int, effective_from: datetime) -> None:
    """Take a version that was loaded as published: write the periods and pieces that publishing would have written."""
    recorded = clock(session, None)[1]
    values = {
        "layer": layer_id, "version": version, "begin": effective_from, "end": "infinity", "recorded": recorded,
    }  # fmt: skip
    session.execute(text(named("territories_periods", "layer_in_force")), values)
    derive_periods(session, layer_id, begin=effective_from)
    make_pieces(session, layer_id, [version])


def areas_in_pieces(session: Session, layer_id: int) -> list[int]:
    """The areas of a layer in which points can be looked up; exclusive layers aside, those that somebody asked for."""
    return list(
        session.scalars(
            text(
                "SELECT a.id FROM areas a WHERE a.layer_id = CAST(:layer AS bigint)"
                " AND EXISTS (SELECT FROM area_pieces p WHERE p.area_id = a.id)"
            ),
            {"layer": layer_id},
        )
    )


def make_pieces(
    session: Session, layer_id: int, versions: Iterable[int], area_ids: Iterable[int] | None = None
) -> None:
    """Cut the geometries of these versions, or of these areas in them, into pieces, where that was not done yet."""
    made = 0
    only = None if area_ids is None else list(area_ids)
    for version in versions:
        made += (
            session.scalar(
                text(
                    "SELECT geocrm_make_pieces(CAST(:layer AS bigint), CAST(:version AS integer),"
                    " CAST(:areas AS bigint[]))"
                ),
                {"layer": layer_id, "version": version, "areas": only},
            )
            or 0
        )
    if made >= BULK_AT:
        session.execute(text("SELECT geocrm_analyze_areas()"))


def derive_periods(session: Session, layer_id: int, *, begin: datetime) -> None:
    """Write the periods of areas and names from `begin` on, as the versions in force say; the changes stand in
    `ledger_area_changes` and `ledger_name_changes`."""
    session.execute(text(named("territories_periods", "work_tables")))
    empty(session, "ledger_area_changes", "ledger_name_changes", "ledger_pairs", "ledger_zone", "ledger_concerned")
    for name in (
        "area_changes", "area_changes_remove", "area_changes_add",
        "name_changes", "name_changes_remove", "name_changes_add",
    ):  # fmt: skip
        session.execute(text(named("territories_periods", name)), {"layer": layer_id, "begin": begin})


def expect(session: Session, layer: LayerInForce, *, now: datetime, bulk: bool) -> None:
    """Compute what the ledger should say of the sites in `ledger_sites` on this layer, into `ledger_new`."""
    empty(session, *WORK_TABLES[1:], bulk=bulk)
    values = {"layer": layer.id, "start": layer.start}
    session.execute(text(named("territories", "work")), values)
    if bulk:
        session.execute(text("ANALYZE ledger_work"))
    has_names = _count(session.execute(text(named("territories", "candidates_named")), values)) > 0
    if layer.has_rules:
        _rule_candidates(session, layer)
    session.execute(text(named("territories", "candidates_polygon")), values)
    if bulk:
        session.execute(text("ANALYZE ledger_candidates"))
    flat = layer.flat and not has_names
    session.execute(text(named("territories", "expected_flat" if flat else "expected")), values)


def _rule_candidates(session: Session, layer: LayerInForce) -> None:
    rules = session.execute(text(named("territories_layers", "rules")), {"layer": layer.id}).all()
    for first in range(0, len(rules), RULES_AT_ONCE):
        branches, values = [], dict[str, Any](layer=layer.id)
        for number, rule in enumerate(rules[first : first + RULES_AT_ONCE]):
            condition, bound = rule_condition(rule.rule, f"r{number}")
            branches.append(
                f"SELECT CAST(:area{number} AS bigint), CAST(:version{number} AS integer) WHERE {condition}"
            )
            values |= bound | {f"area{number}": rule.area_id, f"version{number}": rule.version}
        query = named("territories", "candidates_rule").replace("{rules}", " UNION ALL ".join(branches))
        session.execute(text(query), values)


def rule_condition(rule: Any, prefix: str) -> tuple[str, dict[str, Any]]:
    """A rule as SQL over customers c and sites s, and its bound values."""
    compiled = filters.parse(rule, use="rule", reader=filters.Reader(), pointer="/rule").compile(
        "site", schema="public"
    )
    # every `:` of the condition is a bound value's: attribute names and values are bound too
    return compiled.named(prefix), compiled.params(prefix)


def queue_contradictions(session: Session, layer: LayerInForce, *, now: datetime) -> None:
    """Make the queue follow for the sites just computed."""
    values = {"layer": layer.id, "start": layer.start, "now": now, "has_polygons": layer.has_polygons}
    session.execute(text(named("territories", "found")), values)
    session.execute(text(named("territories", "queue")), {"layer": layer.id, "now": now})


def write_changes(
    session: Session,
    layer: LayerInForce,
    *,
    actor: Actor,
    reason: str | None,
    now: datetime,
    recorded: datetime,
    edit: bool,
) -> int:
    """Write what differs between the ledger and `ledger_new`; returns the number of rows written.

    With `edit` the difference comes from a change of the customers and counts from now on; without, from a version of
    the layer and counts from the version's time on."""
    values = {"layer": layer.id, "recorded": recorded, "actor": actor.user_id, "reason": reason, "now": now}
    known = session.scalar(text("SELECT EXISTS (SELECT FROM ledger_work WHERE known)"))
    if not known:
        return _count(session.execute(text(named("territories", "write_new")), values))
    session.execute(text(named("territories", "unchanged")), {"layer": layer.id})
    if edit:
        session.execute(text(named("territories", "from_now_on")), {"layer": layer.id, "now": now})
    return _count(session.execute(text(named("territories", "write")), values))


def follow(
    session: Session, primary: LayerInForce | None, customers: str, values: dict[str, Any], *, now: datetime
) -> None:
    """Make `sites.territory_id` and `customers.territory_ids` follow the ledger of the primary layer."""
    if primary is not None:
        session.execute(text(named("territories", "sites_follow")), {"layer": primary.id, "now": now})
    session.execute(text(named("territories", "customers_follow").replace("{customers}", customers)), values)
    for known in session.identity_map.values():
        if isinstance(known, Customer):
            session.expire(known, ["territory_ids"])
        elif isinstance(known, Site):
            session.expire(known, ["territory_id"])


def make_changed_customers(session: Session) -> None:
    """Make the temporary table `changed_customers`, which bulk refreshing reads, empty."""
    session.execute(text("DROP TABLE IF EXISTS pg_temp.changed_customers"))
    session.execute(text("CREATE TEMP TABLE changed_customers (customer_id bigint PRIMARY KEY) ON COMMIT DROP"))


def refresh_changed_customers(session: Session) -> int:
    """Make the lookup rows of the customers in `changed_customers` follow and drop the table; returns how many."""
    count = int(session.scalar(text("SELECT count(*) FROM changed_customers")) or 0)
    if 0 < count <= REFRESH_LIST_AT_MOST:
        refresh_lookups(session, list(session.scalars(text("SELECT customer_id FROM changed_customers"))))
    elif count:
        refresh_lookups(session, None)
    session.execute(text("DROP TABLE IF EXISTS pg_temp.changed_customers"))
    return count


def refresh_lookups(session: Session, ids: list[int] | None) -> None:
    """Make the lookup rows follow (None: those of the table `changed_customers`)."""
    if ids is None:
        lookup.refresh_bulk(session)
    else:
        lookup.refresh(session, ids)
