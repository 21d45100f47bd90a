"""The placing queue: sites without a usable place, to be placed by hand or again."""

from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from geocrm import access, ids
from geocrm.api import pages
from geocrm.api.customer_edits import PrecisionM
from geocrm.api.customers import ShownCustomer
from geocrm.api.dependencies import CanEditCustomers, CanReadCustomers, IfMatch, Reading, Writing, etag, router
from geocrm.api.shapes import Body, CustomerId, Flag, Lat, Lon, Page, Shown, ShownPoint, SiteId
from geocrm.crm import changes, customers
from geocrm.spatial import geocoding

routes = router("Placing")

Waits = Literal["pending", "flagged", "failed"]


class WaitingSite(Shown):
    """A site without a usable place, and why."""

    customer_id: str = Field(examples=["cus_1042"])
    customer_name: str
    site_id: str = Field(examples=["sit_1042"])
    line1: str | None
    line2: str | None
    city: str | None
    region: str | None
    postal_code: str | None
    country: str | None
    location: ShownPoint | None
    placement: str = Field(examples=["flagged"])
    flags: list[str] = Field(examples=[["zero"]])
    attempts: int
    why: str | None


class WaitingCount(Shown):
    """How many wait for one reason."""

    placement: str
    why: str | None
    n: int


class WaitingCounts(Shown):
    """How many sites wait, and why."""

    data: list[WaitingCount]


class ByHand(Body):
    """Where the site is."""

    lon: Lon = Field(examples=[-104.9903])
    lat: Lat = Field(examples=[39.7392])
    precision_m: PrecisionM = 25.0
    confirmed: Flag = Field(False, description="Take a point at (0,0) or outside the site's country all the same.")


@routes.get(
    "/placing", operation_id="list_waiting_sites", response_model=Page[WaitingSite], summary="Sites without a place"
)
def list_waiting_sites(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    placement: Annotated[Waits | None, Query(description="Only these.", examples=["flagged"])] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Pending, flagged and failed sites that you see, by id."""
    kinds = (placement,) if placement is not None else ("pending", "flagged", "failed")
    found = geocoding.waiting(session, placements=kinds, after=pages.read_id(cursor) or 0, limit=limit + 1)
    rows: list[dict[str, Any]] = [
        {
            "customer_id": ids.show("cus", row.customer_id),
            "customer_name": row.customer_name,
            "site_id": ids.show("sit", row.site_id),
            "line1": row.line1,
            "line2": row.line2,
            "city": row.city,
            "region": row.region,
            "postal_code": row.postal_code,
            "country": row.country,
            "location": None if row.lon is None else {"lon": row.lon, "lat": row.lat},
            "placement": row.placement,
            "flags": list(row.flags),
            "attempts": row.attempts,
            "why": row.why,
        }
        for row in found
    ]
    return pages.page(request, response, rows, limit, lambda row: [ids.read("sit", row["site_id"])])


@routes.get(
    "/placing/counts", operation_id="count_waiting_sites", response_model=WaitingCounts, summary="Why sites wait"
)
def count_waiting_sites(session: Reading, actor: CanReadCustomers) -> object:
    """How many sites that you see wait, by placement and reason."""
    return {"data": geocoding.waiting_counts(session)}


@routes.post(
    "/customers/{customer_id}/sites/{site_id}/place",
    operation_id="place_site_by_hand",
    response_model=ShownCustomer,
    summary="Place a site by hand",
    responses={204: {"description": "Done; the place took the customer out of your sight."}},
)
def place_site_by_hand(
    response: Response,
    session: Writing,
    actor: CanEditCustomers,
    customer_id: CustomerId,
    site_id: SiteId,
    expected: IfMatch,
    there: ByHand,
) -> object:
    """Territory and lookups follow; answers with the customer whole."""
    customer = changes.open_for_edit(session, actor, customer_id, expected.check)
    changes.place_by_hand(
        session,
        actor,
        customer,
        site_id,
        there.lon,
        there.lat,
        precision_m=there.precision_m,
        confirmed=there.confirmed,
    )
    return _answer(response, session, actor, customer_id)


@routes.post(
    "/customers/{customer_id}/sites/{site_id}/place-again",
    operation_id="place_site_again",
    response_model=ShownCustomer,
    summary="Place a site anew from its address",
    responses={204: {"description": "Done; the place took the customer out of your sight."}},
)
def place_site_again(
    response: Response,
    session: Writing,
    actor: CanEditCustomers,
    customer_id: CustomerId,
    site_id: SiteId,
    expected: IfMatch,
) -> object:
    """For flagged coordinates, and for addresses that could not be placed before."""
    customer = changes.open_for_edit(session, actor, customer_id, expected.check)
    changes.place_again(session, actor, customer, site_id)
    return _answer(response, session, actor, customer_id)


def _answer(response: Response, session: Writing, actor: access.Actor, customer_id: int) -> object:
    session.flush()
    if not changes.sees(session, actor, customer_id):
        return Response(status_code=204)
    with access.as_user(session, actor):
        found = customers.get(session, customer_id)
    response.headers["ETag"] = etag(found["version"])
    return found
