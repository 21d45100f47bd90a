"""Analyses: figures of all customers that divide nobody. Segmentations by hot spots and by who leaves.

Revision ID: 0009
Revises: 0008
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from geocrm.db.migrate import take_back_sql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _moment(name: str, *, now: bool = False) -> sa.Column[datetime]:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=not now)


def _methods(*names: str) -> None:
    constraint = op.f("ck_segmentations_method")  # there is no `op` before a migration runs
    op.drop_constraint(constraint, "segmentations", type_="check")
    op.create_check_constraint(constraint, "segmentations", f"method IN ({', '.join(map(repr, names))})")


def upgrade() -> None:
    _methods("rfm", "groups", "value", "churn", "hotspots", "rule")
    op.create_table(
        "analyses",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=True),
        sa.Column("data_version", sa.Text(), nullable=True),
        sa.Column("result_version", sa.Text(), nullable=True),
        sa.Column("results", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("progress", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        _moment("created_at", now=True),
        _moment("started_at"),
        _moment("finished_at"),
        sa.CheckConstraint(
            "kind IN ('affinity', 'forecast', 'penetration', 'tracking')", name=op.f("ck_analyses_kind")
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done', 'failed', 'cancelled')", name=op.f("ck_analyses_status")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analyses")),
    )


def downgrade() -> None:
    take_back_sql(op.get_bind())
    op.drop_table("analyses")
    for table in ("segment_members", "scores"):
        op.execute(
            f"DELETE FROM {table} WHERE run_id IN (SELECT r.id FROM segmentation_runs r JOIN segmentations g"
            " ON g.id = r.segmentation_id WHERE g.method IN ('churn', 'hotspots'))"
        )
    op.execute(
        "DELETE FROM segments WHERE segmentation_id IN"
        " (SELECT id FROM segmentations WHERE method IN ('churn', 'hotspots'))"
    )
    op.execute(
        "DELETE FROM segmentation_runs WHERE segmentation_id IN"
        " (SELECT id FROM segmentations WHERE method IN ('churn', 'hotspots'))"
    )
    op.execute("DELETE FROM segmentations WHERE method IN ('churn', 'hotspots')")
    _methods("rfm", "groups", "value", "rule")
