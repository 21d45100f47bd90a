"""Events on their way: positions stream in at 20,000 a second against 25,000 fences, a worker of its own process tells
a webhook on this machine what happens, and each event is timed from its transaction to the receiver.

The receiver keeps connections open, notes the moment, and answers 204 after 20 ms (`GEOCRM_BENCH_DELAY_MS`), as one
that is not next door does; afterwards all events must have come, each customer's in order, and the signatures of the
first 1,000 messages be right. What else is told: the rates, and the
memory of the sender (fences, parsing, following), the worker and PostgreSQL (proportional set size, its shared buffers
with it). `GEOCRM_BENCH_FENCES` (25,000), `GEOCRM_BENCH_RATE` (20,000 positions a second), `GEOCRM_BENCH_SECONDS` (40)
and `GEOCRM_BENCH_BATCH` (1,000) set the size.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psycopg
from sqlalchemy import text

from benchmarks import Row, compare
from benchmarks.positions import (
    BATCH,
    BEGAN,
    CUSTOMERS,
    FENCES,
    OWN_HOME,
    SENDERS,
    draw_batches,
    draw_fences,
    open_fences,
    ours,
)
from geocrm.campaigns import geofences, signing
from geocrm.db import local
from geocrm.db.engine import Database

RATE = float(os.environ.get("GEOCRM_BENCH_RATE", "20000"))
SECONDS = float(os.environ.get("GEOCRM_BENCH_SECONDS", "40"))
DELAY_S = float(os.environ.get("GEOCRM_BENCH_DELAY_MS", "20")) / 1000
LATEST_S = 2.0
CHECKED = 1_000
PATIENCE_S = 120.0


class _Receiver(asyncio.Protocol):
    """Takes messages of one connection, whole or in pieces."""

    got: list[tuple[float, bytes]] = []
    first: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._rest = transport, b""

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self._rest) < end + 4 + length:
                return
            if len(self.first) < CHECKED:
                self.first.append(self._rest[: end + 4 + length])
            self.got.append((now, head.partition(b"webhook-id:")[2].partition(b"\r\n")[0].strip()))
            self._rest = self._rest[end + 4 + length :]
            asyncio.get_running_loop().call_later(DELAY_S, self._transport.write, b"HTTP/1.1 204 No Content\r\n\r\n")


def _receive(pipe: Connection) -> None:
    """The receiver's process: tells its port; asked for a number of messages, how many it has; at the end, all."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Receiver, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        while await loop.run_in_executor(None, pipe.recv) == "how many":
            pipe.send(len(_Receiver.got))
        pipe.send((_Receiver.got, _Receiver.first))

    asyncio.run(serve())


def _peak_mb(pid: int) -> float:
    """The most memory that a process had resident, megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _proportional_mb(pids: Iterable[int]) -> float:
    """Memory of processes, what they share counted once, megabytes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
    return total / 1024


def _family(parent: int) -> list[int]:
    """A process and its children."""
    pids = [parent]
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == parent:
                pids.append(int(entry.parent.name))
    return pids


def _processor_s(pids: Iterable[int]) -> float:
    """Seconds of processor that processes used."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _worker(database: Database) -> Iterator[int]:
    """A worker as `geocrm up` starts it, that may deliver to this machine."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GEOCRM_")}
    addresses = {
        "GEOCRM_DATABASE_URL": database.conninfo("admin"),
        "GEOCRM_API_DATABASE_URL": database.conninfo("api"),
        "GEOCRM_WORKER_DATABASE_URL": database.conninfo("worker"),
        "GEOCRM_HOME": str(OWN_HOME),
        "GEOCRM_WEBHOOK_ALLOW_PRIVATE": "true",
    }
    said = OWN_HOME / "worker.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "geocrm.jobs"],
            env=clean | addresses,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        while b"worker_started" not in said.read_bytes():
            if process.poll() is not None:
                raise RuntimeError(f"The worker ended: {said.read_text()[-500:]}")
            time.sleep(0.05)
        used, before = 0.0, -1.0
        while used - before > 0.05:  # what it does first (seals of the audit log, due segmentations) is not measured
            before = _processor_s([process.pid])
            time.sleep(3)
            used = _processor_s([process.pid])
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _stream(database: Database, holder: geofences.Holder, batches: list[bytes]) -> tuple[float, int, float]:
    """Batches, each at its time or as soon after as it can be: positions a second, events, seconds late at the end."""
    began = time.perf_counter()
    turn, lock = iter(range(len(batches))), threading.Lock()

    def send() -> int:
        events = 0
        while True:
            with lock:
                number = next(turn, None)
            if number is None:
                return events
            time.sleep(max(0.0, began + number * BATCH / RATE - time.perf_counter()))
            events += len(ours(database, holder, batches[number]).events)

    with ThreadPoolExecutor(SENDERS) as pool:
        events = sum(one.result() for one in [pool.submit(send) for _ in range(SENDERS)])
    took = time.perf_counter() - began
    return len(batches) * BATCH / took, events, took - len(batches) * BATCH / RATE


