"""Publishing versions of a layer: in one transaction, from an effective time on, re-evaluating only what can change.

A version published now, or for a time past, is in force from its effective time until the next scheduled version. One
published for later is scheduled: sites are evaluated under it already, `make_due_current` makes it current at its time.
What is published while another version waits is carried into the waiting one, where that one did not change the same
area or name itself; so a move by hand today is not undone by a plan made yesterday for next month.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import SYSTEM, Actor
from geocrm.db import audit
from geocrm.db.models import Layer, LayerVersion
from geocrm.db.queries import named
from geocrm.errors import Conflict, Forbidden, Invalid
from geocrm.spatial import layers, ledger

ALWAYS: Final = datetime(1, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Published:
    """What publishing did. `moved` counts sites whose area is another one than before (at the effective time, or now
    where that is past), `rebased` those whose area stays for another reason, `concerned` those looked at."""

    layer_id: int
    version: int
    status: str
    effective_from: datetime
    moved: int
    rebased: int
    concerned: int
    rows: int
    merged: bool  # what others published since the draft was begun was taken in


@dataclass(frozen=True)
class Plan:
    """A publication worked out in the work tables, not yet written to the ledger."""

    layer: Layer
    version: int
    parent: int | None
    effective_from: datetime
    now: datetime
    recorded: datetime
    in_force: ledger.LayerInForce | None
    concerned: int
    merged: bool


def publish(
    session: Session,
    layer_id: int,
    version: int,
    *,
    actor: Actor,
    reason: str,
    effective_from: datetime | None = None,
    overwrite: bool = False,
    now: datetime | None = None,
) -> Published:
    """Publish a draft from `effective_from` on (default now; earlier re-states, later schedules).

    Only what the draft changes is evaluated again: sites in the difference of old and new geometry, customers touched
    by a changed rule or name. What others published since the draft was begun is taken in; where both changed the same
    area, Conflict is raised, unless `overwrite`. A manager publishes only what concerns own team's territories, and
    re-states only what was own team's all the time since. Raises NotFound, Forbidden, Conflict, Invalid (no reason).
    Needs the worker's role."""
    if not reason or not reason.strip():
        raise Invalid("Say why you publish this.", errors=[{"pointer": "/reason", "detail": "is missing"}])
    layers.require_publishing(actor, layers.get_layer(session, layer_id))
    foreign = _foreign_since(session, actor, layer_id, effective_from)
    plan = work_out(
        session, layer_id, version, actor=actor, effective_from=effective_from, overwrite=overwrite, now=now,
        reason=reason,
    )  # fmt: skip
    _require_own_areas(session, actor, layer_id, version, plan.parent)
    _require_own_past(session, plan, foreign)
    moved, rebased = count_moves(session)
    rows = 0
    if plan.in_force is not None:
        require_reach(session, actor, plan)
        ledger.queue_contradictions(session, plan.in_force, now=plan.now)
        rows = ledger.write_changes(
            session, plan.in_force, actor=actor, reason=reason, now=plan.now, recorded=plan.recorded, edit=False
        )
    session.execute(
        text(
            "UPDATE layer_versions SET status = 'published', effective_from = CAST(:begin AS timestamptz), "
            "published_at = CAST(:now AS timestamptz), actor_id = CAST(:actor AS bigint), "
            "reason = CAST(:reason AS text) "
            "WHERE layer_id = CAST(:layer AS bigint) AND version = CAST(:version AS integer)"
        ),
        {"begin": plan.effective_from, "now": plan.now, "actor": actor.user_id, "reason": reason, "layer": layer_id,
         "version": version},
    )  # fmt: skip
    _follow(session, plan.layer, plan.in_force, now=plan.now)
    status = layers.get_version(session, layer_id, version).status
    audit.record(
        session, "layer.publish", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("lay", layer_id),
        before={"version": plan.parent},
        after={"version": version, "status": status, "effective_from": plan.effective_from.isoformat(),
               "reason": reason, "moved": moved},
    )  # fmt: skip
    return Published(
        layer_id=layer_id, version=version, status=status, effective_from=plan.effective_from, moved=moved,
        rebased=rebased, concerned=plan.concerned, rows=rows, merged=plan.merged,
    )  # fmt: skip


