"""Sales and interactions of customers."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import Field

from geocrm import access, ids
from geocrm.api import pages
from geocrm.api.customer_edits import Source
from geocrm.api.dependencies import CanEditCustomers, CanReadCustomers, IfMatch, Reading, Writing, etag, router
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import (
    Body,
    Currency,
    CustomerId,
    Flag,
    InteractionId,
    Money,
    Named,
    Page,
    PlaceId,
    Point,
    ProductId,
    SaleId,
    Short,
    Shown,
    ShownMoney,
    ShownPoint,
    SiteId,
    Text,
    When,
)
from geocrm.crm import changes, customers, interactions, sales
from geocrm.segmentation import analyses, next_offers

routes = router("Sales")
interaction_routes = router("Interactions")

Quantity = Annotated[Decimal, Field(gt=-(10**9), lt=10**9, max_digits=14, decimal_places=4, allow_inf_nan=False)]


class NewSaleLine(Body):
    """One product on a sale."""

    product_id: ProductId | None = None
    quantity: Quantity = Field(examples=[2])
    unit_price: Money = Field(examples=["64.95"])
    discount: Money = Decimal(0)
    cost: Money | None = None


class NewSale(Body):
    """An order; a return is `returned` with a negative amount."""

    customer_id: CustomerId
    occurred_at: When
    currency: Currency
    amount: Money | None = Field(None, description="Left out: the sum of the lines.", examples=["129.90"])
    cost: Money | None = None
    discount: Money = Decimal(0)
    returned: Flag = False
    channel: Annotated[Short | None, Field(max_length=60, examples=["shop"])] = None
    site_id: SiteId | None = None
    place_id: PlaceId | None = None
    lines: Annotated[list[NewSaleLine], Field(max_length=1000)] = Field(default_factory=list)
    source: Source | None = None


class ShownSale(Shown):
    """An order."""

    id: str = Field(examples=["sal_9"])
    customer_id: str = Field(examples=["cus_1042"])
    occurred_at: datetime
    site_id: str | None
    place: Named | None
    channel: str | None
    currency: str = Field(examples=["USD"])
    amount: ShownMoney
    cost: ShownMoney | None = Field(examples=["80.0000"])
    discount: ShownMoney = Field(examples=["0.0000"])
    returned: bool = Field(examples=[False])
    created_at: datetime


class ShownSaleLine(Shown):
    """One product on a sale."""

    line_no: int
    product: Named | None
    quantity: ShownMoney = Field(examples=["2.0000"])
    unit_price: ShownMoney = Field(examples=["64.9500"])
    discount: ShownMoney = Field(examples=["0.0000"])
    amount: ShownMoney
    cost: ShownMoney | None = Field(examples=["80.0000"])


class ShownSaleWithLines(ShownSale):
    """An order with its lines."""

    lines: list[ShownSaleLine]


class Month(Shown):
    """Sales of one month."""

    month: str = Field(examples=["2026-01"])
    currency: str
    amount: ShownMoney
    count: int


class Months(Shown):
    """Sales by month and currency, months without sales too."""

    data: list[Month]


class OfferedItem(Shown):
    """A product; or a category, without an id."""

    id: str | None = Field(examples=["prd_7"])
    name: str = Field(examples=["Bib shorts"])


class NextOffer(Shown):
    """What to offer, and what speaks for it. Figures are of all customers, null where fewer than ten made them and you
    do not see every one."""

    rank: int = Field(examples=[1])
    product: OfferedItem
    because: OfferedItem | None = Field(
        description="What the customer has that goes together with it most; null: nothing does, it sells most here."
    )
    score: float = Field(description="Likeness to all that the customer has, summed.", examples=[0.62])
    customers_with_both: int | None = Field(examples=[214])
    support: float | None = Field(description="Share of customers with both.", examples=[0.03])
    confidence: float | None = Field(description="Of those with the one, the share with the other.", examples=[0.41])
    lift: float | None = Field(description="How many times as often together as by chance.", examples=[2.6])
    lift_low: float | None = Field(description="Its 95 % interval.", examples=[2.2])
    lift_high: float | None = Field(examples=[3.0])


class HeldOut(Shown):
    """How well offers made like these did on what was bought later, which they had not seen."""

    learnt_before: datetime
    days: float = Field(description="So many days after it were looked at.", examples=[90])
    offered: int = Field(description="So many products were offered to each.", examples=[5])
    customers: int = Field(description="Who bought something new in these days.", examples=[812])
    hit_rate: float = Field(description="Share of them who bought one of those offered.", examples=[0.34])
    hit_rate_low: float
    hit_rate_high: float
    sentence: str = Field(description="In words, beside what simply sells most.")


class NextOffers(Shown):
    """What to offer a customer next."""

    data: list[NextOffer]
    analysis: str | None = Field(description="Of what goes together; null where there is none.", examples=["ana_5"])
    since: datetime | None = Field(description="What was bought since then counts.")
    cutoff: datetime | None = Field(description="What happened before it is what the analysis knows.")
    had: int = Field(description="Products of the analysis that the customer has bought since.", examples=[4])
    held_out: HeldOut | None = Field(description="Null where too few bought something new to judge by.")
    note: str | None = Field(description="Why there is nothing to offer.", examples=[None])


def _key(row: dict[str, Any]) -> list[Any]:
    return [row["occurred_at"].isoformat(), int(row["id"].partition("_")[2])]


@routes.get(
    "/customers/{customer_id}/sales",
    operation_id="list_customer_sales",
    response_model=Page[ShownSale],
    summary="Sales of a customer",
)
def list_customer_sales(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    customer_id: CustomerId,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Newest first."""
    rows = sales.find(session, customer_id, after=pages.read_moment(cursor), limit=limit + 1)
    return pages.page(request, response, rows, limit, _key)


