"""Lookups: precision on the narrow row, indexes for segments and rare stages, and the version of the data.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("site_lookup", sa.Column("precision_m", sa.Float(), server_default="25", nullable=False))
    op.alter_column("site_lookup", "precision_m", server_default=None)
    # Partial, so that the planner cannot take them for questions that name no owner, territory or segment.
    for column in ("owner_id", "territory_id"):
        op.drop_index(f"ix_site_lookup_{column}_location", table_name="site_lookup")
    for column in ("owner_id", "territory_id", "segment_id"):
        op.create_index(
            f"ix_site_lookup_{column}_location",
            "site_lookup",
            [column, "location"],
            postgresql_using="gist",
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    op.create_index("ix_site_lookup_stage_kind", "site_lookup", ["stage", "kind"])
    op.create_table(
        "lookup_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lookup_changes")),
    )
    op.create_table(
        "lookup_counts",
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("stage", "kind", name=op.f("pk_lookup_counts")),
    )


def downgrade() -> None:
    op.drop_table("lookup_counts")
    op.drop_table("lookup_changes")
    op.drop_index("ix_site_lookup_stage_kind", table_name="site_lookup")
    for column in ("owner_id", "territory_id", "segment_id"):
        op.drop_index(f"ix_site_lookup_{column}_location", table_name="site_lookup")
    for column in ("owner_id", "territory_id"):
        op.create_index(
            f"ix_site_lookup_{column}_location", "site_lookup", [column, "location"], postgresql_using="gist"
        )
    op.drop_column("site_lookup", "precision_m")