def work_out(
    session: Session,
    layer_id: int,
    version: int,
    *,
    actor: Actor,
    reason: str | None,
    effective_from: datetime | None,
    overwrite: bool,
    now: datetime | None,
) -> Plan:
    """Put a draft in force and compute who moves, without writing the ledger: `ledger_new` holds what it should say of
    the sites concerned, `ledger_moves` who moves. Preview rolls this back, publishing goes on."""
    session.flush()
    session.execute(select(Layer.id).where(Layer.id == layer_id).with_for_update())
    layer, draft = layers.get_draft(session, layer_id, version, actor=actor)
    make_due_current(session, layer_id=layer_id, now=now)
    ledger.begin(session)
    moment, recorded = ledger.clock(session, now)
    begin = effective_from or moment
    if begin.tzinfo is None:
        begin = begin.replace(tzinfo=UTC)
    if not 1 < begin.year < 9999:
        raise Invalid("The effective time is out of range.", errors=[{"pointer": "/effective_from", "detail": "year"}])
    _adopt_loaded(session, layer)
    start_before = _start(session, layer_id)
    parent = layers.in_force_at(session, layer_id, max(begin, moment))
    merged = _rebase(session, draft, parent, overwrite)
    _put_in_force(session, layer_id, version, parent, begin=begin, now=moment, recorded=recorded)
    ledger.derive_periods(session, layer_id, begin=begin)
    values = {"layer": layer_id, "version": version, "parent": parent, "begin": begin, "actor": actor.user_id}
    session.execute(text(named("territories_layers", "owners_end")), values)
    session.execute(text(named("territories_layers", "owners_begin")), values | {"reason": reason})
    if layer.kind != "territories":
        if asked_for := ledger.areas_in_pieces(session, layer_id):
            ledger.make_pieces(session, layer_id, _ahead(session, layer_id, begin), asked_for)
        return Plan(layer, version, parent, begin, moment, recorded, None, 0, merged)
    ledger.make_pieces(session, layer_id, _ahead(session, layer_id, begin))
    in_force = ledger.layers_in_force(session, layer_id, now=now)[0]
    concerned = _find_concerned(session, everybody=start_before is None or in_force.start != start_before)
    bulk = concerned >= ledger.BULK_AT
    if bulk:
        session.execute(text("ANALYZE ledger_sites"))
    ledger.expect(session, in_force, now=moment, bulk=bulk)
    session.execute(text(named("territories", "moves")), {"layer": layer_id, "moment": max(begin, moment)})
    return Plan(layer, version, parent, begin, moment, recorded, in_force, concerned, merged)


def make_lookable(session: Session, layer_id: int, area_ids: Sequence[int]) -> None:
    """Let points be looked up in these areas of a layer, whatever its kind, from now on: publishing keeps it so. In
    exclusive layers they always can; what was done once is not done again."""
    layer = session.scalars(select(Layer).where(Layer.id == layer_id).with_for_update(key_share=True)).one()
    _adopt_loaded(session, layer)
    in_force = session.scalars(
        text(
            "SELECT version FROM layer_periods WHERE layer_id = CAST(:layer AS bigint) AND superseded_at IS NULL"
            " AND coalesce(valid_to, 'infinity') > now()"
        ),
        {"layer": layer_id},
    ).all()
    ledger.make_pieces(session, layer_id, in_force, area_ids)


def _adopt_loaded(session: Session, layer: Layer) -> None:
    if layer.current_version is None or _start(session, layer.id) is not None:
        return
    version = layers.get_version(session, layer.id, layer.current_version)
    ledger.adopt(
        session, layer.id, version.version, version.effective_from or version.published_at or version.created_at
    )


def _start(session: Session, layer_id: int) -> datetime | None:
    return session.scalar(
        text(
            "SELECT min(valid_from) FROM layer_periods "
            "WHERE layer_id = CAST(:layer AS bigint) AND superseded_at IS NULL"
        ),
        {"layer": layer_id},
    )


def _ahead(session: Session, layer_id: int, begin: datetime) -> list[int]:
    return list(
        session.scalars(
            text(
                "SELECT version FROM layer_periods WHERE layer_id = CAST(:layer AS bigint) AND superseded_at IS NULL "
                "AND valid_from >= CAST(:begin AS timestamptz)"
            ),
            {"layer": layer_id, "begin": begin},
        )
    )