@routes.get(
    "/customers/{customer_id}/sales/monthly",
    operation_id="get_customer_monthly_sales",
    response_model=Months,
    summary="Sales of a customer by month",
)
def get_customer_monthly_sales(
    session: Reading,
    actor: CanReadCustomers,
    customer_id: CustomerId,
    months: Annotated[int, Query(ge=1, le=240, description="How many months back, this one included.")] = 36,
) -> object:
    """Sums by month (UTC) and currency, from the first month with a sale."""
    return {"data": sales.monthly(session, customer_id, months)}


@routes.get(
    "/customers/{customer_id}/next-offers",
    operation_id="get_customer_next_offers",
    response_model=NextOffers,
    summary="What to offer a customer next",
)
def get_customer_next_offers(
    session: Reading,
    actor: CanReadCustomers,
    customer_id: CustomerId,
    limit: Annotated[int, Query(ge=1, le=50, description="How many.")] = 5,
) -> object:
    """Products that go together with what the customer has, by the newest analysis of what goes together; those bought
    already are left out. Nothing is made up: without an analysis, or without purchases, `note` says so."""
    customers.see(session, customer_id)
    found = analyses.find_newest(session, "affinity")
    return next_offers.for_customer(session, actor, found, customer_id, k=limit)


@routes.get(
    "/customers/{customer_id}/sales/{sale_id}",
    operation_id="get_sale",
    response_model=ShownSaleWithLines,
    summary="One sale",
)
def get_sale(session: Reading, actor: CanReadCustomers, customer_id: CustomerId, sale_id: SaleId) -> object:
    """A sale with its lines."""
    return sales.get(session, customer_id, sale_id)


@routes.post(
    "/sales",
    status_code=201,
    operation_id="create_sale",
    response_model=ShownSaleWithLines,
    summary="Record a sale",
)
def create_sale(session: Writing, actor: CanEditCustomers, once: Idempotent, new: NewSale) -> Response:
    """An order of a customer that you see."""

    def produce() -> tuple[Any, dict[str, str]]:
        customer = changes.open_for_edit(session, actor, new.customer_id)
        sale_id = sales.create(
            session,
            actor,
            customer,
            new.model_dump(exclude={"customer_id", "lines", "source"}),
            [line.model_dump() for line in new.lines],
            None if new.source is None else (new.source.source, new.source.external_id),
        )
        with access.as_user(session, actor):
            found = sales.get(session, customer.id, sale_id)
        return found, {"Location": f"/v1/customers/{found['customer_id']}/sales/{found['id']}"}

    return once.answer(session, actor, produce, shape=ShownSaleWithLines)


# ---------------------------------------------------------------- interactions

InteractionKind = Literal["call", "email", "visit", "note", "ticket", "feedback", "survey", "complaint"]
Long = Annotated[Text, Field(max_length=20_000)]
Score = Annotated[float, Field(strict=True, ge=-1_000_000, le=1_000_000, allow_inf_nan=False)]