def _all_right(database: Database, got: list[tuple[float, bytes]], first: list[bytes], secret: bytes) -> bool:
    """Whether every event came, each customer's in order, and the first messages are signed."""
    with database.writing() as session:
        rows = session.execute(text("SELECT id, customer_id FROM events ORDER BY customer_id, id")).all()
    seen: dict[int, int] = {}
    for place, (_, name) in enumerate(got):
        seen.setdefault(int(name.removeprefix(b"evt_")), place)
    places = [(row.customer_id, seen.get(row.id, -1)) for row in rows]
    in_order = all(a[0] != b[0] or a[1] < b[1] for a, b in itertools.pairwise(places))
    for message in first:
        head, _, body = message.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
        headers = {name.lower(): value for name, value in lines}
        signing.verify(secret, headers, body, now=float(headers["webhook-timestamp"]))
    return in_order and len(seen) == len(rows) and all(place >= 0 for _, place in places) and bool(first)


def measure() -> Iterable[Row]:
    """Seconds from an event's transaction to its receiver, of the slowest twentieth and of the last."""
    random = np.random.default_rng(7)
    drawn = draw_fences(random)
    database = open_fences(drawn)
    holder = geofences.Holder()
    pipe, theirs = multiprocessing.get_context("spawn").Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=_receive, args=(theirs,), daemon=True)
    receiver.start()
    url = f"http://127.0.0.1:{pipe.recv()}/hook"
    with database.writing() as session:
        session.execute(text("UPDATE webhooks SET url = :url"), {"url": url})
        secret = bytes(session.scalar(text("SELECT secret FROM webhooks")) or b"")
    begin = BEGAN.timestamp()
    _stream(database, holder, draw_batches(random, drawn, 10 * BATCH, begin - 86_400))  # fences are read, plans made
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as admin:
        admin.execute("TRUNCATE positions, position_subjects, geofence_states, events, webhook_deliveries CASCADE")
        server = admin.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'").fetchone()
    assert server is not None
    postmaster = int(Path(f"/proc/{server[0]}/stat").read_text().rpartition(")")[2].split()[1])
    batches = draw_batches(random, drawn, int(RATE * SECONDS), begin)
    with _worker(database) as worker:
        used = {"sender": _processor_s([os.getpid()]), "worker": _processor_s([worker])}
        rate, events, late = _stream(database, holder, batches)
        used = {
            "sender": _processor_s([os.getpid()]) - used["sender"],
            "worker": _processor_s([worker]) - used["worker"],
        }
        ended, came = time.monotonic(), 0
        while came < events and time.monotonic() - ended < PATIENCE_S:
            time.sleep(0.1)
            pipe.send("how many")
            came = pipe.recv()
        peak = _peak_mb(worker)
        postgres = _proportional_mb(_family(postmaster))
    pipe.send("all")
    got, first = pipe.recv()
    with database.writing() as session:
        made: dict[int, float] = dict(
            session.execute(text("SELECT id, CAST(extract(epoch FROM created_at) AS float8) FROM events"))
            .tuples()
            .all()
        )
    delays = np.sort([now - made[int(name[4:])] for now, name in got if int(name[4:]) in made])
    equal = _all_right(database, got, first, secret)
    median, p95, last = (float(np.quantile(delays, share)) for share in (0.5, 0.95, 1.0))
    told = events * rate / len(batches) / BATCH
    print(
        f"   {rate:,.0f} positions a second ({late:+.1f} s at the end), {events:,} events, {told:,.0f} a second\n"
        f"   to the receiver: median {median:.2f} s, 95 % {p95:.2f} s, last {last:.2f} s\n"
        f"   processor: sender {used['sender']:.1f} s, worker {used['worker']:.1f} s\n"
        f"   memory: sender {_peak_mb(os.getpid()):,.0f} MB, worker {peak:,.0f} MB, PostgreSQL {postgres:,.0f} MB",
        flush=True,
    )
    if database.settings.database_url is None:
        local.stop(OWN_HOME)
    scale = f"{FENCES:,} fences, {CUSTOMERS:,} customers, {RATE:,.0f} positions a second for {SECONDS:g} s"
    yield compare(
        "events, aim", "within 2 s at that load", "seconds to the receiver, the slowest", last, LATEST_S, target=1.0,
        scale=scale, equal=equal, less_is_better=True,
    )  # fmt: skip
    yield compare(
        "events, load", "20,000 positions a second", "positions a second meanwhile", rate, RATE, target=0.98,
        scale=scale, equal=equal,
    )  # fmt: skip
