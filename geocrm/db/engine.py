"""Engines and session scopes: one login reads under row security, another one writes."""

import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from geocrm.db import local, reach
from geocrm.errors import SetupError
from geocrm.settings import Settings, get_settings

DATABASE_NAME = "geocrm"
API_LOGIN = "geocrm_api"
WORKER_LOGIN = "geocrm_worker"


@dataclass(frozen=True, slots=True)
class Living:
    """A connection that holds the advisory lock (kind, `number`): who looks at pg_locks sees that its owner lives."""

    number: int
    _connection: Connection

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction on this connection; so where it is committed, the lock was held all the while."""
        with Session(self._connection, expire_on_commit=False) as session, session.begin():
            yield session


class Database:
    """The three logins of one geocrm database and their engines, opened on first use.

    `admin_url` migrates, `api_url` reads under row security and can do nothing else, `worker_url` writes and sees all.
    """

    def __init__(self, admin_url: URL, api_url: URL, worker_url: URL, *, settings: Settings | None = None) -> None:
        self.admin_url = admin_url
        self.api_url = api_url
        self.worker_url = worker_url
        self.settings = settings or Settings()
        self._engines: dict[str, Engine] = {}
        self._opening = threading.Lock()

    @property
    def reading_engine(self) -> Engine:
        """Engine of the login that reads under row security."""
        return self._engine("api", self.api_url, self.settings.read_pool_size, 0)

    @property
    def writing_engine(self) -> Engine:
        """Engine of the login that writes."""
        return self._engine("worker", self.worker_url, self.settings.write_pool_size, 2)

    def _engine(self, login: str, url: URL, size: int, more: int) -> Engine:
        """One for all threads, also where several ask first at the same time."""
        with self._opening:
            if login not in self._engines:
                self._engines[login] = create_engine(
                    url, pool_size=size, max_overflow=more, pool_pre_ping=True, pool_timeout=30
                )
            return self._engines[login]

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A read-only transaction of the login under row security; nothing is seen until an actor is entered."""
        with sessionmaker(self.reading_engine)() as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction of the worker's login; committed when the block ends well, else rolled back."""
        with sessionmaker(self.writing_engine, expire_on_commit=False)() as session, session.begin():
            yield session

    @contextmanager
    def writing_at_one_moment(self, lock: int) -> Iterator[Session]:
        """As `writing`, and all of it sees the data of one moment (REPEATABLE READ): one at which nobody else holds the
        advisory lock, which is this block's until it ends."""
        with self.writing_engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": lock})  # then only look at the data
            connection.commit()
            try:
                connection.execution_options(isolation_level="REPEATABLE READ")
                with Session(connection, expire_on_commit=False) as session, session.begin():
                    yield session
            finally:
                if not connection.invalidated:  # else the lock went with the connection
                    connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": lock})
                    connection.commit()

    @contextmanager
    def living(self, kind: int) -> Iterator[Living]:
        """A connection of the worker's login, outside the pool, that holds the advisory lock (kind, a number of its
        own). Both last until the block ends or the connection is lost; after a DBAPIError, leave and enter again."""
        with self.writing_engine.connect() as connection:
            connection.detach()  # it is closed with the block, and so the lock is gone
            number, held = 0, False
            while not held:
                number = secrets.randbelow(2**31 - 1) + 1
                values = {"kind": kind, "number": number}
                lock = "SELECT pg_try_advisory_lock(CAST(:kind AS integer), CAST(:number AS integer))"
                held = bool(connection.scalar(text(lock), values))
            connection.commit()
            yield Living(number, connection)

    def conninfo(self, login: str) -> str:
        """A libpq connection URL for psycopg itself; `login` is "admin", "api" or "worker"."""
        url: URL = {"admin": self.admin_url, "api": self.api_url, "worker": self.worker_url}[login]
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    def dispose(self) -> None:
        """Close all connections: those in use, which the pool knows no more then, when they come back."""
        with self._opening:
            while self._engines:
                engine = self._engines.popitem()[1]
                event.listen(engine.pool, "checkin", _close)
                engine.dispose()


