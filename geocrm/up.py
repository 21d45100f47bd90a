"""`geocrm up`: the private PostgreSQL, the API with the web application, and the worker, watched as one.

One supervisor runs on a home at a time: it holds a lock on `up.lock` for its life and writes `up.json` (who it is, its
children) beside it. It restarts what crashes, and stops everything in order: first who takes requests, then who works,
then the database. After a `kill -9` of the supervisor itself, the next start ends what it left behind.
"""

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Literal

from geocrm.db import local, reach
from geocrm.db.engine import Database, command_database, open_database
from geocrm.db.migrate import prepare_and_upgrade
from geocrm.errors import GeocrmError, SetupError
from geocrm.settings import Settings, get_settings

READY_TIMEOUT_S = 120
API_STOP_S = 10  # open requests may end
WORKER_STOP_S = 20  # a job that is cut here is taken up again by the next start
HEALTHY_AFTER_S = 60  # a part that lived that long starts its backoff anew
LONGEST_BACKOFF_S = 30
WATCH_S = 1.0


Phase = Literal["starting", "watching", "stopping"]


class Stopped(BaseException):
    """A signal asked to stop while the start was still going on."""


@dataclass(frozen=True)
class Ready:
    """What the running geocrm answers at /ready."""

    ready: bool
    text: str


# ---------------------------------------------------------------- commands


def run(*, demo: bool = False) -> None:
    """Start all parts, say where they are, watch them until Ctrl-C or SIGTERM, stop them in order."""
    settings = get_settings()
    begun = time.monotonic()
    with _only_one(settings) as state:
        _end_orphans(state.former)
        _refuse_busy_port(settings)
        supervisor = Supervisor(settings, state)
        with _signals(supervisor.take_signal):
            try:
                supervisor.start(demo=demo, begun=begun)
                supervisor.watch()
            except Stopped:
                pass
            finally:
                supervisor.stop()


def end() -> str:
    """Stop the supervisor of this home, or, where none runs, what a killed one left and the private PostgreSQL."""
    settings = get_settings()
    state = State(settings.home / "up.json")
    supervisor = state.supervisor()
    if supervisor is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)
        deadline = time.monotonic() + API_STOP_S + WORKER_STOP_S + local.STOP_TIMEOUT_S
        while state.supervisor() is not None:
            if time.monotonic() > deadline:
                raise SetupError(f"geocrm (process {supervisor}) does not stop; `kill -9 {supervisor}` ends it")
            time.sleep(0.1)
        return "Stopped."
    _end_orphans(state.former)
    return "The private PostgreSQL is stopped." if local.stop(settings.home) else "Nothing runs on this home."


def migrate() -> None:
    """Prepare the database of the settings and bring its schema to this version."""
    settings = get_settings()
    if settings.database_url is not None:
        reach.check(settings.database_url)
    with command_database() as database:
        prepare_and_upgrade(database)


