"""The private PostgreSQL: made, started, safe, recovered, stopped; and one sentence where it cannot be."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from geocrm.db import local
from geocrm.db.server_settings import DURABLE, server_settings
from geocrm.errors import SetupError

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Path]:
    """One data directory for all tests here, since making one is most of what they would cost."""
    with tempfile.TemporaryDirectory(prefix="geocrm-test-") as made:
        home = Path(made)
        home.chmod(0o755)  # the database's system user has to pass
        yield home
        local.stop(home)


@pytest.fixture
def home(shared_home: Path) -> Iterator[Path]:
    """A home whose private PostgreSQL runs with the settings as made."""
    cluster = local.ensure_running(shared_home)
    yield shared_home
    own = cluster.data / "local.conf"
    if own.exists():
        local.stop(shared_home)
        own.unlink()


def write_settings(cluster: local.Cluster, text: str) -> None:
    own = cluster.data / "local.conf"
    own.write_text(text)
    if os.geteuid() == 0:
        os.chown(own, cluster.owner.uid, cluster.owner.gid)


def value(cluster: local.Cluster, query: str) -> str:
    with psycopg.connect(cluster.admin_url(), autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


def test_made_durable_on_a_socket_alone_and_found_again(home: Path, tmp_path: Path) -> None:
    assert local.find(tmp_path / "none") is None
    assert local.find(tmp_path) is None
    cluster = local.ensure_running(home)
    for name, wanted in {
        **DURABLE,
        "listen_addresses": "",
        "jit": "off",
        "lc_collate": "C",
        "lc_ctype": "C.UTF-8",
    }.items():
        assert value(cluster, f"SHOW {name}") == wanted
    assert value(cluster, "SHOW server_encoding") == "UTF8"
    assert cluster.socket_dir.stat().st_mode & 0o077 == 0
    assert cluster.data.stat().st_uid != 0, "never as root"
    pid = cluster.pid()
    assert pid is not None

    again = local.ensure_running(home)
    assert (again.pid(), again.data) == (pid, cluster.data)
    assert local.find(home) == cluster

    assert local.stop(home) is True
    assert cluster.pid() is None
    assert local.stop(home) is False


def test_killed_server_recovers_what_was_committed(home: Path) -> None:
    cluster = local.ensure_running(home)
    with psycopg.connect(cluster.admin_url(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 5000) AS n")
    busy = psycopg.connect(cluster.admin_url())
    busy.execute("INSERT INTO kept SELECT 0 FROM generate_series(1, 5000)")  # not committed: must be gone
    worker = busy.info.backend_pid
    pid = cluster.pid()
    assert pid is not None
    os.kill(worker, signal.SIGSTOP)  # a backend that outlives its server keeps the shared memory
    os.kill(pid, signal.SIGKILL)

    again = local.ensure_running(home)

    assert value(again, "SELECT count(*) || ' ' || min(n) FROM kept") == "5000 1"
    assert again.pid() not in (None, pid)
    busy.close()


def test_pid_file_of_another_process_is_no_obstacle(home: Path) -> None:
    cluster = local.ensure_running(home)
    local.stop(home)
    stale = cluster.data / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{cluster.data}\n")  # after a reboot the id belongs to somebody else
    assert cluster.pid() is None
    assert local.ensure_running(home).pid() is not None


def test_one_that_is_just_going_down_is_started_again(home: Path) -> None:
    cluster = local.ensure_running(home)
    for _ in range(3):
        going = cluster.pid()
        assert going is not None
        os.kill(going, signal.SIGINT)  # PostgreSQL's fast shutdown, asked for by somebody without the lock
        with suppress(FileNotFoundError):
            while "stopping" not in (cluster.data / "postmaster.pid").read_text():
                time.sleep(0.005)
        local.ensure_running(home)
        assert value(cluster, "SELECT 1") == "1"
        assert cluster.pid() != going


def test_started_once_by_three_at_a_time(home: Path) -> None:
    local.stop(home)
    program = (
        "import sys; from pathlib import Path; from geocrm.db import local\n"
        "print(local.ensure_running(Path(sys.argv[1])).pid())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    pids = {process.communicate(timeout=120)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0] * 3
    assert len(pids) == 1


def test_settings_that_lose_data_are_refused(home: Path) -> None:
    cluster = local.ensure_running(home)
    local.stop(home)
    write_settings(cluster, "fsync = off\n")
    with pytest.raises(SetupError, match=r"fsync = off, which loses data .* remove fsync from .*local\.conf"):
        local.ensure_running(home)
    assert cluster.pid() is None
    local.ensure_running(home, durable=False)  # test data may be lost
    with pytest.raises(SetupError, match="fsync = off"):  # but nobody may mistake it for the real thing
        local.ensure_running(home)


def test_own_settings_are_honoured_and_a_wrong_one_is_named(home: Path) -> None:
    cluster = local.ensure_running(home)
    local.stop(home)
    write_settings(cluster, "work_mem = 7MB\n")
    assert value(local.ensure_running(home), "SHOW work_mem") == "7MB"
    local.stop(home)
    write_settings(cluster, "work_memory = 7MB\n")
    with pytest.raises(SetupError, match="work_memory"):
        local.ensure_running(home)


def test_interrupted_initdb_is_begun_anew() -> None:
    with tempfile.TemporaryDirectory(prefix="geocrm-test-") as made:
        home = Path(made)
        home.chmod(0o755)
        lay_half_a_data_directory(home)
        try:
            assert value(local.ensure_running(home, durable=False), "SELECT 1") == "1"
        finally:
            local.stop(home)


def lay_half_a_data_directory(home: Path) -> None:
    """What a kill in the middle of initdb leaves: the version file is there early."""
    data = home / "postgres" / "data"
    (data / "base").mkdir(parents=True)
    (data / "PG_VERSION").write_text(str(local._version(local.find_programs())))
    (home / "postgres" / "making").touch()
    (data / "postgresql.conf").write_text("half")
    if os.geteuid() == 0:
        owner = local._owner(data.parent / "none", make=True)
        for path in (data.parent, data):
            os.chown(path, owner.uid, owner.gid)


def test_socket_path_too_long_for_the_kernel() -> None:
    with tempfile.TemporaryDirectory(prefix="geocrm-test-") as made:
        Path(made).chmod(0o755)
        home = Path(made) / ("long" * 25) / "home"
        assert len(str(home / "postgres" / "socket" / ".s.PGSQL.5432")) > local.SOCKET_PATH_BYTES
        home.mkdir(parents=True)
        cluster = local._locate(home)
        try:
            assert len(str(cluster.socket_dir / ".s.PGSQL.5432")) <= local.SOCKET_PATH_BYTES
            assert cluster.socket_dir.stat().st_mode & 0o777 == 0o700
            assert cluster.socket_dir.stat().st_uid == cluster.owner.uid
            assert local._locate(home) == cluster, "the same place at every start"
        finally:
            cluster.socket_dir.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a system user beside itself")
def test_checkout_that_the_system_user_cannot_enter(tmp_path_factory: pytest.TempPathFactory) -> None:
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    home = closed / "checkout" / ".geocrm"
    home.mkdir(parents=True)
    cluster = local._locate(home)
    try:
        assert not cluster.data.is_relative_to(closed)
        assert cluster.owner.run(["touch", cluster.data / "written"]).returncode == 0, "the system user may write there"
        assert local._locate(home) == cluster, "found again by the note in the home"
        assert str(cluster.data.parent) in (home / "postgres.json").read_text()
    finally:
        shutil.rmtree(cluster.data.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_home_of_somebody_else(home: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from geocrm.db import local\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: local.ensure_running(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program, str(home)], capture_output=True, text=True, check=False)
    assert re.search(r"SetupError .*(belongs to|cannot write into)", said.stdout), said


def test_files_of_somebody_else_are_not_touched() -> None:
    with tempfile.TemporaryDirectory(prefix="geocrm-test-") as made:
        Path(made).chmod(0o755)
        kept = Path(made) / "postgres" / "data" / "letter.txt"
        kept.parent.mkdir(parents=True)
        kept.write_text("mine")
        with pytest.raises(SetupError, match="holds files, but no PostgreSQL data directory: move them away"):
            local.ensure_running(Path(made))
        assert kept.read_text() == "mine"


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "_has_postgis", lambda path: False)
    with pytest.raises(
        SetupError, match=r"PostgreSQL \d+ is installed without PostGIS: install postgresql-\d+-postgis-3"
    ):
        local.find_programs()
    monkeypatch.setattr(local, "_version", lambda path: 13)
    with pytest.raises(SetupError, match=r"only PostgreSQL 13 is installed, geocrm needs 15 or newer: install"):
        local.find_programs()
    monkeypatch.setattr(local, "_candidates", list)
    with pytest.raises(SetupError, match=r"no PostgreSQL is installed.*apt-get install.*docker compose up"):
        local.find_programs()


@pytest.mark.parametrize("gib", [0.5, 1, 2, 8, 24, 256])
def test_memory_settings_fit_the_machine(gib: float) -> None:
    settings = server_settings(int(gib * 2**30), durable=True)
    mib = {name: int(text[:-2]) for name, text in settings.items() if text.endswith("MB")}
    assert 64 <= mib["shared_buffers"] <= max(64, gib * 1024 / 6 + 1)
    # all shared, and what a dozen busy connections may take beside one index build, fits in
    assert mib["shared_buffers"] + 12 * mib["work_mem"] + mib["maintenance_work_mem"] < gib * 1024 * 0.6
    assert settings["fsync"] == "on"
    assert server_settings(int(gib * 2**30), durable=False)["fsync"] == "off"


def test_stop_lets_open_transactions_roll_back(home: Path) -> None:
    cluster = local.ensure_running(home)
    with psycopg.connect(cluster.admin_url(), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
        connection.execute("CREATE TABLE kept (n int)")
    open_one = psycopg.connect(cluster.admin_url())
    open_one.execute("INSERT INTO kept VALUES (1)")
    began = time.monotonic()
    local.stop(home)
    assert time.monotonic() - began < 20
    open_one.close()
    assert value(local.ensure_running(home), "SELECT count(*) FROM kept") == "0"


def test_log_is_kept_short_under_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LOG_ROTATE_BYTES", 1000)
    log = tmp_path / "api.log"
    local.keep_short(log)  # none yet
    with log.open("a") as writer:
        writer.write("a" * 1500)
        writer.flush()
        local.keep_short(log)
        writer.write("b")
        writer.flush()
        local.keep_short(log)
    assert log.read_text() == "b"
    assert (tmp_path / "api.log.1").read_text() == "a" * 1500
