"""Areas in drafts: put, delete, import; what an area is as of a version."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import shapely
from geoalchemy2.shape import from_shape, to_shape
from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from geocrm import errors, filters, ids
from geocrm.access import Actor
from geocrm.db import audit
from geocrm.db.models import Area, AreaSource, AreaVersion, LayerArea, LayerVersion
from geocrm.db.queries import named
from geocrm.errors import Invalid, NotFound, PreconditionFailed
from geocrm.spatial import layers, owners
from geocrm.spatial.outlines import Outline, read_outline

MAX_PRIORITY: Final = 1_000_000


class _Unset:
    """The value of a field that a caller leaves as it is."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final[Any] = _Unset()


@dataclass(frozen=True)
class PutArea:
    """An area as it stands in the draft: its stable id, its new version (the ETag), and what was mended."""

    area_id: int
    version: int
    notes: tuple[str, ...] = ()


@dataclass
class AreaImport:
    """What became of the rows of an import; a rejected row is {"row", "external_id", "pointer", "detail"}."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    area_ids: dict[str, int] = field(default_factory=dict)  # external id → area id


def put_area(
    session: Session,
    layer_id: int,
    version: int,
    area_id: int | None = None,
    *,
    actor: Actor,
    name: str = UNSET,
    geometry: Any = UNSET,
    rule: Any = UNSET,
    priority: int = UNSET,
    attributes: Mapping[str, Any] = UNSET,
    owner_id: int | None = UNSET,
    team_id: int | None = UNSET,
    if_match: int | None = None,
    crs: Any = None,
    repair: bool = False,
) -> PutArea:
    """Put an area into a draft, or change it there; what is left UNSET stays as it is.

    `geometry`: GeoJSON or shapely (None: no polygon), `rule`: the filter language on attributes (None: no rule),
    `priority`: the higher wins where polygons or rules overlap, `owner_id`, `team_id`: who owns the area from the
    version's effective time on (an active user, a team; a manager gives it to own team's). `if_match` is the area
    version that the caller read. Raises NotFound, Forbidden, Conflict (no draft), PreconditionFailed, InvalidGeometry,
    InvalidFilter, Invalid."""
    _, draft = layers.get_draft(session, layer_id, version, actor=actor)
    outline = None
    if geometry is not UNSET and geometry is not None:
        outline = read_outline(geometry, crs=crs, repair=repair)
    if rule is not UNSET:
        rule = read_rule(rule)
    return _put(
        session, actor, draft, area_id, name=name, geometry=geometry if outline is None else outline, rule=rule,
        priority=priority, attributes=attributes, owner_id=owner_id, team_id=team_id, if_match=if_match,
    )  # fmt: skip


def _put(
    session: Session, actor: Actor, draft: LayerVersion, area_id: int | None, *, name: Any, geometry: Any, rule: Any,
    priority: Any, attributes: Any, owner_id: Any, team_id: Any, if_match: int | None = None,
) -> PutArea:  # fmt: skip
    before: AreaVersion | None = None
    held: LayerArea | None = None
    if area_id is None:
        if name is UNSET:
            raise Invalid("An area needs a name.", errors=[{"pointer": "/name", "detail": "is missing"}])
        _check_name(name)
        area = Area(layer_id=draft.layer_id, name=name)
        session.add(area)
        session.flush()
    else:
        found = session.get(Area, area_id)
        if found is None or found.layer_id != draft.layer_id:
            raise NotFound(f"This layer has no area {ids.show('ter', area_id)}.")
        area = found
        held = session.get(LayerArea, (draft.layer_id, draft.version, area_id))
        if held is not None:
            before = session.get(AreaVersion, (area_id, held.area_version))
        if if_match is not None and (held is None or held.area_version != if_match):
            raise PreconditionFailed(
                f"The area {area.name!r} was changed in this draft since you read it; read it, then repeat your edit."
            )
    if name is not UNSET:
        _check_name(name)
    _check_priority(priority)
    standing = (_kept(before, area, "owner_id"), _kept(before, area, "team_id"))
    owners.check(
        session, actor, before=standing,
        owner_id=standing[0] if owner_id is UNSET else owner_id, team_id=standing[1] if team_id is UNSET else team_id,
    )  # fmt: skip
    notes: tuple[str, ...] = ()
    if isinstance(geometry, Outline):
        notes, geometry = geometry.notes, geometry.geometry
    given = {
        "name": None if name is UNSET else name, "geometry": geometry, "rule": rule, "priority": priority,
        "attributes": attributes, "owner_id": owner_id, "team_id": team_id,
    }  # fmt: skip
    number = int(session.scalar(select(func.max(AreaVersion.version)).where(AreaVersion.area_id == area.id)) or 0) + 1
    made = AreaVersion(area_id=area.id, version=number, **_values(given, area, before))
    session.add(made)
    session.flush()
    if held is None:
        session.add(
            LayerArea(layer_id=draft.layer_id, layer_version=draft.version, area_id=area.id, area_version=number)
        )
    else:
        held.area_version = number
    session.flush()
    if before is not None:
        _drop_unused(session, area.id, before.version)
        session.expunge(before)
    return PutArea(area.id, number, notes)


def _kept(before: AreaVersion | None, area: Area | None, what: str) -> int | None:
    """Who owns the area while a draft says nothing of it: as an earlier edit of the draft set it, or as it is."""
    if before is not None and before.sets_owner:
        return getattr(before, what)
    return None if area is None else getattr(area, what)


def _check_priority(priority: Any) -> None:
    if priority is UNSET:
        return
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_PRIORITY:
        raise Invalid(
            "The priority is a whole number.",
            errors=[{"pointer": "/priority", "detail": f"expected a whole number within ±{MAX_PRIORITY}"}],
        )


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not 0 < len(name.strip()) <= 200 or "\x00" in name:
        raise Invalid("An area needs a name.", errors=[{"pointer": "/name", "detail": "1 to 200 characters"}])


def read_rule(rule: Any, pointer: str = "/rule") -> dict[str, Any] | None:
    """A rule in its canonical form; None or an empty one is no rule. Raises InvalidFilter."""
    if rule is None:
        return None
    parsed = filters.parse(rule, use="rule", pointer=pointer)
    return parsed.to_json() if parsed else None


def _drop_unused(session: Session, area_id: int, version: int) -> None:
    """Forget an area version that only this draft had, replaced before anybody published it."""
    session.execute(
        text(
            "DELETE FROM area_versions v WHERE v.area_id = CAST(:area AS bigint) "
            "AND v.version = CAST(:version AS integer) "
            "AND NOT EXISTS (SELECT FROM layer_areas la WHERE la.area_id = v.area_id AND la.area_version = v.version) "
            "AND NOT EXISTS (SELECT FROM area_periods d WHERE d.area_id = v.area_id AND d.area_version = v.version) "
            "AND NOT EXISTS (SELECT FROM area_pieces p WHERE p.area_id = v.area_id AND p.version = v.version)"
        ),
        {"area": area_id, "version": version},
    )


def delete_area(
    session: Session, layer_id: int, version: int, area_id: int, *, actor: Actor, if_match: int | None = None
) -> None:
    """Take an area out of a draft; its named accounts go with it. Raises NotFound, PreconditionFailed."""
    layers.get_draft(session, layer_id, version, actor=actor)
    held = session.get(LayerArea, (layer_id, version, area_id))
    if held is None:
        raise NotFound(f"The draft {version} holds no area {ids.show('ter', area_id)}.")
    if if_match is not None and held.area_version != if_match:
        raise PreconditionFailed("The area was changed in this draft since you read it; read it again.")
    session.execute(
        text(named("territories_layers", "unname_area")), {"layer": layer_id, "version": version, "area": area_id}
    )
    session.delete(held)
    session.flush()


def import_areas(
    session: Session,
    layer_id: int,
    version: int,
    rows: Iterable[Mapping[str, Any]],
    *,
    actor: Actor,
    source: str,
    crs: Any = None,
    repair: bool = False,
    replace: bool = False,
    batch_id: int | None = None,
) -> AreaImport:
    """Put areas from a file into a draft, each by what the source calls it: known ones change, others are new.

    A row is a mapping with `external_id` and, each optional, `name`, `geometry` (shapely or GeoJSON), `rule`,
    `priority`, `owner_id`, `team_id`, `attributes`, and `row` (its number in the file). With `replace` the areas of
    the draft that no row names are taken out. A row that is not valid is rejected with the reason; the others go in.
    Nothing is written for rows that change nothing. All rows are held in memory."""
    _, draft = layers.get_draft(session, layer_id, version, actor=actor)
    draft.batch_id = batch_id or draft.batch_id
    session.flush()
    done = AreaImport()
    read: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        line, external = row.get("row", number), row.get("external_id")
        try:
            read[_external_id(external, read)] = _read_row(row, line, crs, repair, done)
        except errors.Invalid as fault:
            first = fault.errors[0] if fault.errors else {"pointer": "", "detail": fault.detail}
            done.rejected.append({"row": line, "external_id": external} | first)
    known = _known_areas(session, layer_id, source)
    held = _held_versions(session, layer_id, version)
    _check_owners(session, actor, read, done)
    changed: list[tuple[int, dict[str, Any]]] = []
    for external, given in read.items():
        area = known.get(external)
        if area is None:
            continue
        done.area_ids[external] = area.id
        stored = held.get(area.id)
        if stored is not None and _same(area, stored, given):
            done.unchanged += 1
        else:
            changed.append((area.id, _values(given, area, stored)))
            done.changed += 1
    fresh = [(external, given) for external, given in read.items() if external not in known]
    if fresh:
        made = session.scalars(
            insert(Area).returning(Area.id, sort_by_parameter_order=True),
            [{"layer_id": layer_id, "name": given["name"] or external} for external, given in fresh],
        ).all()
        for area_id, (external, given) in zip(made, fresh, strict=True):
            done.area_ids[external] = area_id
            changed.append((area_id, _values(given | {"name": given["name"] or external}, None, None)))
        done.new = len(fresh)
        named_so = [{"source": source, "external_id": e, "area_id": done.area_ids[e]} for e, _ in fresh]
        put = postgresql.insert(AreaSource)
        session.execute(
            put.on_conflict_do_update(index_elements=["source", "external_id"], set_={"area_id": put.excluded.area_id}),
            named_so,
        )
    _write_versions(session, draft, changed)
    if replace:
        kept = set(done.area_ids.values())
        for area_id in [area for area in held if area not in kept]:
            delete_area(session, layer_id, version, area_id, actor=actor)
    session.flush()
    audit.record(
        session, "areas.import", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("lay", layer_id),
        after={"version": version, "source": source, "new": done.new, "changed": done.changed,
               "unchanged": done.unchanged, "rejected": len(done.rejected)},
    )  # fmt: skip
    return done


def _external_id(external: Any, read: Mapping[str, Any]) -> str:
    if external is None or str(external) == "":
        raise Invalid("An area needs an identifier.", errors=[{"pointer": "/external_id", "detail": "is missing"}])
    if str(external) in read:
        raise Invalid(
            f"The identifier {external!r} occurs twice.",
            errors=[{"pointer": "/external_id", "detail": "occurs twice in the file"}],
        )
    return str(external)


def _read_row(row: Mapping[str, Any], line: Any, crs: Any, repair: bool, done: AreaImport) -> dict[str, Any]:
    """The fields of a row, checked; UNSET where the row says nothing."""
    given: dict[str, Any] = {"row": line, "geometry": row.get("geometry", UNSET), "name": row.get("name")}
    if given["name"]:
        _check_name(given["name"])
    for name in ("priority", "attributes"):
        value = row.get(name)
        given[name] = UNSET if value is None else value
    _check_priority(given["priority"])
    for name in ("owner_id", "team_id"):
        given[name] = row.get(name, UNSET)
    given["rule"] = read_rule(row["rule"]) if "rule" in row else UNSET
    if given["geometry"] is not UNSET and given["geometry"] is not None:
        outline = read_outline(given["geometry"], crs=crs, repair=repair)
        done.notes += [{"row": line, "external_id": row.get("external_id"), "detail": note} for note in outline.notes]
        given["geometry"] = outline.geometry
    return given


def _check_owners(session: Session, actor: Actor, read: dict[str, dict[str, Any]], done: AreaImport) -> None:
    wanted = {
        name: {given[name] for given in read.values() if given[name] is not UNSET and given[name] is not None}
        for name in ("owner_id", "team_id")
    }
    if not any(wanted.values()):
        return
    users, teams = owners.eligible(session, actor, wanted["owner_id"], wanted["team_id"])
    own = " in your team" if actor.role == "manager" else ""
    for name, eligible, pointer, detail in (
        ("owner_id", users, "/owner", f"no such active user{own}"),
        ("team_id", teams, "/team", "no such team" if not own else "no such team that is yours"),
    ):
        for external in [e for e, given in read.items() if given[name] in wanted[name] - eligible]:
            gone = read.pop(external)
            done.rejected.append({"row": gone["row"], "external_id": external, "pointer": pointer, "detail": detail})


def _known_areas(session: Session, layer_id: int, source: str) -> dict[str, Area]:
    rows = session.execute(
        select(AreaSource.external_id, Area)
        .join(Area, Area.id == AreaSource.area_id)
        .where(AreaSource.source == source, Area.layer_id == layer_id)
    )
    return {external: area for external, area in rows}  # noqa: C416


def _held_versions(session: Session, layer_id: int, version: int) -> dict[int, AreaVersion]:
    rows = session.scalars(
        select(AreaVersion)
        .join(LayerArea, (LayerArea.area_id == AreaVersion.area_id) & (LayerArea.area_version == AreaVersion.version))
        .where(LayerArea.layer_id == layer_id, LayerArea.layer_version == version)
    )
    return {stored.area_id: stored for stored in rows}


def _values(given: Mapping[str, Any], area: Area | None, before: AreaVersion | None) -> dict[str, Any]:
    """What an area version stores: what is given, else what stood before."""

    def kept(name: str, otherwise: Any) -> Any:
        return given[name] if given[name] is not UNSET else otherwise

    geometry = given["geometry"]
    if geometry is UNSET:
        stored: Any = None if before is None else before.geometry
    else:
        stored = None if geometry is None else from_shape(geometry, srid=4326)
    sets_owner = given["owner_id"] is not UNSET or given["team_id"] is not UNSET
    return {
        "name": given["name"] or (before.name if before else area.name if area else ""),
        "geometry": stored,
        "rule": kept("rule", before.rule if before else None),
        "priority": kept("priority", before.priority if before else 0),
        "attributes": dict(kept("attributes", before.attributes if before else {})),
        "sets_owner": sets_owner or bool(before and before.sets_owner),
        "owner_id": kept("owner_id", _kept(before, area, "owner_id")),
        "team_id": kept("team_id", _kept(before, area, "team_id")),
    }


def _write_versions(session: Session, draft: LayerVersion, changed: Sequence[tuple[int, dict[str, Any]]]) -> None:
    if not changed:
        return
    numbers = dict(
        session.execute(
            select(AreaVersion.area_id, func.max(AreaVersion.version))
            .where(AreaVersion.area_id.in_([area_id for area_id, _ in changed]))
            .group_by(AreaVersion.area_id)
        ).all()
    )
    versions = [values | {"area_id": a, "version": numbers.get(a, 0) + 1} for a, values in changed]
    session.execute(insert(AreaVersion), versions)
    put = postgresql.insert(LayerArea)
    session.execute(
        put.on_conflict_do_update(
            index_elements=["layer_id", "layer_version", "area_id"], set_={"area_version": put.excluded.area_version}
        ),
        [
            {"layer_id": draft.layer_id, "layer_version": draft.version, "area_id": v["area_id"],
             "area_version": v["version"]}
            for v in versions
        ],
    )  # fmt: skip
    session.expire_all()


def _same(area: Area, stored: AreaVersion, given: Mapping[str, Any]) -> bool:
    if given["name"] and given["name"] != stored.name:
        return False
    if any(given[k] is not UNSET and given[k] != getattr(stored, k) for k in ("rule", "priority", "attributes")):
        return False
    owner = stored if stored.sets_owner else area
    if any(given[k] is not UNSET and given[k] != getattr(owner, k) for k in ("owner_id", "team_id")):
        return False
    geometry = given["geometry"]
    if geometry is UNSET:
        return True
    present = shape_of(stored)
    if geometry is None or present is None:
        return geometry is None and present is None
    return bool(shapely.equals_exact(shapely.normalize(present), shapely.normalize(geometry), 0))


def shape_of(stored: AreaVersion) -> shapely.MultiPolygon | None:
    """The geometry of an area version, EPSG:4326."""
    return None if stored.geometry is None else to_shape(stored.geometry)


def get_area(session: Session, layer_id: int, version: int, area_id: int) -> tuple[Area, AreaVersion]:
    """An area as a version of its layer holds it; raises NotFound."""
    row = session.execute(
        select(Area, AreaVersion)
        .join(LayerArea, LayerArea.area_id == Area.id)
        .join(AreaVersion, (AreaVersion.area_id == Area.id) & (AreaVersion.version == LayerArea.area_version))
        .where(LayerArea.layer_id == layer_id, LayerArea.layer_version == version, Area.id == area_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"Version {version} holds no area {ids.show('ter', area_id)}.")
    return row[0], row[1]


def find_areas(
    session: Session, layer_id: int, version: int, *, after: int = 0, limit: int | None = None
) -> list[tuple[Area, AreaVersion]]:
    """The areas that a version of a layer holds, by id, from the one after `after` on."""
    query = (
        select(Area, AreaVersion)
        .join(LayerArea, LayerArea.area_id == Area.id)
        .join(AreaVersion, (AreaVersion.area_id == Area.id) & (AreaVersion.version == LayerArea.area_version))
        .where(LayerArea.layer_id == layer_id, LayerArea.layer_version == version, Area.id > after)
        .order_by(Area.id)
    )
    return [(area, held) for area, held in session.execute(query if limit is None else query.limit(limit))]
