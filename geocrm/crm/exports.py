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
