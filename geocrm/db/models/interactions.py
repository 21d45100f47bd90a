"""What passed between us and a customer, on any channel, by any department."""

from datetime import datetime

from geoalchemy2 import WKBElement
from sqlalchemy import CheckConstraint, Float, ForeignKeyConstraint, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import POINT_CHECK, Base, Created, CustomerKey, one_of, point

INTERACTION_KINDS = ("call", "email", "visit", "note", "ticket", "feedback", "survey", "complaint")


class Interaction(Base):
    """A call, e-mail, visit, note, ticket, feedback, survey answer or complaint."""

    __tablename__ = "interactions"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id"], ["customers.id"], ondelete="CASCADE"),
        CheckConstraint(one_of("kind", *INTERACTION_KINDS), name="kind"),
        CheckConstraint(one_of("direction", "in", "out"), name="direction"),
        CheckConstraint(POINT_CHECK, name="location"),
        CheckConstraint("score <> 'NaN'", name="score"),
        Index("ix_interactions_id", "id"),
        Index("ix_interactions_customer_id_occurred_at", "customer_id", "occurred_at"),
        Index("ix_interactions_batch_id", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    )

    customer_id: Mapped[CustomerKey]
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    channel: Mapped[str | None]
    direction: Mapped[str | None]
    department: Mapped[str | None]
    user_id: Mapped[int | None]
    occurred_at: Mapped[datetime]
    subject: Mapped[str | None]
    body: Mapped[str | None]
    outcome: Mapped[str | None]
    score: Mapped[float | None] = mapped_column(Float)
    location: Mapped[WKBElement | None] = mapped_column(point())
    campaign_id: Mapped[int | None]
    follow_up_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default="1")
    batch_id: Mapped[int | None]
    created_at: Mapped[Created]


class InteractionSource(Base):
    """What a source system, or a phone that was offline, calls an interaction."""

    __tablename__ = "interaction_sources"
    __table_args__ = (Index("ix_interaction_sources_customer_id", "customer_id"),)

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    interaction_id: Mapped[int]
