"""Automations: what an event or a schedule sets off, the log of what came of it, and the tasks that are made."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Double, ForeignKey, ForeignKeyConstraint, Identity, Index, Integer, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Base, Created, CustomerKey, Id, one_of

TRIGGERS = ("event", "schedule")
ACTIONS = ("offer", "audience", "task")
RUN_STATUSES = ("waiting", "done", "skipped", "failed")


class Automation(Base):
    """When this happens to a customer, or at this hour, do that."""

    __tablename__ = "automations"
    __table_args__ = (
        CheckConstraint(
            one_of("trigger", *TRIGGERS) + " AND (trigger = 'event') = (event_type IS NOT NULL)"
            " AND (trigger = 'event') = (geofence_tag IS NOT NULL) AND (trigger = 'event' OR geofence_id IS NULL)"
            " AND (trigger = 'schedule') = (clock IS NOT NULL AND time_zone IS NOT NULL AND days IS NOT NULL)",
            name="trigger",
        ),
        CheckConstraint(
            "(action = 'offer') = (offer_id IS NOT NULL) AND (action = 'audience') = (audience_id IS NOT NULL)"
            " AND (action = 'task') = (title IS NOT NULL AND due_days IS NOT NULL)"
            " AND (offer_id IS NOT NULL OR audience_id IS NOT NULL OR title IS NOT NULL)",
            name="action",
        ),
        CheckConstraint("hours > 0", name="hours"),
        CheckConstraint("cap_days >= 1", name="cap_days"),
        CheckConstraint("hold_out_share >= 0 AND hold_out_share <= 0.9", name="hold_out_share"),
        CheckConstraint("length(name) BETWEEN 1 AND 300", name="name"),
    )

    id: Mapped[Id]
    name: Mapped[str]
    enabled: Mapped[bool] = mapped_column(server_default="false")
    trigger: Mapped[str]
    event_type: Mapped[str | None]
    geofence_tag: Mapped[str | None]
    geofence_id: Mapped[int | None]  # NULL: any fence of the tag
    days: Mapped[list[str] | None]
    clock: Mapped[str | None]  # on the wall, 09:00
    time_zone: Mapped[str | None]
    condition: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    consent_purpose: Mapped[str | None]  # NULL: none is asked for
    cap_days: Mapped[int | None] = mapped_column(Integer)  # once for a customer within so many days
    hold_out_share: Mapped[float] = mapped_column(Double, server_default="0")
    campaign_id: Mapped[int | None]  # its offers hold out the same customers
    action: Mapped[str]
    offer_id: Mapped[int | None]
    audience_id: Mapped[int | None] = mapped_column(ForeignKey("audiences.id"))
    hours: Mapped[float | None] = mapped_column(Double)  # how long an entry or offer holds
    title: Mapped[str | None]
    details: Mapped[str | None]
    due_days: Mapped[int | None] = mapped_column(Integer)
    next_at: Mapped[datetime | None]  # of a schedule, while it is enabled
    round_for: Mapped[datetime | None]  # the time of the schedule that is being done
    round_after: Mapped[int | None]  # and the customer up to whom it is done
    version: Mapped[int] = mapped_column(server_default="1")
    created_by: Mapped[int | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class AutomationRun(Base):
    """An automation set off for a customer, written with the event in one transaction; or, of a schedule, how many
    customers it left aside for a reason, or how many of its runs were deleted with a consent (`forgotten`). It says
    nothing of where anybody was but by its event."""

    __tablename__ = "automation_runs"
    __table_args__ = (
        CheckConstraint(one_of("status", *RUN_STATUSES), name="status"),
        CheckConstraint(
            "(status = 'waiting') = (finished_at IS NULL) AND (status IN ('skipped', 'failed')) = (reason IS NOT NULL)",
            name="finished_at",
        ),
        Index("ix_automation_runs_automation_id_id", "automation_id", "id"),
        Index("ix_automation_runs_waiting", "automation_id", "id", postgresql_where=text("status = 'waiting'")),
        Index(
            "ix_automation_runs_customer_id",
            "customer_id",
            "automation_id",
            "finished_at",
            postgresql_where=text("customer_id IS NOT NULL"),
        ),
        Index(
            "uq_automation_runs_event_id",
            "automation_id",
            "event_id",
            unique=True,
            postgresql_where=text("event_id IS NOT NULL"),
        ),
        Index(
            "uq_automation_runs_round",
            "automation_id",
            "moment",
            "reason",
            unique=True,
            postgresql_where=text("customer_id IS NULL"),
        ),
        Index("ix_automation_runs_created_at", "created_at"),
    )

    id: Mapped[Id]
    automation_id: Mapped[int] = mapped_column(ForeignKey("automations.id", ondelete="CASCADE"))
    automation_version: Mapped[int]
    customer_id: Mapped[int | None]
    customers: Mapped[int] = mapped_column(server_default="1")
    event_id: Mapped[int | None]
    purpose: Mapped[str | None]  # of the consent that the event was made under: deleted when that is withdrawn
    moment: Mapped[datetime]  # of the event, or of the schedule
    status: Mapped[str] = mapped_column(server_default="waiting")
    reason: Mapped[str | None]
    task_id: Mapped[int | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[Created]
    finished_at: Mapped[datetime | None]


class Task(Base):
    """Something that somebody is to do for a customer."""

    __tablename__ = "tasks"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id"], ["customers.id"], ondelete="CASCADE"),
        CheckConstraint("length(title) BETWEEN 1 AND 300", name="title"),
        Index("ix_tasks_id", "id"),
        Index("ix_tasks_due_at_id", "due_at", "id", postgresql_where=text("done_at IS NULL")),
        Index("ix_tasks_assignee_id", "assignee_id", "due_at", "id", postgresql_where=text("done_at IS NULL")),
    )

    customer_id: Mapped[CustomerKey]
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str]
    details: Mapped[str | None]
    assignee_id: Mapped[int]
    due_at: Mapped[datetime]
    automation_id: Mapped[int | None]
    purposes: Mapped[list[str]] = mapped_column(server_default="{}")  # of the consents that it was made under
    done_at: Mapped[datetime | None]
    done_by: Mapped[int | None]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[Created]