class NewInteraction(Body):
    """A call, e-mail, visit, note, ticket, feedback, survey answer or complaint."""

    customer_id: CustomerId
    client_id: UUID | None = Field(None, description="Made by the sender: what arrives twice with it is recorded once.")
    kind: InteractionKind = Field(examples=["visit"])
    occurred_at: When
    channel: Annotated[Short | None, Field(max_length=60)] = None
    direction: Literal["in", "out"] | None = None
    department: Annotated[Short | None, Field(max_length=60)] = None
    subject: Short | None = Field(None, examples=["Spring range shown"])
    body: Long | None = None
    outcome: Short | None = Field(None, examples=["will order"])
    score: Score | None = None
    location: Point | None = Field(None, description="Where it happened, where the visitor chose to say so.")
    follow_up_at: When | None = None


class InteractionChanges(Body):
    """What to change; fields left out stay."""

    channel: Annotated[Short | None, Field(max_length=60)] = None
    direction: Literal["in", "out"] | None = None
    department: Annotated[Short | None, Field(max_length=60)] = None
    subject: Short | None = None
    body: Long | None = None
    outcome: Short | None = Field(None, examples=["ordered"])
    score: Score | None = None
    follow_up_at: When | None = None


class ShownInteraction(Shown):
    """What passed between us and a customer."""

    id: str = Field(examples=["int_12"])
    customer_id: str
    kind: str = Field(examples=["visit"])
    channel: str | None
    direction: str | None = Field(examples=["out"])
    department: str | None
    user: Named | None
    occurred_at: datetime
    subject: str | None = Field(examples=["Spring range shown"])
    body: str | None
    outcome: str | None = Field(examples=["will order"])
    score: float | None
    location: ShownPoint | None
    follow_up_at: datetime | None
    version: int
    created_at: datetime


@interaction_routes.get(
    "/customers/{customer_id}/interactions",
    operation_id="list_customer_interactions",
    response_model=Page[ShownInteraction],
    summary="Interactions with a customer",
)
def list_customer_interactions(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    customer_id: CustomerId,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Newest first."""
    rows = interactions.find(session, customer_id, after=pages.read_moment(cursor), limit=limit + 1)
    return pages.page(request, response, rows, limit, _key)


@interaction_routes.get(
    "/customers/{customer_id}/interactions/{interaction_id}",
    operation_id="get_interaction",
    response_model=ShownInteraction,
    summary="One interaction",
)
def get_interaction(
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    customer_id: CustomerId,
    interaction_id: InteractionId,
) -> object:
    """One interaction."""
    found = interactions.get(session, customer_id, interaction_id)
    response.headers["ETag"] = etag(found["version"])
    return found


@interaction_routes.post(
    "/interactions",
    status_code=201,
    operation_id="create_interaction",
    response_model=ShownInteraction,
    summary="Record an interaction",
)
def create_interaction(session: Writing, actor: CanEditCustomers, once: Idempotent, new: NewInteraction) -> Response:
    """With a customer that you see. A repeat with the same `client_id` answers with what was recorded first."""

    def produce() -> tuple[Any, dict[str, str]]:
        interaction_id = interactions.create(
            session,
            actor,
            new.customer_id,
            new.model_dump(exclude={"customer_id", "client_id"}),
            None if new.client_id is None else str(new.client_id),
        )
        with access.as_user(session, actor):
            found = interactions.get(session, new.customer_id, interaction_id)
        where = f"/v1/customers/{ids.show('cus', new.customer_id)}/interactions/{found['id']}"
        return found, {"Location": where, "ETag": etag(found["version"])}

    return once.answer(session, actor, produce, shape=ShownInteraction)


@interaction_routes.patch(
    "/customers/{customer_id}/interactions/{interaction_id}",
    operation_id="edit_interaction",
    response_model=ShownInteraction,
    summary="Edit an interaction",
)
def edit_interaction(
    response: Response,
    session: Writing,
    actor: CanEditCustomers,
    customer_id: CustomerId,
    interaction_id: InteractionId,
    expected: IfMatch,
    changed: InteractionChanges,
) -> object:
    """Fields left out stay."""
    interaction = interactions.open_for_edit(session, actor, customer_id, interaction_id)
    expected.check(interaction.version)
    interactions.edit(session, actor, interaction, changed.model_dump(exclude_unset=True))
    with access.as_user(session, actor):
        found = interactions.get(session, customer_id, interaction_id)
    response.headers["ETag"] = etag(found["version"])
    return found
