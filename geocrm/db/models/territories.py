"""Layers of areas, their versions, and the ledger of territory assignments."""

from datetime import datetime
from typing import Any

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Integer, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Attributes, Base, Created, CustomerKey, Id, one_of

BASES = ("named", "rule", "polygon", "none")


class Layer(Base):
    """A set of areas: territories (exclusive), trading areas, postcodes, counties."""

    __tablename__ = "layers"
    __table_args__ = (
        CheckConstraint(one_of("kind", "territories", "trading_areas", "reference"), name="kind"),
        CheckConstraint("NOT is_primary OR kind = 'territories'", name="primary"),
        Index("uq_layers_primary", "is_primary", unique=True, postgresql_where=text("is_primary")),
    )

    id: Mapped[Id]
    key: Mapped[str] = mapped_column(unique=True)  # `sales`, as in lay_sales
    name: Mapped[str]
    kind: Mapped[str]  # territories are exclusive; the others may overlap
    is_primary: Mapped[bool] = mapped_column(server_default="false")
    current_version: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[Created]


class LayerVersion(Base):
    """A draft, the published one, one scheduled for a later time, or a retired one."""

    __tablename__ = "layer_versions"
    __table_args__ = (CheckConstraint(one_of("status", "draft", "scheduled", "published", "retired"), name="status"),)

    layer_id: Mapped[int] = mapped_column(ForeignKey("layers.id"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    status: Mapped[str]
    based_on: Mapped[int | None] = mapped_column(Integer)
    effective_from: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    actor_id: Mapped[int | None]
    reason: Mapped[str | None]
    batch_id: Mapped[int | None]
    created_at: Mapped[Created]


class LayerPeriod(Base):
    """Which version of a layer is in force from when to when, as known from `recorded_at` to `superseded_at`."""

    __tablename__ = "layer_periods"
    __table_args__ = (
        ForeignKeyConstraint(["layer_id", "version"], ["layer_versions.layer_id", "layer_versions.version"]),
        CheckConstraint("valid_to > valid_from", name="valid_time"),
    )

    layer_id: Mapped[int] = mapped_column(primary_key=True)
    valid_from: Mapped[datetime] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.clock_timestamp())
    version: Mapped[int] = mapped_column(Integer)
    valid_to: Mapped[datetime | None]
    superseded_at: Mapped[datetime | None]


class Area(Base):
    """A polygon on a layer, by its stable identity; what it looks like stands in its versions."""

    __tablename__ = "areas"

    id: Mapped[Id]
    layer_id: Mapped[int] = mapped_column(ForeignKey("layers.id"), index=True)
    name: Mapped[str]
    owner_id: Mapped[int | None] = mapped_column(index=True)  # now; its history stands in area_owners
    team_id: Mapped[int | None] = mapped_column(index=True)
    version: Mapped[int] = mapped_column(server_default="1")  # ETag of name and owner
    created_at: Mapped[Created]


class AreaVersion(Base):
    """Geometry, rule and attributes of an area as of one version of it."""

    __tablename__ = "area_versions"
    __table_args__ = (
        CheckConstraint("geometry IS NULL OR (ST_IsValid(geometry) AND NOT ST_IsEmpty(geometry))", name="geometry"),
        CheckConstraint(
            "geometry IS NULL OR (ST_XMin(geometry) >= -180 AND ST_XMax(geometry) <= 180 "
            "AND ST_YMin(geometry) >= -90 AND ST_YMax(geometry) <= 90)",
            name="range",
        ),
        CheckConstraint("rule IS NULL OR jsonb_typeof(rule) = 'object'", name="rule"),
        Index("ix_area_versions_geometry", "geometry", postgresql_using="gist"),
    )

    area_id: Mapped[int] = mapped_column(ForeignKey("areas.id"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str]
    geometry: Mapped[WKBElement | None] = mapped_column(Geometry("MULTIPOLYGON", srid=4326, spatial_index=False))
    rule: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))  # the filter language, on attributes
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    attributes: Mapped[Attributes]
    sets_owner: Mapped[bool] = mapped_column(server_default="false")  # publishing it gives the area this owner
    owner_id: Mapped[int | None]
    team_id: Mapped[int | None]
    created_at: Mapped[Created]


class AreaPiece(Base):
    """A small piece of an area version that is, was or will be in force: what points are looked up in.

    `core` is the piece without a rim of some 0.1 mm: a point in it is inside for certain, one in the rim is put to the
    whole geometry. NULL where nothing is left of it.
    """

    __tablename__ = "area_pieces"
    __table_args__ = (
        ForeignKeyConstraint(["area_id", "version"], ["area_versions.area_id", "area_versions.version"]),
        Index("ix_area_pieces_geometry", "geometry", postgresql_using="gist"),
    )

    area_id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    piece: Mapped[int] = mapped_column(Integer, primary_key=True)
    layer_id: Mapped[int]
    geometry: Mapped[WKBElement] = mapped_column(Geometry("POLYGON", srid=4326, spatial_index=False))
    core: Mapped[WKBElement | None] = mapped_column(Geometry("GEOMETRY", srid=4326, spatial_index=False))


class AreaPeriod(Base):
    """When a version of an area is in force, as known now; follows from `layer_periods` and `layer_areas`."""

    __tablename__ = "area_periods"
    __table_args__ = (
        ForeignKeyConstraint(["area_id", "area_version"], ["area_versions.area_id", "area_versions.version"]),
        CheckConstraint("valid_to > valid_from", name="valid_time"),
        Index("ix_area_periods_area_id", "area_id", "area_version"),
    )

    layer_id: Mapped[int] = mapped_column(ForeignKey("layers.id"), primary_key=True)
    area_id: Mapped[int] = mapped_column(primary_key=True)
    valid_from: Mapped[datetime] = mapped_column(primary_key=True)
    valid_to: Mapped[datetime] = mapped_column(server_default=text("'infinity'"))
    area_version: Mapped[int] = mapped_column(Integer)
    priority: Mapped[int] = mapped_column(Integer)
    has_rule: Mapped[bool]
    has_geometry: Mapped[bool]


