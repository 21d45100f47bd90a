"""Forget what was kept under a consent, in the transaction in which it is withdrawn."""

from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.db.queries import named

LOCATION: Final = "location"
"""The purpose of a consent under which positions of a customer's phone are kept."""


def forget(session: Session, customer_id: int, purpose: str) -> None:
    """Delete the customer's events of this purpose, with what webhooks were to be told and automations made of them;
    where it is the location, every position and where the customer stands to fences too, and in which areas offers were
    shown that hold out areas. What an automation made under this consent goes in any case."""
    values = {"customer": customer_id, "purpose": purpose}
    if purpose == LOCATION:
        # the subject first: who follows a batch of this customer's positions holds it
        for query in ("forget_subject", "forget_positions", "forget_presences"):
            session.execute(text(named("positions", query)), values)
        session.execute(text(named("offers", "forget_exposures")), values)
    for query in ("forget_deliveries", "forget_events"):
        session.execute(text(named("positions", query)), values)
    for query in ("forget_runs", "forget_entries", "forget_tasks"):
        session.execute(text(named("automations", query)), values)
