"""Bring a database to the present schema: roles, extensions, migrations, functions, row security.

`prepare_and_upgrade(database)` may be repeated and may run in several processes at once (an advisory lock orders
them). Functions and policies are plain SQL files, applied anew whenever one of them changed.
"""

import hashlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from geocrm.db import reach
from geocrm.db.engine import API_LOGIN, DATABASE_NAME, WORKER_LOGIN, Database, login_passwords
from geocrm.db.queries import SQL_DIR
from geocrm.errors import SetupError

EXTENSIONS = ("postgis", "btree_gist", "pg_trgm")
# Functions that row security must be able to push into an index: each was found with EXPLAIN, none tells more about a
# row than that it matches. Dump and restore lose the flag, so it is set at every start and checked by /ready.
LEAKPROOF = (
    "geometry_overlaps(geometry, geometry)",
    "geometry_distance_centroid(geometry, geometry)",
    "texticlike(text, text)",
    "similarity_op(text, text)",
    "word_similarity_op(text, text)",
    "word_similarity_commutator_op(text, text)",
    "arrayoverlap(anyarray, anyarray)",
)
_LOCK = 7_305_417_201


def prepare_and_upgrade(database: Database) -> None:
    """Make the database (where the server is ours), roles and extensions, migrate, apply functions and policies."""
    _create_database(database)
    engine = create_engine(database.admin_url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()
            _prepare(connection, database)
            connection.commit()
            _upgrade(connection)
            connection.commit()
            apply_sql(connection)
            connection.commit()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()
    except OperationalError as error:
        raise SetupError(reach.explain(error)) from error
    finally:
        engine.dispose()


def readiness(connection: Connection) -> dict[str, object]:
    """What `/ready` says: migrations at head, functions current, row security served by the spatial index."""
    heads = set(ScriptDirectory.from_config(_config()).get_heads())
    found = set(MigrationContext.configure(connection).get_current_heads())
    stored = connection.scalar(text("SELECT digest FROM applied_sql")) if found else None
    missing = connection.scalars(
        text(
            "SELECT f FROM unnest(CAST(:names AS text[])) AS f "
            "WHERE NOT coalesce((SELECT proleakproof FROM pg_proc WHERE oid = to_regprocedure(f)), false)"
        ),
        {"names": list(LEAKPROOF)},
    ).all()
    return {
        "migrations": heads == found,
        "functions": stored == _digest(),
        "row_security": "row security without spatial index" if missing else "row security with spatial index",
    }


def _create_database(database: Database) -> None:
    if database.settings.database_url is not None and database.admin_url.database:
        return
    engine = create_engine(
        database.admin_url.set(database="postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    try:
        with engine.connect() as connection:
            exists = connection.scalar(
                text("SELECT true FROM pg_database WHERE datname = :name"), {"name": database.admin_url.database}
            )
            if not exists:
                name = connection.dialect.identifier_preparer.quote(database.admin_url.database or DATABASE_NAME)
                try:
                    connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"))
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", "") not in ("42P04", "23505"):
                        raise
    finally:
        engine.dispose()


def _prepare(connection: Connection, database: Database) -> None:
    connection.execute(text((SQL_DIR / "roles.sql").read_text(encoding="utf-8")))
    for extension in EXTENSIONS:
        try:
            connection.execute(text(f"CREATE EXTENSION IF NOT EXISTS {extension}"))
        except DBAPIError as error:
            raise SetupError(
                f"PostgreSQL could not load the extension {extension!r}: {str(error.orig).splitlines()[0]}. "
                "Install PostGIS for this server (Debian: apt-get install postgresql-15-postgis-3) "
                "or ask the administrator of the database for CREATE EXTENSION."
            ) from error
    is_super = connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
    if not is_super:
        connection.execute(text("GRANT geocrm_owner, geocrm_views, geocrm_api, geocrm_worker TO current_user"))
    connection.execute(text("GRANT geocrm_api TO geocrm_worker"))
    connection.execute(text("GRANT CREATE, USAGE ON SCHEMA public TO geocrm_owner"))
    name = connection.dialect.identifier_preparer.quote(database.admin_url.database or DATABASE_NAME)
    connection.execute(text(f"GRANT CREATE ON DATABASE {name} TO geocrm_owner"))
    timeout_ms = int(database.settings.statement_timeout_s * 1000)
    for setting in (f"statement_timeout = {timeout_ms}", "max_parallel_workers_per_gather = 0", "jit = off"):
        connection.execute(text(f"ALTER ROLE {API_LOGIN} IN DATABASE {name} SET {setting}"))
    # what a killed worker was doing ends soon after it, and is not in the way of its successor
    for setting in ("jit = off", "client_connection_check_interval = '5s'"):
        connection.execute(text(f"ALTER ROLE {WORKER_LOGIN} IN DATABASE {name} SET {setting}"))
    if database.settings.database_url is not None:
        for login, password in login_passwords(database.settings).items():
            quoted = connection.scalar(text("SELECT quote_literal(:password)"), {"password": password})
            connection.execute(text(f"ALTER ROLE {login} PASSWORD {quoted}"))
    if is_super:
        for function in LEAKPROOF:
            connection.execute(text(f"ALTER FUNCTION {function} LEAKPROOF"))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _files() -> list[Path]:
    return [*sorted((SQL_DIR / "functions").glob("*.sql")), SQL_DIR / "security.sql"]


def _digest() -> str:
    digest = hashlib.sha256()
    for path in _files():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def apply_sql(connection: Connection) -> None:
    """(Re)create functions, views and policies where their files changed since they were last applied."""
    connection.execute(text("SET ROLE geocrm_owner"))
    connection.execute(
        text("CREATE TABLE IF NOT EXISTS applied_sql (only_row boolean PRIMARY KEY DEFAULT true, digest text NOT NULL)")
    )
    connection.execute(text("RESET ROLE"))
    if connection.scalar(text("SELECT digest FROM applied_sql")) == _digest():
        return
    for path in _files():
        if path.name == "security.sql":
            connection.execute(text("RESET ROLE"))
        else:
            connection.execute(text("SET ROLE geocrm_owner"))
        connection.exec_driver_sql(path.read_text(encoding="utf-8").replace("%", "%%"))
    connection.execute(text("RESET ROLE"))
    connection.execute(
        text("INSERT INTO applied_sql (digest) VALUES (:digest) ON CONFLICT (only_row) DO UPDATE SET digest = :digest"),
        {"digest": _digest()},
    )


def take_back_sql(connection: Connection) -> None:
    """Drop the functions, views and policies that `apply_sql` made: a migration downwards, or one that drops what they
    are about, does so first. The next start applies them anew."""
    connection.execute(text("RESET ROLE"))  # views and policies are the administrator's
    connection.execute(text("DROP SCHEMA IF EXISTS visible CASCADE"))
    functions = connection.scalars(
        text(
            "SELECT p.oid::regprocedure::text FROM pg_proc p"
            " WHERE p.pronamespace = CAST('public' AS regnamespace) AND p.proname LIKE 'geocrm\\_%'"
        )
    ).all()
    for function in functions:
        connection.execute(text(f"DROP FUNCTION IF EXISTS {function} CASCADE"))  # and the policies that ask it
    if connection.scalar(text("SELECT to_regclass('applied_sql')")) is not None:  # it comes after the first migrations
        connection.execute(text("DELETE FROM applied_sql"))
    connection.execute(text("SET ROLE geocrm_owner"))
