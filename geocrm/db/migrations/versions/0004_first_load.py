"""What a first load of millions need not write: a check of the batch for each line, cells without owner in the index of
owners, a second index of cells by level.

Lines of imports refer to their batch without a foreign key: the import writes batch and lines in one transaction, and
whoever deletes a batch deletes its lines.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = "fk_import_rows_batch_id_import_batches"


def upgrade() -> None:
    op.drop_constraint(KEY, "import_rows", type_="foreignkey")
    for column in ("owner_id", "territory_id"):
        op.drop_index(f"ix_site_cells_{column}", table_name="site_cells")
        op.create_index(
            f"ix_site_cells_{column}",
            "site_cells",
            [column, "level", "cell"],
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    op.drop_index("ix_site_cells_level_cell", table_name="site_cells")
    op.drop_constraint("pk_site_cells", "site_cells", type_="primary")
    op.create_primary_key("pk_site_cells", "site_cells", ["level", "cell", "id"])


def downgrade() -> None:
    op.drop_constraint("pk_site_cells", "site_cells", type_="primary")
    op.create_primary_key("pk_site_cells", "site_cells", ["id"])
    op.create_index("ix_site_cells_level_cell", "site_cells", ["level", "cell"])
    for column in ("owner_id", "territory_id"):
        op.drop_index(f"ix_site_cells_{column}", table_name="site_cells")
        op.create_index(f"ix_site_cells_{column}", "site_cells", [column, "level", "cell"])
    op.create_foreign_key(KEY, "import_rows", "import_batches", ["batch_id"], ["id"])
