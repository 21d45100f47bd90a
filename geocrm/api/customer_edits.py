"""Create and edit customers, their sites, contacts and consents; history; territory ledger of one customer."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import Field, model_validator
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.api import pages
from geocrm.api.customers import Kind, Precision, ShownCustomer, Stage
from geocrm.api.dependencies import CanEditCustomers, CanReadCustomers, Expected, IfMatch, Writing, etag, router
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import (
    Body,
    ContactId,
    Country,
    CustomerId,
    Flag,
    Name,
    Named,
    Page,
    Point,
    Short,
    Shown,
    SiteId,
    UserId,
    When,
)
from geocrm.crm import changes, customers, history
from geocrm.db.models import Customer

routes = router("Customers")

PrecisionM = Annotated[
    float, Field(strict=True, gt=0, lt=20_000_000, allow_inf_nan=False, description="Radius, metres.")
]
Attributes = Annotated[dict[str, Any], Field(max_length=100, examples=[{"plan": "gold"}])]


class NewSite(Body):
    """An address, with or without coordinates; without them it is placed from the address."""

    label: Short | None = None
    line1: Short | None = Field(None, examples=["1701 Wynkoop St"])
    line2: Short | None = None
    city: Short | None = Field(None, examples=["Denver"])
    region: Short | None = Field(None, examples=["CO"])
    postal_code: Annotated[Short | None, Field(max_length=20, examples=["80202"])] = None
    country: Country | None = None
    location: Point | None = None
    location_precision: Precision | None = Field(None, description="Of the location; given where it is not said.")
    precision_m: PrecisionM | None = None
    is_primary: Flag = False


class SiteChanges(Body):
    """What to change; fields left out stay. `"location": null` places the site anew from its address."""

    label: Short | None = None
    line1: Short | None = None
    line2: Short | None = None
    city: Short | None = None
    region: Short | None = None
    postal_code: Annotated[Short | None, Field(max_length=20)] = None
    country: Country | None = None
    location: Point | None = None
    location_precision: Precision | None = None
    precision_m: PrecisionM | None = None
    is_primary: Flag | None = Field(None, examples=[True])

    @model_validator(mode="after")
    def _said(self) -> "SiteChanges":
        if "is_primary" in self.model_fields_set and self.is_primary is None:
            raise ValueError("is_primary is true or false")
        return self


class NewContact(Body):
    """Somebody to talk to."""

    name: Short | None = Field(None, examples=["Ada Young"])
    role: Short | None = Field(None, examples=["Buyer"])
    email: Annotated[Short | None, Field(max_length=320, examples=["ada@example.com"])] = None
    phone: Annotated[Short | None, Field(max_length=60, examples=["+1 303 555 0100"])] = None
    is_primary: Flag = False


class ContactChanges(Body):
    """What to change; fields left out stay."""

    name: Short | None = None
    role: Short | None = Field(None, examples=["Owner"])
    email: Annotated[Short | None, Field(max_length=320)] = None
    phone: Annotated[Short | None, Field(max_length=60)] = None
    is_primary: Flag = False


class NewConsent(Body):
    """What the customer allows."""

    purpose: Annotated[Name, Field(max_length=60, examples=["marketing"])]
    channel: Annotated[Name, Field(max_length=60, examples=["email"])]
    granted_at: When = Field(description="Not in the future; two minutes ahead of our clock are taken as now.")
    source: Short | None = Field(None, examples=["web form"])


class WithdrawnConsent(Body):
    """What the customer allows no longer."""

    purpose: Annotated[Name, Field(max_length=60, examples=["marketing"])]
    channel: Annotated[Name, Field(max_length=60, examples=["email"])]


class Source(Body):
    """What a source system calls it; taken once only."""

    source: Annotated[Name, Field(max_length=100, examples=["shop"])]
    external_id: Annotated[Name, Field(max_length=300, examples=["C-1001"])]


class NewCustomer(Body):
    """A customer with its sites, contacts and consents."""

    kind: Kind = Field(examples=["organisation"])
    name: Name = Field(examples=["Alpine Outfitters"])
    stage: Stage = Field("lead", examples=["lead"])
    parent_id: CustomerId | None = None
    owner_id: UserId | None = Field(None, description="The rep responsible; you, where you see own rows only.")
    industry: Short | None = Field(None, examples=["retail"])
    size_class: Short | None = None
    preferred_channel: Short | None = None
    attributes: Attributes = Field(default_factory=dict)
    sites: Annotated[list[NewSite], Field(max_length=100)] = Field(
        default_factory=list,
        examples=[[{"line1": "1701 Wynkoop St", "city": "Denver", "postal_code": "80202", "country": "US"}]],
    )
    contacts: Annotated[list[NewContact], Field(max_length=100)] = Field(default_factory=list)
    consents: Annotated[list[NewConsent], Field(max_length=100)] = Field(default_factory=list)
    source: Source | None = None

    @model_validator(mode="after")
    def _one_primary(self) -> "NewCustomer":
        if sum(site.is_primary for site in self.sites) > 1:
            raise ValueError("only one site is the primary one")
        return self


class CustomerChanges(Body):
    """What to change; fields left out stay."""

    never_null = ("kind", "name", "stage", "attributes")

    kind: Kind | None = None
    name: Name | None = None
    stage: Stage | None = Field(None, examples=["active"])
    parent_id: CustomerId | None = None
    owner_id: UserId | None = None
    industry: Short | None = None
    size_class: Short | None = None
    preferred_channel: Short | None = None
    attributes: Attributes | None = None


class HistoryEntry(Shown):
    """One thing that was done."""

    id: int
    at: datetime
    action: str = Field(examples=["customer.update"])
    actor: Named | None
    key_id: str | None
    site_id: str | None
    changes: list["Change"]


class Change(Shown):
    """A field before and after; the text "hidden" stands for what the reader may not see."""

    field: str = Field(examples=["stage"])
    before: Any = Field(examples=["lead"])
    after: Any = Field(examples=["active"])


_GONE: dict[int | str, dict[str, Any]] = {
    204: {"description": "Done; the change took the customer out of your sight."},
    200: {"headers": {"ETag": {"schema": {"type": "string"}}}},
}


@routes.post(
    "/customers",
    status_code=201,
    operation_id="create_customer",
    response_model=ShownCustomer,
    summary="Create a customer",
)
def create_customer(session: Writing, actor: CanEditCustomers, once: Idempotent, new: NewCustomer) -> Response:
    """A customer with sites, contacts and consents, at once. Sites without coordinates are placed from the address;
    territories follow."""

    def produce() -> tuple[Any, dict[str, str]]:
        values = new.model_dump(exclude={"sites", "contacts", "consents", "source"})
        customer_id = changes.create(
            session,
            actor,
            values,
            sites=[site.model_dump() for site in new.sites],
            contacts=[contact.model_dump() for contact in new.contacts],
            consents=[consent.model_dump() for consent in new.consents],
            source=None if new.source is None else (new.source.source, new.source.external_id),
        )
        with access.as_user(session, actor):
            found = customers.get(session, customer_id)
        return found, {"Location": f"/v1/customers/{found['id']}", "ETag": etag(found["version"])}

    return once.answer(session, actor, produce, shape=ShownCustomer)


@routes.patch(
    "/customers/{customer_id}",
    operation_id="edit_customer",
    response_model=ShownCustomer,
    summary="Edit a customer",
    responses=_GONE,
)
def edit_customer(
    response: Response,
    session: Writing,
    actor: CanEditCustomers,
    customer_id: CustomerId,
    expected: IfMatch,
    changed: CustomerChanges,
) -> object:
    """Fields left out stay. To change the owner needs the permission to reassign."""
    return _edit(
        response,
        session,
        actor,
        customer_id,
        expected,
        lambda customer: changes.edit(session, actor, customer, changed.model_dump(exclude_unset=True)),
    )


@routes.post(
    "/customers/{customer_id}/sites",
    status_code=201,
    operation_id="add_site",
    response_model=ShownCustomer,
    summary="Add a site",
)
def add_site(
    session: Writing, actor: CanEditCustomers, once: Idempotent, customer_id: CustomerId, new: NewSite
) -> Response:
    """Another address of the customer; answers with the customer whole."""
    return _add(
        session,
        actor,
        once,
        customer_id,
        lambda customer: changes.add_site(session, actor, customer, new.model_dump()),
    )


@routes.patch(
    "/customers/{customer_id}/sites/{site_id}",
    operation_id="edit_site",
    response_model=ShownCustomer,
    summary="Edit a site",
    responses=_GONE,
)
def edit_site(
    response: Response,
    session: Writing,
    actor: CanEditCustomers,
    customer_id: CustomerId,
    site_id: SiteId,
    expected: IfMatch,
    changed: SiteChanges,
) -> object:
    """A changed address places the site anew, unless coordinates come with it; its territory follows."""
    return _edit(
        response,
        session,
        actor,
        customer_id,
        expected,
        lambda customer: changes.edit_site(session, actor, customer, site_id, changed.model_dump(exclude_unset=True)),
    )


@routes.delete(
    "/customers/{customer_id}/sites/{site_id}",
    operation_id="delete_site",
    response_model=ShownCustomer,
    summary="Delete a site",
    responses=_GONE,
)
def delete_site(
    response: Response,
    session: Writing,
    actor: CanEditCustomers,
    customer_id: CustomerId,
    site_id: SiteId,
    expected: IfMatch,
) -> object:
    """The ledger keeps its history; answers with the customer whole. 409 for a site that has sales, for whose territory
    it stands (sales without a site are the primary one's): change its address or label instead."""
    return _edit(
        response,
        session,
        actor,
        customer_id,
        expected,
        lambda customer: changes.delete_site(session, actor, customer, site_id),
    )


@routes.post(
    "/customers/{customer_id}/contacts",
    status_code=201,
    operation_id="add_contact",
    response_model=ShownCustomer,
    summary="Add a contact",
)
def add_contact(
    session: Writing, actor: CanEditCustomers, once: Idempotent, customer_id: CustomerId, new: NewContact
) -> Response:
    """Somebody to talk to at the customer."""
    return _add(
        session,
        actor,
        once,
        customer_id,
        lambda customer: changes.add_contact(session, actor, customer, new.model_dump()),
    )


@routes.patch(
    "/customers/{customer_id}/contacts/{contact_id}",
    operation_id="edit_contact",
    response_model=ShownCustomer,
    summary="Edit a contact",
)
def edit_contact(
    response: Response,
    session: Writing,
    actor: CanEditCustomers,
    customer_id: CustomerId,
    contact_id: ContactId,
    expected: IfMatch,
    changed: ContactChanges,
) -> object:
    """Fields left out stay."""
    return _edit(
        response,
        session,
        actor,
        customer_id,
        expected,
        lambda customer: changes.edit_contact(
            session, actor, customer, contact_id, changed.model_dump(exclude_unset=True)
        ),
    )


@routes.delete(
    "/customers/{customer_id}/contacts/{contact_id}",
    operation_id="delete_contact",
    response_model=ShownCustomer,
    summary="Delete a contact",
)
def delete_contact(
    response: Response,
    session: Writing,
    actor: CanEditCustomers,
    customer_id: CustomerId,
    contact_id: ContactId,
    expected: IfMatch,
) -> object:
    """Takes a contact away."""
    return _edit(
        response,
        session,
        actor,
        customer_id,
        expected,
        lambda customer: changes.delete_contact(session, actor, customer, contact_id),
    )


@routes.post(
    "/customers/{customer_id}/consents",
    status_code=201,
    operation_id="grant_consent",
    response_model=ShownCustomer,
    summary="Record a consent",
)
def grant_consent(
    session: Writing, actor: CanEditCustomers, once: Idempotent, customer_id: CustomerId, new: NewConsent
) -> Response:
    """What the customer allows, for a purpose and a channel."""
    return _add(
        session,
        actor,
        once,
        customer_id,
        lambda customer: changes.grant_consent(session, actor, customer, new.model_dump()),
    )


@routes.post(
    "/customers/{customer_id}/consents/withdraw",
    operation_id="withdraw_consent",
    response_model=ShownCustomer,
    summary="Withdraw a consent",
)
def withdraw_consent(
    response: Response, session: Writing, actor: CanEditCustomers, customer_id: CustomerId, gone: WithdrawnConsent
) -> object:
    """From now on; what stood until now stays on record."""
    return _edit(
        response,
        session,
        actor,
        customer_id,
        Expected(None),
        lambda customer: changes.withdraw_consent(session, actor, customer, gone.purpose, gone.channel),
    )


@routes.get(
    "/customers/{customer_id}/history",
    operation_id="get_customer_history",
    response_model=Page[HistoryEntry],
    summary="What was done to a customer",
)
def get_customer_history(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanReadCustomers,
    customer_id: CustomerId,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Who changed what and when, newest first."""
    rows = history.of_customer(session, actor, customer_id, after=pages.read_id(cursor), limit=limit + 1)
    return pages.page(request, response, rows, limit, lambda row: [row["id"]])


def _edit(
    response: Response,
    session: Session,
    actor: Actor,
    customer_id: int,
    expected: Expected,
    work: Callable[[Customer], None],
) -> object:
    customer = changes.open_for_edit(session, actor, customer_id, expected.check)
    work(customer)
    session.flush()
    if not changes.sees(session, actor, customer_id):
        return Response(status_code=204)
    with access.as_user(session, actor):
        found = customers.get(session, customer_id)
    response.headers["ETag"] = etag(found["version"])
    return found


def _add(session: Session, actor: Actor, once: Any, customer_id: int, work: Callable[[Customer], object]) -> Response:
    def produce() -> tuple[Any, dict[str, str]]:
        customer = changes.open_for_edit(session, actor, customer_id)
        work(customer)
        session.flush()
        with access.as_user(session, actor):
            found = customers.get(session, customer_id)
        return found, {"Location": f"/v1/customers/{ids.show('cus', customer_id)}", "ETag": etag(found["version"])}

    answer: Response = once.answer(session, actor, produce, shape=ShownCustomer)
    return answer
