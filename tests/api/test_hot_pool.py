"""The connections of the hot lookups: bounded, healed after a cut, none lost when a request is given up."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from geocrm import access
from geocrm.api import hot
from geocrm.db import models
from geocrm.db.engine import Database
from tests.makers import make_user

QUESTION = (8.5, 47.4, None, 20, None, None, 0, None, None, None, None, None, None, None, "tag")


@pytest.fixture(scope="module")
def place(new_database: Callable[[], Database]) -> tuple[Database, bytes]:
    """A database and the digest of a key that may read."""
    database = new_database()
    _, digest = access.new_token("gk_")
    with database.writing() as session:
        user = make_user(session, "administrator")
        session.add(models.ApiKey(user_id=user.id, name="k", prefix="gk_", digest=digest, scopes=["customers:read"]))
    return database, digest


def run(place: tuple[Database, bytes], work: Callable[[hot.Pool, tuple[Any, ...]], Awaitable[None]]) -> None:
    """Run the work with a pool of three, which ends as it began."""
    database, digest = place

    async def main() -> None:
        pool = hot.Pool(database.conninfo("api"), 3)
        await work(pool, (digest, *QUESTION))
        assert len(pool.idle) == pool.opened <= 3
        assert not pool.waiting
        (body, cursor) = await pool.ask(hot._NEARBY, (digest, *QUESTION))
        assert body == b'{"data":[],"has_more":false,"next_cursor":null}'
        assert cursor is None
        await pool.close()
        assert pool.opened == 0

    # a thread of its own: a browser test in the same process leaves this one with a running loop
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, main()).result()


def test_many_at_once(place: tuple[Database, bytes]) -> None:
    """Forty questions on three connections."""

    async def work(pool: hot.Pool, values: tuple[Any, ...]) -> None:
        rows = await asyncio.gather(*(pool.ask(hot._NEARBY, values) for _ in range(40)))
        assert len({row[0] for row in rows}) == 1
        assert pool.opened == 3

    run(place, work)


def test_cut_connections_heal(place: tuple[Database, bytes]) -> None:
    """Every connection is cut; the next questions are answered, and no more connections are open than allowed."""

    async def work(pool: hot.Pool, values: tuple[Any, ...]) -> None:
        await asyncio.gather(*(pool.ask(hot._NEARBY, values) for _ in range(6)))
        with psycopg.connect(place[0].conninfo("admin"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'geocrm_api' AND datname = current_database()"
            )
        rows = await asyncio.gather(*(pool.ask(hot._NEARBY, values) for _ in range(12)))
        assert len(rows) == 12

    run(place, work)


def test_given_up_requests_lose_nothing(place: tuple[Database, bytes]) -> None:
    """Requests are cancelled while they wait, and while they are answered."""

    async def work(pool: hot.Pool, values: tuple[Any, ...]) -> None:
        for pause in (0, 0.001, 0.003, 0.01):
            tasks = [asyncio.create_task(pool.ask(hot._NEARBY, values)) for _ in range(15)]
            await asyncio.sleep(pause)
            for task in tasks[::2]:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(answer, list) for answer in ended[1::2])

    run(place, work)


def test_a_connection_that_is_given_up_while_it_opens_is_closed(
    place: tuple[Database, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is cancelled between connecting and the last prepared statement."""
    real, opened = psycopg.AsyncConnection.execute, []

    async def cancelled(connection: psycopg.AsyncConnection[Any], *args: Any, **more: Any) -> Any:
        opened.append(connection)
        raise asyncio.CancelledError

    async def work(pool: hot.Pool, values: tuple[Any, ...]) -> None:
        monkeypatch.setattr(psycopg.AsyncConnection, "execute", cancelled)
        with pytest.raises(asyncio.CancelledError):
            await pool.ask(hot._NEARBY, values)
        monkeypatch.setattr(psycopg.AsyncConnection, "execute", real)
        assert [connection.closed for connection in opened] == [True]

    run(place, work)


def test_what_is_given_as_patience_ends_is_not_lost(
    place: tuple[Database, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only connection comes back at the very moment at which who waits gives up."""
    monkeypatch.setattr(hot, "PATIENCE_S", 0.05)

    async def work(pool: hot.Pool, values: tuple[Any, ...]) -> None:
        pool.size = 1
        connection = await pool._take(fresh=False)
        turn = asyncio.create_task(pool.ask(hot._NEARBY, values))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.02, pool._give, connection)
        time.sleep(0.1)  # both are due in one turn of the loop, the connection first
        assert isinstance(await turn, list)

    run(place, work)


def test_an_error_keeps_the_connection(place: tuple[Database, bytes]) -> None:
    """An unknown token is refused, and the connection goes on serving."""

    async def work(pool: hot.Pool, values: tuple[Any, ...]) -> None:
        with pytest.raises(psycopg.DatabaseError) as refused:
            await pool.ask(hot._NEARBY, (b"unknown", *values[1:]))
        assert refused.value.sqlstate == "GC401"
        assert (pool.opened, len(pool.idle)) == (1, 1)

    run(place, work)
