"""Keeping territories right: contradictions, overlaps and gaps, hand-over, owners, sales by territory."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from geocrm import access, ids
from geocrm.api import pages
from geocrm.api.dependencies import CanReadCustomers, CanReadLayers, CanReassign, Reading, Writing, router
from geocrm.api.idempotency import Idempotent
from geocrm.api.layers import LayerName, VersionNumber, open_layer
from geocrm.api.shapes import (
    AreaId,
    Body,
    CustomerId,
    DayOrWhen,
    Flag,
    Name,
    Named,
    Page,
    Shown,
    ShownMoney,
    ShownPoint,
    SiteId,
    TeamId,
    UserId,
)
from geocrm.errors import Invalid
from geocrm.spatial import contradictions, handover, layers, preview, territories

routes = router("Territories")

Kind = Literal["rule_against_polygon", "no_polygon", "nothing"]


class ShownContradiction(Shown):
    """A site to resolve."""

    customer: Named
    site_id: str
    layer_id: str
    layer: str = Field(examples=["sales"])
    kind: str = Field(
        description="rule_against_polygon, no_polygon (a rule alone) or nothing (matches nothing).",
        examples=["rule_against_polygon"],
    )
    area: Named | None = Field(description="What rule or name says.")
    polygon_area: Named | None = Field(description="What the polygon says.")
    since: datetime
    resolved_at: datetime | None = Field(examples=[None])
    resolved_by: str | None = Field(examples=[None])
    resolution: str | None = Field(examples=[None])


class ContradictionCount(Shown):
    """How many stand open."""

    layer_id: str
    kind: str = Field(examples=["no_polygon"])
    n: int


class ContradictionCounts(Shown):
    """How many stand open, by layer and kind."""

    data: list[ContradictionCount]


class ContradictionKey(Body):
    """One site on one layer."""

    customer_id: CustomerId
    site_id: SiteId


class Resolution(Body):
    """How to settle them, and why."""

    entries: Annotated[list[ContradictionKey], Field(min_length=1, max_length=1000)]
    action: Literal["accept_rule", "name", "dismiss"] = Field(
        description="The rule is right; name the customers for an area; or leave it as it is.", examples=["accept_rule"]
    )
    reason: Annotated[Name, Field(max_length=500, examples=["The river is the border"])]
    area_id: AreaId | None = Field(None, description="With `name`; left out: the rule's area.")


class Resolved(Shown):
    """How many were settled."""

    resolved: int


class ShownOverlap(Shown):
    """Where two areas lie over one another, and which of them wins there."""

    area: Named
    other: Named
    wins_area_id: str
    area_m2: float
    at: ShownPoint
    geometry: dict[str, Any]


class ShownGap(Shown):
    """A hole between areas."""

    area_m2: float
    at: ShownPoint
    geometry: dict[str, Any]


class ShownCoverage(Shown):
    """Overlaps and gaps, the largest first; reported, never in the way."""

    overlaps: list[ShownOverlap]
    overlap_count: int
    gaps: list[ShownGap]
    gap_count: int


class HandOver(Body):
    """From a leaver to another, and why."""

    from_user_id: UserId
    to_user_id: UserId
    reason: Annotated[Name, Field(max_length=500, examples=["Left the company"])]
    territories: Flag = True
    customers: Flag = True


class HandedOver(Shown):
    """What changed hands."""

    territories: list[str] = Field(examples=[["ter_3"]])
    customers: int


class NewOwner(Body):
    """Who owns the territory from now on, and why."""

    owner_id: UserId | None = None
    team_id: TeamId | None = None
    reason: Annotated[Name, Field(max_length=500, examples=["Ada takes the Front Range"])]


class OwnedArea(Shown):
    """A territory and who owns it."""

    id: str = Field(examples=["ter_3"])
    name: str = Field(examples=["Front Range"])
    owner_id: str | None
    team_id: str | None


class ShownTerritorySales(Shown):
    """Sales of a territory in a period and currency; no territory is null."""

    period: date
    territory: Named | None
    currency: str
    amount: ShownMoney
    sales: int
    customers: int


class SalesReport(Shown):
    """Sales by territory and period."""

    basis: str = Field(examples=["as_was"])
    data: list[ShownTerritorySales]


@routes.get(
    "/layers/{layer}/contradictions",
    operation_id="list_contradictions",
    response_model=Page[ShownContradiction],
    summary="Sites to resolve",
)
def list_contradictions(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    layer: LayerName,
    kind: Annotated[Kind | None, Query(description="Only these.", examples=["nothing"])] = None,
    resolved: Annotated[bool, Query(description="Settled ones too.")] = False,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Sites that you see where rule and polygon disagree, that only a rule places, or that match nothing."""
    found = open_layer(session, layer)
    key = pages.read(cursor, int, int, int)
    rows = contradictions.find(
        session, layer_id=found.id, kind=kind, resolved=resolved, after=key or (0, 0, 0), limit=limit + 1
    )
    made = pages.page(request, response, rows, limit, lambda row: [row.customer_id, row.site_id, row.layer_id])
    made["data"] = [
        {
            "customer": ids.reference("cus", row.customer_id, row.customer_name),
            "site_id": ids.show("sit", row.site_id),
            "layer_id": ids.show("lay", row.layer_id),
            "layer": row.layer_key,
            "kind": row.kind,
            "area": ids.reference("ter", row.area_id, row.area_name),
            "polygon_area": ids.reference("ter", row.polygon_area_id, row.polygon_area_name),
            "since": row.since,
            "resolved_at": row.resolved_at,
            "resolved_by": ids.show("usr", row.resolved_by),
            "resolution": row.resolution,
        }
        for row in made["data"]
    ]
    return made


