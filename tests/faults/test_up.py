"""`geocrm up` under attack: every part is killed, the port and the home are taken, the disk is full."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from geocrm.db import local
from geocrm.db.engine import Database
from tests.faults.running import Running, alive, fresh_home, wait_until

pytestmark = pytest.mark.faults

READY_AGAIN_S = 30  # after any crash


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with fresh_home() as home:
        started = Running(home).start()
        try:
            started.wait_for("ready after")
            yield started
        finally:
            started.clean_up()


def test_serves_everything_on_one_port(running: Running) -> None:
    assert running.get("/health")[0] == 200
    assert running.get("/ready")[0] == 200
    status, page = running.get("/")
    assert status == 200
    assert "<html" in page
    assert running.run("ready").returncode == 0
    assert re.search(rf"ready after [\d.]+ s at http://127\.0\.0\.1:{running.port}\b", running.said)


def test_second_one_on_the_same_home_is_refused(running: Running) -> None:
    done = running.run("up")
    assert done.returncode == 1
    assert re.fullmatch(
        rf"geocrm: geocrm already runs on \S+ at http://127\.0\.0\.1:{running.port} \(process \d+\): "
        r"use it, stop it with `geocrm down`, or set GEOCRM_HOME and PORT for a second one\n",
        done.stderr,
    )
    assert running.get("/ready")[0] == 200


def test_port_in_use_names_another_one() -> None:
    with fresh_home() as home, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = Running(home, port).run("up")
        assert done.returncode == 1
        assert done.stderr == (
            f"geocrm: port {port} on 127.0.0.1 is not free (Address already in use): "
            f"choose another one, for example PORT={port + 1}\n"
        )
        assert not (home / "postgres").exists(), "said before anything was started"


@pytest.mark.parametrize("name", ["api", "worker"])
def test_killed_part_is_reported_and_started_again(running: Running, name: str) -> None:
    former = running.child(name)
    os.kill(former, signal.SIGKILL)
    running.wait_for(f"the {'API' if name == 'api' else name} was ended by SIGKILL; it is started again in")
    wait_until(lambda: running.child(name) != former)
    running.wait_until_ready(READY_AGAIN_S)
    assert alive(running.child(name))


def test_killed_database_is_reported_and_recovers(running: Running) -> None:
    former = running.database()
    os.kill(former, signal.SIGKILL)
    running.wait_for("PostgreSQL ended by itself; it is started again and recovers")
    running.wait_for("PostgreSQL has recovered")
    running.wait_until_ready(READY_AGAIN_S)
    assert running.database() != former


def test_killed_supervisor_leaves_nothing_and_the_next_one_recovers(running: Running) -> None:
    assert running.process is not None
    children = [running.child("api"), running.child("worker")]
    running.process.kill()
    running.process.wait()
    running.start()
    running.wait_for("ready after")
    assert not any(alive(pid) for pid in children)
    assert running.get("/ready")[0] == 200


def test_stops_in_order_and_completely(running: Running) -> None:
    left = [running.child("api"), running.child("worker"), running.database()]
    assert running.stop(signal.SIGINT) == 0
    assert not any(alive(pid) for pid in left)
    assert running.get("/health")[0] == 0
    assert not (running.home / "up.json").exists()
    log = (running.home / "postgres" / "postgresql.log").read_text().splitlines()
    assert "database system is shut down" in log[-1]


def test_stopping_while_starting(running: Running) -> None:
    running.stop()
    running.start().wait_for("private PostgreSQL:")
    assert running.stop() == 0
    assert local.find(running.home) is not None
    assert local.find(running.home).pid() is None  # type: ignore[union-attr]


def test_database_of_ones_own_is_used_and_no_other_started(new_database: Callable[[], Database]) -> None:
    database = new_database()
    with fresh_home() as home:
        started = Running(home, GEOCRM_DATABASE_URL=database.conninfo("admin")).start()
        try:
            started.wait_for("ready after")
            assert "using GEOCRM_DATABASE_URL (host" in started.said
            assert not (home / "postgres").exists()
            assert started.stop() == 0
        finally:
            started.clean_up()
    with psycopg.connect(database.conninfo("admin")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,), "left running: it is not ours to stop"


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], Path]]:
    """Makes a file system of so many megabytes; the test is skipped where that is not allowed."""
    mounted: list[Path] = []
    with fresh_home() as directory:

        def make(megabytes: int) -> Path:
            place = directory / f"disk{len(mounted)}"
            place.mkdir()
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(place)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
            mounted.append(place)
            return place

        yield make
        for place in mounted:
            local.stop(place)
            subprocess.run(["umount", str(place)], check=True)


def test_disk_too_small_to_begin(small_disk: Callable[[int], Path]) -> None:
    home = small_disk(20)
    done = Running(home).run("up")
    assert done.returncode == 1
    assert re.fullmatch(
        r"geocrm: PostgreSQL could not make its data directory: the disk of \S+ is full; "
        r"free some space there and start again\n",
        done.stderr,
    )


def test_disk_that_fills_up_and_is_freed(small_disk: Callable[[int], Path]) -> None:
    """A write fails with the reason, reads go on, nothing is half-written, and after freeing all is as before."""
    home = small_disk(160)
    cluster = local.ensure_running(home)
    with psycopg.connect(cluster.admin_url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        space = os.statvfs(home)
        ballast = home / "ballast"
        ballast.write_bytes(bytes(max(space.f_bavail * space.f_frsize - 1_000_000, 0)))
        with pytest.raises(psycopg.OperationalError, match="No space left on device"):
            connection.execute("INSERT INTO kept SELECT generate_series(1, 2000000)")
    ballast.unlink()
    cluster = local.ensure_running(home)
    with psycopg.connect(cluster.admin_url(), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
        connection.execute("INSERT INTO kept VALUES (1001)")
