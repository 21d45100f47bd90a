"""Sufficient statistics of customers' sales at a cutoff, what later sales add to them, and the log of changed sales.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from geocrm.db.migrate import take_back_sql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COUNTS = ("orders", "returns", "orders_90", "orders_365", "returns_365", "orders_year_before")
AMOUNTS = (
    *("amount_e4", "amount_90_e4", "amount_365_e4", "amount_year_before_e4", "order_amount_e4", "first_day_amount_e4"),
    *("discount_e4", "margin_e4", "margin_365_e4"),
)


def upgrade() -> None:
    op.create_table(
        "feature_cutoffs",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("cutoff", sa.DateTime(timezone=True), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("rates", postgresql.JSONB(), nullable=False),
        sa.Column("channels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("categories", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("customers", sa.BigInteger(), nullable=False),
        sa.Column("sales", sa.BigInteger(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=True),
        sa.Column("newest_product_id", sa.BigInteger(), nullable=False),
        sa.Column("products_digest", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("system_identifier", sa.BigInteger(), nullable=False),
        sa.Column("seen_before", sa.Text(), nullable=False),
        sa.Column("seen_after", sa.Text(), nullable=False),
        sa.Column("seen_by", sa.BigInteger(), nullable=False),
        sa.Column("seen_up_to", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feature_cutoffs")),
        sa.UniqueConstraint("cutoff", name=op.f("uq_feature_cutoffs_cutoff")),
    )
    for table in ("customer_statistics", "customer_statistics_added"):
        op.create_table(
            table,
            sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
            sa.Column("cutoff_id", sa.BigInteger(), autoincrement=False, nullable=False),
            *(sa.Column(name, sa.Integer(), nullable=False) for name in COUNTS),
            sa.Column("first_day", sa.Date(), nullable=True),
            sa.Column("last_day", sa.Date(), nullable=True),
            sa.Column("purchase_days", sa.Integer(), nullable=False),
            sa.Column("gap_squares", sa.BigInteger(), nullable=False),
            *(sa.Column(name, sa.BigInteger(), nullable=False) for name in AMOUNTS),
            *(
                sa.Column(name, sa.Integer(), nullable=False)
                for name in ("costed", "costed_365", "lined_orders", "lines")
            ),
            sa.Column("channel_orders", postgresql.ARRAY(sa.Integer()), nullable=False),
            sa.Column("category_amounts_e4", postgresql.ARRAY(sa.BigInteger()), nullable=False),
            sa.PrimaryKeyConstraint("customer_id", "cutoff_id", name=op.f(f"pk_{table}")),
        )
    op.create_table(
        "sale_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column(
            "transaction",
            sa.BigInteger(),
            server_default=sa.text("CAST(CAST(pg_current_xact_id() AS text) AS bigint)"),
            nullable=False,
        ),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("sale_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "batch_id IS NULL OR (customer_id IS NULL AND sale_id IS NULL)", name=op.f("ck_sale_changes_batch")
        ),
        sa.CheckConstraint("sale_id IS NULL OR customer_id IS NOT NULL", name=op.f("ck_sale_changes_sale")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sale_changes")),
    )


def downgrade() -> None:
    take_back_sql(op.get_bind())
    for table in ("sale_changes", "customer_statistics_added", "customer_statistics", "feature_cutoffs"):
        op.drop_table(table)