def _rebase(session: Session, draft: LayerVersion, parent: int | None, overwrite: bool) -> bool:
    """Take into the draft what was published since it was begun."""
    base = draft.based_on
    if base is None or parent is None or base == parent:
        return False
    layer_id, version = draft.layer_id, draft.version
    areas, customers = layers.conflicts(session, layer_id, ours=version, base=base, theirs=parent)
    if (areas or customers) and not overwrite:
        said = ", ".join([*areas[:10], *(str(ids.show("cus", c)) for c in customers[:10])])
        raise Conflict(
            f"Version {parent} was published since this draft was begun and changed the same: {said}. "
            "Make the change anew on a draft of what is in force, or publish with overwrite.",
            areas=areas,
            customers=[ids.show("cus", c) for c in customers],
        )
    layers.carry_over(session, layer_id, ours=version, base=base, theirs=parent)
    session.expire(draft, ["based_on"])
    return True


def _put_in_force(
    session: Session,
    layer_id: int,
    version: int,
    parent: int | None,
    *,
    begin: datetime,
    now: datetime,
    recorded: datetime,
) -> None:
    """Write `layer_periods`, and carry the change into versions that are scheduled for later."""
    values = {"layer": layer_id, "moment": max(begin, now)}
    later = session.execute(text(named("territories_layers", "scheduled_after")), values).all()
    end: Any = later[0].valid_from if later else "infinity"
    period = {"layer": layer_id, "recorded": recorded}
    session.execute(
        text(named("territories_periods", "layer_in_force")), period | {"version": version, "begin": begin, "end": end}
    )
    base, theirs = parent, version
    for waiting in later:
        number = _copy_version(session, layer_id, waiting.version)
        if base is not None:
            layers.carry_over(session, layer_id, ours=number, base=base, theirs=theirs)
        session.execute(
            text(named("territories_periods", "layer_in_force")),
            period | {"version": number, "begin": waiting.valid_from, "end": waiting.valid_to or "infinity"},
        )
        base, theirs = waiting.version, number


def _copy_version(session: Session, layer_id: int, source: int) -> int:
    """A scheduled version anew under the next number, so that what was recorded of the old one stays true."""
    old = layers.get_version(session, layer_id, source)
    number = int(session.scalar(text(named("territories_layers", "next_version")), {"layer": layer_id}) or 1)
    session.add(
        LayerVersion(
            layer_id=layer_id,
            version=number,
            status="scheduled",
            based_on=old.based_on,
            effective_from=old.effective_from,
            published_at=old.published_at,
            actor_id=old.actor_id,
            reason=old.reason,
            batch_id=old.batch_id,
        )
    )
    session.flush()
    values = {"layer": layer_id, "version": number, "source": source}
    session.execute(text(named("territories_layers", "copy_areas")), values)
    session.execute(text(named("territories_layers", "copy_names")), values)
    return number


def _find_concerned(session: Session, *, everybody: bool) -> int:
    """Fill `ledger_sites` with the sites that the changed periods can concern; returns how many."""
    if everybody:
        return session.execute(text(named("territories", "sites_all"))).rowcount  # type: ignore[attr-defined]
    session.execute(text(named("territories_periods", "pairs")))
    session.execute(text(named("territories_periods", "zone")))
    session.execute(text("ANALYZE ledger_zone"))
    session.execute(text(named("territories_periods", "concerned_by_zone")))
    session.execute(text(named("territories_periods", "concerned_by_name")))
    rules = session.execute(text(named("territories_periods", "changed_rules"))).all()
    for first in range(0, len(rules), ledger.RULES_AT_ONCE):
        conditions, values = [], dict[str, Any]()
        for number, rule in enumerate(rules[first : first + ledger.RULES_AT_ONCE]):
            condition, bound = ledger.rule_condition(rule.rule, f"r{number}")
            conditions.append(f"({condition})")
            values |= bound
        query = named("territories_periods", "concerned_by_rule").replace("{rules}", " OR ".join(conditions))
        session.execute(text(query), values)
    return session.execute(text(named("territories_periods", "sites_concerned"))).rowcount  # type: ignore[attr-defined]