def ask_ready(settings: Settings | None = None, *, timeout_s: float = 5) -> Ready:
    """Ask /ready of the geocrm of these settings."""
    settings = settings or get_settings()
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
    connection = http.client.HTTPConnection(host, settings.port, timeout=timeout_s)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        return Ready(answer.status == 200, answer.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Ready(False, f"nothing answers at {host}:{settings.port} ({error})")
    finally:
        connection.close()


# ---------------------------------------------------------------- the parts


@dataclass
class Part:
    """A child process that is kept running."""

    name: str
    command: list[str]
    log: Path
    stop_s: float
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    again_at: float | None = None

    def start(self, environment: dict[str, str]) -> None:
        """Start it, its output going to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the parts in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self.started = time.monotonic()
        self.again_at = None

    def crashed(self) -> int | None:
        """Its return code where it has ended by itself since it was started."""
        return self.process.poll() if self.process is not None else None

    def backoff_s(self) -> float:
        """How long to wait before it is started again."""
        if time.monotonic() - self.started > HEALTHY_AFTER_S:
            self.failures = 0
        self.failures += 1
        return float(min(2 ** (self.failures - 1), LONGEST_BACKOFF_S))

    def stop(self, hurried: Callable[[], bool]) -> None:
        """Ask it to end, wait, and end it by force where it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        deadline = time.monotonic() + self.stop_s
        while self.process.poll() is None and time.monotonic() < deadline and not hurried():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
        if self.process.poll() is None:
            _say(f"the {self.name} did not end in time and is killed")
            self.process.kill()
        self.process.wait()


class Supervisor:
    """Starts, watches and stops the parts of one home."""

    def __init__(self, settings: Settings, state: "State") -> None:
        self.settings = settings
        self.state = state
        self.wake = threading.Event()
        self.phase: Phase = "starting"
        self.hurried = False
        self.own_database = settings.database_url is None
        self.cluster: local.Cluster | None = None
        self.database_failures = 0
        self.database_again_at = 0.0
        logs = settings.home / "logs"
        self.api = Part(
            "API",
            [
                *(sys.executable, "-m", "uvicorn", "geocrm.api.app:app", "--no-access-log", "--no-server-header"),
                "--no-proxy-headers",  # whom to believe is GEOCRM_TRUSTED_PROXIES
                *("--host", settings.host, "--port", str(settings.port), "--timeout-graceful-shutdown", "5"),
            ],
            logs / "api.log",
            API_STOP_S,
        )
        self.worker = Part("worker", [sys.executable, "-m", "geocrm.jobs"], logs / "worker.log", WORKER_STOP_S)

    @property
    def url(self) -> str:
        """Where the web application and the API are."""
        return f"http://{_browsable(self.settings.host)}:{self.settings.port}"

    # ---- starting

    def start(self, *, demo: bool, begun: float) -> None:
        """Bring everything up, in order, and wait until /ready says so."""
        database = self._start_database()
        try:
            with _step("tables and row security at this version"):
                prepare_and_upgrade(database)
            if demo:
                self._load_demo(database)
        finally:
            database.dispose()
        for part in (self.api, self.worker):
            self._start_part(part)
        self._wait_until_ready()
        _say(f"ready after {time.monotonic() - begun:.1f} s at {self.url}")
        if demo:
            _print_logins()
        _say(f"logs in {self.api.log.parent}; Ctrl-C stops everything")

    def _start_database(self) -> Database:
        if self.settings.database_url is not None:
            reach.check(self.settings.database_url)
            _say(f"using GEOCRM_DATABASE_URL ({reach.describe(self.settings.database_url)})")
        else:
            with _step("private PostgreSQL"):
                self.cluster = local.ensure_running(self.settings.home)
            if not self.cluster.data.is_relative_to(self.settings.home.absolute()):
                _say(
                    f"its data is in {self.cluster.data}, because the system user {self.cluster.owner.name} "
                    f"may not enter {self.settings.home}"
                )
        return open_database(self.settings)

    def _load_demo(self, database: Database) -> None:
        from geocrm.demo import load

        with database.writing() as session:
            fresh = load.is_fresh(session)
        if not fresh:
            return
        _say("loading the demo company, this once")
        with _step("demo company"):
            load.load(database, progress=load.in_words(_say))

    def _start_part(self, part: Part) -> None:
        environment = os.environ | {
            "GEOCRM_HOME": str(self.settings.home.absolute()),
            "PORT": str(self.settings.port),
            "PYTHONUNBUFFERED": "1",
        }
        part.start(environment)
        self._write_state()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            for part in (self.api, self.worker):
                if part.crashed() is not None:
                    raise SetupError(f"the {part.name} ended at once: {_last_words(part.log)} (log: {part.log})")
            answer = ask_ready(self.settings)
            if answer.ready:
                return
            if time.monotonic() > deadline:
                raise SetupError(f"geocrm is not ready after {READY_TIMEOUT_S} s: {answer.text} (log: {self.api.log})")
            time.sleep(0.05)

    def _write_state(self) -> None:
        parts = [part for part in (self.api, self.worker) if part.process is not None]
        self.state.write(self.url, [part.process.pid for part in parts if part.process is not None])

    # ---- watching

    def watch(self) -> None:
        """Until asked to stop: see what ends by itself, say so, start it again."""
        signal.signal(signal.SIGCHLD, lambda *_: self.wake.set())
        self.phase = "watching"
        logs = [self.api.log, self.worker.log, *([self.cluster.log] if self.cluster else [])]
        while self._still_watching():
            for log in logs:
                with contextlib.suppress(OSError):  # a full disk is said by those who need it
                    local.keep_short(log)
            self._watch_database()
            for part in (self.api, self.worker):
                self._watch_part(part)

    def _still_watching(self) -> bool:
        self.wake.wait(WATCH_S)
        self.wake.clear()
        return self.phase == "watching"

    def _watch_part(self, part: Part) -> None:
        now = time.monotonic()
        if part.again_at is None and (code := part.crashed()) is not None:
            wait_s = part.backoff_s()
            part.again_at = now + wait_s
            _say(f"the {part.name} {_ending(code)}; it is started again in {wait_s:.0f} s (log: {part.log})")
        elif part.again_at is not None and now >= part.again_at:
            self._start_part(part)

    def _watch_database(self) -> None:
        if self.cluster is None or self.cluster.pid() is not None or time.monotonic() < self.database_again_at:
            return
        _say("PostgreSQL ended by itself; it is started again and recovers")
        try:
            began = time.monotonic()
            self.cluster = local.ensure_running(self.settings.home)
            self.database_failures = 0
            _say(f"PostgreSQL has recovered ({time.monotonic() - began:.1f} s)")
        except GeocrmError as error:
            self.database_failures += 1
            wait_s = min(2**self.database_failures, LONGEST_BACKOFF_S)
            self.database_again_at = time.monotonic() + wait_s
            _say(f"{error.detail}; next attempt in {wait_s} s")

    # ---- stopping

    def take_signal(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler: cut the start short, end the watch, and, when asked once more, stop waiting for anything."""
        if self.phase == "starting":
            self.phase = "stopping"
            raise Stopped
        self.hurried = self.phase == "stopping"
        self.phase = "stopping"
        self.wake.set()

    def stop(self) -> None:
        """Stop API, worker and private PostgreSQL, in this order."""
        self.phase = "stopping"
        if self.api.process is not None or self.cluster is not None:
            _say("stopping")
        for part in (self.api, self.worker):
            part.stop(lambda: self.hurried)
        if self.own_database and self.cluster is not None:
            local.stop(self.settings.home)
        self.state.clear()


# ---------------------------------------------------------------- one supervisor a home


class State:
    """`up.json`: which process supervises the home, where it serves, its children. Ids alone prove nothing, as they
    are used again; so each carries the time its process began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.former = self._read()

    def _read(self) -> dict[str, object]:
        try:
            stored = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}

    def supervisor(self) -> int | None:
        """The process id of the supervisor that runs now, None where none does."""
        return _still_running(self._read().get("supervisor"))

    def url(self) -> str:
        """Where the running supervisor serves."""
        return str(self._read().get("url", ""))

    def write(self, url: str, children: list[int]) -> None:
        """Note who supervises and what its children are."""
        content = {"supervisor": _mark(os.getpid()), "url": url, "children": [_mark(pid) for pid in children]}
        draft = self.path.with_suffix(".json.new")
        draft.write_text(json.dumps(content) + "\n")
        draft.replace(self.path)

    def clear(self) -> None:
        """Nothing runs any more."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[State]:
    """Hold the home's lock; refuse where another supervisor holds it."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        handle = (settings.home / "up.lock").open("a+")
    except OSError as error:
        raise SetupError(
            f"cannot write into {settings.home} ({error.strerror}): set GEOCRM_HOME to a directory of yours"
        ) from None
    with handle:
        state = State(settings.home / "up.json")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where = f" at {state.url()}" if state.url() else ""
            raise SetupError(
                f"geocrm already runs on {settings.home}{where} (process {state.supervisor() or 'starting'}): "
                "use it, stop it with `geocrm down`, or set GEOCRM_HOME and PORT for a second one"
            ) from None
        yield state


def _end_orphans(former: dict[str, object]) -> None:
    """End the children of a supervisor that was killed."""
    children = former.get("children")
    running = [pid for mark in children if (pid := _still_running(mark))] if isinstance(children, list) else []
    if not running:
        return
    _say("a former geocrm was killed; ending what it left running")
    for sent, patience_s in ((signal.SIGTERM, API_STOP_S), (signal.SIGKILL, 5)):
        for pid in running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, sent)
        deadline = time.monotonic() + patience_s
        while running and time.monotonic() < deadline:
            time.sleep(0.05)
            running = [pid for mark in children if (pid := _still_running(mark))] if isinstance(children, list) else []
        if not running:
            return


