"""Automations with their log, audiences that are entered, tasks.

Revision ID: 0014
Revises: 0015
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from geocrm.db.migrate import take_back_sql

revision = "0014"
down_revision = "0015"
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


def _texts(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[list[str]]:
    return sa.Column(name, postgresql.ARRAY(sa.Text()), nullable=null, server_default=default)


def _id(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), sa.Identity(), nullable=False)


def upgrade() -> None:
    op.add_column("audiences", _text("name", null=True))
    op.add_column("audiences", _number("version", default="1"))
    op.add_column("audiences", _number("created_by", null=True))
    op.create_unique_constraint(op.f("uq_audiences_name"), "audiences", ["name"])
    op.add_column("audience_members", _moment("entered_at"))
    op.add_column("audience_members", _moment("expires_at"))
    op.add_column("audience_members", _texts("purposes", null=True))
    op.add_column("audience_members", _number("automation_id", null=True))
    op.create_index(
        "ix_audience_members_expires_at",
        "audience_members",
        ["expires_at"],
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        "automations",
        _id(),
        _text("name"),
        sa.Column("enabled", sa.Boolean(), server_default="false", nullable=False),
        _text("trigger"),
        _text("event_type", null=True),
        _text("geofence_tag", null=True),
        _number("geofence_id", null=True),
        _texts("days", null=True),
        _text("clock", null=True),
        _text("time_zone", null=True),
        sa.Column("condition", postgresql.JSONB(), nullable=True),
        _text("consent_purpose", null=True),
        sa.Column("cap_days", sa.Integer(), nullable=True),
        sa.Column("hold_out_share", sa.Double(), server_default="0", nullable=False),
        _number("campaign_id", null=True),
        _text("action"),
        _number("offer_id", null=True),
        _number("audience_id", null=True),
        sa.Column("hours", sa.Double(), nullable=True),
        _text("title", null=True),
        _text("details", null=True),
        sa.Column("due_days", sa.Integer(), nullable=True),
        _moment("next_at"),
        _moment("round_for"),
        _number("round_after", null=True),
        _number("version", default="1"),
        _number("created_by", null=True),
        _moment("created_at", now=True),
        _moment("updated_at", now=True),
        sa.CheckConstraint(
            "trigger IN ('event', 'schedule') AND (trigger = 'event') = (event_type IS NOT NULL)"
            " AND (trigger = 'event') = (geofence_tag IS NOT NULL) AND (trigger = 'event' OR geofence_id IS NULL)"
            " AND (trigger = 'schedule') = (clock IS NOT NULL AND time_zone IS NOT NULL AND days IS NOT NULL)",
            name=op.f("ck_automations_trigger"),
        ),
        sa.CheckConstraint(
            "(action = 'offer') = (offer_id IS NOT NULL) AND (action = 'audience') = (audience_id IS NOT NULL)"
            " AND (action = 'task') = (title IS NOT NULL AND due_days IS NOT NULL)"
            " AND (offer_id IS NOT NULL OR audience_id IS NOT NULL OR title IS NOT NULL)",
            name=op.f("ck_automations_action"),
        ),
        sa.CheckConstraint("hours > 0", name=op.f("ck_automations_hours")),
        sa.CheckConstraint("cap_days >= 1", name=op.f("ck_automations_cap_days")),
        sa.CheckConstraint("hold_out_share >= 0 AND hold_out_share <= 0.9", name=op.f("ck_automations_hold_out_share")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 300", name=op.f("ck_automations_name")),
        sa.ForeignKeyConstraint(["audience_id"], ["audiences.id"], name=op.f("fk_automations_audience_id_audiences")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automations")),
    )
    op.create_table(
        "automation_runs",
        _id(),
        _number("automation_id"),
        _number("automation_version"),
        _number("customer_id", null=True),
        _number("customers", default="1"),
        _number("event_id", null=True),
        _text("purpose", null=True),
        _moment("moment", null=False),
        _text("status", default="waiting"),
        _text("reason", null=True),
        _number("task_id", null=True),
        _moment("expires_at"),
        _moment("created_at", now=True),
        _moment("finished_at"),
        sa.CheckConstraint(
            "status IN ('waiting', 'done', 'skipped', 'failed')", name=op.f("ck_automation_runs_status")
        ),
        sa.CheckConstraint(
            "(status = 'waiting') = (finished_at IS NULL) AND (status IN ('skipped', 'failed')) = (reason IS NOT NULL)",
            name=op.f("ck_automation_runs_finished_at"),
        ),
        sa.ForeignKeyConstraint(
            ["automation_id"],
            ["automations.id"],
            name=op.f("fk_automation_runs_automation_id_automations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automation_runs")),
    )
    op.create_index("ix_automation_runs_automation_id_id", "automation_runs", ["automation_id", "id"])
    op.create_index(
        "ix_automation_runs_waiting",
        "automation_runs",
        ["automation_id", "id"],
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "ix_automation_runs_customer_id",
        "automation_runs",
        ["customer_id", "automation_id", "finished_at"],
        postgresql_where=sa.text("customer_id IS NOT NULL"),
    )
    op.create_index(
        "uq_automation_runs_event_id",
        "automation_runs",
        ["automation_id", "event_id"],
        unique=True,
        postgresql_where=sa.text("event_id IS NOT NULL"),
    )
    op.create_index(
        "uq_automation_runs_round",
        "automation_runs",
        ["automation_id", "moment", "reason"],
        unique=True,
        postgresql_where=sa.text("customer_id IS NULL"),
    )
    op.create_index("ix_automation_runs_created_at", "automation_runs", ["created_at"])
    op.create_table(
        "tasks",
        _number("customer_id"),
        _id(),
        _text("title"),
        _text("details", null=True),
        _number("assignee_id"),
        _moment("due_at", null=False),
        _number("automation_id", null=True),
        _texts("purposes", default="{}"),
        _moment("done_at"),
        _number("done_by", null=True),
        _number("version", default="1"),
        _moment("created_at", now=True),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 300", name=op.f("ck_tasks_title")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_tasks_customer_id_customers"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("customer_id", "id", name=op.f("pk_tasks")),
    )
    op.create_index("ix_tasks_id", "tasks", ["id"])
    op.create_index("ix_tasks_due_at_id", "tasks", ["due_at", "id"], postgresql_where=sa.text("done_at IS NULL"))
    op.create_index(
        "ix_tasks_assignee_id", "tasks", ["assignee_id", "due_at", "id"], postgresql_where=sa.text("done_at IS NULL")
    )


def downgrade() -> None:
    take_back_sql(op.get_bind())
    for table in ("tasks", "automation_runs", "automations"):
        op.drop_table(table)
    op.execute("DELETE FROM audience_members WHERE entered_at IS NOT NULL")
    op.execute("DELETE FROM audiences WHERE name IS NOT NULL")
    op.drop_index("ix_audience_members_expires_at", table_name="audience_members")
    for column in ("automation_id", "purposes", "expires_at", "entered_at"):
        op.drop_column("audience_members", column)
    op.drop_constraint(op.f("uq_audiences_name"), "audiences")
    for column in ("created_by", "version", "name"):
        op.drop_column("audiences", column)
