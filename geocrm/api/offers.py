"""Offers: drafts, what stands in their way, live versions, redemptions."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session

from geocrm import access, filters, ids
from geocrm.access import Actor
from geocrm.api import pages
from geocrm.api.customer_edits import Attributes
from geocrm.api.dependencies import (
    CanEditOffers,
    CanPublishOffers,
    CanReadOffers,
    CanRedeemOffers,
    IfMatch,
    Reading,
    Writing,
    etag,
    router,
)
from geocrm.api.idempotency import HEADER, Idempotent
from geocrm.api.shapes import (
    AreaId,
    Body,
    CampaignId,
    Currency,
    CustomerId,
    Lat,
    Lon,
    Money,
    Name,
    OfferId,
    Page,
    PlaceId,
    ProductId,
    RedemptionId,
    Short,
    Shown,
    ShownMoney,
    Text,
    When,
)
from geocrm.campaigns import audiences, geofences, holdouts, offers, redemptions
from geocrm.db.models import Audience, Offer, OfferArea
from geocrm.errors import Invalid

routes = router("Offers")

_AUDIENCE = {"field": "stage", "op": "=", "value": "active"}
_HOURS = [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "07:00", "to": "11:00"}]
_AREAS = [{"area_id": "ter_3"}, {"place_kind": "own", "radius_m": 300.0}]
_END, _START = "2026-03-31T22:00:00Z", "2026-03-01T08:00:00Z"
PlaceKind = Literal["own", "competitor", "depot", "branch"]
Status = Literal["draft", "live", "ended"]
Cap = Annotated[int, Field(ge=1, le=2**53, strict=True)]
Radius = Annotated[float, Field(gt=0, le=offers.WIDEST_M, strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=holdouts.LARGEST_SHARE, strict=True, allow_inf_nan=False)]
Purpose = Annotated[Text, Field(min_length=1, max_length=60, examples=["marketing"])]
Zone = Annotated[Text, Field(min_length=1, max_length=60, examples=["America/Denver"])]
Fence = Annotated[
    str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,62}/[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}$", examples=["shops/denver-1"])
]
FenceTag = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,62}$", examples=["shops"])]
Priority = Annotated[int, Field(ge=-(2**31), le=2**31 - 1, strict=True)]


class Where(Body):
    """An area of any layer, a geofence, every geofence of a tag, or metres around one place or around every place of a
    kind: one of these."""

    area_id: AreaId | None = None
    geofence: Fence | None = Field(None, description="Its tag and external id.", examples=[None])
    geofence_tag: FenceTag | None = Field(
        None, description="Every fence of this tag, as they come and go.", examples=[None]
    )
    place_id: PlaceId | None = Field(None, examples=[None])
    place_kind: PlaceKind | None = Field(None, examples=[None])
    radius_m: Radius | None = Field(None, examples=[None])


class Hours(Body):
    """From one time to another on days of the week; past midnight where it ends at or before it begins."""

    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(min_length=1, max_length=7)
    opens: str = Field(alias="from", pattern="^[0-9]{2}:[0-9]{2}$", examples=["07:00"])
    closes: str = Field(alias="to", pattern="^[0-9]{2}:[0-9]{2}$", examples=["11:00"])


class _Said(Body):
    title: Annotated[Short, Field(min_length=1, examples=["A coffee on us"])] | None = None
    terms: Text | None = Field(None, examples=["One a day, before eleven."])
    product_ids: list[ProductId] = Field(default_factory=list, max_length=offers.MOST_PRODUCTS)
    attributes: Attributes = Field(default_factory=dict, description="For the app.", examples=[{"code": "COFFEE"}])
    audience: dict[str, Any] | None = Field(None, description="A filter; null: everybody.", examples=[_AUDIENCE])
    consent_purpose: Purpose | None = Field(
        offers.CONSENT, description="The consent that a customer must have given; null: none is needed."
    )
    areas: list[Where] = Field(
        default_factory=list, max_length=offers.MOST_AREAS, description="Any of them; none: everywhere.",
        examples=[_AREAS],
    )  # fmt: skip
    starts_at: When | None = Field(None, description="Null: when it goes live.", examples=[_START])
    ends_at: When | None = Field(None, description="Needed to go live.", examples=[_END])
    time_zone: Zone | None = Field(None, description="Of hours and closed days.")
    hours: list[Hours] | None = Field(
        None, min_length=1, max_length=100, description="Null: at any hour.", examples=[_HOURS]
    )
    closed_on: list[date] = Field(default_factory=list, max_length=1000, examples=[["2026-03-08"]])
    cap_total: Cap | None = Field(None, description="Redemptions in all.", examples=[500])
    cap_per_customer: Cap | None = Field(None, examples=[1])
    priority: Priority = Field(0, description="The higher comes first.")
    hold_out_share: Share = Field(0.0, description="Held out, to measure what the offer brings.", examples=[0.1])
    hold_out_unit: Literal["customer", "area"] = "customer"


class NewOffer(_Said):
    """A draft; what it lacks is asked for when it goes live."""

    name: Annotated[Name, Field(max_length=300, examples=["Spring coffee"])]
    campaign_id: CampaignId | None = Field(
        None, description="Offers of one campaign hold out the same customers.", examples=["cam_7"]
    )


class OfferEdit(_Said):
    """What is to be different; fields left out stay."""

    never_null = ("name",)

    name: Annotated[Name, Field(max_length=300, examples=["Spring coffee"])] | None = None
    campaign_id: CampaignId | None = Field(None, examples=["cam_7"])


class ShownWhere(Shown):
    """Where an offer holds."""

    kind: str = Field(examples=["area"])
    name: str | None = Field(description="Of the area, the fence or the place.", examples=["Front Range"])
    layer_id: str | None = Field(description="Of the area.", examples=["lay_1"])
    area_id: str | None = Field(examples=["ter_3"])
    geofence: str | None = Field(examples=[None])
    geofence_tag: str | None = Field(examples=[None])
    place_id: str | None = Field(examples=[None])
    place_kind: str | None = Field(examples=[None])
    radius_m: float | None = Field(examples=[None])


class ShownOfferVersion(Shown):
    """What a version of an offer says."""

    version: int = Field(examples=[1])
    title: str | None = Field(examples=["A coffee on us"])
    terms: str | None = Field(examples=["One a day, before eleven."])
    product_ids: list[str] = Field(examples=[["prd_4"]])
    attributes: dict[str, Any] = Field(examples=[{"code": "COFFEE"}])
    audience: dict[str, Any] | None = Field(examples=[{"all": [_AUDIENCE]}])
    audience_sentence: str = Field(examples=["active"])
    audience_members: int | None = Field(
        description="As last worked out; null before, for everybody, and to who does not see all.", examples=[12044]
    )
    consent_purpose: str | None = Field(examples=["marketing"])
    areas: list[ShownWhere]
    starts_at: datetime | None = Field(examples=[_START])
    ends_at: datetime | None = Field(examples=[_END])
    time_zone: str | None = Field(examples=["America/Denver"])
    hours: list[dict[str, Any]] | None = Field(examples=[_HOURS])
    closed_on: list[date] = Field(examples=[["2026-03-08"]])
    cap_total: int | None = Field(examples=[500])
    cap_per_customer: int | None = Field(examples=[1])
    priority: int = Field(examples=[0])
    hold_out_share: float = Field(examples=[0.1])
    hold_out_unit: str = Field(examples=["customer"])
    live_from: datetime | None = Field(examples=[_START])
    live_until: datetime | None = Field(examples=[None])


class ShownOffer(Shown):
    """An offer: what is live, and the draft that may take its place."""

    id: str = Field(examples=["off_3"])
    name: str = Field(examples=["Spring coffee"])
    campaign_id: str | None = Field(examples=["cam_7"])
    status: str = Field(examples=["live"])
    live: ShownOfferVersion | None = Field(description="What customers have; of an ended offer what they had last.")
    draft: ShownOfferVersion | None = Field(examples=[None])
    redeemed: int = Field(description="Redemptions of all versions, reversed ones aside.", examples=[113])
    ended_at: datetime | None = Field(examples=[None])
    version: int = Field(description="Its ETag.")
    created_at: datetime
    updated_at: datetime


class Obstacle(Shown):
    """What stands in the way of going live."""

    pointer: str = Field(examples=["/ends_at"])
    detail: str = Field(examples=["an offer needs an end"])


class Obstacles(Shown):
    """All that stands in the way; nothing: the draft can go live."""

    data: list[Obstacle]
    warnings: list[Obstacle] = Field(
        default_factory=list,
        description="What does not stand in the way, and may be a mistake.",
        examples=[[{"pointer": "/consent_purpose", "detail": "nobody ever gave a consent with the purpose 'spam'"}]],
    )


class OfferVersions(Shown):
    """All versions, newest first."""

    data: list[ShownOfferVersion]


class NewRedemption(Body):
    """Who takes the offer, and where: a point, or a place of ours, for an offer that holds somewhere."""

    customer_id: CustomerId = Field(examples=["cus_1042"])
    lon: Lon | None = None
    lat: Lat | None = None
    place_id: PlaceId | None = None
    reference: Short | None = Field(None, description="Receipt or order.", examples=["R-20260314-17"])
    amount: Money | None = None
    currency: Currency | None = None

    @model_validator(mode="after")
    def _both(self) -> "NewRedemption":
        if (self.lon is None) != (self.lat is None):
            raise ValueError("lon and lat go together")
        return self


class ShownRedemption(Shown):
    """A redemption."""

    id: str = Field(examples=["red_51"])
    offer_id: str = Field(examples=["off_3"])
    version: int = Field(description="Of the offer.", examples=[1])
    customer_id: str
    redeemed_at: datetime
    place_id: str | None
    reference: str | None = Field(examples=["R-20260314-17"])
    amount: ShownMoney | None
    currency: str | None
    reversed_at: datetime | None = Field(examples=[None])
    reason: str | None = Field(description="Why it was reversed.", examples=[None])


class Reversal(Body):
    """Why."""

    reason: Annotated[Short, Field(min_length=1, examples=["Rung up twice"])]


# ---------------------------------------------------------------- showing


def _offer(session: Session, actor: Actor, offer: Offer) -> dict[str, Any]:
    (shown,) = _offers(session, actor, [offer])
    return shown


def _offers(session: Session, actor: Actor, found: Sequence[Offer]) -> list[dict[str, Any]]:
    """Asks the same number of questions for many as for one."""
    numbers = ((offer.id, number) for offer in found for number in (offer.live_version, offer.draft_version))
    wholes = offers.get_versions(session, [(offer_id, number) for offer_id, number in numbers if number is not None])
    versions = dict(zip(wholes, _versions(session, actor, list(wholes.values())), strict=True))
    redeemed = redemptions.count_each(session, [offer.id for offer in found])
    return [
        {
            "id": ids.show("off", offer.id),
            "name": offer.name,
            "campaign_id": ids.show("cam", offer.campaign_id),
            "status": offers.status_of(offer),
            "live": None if offer.live_version is None else versions[offer.id, offer.live_version],
            "draft": None if offer.draft_version is None else versions[offer.id, offer.draft_version],
            "redeemed": redeemed.get(offer.id, 0),
            "ended_at": offer.ended_at,
            "version": offer.version,
            "created_at": offer.created_at,
            "updated_at": offer.updated_at,
        }
        for offer in found
    ]


def _versions(session: Session, actor: Actor, wholes: Sequence[offers.Whole]) -> list[dict[str, Any]]:
    named = [area for whole in wholes for area in whole.areas]
    areas = offers.describe_areas(session, [area.area_id for area in named if area.area_id is not None])
    places = offers.name_places(session, [area.place_id for area in named if area.place_id is not None])
    fences = geofences.find_names(session, [area.fence_id for area in named if area.fence_id is not None])
    asked = {whole.version.audience_id for whole in wholes if whole.version.audience_id is not None}
    found = {one.id: one for one in session.scalars(select(Audience).where(Audience.id.in_(asked)))}
    lists = _names_of_lists(session, wholes)
    members = {number: _members(session, actor, audience) for number, audience in found.items()}
    same = (
        "version", "title", "terms", "attributes", "audience", "consent_purpose", "starts_at", "ends_at", "time_zone",
        "hours", "closed_on", "cap_total", "cap_per_customer", "priority", "hold_out_share", "hold_out_unit",
        "live_from", "live_until",
    )  # fmt: skip
    return [
        {name: getattr(held, name) for name in same}
        | {
            "product_ids": [ids.show("prd", number) for number in held.product_ids],
            "audience_sentence": filters.parse(held.audience, reader=filters.Reader(contacts=True)).sentence(
                lambda shown: lists.get(shown, shown)
            ),
            "audience_members": None if held.audience_id is None else members.get(held.audience_id),
            "areas": [_where(area, areas, places, fences) for area in whole.areas],
        }
        for whole in wholes
        for held in (whole.version,)
    ]


def _names_of_lists(session: Session, wholes: Sequence[offers.Whole]) -> dict[str, str]:
    """The names of the audiences that these versions' filters speak of, by id."""
    said = json.dumps([whole.version.audience for whole in wholes])
    numbers = {int(number) for number in re.findall(r'"aud_([0-9]{1,18})"', said)}
    found = session.scalars(select(Audience).where(Audience.id.in_(numbers))) if numbers else ()
    return {f"aud_{one.id}": one.name for one in found if one.name is not None}


