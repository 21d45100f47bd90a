"""Offers with their versions, where and when they hold, who may have them, who was shown them and who redeemed."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Date,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Attributes, Base, Created, CustomerKey, Id, one_of
from geocrm.db.models.places import PLACE_KINDS

LIVE = text("live_from IS NOT NULL AND live_until IS NULL")


class Offer(Base):
    """Something a customer may have; what exactly stands in its versions."""

    __tablename__ = "offers"
    __table_args__ = (CheckConstraint("length(name) BETWEEN 1 AND 300", name="name"),)

    id: Mapped[Id]
    name: Mapped[str]
    campaign_id: Mapped[int | None]  # offers of one campaign share who is held out
    live_version: Mapped[int | None] = mapped_column(Integer)
    draft_version: Mapped[int | None] = mapped_column(Integer)
    ended_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default="1")  # ETag
    created_by: Mapped[int | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class Audience(Base):
    """Who passes a filter, worked out; offers with the same filter share it. One with a name is a list that customers
    are entered into; its filter is to be in it."""

    __tablename__ = "audiences"

    id: Mapped[Id]
    name: Mapped[str | None] = mapped_column(unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)  # of the filter in its canonical form
    filter: Mapped[dict[str, Any]] = mapped_column(JSONB)
    members: Mapped[int | None]
    refreshed_at: Mapped[datetime | None]
    took_s: Mapped[float | None] = mapped_column(Double)
    version: Mapped[int] = mapped_column(server_default="1")
    created_by: Mapped[int | None]
    created_at: Mapped[Created]


class OfferVersion(Base):
    """What an offer says. A draft may change; what was live once stays as it was."""

    __tablename__ = "offer_versions"
    __table_args__ = (
        CheckConstraint("ends_at > starts_at", name="ends_at"),
        CheckConstraint("cap_total >= 1 AND cap_per_customer >= 1", name="caps"),
        CheckConstraint("hold_out_share >= 0 AND hold_out_share <= 0.9", name="hold_out_share"),
        CheckConstraint(one_of("hold_out_unit", "customer", "area"), name="hold_out_unit"),
        CheckConstraint("live_until >= live_from", name="live_until"),
        CheckConstraint("live_from IS NULL OR ends_at IS NOT NULL", name="live"),
        Index("ix_offer_versions_everywhere", "offer_id", postgresql_where=text(f"everywhere AND {LIVE}")),
        Index("uq_offer_versions_live", "offer_id", unique=True, postgresql_where=LIVE),
    )

    offer_id: Mapped[int] = mapped_column(ForeignKey("offers.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    title: Mapped[str | None]
    terms: Mapped[str | None]
    product_ids: Mapped[list[int]] = mapped_column(server_default="{}")
    attributes: Mapped[Attributes]  # for the app: picture, code, price
    audience: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))  # NULL: everybody
    audience_id: Mapped[int | None] = mapped_column(ForeignKey("audiences.id"), index=True)
    consent_purpose: Mapped[str | None]  # NULL: none is asked for
    everywhere: Mapped[bool] = mapped_column(server_default="true")
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    time_zone: Mapped[str | None]
    hours: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    closed_on: Mapped[list[date]] = mapped_column(ARRAY(Date), server_default="{}")
    cap_total: Mapped[int | None]
    cap_per_customer: Mapped[int | None]
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    hold_out_share: Mapped[float] = mapped_column(Double, server_default="0")
    hold_out_unit: Mapped[str] = mapped_column(server_default="customer")
    made_by: Mapped[int | None]
    made_at: Mapped[Created]
    live_from: Mapped[datetime | None]
    live_until: Mapped[datetime | None]


class OfferArea(Base):
    """Where a version of an offer holds: any of these; without any, everywhere."""

    __tablename__ = "offer_areas"
    __table_args__ = (
        ForeignKeyConstraint(
            ["offer_id", "version"], ["offer_versions.offer_id", "offer_versions.version"], ondelete="CASCADE"
        ),
        CheckConstraint(
            "(kind = 'area') = (area_id IS NOT NULL) AND (kind = 'place') = (place_id IS NOT NULL)"
            " AND (kind = 'places') = (place_kind IS NOT NULL)"
            " AND (kind IN ('place', 'places')) = (radius_m IS NOT NULL)"
            " AND (kind = 'geofence') = (fence_id IS NOT NULL) AND (kind = 'geofences') = (fence_tag IS NOT NULL)",
            name="kind",
        ),
        CheckConstraint(one_of("place_kind", *PLACE_KINDS), name="place_kind"),
        CheckConstraint("radius_m > 0 AND radius_m <= 100000", name="radius_m"),
        Index("ix_offer_areas_area_id", "area_id", postgresql_where=text("area_id IS NOT NULL")),
        Index("ix_offer_areas_place_id", "place_id", postgresql_where=text("place_id IS NOT NULL")),
        Index(
            "ix_offer_areas_place_kind_radius_m",
            "place_kind",
            "radius_m",
            postgresql_where=text("place_kind IS NOT NULL"),
        ),
        Index("ix_offer_areas_fence_id", "fence_id", postgresql_where=text("fence_id IS NOT NULL")),
        Index("ix_offer_areas_fence_tag", "fence_tag", postgresql_where=text("fence_tag IS NOT NULL")),
        Index("ix_offer_areas_radius_m", "radius_m", postgresql_where=text("place_id IS NOT NULL")),
    )

    offer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    n: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # the order in which they were given
    kind: Mapped[str]
    area_id: Mapped[int | None] = mapped_column(ForeignKey("areas.id"))
    place_id: Mapped[int | None] = mapped_column(ForeignKey("places.id", ondelete="CASCADE"))
    place_kind: Mapped[str | None]
    fence_id: Mapped[int | None]
    fence_tag: Mapped[str | None]  # every fence of the tag, as they come and go
    radius_m: Mapped[float | None] = mapped_column(Double)


class OfferOpening(Base):
    """When a version of an offer holds: its calendar and hours as spans of time, worked out when it went live."""

    __tablename__ = "offer_openings"
    __table_args__ = (
        ForeignKeyConstraint(
            ["offer_id", "version"], ["offer_versions.offer_id", "offer_versions.version"], ondelete="CASCADE"
        ),
        CheckConstraint("closes_at > opens_at", name="closes_at"),
    )

    offer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    opens_at: Mapped[datetime] = mapped_column(primary_key=True)
    closes_at: Mapped[datetime]


class OfferCounter(Base):
    """How often an offer is redeemed, all versions together; who redeems holds this row until the end."""

    __tablename__ = "offer_counters"
    __table_args__ = (CheckConstraint("redeemed >= 0", name="redeemed"),)

    offer_id: Mapped[int] = mapped_column(ForeignKey("offers.id", ondelete="CASCADE"), primary_key=True)
    redeemed: Mapped[int] = mapped_column(server_default="0")


class AudienceMember(Base):
    """That a customer is in an audience, as it was last worked out, or was entered into one with a name."""

    __tablename__ = "audience_members"
    __table_args__ = (
        Index("ix_audience_members_audience_id", "audience_id"),
        Index("ix_audience_members_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    customer_id: Mapped[CustomerKey]
    audience_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    entered_at: Mapped[datetime | None]  # of an entry
    expires_at: Mapped[datetime | None]  # NULL: without an end
    purposes: Mapped[list[str] | None]  # of the consents that it was made under
    automation_id: Mapped[int | None]


class AudienceChange(Base):
    """A customer who changed: a job looks at every audience for them. Nobody waits to write here."""

    __tablename__ = "audience_changes"

    id: Mapped[Id]
    customer_id: Mapped[int]


class Exposure(Base):
    """That a customer was shown an offer, or would have been and was held out; the first decision stays."""

    __tablename__ = "exposures"
    __table_args__ = (Index("ix_exposures_offer_id_first_at", "offer_id", "first_at"),)

    customer_id: Mapped[CustomerKey]
    offer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(Integer)
    first_at: Mapped[datetime]
    held_out: Mapped[bool]
    hold_out_key: Mapped[str]  # cam_7 or off_9
    unit: Mapped[str]  # cus_42, ter_3 …


class Redemption(Base):
    """That a customer took an offer; reversed, never deleted."""

    __tablename__ = "redemptions"
    __table_args__ = (
        UniqueConstraint("customer_id", "offer_id", "idempotency_key"),
        CheckConstraint("(amount IS NULL) = (currency IS NULL)", name="currency"),
        CheckConstraint("reversed_at >= redeemed_at", name="reversed_at"),
        Index("ix_redemptions_id", "id"),
        Index("ix_redemptions_offer_id_id", "offer_id", "id"),
    )

    customer_id: Mapped[CustomerKey]
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    offer_id: Mapped[int]
    version: Mapped[int] = mapped_column(Integer)
    idempotency_key: Mapped[str]
    redeemed_at: Mapped[datetime]
    place_id: Mapped[int | None]
    reference: Mapped[str | None]  # receipt, order
    amount: Mapped[Decimal | None] = mapped_column(Numeric(18, 4))
    currency: Mapped[str | None]
    actor_id: Mapped[int | None]
    key_id: Mapped[int | None]
    reversed_at: Mapped[datetime | None]
    reversed_by: Mapped[int | None]
    reason: Mapped[str | None]
