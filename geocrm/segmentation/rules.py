"""Rules while they are written: the sentence of a filter, and how many customers pass it, within bounded time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from geocrm.access import Actor
from geocrm.db.queries import named
from geocrm.segmentation.methods import names_of, read_rule

BUDGET_MS: Final = 3_000
SAMPLE: Final = 20_000
_CANCELLED: Final = "57014"


@dataclass(frozen=True)
class Count:
    """How many customers the reader sees pass a filter: counted, or told from a sample where counting takes long."""

    sentence: str
    customers: int
    exact: bool
    looked_at: int


def preview(session: Session, actor: Actor, given: Any, *, budget_ms: int = BUDGET_MS) -> Count:
    """The sentence of a rule and its live count in a session entered as the reader.

    Where counting takes longer than `budget_ms`, a sample of about 20,000 customers is asked instead, within as long
    again; raises the database's cancellation (answered 503) where that takes too long too. Raises InvalidFilter."""
    wanted = read_rule(given)
    condition = wanted.compile("customer", snapped=not actor.exact)
    words = wanted.sentence(names_of(session))
    values = condition.params()
    count = text(named("segmentation", "count_rule").replace("{condition}", condition.named()))
    before = session.scalar(text("SELECT current_setting('statement_timeout')"))
    try:
        with session.begin_nested():
            _allow(session, f"{budget_ms}ms")
            number = int(session.scalar(count, values) or 0)
            _allow(session, before)
            return Count(words, number, True, number)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _CANCELLED:
            raise
    present = session.scalar(text("SELECT reltuples FROM pg_class WHERE oid = CAST('customers' AS regclass)")) or 0
    share = min(100.0, 100.0 * SAMPLE / max(float(present), 1.0))
    sample = text(named("segmentation", "sample_rule").replace("{condition}", condition.named()))
    _allow(session, f"{max(budget_ms, 1000)}ms")
    row = session.execute(sample, values | {"share": share}).one()
    _allow(session, before)
    return Count(words, round(row.passing * 100.0 / share), False, row.looked_at)


def _allow(session: Session, timeout: str) -> None:
    session.execute(text("SELECT set_config('statement_timeout', :timeout, true)"), {"timeout": timeout})
