"""Background jobs as their user sees them; the queue itself is procrastinate's."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Base, Created, one_of

JOB_STATUSES = ("queued", "running", "done", "failed")


class Job(Base):
    """One job: who asked for it, how far it is, what came of it. Its id is the queue's."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(one_of("status", *JOB_STATUSES), name="status"),
        Index("ix_jobs_user_id_id", "user_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    subject: Mapped[str | None]  # prefixed id of what it works on
    user_id: Mapped[int | None]
    key_id: Mapped[int | None]  # of the API key that asked for it
    status: Mapped[str] = mapped_column(server_default="queued")
    result: Mapped[Any | None] = mapped_column(JSONB)
    error: Mapped[dict[str, Any] | None]  # title, detail, errors, as in a problem
    created_at: Mapped[Created]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
