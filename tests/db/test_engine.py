"""Sessions, what they see, and what the planner is told."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db.engine import Database, expecting_many_rows
from tests.makers import actor_of, make_user

JOIN = "EXPLAIN SELECT count(*) FROM visible.sites s JOIN visible.sales f ON f.customer_id = s.customer_id"


def test_joins_over_all_that_a_reader_sees_are_hashed(session: Session) -> None:
    actor = actor_of(session, make_user(session, "administrator"))
    with access.as_user(session, actor), expecting_many_rows(session):
        plan = "\n".join(session.scalars(text(JOIN)))
        assert session.scalar(text("SHOW enable_nestloop")) == "off"
    assert "Nested Loop" not in plan
    assert "Join" in plan
    assert session.scalar(text("SHOW enable_nestloop")) == "on"


def test_one_moment_is_after_the_wait_for_the_lock(new_database: Callable[[], Database]) -> None:
    """What commits while it waits is seen, what commits later is not; the lock is free when it ends, well or not."""
    database, lock = new_database(), 42
    count, add = "SELECT count(*) FROM teams", "INSERT INTO teams (name) VALUES (%s)"

    def look() -> tuple[int, int]:
        with database.writing_at_one_moment(lock) as session:
            first = session.execute(text(count)).scalar_one()
            other.execute(add, ["later"])
            return first, session.execute(text(count)).scalar_one()

    with psycopg.connect(database.conninfo("admin"), autocommit=True) as other, ThreadPoolExecutor(1) as thread:
        other.execute("SELECT pg_advisory_lock(%s)", [lock])
        before = other.execute(count).fetchone()[0]  # type: ignore[index]
        looking = thread.submit(look)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
        while other.execute(waiting, [lock]).fetchone() == (0,):
            assert not looking.done()
            time.sleep(0.01)
        other.execute(add, ["meanwhile"])
        other.execute("SELECT pg_advisory_unlock(%s)", [lock])
        assert looking.result() == (before + 1, before + 1)
        with pytest.raises(DataError, match="division by zero"), database.writing_at_one_moment(lock) as session:
            session.execute(text("SELECT 1 / 0"))
        assert other.execute("SELECT pg_try_advisory_lock(%s)", [lock]).fetchone() == (True,)
        assert other.execute(count).fetchone() == (before + 2,)
        with database.writing() as session:
            assert session.scalar(text("SHOW transaction_isolation")) == "read committed"