@routes.get(
    "/layers/{layer}/contradictions/counts",
    operation_id="count_contradictions",
    response_model=ContradictionCounts,
    summary="How many sites to resolve",
)
def count_contradictions(session: Reading, actor: CanReadCustomers, layer: LayerName) -> object:
    """How many that you see stand open, by kind."""
    found = open_layer(session, layer)
    counts = contradictions.count(session, layer_id=found.id)
    return {
        "data": [
            {"layer_id": ids.show("lay", layer_id), "kind": kind, "n": n}
            for (layer_id, kind), n in sorted(counts.items())
        ]
    }


@routes.post(
    "/layers/{layer}/contradictions/resolve",
    operation_id="resolve_contradictions",
    response_model=Resolved,
    summary="Resolve contradictions",
)
def resolve_contradictions(session: Writing, actor: CanReassign, layer: LayerName, how: Resolution) -> object:
    """Settles entries of the queue, with a reason."""
    found = open_layer(session, layer)
    number = contradictions.resolve(
        session,
        [(entry.customer_id, entry.site_id, found.id) for entry in how.entries],
        action=how.action,
        actor=actor,
        reason=how.reason,
        area_id=how.area_id,
    )
    return {"resolved": number}


@routes.get(
    "/layers/{layer}/versions/{version}/coverage",
    operation_id="get_coverage",
    response_model=ShownCoverage,
    summary="Overlaps and gaps",
)
def get_coverage(
    session: Reading,
    actor: CanReadLayers,
    layer: LayerName,
    version: VersionNumber,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many of each.")] = 100,
) -> object:
    """Where areas of a version lie over one another, and holes between them, the largest first."""
    found = open_layer(session, layer)
    layers.require_reading(session, actor, found, version)
    report = preview.coverage(session, found.id, version, limit=limit)
    prefix = "ter" if found.kind == "territories" else "are"
    return {
        "overlaps": [
            {
                "area": ids.reference(prefix, row.area_id, row.name),
                "other": ids.reference(prefix, row.other_area_id, row.other_name),
                "wins_area_id": ids.show(prefix, row.wins_area_id),
                "area_m2": row.area_m2,
                "at": {"lon": row.lon, "lat": row.lat},
                "geometry": row.geometry,
            }
            for row in report.overlaps
        ],
        "overlap_count": report.overlap_count,
        "gaps": [
            {"area_m2": row.area_m2, "at": {"lon": row.lon, "lat": row.lat}, "geometry": row.geometry}
            for row in report.gaps
        ],
        "gap_count": report.gap_count,
    }


