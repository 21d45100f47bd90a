"""The textbook of eligible offers: FastAPI + SQLAlchemy (async, asyncpg) + GeoAlchemy2, as their documentation has it.

Offers that hold at the point come from one joined query over the indexed geometries of their fences and areas, with
their versions as ORM objects. Then, for the candidates: the consents and redemptions of the customer and the
redemptions of each offer in one grouped query each, opening hours with zoneinfo, hold-outs with hashlib, and each
offer's audience as a SQL condition on the customer. Nothing is precomputed; there is no row security, and nobody has
to sign in. The pool has the size of ours.
"""

import datetime as dt
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Depends, FastAPI, Query
from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from geocrm.db.models import (
    AreaPeriod,
    AreaVersion,
    Consent,
    Customer,
    Geofence,
    Offer,
    OfferArea,
    OfferVersion,
    Place,
    Redemption,
    Site,
)

engine = create_async_engine(os.environ["TEXTBOOK_URL"], pool_size=5, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
COLUMNS = {"stage": Customer.stage, "kind": Customer.kind, "region": Site.region}


class Eligible(BaseModel):
    """An offer that holds."""

    id: str
    version: int
    name: str
    title: str | None
    terms: str | None
    priority: int
    ends_at: dt.datetime
    in_all: int | None
    for_customer: int | None


class Answer(BaseModel):
    """The answer."""

    data: list[Eligible]


app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session per request."""
    async with sessions() as session:
        yield session


@app.get("/offers/eligible", response_model=Answer)
async def eligible(
    session: Annotated[AsyncSession, Depends(get_session)],
    customer: int,
    lon: Annotated[float, Query(ge=-180, le=180)],
    lat: Annotated[float, Query(ge=-90, le=90)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Answer:
    """What holds for a customer here and now."""
    now = dt.datetime.now(dt.UTC)
    here = func.ST_SetSRID(func.ST_MakePoint(lon, lat), 4326)
    in_area = (
        select(OfferArea.offer_id, OfferArea.version, OfferArea.n)
        .join(AreaPeriod, AreaPeriod.area_id == OfferArea.area_id)
        .join(
            AreaVersion, and_(AreaVersion.area_id == AreaPeriod.area_id, AreaVersion.version == AreaPeriod.area_version)
        )
        .where(AreaPeriod.valid_from <= now, AreaPeriod.valid_to > now, func.ST_Intersects(AreaVersion.geometry, here))
    )
    at_place = (
        select(OfferArea.offer_id, OfferArea.version, OfferArea.n)
        .join(Place, Place.kind == OfferArea.place_kind)
        .where(func.ST_DWithin(func.geography(Place.location), func.geography(here), OfferArea.radius_m))
    )
    offers_at = select(OfferArea.offer_id, OfferArea.version, OfferArea.n)
    holds = (
        Geofence.deleted_at.is_(None), func.ST_Intersects(Geofence.geometry, here),
        or_(Geofence.kind == "polygon",
            func.ST_DWithin(func.geography(Geofence.center), func.geography(here), Geofence.radius_m)),
    )  # fmt: skip
    named = or_(OfferArea.fence_id == Geofence.id, OfferArea.fence_tag == Geofence.tag)
    in_fence = offers_at.join(Geofence, named).where(*holds)
    there = in_area.union_all(in_fence, at_place).subquery()
    rows = await session.execute(
        select(OfferVersion, Offer, func.min(there.c.n), func.min(OfferArea.kind))
        .join(Offer, Offer.id == OfferVersion.offer_id)
        .outerjoin(
            there, and_(there.c.offer_id == OfferVersion.offer_id, there.c.version == OfferVersion.version)
        )
        .outerjoin(
            OfferArea,
            and_(
                OfferArea.offer_id == there.c.offer_id, OfferArea.version == there.c.version, OfferArea.n == there.c.n
            ),
        )
        .where(
            OfferVersion.live_from.is_not(None), OfferVersion.live_until.is_(None), OfferVersion.starts_at <= now,
            OfferVersion.ends_at > now, or_(OfferVersion.everywhere, there.c.offer_id.is_not(None)),
        )
        .group_by(OfferVersion, Offer)
    )  # fmt: skip
    found = [(version, offer, n, kind) for version, offer, n, kind in rows]
    consents = set(
        await session.scalars(
            select(Consent.purpose).where(
                Consent.customer_id == customer, Consent.withdrawn_at.is_(None), Consent.granted_at <= now
            )
        )
    )
    numbers = [version.offer_id for version, *_ in found]
    standing = select(Redemption.offer_id, func.count()).where(
        Redemption.offer_id.in_(numbers), Redemption.reversed_at.is_(None)
    )
    taken = dict((await session.execute(standing.group_by(Redemption.offer_id))).tuples().all())
    own = standing.where(Redemption.customer_id == customer).group_by(Redemption.offer_id)
    taken_here = dict((await session.execute(own)).tuples().all())
    made = []
    for version, offer, n, kind in found:
        left = None if version.cap_total is None else max(0, version.cap_total - taken.get(offer.id, 0))
        left_here = (
            None if version.cap_per_customer is None
            else max(0, version.cap_per_customer - taken_here.get(offer.id, 0))
        )  # fmt: skip
        until = closes(version, now)
        if (
            until is None
            or 0 in (left, left_here)
            or (version.consent_purpose is not None and version.consent_purpose not in consents)
            or held_out(offer, version, customer)
        ):
            continue
        if version.audience is not None:
            who = select(Customer.id).join(Site, Site.customer_id == Customer.id)
            who = who.where(Customer.id == customer, condition(version.audience))
            if not await session.scalar(select(exists(who))):
                continue
        shown = Eligible(
            id=f"off_{offer.id}", version=version.version, name=offer.name, title=version.title, terms=version.terms,
            priority=version.priority, ends_at=version.ends_at, in_all=left, for_customer=left_here,
        )  # fmt: skip
        made.append(((-version.priority, n is None, kind == "area", until, offer.id), shown))
    return Answer(data=[shown for _, shown in sorted(made, key=lambda pair: pair[0])[:limit]])


def closes(version: OfferVersion, now: dt.datetime) -> dt.datetime | None:
    """When the offer closes, None where it is not open now; its hours are within a day of one time zone."""
    assert version.ends_at is not None
    if version.hours is None:
        return version.ends_at
    zone = ZoneInfo(version.time_zone or "UTC")
    local = now.astimezone(zone)
    minute = local.hour * 60 + local.minute
    for span in version.hours:
        begin, end = (int(span[word][:2]) * 60 + int(span[word][3:]) for word in ("from", "to"))
        if DAYS[local.weekday()] in span["days"] and begin <= minute < end:
            midnight = dt.datetime(local.year, local.month, local.day, tzinfo=zone)
            return min(version.ends_at, (midnight + dt.timedelta(minutes=end)).astimezone(dt.UTC))
    return None


def held_out(offer: Offer, version: OfferVersion, customer: int) -> bool:
    """Whether the customer is held out."""
    key = f"off_{offer.id}" if offer.campaign_id is None else f"cam_{offer.campaign_id}"
    drawn = int(hashlib.sha256(f"{key}:cus_{customer}".encode()).hexdigest()[:12], 16) / 2**48
    return drawn < version.hold_out_share


def condition(wanted: dict[str, Any]) -> ColumnElement[bool]:
    """An audience as a condition."""
    if "all" in wanted:
        return and_(*(condition(part) for part in wanted["all"]))
    if wanted["field"].startswith("attributes."):
        return Customer.attributes[wanted["field"].partition(".")[2]].astext == wanted["value"]
    column = COLUMNS[wanted["field"]]
    return column.in_(wanted["value"]) if wanted["op"] == "in" else column == wanted["value"]