def _members(session: Session, actor: Actor, audience: Audience) -> int | None:
    """How many are in it, for who sees all, and may know it."""
    if not actor.sees_all or (not actor.exact and audiences.asks_where(session, audience)):
        return None
    return audience.members


def _where(
    area: OfferArea,
    areas: Mapping[int, offers.AreaOfLayer],
    places: Mapping[int, str],
    fences: Mapping[int, geofences.Called],
) -> dict[str, Any]:
    found = None if area.area_id is None else areas[area.area_id]
    fence = None if area.fence_id is None else fences[area.fence_id]
    place = None if area.place_id is None else places[area.place_id]
    return {
        "kind": area.kind,
        "name": found.name if found is not None else fence.name if fence is not None else place,
        "layer_id": None if found is None else ids.show("lay", found.layer_id),
        "area_id": None if found is None else ids.show(found.prefix, found.area_id),
        "geofence": None if fence is None else fence.reference,
        "geofence_tag": area.fence_tag,
        "place_id": ids.show("pla", area.place_id),
        "place_kind": area.place_kind,
        "radius_m": area.radius_m,
    }


def _redemption(row: Any) -> dict[str, Any]:
    return {
        "id": ids.show("red", row.id),
        "offer_id": ids.show("off", row.offer_id),
        "version": row.version,
        "customer_id": ids.show("cus", row.customer_id),
        "redeemed_at": row.redeemed_at,
        "place_id": ids.show("pla", row.place_id),
        "reference": row.reference,
        "amount": row.amount,
        "currency": row.currency,
        "reversed_at": row.reversed_at,
        "reason": row.reason,
    }