@routes.post("/hand-over", operation_id="hand_over", response_model=HandedOver, summary="Hand over from a leaver")
def hand_over(session: Writing, actor: CanReassign, once: Idempotent, how: HandOver) -> Response:
    """Territories and owned customers go to another; territories do not move and named accounts stay named."""

    def produce() -> tuple[Any, dict[str, str]]:
        if not (how.territories or how.customers):
            raise Invalid(
                "Hand over territories, customers or both.",
                errors=[{"pointer": "/territories", "detail": "territories, customers or both"}],
            )
        done = handover.hand_over(
            session,
            how.from_user_id,
            how.to_user_id,
            actor=actor,
            reason=how.reason,
            territories=how.territories,
            customers=how.customers,
        )
        return {"territories": [ids.show("ter", area) for area in done.territories], "customers": done.customers}, {}

    return once.answer(session, actor, produce, shape=HandedOver, status=200)


@routes.put(
    "/areas/{area_id}/owner",
    operation_id="set_area_owner",
    response_model=OwnedArea,
    summary="Give a territory another owner",
)
def set_area_owner(session: Writing, actor: CanReassign, area_id: AreaId, new: NewOwner) -> object:
    """From now on; nobody moves, and who owned it before stays on record."""
    area = handover.set_owner(
        session, area_id, owner_id=new.owner_id, team_id=new.team_id, actor=actor, reason=new.reason
    )
    return {
        "id": ids.show("ter", area.id),
        "name": area.name,
        "owner_id": ids.show("usr", area.owner_id),
        "team_id": ids.show("tea", area.team_id),
    }


@routes.get(
    "/layers/{layer}/sales",
    operation_id="report_territory_sales",
    response_model=SalesReport,
    summary="Sales by territory",
)
def report_territory_sales(
    session: Reading,
    actor: CanReadCustomers,
    layer: LayerName,
    start: Annotated[DayOrWhen, Query(description="From this moment on.", examples=["2026-01-01T00:00:00Z"])],
    end: Annotated[DayOrWhen, Query(description="Before this moment.", examples=["2027-01-01T00:00:00Z"])],
    basis: Annotated[
        Literal["as_was", "restated"],
        Query(description="By the territory valid at the sale, or by today's.", examples=["as_was"]),
    ] = "as_was",
    period: Annotated[Literal["day", "week", "month", "quarter", "year"], Query(examples=["month"])] = "month",
) -> object:
    """Sales of the customers that you see, per territory, period and currency."""
    if end <= start:
        raise Invalid("end: must be after start", errors=[{"pointer": "/end", "detail": "must be after start"}])
    if (end - start).days > 36_600 or (period in ("day", "week") and (end - start).days > 3700):
        raise Invalid("end: too far from start", errors=[{"pointer": "/end", "detail": "too far from start"}])
    if not actor.exact:  # sums by territory would tell on which side of a border a site lies
        raise access.lacks("locations:exact")
    found = open_layer(session, layer)
    rows = territories.sales_by_territory(session, found.id, start, end, basis=basis, period=period)
    return {
        "basis": basis,
        "data": [
            {
                "period": row.period,
                "territory": ids.reference("ter", row.area_id, row.name),
                "currency": row.currency,
                "amount": row.amount,
                "sales": row.sales,
                "customers": row.customers,
            }
            for row in rows
        ],
    }
