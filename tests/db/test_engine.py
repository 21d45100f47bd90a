"""Sessions, what they see, and what the planner is told."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.db import engine
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


def test_threads_that_ask_first_share_one_engine(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one would keep its connections open when all are closed."""
    fresh = Database(database.admin_url, database.api_url, database.worker_url, settings=database.settings)
    real = engine.create_engine

    def slow(*args: Any, **more: Any) -> Engine:
        time.sleep(0.05)
        return real(*args, **more)

    monkeypatch.setattr(engine, "create_engine", slow)
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(lambda: fresh.reading_engine) for _ in range(4)]
        assert len({id(one.result()) for one in asked}) == 1
    before = fresh.reading_engine
    fresh.dispose()
    assert fresh.reading_engine is not before
    fresh.dispose()


def test_connections_in_use_are_closed_when_they_come_back_after_all_were(database: Database) -> None:
    fresh = Database(database.admin_url, database.api_url, database.worker_url, settings=database.settings)
    with fresh.writing() as session, fresh.reading() as other:
        used = [one.connection().connection.dbapi_connection for one in (session, other)]
        fresh.dispose()
        assert session.scalar(text("SELECT 1")) == 1
        assert [one.closed for one in used if one is not None] == [False, False]
    assert [one.closed for one in used if one is not None] == [True, True]


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