def _given(body: _Said, *, only_set: bool) -> dict[str, Any]:
    given = body.model_dump(by_alias=True, exclude_unset=only_set)
    for name in ("product_ids", "attributes", "areas", "closed_on", "priority", "hold_out_share", "hold_out_unit"):
        if name in given and given[name] is None:
            raise Invalid(f"{name} cannot be null", errors=[{"pointer": f"/{name}", "detail": "cannot be null"}])
    return given


# ---------------------------------------------------------------- offers


@routes.get("/offers", operation_id="list_offers", response_model=Page[ShownOffer], summary="List offers")
def list_offers(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadOffers,
    status: Annotated[Status | None, Query(description="Only those.", examples=["live"])] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Newest first."""
    found = offers.find_offers(session, status=status, before=pages.read_id(cursor), limit=limit + 1)
    made = pages.page(request, response, found, limit, lambda offer: [offer.id])
    return made | {"data": _offers(session, actor, made["data"])}


@routes.post(
    "/offers", status_code=201, operation_id="create_offer", response_model=ShownOffer, summary="Create an offer"
)
def create_offer(session: Writing, actor: CanEditOffers, once: Idempotent, new: NewOffer) -> Response:
    """A draft: nobody has it before it goes live."""

    def produce() -> tuple[Any, dict[str, str]]:
        made = offers.create_offer(session, actor=actor, **_given(new, only_set=False))
        shown = _offer(session, actor, made)
        return shown, {"Location": f"/v1/offers/{shown['id']}", "ETag": etag(made.version)}

    return once.answer(session, actor, produce, shape=ShownOffer)


@routes.get("/offers/{offer_id}", operation_id="get_offer", response_model=ShownOffer, summary="One offer")
def get_offer(response: Response, session: Reading, actor: CanReadOffers, offer_id: OfferId) -> object:
    """What is live, the draft, and how often it was redeemed."""
    found = offers.get_offer(session, offer_id)
    response.headers["ETag"] = etag(found.version)
    return _offer(session, actor, found)


@routes.patch("/offers/{offer_id}", operation_id="edit_offer", response_model=ShownOffer, summary="Edit an offer")
def edit_offer(
    response: Response, session: Writing, actor: CanEditOffers, offer_id: OfferId, expected: IfMatch, edit: OfferEdit
) -> object:
    """Changes the draft. A live offer stays as it is: a draft of the next version is made of it, with the changes."""
    expected.check(offers.get_offer(session, offer_id, lock=True).version)
    held = offers.edit_offer(session, offer_id, actor=actor, **_given(edit, only_set=True))
    response.headers["ETag"] = etag(held.version)
    return _offer(session, actor, held)


@routes.delete("/offers/{offer_id}", status_code=204, operation_id="discard_offer_draft", summary="Throw a draft away")
def discard_offer_draft(session: Writing, actor: CanEditOffers, offer_id: OfferId, expected: IfMatch) -> None:
    """The draft, and with it an offer that was never live. What is live stays; it can be ended."""
    expected.check(offers.get_offer(session, offer_id, lock=True).version)
    offers.discard_draft(session, offer_id, actor=actor)


@routes.get(
    "/offers/{offer_id}/versions",
    operation_id="list_offer_versions",
    response_model=OfferVersions,
    summary="What an offer said, version by version",
)
def list_offer_versions(session: Reading, actor: CanReadOffers, offer_id: OfferId) -> object:
    """Newest first, the draft too. What was live once is as it was."""
    return {"data": _versions(session, actor, offers.find_versions(session, offer_id))}


@routes.post(
    "/offers/{offer_id}/check",
    operation_id="check_offer",
    response_model=Obstacles,
    summary="What stands in the way of going live",
)
def check_offer(session: Writing, actor: CanEditOffers, offer_id: OfferId) -> object:
    """All of it at once: no end, hours that never open, an empty audience, areas that hold nobody. The audience is
    worked out, so that its size can be shown. A consent that nobody ever gave is a warning."""
    return {"data": offers.check_draft(session, offer_id), "warnings": offers.find_doubts(session, offer_id)}


@routes.post(
    "/offers/{offer_id}/live", operation_id="set_offer_live", response_model=ShownOffer, summary="Set a draft live"
)
def set_offer_live(
    response: Response, session: Writing, actor: CanPublishOffers, offer_id: OfferId, expected: IfMatch
) -> object:
    """In the place of the version that was live. Redemptions count on; who was held out stays so."""
    expected.check(offers.get_offer(session, offer_id, lock=True).version)
    held = offers.go_live(session, offer_id, actor=actor)
    response.headers["ETag"] = etag(held.version)
    return _offer(session, actor, held)


@routes.post("/offers/{offer_id}/end", operation_id="end_offer", response_model=ShownOffer, summary="End an offer")
def end_offer(
    response: Response, session: Writing, actor: CanPublishOffers, offer_id: OfferId, expected: IfMatch
) -> object:
    """At once and for good; a draft of it is thrown away."""
    expected.check(offers.get_offer(session, offer_id, lock=True).version)
    held = offers.end_offer(session, offer_id, actor=actor)
    response.headers["ETag"] = etag(held.version)
    return _offer(session, actor, held)


# ---------------------------------------------------------------- redemptions


@routes.post(
    "/offers/{offer_id}/redemptions",
    status_code=201,
    operation_id="redeem_offer",
    response_model=ShownRedemption,
    summary="Redeem an offer",
)
def redeem_offer(
    session: Writing, actor: CanRedeemOffers, once: Idempotent, offer_id: OfferId, new: NewRedemption
) -> Response:
    """Once for an `Idempotency-Key`, for ever, and never more often than the caps allow, whatever comes at the same
    time. Sent again it is answered as it is now: one that was taken back meanwhile has its `reversed_at`. 409 says in
    `reasons` why the offer does not hold for the customer here and now."""
    if once.key is None:
        fault = "send one, so that a redemption sent again is not made again"
        raise Invalid(f"{HEADER}: {fault}", errors=[{"pointer": f"/{HEADER}", "detail": fault}])
    key = f"{ids.show('usr', actor.user_id) if actor.key_id is None else ids.show('key', actor.key_id)}:{once.key}"

    def produce() -> tuple[Any, dict[str, str]]:
        made = redemptions.redeem(session, offer_id, actor=actor, key=key, **new.model_dump())
        shown = _redemption(made.redemption)
        return shown, {"Location": f"/v1/offers/{shown['offer_id']}/redemptions/{shown['id']}"}

    def as_it_is(made: dict[str, Any]) -> Any:
        with access.as_user(session, actor):
            return _redemption(redemptions.read_redemption(session, offer_id, ids.read("red", made["id"])))

    return once.answer(session, actor, produce, shape=ShownRedemption, as_it_is=as_it_is)


@routes.get(
    "/offers/{offer_id}/redemptions",
    operation_id="list_redemptions",
    response_model=Page[ShownRedemption],
    summary="Redemptions of an offer",
)
def list_redemptions(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadOffers,
    offer_id: OfferId,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """By id, those of customers that you see, reversed ones too."""
    offers.get_offer(session, offer_id)
    rows = redemptions.find_redemptions(session, offer_id, after=pages.read_id(cursor) or 0, limit=limit + 1)
    made = pages.page(request, response, rows, limit, lambda row: [row.id])
    return made | {"data": [_redemption(row) for row in made["data"]]}


@routes.get(
    "/offers/{offer_id}/redemptions/{redemption_id}",
    operation_id="get_redemption",
    response_model=ShownRedemption,
    summary="One redemption",
)
def get_redemption(session: Reading, actor: CanReadOffers, offer_id: OfferId, redemption_id: RedemptionId) -> object:
    """Of a customer that you see."""
    return _redemption(redemptions.read_redemption(session, offer_id, redemption_id))


@routes.post(
    "/offers/{offer_id}/redemptions/{redemption_id}/reverse",
    operation_id="reverse_redemption",
    response_model=ShownRedemption,
    summary="Take a redemption back",
)
def reverse_redemption(
    session: Writing, actor: CanRedeemOffers, offer_id: OfferId, redemption_id: RedemptionId, why: Reversal
) -> object:
    """It counts no longer, so that another may have its place. Taken back twice is taken back once."""
    return _redemption(redemptions.reverse(session, offer_id, redemption_id, actor=actor, reason=why.reason))
