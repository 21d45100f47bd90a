"""What features of customers are made from: sufficient statistics of their sales at a cutoff, what changed since."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import CheckConstraint, Date, Identity, Integer, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Base, Created, Id


class FeatureCutoff(Base):
    """A moment at which customers are described by what was before it, and how far the sales were read for it.

    `seen_before` and `seen_after` are snapshots taken before and after the last reading: what committed in between may
    have been read or not, and is read anew by the next refresh."""

    __tablename__ = "feature_cutoffs"

    id: Mapped[Id]
    cutoff: Mapped[datetime] = mapped_column(unique=True)
    currency: Mapped[str]
    rates: Mapped[dict[str, Any]] = mapped_column(JSONB)  # what one unit of each currency is worth in `currency`
    channels: Mapped[list[str]]  # the order of `channel_orders`
    categories: Mapped[list[str]]  # the order of `category_amounts_e4`
    customers: Mapped[int]
    sales: Mapped[int]
    last_day: Mapped[date | None] = mapped_column(Date)
    newest_product_id: Mapped[int]
    products_digest: Mapped[str]
    version: Mapped[int]
    system_identifier: Mapped[int]  # transaction numbers mean nothing in another cluster
    seen_before: Mapped[str]
    seen_after: Mapped[str]
    seen_by: Mapped[int]  # the transaction that read; of its own changes it has read those up to `seen_up_to`
    seen_up_to: Mapped[int]
    created_at: Mapped[Created]
    refreshed_at: Mapped[Created]


class CustomerStatistics(Base):
    """Statistics of up to some thousand customers' sales before a cutoff, in bytes, as
    `segmentation.customer_statistics` packs them. Generation 0 is of the last full run; what a later one says of a
    customer is added to it or takes its place. Nobody but the worker reads them."""

    __tablename__ = "customer_statistics"

    cutoff_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    first_customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_customer_id: Mapped[int]
    customers: Mapped[int] = mapped_column(Integer)
    ids: Mapped[bytes]
    last_days: Mapped[bytes]
    sums: Mapped[bytes]


class SaleChange(Base):
    """What a transaction did to sales, told in the same transaction: sales were added (all new ones of an import, or a
    single one), customers' sales were changed in any way, or (neither given) anything may be different."""

    __tablename__ = "sale_changes"
    __table_args__ = (
        CheckConstraint("batch_id IS NULL OR (customer_id IS NULL AND sale_id IS NULL)", name="batch"),
        CheckConstraint("sale_id IS NULL OR customer_id IS NOT NULL", name="sale"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    transaction: Mapped[int] = mapped_column(server_default=text("CAST(CAST(pg_current_xact_id() AS text) AS bigint)"))
    batch_id: Mapped[int | None]
    customer_id: Mapped[int | None]
    sale_id: Mapped[int | None]
