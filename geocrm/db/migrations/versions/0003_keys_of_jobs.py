"""Jobs and imports remember the API key that asked for them.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("jobs", "import_batches"):
        op.add_column(table, sa.Column("key_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    # The views of facts read the column; they are made again at the next start.
    op.execute("DROP SCHEMA IF EXISTS visible CASCADE")
    for table in ("import_batches", "jobs"):
        op.drop_column(table, "key_id")
