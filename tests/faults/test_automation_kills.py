"""The worker is killed again and again while automations act: each event acts once, each time of a schedule once."""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from geocrm.access import SYSTEM
from geocrm.campaigns import acting, automations, entries, events, geofences
from geocrm.campaigns.events import NewEvent
from geocrm.db.engine import Database
from tests.faults.test_webhook_kills import start_worker, wait
from tests.makers import make_customer, make_user

Start = Callable[[Database, Path], "subprocess.Popen[bytes]"]
DOOR = {"kind": "event", "type": "geofence.entered", "tag": "shops"}
CIRCLE = {"center": {"lon": 8.54, "lat": 47.37}, "radius_m": 120.0}


def count(database: Database, sql: str) -> int:
    with database.writing() as session:
        return int(session.scalar(text(sql)) or 0)


def start_thread_alone(database: Database, home: Path) -> subprocess.Popen[bytes]:
    """What the worker has a thread for, in a process of its own, which starts in a fraction of the time; in small lots,
    so that few events are enough to be killed amid them."""
    script = (
        "from geocrm.campaigns import acting\nfrom geocrm.db.engine import command_database\n"
        "with command_database() as database:\n    while True: acting.act_due(database, lot=15, round_lot=40)"
    )
    return start_worker(database, home, command=("-c", script))


def check_kills(
    database: Database, home: Path, *, customers: int, batches: int, kills: int, start: Start = start_worker
) -> None:
    """Every event has one task and one entry at the end, and every customer one entry by the schedule."""
    seed = int(os.environ.get("GEOCRM_TEST_SEED", random.SystemRandom().randrange(10**6)))
    draw = random.Random(seed)
    print(f"seed {seed}")
    with database.writing() as session:
        rep = make_user(session)
        everybody = [make_customer(session, owner_id=rep.id).id for _ in range(customers)]
        fence = geofences.put(session, SYSTEM, "shops", "a", CIRCLE).fence_id
        into = {"kind": "audience", "audience_id": entries.create(session, SYSTEM, "At the door")}
        daily = {"kind": "schedule", "at": "00:00", "time_zone": "UTC"}
        for name, trigger, action in (
            ("enter", DOOR, into), ("call", DOOR, {"kind": "task", "title": "Call"}), ("daily", daily, into),
        ):  # fmt: skip
            made = automations.create(
                session, SYSTEM, {"name": name, "trigger": trigger, "action": action, "consent_purpose": None}
            )
            automations.enable(session, SYSTEM, made)

    def happen() -> None:
        with database.writing() as session:  # tasks are ticked off, so that each event makes another
            session.execute(text("UPDATE tasks SET done_at = now() WHERE done_at IS NULL"))
            session.execute(text("UPDATE automations SET next_at = now() WHERE name = 'daily' AND round_for IS NULL"))
            happened = datetime.now(UTC)
            listed = [NewEvent(one, "geofence.entered", happened, {}, geofence_id=fence) for one in everybody]
            events.record(session, listed)

    def finished() -> int:
        return count(database, "SELECT count(*) FROM automation_runs WHERE status <> 'waiting'")

    happen()
    worker = start(database, home)
    try:
        for kill in range(kills):
            enough = finished() + draw.randrange(1, customers)
            wait(lambda enough=enough: finished() >= enough, (home / "worker.log").read_text()[-2000:])
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait(10)
            if kill < batches - 1:
                happen()
            if kill < kills - 1:
                worker = start(database, home)
        idle = "SELECT count(*) FROM automations WHERE round_for IS NOT NULL OR next_at <= now()"
        waiting = "SELECT count(*) FROM automation_runs WHERE status = 'waiting'"

        def is_done() -> bool:
            acting.act_due(database)  # who comes after the last, here
            return count(database, waiting) + count(database, idle) == 0

        wait(is_done, f"seed {seed}: some events were never acted on")
    finally:
        worker.kill()
        worker.wait(30)
    told = count(database, "SELECT count(*) FROM events")
    with database.writing() as session:
        runs = session.execute(
            text(
                "SELECT a.name, r.status, r.reason, count(*) AS n, count(DISTINCT r.event_id) AS events,"
                " count(DISTINCT r.task_id) AS tasks"
                " FROM automation_runs r JOIN automations a ON a.id = r.automation_id"
                " WHERE a.name <> 'daily' GROUP BY 1, 2, 3"
            )
        ).all()
        rounds = session.execute(
            text(
                "SELECT moment, customer_id, count(*) AS n FROM automation_runs r JOIN automations a"
                " ON a.id = r.automation_id WHERE a.name = 'daily' AND status = 'done' GROUP BY 1, 2"
            )
        ).all()
        left = session.execute(
            text(
                "SELECT moment, sum(customers) AS n FROM automation_runs r JOIN automations a ON a.id = r.automation_id"
                " WHERE a.name = 'daily' GROUP BY 1"
            )
        ).all()
    by_name = {name: [row for row in runs if row.name == name] for name in ("enter", "call")}
    for name, rows in by_name.items():
        assert sum(row.events for row in rows) == sum(row.n for row in rows) == told, (seed, name, rows)
    assert {row.status for row in by_name["enter"]} <= {"done", "skipped"}
    made = sum(row.tasks for row in by_name["call"])
    assert made == count(database, "SELECT count(*) FROM tasks"), f"seed {seed}: a task without its run, or twice"
    assert made == sum(row.n for row in by_name["call"] if row.status == "done") >= customers
    assert {row.n for row in rounds} <= {1}, f"seed {seed}: somebody was entered twice by one time of the schedule"
    assert left
    assert {int(row.n) for row in left} == {customers}, f"seed {seed}: a round passed somebody over: {left}"
    inside = count(database, "SELECT count(*) FROM audience_members WHERE entered_at IS NOT NULL")
    assert inside == customers
    assert acting.act_due(database, now=datetime.now(UTC) + timedelta(seconds=1)) == 0


def test_each_event_acts_once_though_the_worker_is_killed(new_database: Callable[[], Database], tmp_path: Path) -> None:
    check_kills(new_database(), tmp_path, customers=300, batches=2, kills=1, start=start_thread_alone)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_so_it_is_after_many_kills(new_database: Callable[[], Database], tmp_path: Path) -> None:
    check_kills(new_database(), tmp_path, customers=4_000, batches=12, kills=15)