def count_moves(session: Session) -> tuple[int, int]:
    """Sites in `ledger_moves` whose area changes, and those whose basis alone does."""
    row = session.execute(
        text(
            "SELECT count(*) FILTER (WHERE from_area_id IS DISTINCT FROM to_area_id) AS moved, "
            "count(*) FILTER (WHERE from_area_id IS NOT DISTINCT FROM to_area_id "
            "AND from_basis IS NOT NULL) AS rebased "
            "FROM ledger_moves"
        )
    ).one()
    return int(row.moved), int(row.rebased)


def _bound_to_team(actor: Actor) -> bool:
    return actor.role == "manager"


def _require_own_areas(session: Session, actor: Actor, layer_id: int, version: int, parent: int | None) -> None:
    """A manager changes only areas that own team owns, before and after."""
    if not _bound_to_team(actor):
        return
    changed = session.execute(
        text(named("territories_layers", "changed_areas")), {"layer": layer_id, "version": version, "parent": parent}
    )
    for area in changed:
        owners = [(area.new_owner_id, area.new_team_id)] if area.sets_owner else []
        if area.owner_id is not None or area.team_id is not None or not owners:
            owners.append((area.owner_id, area.team_id))
        if not all(owner in actor.owners or team in actor.team_ids for owner, team in owners):
            raise Forbidden(
                f"You publish your own team's territories; {area.name!r} is not, or would not be, your team's."
            )


def _foreign_since(session: Session, actor: Actor, layer_id: int, effective_from: datetime | None) -> dict[int, str]:
    """Areas by id that are not of a manager's team, or were another's at some time since `effective_from`; asked before
    owners are written anew. Nothing for whom it does not bind."""
    if effective_from is None or not _bound_to_team(actor):
        return {}
    session.execute(select(Layer.id).where(Layer.id == layer_id).with_for_update())
    rows = session.execute(
        text(named("territories_layers", "foreign_since")),
        {"layer": layer_id, "begin": effective_from, "owners": list(actor.owners), "teams": list(actor.team_ids)},
    )
    return {row.id: row.name for row in rows}


def _require_own_past(session: Session, plan: Plan, foreign: Mapping[int, str]) -> None:
    """Raise Forbidden where a version for a time past changes what holds or held of a foreign area since then."""
    if not foreign or plan.effective_from >= plan.now:
        return
    values: dict[str, Any] = {
        "layer": plan.layer.id, "version": plan.version, "begin": plan.effective_from, "now": plan.now,
        "recorded": plan.recorded,
    }  # fmt: skip
    held = session.execute(text(named("territories_layers", "was_in_force")), values).all()
    versions: list[int | None] = [row.version for row in held]
    if not any(row.valid_from <= plan.effective_from for row in held):
        versions.append(None)  # nothing was in force at first
    changed: set[int] = set()
    for former in versions:
        rows = session.execute(text(named("territories_layers", "changed_areas")), values | {"parent": former})
        changed |= {row.area_id for row in rows}
    if plan.in_force is not None:
        changed |= set(session.scalars(text(named("territories", "moved_since")), values))
    hurt = sorted(changed & foreign.keys())
    if hurt:
        raise Forbidden(
            f"You re-state only your own team's past; from {plan.effective_from:%Y-%m-%d} on this would change "
            f"{foreign[hurt[0]]!r}, which is not, or was not then, your team's."
        )


def require_reach(session: Session, actor: Actor, plan: Plan) -> None:
    """A manager moves customers only between own team's territories, or in and out of none."""
    if not _bound_to_team(actor):
        return
    foreign = session.execute(
        text(
            "SELECT a.name "
            "FROM (SELECT from_area_id AS id FROM ledger_moves UNION SELECT to_area_id FROM ledger_moves) m "
            "JOIN areas a ON a.id = m.id "
            "LEFT JOIN area_owners o ON o.area_id = a.id AND o.valid_from <= CAST(:moment AS timestamptz) "
            "AND (o.valid_to IS NULL OR o.valid_to > CAST(:moment AS timestamptz)) "
            "WHERE NOT coalesce(coalesce(o.owner_id, a.owner_id) = ANY (CAST(:owners AS bigint[])), false) "
            "AND NOT coalesce(coalesce(o.team_id, a.team_id) = ANY (CAST(:teams AS bigint[])), false) "
            "ORDER BY a.id LIMIT 1"
        ),
        {"owners": list(actor.owners), "teams": list(actor.team_ids), "moment": max(plan.effective_from, plan.now)},
    ).scalar()
    if foreign is not None:
        raise Forbidden(f"You publish your own team's territories; this would move customers in or out of {foreign!r}.")


