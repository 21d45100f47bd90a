"""Areas in drafts: put, delete, import; what an area is as of a version."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import shapely
from geoalchemy2.shape import from_shape, to_shape
from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from geocrm import errors, filters, ids
from geocrm.access import Actor
from geocrm.db import audit
from geocrm.db.models import Area, AreaSource, AreaVersion, LayerArea, LayerVersion, User
from geocrm.db.queries import named
from geocrm.errors import Invalid, NotFound, PreconditionFailed
from geocrm.spatial import layers
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
    version's effective time on. `if_match` is the area version that the caller read. Raises NotFound, Forbidden, Conflict
    (no draft), PreconditionFailed, InvalidGeometry, InvalidFilter, Invalid."""
    _, draft = layers.get_draft(session, layer_id, version, actor=actor)
    outline = None
    if geometry is not UNSET and geometry is not None:
        outline = read_outline(geometry, crs=crs, repair=repair)
    if rule is not UNSET:
        rule = read_rule(rule)
    return _put(
        session, draft, area_id, name=name, geometry=geometry if outline is None else outline, rule=rule,
        priority=priority, attributes=attributes, owner_id=owner_id, team_id=team_id, if_match=if_match,
    )  # fmt: skip


def _put(
    session: Session, draft: LayerVersion, area_id: int | None, *, name: Any, geometry: Any, rule: Any, priority: Any,
    attributes: Any, owner_id: Any, team_id: Any, if_match: int | None = None,
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
                f"The area {area.name!r} was changed in this draft since you read it; read it again, then repeat your edit."
            )
    if name is not UNSET:
        _check_name(name)
    if priority is not UNSET and (
        isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_PRIORITY
    ):
        raise Invalid(
            "The priority is a whole number.",
            errors=[{"pointer": "/priority", "detail": f"expected a whole number within ±{MAX_PRIORITY}"}],
        )
    if owner_id is not UNSET and owner_id is not None and session.get(User, owner_id) is None:
        raise Invalid(
            f"There is no user {ids.show('usr', owner_id)}.", errors=[{"pointer": "/owner", "detail": "no such user"}]
        )
    notes: tuple[str, ...] = ()
    stored: Any = before.geometry if before is not None else None
    if isinstance(geometry, Outline):
        notes = geometry.notes
        stored = from_shape(geometry.geometry, srid=4326)
    elif geometry is None:
        stored = None
    sets_owner = owner_id is not UNSET or team_id is not UNSET
    number = int(session.scalar(select(func.max(AreaVersion.version)).where(AreaVersion.area_id == area.id)) or 0) + 1
    made = AreaVersion(
        area_id=area.id,
        version=number,
        name=name if name is not UNSET else before.name if before else area.name,
        geometry=stored,
        rule=rule if rule is not UNSET else before.rule if before else None,
        priority=priority if priority is not UNSET else before.priority if before else 0,
        attributes=dict(attributes) if attributes is not UNSET else before.attributes if before else {},
        sets_owner=sets_owner or bool(before and before.sets_owner),
        owner_id=owner_id if owner_id is not UNSET else _kept(before, area, "owner_id"),
        team_id=team_id if team_id is not UNSET else _kept(before, area, "team_id"),
    )
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