def _mark(pid: int) -> dict[str, object]:
    return {"pid": pid, "began": _began(pid)}


def _still_running(mark: object) -> int | None:
    """The process id in a mark, where that very process still runs."""
    if not isinstance(mark, dict) or not isinstance(mark.get("pid"), int):
        return None
    pid: int = mark["pid"]
    return pid if (began := _began(pid)) and began == mark.get("began") else None


def _began(pid: int) -> str:
    """When a process began, as the system tells it; empty where there is no such process."""
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    said = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return said.stdout.strip()


def _die_with_parent() -> None:
    """Between fork and exec of a child: let the kernel end it when the supervisor is killed (Linux)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


# ---------------------------------------------------------------- ports, signals, words


def _refuse_busy_port(settings: Settings) -> None:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(family[4])
    except PermissionError:
        raise SetupError(f"port {settings.port} is reserved for root: choose one from 1024, PORT=8000") from None
    except OSError as error:
        raise SetupError(
            f"port {settings.port} on {settings.host} is not free ({error.strerror}): "
            f"choose another one, for example PORT={settings.port + 1}"
        ) from None


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP go to `handler` for a while."""
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {name: signal.signal(name, handler) for name in names if signal.getsignal(name) != signal.SIG_IGN}
    try:
        yield
    finally:
        for name, previous in former.items():
            signal.signal(name, previous)


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    _say(f"{what}: {time.monotonic() - began:.1f} s")


def _say(sentence: str, file: IO[str] | None = None) -> None:
    with contextlib.suppress(OSError, ValueError):  # whoever read our output may have gone
        print(f"geocrm: {sentence}", file=file or sys.stderr, flush=True)


def _print_logins() -> None:
    from geocrm.demo import load

    print("\nSign in with one of these:", flush=True)
    for role, email in load.LOGINS.items():
        print(f"  {role:<14} {email:<24} {load.PASSWORD}", flush=True)
    print(flush=True)


def _browsable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
