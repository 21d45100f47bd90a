"""Fences as areas of offers: one fence by its id, or every fence of a tag.

Revision ID: 0016
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0012"
branch_labels = None
depends_on = None

_KIND = "ck_offer_areas_kind"
_NAMED = (
    "(kind = 'area') = (area_id IS NOT NULL) AND (kind = 'place') = (place_id IS NOT NULL)"
    " AND (kind = 'places') = (place_kind IS NOT NULL)"
    " AND (kind IN ('place', 'places')) = (radius_m IS NOT NULL)"
)


def upgrade() -> None:
    op.add_column("offer_areas", sa.Column("fence_tag", sa.Text(), nullable=True))
    op.drop_constraint(op.f(_KIND), "offer_areas", type_="check")
    op.create_check_constraint(
        op.f(_KIND),
        "offer_areas",
        f"{_NAMED} AND (kind = 'geofence') = (fence_id IS NOT NULL) AND (kind = 'geofences') = (fence_tag IS NOT NULL)",
    )
    op.create_index(
        "ix_offer_areas_fence_tag", "offer_areas", ["fence_tag"], postgresql_where=sa.text("fence_tag IS NOT NULL")
    )
    op.create_index(
        "ix_geofences_tag_geometry",
        "geofences",
        ["tag", "geometry"],
        postgresql_using="gist",
        postgresql_where=sa.text("deleted_at IS NULL AND tag IS NOT NULL"),  # so that nothing without a tag takes it
    )


def downgrade() -> None:
    op.drop_index("ix_geofences_tag_geometry", table_name="geofences")
    op.drop_index("ix_offer_areas_fence_tag", table_name="offer_areas")
    op.execute("DELETE FROM offer_areas WHERE kind IN ('geofence', 'geofences')")
    op.drop_constraint(op.f(_KIND), "offer_areas", type_="check")
    op.create_check_constraint(op.f(_KIND), "offer_areas", f"{_NAMED} AND (kind = 'fence') = (fence_id IS NOT NULL)")
    op.drop_column("offer_areas", "fence_tag")