class LayerArea(Base):
    """Which version of which area a layer version holds."""

    __tablename__ = "layer_areas"
    __table_args__ = (
        ForeignKeyConstraint(["layer_id", "layer_version"], ["layer_versions.layer_id", "layer_versions.version"]),
        ForeignKeyConstraint(["area_id", "area_version"], ["area_versions.area_id", "area_versions.version"]),
        Index("ix_layer_areas_area_id", "area_id", "area_version"),
    )

    layer_id: Mapped[int] = mapped_column(primary_key=True)
    layer_version: Mapped[int] = mapped_column(Integer, primary_key=True)
    area_id: Mapped[int] = mapped_column(primary_key=True)
    area_version: Mapped[int] = mapped_column(Integer)


class AreaOwner(Base):
    """Who owned a territory, when."""

    __tablename__ = "area_owners"

    area_id: Mapped[int] = mapped_column(ForeignKey("areas.id"), primary_key=True)
    valid_from: Mapped[datetime] = mapped_column(primary_key=True)
    valid_to: Mapped[datetime | None]
    owner_id: Mapped[int | None]
    team_id: Mapped[int | None]
    actor_id: Mapped[int | None]
    reason: Mapped[str | None]


class AreaSource(Base):
    """What a source system calls an area."""

    __tablename__ = "area_sources"

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    area_id: Mapped[int]


class NamedAccount(Base):
    """A customer that a layer's published version gives to an area by name."""

    __tablename__ = "named_accounts"
    __table_args__ = (Index("ix_named_accounts_area_id", "area_id"),)

    customer_id: Mapped[CustomerKey]
    layer_id: Mapped[int] = mapped_column(ForeignKey("layers.id"), primary_key=True)
    area_id: Mapped[int] = mapped_column(ForeignKey("areas.id"))


class NamedPeriod(Base):
    """When a customer is a named account of an area, as known now; follows from the versions in force."""

    __tablename__ = "named_periods"
    __table_args__ = (
        CheckConstraint("valid_to > valid_from", name="valid_time"),
        Index("ix_named_periods_layer_id", "layer_id"),
    )

    customer_id: Mapped[CustomerKey]
    layer_id: Mapped[int] = mapped_column(ForeignKey("layers.id"), primary_key=True)
    valid_from: Mapped[datetime] = mapped_column(primary_key=True)
    valid_to: Mapped[datetime] = mapped_column(server_default=text("'infinity'"))
    area_id: Mapped[int] = mapped_column(ForeignKey("areas.id"))


class NamedAccountVersion(Base):
    """What a layer version changes in the named accounts of the one it is based on (area NULL = taken out)."""

    __tablename__ = "named_account_versions"
    __table_args__ = (
        ForeignKeyConstraint(["layer_id", "layer_version"], ["layer_versions.layer_id", "layer_versions.version"]),
    )

    layer_id: Mapped[int] = mapped_column(primary_key=True)
    layer_version: Mapped[int] = mapped_column(Integer, primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True)
    area_id: Mapped[int | None]


class Assignment(Base):
    """The ledger: which area a site belonged to on a layer, from when to when, and why.

    Valid time is [valid_from, valid_to); recording time is [recorded_at, superseded_at). Rows are superseded,
    never deleted, and outlive their customer: no foreign key.
    """

    __tablename__ = "assignments"
    __table_args__ = (
        CheckConstraint(one_of("basis", *BASES), name="basis"),
        CheckConstraint("valid_to > valid_from", name="valid_time"),
        CheckConstraint("(basis = 'none') = (area_id IS NULL)", name="area"),
        Index(
            "ix_assignments_current",
            "layer_id",
            "area_id",
            postgresql_where=text("superseded_at IS NULL AND valid_to IS NULL"),
        ),
        # what becomes current when the time of a scheduled version comes
        Index(
            "ix_assignments_ahead",
            "layer_id",
            "valid_from",
            postgresql_where=text("ahead AND superseded_at IS NULL"),
        ),
    )

    customer_id: Mapped[CustomerKey]
    site_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    layer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    valid_from: Mapped[datetime] = mapped_column(primary_key=True)
    recorded_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.clock_timestamp())
    valid_to: Mapped[datetime | None]
    superseded_at: Mapped[datetime | None]
    area_id: Mapped[int | None]
    basis: Mapped[str]
    layer_version: Mapped[int | None] = mapped_column(Integer)
    actor_id: Mapped[int | None]
    reason: Mapped[str | None]
    by_edit: Mapped[bool] = mapped_column(server_default="false")  # begins with a change of the customer, not the layer
    ahead: Mapped[bool] = mapped_column(server_default="false")  # recorded before its time, under a scheduled version


class Contradiction(Base):
    """A site to resolve: rule against polygon, or matching nothing."""

    __tablename__ = "contradictions"
    __table_args__ = (
        CheckConstraint(one_of("kind", "rule_against_polygon", "no_polygon", "nothing"), name="kind"),
        Index("ix_contradictions_layer_id_kind", "layer_id", "kind"),
    )

    customer_id: Mapped[CustomerKey]
    site_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    layer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    area_id: Mapped[int | None]
    polygon_area_id: Mapped[int | None]
    since: Mapped[Created]
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[int | None]
    resolution: Mapped[str | None]
