"""Drafts of layers: areas, named accounts, preview, publish, undo."""

from typing import Annotated, Any, Literal

from fastapi import Response
from pydantic import AfterValidator, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.api.customer_edits import Attributes
from geocrm.api.dependencies import CanDraftAreas, CanPublishAreas, Expected, IfMatch, Writing, etag, router
from geocrm.api.idempotency import Idempotent
from geocrm.api.jobs import StartedJob, started_job
from geocrm.api.layers import (
    LayerName,
    ShownArea,
    ShownVersion,
    VersionNumber,
    open_layer,
    shown_areas,
    shown_version,
)
from geocrm.api.shapes import AreaId, Body, CustomerId, DayOrWhen, Flag, Name, TeamId, UserId
from geocrm.db.models import Layer
from geocrm.errors import Invalid
from geocrm.spatial import areas, layers

routes = router("Layers")


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


class NewDraft(Body):
    """What the draft begins with."""

    source: Literal["published", "empty"] | Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)] = Field(
        "published",
        alias="from",
        description="What is in force, nothing, or what a former version had (publishing that undoes what came after).",
    )


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

    never_null = ("name", "priority", "attributes")

    name: Annotated[Name | None, Field(max_length=200)] = None
    geometry: Geometry | None = None
    rule: Rule | None = None
    priority: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)] | None = Field(None, examples=[1])
    attributes: Attributes | None = None
    owner_id: UserId | None = None
    team_id: TeamId | None = None
    repair: Flag = False


class NamedAccount(Body):
    """A customer that belongs to an area by name."""

    customer_id: CustomerId
    area_id: AreaId


class NamedAccounts(Body):
    """Who is named, and who no longer."""

    add: Annotated[list[NamedAccount], Field(max_length=10_000)] = Field(default_factory=list)
    remove: Annotated[list[CustomerId], Field(max_length=10_000)] = Field(default_factory=list, examples=[["cus_7"]])


class Preview(Body):
    """From when the draft would be in force."""

    effective_from: DayOrWhen | None = None


class Publish(Body):
    """From when, and why."""

    reason: Annotated[Name, Field(max_length=500, examples=["Boulder joins the north"])]
    effective_from: DayOrWhen | None = Field(None, description="Left out: now. Earlier re-states, later schedules.")
    overwrite: Flag = Field(False, description="Where both changed an area since the draft began, take the draft's.")


class UndoLayer(Body):
    """Which former version, and why."""

    reason: Annotated[Name, Field(max_length=500, examples=["The split was a mistake"])]
    version: Annotated[int | None, Field(strict=True, ge=1, le=2_000_000_000)] = Field(
        None, description="Left out: the one before the version in force."
    )


_DRAFT = {
    "id": "lay_1/4", "layer_id": "lay_1", "version": 4, "status": "draft", "based_on": 3, "effective_from": None,
    "published_at": None, "by": "usr_7", "reason": None, "areas": 12,
}  # fmt: skip


@routes.post(
    "/layers/{layer}/drafts",
    status_code=201,
    operation_id="create_draft",
    response_model=ShownVersion,
    summary="Begin a draft",
    responses={201: {"content": {"application/json": {"example": _DRAFT}}}},
)
def create_draft(session: Writing, actor: CanDraftAreas, once: Idempotent, layer: LayerName, new: NewDraft) -> Response:
    """A version to edit; nobody is moved before it is published."""

    def produce() -> tuple[Any, dict[str, str]]:
        found = open_layer(session, layer)
        draft = layers.create_draft(session, found.id, actor=actor, source=new.source)
        shown = shown_version(session, draft)
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


def _draft_with(session: Session, actor: Actor, layer: str, version: int, area_id: int, expected: Expected) -> Layer:
    """The layer of a draft that the actor may change, whose area still is as `If-Match` says."""
    found = open_layer(session, layer)
    layers.get_draft(session, found.id, version, actor=actor)
    expected.check(areas.get_area(session, found.id, version, area_id)[1].version)
    return found


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
    found = _draft_with(session, actor, layer, version, area_id, expected)
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
    found = _draft_with(session, actor, layer, version, area_id, expected)
    areas.delete_area(session, found.id, version, area_id, actor=actor)


def _changed(session: Session, layer: Layer, version: int, put: areas.PutArea) -> dict[str, Any]:
    area, held = areas.get_area(session, layer.id, version, put.area_id)
    return shown_areas(session, layer, [(area, held)], geometry=True)[0] | {"notes": list(put.notes)}


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


def _job_on_layer(session: Session, actor: Actor, name: str, layer: Layer, args: dict[str, Any]) -> dict[str, Any]:
    held = {"layer_id": layer.id} | args
    return started_job(session, actor, name, held, subject=ids.show("lay", layer.id), lock=f"layer {layer.id}")


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
    return _job_on_layer(session, actor, "layer.preview", found, {"version": version, "effective_from": when})


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
    return _job_on_layer(session, actor, "layer.publish", found, args)


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
    return _job_on_layer(session, actor, "layer.undo", found, {"version": how.version, "reason": how.reason})
