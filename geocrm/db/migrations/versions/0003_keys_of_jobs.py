"""Jobs and imports remember the API key that asked for them.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from geocrm.db.migrate import take_back_sql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("jobs", "import_batches"):
        op.add_column(table, sa.Column("key_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    take_back_sql(op.get_bind())  # views read the column
    for table in ("import_batches", "jobs"):
        op.drop_column(table, "key_id")
