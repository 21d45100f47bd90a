"""Customers with their sites, contacts and consents, and what source systems call them."""

from datetime import datetime

from geoalchemy2 import WKBElement
from sqlalchemy import CheckConstraint, Float, ForeignKeyConstraint, Identity, Index, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import POINT_CHECK, Attributes, Base, Created, CustomerKey, Id, one_of, point

STAGES = ("prospect", "lead", "active", "lapsed")
KINDS = ("person", "organisation")
PRECISIONS = ("given", "rooftop", "street", "postcode", "locality", "region")
PLACEMENTS = ("placed", "pending", "flagged", "failed")


class Customer(Base):
    """A person or an organisation, existing or potential."""

    __tablename__ = "customers"
    __table_args__ = (
        CheckConstraint(one_of("kind", *KINDS), name="kind"),
        CheckConstraint(one_of("stage", *STAGES), name="stage"),
        CheckConstraint("parent_id <> id", name="parent"),
        CheckConstraint("length(name) BETWEEN 1 AND 500", name="name"),
        Index("ix_customers_owner_id", "owner_id"),
        Index("ix_customers_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
        Index("ix_customers_territory_ids", "territory_ids", postgresql_using="gin"),
        Index("ix_customers_name_trgm", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
        Index("ix_customers_batch_id", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    )

    id: Mapped[Id]
    kind: Mapped[str]
    name: Mapped[str]
    parent_id: Mapped[int | None]
    stage: Mapped[str]
    owner_id: Mapped[int | None]
    territory_ids: Mapped[list[int]] = mapped_column(server_default="{}")  # of its sites, primary sales layer
    industry: Mapped[str | None]
    size_class: Mapped[str | None]
    preferred_channel: Mapped[str | None]
    attributes: Mapped[Attributes]
    version: Mapped[int] = mapped_column(server_default="1")
    batch_id: Mapped[int | None]  # the import that wrote it last
    created_at: Mapped[Created]
    updated_at: Mapped[Created]
    erased_at: Mapped[datetime | None]


class Site(Base):
    """An address of a customer, with a place on earth."""

    __tablename__ = "sites"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id"], ["customers.id"], ondelete="CASCADE"),
        CheckConstraint(one_of("location_precision", *PRECISIONS), name="location_precision"),
        CheckConstraint(one_of("placement", *PLACEMENTS), name="placement"),
        CheckConstraint(POINT_CHECK, name="location"),
        CheckConstraint(
            "placement <> 'placed' OR (location IS NOT NULL AND location_precision IS NOT NULL AND precision_m > 0)",
            name="placed",
        ),
        CheckConstraint("precision_m > 0 AND precision_m < 20100000", name="precision_m"),
        CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),
        Index("uq_sites_primary", "customer_id", unique=True, postgresql_where=text("is_primary")),
        Index("ix_sites_id", "id"),
        Index("ix_sites_territory_id", "territory_id", postgresql_where=text("territory_id IS NOT NULL")),
        Index("ix_sites_waiting", "placement", "placing_next_at", postgresql_where=text("placement <> 'placed'")),
    )

    customer_id: Mapped[CustomerKey]
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    label: Mapped[str | None]
    line1: Mapped[str | None]
    line2: Mapped[str | None]
    city: Mapped[str | None]
    region: Mapped[str | None]  # state or province, its code where it has one
    postal_code: Mapped[str | None]
    country: Mapped[str | None]  # ISO 3166-1 alpha-2
    location: Mapped[WKBElement | None] = mapped_column(point())
    location_precision: Mapped[str | None]
    precision_m: Mapped[float | None] = mapped_column(Float)  # holds the true point in 95 % of cases
    location_source: Mapped[str | None]
    placement: Mapped[str]
    flags: Mapped[list[str]] = mapped_column(server_default="{}")
    is_primary: Mapped[bool] = mapped_column(server_default="false")
    territory_id: Mapped[int | None]  # primary sales layer
    placing_attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    placing_next_at: Mapped[datetime | None]
    placing_error: Mapped[str | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class FormerPrimarySite(Base):
    """The site that was a customer's primary one until then, and since the row before; the site itself may be gone."""

    __tablename__ = "former_primary_sites"
    __table_args__ = (ForeignKeyConstraint(["customer_id"], ["customers.id"], ondelete="CASCADE"),)

    customer_id: Mapped[CustomerKey]
    until: Mapped[datetime] = mapped_column(primary_key=True)
    site_id: Mapped[int]


class SiteLookup(Base):
    """What nearby, tiles and row security read: one narrow row per placed site."""

    __tablename__ = "site_lookup"
    __table_args__ = (
        Index("ix_site_lookup_location", "location", postgresql_using="gist"),
        Index(
            "ix_site_lookup_owner_id_location",
            "owner_id",
            "location",
            postgresql_using="gist",
            postgresql_where=text("owner_id IS NOT NULL"),
        ),
        Index(
            "ix_site_lookup_territory_id_location",
            "territory_id",
            "location",
            postgresql_using="gist",
            postgresql_where=text("territory_id IS NOT NULL"),
        ),
        Index(
            "ix_site_lookup_segment_id_location",
            "segment_id",
            "location",
            postgresql_using="gist",
            postgresql_where=text("segment_id IS NOT NULL"),
        ),
        Index("ix_site_lookup_stage_kind", "stage", "kind"),
        # Samples that lie as all customers do: what scores are like in a tile of too many to look at each.
        *(
            Index(
                f"ix_site_lookup_sample_{every}",
                "location",
                postgresql_using="gist",
                postgresql_where=text(f"customer_id % {every} = 0"),
            )
            for every in (16, 256, 4096)
        ),
    )

    customer_id: Mapped[CustomerKey]
    site_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    location: Mapped[WKBElement] = mapped_column(point())
    stage: Mapped[str]
    kind: Mapped[str]
    owner_id: Mapped[int | None]
    territory_id: Mapped[int | None]
    segment_id: Mapped[int | None]
    is_primary: Mapped[bool]
    location_precision: Mapped[str]
    precision_m: Mapped[float] = mapped_column(Float)


class LookupChange(Base):
    """One row for each change of the lookup; newest and number of rows together are the version of the data."""

    __tablename__ = "lookup_changes"

    id: Mapped[Id]


class LookupCount(Base):
    """How many placed sites there are of a stage and kind, nearly: it steers plans and is never shown."""

    __tablename__ = "lookup_counts"

    stage: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int]


class SiteCell(Base):
    """Counts of placed sites per cell of the tile pyramid and per indexed dimension.

    `cell` is the interleaved quadkey at zoom `level`, so that a tile is one contiguous range of cells.
    """

    __tablename__ = "site_cells"
    __table_args__ = (
        Index("ix_site_cells_owner_id", "owner_id", "level", "cell", postgresql_where=text("owner_id IS NOT NULL")),
        Index(
            "ix_site_cells_territory_id",
            "territory_id",
            "level",
            "cell",
            postgresql_where=text("territory_id IS NOT NULL"),
        ),
    )

    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    cell: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    stage: Mapped[str]
    kind: Mapped[str]
    owner_id: Mapped[int | None]
    territory_id: Mapped[int | None]
    segment_id: Mapped[int | None]
    n: Mapped[int]


class SiteCellDelta(Base):
    """Changes of counts not yet merged into `site_cells`; a reader adds both."""

    __tablename__ = "site_cell_deltas"
    __table_args__ = (Index("ix_site_cell_deltas_level_cell", "level", "cell"),)

    id: Mapped[Id]
    level: Mapped[int] = mapped_column(SmallInteger)
    cell: Mapped[int]
    stage: Mapped[str]
    kind: Mapped[str]
    owner_id: Mapped[int | None]
    territory_id: Mapped[int | None]
    segment_id: Mapped[int | None]
    n: Mapped[int]


class Contact(Base):
    """A person to talk to at a customer, with how to reach them."""

    __tablename__ = "contacts"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id"], ["customers.id"], ondelete="CASCADE"),
        Index("ix_contacts_id", "id"),
    )

    customer_id: Mapped[CustomerKey]
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str | None]
    role: Mapped[str | None]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    is_primary: Mapped[bool] = mapped_column(server_default="false")
    batch_id: Mapped[int | None]


class Consent(Base):
    """What a customer allowed, for a purpose and a channel; withdrawn, never deleted."""

    __tablename__ = "consents"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id"], ["customers.id"], ondelete="CASCADE"),
        CheckConstraint("withdrawn_at >= granted_at", name="withdrawn_at"),
    )

    customer_id: Mapped[CustomerKey]
    purpose: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    granted_at: Mapped[datetime] = mapped_column(primary_key=True)
    withdrawn_at: Mapped[datetime | None]
    source: Mapped[str | None]


class CustomerSource(Base):
    """What a source system calls a customer."""

    __tablename__ = "customer_sources"
    __table_args__ = (Index("ix_customer_sources_customer_id", "customer_id"),)

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[int]


class SiteSource(Base):
    """What a source system calls a site."""

    __tablename__ = "site_sources"
    __table_args__ = (Index("ix_site_sources_customer_id", "customer_id"),)

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    site_id: Mapped[int]