def _kept(before: AreaVersion | None, area: Area, what: str) -> int | None:
    """Who owns the area while a draft says nothing of it: as an earlier edit of the draft set it, or as it is."""
    return getattr(before if before is not None and before.sets_owner else area, what)


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
            "DELETE FROM area_versions v WHERE v.area_id = CAST(:area AS bigint) AND v.version = CAST(:version AS integer) "
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
    `priority`, `owner_id`, `team_id`, `attributes`, and `row` (its number in the file). With `replace` the areas of the
    draft that no row names are taken out. A row that is not valid is rejected with the reason; the others go in. Nothing
    is written for rows that change nothing."""
    _, draft = layers.get_draft(session, layer_id, version, actor=actor)
    draft.batch_id = batch_id or draft.batch_id
    known = {
        external: area
        for external, area in session.execute(
            select(AreaSource.external_id, AreaSource.area_id)
            .join(Area, Area.id == AreaSource.area_id)
            .where(AreaSource.source == source, Area.layer_id == layer_id)
        )
    }
    held = {
        area: area_version
        for area, area_version in session.execute(
            select(LayerArea.area_id, LayerArea.area_version).where(
                LayerArea.layer_id == layer_id, LayerArea.layer_version == version
            )
        )
    }
    done = AreaImport()
    for number, row in enumerate(rows, start=1):
        line, external = row.get("row", number), row.get("external_id")
        try:
            if external is None or str(external) == "":
                raise Invalid(
                    "An area needs an identifier.", errors=[{"pointer": "/external_id", "detail": "is missing"}]
                )
            external = str(external)
            if external in done.area_ids:
                raise Invalid(
                    f"The identifier {external!r} occurs twice.",
                    errors=[{"pointer": "/external_id", "detail": "occurs twice in the file"}],
                )
            area_id = _import_row(
                session, draft, source, row, external, known.get(external), held, done, crs, repair, line
            )
            done.area_ids[external] = area_id
        except errors.Invalid as fault:
            first = fault.errors[0] if fault.errors else {"pointer": "", "detail": fault.detail}
            done.rejected.append({"row": line, "external_id": external} | first)
    if replace:
        kept = set(done.area_ids.values())
        gone = [area for area in held if area not in kept]
        session.execute(
            delete(LayerArea).where(
                LayerArea.layer_id == layer_id, LayerArea.layer_version == version, LayerArea.area_id.in_(gone)
            )
        )
    session.flush()
    audit.record(
        session, "areas.import", actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("lay", layer_id),
        after={"version": version, "source": source, "new": done.new, "changed": done.changed,
               "unchanged": done.unchanged, "rejected": len(done.rejected)},
    )  # fmt: skip
    return done


def _import_row(
    session: Session, draft: LayerVersion, source: str, row: Mapping[str, Any], external: str, area_id: int | None,
    held: Mapping[int, int], done: AreaImport, crs: Any, repair: bool, line: Any,
) -> int:  # fmt: skip
    geometry = row.get("geometry", UNSET)
    if geometry is not UNSET and geometry is not None:
        geometry = read_outline(geometry, crs=crs, repair=repair)
        done.notes += [{"row": line, "external_id": external, "detail": note} for note in geometry.notes]
    rule = row.get("rule", UNSET)
    if rule is not UNSET:
        rule = read_rule(rule)
    given = {
        "name": row.get("name") or (UNSET if area_id is not None else external),
        "geometry": geometry,
        "rule": rule,
        "priority": row.get("priority", UNSET) if row.get("priority") is not None else UNSET,
        "attributes": row.get("attributes", UNSET) if row.get("attributes") is not None else UNSET,
        "owner_id": row.get("owner_id", UNSET),
        "team_id": row.get("team_id", UNSET),
    }
    if area_id is not None and area_id in held and _same(session, area_id, held[area_id], given):
        done.unchanged += 1
        return area_id
    put = _put(session, draft, area_id, **given)
    if area_id is None:
        session.merge(AreaSource(source=source, external_id=external, area_id=put.area_id))
        done.new += 1
    else:
        done.changed += 1
    return put.area_id


def _same(session: Session, area_id: int, version: int, given: Mapping[str, Any]) -> bool:
    stored = session.get(AreaVersion, (area_id, version))
    area = session.get(Area, area_id)
    if stored is None or area is None:
        return False
    if any(
        given[k] is not UNSET and given[k] != getattr(stored, k) for k in ("name", "rule", "priority", "attributes")
    ):
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
    return bool(shapely.equals_exact(shapely.normalize(present), shapely.normalize(geometry.geometry), 0))


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
