"""Layers, their versions, areas and named accounts, as they are read."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

import shapely
from fastapi import Path, Query, Request, Response
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, filters, ids
from geocrm.api import geojson, pages
from geocrm.api.dependencies import (
    CanPublishAreas,
    CanReadLayers,
    Reading,
    Writing,
    etag,
    router,
)
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import AreaId, Body, Flag, Name, Named, Page, Shown
from geocrm.db.models import Area, AreaVersion, Layer, LayerVersion
from geocrm.errors import NotFound
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


class ShownLayer(Shown):
    """A set of areas."""

    id: str = Field(examples=["lay_1"])
    key: str = Field(examples=["sales"])
    name: str = Field(examples=["Sales territories"])
    kind: str = Field(examples=["territories"])
    is_primary: bool = Field(description="The sales layer: its territories stand on sites and grant sight.")
    current_version: int | None = Field(examples=[3])
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
    layer_id: str = Field(examples=["lay_1"])
    version: int = Field(examples=[4])
    status: str = Field(description="draft, scheduled, published or retired.", examples=["published"])
    based_on: int | None = Field(examples=[3])
    effective_from: datetime | None
    published_at: datetime | None
    by: str | None = Field(examples=["usr_7"])
    reason: str | None
    areas: int


class Versions(Shown):
    """All versions of a layer, newest first."""

    data: list[ShownVersion]


class ShownArea(Shown):
    """An area of a layer, as one version has it."""

    id: str = Field(examples=["ter_3"])
    name: str = Field(examples=["Front Range"])
    owner: Named | None
    team: Named | None
    priority: int
    rule: dict[str, Any] | None = Field(examples=[{"field": "region", "op": "=", "value": "CO"}])
    rule_sentence: str | None = Field(examples=["region CO"])
    attributes: dict[str, Any]
    version: int = Field(description="Of the area itself: its ETag in a draft.")
    has_geometry: bool
    geometry: dict[str, Any] | None = Field(description="GeoJSON, where it was asked for.", examples=[None])


class ShownNamedAccount(Shown):
    """A customer that belongs to an area by name."""

    customer: Named
    area_id: str


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


def shown_version(session: Session, version: LayerVersion) -> dict[str, Any]:
    """A version as `ShownVersion` has it."""
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
    return {"data": [shown_version(session, version) for version in versions]}


_FEATURES = {
    "type": "FeatureCollection",
    "features": [{"type": "Feature", "id": "ter_3", "geometry": None, "properties": {"name": "Front Range"}}],
    "has_more": False,
    "next_cursor": None,
}


@routes.get(
    "/layers/{layer}/areas",
    operation_id="list_areas",
    response_model=Page[ShownArea],
    summary="List areas",
    responses={200: {"content": {geojson.MEDIA_TYPE: {"schema": geojson.SCHEMA, "example": _FEATURES}}}},
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
    rows: list[tuple[Area, AreaVersion]] = []
    if chosen is not None:
        rows = areas.find_areas(session, found.id, chosen, after=pages.read_id(cursor) or 0, limit=limit + 1)
    wanted = geojson.wanted(request)
    shown = shown_areas(session, found, rows, geometry=geometry or wanted)
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
    return shown_areas(session, found, [(area, held)], geometry=True)[0]


def shown_areas(
    session: Session, layer: Layer, rows: Iterable[tuple[Area, AreaVersion]], *, geometry: bool
) -> list[dict[str, Any]]:
    """Areas of one version as `ShownArea` has them."""
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
    named = layers.named_accounts(session, found.id, version)
    prefix = "ter" if found.kind == "territories" else "are"
    with access.as_user(session, actor):
        rows = session.execute(
            text(
                "SELECT id, name FROM customers WHERE id = ANY (CAST(:ids AS bigint[])) AND id > CAST(:after AS bigint)"
                " ORDER BY id LIMIT CAST(:limit AS bigint)"
            ),
            {"ids": list(named), "after": pages.read_id(cursor) or 0, "limit": limit + 1},
        ).all()
    shown: list[dict[str, Any]] = [
        {"customer": {"id": f"cus_{row.id}", "name": row.name}, "area_id": ids.show(prefix, named[row.id])}
        for row in rows
    ]
    return pages.page(request, response, shown, limit, lambda row: [int(row["customer"]["id"].removeprefix("cus_"))])
