"""Offers: versions, areas, openings, audiences, who was shown them and who redeemed.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from geocrm.db.migrate import take_back_sql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = (
    "offers",
    "audiences",
    "offer_versions",
    "offer_areas",
    "offer_openings",
    "offer_counters",
    "audience_members",
    "audience_changes",
    "exposures",
    "redemptions",
)


def upgrade() -> None:
    op.create_table(
        "offers",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=True),
        sa.Column("live_version", sa.Integer(), nullable=True),
        sa.Column("draft_version", sa.Integer(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_by", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 300", name=op.f("ck_offers_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offers")),
    )
    op.create_table(
        "audiences",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("filter", postgresql.JSONB(), nullable=False),
        sa.Column("members", sa.BigInteger(), nullable=True),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("took_s", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audiences")),
        sa.UniqueConstraint("digest", name=op.f("uq_audiences_digest")),
    )
    op.create_table(
        "offer_versions",
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("terms", sa.Text(), nullable=True),
        sa.Column("product_ids", postgresql.ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("attributes", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("audience", postgresql.JSONB(), nullable=True),
        sa.Column("audience_id", sa.BigInteger(), nullable=True),
        sa.Column("consent_purpose", sa.Text(), nullable=True),
        sa.Column("everywhere", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column("hours", postgresql.JSONB(), nullable=True),
        sa.Column("closed_on", postgresql.ARRAY(sa.Date()), server_default="{}", nullable=False),
        sa.Column("cap_total", sa.BigInteger(), nullable=True),
        sa.Column("cap_per_customer", sa.BigInteger(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("hold_out_share", sa.Double(), server_default="0", nullable=False),
        sa.Column("hold_out_unit", sa.Text(), server_default="customer", nullable=False),
        sa.Column("made_by", sa.BigInteger(), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("live_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("live_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("hold_out_unit IN ('customer', 'area')", name=op.f("ck_offer_versions_hold_out_unit")),
        sa.CheckConstraint("cap_total >= 1 AND cap_per_customer >= 1", name=op.f("ck_offer_versions_caps")),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_offer_versions_ends_at")),
        sa.CheckConstraint(
            "hold_out_share >= 0 AND hold_out_share <= 0.9", name=op.f("ck_offer_versions_hold_out_share")
        ),
        sa.CheckConstraint("live_from IS NULL OR ends_at IS NOT NULL", name=op.f("ck_offer_versions_live")),
        sa.CheckConstraint("live_until >= live_from", name=op.f("ck_offer_versions_live_until")),
        sa.ForeignKeyConstraint(
            ["audience_id"], ["audiences.id"], name=op.f("fk_offer_versions_audience_id_audiences")
        ),
        sa.ForeignKeyConstraint(
            ["offer_id"], ["offers.id"], name=op.f("fk_offer_versions_offer_id_offers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("offer_id", "version", name=op.f("pk_offer_versions")),
    )
    op.create_index(op.f("ix_offer_versions_audience_id"), "offer_versions", ["audience_id"])
    op.create_index(
        "ix_offer_versions_everywhere",
        "offer_versions",
        ["offer_id"],
        postgresql_where=sa.text("everywhere AND live_from IS NOT NULL AND live_until IS NULL"),
    )
    op.create_index(
        "uq_offer_versions_live",
        "offer_versions",
        ["offer_id"],
        unique=True,
        postgresql_where=sa.text("live_from IS NOT NULL AND live_until IS NULL"),
    )
    op.create_table(
        "offer_areas",
        sa.Column("offer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("area_id", sa.BigInteger(), nullable=True),
        sa.Column("place_id", sa.BigInteger(), nullable=True),
        sa.Column("place_kind", sa.Text(), nullable=True),
        sa.Column("fence_id", sa.BigInteger(), nullable=True),
        sa.Column("radius_m", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'area') = (area_id IS NOT NULL) AND (kind = 'place') = (place_id IS NOT NULL)"
            " AND (kind = 'places') = (place_kind IS NOT NULL) AND (kind = 'fence') = (fence_id IS NOT NULL)"
            " AND (kind IN ('place', 'places')) = (radius_m IS NOT NULL)",
            name=op.f("ck_offer_areas_kind"),
        ),
        sa.CheckConstraint(
            "place_kind IN ('own', 'competitor', 'depot', 'branch')", name=op.f("ck_offer_areas_place_kind")
        ),
        sa.CheckConstraint("radius_m > 0 AND radius_m <= 100000", name=op.f("ck_offer_areas_radius_m")),
        sa.ForeignKeyConstraint(["area_id"], ["areas.id"], name=op.f("fk_offer_areas_area_id_areas")),
        sa.ForeignKeyConstraint(
            ["offer_id", "version"],
            ["offer_versions.offer_id", "offer_versions.version"],
            name=op.f("fk_offer_areas_offer_id_version_offer_versions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["place_id"], ["places.id"], name=op.f("fk_offer_areas_place_id_places"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("offer_id", "version", "n", name=op.f("pk_offer_areas")),
    )
    op.create_index(
        "ix_offer_areas_area_id", "offer_areas", ["area_id"], postgresql_where=sa.text("area_id IS NOT NULL")
    )
    op.create_index(
        "ix_offer_areas_fence_id", "offer_areas", ["fence_id"], postgresql_where=sa.text("fence_id IS NOT NULL")
    )
    op.create_index(
        "ix_offer_areas_place_id", "offer_areas", ["place_id"], postgresql_where=sa.text("place_id IS NOT NULL")
    )
    op.create_index(
        "ix_offer_areas_place_kind_radius_m",
        "offer_areas",
        ["place_kind", "radius_m"],
        postgresql_where=sa.text("place_kind IS NOT NULL"),
    )
    op.create_index(
        "ix_offer_areas_radius_m", "offer_areas", ["radius_m"], postgresql_where=sa.text("place_id IS NOT NULL")
    )
    op.create_table(
        "offer_openings",
        sa.Column("offer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("opens_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("closes_at > opens_at", name=op.f("ck_offer_openings_closes_at")),
        sa.ForeignKeyConstraint(
            ["offer_id", "version"],
            ["offer_versions.offer_id", "offer_versions.version"],
            name=op.f("fk_offer_openings_offer_id_version_offer_versions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("offer_id", "version", "opens_at", name=op.f("pk_offer_openings")),
    )
    op.create_table(
        "offer_counters",
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("redeemed", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("redeemed >= 0", name=op.f("ck_offer_counters_redeemed")),
        sa.ForeignKeyConstraint(
            ["offer_id"], ["offers.id"], name=op.f("fk_offer_counters_offer_id_offers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("offer_id", name=op.f("pk_offer_counters")),
    )
    op.create_table(
        "audience_members",
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("audience_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "audience_id", name=op.f("pk_audience_members")),
    )
    op.create_index("ix_audience_members_audience_id", "audience_members", ["audience_id"])
    op.create_table(
        "audience_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("customer_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audience_changes")),
    )
    op.create_table(
        "exposures",
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("offer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
        sa.Column("hold_out_key", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "offer_id", name=op.f("pk_exposures")),
    )
    op.create_index("ix_exposures_offer_id_first_at", "exposures", ["offer_id", "first_at"])
    op.create_table(
        "redemptions",
        sa.Column("customer_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("offer_id", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("redeemed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("place_id", sa.BigInteger(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("amount", sa.Numeric(precision=18, scale=4), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("key_id", sa.BigInteger(), nullable=True),
        sa.Column("reversed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reversed_by", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("(amount IS NULL) = (currency IS NULL)", name=op.f("ck_redemptions_currency")),
        sa.CheckConstraint("reversed_at >= redeemed_at", name=op.f("ck_redemptions_reversed_at")),
        sa.PrimaryKeyConstraint("customer_id", "id", name=op.f("pk_redemptions")),
        sa.UniqueConstraint(
            "customer_id",
            "offer_id",
            "idempotency_key",
            name=op.f("uq_redemptions_customer_id_offer_id_idempotency_key"),
        ),
    )
    op.create_index("ix_redemptions_id", "redemptions", ["id"])
    op.create_index("ix_redemptions_offer_id_id", "redemptions", ["offer_id", "id"])


def downgrade() -> None:
    take_back_sql(op.get_bind())
    for table in reversed(TABLES):
        op.drop_table(table)
