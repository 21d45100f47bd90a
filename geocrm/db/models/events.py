"""What happened to customers as others are told it, and the webhooks that tell them."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Integer, LargeBinary, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Attributes, Base, Created, CustomerKey, Id, one_of

DELIVERY_STATUSES = ("queued", "delivered", "failed")


class Event(Base):
    """Something that happened to a customer, such as geofence.entered."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_id", "id"), Index("ix_events_created_at", "created_at"))

    customer_id: Mapped[CustomerKey]
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    type: Mapped[str]
    purpose: Mapped[str | None]  # of the consent that it was made under: deleted when that is withdrawn
    geofence_id: Mapped[int | None]
    occurred_at: Mapped[datetime]
    data: Mapped[Attributes]
    created_at: Mapped[Created]


class Webhook(Base):
    """An address that is told events."""

    __tablename__ = "webhooks"
    __table_args__ = (CheckConstraint("failures >= 0", name="failures"),)

    id: Mapped[Id]
    url: Mapped[str]
    description: Mapped[str | None]
    types: Mapped[list[str]] = mapped_column(server_default="{}")  # none: all
    secret: Mapped[bytes] = mapped_column(LargeBinary)  # signatures are made with it, so it cannot be a digest
    former_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    former_until: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(server_default="true")
    disabled_because: Mapped[str | None]
    failures: Mapped[int] = mapped_column(server_default="0")  # one after the other
    next_at: Mapped[Created]  # not before
    version: Mapped[int] = mapped_column(server_default="1")
    created_by: Mapped[int | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class WebhookDelivery(Base):
    """An event for a webhook: written with the event, in one transaction, and kept until it was told or given up."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("status", *DELIVERY_STATUSES), name="status"),
        Index(
            "ix_webhook_deliveries_order", "webhook_id", "customer_id", "id", postgresql_where=text("status = 'queued'")
        ),
        Index("ix_webhook_deliveries_due", "webhook_id", "next_at", "id", postgresql_where=text("status = 'queued'")),
        Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
        Index("ix_webhook_deliveries_customer_id", "customer_id"),
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

    id: Mapped[Id]
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    customer_id: Mapped[int | None]
    event_id: Mapped[int | None]  # none: a test
    type: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    next_at: Mapped[Created]
    queued_at: Mapped[Created]  # since when it is tried
    leased_until: Mapped[datetime | None]
    leased_by: Mapped[int | None] = mapped_column(Integer)  # who took it last: the number it holds a lock of
    created_at: Mapped[Created]
    finished_at: Mapped[datetime | None]


class WebhookAttempt(Base):
    """One try to deliver, and what came of it."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[int] = mapped_column(
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    at: Mapped[Created]
    took_ms: Mapped[int]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    error: Mapped[str | None]
