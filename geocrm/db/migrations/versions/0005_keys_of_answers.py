"""Stored answers belong to the API key that asked, not to all keys of its user.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM idempotency_keys")  # whose key they were is not known; they live two days at most
    op.drop_constraint("pk_idempotency_keys", "idempotency_keys")
    op.add_column("idempotency_keys", sa.Column("key_id", sa.BigInteger(), nullable=False))
    op.create_primary_key("pk_idempotency_keys", "idempotency_keys", ["user_id", "key_id", "key"])


def downgrade() -> None:
    op.execute("DELETE FROM idempotency_keys")
    op.drop_constraint("pk_idempotency_keys", "idempotency_keys")
    op.drop_column("idempotency_keys", "key_id")
    op.create_primary_key("pk_idempotency_keys", "idempotency_keys", ["user_id", "key"])
