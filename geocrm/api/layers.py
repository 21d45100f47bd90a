"""Layers and their areas: versions, drafts, named accounts, preview, publish, undo."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

import shapely
from fastapi import Path, Query, Request, Response
from pydantic import AfterValidator, Field, model_validator
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, filters, ids
from geocrm.access import Actor
from geocrm.api import geojson, pages
from geocrm.api.customer_edits import Attributes
from geocrm.api.dependencies import (
    CanDraftAreas,
    CanPublishAreas,
    CanReadLayers,
    IfMatch,
    Reading,
    Writing,
    etag,
    router,
)
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import AreaId, Body, CustomerId, Flag, Name, Named, Page, Shown, TeamId, UserId, When
from geocrm.db import queue
from geocrm.db.models import Area, AreaVersion, Layer, LayerVersion
from geocrm.errors import Invalid, NotFound
from geocrm.spatial import areas, layers

routes = router("Layers")

LayerKind = Literal["territories", "trading_areas", "reference"]
LayerName = Annotated[
    str,
    Path(
        pattern="^lay_[A-Za-z0-9_-]{1,60}$",
        description="lay_ and the layer's number or key.",
        examples=["lay_sales"],
    ),
]
VersionNumber = Annotated[int, Path(ge=1, le=2_000_000_000, examples=[4])]


def _small(value: dict[str, Any]) -> dict[str, Any]:
    kind = value.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError("expected a Polygon or MultiPolygon of GeoJSON")
    if not isinstance(value.get("coordinates"), list):
        raise ValueError("coordinates are missing")
    return value


Geometry = Annotated[
    dict[str, Any],
    AfterValidator(_small),
    Field(
        examples=[
            {"type": "Polygon", "coordinates": [[[-105.3, 39.5], [-104.6, 39.5], [-104.6, 40.1], [-105.3, 39.5]]]}
        ],
        json_schema_extra={
            "required": ["type", "coordinates"],
            "properties": {"type": {"enum": ["Polygon", "MultiPolygon"]}, "coordinates": {"type": "array"}},
        },
    ),
]
Rule = Annotated[
    dict[str, Any],
    Field(
        description="The filter language on attributes of the customer and its address.",
        examples=[{"all": [{"field": "region", "op": "=", "value": "CO"}]}],
    ),
]


class ShownLayer(Shown):
    """A set of areas."""

    id: str = Field(examples=["lay_1"])
    key: str = Field(examples=["sales"])
    name: str
    kind: str
    is_primary: bool = Field(description="The sales layer: its territories stand on sites and grant sight.")
    current_version: int | None
    areas: int = Field(description="How many areas the version in force has.")


class Layers(Shown):
    """All layers."""

    data: list[ShownLayer]


class NewLayer(Body):
    """A layer without versions yet."""

    key: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,60}$", examples=["service"])]
    name: Annotated[Name, Field(max_length=200, examples=["Service regions"])]
    kind: LayerKind = Field(examples=["territories"])
    is_primary: Flag = False


class ShownVersion(Shown):
    """A version of a layer."""

    id: str = Field(examples=["lay_1/4"])
    layer_id: str
    version: int
    status: str = Field(description="draft, scheduled, published or retired.")
    based_on: int | None
    effective_from: datetime | None
    published_at: datetime | None
    by: str | None
    reason: str | None
    areas: int


class Versions(Shown):
    """All versions of a layer, newest first."""

    data: list[ShownVersion]


class NewDraft(Body):
    """What the draft begins with."""

    source: Literal["published", "empty"] | Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)] = Field(
        "published",
        alias="from",
        description="What is in force, nothing, or what a former version had (publishing that undoes what came after).",
    )


class ShownArea(Shown):
    """An area of a layer, as one version has it."""

    id: str = Field(examples=["ter_3"])
    name: str
    owner: Named | None
    team: Named | None
    priority: int
    rule: dict[str, Any] | None
    rule_sentence: str | None = Field(examples=["region CO"])
    attributes: dict[str, Any]
    version: int = Field(description="Of the area itself: its ETag in a draft.")
    has_geometry: bool
    geometry: dict[str, Any] | None = Field(description="GeoJSON, where it was asked for.")


class ChangedArea(ShownArea):
    """An area as it stands in the draft now, and what was mended in its outline."""

    notes: list[str]


class NewArea(Body):
    """An area: a polygon, a rule, or both."""

    name: Annotated[Name, Field(max_length=200, examples=["Northwest"])]
    geometry: Geometry | None = None
    rule: Rule | None = None
    priority: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)] = 0
    attributes: Attributes = Field(default_factory=dict)
    owner_id: UserId | None = None
    team_id: TeamId | None = None
    repair: Flag = Field(False, description="Mend an invalid outline, and say what was mended, instead of refusing it.")


class AreaChanges(Body):
    """What to change; fields left out stay. `null` takes polygon, rule or owner away."""

    name: Annotated[Name | None, Field(max_length=200)] = None
    geometry: Geometry | None = None
    rule: Rule | None = None
    priority: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)] | None = Field(None, examples=[1])
    attributes: Attributes | None = None
    owner_id: UserId | None = None
    team_id: TeamId | None = None
    repair: Flag = False

    @model_validator(mode="after")
    def _needed(self) -> "AreaChanges":
        for name in ("name", "priority", "attributes"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class NamedAccount(Body):
    """A customer that belongs to an area by name."""

    customer_id: CustomerId
    area_id: AreaId


class NamedAccounts(Body):
    """Who is named, and who no longer."""

    add: Annotated[list[NamedAccount], Field(max_length=10_000)] = Field(default_factory=list)
    remove: Annotated[list[CustomerId], Field(max_length=10_000)] = Field(default_factory=list, examples=[["cus_7"]])


class ShownNamedAccount(Shown):
    """A customer that belongs to an area by name."""

    customer: Named
    area_id: str


class Preview(Body):
    """From when the draft would be in force."""

    effective_from: When | None = None


class Publish(Body):
    """From when, and why."""

    reason: Annotated[Name, Field(max_length=500, examples=["Boulder joins the north"])]
    effective_from: When | None = Field(None, description="Left out: now. Earlier re-states, later schedules.")
    overwrite: Flag = Field(False, description="Where both changed an area since the draft began, take the draft's.")


class UndoLayer(Body):
    """Which former version, and why."""

    reason: Annotated[Name, Field(max_length=500, examples=["The split was a mistake"])]
    version: Annotated[int | None, Field(strict=True, ge=1, le=2_000_000_000)] = Field(
        None, description="Left out: the one before the version in force."
    )


class StartedJob(Shown):
    """The job that does it; ask for it until it is done."""

    job_id: str = Field(examples=["job_12"])


# ---------------------------------------------------------------- layers and versions


def open_layer(session: Session, name: str) -> Layer:
    """The layer behind `lay_3` or `lay_sales`; raises NotFound."""
    rest = name.removeprefix("lay_")
    if rest.isdigit() and len(rest) < 19:
        try:
            return layers.get_layer(session, int(rest))
        except NotFound:
            pass
    return layers.get_layer(session, rest)


def _layer(session: Session, layer: Layer) -> dict[str, Any]:
    held = 0 if layer.current_version is None else layers.count_areas(session, layer.id, layer.current_version)
    return {
        "id": ids.show("lay", layer.id),
        "key": layer.key,
        "name": layer.name,
        "kind": layer.kind,
        "is_primary": layer.is_primary,
        "current_version": layer.current_version,
        "areas": held,
    }


def _version(session: Session, version: LayerVersion) -> dict[str, Any]:
    return {
        "id": f"{ids.show('lay', version.layer_id)}/{version.version}",
        "layer_id": ids.show("lay", version.layer_id),
        "version": version.version,
        "status": version.status,
        "based_on": version.based_on,
        "effective_from": version.effective_from,
        "published_at": version.published_at,
        "by": ids.show("usr", version.actor_id),
        "reason": version.reason,
        "areas": layers.count_areas(session, version.layer_id, version.version),
    }


@routes.get("/layers", operation_id="list_layers", response_model=Layers, summary="List layers")
def list_layers(session: Reading, actor: CanReadLayers) -> object:
    """All layers, the primary one first."""
    return {"data": [_layer(session, layer) for layer in layers.find_layers(session)]}


@routes.post(
    "/layers", status_code=201, operation_id="create_layer", response_model=ShownLayer, summary="Create a layer"
)
def create_layer(session: Writing, actor: CanPublishAreas, once: Idempotent, new: NewLayer) -> Response:
    """A layer without versions; draft and publish one next."""

    def produce() -> tuple[Any, dict[str, str]]:
        layer = layers.create_layer(session, actor=actor, **new.model_dump())
        found = _layer(session, layer)
        return found, {"Location": f"/v1/layers/{found['id']}"}

    return once.answer(session, actor, produce, shape=ShownLayer)


@routes.get("/layers/{layer}", operation_id="get_layer", response_model=ShownLayer, summary="One layer")
def get_layer(session: Reading, actor: CanReadLayers, layer: LayerName) -> object:
    """One layer."""
    return _layer(session, open_layer(session, layer))


@routes.get(
    "/layers/{layer}/versions", operation_id="list_layer_versions", response_model=Versions, summary="List versions"
)
def list_layer_versions(session: Reading, actor: CanReadLayers, layer: LayerName) -> object:
    """All versions of a layer, newest first: published and retired; drafts and scheduled ones for who may draft."""
    found = open_layer(session, layer)
    drafts = layers.may_draft(actor, found)
    versions = [row for row in layers.find_versions(session, found.id) if drafts or layers.was_published(row)]
    return {"data": [_version(session, version) for version in versions]}


@routes.get(
    "/layers/{layer}/areas",
    operation_id="list_areas",
    response_model=Page[ShownArea],
    summary="List areas",
    responses={200: {"content": {geojson.MEDIA_TYPE: {"schema": geojson.SCHEMA}}}},
)
def list_areas(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadLayers,
    layer: LayerName,
    version: Annotated[
        int | None, Query(ge=1, le=2_000_000_000, description="Left out: the version in force.", examples=[4])
    ] = None,
    geometry: Annotated[bool, Query(description="With outlines; GeoJSON always has them.")] = False,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """The areas of a version, by id; those of drafts and scheduled versions for who may draft. With
    `Accept: application/geo+json` a FeatureCollection."""
    found = open_layer(session, layer)
    chosen = version if version is not None else found.current_version
    if version is not None:
        layers.require_reading(session, actor, found, version)
    key = pages.read(cursor, int)
    rows: list[tuple[Area, AreaVersion]] = []
    if chosen is not None:
        rows = areas.find_areas(session, found.id, chosen, after=key[0] if key else 0, limit=limit + 1)
    wanted = geojson.wanted(request)
    shown = _areas(session, found, rows, geometry=geometry or wanted)
    made = pages.page(request, response, shown, limit, lambda row: [ids.read(("ter", "are"), row["id"])])
    return geojson.answer(made, response) if wanted else made


@routes.get(
    "/layers/{layer}/versions/{version}/areas/{area_id}",
    operation_id="get_area",
    response_model=ShownArea,
    summary="One area",
)
def get_area(
    response: Response,
    session: Reading,
    actor: CanReadLayers,
    layer: LayerName,
    version: VersionNumber,
    area_id: AreaId,
) -> object:
    """An area as a version has it, with its outline; its ETag is for edits in a draft."""
    found = open_layer(session, layer)
    layers.require_reading(session, actor, found, version)
    area, held = areas.get_area(session, found.id, version, area_id)
    response.headers["ETag"] = etag(held.version)
    return _areas(session, found, [(area, held)], geometry=True)[0]


def _areas(
    session: Session, layer: Layer, rows: Iterable[tuple[Area, AreaVersion]], *, geometry: bool
) -> list[dict[str, Any]]:
    held = list(rows)
    owners = {(stored if stored.sets_owner else area).owner_id for area, stored in held}
    teams = {(stored if stored.sets_owner else area).team_id for area, stored in held}
    users = names_of(session, "users", owners)
    team_names = names_of(session, "teams", teams)
    prefix = "ter" if layer.kind == "territories" else "are"
    shown = []
    for area, stored in held:
        owner = stored if stored.sets_owner else area
        shown.append(
            {
                "id": ids.show(prefix, area.id),
                "name": stored.name,
                "owner": ids.reference("usr", owner.owner_id, users.get(owner.owner_id)),
                "team": ids.reference("tea", owner.team_id, team_names.get(owner.team_id)),
                "priority": stored.priority,
                "rule": stored.rule,
                "rule_sentence": filters.parse(stored.rule, use="rule").sentence() if stored.rule else None,
                "attributes": stored.attributes,
                "version": stored.version,
                "has_geometry": stored.geometry is not None,
                "geometry": _outline(stored) if geometry else None,
            }
        )
    return shown


def _outline(stored: AreaVersion) -> dict[str, Any] | None:
    shape = areas.shape_of(stored)
    return None if shape is None else json.loads(str(shapely.to_geojson(shape)))


def names_of(session: Session, table: Literal["users", "teams"], numbers: set[int | None]) -> dict[int | None, str]:
    """Names of users or teams by number."""
    rows = session.execute(
        text(f"SELECT id, name FROM {table} WHERE id = ANY (CAST(:ids AS bigint[]))"),
        {"ids": [number for number in numbers if number is not None]},
    )
    return {row.id: row.name for row in rows}


# ---------------------------------------------------------------- drafts


@routes.post(
    "/layers/{layer}/drafts",
    status_code=201,
    operation_id="create_draft",
    response_model=ShownVersion,
    summary="Begin a draft",
)
def create_draft(session: Writing, actor: CanDraftAreas, once: Idempotent, layer: LayerName, new: NewDraft) -> Response:
    """A version to edit; nobody is moved before it is published."""

    def produce() -> tuple[Any, dict[str, str]]:
        found = open_layer(session, layer)
        draft = layers.create_draft(session, found.id, actor=actor, source=new.source)
        shown = _version(session, draft)
        return shown, {"Location": f"/v1/layers/{shown['layer_id']}/versions"}

    return once.answer(session, actor, produce, shape=ShownVersion)


@routes.delete(
    "/layers/{layer}/drafts/{version}", status_code=204, operation_id="discard_draft", summary="Discard a draft"
)
def discard_draft(session: Writing, actor: CanDraftAreas, layer: LayerName, version: VersionNumber) -> None:
    """It becomes retired without ever having been in force."""
    layers.discard_draft(session, open_layer(session, layer).id, version, actor=actor)


@routes.post(
    "/layers/{layer}/drafts/{version}/areas",
    status_code=201,
    operation_id="add_area",
    response_model=ChangedArea,
    summary="Add an area to a draft",
)
def add_area(
    session: Writing,
    actor: CanDraftAreas,
    once: Idempotent,
    layer: LayerName,
    version: VersionNumber,
    new: NewArea,
) -> Response:
    """An invalid outline is refused with the place of its fault, or mended where you ask for it."""

    def produce() -> tuple[Any, dict[str, str]]:
        found = open_layer(session, layer)
        put = areas.put_area(session, found.id, version, actor=actor, **new.model_dump())
        return _changed(session, found, version, put), {"ETag": etag(put.version)}

    return once.answer(session, actor, produce, shape=ChangedArea)


@routes.put(
    "/layers/{layer}/drafts/{version}/areas/{area_id}",
    operation_id="edit_area",
    response_model=ChangedArea,
    summary="Change an area in a draft",
)
def edit_area(
    response: Response,
    session: Writing,
    actor: CanDraftAreas,
    layer: LayerName,
    version: VersionNumber,
    area_id: AreaId,
    expected: IfMatch,
    changed: AreaChanges,
) -> object:
    """Fields left out stay."""
    found = open_layer(session, layer)
    layers.get_draft(session, found.id, version, actor=actor)
    _, held = areas.get_area(session, found.id, version, area_id)
    expected.check(held.version)
    values = changed.model_dump(exclude_unset=True)
    put = areas.put_area(session, found.id, version, area_id, actor=actor, **values)
    response.headers["ETag"] = etag(put.version)
    return _changed(session, found, version, put)


@routes.delete(
    "/layers/{layer}/drafts/{version}/areas/{area_id}",
    status_code=204,
    operation_id="delete_area",
    summary="Take an area out of a draft",
)
def delete_area(
    session: Writing,
    actor: CanDraftAreas,
    layer: LayerName,
    version: VersionNumber,
    area_id: AreaId,
    expected: IfMatch,
) -> None:
    """Its named accounts go with it."""
    found = open_layer(session, layer)
    layers.get_draft(session, found.id, version, actor=actor)
    _, held = areas.get_area(session, found.id, version, area_id)
    expected.check(held.version)
    areas.delete_area(session, found.id, version, area_id, actor=actor)


def _changed(session: Session, layer: Layer, version: int, put: areas.PutArea) -> dict[str, Any]:
    area, held = areas.get_area(session, layer.id, version, put.area_id)
    return _areas(session, layer, [(area, held)], geometry=True)[0] | {"notes": list(put.notes)}


# ---------------------------------------------------------------- named accounts


@routes.get(
    "/layers/{layer}/versions/{version}/named-accounts",
    operation_id="list_named_accounts",
    response_model=Page[ShownNamedAccount],
    summary="List named accounts",
)
def list_named_accounts(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanReadLayers,
    layer: LayerName,
    version: VersionNumber,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """The customers that you see among those who belong to an area by name, by id."""
    found = open_layer(session, layer)
    layers.require_reading(session, actor, found, version)
    key = pages.read(cursor, int)
    named = layers.named_accounts(session, found.id, version)
    prefix = "ter" if found.kind == "territories" else "are"
    with access.as_user(session, actor):
        rows = session.execute(
            text(
                "SELECT id, name FROM customers WHERE id = ANY (CAST(:ids AS bigint[])) AND id > CAST(:after AS bigint)"
                " ORDER BY id LIMIT CAST(:limit AS bigint)"
            ),
            {"ids": list(named), "after": key[0] if key else 0, "limit": limit + 1},
        ).all()
    shown: list[dict[str, Any]] = [
        {"customer": {"id": f"cus_{row.id}", "name": row.name}, "area_id": ids.show(prefix, named[row.id])}
        for row in rows
    ]
    return pages.page(request, response, shown, limit, lambda row: [int(row["customer"]["id"].removeprefix("cus_"))])


@routes.put(
    "/layers/{layer}/drafts/{version}/named-accounts",
    status_code=204,
    operation_id="change_named_accounts",
    summary="Name accounts in a draft",
)
def change_named_accounts(
    session: Writing, actor: CanDraftAreas, layer: LayerName, version: VersionNumber, changed: NamedAccounts
) -> None:
    """Customers that belong to an area by name, before any rule or polygon, and customers that no longer do."""
    found = open_layer(session, layer)
    layers.get_draft(session, found.id, version, actor=actor)
    wanted = [account.customer_id for account in changed.add] + list(changed.remove)
    _see_all(session, actor, wanted)
    layers.unname_accounts(session, found.id, version, changed.remove, actor=actor)
    accounts = [(account.customer_id, account.area_id) for account in changed.add]
    layers.name_accounts(session, found.id, version, accounts, actor=actor)


def _see_all(session: Session, actor: Actor, customer_ids: list[int]) -> None:
    with access.as_user(session, actor):
        seen = set(
            session.scalars(
                text("SELECT id FROM customers WHERE id = ANY (CAST(:ids AS bigint[]))"), {"ids": customer_ids}
            )
        )
    missing = [number for number in customer_ids if number not in seen]
    if missing:
        fault = f"there is no customer {ids.show('cus', missing[0])} that you see"
        raise Invalid(fault, errors=[{"pointer": "", "detail": fault}])


# ---------------------------------------------------------------- preview, publish, undo


def _enqueue(session: Session, actor: Actor, name: str, layer: Layer, args: dict[str, Any]) -> dict[str, str]:
    job_id = queue.enqueue(
        session,
        name,
        {"layer_id": layer.id, "user_id": actor.user_id, "key_id": actor.key_id} | args,
        user_id=actor.user_id,
        key_id=actor.key_id,
        subject=ids.show("lay", layer.id),
        lock=f"layer {layer.id}",
    )
    return {"job_id": f"job_{job_id}"}


@routes.post(
    "/layers/{layer}/drafts/{version}/preview",
    status_code=202,
    operation_id="preview_draft",
    response_model=StartedJob,
    summary="Who would move?",
)
def preview_draft(
    session: Writing, actor: CanDraftAreas, layer: LayerName, version: VersionNumber, how: Preview
) -> object:
    """A job; its result says how many customers and what sales would move, by owner, with overlaps and gaps."""
    found = open_layer(session, layer)
    layers.get_draft(session, found.id, version, actor=actor)
    when = None if how.effective_from is None else how.effective_from.isoformat()
    return _enqueue(session, actor, "layer.preview", found, {"version": version, "effective_from": when})


@routes.post(
    "/layers/{layer}/drafts/{version}/publish",
    status_code=202,
    operation_id="publish_draft",
    response_model=StartedJob,
    summary="Publish a draft",
)
def publish_draft(
    session: Writing, actor: CanPublishAreas, layer: LayerName, version: VersionNumber, how: Publish
) -> object:
    """A job, in one transaction: only what the draft changes is evaluated again."""
    found = open_layer(session, layer)
    layers.require_publishing(actor, found)
    layers.get_draft(session, found.id, version, actor=actor)
    when = None if how.effective_from is None else how.effective_from.isoformat()
    args = {"version": version, "reason": how.reason, "effective_from": when, "overwrite": how.overwrite}
    return _enqueue(session, actor, "layer.publish", found, args)


@routes.post(
    "/layers/{layer}/undo",
    status_code=202,
    operation_id="undo_layer",
    response_model=StartedJob,
    summary="Go back to a former version",
)
def undo_layer(session: Writing, actor: CanPublishAreas, layer: LayerName, how: UndoLayer) -> object:
    """A job that publishes a former version again, from now on."""
    found = open_layer(session, layer)
    layers.require_publishing(actor, found)
    if how.version is not None:
        layers.get_version(session, found.id, how.version)
    return _enqueue(session, actor, "layer.undo", found, {"version": how.version, "reason": how.reason})
