"""Places and products."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from geocrm.api import geojson, pages
from geocrm.api.customer_edits import Attributes, PrecisionM
from geocrm.api.dependencies import CanEditPlaces, CanReadCustomers, IfMatch, Reading, Writing, etag, router
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import Body, Country, Name, Page, PlaceId, Point, Short, Shown, ShownMoney, ShownPoint, Text
from geocrm.crm import places
from geocrm.errors import Invalid

routes = router("Places")

PlaceKind = Literal["own", "competitor", "depot", "branch"]
Area = Annotated[float, Field(strict=True, gt=0, lt=10_000_000, allow_inf_nan=False)]


class NewPlace(Body):
    """A shop, depot or branch of ours, or a competitor's."""

    kind: PlaceKind = Field(examples=["own"])
    name: Name = Field(examples=["Denver Union Station"])
    location: Point
    precision_m: PrecisionM | None = None
    brand: Short | None = None
    line1: Short | None = None
    city: Short | None = Field(None, examples=["Denver"])
    region: Short | None = None
    postal_code: Annotated[Short | None, Field(max_length=20)] = None
    country: Country | None = None
    floor_area_m2: Area | None = Field(None, examples=[420.0])
    attributes: Attributes = Field(default_factory=dict)


class PlaceChanges(Body):
    """What to change; fields left out stay."""

    never_null = ("kind", "name", "location", "precision_m", "attributes")

    kind: PlaceKind | None = None
    name: Name | None = Field(None, examples=["Denver LoDo"])
    location: Point | None = None
    precision_m: PrecisionM | None = None
    brand: Short | None = None
    line1: Short | None = None
    city: Short | None = None
    region: Short | None = None
    postal_code: Annotated[Short | None, Field(max_length=20)] = None
    country: Country | None = None
    floor_area_m2: Area | None = None
    attributes: Attributes | None = None


class ShownPlace(Shown):
    """A place."""

    id: str = Field(examples=["pla_3"])
    kind: str = Field(examples=["own"])
    name: str = Field(examples=["Denver Union Station"])
    brand: str | None
    line1: str | None
    city: str | None
    region: str | None
    postal_code: str | None
    country: str | None
    location: ShownPoint | None
    location_precision: str | None
    precision_m: float | None
    placement: str
    flags: list[str] = Field(examples=[[]])
    floor_area_m2: float | None
    attributes: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


class ShownProduct(Shown):
    """Something we sell."""

    id: str = Field(examples=["prd_4"])
    sku: str | None = Field(examples=["TS-42"])
    name: str = Field(examples=["Trail shoe"])
    category: str | None = Field(examples=["Shoes"])
    unit_price: ShownMoney | None = Field(examples=["64.9500"])
    unit_cost: ShownMoney | None = Field(examples=["40.0000"])
    currency: str | None


def read_box(bbox: str | None) -> tuple[float, float, float, float] | None:
    """`west,south,east,north`; west > east crosses 180°. Raises Invalid."""
    if bbox is None:
        return None
    try:
        west, south, east, north = (float(part) for part in bbox.split(","))
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
            raise ValueError
    except ValueError:
        fault = "expected west,south,east,north in degrees, south not above north"
        raise Invalid(f"bbox: {fault}", errors=[{"pointer": "/bbox", "detail": fault}]) from None
    return west, south, east, north


Box = Annotated[
    str | None,
    Query(
        max_length=200,
        description="west,south,east,north in degrees; west greater than east crosses 180°.",
        examples=["-105.3,39.5,-104.6,40.1"],
    ),
]


@routes.get(
    "/places",
    operation_id="list_places",
    response_model=Page[ShownPlace],
    summary="List places",
    responses={200: {"content": {geojson.MEDIA_TYPE: {"schema": geojson.SCHEMA}}}},
)
def list_places(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    kind: Annotated[PlaceKind | None, Query(description="Only of this kind.", examples=["own"])] = None,
    q: Annotated[Text | None, Query(min_length=1, max_length=200, description="Part of the name.")] = None,
    bbox: Box = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """By id. With `Accept: application/geo+json` a FeatureCollection."""
    rows = places.find(session, kind=kind, q=q, box=read_box(bbox), after=pages.read_id(cursor) or 0, limit=limit + 1)
    made = pages.page(request, response, rows, limit, pages.id_of)
    if geojson.wanted(request):
        return geojson.answer(made, response, lambda row: row["location"])
    return made


@routes.get("/places/{place_id}", operation_id="get_place", response_model=ShownPlace, summary="One place")
def get_place(response: Response, session: Reading, actor: CanReadCustomers, place_id: PlaceId) -> object:
    """One place."""
    found = places.get(session, place_id)
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.post(
    "/places", status_code=201, operation_id="create_place", response_model=ShownPlace, summary="Create a place"
)
def create_place(session: Writing, actor: CanEditPlaces, once: Idempotent, new: NewPlace) -> Response:
    """A shop, depot or branch of ours, or a competitor's."""

    def produce() -> tuple[Any, dict[str, str]]:
        place_id = places.create(session, actor, new.model_dump())
        found = places.get(session, place_id)
        return found, {"Location": f"/v1/places/{found['id']}", "ETag": etag(found["version"])}

    return once.answer(session, actor, produce, shape=ShownPlace)


@routes.patch("/places/{place_id}", operation_id="edit_place", response_model=ShownPlace, summary="Edit a place")
def edit_place(
    response: Response,
    session: Writing,
    actor: CanEditPlaces,
    place_id: PlaceId,
    expected: IfMatch,
    changed: PlaceChanges,
) -> object:
    """Fields left out stay."""
    place = places.open_for_edit(session, place_id)
    expected.check(place.version)
    places.edit(session, actor, place, changed.model_dump(exclude_unset=True))
    found = places.get(session, place_id)
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.delete("/places/{place_id}", status_code=204, operation_id="delete_place", summary="Delete a place")
def delete_place(session: Writing, actor: CanEditPlaces, place_id: PlaceId, expected: IfMatch) -> None:
    """Refused (409) where sales were made at it, and where an offer names it."""
    place = places.open_for_edit(session, place_id)
    expected.check(place.version)
    places.delete(session, actor, place)


@routes.get("/products", operation_id="list_products", response_model=Page[ShownProduct], summary="List products")
def list_products(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    category: Annotated[Text | None, Query(max_length=200, description="Only of this category.")] = None,
    q: Annotated[Text | None, Query(min_length=1, max_length=200, description="Part of name or stock number.")] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """By id."""
    rows = places.find_products(session, category=category, q=q, after=pages.read_id(cursor) or 0, limit=limit + 1)
    return pages.page(request, response, rows, limit, pages.id_of)
