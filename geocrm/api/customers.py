"""Customers: lists, search, one whole."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request, Response
from pydantic import Field

from geocrm import filters
from geocrm.access import Actor
from geocrm.api import geojson, pages
from geocrm.api.dependencies import CanReadCustomers, Reading, etag, router
from geocrm.api.shapes import CustomerId, Named, Page, Shown, ShownPoint, Text
from geocrm.crm import customers

routes = router("Customers")

Kind = Literal["person", "organisation"]
Stage = Literal["prospect", "lead", "active", "lapsed"]
Precision = Literal["given", "rooftop", "street", "postcode", "locality", "region"]
Placement = Literal["placed", "pending", "flagged", "failed"]


class ShownSite(Shown):
    """A site, as much of it as the reader may see."""

    id: str = Field(examples=["sit_1042"])
    label: str | None
    line1: str | None
    line2: str | None
    city: str | None
    region: str | None
    postal_code: str | None
    country: str | None
    location: ShownPoint | None
    location_precision: str | None = Field(examples=["given"])
    precision_m: float | None = Field(description="Radius that holds the true point in 95 % of cases, metres.")
    location_source: str | None
    placement: str = Field(examples=["placed"])
    flags: list[str]
    is_primary: bool
    territory: Named | None


class ShownSiteWithReason(ShownSite):
    """A site, with why it is in its territory."""

    territory_basis: str | None = Field(description="named, rule, polygon or none.")
    territory_reason: str | None
    territory_since: datetime | None
    territory_owner: Named | None


class ShownContact(Shown):
    """Somebody to talk to; e-mail and phone are null where the reader may not see them."""

    id: str = Field(examples=["con_7"])
    name: str | None
    role: str | None
    email: str | None
    phone: str | None
    email_masked: bool
    phone_masked: bool
    is_primary: bool


class ShownConsent(Shown):
    """What a customer allowed."""

    purpose: str
    channel: str
    granted_at: datetime
    withdrawn_at: datetime | None
    source: str | None


class ShownSource(Shown):
    """What a source system calls a customer."""

    source: str
    external_id: str


class CustomerCore(Shown):
    """What lists and cards share."""

    id: str = Field(examples=["cus_1042"])
    kind: Kind
    name: str = Field(examples=["Alpine Outfitters"])
    stage: Stage
    parent_id: str | None
    owner: Named | None
    territories: list[Named]
    industry: str | None
    size_class: str | None
    preferred_channel: str | None
    attributes: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


class ShownMembership(Shown):
    """The segment of a customer in the published run of a segmentation."""

    segmentation: Named
    key: str = Field(examples=["rfm"])
    segment: Named
    is_active: bool = Field(description="Lookups and tiles carry it.")
    run: int = Field(examples=[3])
    cutoff: datetime = Field(description="What happened before it is what the run knows.")
    because: list[str] = Field(
        description="What moves its odds most, strongest first, where the method tells that (`churn`); else empty.",
        examples=[["Since the last day with an order: raises the odds of leaving 2.3 times"]],
    )


class CustomerInList(CustomerCore):
    """A customer with its first visible site."""

    site: ShownSite | None
    score: float | None = Field(None, description="With `q`: how well the name fits, 0 to 1.")


class ShownCustomer(CustomerCore):
    """A customer whole."""

    parent: Named | None
    sites: list[ShownSiteWithReason]
    contacts: list[ShownContact]
    consents: list[ShownConsent]
    segments: list[ShownMembership]
    scores: dict[str, dict[str, float | None]] = Field(
        description="By the key of the segmentation and the score's name.", examples=[{"rfm": {"r": 5, "f": 4, "m": 5}}]
    )
    sources: list[ShownSource]


class Counts(Shown):
    """How many customers."""

    customers: int
    by_stage: dict[str, int] = Field(examples=[{"active": 120, "lead": 14}])
    by_kind: dict[str, int] = Field(examples=[{"organisation": 30, "person": 104}])


class Narrowing:
    """The filter language in query parameters: `filter` as JSON, and short forms for the usual fields."""

    def __init__(
        self,
        request: Request,
        actor: CanReadCustomers,
        filter: Annotated[
            str | None,
            Query(
                max_length=20_000,
                description="The filter language as JSON.",
                examples=['{"all":[{"field":"stage","op":"in","value":["active","lapsed"]}]}'],
            ),
        ] = None,
        stage: Annotated[str | None, Query(description="One or several, with commas.", examples=["active"])] = None,
        kind: Annotated[str | None, Query(description="One or several, with commas.", examples=["person"])] = None,
        owner: Annotated[str | None, Query(description="usr_…, one or several.", examples=["usr_7"])] = None,
        territory: Annotated[str | None, Query(description="ter_…, one or several.", examples=["ter_3"])] = None,
        segment: Annotated[str | None, Query(description="seg_…, one or several.")] = None,
        country: Annotated[str | None, Query(description="ISO codes.", examples=["US"])] = None,
        region: Annotated[str | None, Query(description="States or provinces.", examples=["CO"])] = None,
        city: Annotated[str | None, Query(description="Towns.", examples=["Denver"])] = None,
        postal_code: Annotated[str | None, Query(description="Postal codes.", examples=["80202"])] = None,
        industry: Annotated[str | None, Query(description="Industries.")] = None,
        size_class: Annotated[str | None, Query(description="Size classes.")] = None,
        location_precision: Annotated[
            str | None, Query(description="How sites were placed.", examples=["given"])
        ] = None,
    ) -> None:
        reader = reader_of(actor)
        self.filter = filters.from_query(request.query_params.multi_items(), reader=reader)


def reader_of(actor: Actor) -> filters.Reader:
    """What the actor may filter by."""
    return filters.Reader(contacts=actor.contacts != "masked", exact=actor.exact)


Narrowed = Annotated[Narrowing, Depends(Narrowing)]


@routes.get(
    "/customers",
    operation_id="list_customers",
    response_model=Page[CustomerInList],
    summary="List or search customers",
    responses={200: {"content": {geojson.MEDIA_TYPE: {"schema": geojson.SCHEMA}}}},
)
def list_customers(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    narrowed: Narrowed,
    q: Annotated[
        Text | None,
        Query(
            min_length=2, max_length=200, description="Part of a name; typing errors are forgiven.", examples=["alpin"]
        ),
    ] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """The visible customers that pass the filter, by id; with `q` those with a name like it, most alike first.

    With `Accept: application/geo+json` a FeatureCollection of their first visible sites.
    """
    if q is None:
        rows = customers.find(session, actor, narrowed.filter, after=pages.read_id(cursor) or 0, limit=limit + 1)
        made = pages.page(request, response, rows, limit, lambda row: [_number(row)])
    else:
        key = pages.read(cursor, float, int)
        rows = customers.search(session, actor, q, narrowed.filter, after=key, limit=limit + 1)
        made = pages.page(request, response, rows, limit, lambda row: [float(row["score"]), _number(row)])
    if geojson.wanted(request):
        return geojson.answer(made, response, lambda row: (row["site"] or {}).get("location"))
    return made


def _number(row: dict[str, Any]) -> int:
    return int(row["id"].removeprefix("cus_"))


@routes.get("/customers/count", operation_id="count_customers", response_model=Counts, summary="Count customers")
def count_customers(session: Reading, actor: CanReadCustomers, narrowed: Narrowed) -> object:
    """How many visible customers pass the filter, by stage and kind."""
    return customers.count(session, actor, narrowed.filter)


@routes.get(
    "/customers/{customer_id}",
    operation_id="get_customer",
    response_model=ShownCustomer,
    summary="One customer",
)
def get_customer(response: Response, session: Reading, actor: CanReadCustomers, customer_id: CustomerId) -> object:
    """A customer with its sites (territory and why), contacts, consents and its names in source systems."""
    found = customers.get(session, customer_id)
    response.headers["ETag"] = etag(found["version"])
    return found
