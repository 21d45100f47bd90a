"""Imports: batches, what became of each row, and the state before, for undo."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Base, Created, Id, one_of

IMPORT_KINDS = ("customers", "sales", "interactions", "places", "areas", "products")
BATCH_STATUSES = ("preview", "queued", "running", "done", "failed", "undoing", "undone")
OUTCOMES = ("new", "changed", "unchanged", "rejected")


class ImportBatch(Base):
    """One import of one file."""

    __tablename__ = "import_batches"
    __table_args__ = (
        CheckConstraint(one_of("kind", *IMPORT_KINDS), name="kind"),
        CheckConstraint(one_of("status", *BATCH_STATUSES), name="status"),
    )

    id: Mapped[Id]
    kind: Mapped[str]
    source: Mapped[str]
    file_name: Mapped[str]
    file_path: Mapped[str | None]  # below GEOCRM_HOME/uploads
    file_digest: Mapped[str | None]
    recipe: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    options: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    status: Mapped[str]
    user_id: Mapped[int | None]
    key_id: Mapped[int | None]  # of the API key that uploaded it
    team_id: Mapped[int | None]
    processed: Mapped[int] = mapped_column(server_default="0")
    total: Mapped[int | None]
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")  # new, changed, unchanged, rejected, flagged
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[Created]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ImportRow(Base):
    """What became of one line of a file."""

    __tablename__ = "import_rows"
    __table_args__ = (
        CheckConstraint(one_of("outcome", *OUTCOMES), name="outcome"),
        Index("ix_import_rows_customer_id", "customer_id", postgresql_where=text("customer_id IS NOT NULL")),
    )

    # no foreign key: it would check the one batch again for each of millions of lines
    batch_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line_no: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    outcome: Mapped[str]
    customer_id: Mapped[int | None]
    object_id: Mapped[int | None]  # site, sale, interaction, place or area
    flags: Mapped[list[str] | None]
    reasons: Mapped[dict[str, Any] | None]  # column → reason
    input: Mapped[dict[str, Any] | None]  # of a rejected row
    before: Mapped[dict[str, Any] | None]  # of a changed one