def _close(_: object, entry: ConnectionPoolEntry) -> None:
    entry.invalidate()


@contextmanager
def expecting_many_rows(session: Session) -> Iterator[None]:
    """Within the block joins are hashed: for statements that read much of what a reader sees.

    The planner cannot tell how many rows a policy lets through. It takes them for few and joins them in loops, which
    takes minutes where an administrator sees everything.
    """
    session.execute(text("SET LOCAL enable_nestloop = off"))
    yield
    session.execute(text("SET LOCAL enable_nestloop = on"))  # after an error the roll-back takes it back


@contextmanager
def side_by_side(session: Session, **wanted: str) -> Iterator[None]:
    """Within the block the parts of a UNION ALL run in processes of their own, rather than each in several, and the
    settings `wanted` hold."""
    wanted = {
        "jit": "off",
        "min_parallel_table_scan_size": "715827882",  # blocks: the largest there is
        "min_parallel_index_scan_size": "715827882",
        "parallel_setup_cost": "0",
        "parallel_tuple_cost": "0",
        "parallel_leader_participation": "off",  # it passes on what the others have
    } | wanted
    names = list(wanted)
    former = session.scalar(
        text("SELECT array_agg(current_setting(name) ORDER BY n) FROM unnest(CAST(:names AS text[])) WITH ORDINALITY"
             " AS s(name, n)"),
        {"names": names},
    )  # fmt: skip
    setting = text(
        "SELECT set_config(name, value, true) FROM unnest(CAST(:names AS text[]), CAST(:values AS text[]))"
        " AS s(name, value)"
    )
    session.execute(setting, {"names": names, "values": list(wanted.values())})
    yield
    session.execute(setting, {"names": names, "values": former})  # after an error the roll-back takes them back


def open_database(settings: Settings) -> Database:
    """The database of these settings: the one of GEOCRM_DATABASE_URL, or the private PostgreSQL (started if needed)."""
    if settings.database_url is None:
        cluster = local.ensure_running(settings.home)
        return Database(
            make_url(cluster.admin_url(DATABASE_NAME)),
            make_url(cluster.url(API_LOGIN, DATABASE_NAME)),
            make_url(cluster.url(WORKER_LOGIN, DATABASE_NAME)),
            settings=settings,
        )
    try:
        admin = make_url(settings.database_url)
    except ArgumentError:
        raise SetupError(reach.NO_ADDRESS.format(name="GEOCRM_DATABASE_URL")) from None
    if admin.get_backend_name() not in ("postgresql", "postgres"):
        raise SetupError(
            f"GEOCRM_DATABASE_URL names {admin.get_backend_name()!r}; geocrm needs postgresql://user:password@host/name"
        )
    admin = admin.set(drivername="postgresql+psycopg")
    return Database(
        admin,
        _login(admin, API_LOGIN, settings.api_database_url, settings),
        _login(admin, WORKER_LOGIN, settings.worker_database_url, settings),
        settings=settings,
    )


@contextmanager
def command_database() -> Iterator[Database]:
    """The database of this process's settings, closed when the block ends: for a command of several transactions."""
    database = open_database(get_settings())
    try:
        yield database
    finally:
        database.dispose()


@contextmanager
def command_session() -> Iterator[Session]:
    """One writing transaction on the database of this process's settings, which is closed after it: for a command."""
    with command_database() as database, database.writing() as session:
        yield session


def _login(admin: URL, login: str, given: str | None, settings: Settings) -> URL:
    if given is not None:
        return make_url(given).set(drivername="postgresql+psycopg")
    return admin.set(username=login, password=login_passwords(settings)[login])


def login_passwords(settings: Settings) -> dict[str, str]:
    """Passwords of the two logins on a database of one's own: made once, kept in GEOCRM_HOME readable by us only."""
    path = settings.home / "database-passwords.json"
    settings.home.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        stored: dict[str, str] = json.loads(path.read_text())
        return stored
    made = {login: secrets.token_urlsafe(24) for login in (API_LOGIN, WORKER_LOGIN)}
    with os.fdopen(handle, "w") as file:
        json.dump(made, file)
    return made
