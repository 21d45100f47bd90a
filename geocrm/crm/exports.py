"""Rows for exports: what the reader sees, within what their role may take along."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import Actor
from geocrm.crm import customers
from geocrm.errors import Forbidden
from geocrm.filters import Filter

REP_MOST = 1000
_CHUNK = 2000
HEADER = (
    "id", "name", "kind", "stage", "owner", "industry", "size_class", "preferred_channel", "site_id", "label", "line1",
    "line2", "city", "region", "postal_code", "country", "lon", "lat", "location_precision", "precision_m", "placement",
    "territory", "contact_name", "contact_role", "email", "phone", "created_at",
)  # fmt: skip


def count_customers(session: Session, actor: Actor, wanted: Filter) -> int:
    """How many customers an export by this actor would hold; raises Forbidden where that is more than the role may
    take along."""
    condition = condition_of(actor)
    compiled = wanted.compile("customer", snapped=not actor.exact)
    most = REP_MOST + 1 if actor.role == "rep" else None
    number: int = session.execute(
        text(
            f"SELECT count(*) FROM (SELECT 1 FROM customers c WHERE {compiled.named()} AND {condition}"
            " LIMIT CAST(:most AS bigint)) AS found"
        ),
        {"most": most} | compiled.params(),
    ).scalar_one()
    if most is not None and number >= most:
        raise Forbidden(f"A rep may export at most {REP_MOST:,} customers at a time; narrow the filter.")
    return number


def find_customers(session: Session, actor: Actor, wanted: Filter) -> Iterator[tuple[Any, ...]]:
    """The rows of an export in the order of HEADER, one for each visible site, in chunks of bounded memory."""
    compiled = wanted.compile("customer", snapped=not actor.exact)
    sql = customers.named_part("export")
    sql = sql.replace("{condition}", f"{compiled.named()} AND {condition_of(actor)}")
    after = 0
    while True:
        rows = session.execute(text(sql), {"after": after, "limit": _CHUNK} | compiled.params()).all()
        if not rows:
            return
        for row in rows:
            yield tuple(row)[1:]
        after = rows[-1][0]


def condition_of(actor: Actor) -> str:
    """What an export by this actor is limited to, as SQL over customers `c`: a marketer takes along those only who
    consented to marketing."""
    if actor.role != "marketer":
        return "true"
    return (
        "EXISTS (SELECT FROM visible.consents m WHERE m.customer_id = c.id AND m.purpose = 'marketing'"
        " AND m.withdrawn_at IS NULL)"
    )


# ---------------------------------------------------------------- totals that say nothing of anybody

LEAST = 10  # customers behind a published number
TOTALS_HEADER = ("customers", "placed_sites", "sales_12_months", "currency")
_DIMENSIONS = {
    "stage": "c.stage",
    "kind": "c.kind",
    "industry": "c.industry",
    "region": "s.region",
    "country": "s.country",
    "territory": "t.name",
    "owner": "u.name",
}


def totals(session: Session, dimension: str) -> list[tuple[Any, ...]]:
    """Customers, placed sites and sales of the last 12 months by one fixed dimension, a row for each value.

    A value with fewer than `LEAST` customers is left out (None), and where that is only one, the next smallest too, so
    that nobody subtracts it from the total. Filters are not taken: two that differ by one customer would tell of them.
    """
    column = _DIMENSIONS[dimension]
    rows = session.execute(
        text(
            f"""
            SELECT coalesce({column}, '') AS value, count(DISTINCT c.id) AS customers,
                   count(*) FILTER (WHERE s.placement = 'placed') AS placed,
                   sum(m.amount) AS amount, max(m.currency) AS currency,
                   count(DISTINCT m.currency) AS currencies
            FROM customers c
            LEFT JOIN visible.sites s ON s.customer_id = c.id AND s.is_primary
            LEFT JOIN areas t ON t.id = s.territory_id
            LEFT JOIN users u ON u.id = c.owner_id
            LEFT JOIN LATERAL (
              SELECT sum(f.amount) AS amount, min(f.currency) AS currency FROM visible.sales f
              WHERE f.customer_id = c.id AND f.occurred_at >= now() - interval '12 months'
              HAVING count(DISTINCT f.currency) = 1) m ON true
            GROUP BY 1 ORDER BY 2, 1
            """
        )
    ).all()
    small = [number for number, row in enumerate(rows) if row.customers < LEAST]
    if len(small) == 1 and len(rows) > 1:
        small.append(next(number for number in range(len(rows)) if number not in small))
    shown = []
    for number, row in enumerate(rows):
        if number in small:
            shown.append((row.value, None, None, None, None))
        else:
            one = row.currencies == 1
            shown.append(
                (row.value, row.customers, row.placed, row.amount if one else None, row.currency if one else None)
            )
    return sorted(shown, key=lambda row: row[0])
