"""Segmentations, their runs and segments, members and scores.

Revision ID: 0008
Revises: 0007
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from geocrm.db.migrate import take_back_sql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _moment(name: str, *, now: bool = False) -> sa.Column[datetime]:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=not now)


def upgrade() -> None:
    op.create_table(
        "segmentations",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("refresh_days", sa.Integer(), nullable=True),
        sa.Column("current_run_id", sa.BigInteger(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        _moment("archived_at"),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        _moment("created_at", now=True),
        _moment("updated_at", now=True),
        sa.CheckConstraint("method IN ('rfm', 'groups', 'value', 'rule')", name=op.f("ck_segmentations_method")),
        sa.CheckConstraint("NOT is_active OR archived_at IS NULL", name=op.f("ck_segmentations_active")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segmentations")),
        sa.UniqueConstraint("key", name=op.f("uq_segmentations_key")),
    )
    op.create_index(
        "uq_segmentations_is_active",
        "segmentations",
        ["is_active"],
        unique=True,
        postgresql_where=sa.text("is_active"),
    )
    op.create_table(
        "segmentation_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("segmentation_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(), nullable=False),
        sa.Column("then_publish", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("code_version", sa.Text(), nullable=True),
        sa.Column("data_version", sa.Text(), nullable=True),
        sa.Column("result_version", sa.Text(), nullable=True),
        sa.Column("score_names", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("customers", sa.BigInteger(), nullable=True),
        sa.Column("results", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("progress", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.Column("kept", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        _moment("created_at", now=True),
        _moment("started_at"),
        _moment("finished_at"),
        _moment("published_at"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_segmentation_runs_status")
        ),
        sa.ForeignKeyConstraint(
            ["segmentation_id"], ["segmentations.id"], name=op.f("fk_segmentation_runs_segmentation_id_segmentations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segmentation_runs")),
        sa.UniqueConstraint("segmentation_id", "number", name=op.f("uq_segmentation_runs_segmentation_id_number")),
    )
    op.create_table(
        "segments",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("segmentation_id", sa.BigInteger(), nullable=False),
        sa.Column("identity", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("named_by_hand", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("sentence", sa.Text(), server_default="", nullable=False),
        sa.Column("rule", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        _moment("created_at", now=True),
        _moment("updated_at", now=True),
        sa.ForeignKeyConstraint(
            ["segmentation_id"], ["segmentations.id"], name=op.f("fk_segments_segmentation_id_segmentations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segments")),
        sa.UniqueConstraint("segmentation_id", "identity", name=op.f("uq_segments_segmentation_id_identity")),
    )
    op.create_table(
        "segment_members",
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("segment_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "run_id", name=op.f("pk_segment_members")),
    )
    op.create_index(
        "ix_segment_members_run_id_segment_id_customer_id", "segment_members", ["run_id", "segment_id", "customer_id"]
    )
    op.create_table(
        "scores",
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("numbers", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "run_id", name=op.f("pk_scores")),
    )


def downgrade() -> None:
    take_back_sql(op.get_bind())
    for table in ("scores", "segment_members", "segments", "segmentation_runs", "segmentations"):
        op.drop_table(table)
