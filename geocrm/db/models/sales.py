"""What was sold: products, sales with lines."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Identity, Index, Integer, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

from geocrm.db.models.base import Attributes, Base, Created, CustomerKey, Id, Money


class Product(Base):
    """Something we sell."""

    __tablename__ = "products"

    id: Mapped[Id]
    sku: Mapped[str | None] = mapped_column(index=True)
    name: Mapped[str]
    category: Mapped[str | None]
    unit_price: Mapped[Money | None]
    unit_cost: Mapped[Money | None]
    currency: Mapped[str | None]
    attributes: Mapped[Attributes]
    batch_id: Mapped[int | None]


class ProductSource(Base):
    """What a source system calls a product."""

    __tablename__ = "product_sources"

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    product_id: Mapped[int]


class Sale(Base):
    """An order of a customer; a return is a sale with `returned` and a negative amount."""

    __tablename__ = "sales"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id"], ["customers.id"], ondelete="CASCADE"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("amount <> 'NaN' AND cost IS DISTINCT FROM 'NaN' AND discount <> 'NaN'", name="finite"),
        Index("ix_sales_id", "id"),
        Index("ix_sales_customer_id_occurred_at", "customer_id", "occurred_at"),
        Index("ix_sales_occurred_at", "occurred_at", postgresql_using="brin"),
        Index("ix_sales_batch_id", "batch_id", postgresql_where=text("batch_id IS NOT NULL")),
    )

    customer_id: Mapped[CustomerKey]
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    occurred_at: Mapped[datetime]
    site_id: Mapped[int | None]
    place_id: Mapped[int | None]
    channel: Mapped[str | None]
    currency: Mapped[str]
    amount: Mapped[Money]
    cost: Mapped[Money | None]
    discount: Mapped[Money] = mapped_column(server_default="0")
    returned: Mapped[bool] = mapped_column(server_default="false")
    batch_id: Mapped[int | None]
    created_at: Mapped[Created]


class SaleLine(Base):
    """One product on a sale; `amount` = quantity × unit price − discount."""

    __tablename__ = "sale_lines"
    __table_args__ = (
        ForeignKeyConstraint(["customer_id", "sale_id"], ["sales.customer_id", "sales.id"], ondelete="CASCADE"),
        CheckConstraint("quantity <> 'NaN' AND unit_price <> 'NaN' AND amount <> 'NaN'", name="finite"),
    )

    customer_id: Mapped[CustomerKey]
    sale_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line_no: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    product_id: Mapped[int | None]
    quantity: Mapped[Decimal] = mapped_column(Numeric(14, 4))
    unit_price: Mapped[Money]
    discount: Mapped[Money] = mapped_column(server_default="0")
    amount: Mapped[Money]
    cost: Mapped[Money | None]


class SaleSource(Base):
    """What a source system calls a sale."""

    __tablename__ = "sale_sources"
    __table_args__ = (Index("ix_sale_sources_customer_id", "customer_id"),)

    source: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    sale_id: Mapped[int]
