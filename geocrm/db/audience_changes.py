"""Tell audiences that a customer changed, in the transaction of the change."""

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.queue import enqueue


def tell(session: Session, customer_ids: Iterable[int]) -> None:
    """Let a job look at every audience for these customers, soon after the transaction; nothing where there is none."""
    written = session.execute(
        text(
            "INSERT INTO audience_changes (customer_id) SELECT id FROM unnest(CAST(:ids AS bigint[])) AS id"
            " WHERE EXISTS (SELECT FROM audiences) RETURNING 1"
        ),
        {"ids": list(customer_ids)},
    ).all()
    if written:
        enqueue(session, "audiences.follow", {}, lock="audiences")
