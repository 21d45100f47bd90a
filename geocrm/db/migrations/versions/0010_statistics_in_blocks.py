"""Sufficient statistics of customers' sales in blocks of bytes: what they are is made anew from the sales when needed.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from geocrm.db.migrate import take_back_sql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COUNTS = ("orders", "returns", "orders_90", "orders_365", "returns_365", "orders_year_before")
AMOUNTS = (
    *("amount_e4", "amount_90_e4", "amount_365_e4", "amount_year_before_e4", "order_amount_e4", "first_day_amount_e4"),
    *("discount_e4", "margin_e4", "margin_365_e4"),
)


def upgrade() -> None:
    take_back_sql(op.get_bind())
    _forget()
    op.drop_table("customer_statistics_added")
    op.drop_table("customer_statistics")
    op.create_table(
        "customer_statistics",
        sa.Column("cutoff_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_customer_id", sa.BigInteger(), nullable=False),
        sa.Column("customers", sa.Integer(), nullable=False),
        sa.Column("ids", sa.LargeBinary(), nullable=False),
        sa.Column("last_days", sa.LargeBinary(), nullable=False),
        sa.Column("sums", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("cutoff_id", "generation", "first_customer_id", name=op.f("pk_customer_statistics")),
    )
    for column in ("ids", "last_days", "sums"):  # to compress them again takes longer than to write them
        op.execute(f"ALTER TABLE customer_statistics ALTER COLUMN {column} SET STORAGE EXTERNAL")


def downgrade() -> None:
    take_back_sql(op.get_bind())
    _forget()
    op.drop_table("customer_statistics")
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


def _forget() -> None:
    """Every cutoff, and with it what was told of changed sales: the next refresh reads all sales."""
    op.execute("DELETE FROM feature_cutoffs")
    op.execute("DELETE FROM sale_changes")
