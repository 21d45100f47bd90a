"""Shops, depots and branches of ours, and competitors'."""

from geoalchemy2 import WKBElement
from sqlalchemy import CheckConstraint, Float, Index
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import POINT_CHECK, Attributes, Base, Created, Id, one_of, point

PLACE_KINDS = ("own", "competitor", "depot", "branch")


class Place(Base):
    """A shop, depot or branch of ours, or a competitor's."""

    __tablename__ = "places"
    __table_args__ = (
        CheckConstraint(one_of("kind", *PLACE_KINDS), name="kind"),
        CheckConstraint(one_of("placement", "placed", "pending", "flagged", "failed"), name="placement"),
        CheckConstraint(POINT_CHECK, name="location"),
        CheckConstraint("placement <> 'placed' OR location IS NOT NULL", name="placed"),
        CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),
        Index("ix_places_location", "location", postgresql_using="gist"),
        Index("ix_places_name_trgm", "name", postgresql_using="gin", postgresql_ops={"name": "gin_trgm_ops"}),
    )

    id: Mapped[Id]
    kind: Mapped[str]
    name: Mapped[str]
    brand: Mapped[str | None]
    line1: Mapped[str | None]
    city: Mapped[str | None]
    region: Mapped[str | None]
    postal_code: Mapped[str | None]
    country: Mapped[str | None]
    location: Mapped[WKBElement | None] = mapped_column(point())
    location_precision: Mapped[str | None]
    precision_m: Mapped[float | None] = mapped_column(Float)
    location_source: Mapped[str | None]
    placement: Mapped[str] = mapped_column(server_default="placed")
    flags: Mapped[list[str]] = mapped_column(server_default="{}")
    floor_area_m2: Mapped[float | None] = mapped_column(Float)
    attributes: Mapped[Attributes]
    version: Mapped[int] = mapped_column(server_default="1")
    batch_id: Mapped[int | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Created]


class PlaceSource(Base):
    """What a source system calls a place."""

    __tablename__ = "place_sources"

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    place_id: Mapped[int]
