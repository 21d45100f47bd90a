"""Geofences, positions and where customers stand to fences; events and the webhooks that tell them.

Revision ID: 0012
Revises: 0013
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry
from sqlalchemy.dialects import postgresql

from geocrm.db.migrate import take_back_sql

revision = "0012"
down_revision = "0013"
branch_labels = None
depends_on = None


def _moment(name: str, *, now: bool = False, null: bool | None = None) -> sa.Column[datetime]:
    default = sa.text("now()") if now else None
    nullable = not now if null is None else null
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _number(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=null, server_default=default)


def _text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null, server_default=default)


def _id(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), sa.Identity(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "geofences",
        _id(),
        _text("tag"),
        _text("external_id"),
        _text("name", null=True),
        _text("kind"),
        sa.Column("geometry", Geometry("MULTIPOLYGON", srid=4326, spatial_index=False), nullable=False),
        sa.Column("center", Geometry("POINT", srid=4326, spatial_index=False), nullable=True),
        sa.Column("radius_m", sa.Float(), nullable=True),
        sa.Column("dwell_s", sa.Float(), nullable=True),
        sa.Column("hours", postgresql.JSONB(), nullable=True),
        _text("time_zone", null=True),
        sa.Column("metadata", postgresql.JSONB(), server_default="{}", nullable=False),
        _text("digest"),
        _number("version", default="1"),
        _number("revision"),
        _moment("deleted_at"),
        _moment("created_at", now=True),
        _moment("updated_at", now=True),
        sa.CheckConstraint("kind IN ('circle', 'polygon')", name=op.f("ck_geofences_kind")),
        sa.CheckConstraint(
            "(kind = 'circle') = (radius_m IS NOT NULL) AND radius_m > 0", name=op.f("ck_geofences_radius_m")
        ),
        sa.CheckConstraint("dwell_s > 0", name=op.f("ck_geofences_dwell_s")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_geofences")),
        sa.UniqueConstraint("tag", "external_id", name=op.f("uq_geofences_tag_external_id")),
    )
    op.create_index(
        "ix_geofences_geometry",
        "geofences",
        ["geometry"],
        postgresql_using="gist",
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index("ix_geofences_revision", "geofences", ["revision"])
    op.create_table(
        "geofence_revision",
        sa.Column("only_row", sa.Boolean(), server_default="true", nullable=False),
        _number("revision", default="0"),
        sa.CheckConstraint("only_row", name=op.f("ck_geofence_revision_only_row")),
        sa.PrimaryKeyConstraint("only_row", name=op.f("pk_geofence_revision")),
    )
    op.execute("INSERT INTO geofence_revision DEFAULT VALUES")
    op.create_table(
        "positions",
        _number("customer_id"),
        _moment("recorded_at", null=False),
        sa.Column("lon", sa.Float(), nullable=False),
        sa.Column("lat", sa.Float(), nullable=False),
        sa.Column("accuracy_m", sa.REAL(), nullable=False),
        _moment("received_at", now=True),
        sa.CheckConstraint("lon BETWEEN -180 AND 180 AND lat BETWEEN -90 AND 90", name=op.f("ck_positions_place")),
        sa.CheckConstraint("accuracy_m >= 0 AND accuracy_m < 1e7", name=op.f("ck_positions_accuracy_m")),
        sa.PrimaryKeyConstraint("customer_id", "recorded_at", name=op.f("pk_positions")),
    )
    op.create_index("ix_positions_recorded_at", "positions", ["recorded_at"])
    op.create_table(
        "position_subjects",
        _number("customer_id"),
        _moment("last_at", null=False),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_position_subjects")),
    )
    op.execute("ALTER TABLE position_subjects SET (fillfactor = 70)")  # rows change in place
    op.create_table(
        "geofence_states",
        _number("customer_id"),
        _number("geofence_id"),
        sa.Column("inside", sa.Boolean(), nullable=False),
        _moment("evidence_since"),
        _moment("since"),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("seen_s", sa.Float(), nullable=False),
        sa.Column("dwelled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", "geofence_id", name=op.f("pk_geofence_states")),
    )
    op.create_index("ix_geofence_states_geofence_id", "geofence_states", ["geofence_id"])
    op.execute("ALTER TABLE geofence_states SET (fillfactor = 70)")
    op.create_table(
        "events",
        _number("customer_id"),
        _id(),
        _text("type"),
        _text("purpose", null=True),
        _number("geofence_id", null=True),
        _moment("occurred_at", null=False),
        sa.Column("data", postgresql.JSONB(), server_default="{}", nullable=False),
        _moment("created_at", now=True),
        sa.PrimaryKeyConstraint("customer_id", "id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_id", "events", ["id"])
    op.create_index("ix_events_created_at", "events", ["created_at"])
    _webhooks()


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        _id(),
        _text("url"),
        _text("description", null=True),
        sa.Column("types", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("former_secret", sa.LargeBinary(), nullable=True),
        _moment("former_until"),
        sa.Column("enabled", sa.Boolean(), server_default="true", nullable=False),
        _text("disabled_because", null=True),
        _number("failures", default="0"),
        _moment("next_at", now=True),
        _number("version", default="1"),
        _number("created_by", null=True),
        _moment("created_at", now=True),
        _moment("updated_at", now=True),
        sa.CheckConstraint("failures >= 0", name=op.f("ck_webhooks_failures")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_table(
        "webhook_deliveries",
        _id(),
        _number("webhook_id"),
        _number("customer_id", null=True),
        _number("event_id", null=True),
        _text("type"),
        _text("status", default="queued"),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        _moment("next_at", now=True),
        _moment("queued_at", now=True),
        _moment("leased_until"),
        _moment("created_at", now=True),
        _moment("finished_at"),
        sa.CheckConstraint("status IN ('queued', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_status")),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhooks.id"],
            name=op.f("fk_webhook_deliveries_webhook_id_webhooks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    queued = sa.text("status = 'queued'")
    op.create_index(
        "ix_webhook_deliveries_order",
        "webhook_deliveries",
        ["webhook_id", "customer_id", "id"],
        postgresql_where=queued,
    )
    op.create_index(
        "ix_webhook_deliveries_due", "webhook_deliveries", ["webhook_id", "next_at", "id"], postgresql_where=queued
    )
    op.create_index("ix_webhook_deliveries_webhook_id", "webhook_deliveries", ["webhook_id", "id"])
    op.create_index("ix_webhook_deliveries_customer_id", "webhook_deliveries", ["customer_id"])
    op.create_index("ix_webhook_deliveries_created_at", "webhook_deliveries", ["created_at"])
    op.create_table(
        "webhook_attempts",
        _number("delivery_id"),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        _moment("at", now=True),
        _number("took_ms"),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        _text("error", null=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["webhook_deliveries.id"],
            name=op.f("fk_webhook_attempts_delivery_id_webhook_deliveries"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_webhook_attempts")),
    )


def downgrade() -> None:
    take_back_sql(op.get_bind())
    for table in (
        "webhook_attempts",
        "webhook_deliveries",
        "webhooks",
        "events",
        "geofence_states",
        "position_subjects",
        "positions",
        "geofence_revision",
        "geofences",
    ):
        op.drop_table(table)
