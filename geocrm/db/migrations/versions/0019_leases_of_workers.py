"""Who holds the lease of a delivery: the number of a worker, which holds a lock of it while it lives.

Revision ID: 0019
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhook_deliveries", sa.Column("leased_by", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("webhook_deliveries", "leased_by")
