"""The private PostgreSQL: a data directory of our own, reached through a unix socket only.

`ensure_running(home)` makes the cluster when there is none, starts it when it does not run, and says where it is.
Several processes may call it at once. PostgreSQL refuses to run as root: then the system user `postgres` (or a user
`geocrm` that is made for it) owns the cluster. Whoever may enter the socket directory (mode 0700: the cluster's
system user, and root) may connect as any role, so there are no passwords to keep.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from geocrm.db.server_settings import DURABLE, memory_bytes, server_settings
from geocrm.errors import SetupError

MINIMUM_VERSION = 15
SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path on Linux, less the closing zero
SOCKET_PORT = 5432  # there is no TCP port; the number only names the socket file
SUPERUSER = "postgres"
START_TIMEOUT_S = 600  # crash recovery after a large import may take minutes
STOP_TIMEOUT_S = 60
INITDB_OPTIONS = ("-E", "UTF8", "--no-instructions")
LOCALES = ("C.UTF-8", "C")  # not every system has the first; both sort by code point, alike on every machine
LOG_ROTATE_BYTES = 10_000_000
PACKAGES = "postgresql and postgis (Debian/Ubuntu: apt-get install postgresql postgresql-postgis)"


@dataclass(frozen=True)
class SystemUser:
    """The operating system's user that owns the data directory and runs the server."""

    name: str
    uid: int
    gid: int

    def run(self, command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, with the output captured as text."""
        if os.geteuid() == 0 and self.uid != 0:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": os.getgrouplist(self.name, self.gid)}
        return subprocess.run(
            [str(word) for word in command],
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": "/"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            umask=0o077,
            check=False,
            **options,
        )


@dataclass(frozen=True)
class Cluster:
    """A private PostgreSQL cluster: where its files, its socket and its programs are."""

    data: Path
    socket_dir: Path
    log: Path
    programs: Path
    owner: SystemUser
    port: int = SOCKET_PORT

    def url(self, role: str, dbname: str) -> str:
        """A libpq (and SQLAlchemy) address of a database on this cluster, as one of the database's roles."""
        return (
            f"postgresql://{quote(role)}@/{quote(dbname)}?host={quote(str(self.socket_dir), safe='')}&port={self.port}"
        )

    def admin_url(self, dbname: str = "postgres") -> str:
        """The same as the database's superuser."""
        return self.url(SUPERUSER, dbname)

    def pid(self) -> int | None:
        """The process id of the running server, None when none runs on this data directory."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if _is_server_of(pid, self.data) else None

    def log_tail(self, lines: int = 8) -> str:
        """The last lines of the server's log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def ensure_running(home: Path, *, durable: bool = True) -> Cluster:
    """Make and start the private cluster of `home` where that is still to be done; return where it is.

    Idempotent, and safe in several processes at once. `durable=False` is for throw-away test data: no fsync.
    Raises `errors.SetupError` with one sentence that says what to do.
    """
    home = home.absolute()
    with locked(home):
        cluster = _locate(home)
        if not (cluster.data / "PG_VERSION").exists() or _making(cluster).exists():
            _create(cluster)
        _start_until_answering(cluster, durable=durable)
        if durable:
            _refuse_unsafe(_show(cluster, DURABLE), cluster.data)
    return cluster


def find(home: Path) -> Cluster | None:
    """The cluster of `home` without making or starting anything; None when there is none yet."""
    home = home.absolute()
    if not home.exists():
        return None
    cluster = _locate(home, make=False)
    return cluster if (cluster.data / "PG_VERSION").exists() else None


def stop(home: Path) -> bool:
    """Stop the cluster of `home` in order (open transactions roll back). False when it did not run."""
    cluster = find(home)
    if cluster is None:
        return False
    with locked(home.absolute()):
        if cluster.pid() is None:
            return False
        for mode in ("fast", "immediate"):
            done = _pg_ctl(cluster, "stop", "-w", "-m", mode, "-t", str(STOP_TIMEOUT_S))
            if done.returncode == 0 or cluster.pid() is None:
                return True
    raise SetupError(f"PostgreSQL in {cluster.data} does not stop: {_last_line(done.stderr)}")


def keep_short(log: Path) -> None:
    """Where a log has grown long, move what it holds to NAME.log.1 and go on with an empty one.

    Its writer may keep it open, as it appends."""
    try:
        if log.stat().st_size > LOG_ROTATE_BYTES:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
    except FileNotFoundError:
        return


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the lock on a home's cluster: one process at a time makes, starts or stops it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        handle = (home / "postgres.lock").open("a+")
    except OSError as error:
        raise SetupError(
            f"cannot write into {home} ({error.strerror}): set GEOCRM_HOME to a directory of yours"
        ) from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# ---------------------------------------------------------------- programs


def find_programs(version: int | None = None) -> Path:
    """The directory of initdb, pg_ctl and postgres: the newest with PostGIS, or that of one major version.

    Raises `errors.SetupError` naming the packages to install.
    """
    versions = {path: _version(path) for path in _candidates() if (path / "initdb").exists()}
    usable = {path: major for path, major in versions.items() if major >= MINIMUM_VERSION}
    if version is not None:
        usable = {path: major for path, major in usable.items() if major == version}
        if not usable:
            raise SetupError(
                f"the data directory was made by PostgreSQL {version}, whose programs are not here: install {PACKAGES} "
                f"in version {version}, or move the home away to begin with an empty one"
            )
    if not usable:
        found = f"only PostgreSQL {max(versions.values())}" if versions else "no PostgreSQL"
        raise SetupError(
            f"{found} is installed, geocrm needs {MINIMUM_VERSION} or newer: install {PACKAGES}, "
            "set GEOCRM_DATABASE_URL to a database elsewhere, or use docker compose up"
        )
    with_postgis = {path: major for path, major in usable.items() if _has_postgis(path)}
    if not with_postgis:
        raise SetupError(
            f"PostgreSQL {max(usable.values())} is installed without PostGIS: install "
            f"postgresql-{max(usable.values())}-postgis-3 (Debian/Ubuntu), or use docker compose up"
        )
    return max(with_postgis, key=lambda path: with_postgis[path])


def _candidates() -> list[Path]:
    found = list(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian, Ubuntu
    found += Path("/usr").glob("pgsql-*/bin")  # the PostgreSQL project's rpm packages
    found += Path("/opt/homebrew/opt").glob("postgresql*/bin")
    found += Path("/usr/local/opt").glob("postgresql*/bin")
    found += [Path(program).resolve().parent for program in [shutil.which("initdb")] if program]
    return found


def _version(programs: Path) -> int:
    try:
        said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    found = re.search(r"(\d+)", said)
    return int(found[1]) if found else 0


def _has_postgis(programs: Path) -> bool:
    try:
        share = subprocess.run([programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
        places = [Path(share.stdout.strip())]
    except OSError:
        places = [Path("/usr/share/postgresql") / programs.parent.name, programs.parent / "share"]
    return any((place / "extension" / "postgis.control").exists() for place in places)


# ---------------------------------------------------------------- where things are


def _locate(home: Path, *, make: bool = True) -> Cluster:
    """Work out, and with `make` prepare, the directories of a home's cluster."""
    base = home / "postgres"
    note = home / "postgres.json"  # there only when the data had to go elsewhere
    recorded = json.loads(note.read_text()) if note.exists() else {}
    if recorded.get("home") == str(home):
        base = Path(recorded["directory"])
    owner = _owner(base / "data", make=make)
    if make and not (base / "data" / "PG_VERSION").exists() and not _may_enter(owner, home):
        base = Path("/var/lib/geocrm") / hashlib.sha256(str(home).encode()).hexdigest()[:12]
        note.write_text(json.dumps({"home": str(home), "directory": str(base), "system_user": owner.name}) + "\n")
    data = base / "data"
    socket_dir = _socket_dir(base)
    if make:
        for directory in (base, data, socket_dir):
            _make_private(directory, owner)
    try:
        version: int | None = int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        version = None
    except PermissionError:
        raise SetupError(_foreign(data)) from None
    return Cluster(data, socket_dir, base / "postgresql.log", find_programs(version), owner)


def _owner(data: Path, *, make: bool) -> SystemUser:
    """The user that owns (or will own) the data directory: ourselves, unless we are root."""
    try:
        uid = data.stat().st_uid
    except OSError:
        uid = -1
    if os.geteuid() != 0:
        if uid not in (-1, os.geteuid()):
            raise SetupError(_foreign(data))
        return _system_user(pwd.getpwuid(os.geteuid()))
    if uid > 0:
        return _system_user(pwd.getpwuid(uid))
    for name in ("postgres", "geocrm"):
        try:
            return _system_user(pwd.getpwnam(name))
        except KeyError:
            continue
    if make:
        for command in (
            ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", "geocrm"],
            ["adduser", "-S", "-D", "-H", "geocrm"],
        ):
            if shutil.which(command[0]) and subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return _system_user(pwd.getpwnam("geocrm"))
    raise SetupError("PostgreSQL does not run as root, and no user `geocrm` could be made for it: run `useradd geocrm`")


def _system_user(entry: pwd.struct_passwd) -> SystemUser:
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _foreign(data: Path) -> str:
    try:
        name = pwd.getpwuid(data.stat().st_uid).pw_name
    except (OSError, KeyError):
        name = "another user"
    return (
        f"the database in {data} belongs to {name}: run as that user or as root, "
        "or set GEOCRM_HOME to a directory of yours"
    )


def _may_enter(user: SystemUser, directory: Path) -> bool:
    return user.run(["test", "-x", directory]).returncode == 0


def _socket_dir(base: Path) -> Path:
    """Beside the data, or, where that path is too long for a socket, a short directory named after it."""
    wanted = base / "socket"
    if len(os.fsencode(wanted / f".s.PGSQL.{SOCKET_PORT}")) <= SOCKET_PATH_BYTES:
        return wanted
    name = "geocrm-" + hashlib.sha256(str(base).encode()).hexdigest()[:12]
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), "/run", "/tmp"):
        if parent and os.access(parent, os.W_OK) and len(os.fsencode(parent)) < 60:
            return Path(parent) / name
    return Path("/tmp") / name


def _make_private(directory: Path, owner: SystemUser) -> None:
    """A directory that its owner (and root) alone may enter; refuses one that somebody else has laid there."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0 and directory.lstat().st_uid == 0 and owner.uid != 0:
            os.chown(directory, owner.uid, owner.gid)
        found = directory.lstat()
        if directory.is_symlink() or found.st_uid != owner.uid:
            raise SetupError(f"{directory} does not belong to {owner.name}: remove it and start again")
        if found.st_mode & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        raise SetupError(
            f"cannot make {directory} ({error.strerror}): set GEOCRM_HOME to a directory of yours"
        ) from None


# ---------------------------------------------------------------- making, starting


def _create(cluster: Cluster) -> None:
    found = [path for path in cluster.data.iterdir() if path.name != "lost+found"]
    if found and not _making(cluster).exists():
        raise SetupError(
            f"{cluster.data} holds files, but no PostgreSQL data directory: move them away and start again"
        )
    for path in found:  # an initdb was cut short before there was anything of worth
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _making(cluster).touch()
    initdb: list[str | Path] = [
        cluster.programs / "initdb",
        "-D",
        cluster.data,
        "-U",
        SUPERUSER,
        "-A",
        "trust",
        *INITDB_OPTIONS,
    ]
    for locale in LOCALES:
        # both sort alike; by C, PostgreSQL compares bytes itself, with abbreviated keys
        done = cluster.owner.run([*initdb, f"--locale={locale}", "--lc-collate=C"])
        if "invalid locale name" not in done.stderr:
            break
    if done.returncode != 0:
        raise SetupError(_why(cluster, "PostgreSQL could not make its data directory", done.stderr))
    conf = cluster.data / "postgresql.conf"
    with conf.open("a") as file:
        file.write(
            "\n# geocrm.conf is written anew at each start; put settings of your own into local.conf\n"
            "include 'geocrm.conf'\ninclude_if_exists 'local.conf'\n"
        )
    _making(cluster).unlink()


def _making(cluster: Cluster) -> Path:
    """A file that stands beside the data directory while it is being made."""
    return cluster.data.parent / "making"


def _configure(cluster: Cluster, *, durable: bool) -> None:
    settings = server_settings(memory_bytes(), durable=durable)
    settings |= {"unix_socket_directories": f"'{cluster.socket_dir}'", "port": str(cluster.port)}
    path = cluster.data / "geocrm.conf"
    path.write_text("# written at each start; put settings of your own into local.conf\n")
    with path.open("a") as file:
        file.writelines(f"{name} = {value}\n" for name, value in settings.items())
    if os.geteuid() == 0:
        os.chown(path, cluster.owner.uid, cluster.owner.gid)
    if _knows(cluster, "wal_compression=lz4"):
        with path.open("a") as file:
            file.write("wal_compression = lz4\n")


def _start(cluster: Cluster, *, durable: bool) -> None:
    _clear_remains(cluster)
    try:
        _configure(cluster, durable=durable)
        keep_short(cluster.log)
    except OSError as error:
        raise SetupError(_why(cluster, "PostgreSQL could not be started", error.strerror or str(error))) from None
    if durable:
        _refuse_unsafe({name: _configured(cluster, name) for name in DURABLE}, cluster.data)
    logged = cluster.log.stat().st_size if cluster.log.exists() else 0
    done = _pg_ctl(cluster, "start", "-w", "-t", str(START_TIMEOUT_S), "-l", cluster.log)
    if done.returncode != 0:
        text = cluster.log.read_text(errors="replace")[logged:] if cluster.log.exists() else ""
        raise SetupError(_why(cluster, "PostgreSQL does not start", text + done.stderr))


def _pg_ctl(cluster: Cluster, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return cluster.owner.run([cluster.programs / "pg_ctl", "-D", cluster.data, "-s", *words])


def _knows(cluster: Cluster, setting: str) -> bool:
    """Whether these programs were built with what a setting needs."""
    name = setting.partition("=")[0]
    return (
        cluster.owner.run([cluster.programs / "postgres", "-D", cluster.data, "-c", setting, "-C", name]).returncode
        == 0
    )


def _configured(cluster: Cluster, name: str) -> str:
    done = cluster.owner.run([cluster.programs / "postgres", "-D", cluster.data, "-C", name])
    if done.returncode != 0:
        raise SetupError(_why(cluster, "PostgreSQL does not read its settings", done.stderr))
    return done.stdout.strip()


def _start_until_answering(cluster: Cluster, *, durable: bool) -> None:
    """A server that is just going down, or dies while it recovers, is started again."""
    deadline = time.monotonic() + START_TIMEOUT_S
    ready: list[str | Path] = [cluster.programs / "pg_isready", "-q", "-h", cluster.socket_dir, "-p", str(cluster.port)]
    while True:
        if cluster.pid() is None:
            _start(cluster, durable=durable)
        if cluster.owner.run(ready).returncode == 0:
            return
        if time.monotonic() > deadline:
            raise SetupError(_why(cluster, "PostgreSQL does not answer", cluster.log_tail()))
        time.sleep(0.1)


def _show(cluster: Cluster, names: Mapping[str, str]) -> dict[str, str]:
    import psycopg

    with psycopg.connect(cluster.admin_url(), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s::text[])", [list(names)]
        ).fetchall()
    return {str(name): str(setting) for name, setting in rows}


def _clear_remains(cluster: Cluster) -> None:
    """End what a killed server left behind: its backends, which hold the shared memory, and its pid file."""
    remains = _processes_in(cluster.data)
    for sent in (signal.SIGQUIT, signal.SIGKILL):
        for pid in remains:
            _send(pid, sent)
        deadline = time.monotonic() + 2
        while remains and time.monotonic() < deadline:
            time.sleep(0.05)
            remains = _processes_in(cluster.data)
        if not remains:
            break
    for left in (cluster.data / "postmaster.pid", *cluster.socket_dir.glob(".s.PGSQL.*")):
        left.unlink(missing_ok=True)


def _processes_in(data: Path) -> list[int]:
    """Processes of PostgreSQL whose working directory is this data directory (where /proc tells)."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _is_server_of(int(entry.name), data)]


def _is_server_of(pid: int, data: Path) -> bool:
    """Is this process a PostgreSQL that works in `data`? A process id alone proves nothing: ids are used again."""
    if pid <= 0:
        return False
    entry = Path("/proc") / str(pid)
    if Path("/proc/self").exists():
        try:
            if _is_zombie(entry):
                return False
            return (entry / "comm").read_text().strip() in ("postgres", "postmaster") and Path(
                os.readlink(entry / "cwd")
            ) == data.resolve()
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    said = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return "postgres" in said


def _is_zombie(entry: Path) -> bool:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _send(pid: int, sent: signal.Signals) -> None:
    try:
        os.kill(pid, sent)
    except (ProcessLookupError, PermissionError):
        return


def _refuse_unsafe(found: Mapping[str, str], data: Path) -> None:
    for name, wanted in DURABLE.items():
        if found[name] != wanted:
            raise SetupError(
                f"PostgreSQL in {data} has {name} = {found[name]}, which loses data in a power cut: "
                f"remove {name} from {data / 'local.conf'} and start again"
            )


# ---------------------------------------------------------------- saying what went wrong


def _why(cluster: Cluster, what: str, text: str) -> str:
    """One sentence from what PostgreSQL printed."""
    if "No space left on device" in text:
        return f"{what}: the disk of {cluster.data} is full; free some space there and start again"
    if "could not map anonymous shared memory" in text or "Cannot allocate memory" in text:
        return f"{what}: there is not enough memory; set a smaller shared_buffers in {cluster.data / 'local.conf'}"
    return f"{what}: {_last_line(text)} (log: {cluster.log})"


def _last_line(text: str) -> str:
    """The most telling line: the last FATAL, PANIC or error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    cause = [
        line for line in lines if re.search(r"unrecognized configuration|invalid value|syntax error in file", line)
    ]
    telling = cause or [line for line in lines if re.search(r"FATAL|PANIC|error:", line)]
    line = (telling or lines or ["it gave no reason"])[-1]
    return re.sub(r"^.*?(FATAL|PANIC|LOG|error):\s*", "", line)
