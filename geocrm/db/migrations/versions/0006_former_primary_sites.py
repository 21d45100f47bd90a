"""Which site was a customer's primary one until when: sales without a site belong to the primary one of their time.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

from geocrm.db.migrate import take_back_sql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "former_primary_sites",
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customers.id"],
            name=op.f("fk_former_primary_sites_customer_id_customers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("customer_id", "until", name=op.f("pk_former_primary_sites")),
    )


def downgrade() -> None:
    take_back_sql(op.get_bind())
    op.drop_table("former_primary_sites")
