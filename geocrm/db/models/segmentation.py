"""Segmentations, their runs and segments; who is in which, and scores. Analyses, which divide nobody."""

from datetime import datetime
from typing import Any

from sqlalchemy import REAL, CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Base, Created, CustomerKey, Id, one_of

SEGMENTATION_METHODS = ("rfm", "groups", "value", "churn", "hotspots", "rule")
ANALYSES = ("affinity", "forecast", "penetration", "tracking")
RUN_STATUSES = ("queued", "running", "done", "failed", "cancelled")


class Segmentation(Base):
    """A way to divide customers, run again and again. The segments of the active one stand on lookups and tiles."""

    __tablename__ = "segmentations"
    __table_args__ = (
        CheckConstraint(one_of("method", *SEGMENTATION_METHODS), name="method"),
        CheckConstraint("NOT is_active OR archived_at IS NULL", name="active"),
        Index("uq_segmentations_is_active", "is_active", unique=True, postgresql_where=text("is_active")),
    )

    id: Mapped[Id]
    key: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    method: Mapped[str]
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    refresh_days: Mapped[int | None] = mapped_column(Integer)  # run and publish by itself so often; null: never
    current_run_id: Mapped[int | None]  # the published run; no foreign key: runs point here
    is_active: Mapped[bool] = mapped_column(server_default="false")
    created_by: Mapped[int | None]
    archived_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class SegmentationRun(Base):
    """One computation: what it was made from, how far it is, what came of it."""

    __tablename__ = "segmentation_runs"
    __table_args__ = (
        CheckConstraint(one_of("status", *RUN_STATUSES), name="status"),
        UniqueConstraint("segmentation_id", "number"),
    )

    id: Mapped[Id]
    segmentation_id: Mapped[int] = mapped_column(ForeignKey("segmentations.id"))
    number: Mapped[int]  # 1, 2 … within the segmentation
    status: Mapped[str] = mapped_column(server_default="queued")
    cutoff: Mapped[datetime]
    seed: Mapped[int]
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB)  # as the segmentation had them then
    then_publish: Mapped[bool] = mapped_column(server_default="false")
    code_version: Mapped[str | None]
    data_version: Mapped[str | None]  # SHA-256 of all that the method read
    result_version: Mapped[str | None]  # SHA-256 of members and scores
    score_names: Mapped[list[str]] = mapped_column(server_default="{}")  # the order of `scores.numbers`
    customers: Mapped[int | None]  # in a segment
    results: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    progress: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    kept: Mapped[bool] = mapped_column(server_default="true")  # false: members and scores were deleted to make room
    job_id: Mapped[int | None]
    actor_id: Mapped[int | None]
    created_at: Mapped[Created]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]  # the last time


class Segment(Base):
    """A group of a segmentation; the same from run to run, by name or by who is in it."""

    __tablename__ = "segments"
    __table_args__ = (UniqueConstraint("segmentation_id", "identity"),)

    id: Mapped[Id]
    segmentation_id: Mapped[int] = mapped_column(ForeignKey("segmentations.id"))
    identity: Mapped[int]  # never used twice within the segmentation
    name: Mapped[str]
    named_by_hand: Mapped[bool] = mapped_column(server_default="false")  # runs leave the name alone then
    sentence: Mapped[str] = mapped_column(server_default="")
    rule: Mapped[str] = mapped_column(server_default="")  # in words: what tells a member, where a tree found it
    version: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class SegmentMember(Base):
    """The segment of a customer in a run."""

    __tablename__ = "segment_members"
    __table_args__ = (Index("ix_segment_members_run_id_segment_id_customer_id", "run_id", "segment_id", "customer_id"),)

    customer_id: Mapped[CustomerKey]
    run_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    segment_id: Mapped[int]


class Score(Base):
    """The scores of a customer in a run, in the order of the run's `score_names`; NaN where there is none."""

    __tablename__ = "scores"

    customer_id: Mapped[CustomerKey]
    run_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    numbers: Mapped[list[float]] = mapped_column(ARRAY(REAL))


class Analysis(Base):
    """Figures of all customers at a cutoff: how they were made, how far it is, what came of it."""

    __tablename__ = "analyses"
    __table_args__ = (
        CheckConstraint(one_of("kind", *ANALYSES), name="kind"),
        CheckConstraint(one_of("status", *RUN_STATUSES), name="status"),
    )

    id: Mapped[Id]
    kind: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="queued")
    cutoff: Mapped[datetime]
    seed: Mapped[int]
    parameters: Mapped[dict[str, Any]] = mapped_column(JSONB)
    code_version: Mapped[str | None]
    data_version: Mapped[str | None]  # SHA-256 of all that was read
    result_version: Mapped[str | None]  # SHA-256 of the results
    results: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    progress: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    job_id: Mapped[int | None]
    actor_id: Mapped[int | None]
    created_at: Mapped[Created]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
