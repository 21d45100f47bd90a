"""Is the database there, is it one that geocrm can use, and if not: one sentence that says what to do."""

import psycopg
from psycopg import conninfo

from geocrm.db.local import MINIMUM_VERSION
from geocrm.errors import SetupError

CONNECT_TIMEOUT_S = 10
NO_ADDRESS = "{name} is not a database address: it looks like postgresql://USER:PASSWORD@HOST:5432/DATABASE"


def check(url: str, *, name: str = "GEOCRM_DATABASE_URL") -> None:
    """Raise `errors.SetupError` unless a PostgreSQL with PostGIS answers at `url`, which the sentence calls `name`."""
    url = libpq(url)
    try:
        conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise SetupError(NO_ADDRESS.format(name=name)) from None
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S, autocommit=True) as connection:
            if connection.info.server_version < MINIMUM_VERSION * 10_000:
                raise SetupError(
                    f"{name} names a PostgreSQL {connection.info.server_version // 10_000}: "
                    f"geocrm needs {MINIMUM_VERSION} or newer"
                )
            found = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'postgis'").fetchone()
    except psycopg.OperationalError as error:
        raise SetupError(explain(error, f"{name} ({describe(url)})")) from None
    if found is None:
        raise SetupError(
            f"the PostgreSQL at {describe(url)} has no PostGIS: install the package postgresql-NN-postgis-3 on its "
            "machine, or use the image postgis/postgis"
        )


def libpq(url: str) -> str:
    """The address as libpq takes it: SQLAlchemy's driver name (`postgresql+psycopg://`) left out."""
    scheme, separator, rest = url.partition("://")
    return scheme.partition("+")[0] + separator + rest


def describe(url: str) -> str:
    """Where an address leads, without its password."""
    try:
        parts = conninfo.conninfo_to_dict(libpq(url))
    except psycopg.ProgrammingError:
        return "no valid address"
    host = parts.get("host") or "the local socket"
    return f"host {host}, database {parts.get('dbname') or parts.get('user') or 'of your name'}"


def explain(error: Exception, where: str = "the database") -> str:
    """One sentence for a failed connection or statement: what is wrong, and what mends it."""
    said = str(getattr(error, "orig", error)).strip()
    text = said.lower()
    if isinstance(getattr(error, "orig", error), psycopg.errors.DiskFull) or "no space left on device" in text:
        return f"the disk of {where} is full: free some space on it and start again"
    for sign, mend in (
        ("could not translate host name", "there is no machine of that name: check the host in it"),
        ("name or service not known", "there is no machine of that name: check the host in it"),
        ("failed to resolve host", "there is no machine of that name: check the host in it"),
        ("connection refused", "nothing listens there: start that PostgreSQL, or check host and port"),
        ("no such file or directory", "no server has its socket there: start that PostgreSQL, or check the path"),
        ("timeout expired", "it did not answer in time: check host, port and firewall"),
        ("password authentication failed", "user or password is wrong"),
        ("no password supplied", "it wants a password: add one to it"),
        ("too many", "it takes no more connections: raise max_connections or close some"),
        ("is starting up", "it is still starting up: try again in a moment"),
    ):
        if sign in text:
            return f"{where}: {mend}"
    if 'role "geocrm_' in text or (isinstance(getattr(error, "orig", error), psycopg.errors.UndefinedTable)):
        return f"{where} holds no geocrm of this version yet: run `geocrm migrate` (`geocrm up` does it by itself)"
    if "does not exist" in text:
        return f"{where}: {_first_line(said)}: create it, or check the name"
    return f"{where} cannot be used: {_first_line(said)}"


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rpartition("FATAL:")[2].strip() if lines else "no reason given"
