"""Redemptions: once for a key of the caller's, never more than the caps, taken back by reversal.

Whoever redeems an offer holds its counter until the end of the transaction, so redemptions of one offer come one after
another and each sees what those before it did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn

from sqlalchemy import Row, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor, require
from geocrm.campaigns import audiences, eligibility
from geocrm.crm import customers
from geocrm.db import audit
from geocrm.db.models import Audience, Customer, Exposure, OfferCounter, OfferVersion, Place, Redemption
from geocrm.errors import Conflict, Invalid, NotFound

WORDS = {
    "not_started": "it has not begun",
    "over": "it is over",
    "closed": "it does not hold at this hour",
    "outside": "it does not hold at this place",
    "needs_exact_places": "its audience asks where customers are, and the key lacks the scope locations:exact",
    "not_in_audience": "the customer is not in its audience",
    "no_consent": "the customer's consent is missing",
    "cap_reached": "all of it is taken",
    "customer_cap_reached": "the customer has had as much of it as one customer may",
    "held_out": "the customer is held out, so that what the offer brings can be measured",
}


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A redemption, and whether it was made now or is that of the same key before."""

    redemption: Redemption
    again: bool


def redeem(
    session: Session,
    offer_id: int,
    customer_id: int,
    *,
    actor: Actor,
    key: str,
    lon: float | None = None,
    lat: float | None = None,
    place_id: int | None = None,
    reference: str | None = None,
    amount: Decimal | None = None,
    currency: str | None = None,
    moment: datetime | None = None,
) -> Redeemed:
    """The customer takes the offer at a point, or at a place of ours. The same `key` again is the same redemption.

    Raises Forbidden; NotFound for an offer or customer that is not there or not seen; Invalid without a point where the
    offer asks for one; Conflict with `reasons` where it does not hold for the customer here and now."""
    require(actor, "offers:redeem")
    if (amount is None) != (currency is None):
        _fault("/currency", "an amount has a currency, and a currency an amount")
    with access.as_user(session, actor):
        customers.see(session, customer_id)
    if session.scalar(select(Customer.erased_at).where(Customer.id == customer_id)) is not None:
        raise NotFound()
    if place_id is not None:
        place = session.get(Place, place_id)
        if place is None:
            _fault("/place_id", "there is no such place")
        if lon is None:
            row = session.execute(
                select(func.ST_X(Place.location), func.ST_Y(Place.location)).where(Place.id == place_id)
            ).one()
            lon, lat = row
    counter = _hold_counter(session, offer_id)
    former = session.scalars(
        select(Redemption).where(
            Redemption.customer_id == customer_id, Redemption.offer_id == offer_id, Redemption.idempotency_key == key
        )
    ).one_or_none()
    if former is not None:
        return Redeemed(former, True)
    now = moment or datetime.now(UTC)
    judged = _judge(session, actor, offer_id, customer_id, lon, lat, now)
    counter.redeemed += 1
    made = Redemption(
        customer_id=customer_id, offer_id=offer_id, version=judged.version, idempotency_key=key, redeemed_at=now,
        place_id=place_id, reference=reference, amount=amount, currency=currency, actor_id=actor.user_id,
        key_id=actor.key_id,
    )  # fmt: skip
    session.add(made)
    session.execute(
        insert(Exposure)
        .values(
            customer_id=customer_id, offer_id=offer_id, version=judged.version, first_at=now, held_out=False,
            hold_out_key=judged.hold_out_key, unit=judged.unit or ids.show("cus", customer_id),
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    session.flush()
    _audit(session, actor, "offer.redeem", made)
    return Redeemed(made, False)


def _hold_counter(session: Session, offer_id: int) -> OfferCounter:
    """The counter of an offer, as it is now, held until the end; raises NotFound for an unknown offer."""
    found = session.get(OfferCounter, offer_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise NotFound()
    return found


def _judge(
    session: Session,
    actor: Actor,
    offer_id: int,
    customer_id: int,
    lon: float | None,
    lat: float | None,
    now: datetime,
) -> eligibility.Judged:
    with access.as_user(session, actor):
        found = eligibility.judge(session, customer_id, lon, lat, moment=now, explain=True, offer_id=offer_id)
    if not found:
        raise Conflict("This offer is not live.", reasons=["not_live"])
    (judged,) = found
    reasons = [reason for reason in judged.reasons if reason != "not_in_audience"]
    if "no_position" in reasons:
        _fault("/lon", "this offer holds somewhere, not everywhere: send lon and lat, or place_id")
    version = session.get_one(OfferVersion, (offer_id, judged.version))
    # asked of the customer, not of what was worked out some time ago
    if version.audience_id is not None and "needs_exact_places" not in reasons:
        audience = session.get_one(Audience, version.audience_id)
        if not audiences.passes(session, audience, customer_id):
            reasons.append("not_in_audience")
    if reasons:
        said = ", ".join(WORDS[reason] for reason in reasons)
        raise Conflict(f"The offer cannot be redeemed: {said}.", reasons=reasons)
    return judged


def reverse(session: Session, offer_id: int, redemption_id: int, *, actor: Actor, reason: str) -> Redemption:
    """Take a redemption back: it counts no longer. One that was taken back before stays as it is.

    Raises Forbidden, NotFound for one that is not there or whose customer is not seen."""
    require(actor, "offers:redeem")
    with access.as_user(session, actor):
        read_redemption(session, offer_id, redemption_id)
    counter = _hold_counter(session, offer_id)
    found = session.scalars(
        select(Redemption).where(Redemption.id == redemption_id).execution_options(populate_existing=True)
    ).one()
    if found.reversed_at is not None:
        return found
    found.reversed_at = max(datetime.now(UTC), found.redeemed_at)
    found.reversed_by, found.reason = actor.user_id, reason
    counter.redeemed -= 1
    session.flush()
    _audit(session, actor, "offer.reverse", found)
    return found


def read_redemption(session: Session, offer_id: int, redemption_id: int) -> Row[Any]:
    """A redemption in the reader's session; raises NotFound for one whose customer the reader does not see."""
    found = session.execute(
        text("SELECT * FROM visible.redemptions WHERE id = CAST(:id AS bigint) AND offer_id = CAST(:offer AS bigint)"),
        {"id": redemption_id, "offer": offer_id},
    ).one_or_none()
    if found is None:
        raise NotFound()
    return found


def find_redemptions(session: Session, offer_id: int, *, after: int = 0, limit: int = 50) -> Sequence[Row[Any]]:
    """Redemptions of an offer by customers whom the reader sees, by id; the session is entered as the reader."""
    return session.execute(
        text(
            "SELECT * FROM visible.redemptions WHERE offer_id = CAST(:offer AS bigint) AND id > CAST(:after AS bigint)"
            " ORDER BY id LIMIT CAST(:limit AS integer)"
        ),
        {"offer": offer_id, "after": after, "limit": limit},
    ).all()


def count_redeemed(session: Session, offer_id: int) -> int:
    """How often an offer is redeemed, reversed ones aside, whoever sees them."""
    return session.scalar(select(OfferCounter.redeemed).where(OfferCounter.offer_id == offer_id)) or 0


def count_each(session: Session, offer_ids: Sequence[int]) -> dict[int, int]:
    """The same for several offers."""
    rows = session.execute(
        select(OfferCounter.offer_id, OfferCounter.redeemed).where(OfferCounter.offer_id.in_(offer_ids))
    )
    return {row.offer_id: row.redeemed for row in rows}


def _fault(pointer: str, detail: str) -> NoReturn:
    raise Invalid(f"{pointer.lstrip('/')}: {detail}", errors=[{"pointer": pointer, "detail": detail}])


def _audit(session: Session, actor: Actor, action: str, made: Redemption) -> None:
    audit.record(
        session, action, actor_id=actor.user_id, key_id=actor.key_id, object_id=ids.show("cus", made.customer_id),
        after={"offer": ids.show("off", made.offer_id), "redemption": ids.show("red", made.id)},
    )  # fmt: skip
