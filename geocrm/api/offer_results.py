"""What offers brought, beside who was held out."""

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import Field

from geocrm import ids
from geocrm.api.dependencies import CanEditOffers, Writing, router
from geocrm.api.shapes import OfferId, Shown
from geocrm.campaigns import results

routes = router("Offers")

By = Annotated[
    str | None,
    Query(
        pattern="^[a-z0-9][a-z0-9_-]*$",
        max_length=60,
        description="`territory`, or the key of a segmentation.",
        examples=["territory"],
    ),
]


class ShownEffect(Shown):
    """More, or less, than without the offer, in the currency of the sales, with the bounds of an interval."""

    total: float = Field(description="By all who were shown it.", examples=[12300.0])
    total_low: float = Field(examples=[8000.0])
    total_high: float = Field(examples=[16500.0])
    each: float = Field(description="By one of them.", examples=[2.46])
    each_low: float = Field(examples=[1.6])
    each_high: float = Field(examples=[3.3])
    confidence: float = Field(examples=[0.95])
    p_value: float = Field(examples=[0.001])
    is_shown: bool = Field(description="The interval leaves 0 out.")
    units: int = Field(description="Customers, or areas, that were compared.", examples=[5555])


class ShownOutcome(Shown):
    """An effect, or why none is told; and either in words."""

    effect: ShownEffect | None
    reason: str | None = Field(examples=[None])
    sentence: str = Field(examples=["Sales: 12,300 USD more, between 8,000 and 16,500 USD (95%)."])


class ShownPart(Shown):
    """What was brought in one territory or segment, at the confidence at which all parts hold together."""

    id: str = Field(examples=["ter_3"])
    name: str = Field(examples=["Northwest"])
    shown: int = Field(examples=[500])
    held_out: int = Field(examples=[56])
    sales: ShownOutcome


class ShownResults(Shown):
    """What an offer brought."""

    offer_id: str = Field(examples=["off_3"])
    until: datetime
    days_before: int = Field(description="Sales of so many days before narrow the interval.", examples=[182])
    currency: str | None = Field(examples=["USD"])
    shown: int = Field(description="Customers who were shown it.", examples=[5000])
    held_out: int = Field(description="Customers who would have been.", examples=[555])
    redeemed: int = Field(examples=[113])
    sales: ShownOutcome
    margin: ShownOutcome = Field(description="Told where the cost of every sale is known.")
    by: str | None = Field(examples=["territory"])
    parts: list[ShownPart]
    notes: list[str] = Field(examples=[[]])


@routes.get(
    "/offers/{offer_id}/results",
    operation_id="get_offer_results",
    response_model=ShownResults,
    summary="What an offer brought",
)
def get_offer_results(session: Writing, actor: CanEditOffers, offer_id: OfferId, by: By = None) -> object:
    """What customers who were shown the offer bought more than those held out, from when it was first shown to them, or
    would have been, until now. Of all customers, so only who sees all may ask."""
    found = results.find_results(session, offer_id, by=by)
    prefix = "ter" if by == "territory" else "seg"
    return {
        "offer_id": ids.show("off", found.offer_id),
        "until": found.until,
        "days_before": found.days_before,
        "currency": found.currency,
        "shown": found.shown,
        "held_out": found.held_out,
        "redeemed": found.redeemed,
        "sales": _outcome(found.sales, "Sales", found.currency),
        "margin": _outcome(found.margin, "Margin", found.currency),
        "by": found.by,
        "parts": [
            {
                "id": ids.show(prefix, part.id),
                "name": part.name,
                "shown": part.shown,
                "held_out": part.held_out,
                "sales": _outcome(part.sales, part.name, found.currency),
            }
            for part in found.parts
        ],
        "notes": list(found.notes),
    }


def _outcome(outcome: results.Outcome, what: str, currency: str | None) -> dict[str, object]:
    found = outcome.effect
    told = None
    if found is not None:
        told = {
            "total": round(found.total, 2), "total_low": round(found.total_low, 2),
            "total_high": round(found.total_high, 2), "each": round(found.each, 4),
            "each_low": round(found.each_low, 4), "each_high": round(found.each_high, 4),
            "confidence": round(found.confidence, 6), "p_value": round(found.p_value, 6), "is_shown": found.shown,
            "units": found.units,
        }  # fmt: skip
    return {"effect": told, "reason": outcome.reason, "sentence": results.sentence(outcome, what, currency)}
