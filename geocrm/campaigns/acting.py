"""Do what automations are there for: each event once, each time of a schedule once, though the worker be killed.

Events set runs off in the transaction in which they are recorded. A round takes one automation, holds it, and does what
waits, a lot at a time: what it does, and that it is done, is one transaction. A schedule goes through the customers in
lots too, and keeps the place up to which it is done. A time that passed while nobody worked is done once, afterwards.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Row, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from geocrm import logs
from geocrm.campaigns import automations, entries
from geocrm.campaigns.automations import FAILURES, UNKNOWN_KEY, Target
from geocrm.db.engine import Database
from geocrm.db.models import Automation
from geocrm.db.queries import named
from geocrm.errors import InvalidFilter

log = structlog.get_logger("geocrm.automations")

LOT: Final = 1000
ROUND_LOT: Final = 5000
SWEEP_S: Final = 10.0
_CHUNK: Final = 20_000


def run(database: Database, stop: threading.Event, *, idle_s: float = 0.5) -> None:
    """Act until told to stop."""
    swept = datetime.min.replace(tzinfo=UTC)
    while not stop.is_set():
        try:
            done = act_due(database)
            now = datetime.now(UTC)
            if (now - swept).total_seconds() >= SWEEP_S:
                with database.writing() as session:
                    entries.leave_expired(session, now=now)
                swept = now
            if done == 0:
                stop.wait(idle_s)
        except (DBAPIError, PoolTimeout) as error:  # the database is away, or somebody was in the way: later, then
            log.warning("automations_wait", error=type(error).__name__)
            stop.wait(2.0)
        except Exception as error:  # a fault of ours: it must not be the end of all automations
            log.error("automations_failed", error=type(error).__name__, trace=logs.where(error))
            stop.wait(5.0)


def act_due(database: Database, *, now: datetime | None = None, lot: int = LOT, round_lot: int = ROUND_LOT) -> int:
    """One lot of each automation that has something to do; how many customers were looked at. One whose condition
    cannot be asked is given up; raises what else hindered one, after the others."""
    moment = now or datetime.now(UTC)
    with database.writing() as session:
        due = session.scalars(text(named("automations", "due")), {"now": moment}).all()
    looked_at = 0
    hindered: DBAPIError | None = None
    for automation_id in due:
        try:
            with database.writing() as session:
                looked_at += act(session, automation_id, now=moment, lot=lot, round_lot=round_lot)
        except (DBAPIError, InvalidFilter) as error:
            state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
            if isinstance(error, DBAPIError) and not state.startswith((UNKNOWN_KEY, "22")):
                log.warning("automation_waits", automation=automation_id, sqlstate=state)
                hindered = error
                continue
            log.error("automation_failed", automation=automation_id, sqlstate=state)
            with database.writing() as session:
                give_up(session, automation_id, now=moment)
    if hindered is not None:  # the others had their turn
        raise hindered
    return looked_at


def act(session: Session, automation_id: int, *, now: datetime, lot: int = LOT, round_lot: int = ROUND_LOT) -> int:
    """One lot of an automation, unless somebody else is at it; how many customers were looked at."""
    held = select(Automation).where(Automation.id == automation_id).execution_options(populate_existing=True)
    automation = session.scalars(held.with_for_update(key_share=True, skip_locked=True)).one_or_none()
    if automation is None:
        return 0
    if not automation.enabled:
        values = {"automation": automation_id, "status": "skipped", "reason": "disabled", "runs": None, "now": now}
        session.execute(text(named("automations", "finish_all")), values)
        return 0
    done = _act_on_events(session, automation, now, lot)
    return done + (_act_on_round(session, automation, now, round_lot) if automation.trigger == "schedule" else 0)


def give_up(session: Session, automation_id: int, *, now: datetime) -> None:
    """What waits of an automation has failed, and so has its round: its condition cannot be asked."""
    automation = automations.open_for_edit(session, automation_id)
    values = {"automation": automation_id, "status": "failed", "reason": "not_possible", "runs": None, "now": now}
    session.execute(text(named("automations", "finish_all")), values)
    if automation.trigger == "schedule" and automation.enabled:
        _begin_round(automation, now)
        _log_left(session, automation, now, Counter({"not_possible": 0}))
        _end_round(automation)
        session.flush()


def expire(database: Database, *, now: datetime, keep_days: float, chunk: int = _CHUNK) -> int:
    """Delete runs older than `keep_days`, those that a cap goes by only after it; how many."""
    total = 0
    while True:
        values = {"before": now - timedelta(days=keep_days), "now": now, "most": chunk}
        with database.writing() as session:
            gone = int(session.scalar(text(named("automations", "expire")), values) or 0)
        total += gone
        if gone < chunk:
            return total


# ---------------------------------------------------------------- events


def _act_on_events(session: Session, automation: Automation, now: datetime, lot: int) -> int:
    waiting = session.execute(text(named("automations", "waiting")), {"automation": automation.id, "most": lot}).all()
    if not waiting:
        return 0
    runs = [row.id for row in waiting]
    aim = automations.target(session, automation)
    if aim.failure is not None:
        values = {"automation": automation.id, "status": "failed", "reason": aim.failure, "runs": runs, "now": now}
        session.execute(text(named("automations", "finish_all")), values)
        return len(runs)
    purposes = {row.purpose for row in waiting}
    _hold_consents(session, automation, [row.customer_id for row in waiting], purposes)
    candidates = named("automations", "candidates_waiting")
    rows = automations.judge(session, automation, aim, candidates, {"runs": runs}, now=now)
    rows = sorted(rows, key=lambda row: row.run_id)
    reasons = _once_each(automation, rows)
    tasks = _do(session, automation, aim, [row for row in rows if reasons[row.run_id] is None], now)
    session.execute(
        text(named("automations", "finish")),
        {
            "now": now,
            "runs": [row.run_id for row in rows],
            "statuses": [_status(reasons[row.run_id]) for row in rows],
            "reasons": [reasons[row.run_id] for row in rows],
            "tasks": [tasks.get(row.customer_id) if reasons[row.run_id] is None else None for row in rows],
            "ends": [row.expires_at if reasons[row.run_id] is None else None for row in rows],
        },
    )
    log.info("automation_acted", automation=automation.id, **Counter(_status(one) for one in reasons.values()))
    return len(runs)


def _once_each(automation: Automation, rows: Sequence[Row[Any]]) -> dict[int, str | None]:
    """Why not, of each run: what the judgement says, and of several events of one customer in a lot only the first is
    acted on where there is a cap or a task."""
    reasons: dict[int, str | None] = {}
    touched: set[int] = set()
    for row in rows:
        reason = row.reason
        if reason is None and row.customer_id in touched:
            reason = (
                "capped" if automation.cap_days is not None else "task_open" if automation.action == "task" else None
            )
        if reason is None:
            touched.add(row.customer_id)
        reasons[row.run_id] = reason
    return reasons


# ---------------------------------------------------------------- schedules


def _act_on_round(session: Session, automation: Automation, now: datetime, lot: int) -> int:
    if automation.round_for is None and (automation.next_at is None or automation.next_at > now):
        return 0
    _begin_round(automation, now)
    aim = automations.target(session, automation)
    if aim.failure is not None:
        _log_left(session, automation, now, Counter({aim.failure: 0}))
        _end_round(automation)
        session.flush()
        return 1
    customers = session.scalars(
        text(named("automations", "next_customers")), {"after": automation.round_after or 0, "most": lot}
    ).all()
    if customers:
        _hold_consents(session, automation, customers, set())
        candidates = named("automations", "candidates_round")
        rows = automations.judge(session, automation, aim, candidates, {"customers": list(customers)}, now=now)
        chosen = [row for row in rows if row.reason is None]
        tasks = _do(session, automation, aim, chosen, now)
        _log_done(session, automation, now, chosen, tasks)
        _log_left(session, automation, now, Counter(row.reason for row in rows if row.reason is not None))
        automation.round_after = customers[-1]
    if len(customers) < lot:
        _end_round(automation)
    session.flush()
    return len(customers) or 1


def _begin_round(automation: Automation, now: datetime) -> None:
    if automation.round_for is None:
        automation.round_for, automation.round_after = automation.next_at or now, 0
        automation.next_at = automations.next_at(automation, now)


def _end_round(automation: Automation) -> None:
    automation.round_for = automation.round_after = None


def _log_done(
    session: Session, automation: Automation, now: datetime, rows: Sequence[Row[Any]], tasks: Mapping[int, int]
) -> None:
    if not rows:
        return
    session.execute(
        text(named("automations", "log_done")),
        {
            "automation": automation.id,
            "version": automation.version,
            "round": automation.round_for,
            "now": now,
            "customers": [row.customer_id for row in rows],
            "tasks": [tasks.get(row.customer_id) for row in rows],
            "ends": [row.expires_at for row in rows],
        },
    )


def _log_left(session: Session, automation: Automation, now: datetime, counts: Counter[str]) -> None:
    if not counts:
        return
    session.execute(
        text(named("automations", "log_left")),
        {
            "automation": automation.id,
            "version": automation.version,
            "round": automation.round_for,
            "now": now,
            "counts": list(counts.values()),
            "statuses": [_status(reason) for reason in counts],
            "reasons": list(counts),
        },
    )


# ---------------------------------------------------------------- both


def _hold_consents(
    session: Session, automation: Automation, customers: Sequence[int], purposes: set[str | None]
) -> None:
    """Before the runs themselves, as who withdraws one does."""
    asked = sorted({purpose for purpose in (*purposes, automation.consent_purpose) if purpose is not None})
    if asked:
        values = {"customers": sorted(set(customers)), "purposes": asked}
        session.execute(text(named("automations", "hold_consents")), values)


def _do(
    session: Session, automation: Automation, aim: Target, rows: Sequence[Row[Any]], now: datetime
) -> dict[int, int]:
    """The action, for these; the task of each customer, where tasks are made."""
    if not rows:
        return {}
    purposes = {
        row.customer_id: sorted({one for one in (row.purpose, automation.consent_purpose) if one is not None})
        for row in rows
    }
    if automation.action == "task":
        made = session.execute(
            text(named("automations", "make_tasks")),
            {
                "title": automation.title,
                "details": automation.details,
                "due_days": automation.due_days,
                "automation": automation.id,
                "now": now,
                "customers": [row.customer_id for row in rows],
                "reps": [row.rep_id for row in rows],
                "purposes": [entries.pack(purposes[row.customer_id]) for row in rows],
            },
        )
        return {row.customer_id: row.id for row in made}
    assert aim.audience_id is not None
    ends: dict[int, datetime | None] = {}
    for row in rows:
        former = ends.get(row.customer_id, row.expires_at)
        ends[row.customer_id] = None if former is None or row.expires_at is None else max(former, row.expires_at)
    entries.enter(session, aim.audience_id, ends, now=now, purposes=purposes, automation_id=automation.id)
    return {}


def _status(reason: str | None) -> str:
    return "done" if reason is None else "failed" if reason in FAILURES else "skipped"
