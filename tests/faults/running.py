"""A whole geocrm as a process of its own, to be killed in parts."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 180  # generous: the machine may be busy with other tests


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def fresh_home() -> Iterator[Path]:
    """A directory that the database's system user may enter, unlike pytest's own; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="geocrm-test-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def _heed_interrupts() -> None:
    """In the child: as at a terminal. Who starts tests in the background hands on that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """`geocrm up` on a home and a port."""

    def __init__(self, home: Path, port: int | None = None, **environment: str) -> None:
        self.home = home
        self.port = port or free_port()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GEOCRM_")}
        self.environment = clean | {"GEOCRM_HOME": str(home), "PORT": str(self.port)} | environment
        self.process: subprocess.Popen[str] | None = None
        self.said_at = home / "said.txt"

    def start(self, *arguments: str) -> "Running":
        """Start it without waiting."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.said_at.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "geocrm.cli", "up", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=_heed_interrupts,
            )
        return self

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another geocrm command with the same home and port, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "geocrm.cli", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_S,
        )

    @property
    def said(self) -> str:
        return self.said_at.read_text()

    def wait_for(self, words: str, seconds: float = START_S) -> float:
        """Until it said `words`; the seconds it took. Fails where it ends before."""
        began = time.monotonic()
        while words not in self.said:
            assert self.process is not None
            assert self.process.poll() is None, f"ended before it said {words!r}:\n{self.said}"
            assert time.monotonic() - began < seconds, f"did not say {words!r} in {seconds} s:\n{self.said}"
            time.sleep(0.05)
        return time.monotonic() - began

    def wait_until_ready(self, seconds: float = START_S) -> float:
        """Until /ready answers 200; the seconds it took."""
        began = time.monotonic()
        while self.get("/ready")[0] != 200:
            assert time.monotonic() - began < seconds, f"not ready in {seconds} s:\n{self.said}\n{self.log('api')}"
            time.sleep(0.05)
        return time.monotonic() - began

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 where nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    def log(self, name: str) -> str:
        path = self.home / "logs" / f"{name}.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def child(self, name: str) -> int:
        """The process id of the API or the worker."""
        children = json.loads((self.home / "up.json").read_text())["children"]
        return int(children[{"api": 0, "worker": 1}[name]]["pid"])

    def database(self) -> int:
        """The process id of the private PostgreSQL."""
        return int((self.home / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(sent)
        return self.process.wait(timeout=90)

    def clean_up(self) -> None:
        """Leave nothing running, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        self.run("down")


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: object, seconds: float = 30) -> None:
    assert callable(condition)
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "waited in vain"
        time.sleep(0.05)
