"""Geofences, positions of customers who allow it, and where they stand to the fences."""

from datetime import datetime
from typing import Any

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import REAL, CheckConstraint, Float, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Attributes, Base, Created, CustomerKey, Id, one_of, point

FENCE_KINDS = ("circle", "polygon")


class Geofence(Base):
    """A circle or polygon that is watched. What is deleted keeps its row, so that events can say what it was called."""

    __tablename__ = "geofences"
    __table_args__ = (
        CheckConstraint(one_of("kind", *FENCE_KINDS), name="kind"),
        CheckConstraint("(kind = 'circle') = (radius_m IS NOT NULL) AND radius_m > 0", name="radius_m"),
        CheckConstraint("dwell_s > 0", name="dwell_s"),
        UniqueConstraint("tag", "external_id"),
        Index(
            "ix_geofences_geometry", "geometry", postgresql_using="gist", postgresql_where=text("deleted_at IS NULL")
        ),
        Index(  # the nearest of a tag; who asks for no tag must not take it: all of it would be searched
            "ix_geofences_tag_geometry",
            "tag",
            "geometry",
            postgresql_using="gist",
            postgresql_where=text("deleted_at IS NULL AND tag IS NOT NULL"),
        ),
        Index("ix_geofences_revision", "revision"),
    )

    id: Mapped[Id]
    tag: Mapped[str]
    external_id: Mapped[str]
    name: Mapped[str | None]
    kind: Mapped[str]
    geometry: Mapped[WKBElement] = mapped_column(  # of a circle an outline that covers it
        Geometry("MULTIPOLYGON", srid=4326, spatial_index=False)
    )
    center: Mapped[WKBElement | None] = mapped_column(point())  # of a circle
    radius_m: Mapped[float | None] = mapped_column(Float)
    dwell_s: Mapped[float | None] = mapped_column(Float)
    hours: Mapped[Any | None] = mapped_column(JSONB)
    time_zone: Mapped[str | None]
    details: Mapped[Attributes] = mapped_column("metadata")
    digest: Mapped[str]  # of all of the above, so that the same fence put again changes nothing
    version: Mapped[int] = mapped_column(server_default="1")
    revision: Mapped[int]  # of all fences, when this one was last written
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class GeofenceRevision(Base):
    """One row: it counts writes of fences, one after the other, so that what is held in memory knows when it is old."""

    __tablename__ = "geofence_revision"
    __table_args__ = (CheckConstraint("only_row", name="only_row"),)

    only_row: Mapped[bool] = mapped_column(primary_key=True, server_default="true")
    revision: Mapped[int] = mapped_column(server_default="0")


class Position(Base):
    """Where a customer's phone was; deleted when it is old or the consent is withdrawn."""

    __tablename__ = "positions"
    __table_args__ = (
        CheckConstraint("lon BETWEEN -180 AND 180 AND lat BETWEEN -90 AND 90", name="place"),
        CheckConstraint("accuracy_m >= 0 AND accuracy_m < 1e7", name="accuracy_m"),
        Index("ix_positions_recorded_at", "recorded_at"),
    )

    customer_id: Mapped[CustomerKey]
    recorded_at: Mapped[datetime] = mapped_column(primary_key=True)
    lon: Mapped[float] = mapped_column(Float)
    lat: Mapped[float] = mapped_column(Float)
    accuracy_m: Mapped[float] = mapped_column(REAL)
    received_at: Mapped[Created]


class PositionSubject(Base):
    """A customer whose positions come in: time of the newest. Locked while a batch is followed."""

    __tablename__ = "position_subjects"

    customer_id: Mapped[CustomerKey]
    last_at: Mapped[datetime]


class GeofenceState(Base):
    """Where a customer stands to a fence; no row is outside, with nothing that says otherwise."""

    __tablename__ = "geofence_states"
    __table_args__ = (Index("ix_geofence_states_geofence_id", "geofence_id"),)

    customer_id: Mapped[CustomerKey]
    geofence_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    inside: Mapped[bool]
    evidence_since: Mapped[datetime | None]
    since: Mapped[datetime | None]
    told: Mapped[bool]
    seen_s: Mapped[float] = mapped_column(Float)
    dwelled: Mapped[bool]
