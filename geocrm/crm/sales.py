"""Sales: read them, sum them by month, record one."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from geocrm import access, ids
from geocrm.access import Actor
from geocrm.crm import customers
from geocrm.db import audience_changes, audit
from geocrm.db.models import Customer, Place, Product, Sale, SaleLine, SaleSource
from geocrm.db.queries import named
from geocrm.errors import Conflict, Invalid, NotFound
from geocrm.segmentation import statistics

_FOURTH = Decimal("0.0001")
_LARGEST = Decimal(10) ** 14


def find(
    session: Session, customer_id: int, *, after: tuple[datetime, int] | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """The sales of a customer that the reader sees, newest first; raises NotFound for a foreign customer."""
    customers.see(session, customer_id)
    values = {
        "customer_id": customer_id,
        "after_at": None if after is None else after[0],
        "after": 0 if after is None else after[1],
        "limit": limit,
    }
    return [_sale(row) for row in session.execute(text(named("sales", "find")), values)]


def get(session: Session, customer_id: int, sale_id: int) -> dict[str, Any]:
    """One sale with its lines; raises NotFound."""
    values = {"customer_id": customer_id, "sale_id": sale_id}
    row = session.execute(text(named("sales", "get")), values).one_or_none()
    if row is None:
        raise NotFound()
    lines = session.execute(text(named("sales", "lines")), values)
    return _sale(row) | {"lines": [_line(line) for line in lines]}


def monthly(session: Session, customer_id: int, months: int) -> list[dict[str, Any]]:
    """Sum and number of sales by month and currency over the last `months` months, from the first month with any."""
    customers.see(session, customer_id)
    rows = session.execute(text(named("sales", "monthly")), {"customer_id": customer_id, "months": months})
    return [dict(row._mapping) for row in rows]


def create(
    session: Session,
    actor: Actor,
    customer: Customer,
    values: Mapping[str, Any],
    lines: Iterable[Mapping[str, Any]] = (),
    source: tuple[str, str] | None = None,
) -> int:
    """Record a sale of a customer (opened for edit) in the worker's session; its id.

    Without `amount` it is the sum of the lines. Raises Invalid for a site of somebody else or an unknown place or
    product, Conflict where the source system's id is taken.
    """
    given = dict(values)
    made = [_new_line(number, line) for number, line in enumerate(lines, start=1)]
    if given.get("amount") is None:
        if not made:
            raise _fault("/amount", "an amount, or lines, are needed")
        given["amount"] = sum((line.amount for line in made), Decimal(0))
        if not -_LARGEST < given["amount"] < _LARGEST:
            raise _fault("/lines", "the sum is too large")
    _check_site(session, actor, customer.id, given.get("site_id"))
    if given.get("place_id") is not None and session.get(Place, given["place_id"]) is None:
        raise _fault("/place_id", "there is no such place")
    for number, line in enumerate(made):
        if line.product_id is not None and session.get(Product, line.product_id) is None:
            raise _fault(f"/lines/{number}/product_id", "there is no such product")
    if source is not None:
        session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 12))"),
            {"name": f"sale_sources:{source[0]}:{source[1]}"},
        )
        if session.get(SaleSource, source) is not None:
            raise Conflict(f"{source[0]!r} has this external id already.")
    sale = Sale(customer_id=customer.id, **given)
    session.add(sale)
    session.flush()
    for line in made:
        line.customer_id, line.sale_id = customer.id, sale.id
        session.add(line)
    if source is not None:
        session.add(SaleSource(source=source[0], external_id=source[1], customer_id=customer.id, sale_id=sale.id))
    session.flush()
    statistics.tell_added(session, customer.id, sale.id)
    audience_changes.tell(session, [customer.id])
    audit.record(
        session,
        "sale.create",
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=ids.show("cus", customer.id),
        after=given | {"sale": ids.show("sal", sale.id), "lines": len(made)},
    )
    return sale.id


def _new_line(number: int, line: Mapping[str, Any]) -> SaleLine:
    discount = line.get("discount") or Decimal(0)
    amount = (line["quantity"] * line["unit_price"] - discount).quantize(_FOURTH, ROUND_HALF_EVEN)
    if not -_LARGEST < amount < _LARGEST:
        raise _fault(f"/lines/{number - 1}", "the amount is too large")
    return SaleLine(
        line_no=number,
        product_id=line.get("product_id"),
        quantity=line["quantity"],
        unit_price=line["unit_price"],
        discount=discount,
        amount=amount,
        cost=line.get("cost"),
    )


def _check_site(session: Session, actor: Actor, customer_id: int, site_id: int | None) -> None:
    if site_id is None:
        return
    with access.as_user(session, actor):
        seen = session.scalar(
            text(
                "SELECT true FROM visible.sites WHERE customer_id = CAST(:customer_id AS bigint)"
                " AND id = CAST(:site_id AS bigint)"
            ),
            {"customer_id": customer_id, "site_id": site_id},
        )
    if not seen:
        raise _fault("/site_id", "the customer has no such site")


def _fault(pointer: str, detail: str) -> Invalid:
    return Invalid(f"{pointer.lstrip('/')}: {detail}", errors=[{"pointer": pointer, "detail": detail}])


def _sale(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": ids.show("sal", row.id),
        "customer_id": ids.show("cus", row.customer_id),
        "occurred_at": row.occurred_at,
        "site_id": ids.show("sit", row.site_id),
        "place": ids.reference("pla", row.place_id, row.place_name),
        "channel": row.channel,
        "currency": row.currency,
        "amount": row.amount,
        "cost": row.cost,
        "discount": row.discount,
        "returned": row.returned,
        "created_at": row.created_at,
    }


def _line(row: Row[Any]) -> dict[str, Any]:
    return {
        "line_no": row.line_no,
        "product": ids.reference("prd", row.product_id, row.product_name),
        "quantity": row.quantity,
        "unit_price": row.unit_price,
        "discount": row.discount,
        "amount": row.amount,
        "cost": row.cost,
    }
