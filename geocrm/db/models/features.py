"""What features of customers are made from: sufficient statistics of their sales at a cutoff, what changed since."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import CheckConstraint, Date, Identity, Integer, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Base, Created, CustomerKey, Id


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


class _Statistics:
    """Sums and counts of one customer's sales before a cutoff; amounts in ten-thousandths of the cutoff's currency.

    Two rows of a customer can be put together where the sales of one are not earlier than those of the other."""

    customer_id: Mapped[CustomerKey]
    cutoff_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    orders: Mapped[int] = mapped_column(Integer)  # sales that are not returns
    returns: Mapped[int] = mapped_column(Integer)
    orders_90: Mapped[int] = mapped_column(Integer)
    orders_365: Mapped[int] = mapped_column(Integer)
    returns_365: Mapped[int] = mapped_column(Integer)
    orders_year_before: Mapped[int] = mapped_column(Integer)
    first_day: Mapped[date | None] = mapped_column(Date)  # of orders, UTC
    last_day: Mapped[date | None] = mapped_column(Date)
    purchase_days: Mapped[int] = mapped_column(Integer)  # days with an order
    gap_squares: Mapped[int]  # sum over neighbouring purchase days of (days between)²
    amount_e4: Mapped[int]  # orders and returns
    amount_90_e4: Mapped[int]
    amount_365_e4: Mapped[int]
    amount_year_before_e4: Mapped[int]
    order_amount_e4: Mapped[int]  # orders alone, as discount is
    first_day_amount_e4: Mapped[int]
    discount_e4: Mapped[int]
    margin_e4: Mapped[int]  # amount − cost where the cost is known
    margin_365_e4: Mapped[int]
    costed: Mapped[int] = mapped_column(Integer)  # sales whose cost is known
    costed_365: Mapped[int] = mapped_column(Integer)
    lined_orders: Mapped[int] = mapped_column(Integer)  # orders with lines
    lines: Mapped[int] = mapped_column(Integer)  # of orders
    channel_orders: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    category_amounts_e4: Mapped[list[int]]


class CustomerStatistics(_Statistics, Base):
    """One row for each customer with a sale before the cutoff, as of the last full run."""

    __tablename__ = "customer_statistics"


class CustomerStatisticsAdded(_Statistics, Base):
    """What sales since the last full run add to a customer; a reader puts both together."""

    __tablename__ = "customer_statistics_added"


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