def _follow(session: Session, layer: Layer, in_force: ledger.LayerInForce | None, *, now: datetime) -> None:
    """Make all that says what is current follow: versions, names and owners of areas, named accounts, columns."""
    values = {"layer": layer.id, "now": now}
    for query in ("versions_follow", "current_follows", "areas_follow"):
        session.execute(text(named("territories_layers", query)), values)
    session.expire_all()
    if in_force is None:
        return
    session.execute(text(named("territories_periods", "named_accounts_follow")), values)
    if not in_force.is_primary:
        return
    ledger.make_changed_customers(session)
    session.execute(text(named("territories", "sites_follow_and_tell")), values)
    query = named("territories", "customers_follow")
    session.execute(text(query.replace("{customers}", "SELECT customer_id FROM changed_customers")))
    ledger.refresh_changed_customers(session)


def undo(
    session: Session,
    layer_id: int,
    *,
    actor: Actor,
    reason: str,
    version: int | None = None,
    now: datetime | None = None,
) -> Published:
    """Publish a former version again, from now on: by default the one before the version in force."""
    layer = layers.get_layer(session, layer_id)
    if version is None:
        current = layer.current_version
        version = None if current is None else layers.get_version(session, layer_id, current).based_on
        if version is None:
            raise Conflict(f"The layer {layer.key!r} has no former version to go back to.")
    if layers.get_version(session, layer_id, version).published_at is None:
        raise Conflict(f"Version {version} was never in force; publish it as a draft.")
    draft = layers.create_draft(session, layer_id, actor=actor, source=version)
    return publish(session, layer_id, draft.version, actor=actor, reason=reason, now=now)


def move(
    session: Session,
    layer_id: int,
    customers: Mapping[int, int],
    *,
    actor: Actor,
    reason: str,
    effective_from: datetime | None = None,
    now: datetime | None = None,
) -> Published:
    """Move customers by hand: each (customer id → area id) becomes a named account of a new version, published at once.

    Raises NotFound, Forbidden, Conflict, Invalid like publishing."""
    layer = layers.get_layer(session, layer_id)
    if layer.kind != "territories":
        raise Invalid(f"The areas of the layer {layer.key!r} may overlap; nobody is moved between them.")
    if layer.current_version is None:
        raise Conflict(f"The layer {layer.key!r} has no version in force yet; publish one first.")
    draft = layers.create_draft(session, layer_id, actor=actor)
    layers.name_accounts(session, layer_id, draft.version, customers.items(), actor=actor)
    return publish(session, layer_id, draft.version, actor=actor, reason=reason, effective_from=effective_from, now=now)


def make_due_current(session: Session, *, layer_id: int | None = None, now: datetime | None = None) -> list[int]:
    """Make scheduled versions current whose time has come; returns the ids of the layers. Meant to run every minute.

    The ledger says already what holds from then on; this makes sight, lookups and the queue follow."""
    due = session.execute(text(named("territories_layers", "due")), {"now": now, "layer": layer_id}).all()
    for row in due:
        layer = layers.get_layer(session, row.id)
        in_force = next(iter(ledger.layers_in_force(session, row.id, now=row.now)), None)
        if in_force is not None and layer.kind == "territories":
            ledger.begin(session)
            session.execute(text(named("territories_periods", "work_tables")))
            ledger.empty(session, "ledger_concerned")
            session.execute(
                text(named("territories_periods", "sites_ahead")),
                {"layer": row.id, "since": row.since or ALWAYS, "now": row.now},
            )
            session.execute(text(named("territories_periods", "sites_concerned")))
            ledger.expect(session, in_force, now=row.now, bulk=True)
            ledger.queue_contradictions(session, in_force, now=row.now)
        _follow(session, layer, in_force, now=row.now)
        audit.record(
            session,
            "layer.due",
            actor_id=SYSTEM.user_id,
            object_id=ids.show("lay", row.id),
            after={"version": session.scalar(select(Layer.current_version).where(Layer.id == row.id))},
        )
    return [row.id for row in due]
