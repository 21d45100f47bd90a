"""Fixtures: a private test PostgreSQL, a migrated template database, a clone per worker, a session per test.

The cluster under `.geocrm-test/` is shared by parallel pytest processes and left running between runs (start-up is
most of a small run's time); `make clean` stops and removes it.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from geocrm import access
from geocrm.db import local, migrate
from geocrm.db.engine import Database
from geocrm.settings import CHECKOUT, Settings

SHARED = CHECKOUT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def cluster() -> local.Cluster:
    """The private PostgreSQL of the tests (not durable: nothing in it matters)."""
    return local.ensure_running(Path(os.environ.get("GEOCRM_TEST_HOME", CHECKOUT / ".geocrm-test")), durable=False)


def _open(cluster: local.Cluster, name: str, home: Path) -> Database:
    settings = Settings(home=home)
    return Database(
        make_url(cluster.admin_url(name)),
        make_url(cluster.url("geocrm_api", name)),
        make_url(cluster.url("geocrm_worker", name)),
        settings=settings,
    )


def _schema_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted((CHECKOUT / "geocrm" / "db").rglob("*")):
        if path.suffix in (".sql", ".py") and path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@pytest.fixture(scope="session")
def template(cluster: local.Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of the migrated template database; made once per state of the schema."""
    name = f"template_{_schema_digest()}"
    engine = create_engine(cluster.admin_url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(81)"))
        ready = connection.scalar(text("SELECT datistemplate FROM pg_database WHERE datname = :name"), {"name": name})
        if not ready:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            stale = connection.scalars(
                text(
                    "SELECT datname FROM pg_database WHERE datname LIKE 'template\\_%' AND datistemplate "
                    "AND datname NOT IN ('template0', 'template1')"
                )
            ).all()
            for old in stale[:-4]:
                connection.execute(text(f"ALTER DATABASE {old} IS_TEMPLATE false"))
                connection.execute(text(f"DROP DATABASE IF EXISTS {old}"))
            database = _open(cluster, name, tmp_path_factory.mktemp("home"))
            migrate.prepare_and_upgrade(database)
            connection.execute(text(f"ALTER DATABASE {name} IS_TEMPLATE true"))
        connection.execute(text("SELECT pg_advisory_unlock(81)"))
    engine.dispose()
    return name


_MADE: list[Database] = []


@pytest.fixture(scope="module", autouse=True)
def _idle_connections_end() -> Iterator[None]:
    """What a module's databases keep in their pools ends with it: the server has a hundred connections for all."""
    yield
    for database in _MADE:
        database.dispose()


@pytest.fixture(scope="session")
def new_database(
    cluster: local.Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Database]]:
    """Makes an empty, migrated database of one's own, for tests where commits matter."""
    made = _MADE
    engine = create_engine(cluster.admin_url("postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def make() -> Database:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
            # settings of a role in a database are not cloned with it
            for setting in ("jit = off", "max_parallel_workers_per_gather = 0", "statement_timeout = 20000"):
                connection.execute(text(f"ALTER ROLE geocrm_api IN DATABASE {name} SET {setting}"))
            connection.execute(text(f"ALTER ROLE geocrm_worker IN DATABASE {name} SET jit = off"))
        made.append(_open(cluster, name, tmp_path_factory.mktemp("home")))
        return made[-1]

    yield make
    with engine.connect() as connection:
        for database in made:
            database.dispose()
            connection.execute(text(f"DROP DATABASE IF EXISTS {database.admin_url.database} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(scope="session")
def database(new_database: Callable[[], Database]) -> Database:
    """The database of this pytest worker; tests leave nothing in it (each rolls back)."""
    return new_database()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A worker's session whose work is rolled back after the test; `commit` inside becomes a savepoint's."""
    with database.writing_engine.connect() as connection:
        transaction = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint", expire_on_commit=False) as opened:
            yield opened
        transaction.rollback()


@pytest.fixture
def as_user(session: Session) -> Callable[[access.Actor], AbstractContextManager[Session]]:
    """`with as_user(actor):` the session sees what that actor sees."""
    return lambda actor: access.as_user(session, actor)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of real data; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the real data sets (adventureworks …) are not on this machine")
    return SHARED
