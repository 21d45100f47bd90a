"""Whose is it: territories of many points at once, the ledger of a customer, moving customers by hand."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Response
from pydantic import Field
from sqlalchemy import text

from geocrm import access, ids
from geocrm.api.dependencies import CanPublishAreas, CanReadCustomers, CanReadLayers, Reading, Writing, router
from geocrm.api.idempotency import Idempotent
from geocrm.api.layers import LayerName, open_layer
from geocrm.api.shapes import AreaId, Body, CustomerId, DayOrWhen, Name, Named, Point, Shown
from geocrm.crm import customers
from geocrm.errors import Invalid
from geocrm.spatial import territories

routes = router("Territories")


class LayerNamed(Shown):
    """A layer by its names."""

    id: str = Field(examples=["lay_1"])
    key: str = Field(examples=["sales"])
    name: str = Field(examples=["Sales territories"])
    is_primary: bool = Field(examples=[True], description="It stands on the site and grants sight.")


class TerritoryAt(Shown):
    """What a layer says at a moment; without an area there is no owner, no reason and no time since."""

    layer: LayerNamed
    area: Named | None = Field(examples=[{"id": "ter_3", "name": "Front Range"}])
    owner: Named | None = Field(description="Of the area then.", examples=[{"id": "usr_7", "name": "Ada Young"}])
    team: Named | None = Field(examples=[None])
    basis: Literal["named", "rule", "polygon", "none"] = Field(examples=["polygon"])
    reason: str | None = Field(examples=["Boulder joins the north"])
    since: datetime | None
    until: datetime | None = Field(description="Null: as long as nobody changes it.", examples=[None])
    layer_version: int | None = Field(examples=[3])


class PointsAt(Body):
    """Up to 1,000 points."""

    points: Annotated[list[Point], Field(min_length=1, max_length=1000)] = Field(
        examples=[[{"lon": -104.9903, "lat": 39.7392}]]
    )
    as_of: DayOrWhen | None = Field(None, description="Left out: now.")


class TerritoriesAt(Shown):
    """For each point, in the order given, one entry a layer."""

    data: list[list[TerritoryAt]]


class LedgerRow(TerritoryAt):
    """To whom a site belonged on a layer, from when to when, since when that was known, and why."""

    site_id: str = Field(examples=["sit_1042"])
    recorded_at: datetime
    superseded_at: datetime | None = Field(examples=[None])
    by: Named | None = Field(examples=[{"id": "usr_2", "name": "Grace Hill"}])


class Ledger(Shown):
    """The ledger of one customer, newest first."""

    data: list[LedgerRow]


class Move(Body):
    """A customer and the territory it is to belong to."""

    customer_id: CustomerId
    area_id: AreaId


class Moves(Body):
    """Who moves where, from when, and why."""

    moves: Annotated[list[Move], Field(min_length=1, max_length=1000)]
    reason: Annotated[Name, Field(max_length=500, examples=["Asked for by the customer"])]
    effective_from: DayOrWhen | None = None


class Moved(Shown):
    """What it did."""

    version: int
    status: str = Field(examples=["published"])
    effective_from: datetime
    moved: int = Field(description="Sites whose territory is another one now.")
    rebased: int = Field(description="Sites that stay, for another reason.")


@routes.post(
    "/territories/at",
    operation_id="find_territories_at_points",
    response_model=TerritoriesAt,
    summary="Territories of many points",
)
def find_territories_at_points(session: Reading, actor: CanReadLayers, wanted: PointsAt) -> object:
    """Whose points these are, on every layer of territories, now or at a past moment. Only polygons are asked: names
    and rules speak of customers."""
    found = territories.at_points(
        session, [point.lon for point in wanted.points], [point.lat for point in wanted.points], as_of=wanted.as_of
    )
    return {"data": [[territories.as_shown(row) for row in rows] for rows in found]}


@routes.get(
    "/customers/{customer_id}/territories",
    operation_id="get_customer_territories",
    response_model=Ledger,
    summary="The territory history of a customer",
)
def get_customer_territories(
    session: Reading,
    actor: CanReadCustomers,
    customer_id: CustomerId,
    as_of: Annotated[DayOrWhen | None, Query(description="Only what held at this moment.")] = None,
    known_at: Annotated[DayOrWhen | None, Query(description="As it was known at this moment.")] = None,
    superseded: Annotated[bool, Query(description="Rows too that were corrected since.")] = False,
) -> object:
    """Who owned it on that day, and why; newest first."""
    customers.see(session, customer_id)
    if as_of is not None:
        rows = territories.of_customer(session, customer_id, as_of=as_of, known_at=known_at)
    else:
        rows = territories.history(session, customer_id, known_at=known_at, superseded=superseded)
    return {"data": [territories.as_shown(row) for row in rows]}


@routes.post(
    "/layers/{layer}/moves",
    status_code=201,
    operation_id="move_customers",
    response_model=Moved,
    summary="Move customers by hand",
)
def move_customers(
    session: Writing, actor: CanPublishAreas, once: Idempotent, layer: LayerName, wanted: Moves
) -> Response:
    """Each becomes a named account of the territory, in a new version that is published at once."""

    def produce() -> tuple[Any, dict[str, str]]:
        found = open_layer(session, layer)
        with access.as_user(session, actor):
            seen = set(
                session.scalars(
                    text("SELECT id FROM customers WHERE id = ANY (CAST(:ids AS bigint[]))"),
                    {"ids": [move.customer_id for move in wanted.moves]},
                )
            )
        for number, move in enumerate(wanted.moves):
            if move.customer_id not in seen:
                fault = f"there is no customer {ids.show('cus', move.customer_id)} that you see"
                raise Invalid(fault, errors=[{"pointer": f"/moves/{number}/customer_id", "detail": fault}])
        done = territories.move(
            session,
            found.id,
            {move.customer_id: move.area_id for move in wanted.moves},
            actor=actor,
            reason=wanted.reason,
            effective_from=wanted.effective_from,
        )
        return {
            "version": done.version,
            "status": done.status,
            "effective_from": done.effective_from,
            "moved": done.moved,
            "rebased": done.rebased,
        }, {}

    return once.answer(session, actor, produce, shape=Moved)
