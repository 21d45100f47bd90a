"""Samples of lookup rows by place, for tiles coloured by a score.

Revision ID: 0013
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for every in (16, 256, 4096):
        op.create_index(
            f"ix_site_lookup_sample_{every}",
            "site_lookup",
            ["location"],
            postgresql_using="gist",
            postgresql_where=sa.text(f"customer_id % {every} = 0"),
        )


def downgrade() -> None:
    for every in (16, 256, 4096):
        op.drop_index(f"ix_site_lookup_sample_{every}", table_name="site_lookup")
