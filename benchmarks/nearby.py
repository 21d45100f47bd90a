"""Nearby over HTTP, k = 20: ours with a rep's row security on, beside the textbook route without any.

Both run under uvicorn with one process and five connections to the same database; answers are compared first, then
timed in turns A B B A, five runs each, medians. `GEOCRM_BENCH_CUSTOMERS` sets the size (1,000,000).
"""

import json
import os
import random
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks import Row, compare
from benchmarks.load import Load, cpu_seconds, run
from geocrm import access
from geocrm.db import local
from geocrm.db.engine import Database, open_database
from geocrm.db.migrate import prepare_and_upgrade
from geocrm.demo.scale import load_scale
from geocrm.settings import CHECKOUT, Settings

CUSTOMERS = int(os.environ.get("GEOCRM_BENCH_CUSTOMERS", "1000000"))
SECONDS = float(os.environ.get("GEOCRM_BENCH_SECONDS", "5"))
CONNECTIONS = 16
K = 20
TURNS = "ABBAABBAAB"
HOME = Path(os.environ.get("GEOCRM_BENCH_HOME", CHECKOUT / ".geocrm-bench"))
OURS, TEXTBOOK = 8471, 8472


def open_company() -> Database:
    """The database of the benchmark: the demo company's kind at scale, loaded once into a private PostgreSQL."""
    database = open_database(Settings(home=HOME))
    prepare_and_upgrade(database)
    with psycopg.connect(database.conninfo("admin")) as connection:
        (found,) = connection.execute("SELECT count(*) FROM customers").fetchone() or (0,)
    if found == 0:
        print(f"   loading {CUSTOMERS:,} customers", flush=True)
        load_scale(database, customers=CUSTOMERS)
    elif found != CUSTOMERS:
        raise RuntimeError(f"{HOME} holds {found:,} customers, not {CUSTOMERS:,}: use another GEOCRM_BENCH_HOME")
    return database


def rep_and_key(database: Database) -> tuple[int, list[int], str, int]:
    """A rep in the middle of the list, the rep's territories, an API key for them, and how many sites they see."""
    token, digest = access.new_token("gk_")
    with database.writing() as session, psycopg.connect(database.conninfo("admin")) as connection:
        reps = [r[0] for r in connection.execute("SELECT id FROM users WHERE role = 'rep' ORDER BY id").fetchall()]
        actor = access.load_actor(session, reps[len(reps) // 2])
        connection.execute(
            "INSERT INTO api_keys (user_id, name, prefix, digest, scopes) VALUES (%s, 'benchmark', %s, %s, %s)",
            (actor.user_id, token[:10], digest, ["customers:read", "locations:exact"]),
        )
        (seen,) = connection.execute(
            "SELECT count(*) FROM site_lookup WHERE owner_id = %s OR territory_id = ANY (%s)",
            (actor.user_id, list(actor.territories)),
        ).fetchone() or (0,)
    assert actor.user_id is not None
    return actor.user_id, list(actor.territories), token, seen


def points(database: Database, rep: int, count: int) -> list[tuple[float, float]]:
    """Where the rep asks from: within some 300 m of one of their own customers."""
    rng = random.Random(5)
    with psycopg.connect(database.conninfo("admin")) as connection:
        found = connection.execute(
            "SELECT ST_X(location), ST_Y(location) FROM site_lookup WHERE owner_id = %s ORDER BY site_id", (rep,)
        ).fetchall()
    return [
        (round(lon + rng.gauss(0, 0.003), 6), round(lat + rng.gauss(0, 0.003), 6))
        for lon, lat in (rng.choice(found) for _ in range(count))
    ]


@contextmanager
def serving(words: list[str], port: int, ready: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A uvicorn with one process, until it answers and as long as the block lasts."""
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        *words,
        "--port",
        str(port),
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    server = subprocess.Popen(command, env=os.environ | more, cwd=CHECKOUT, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            if server.poll() is not None:
                raise RuntimeError(f"{words[0]} ended with {server.returncode}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5).read()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
        yield server
    finally:
        server.terminate()
        server.wait(20)


def fetch(port: int, path: str, token: str | None = None) -> list[dict[str, object]]:
    """The rows of one answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        rows: list[dict[str, object]] = json.load(answer)["data"]
        return rows


def same(ours: list[dict[str, object]], theirs: list[dict[str, object]]) -> bool:
    """Whether two answers name the same sites at the same distances, in the same order."""
    keys = ("id", "site_id", "name", "stage", "distance_m", "location")
    return [[row[key] for key in keys] for row in ours] == [[row[key] for key in keys] for row in theirs]


def measure() -> Iterable[Row]:
    """Requests per second and CPU time, ours against the textbook."""
    database = open_company()
    rep, territories, token, seen = rep_and_key(database)
    asked = points(database, rep, 2000)
    with psycopg.connect(database.conninfo("admin")) as connection:
        (backend,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        postmaster = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
    reader = database.conninfo("admin").replace("postgresql://", "postgresql+asyncpg://")
    settings = {"GEOCRM_HOME": str(HOME), "GEOCRM_RATE_LIMIT_PER_MINUTE": "1000000000", "GEOCRM_READ_POOL_SIZE": "5"}
    textbook = {
        "TEXTBOOK_URL": reader, "TEXTBOOK_REP": str(rep), "TEXTBOOK_TERRITORIES": ",".join(map(str, territories)),
    }  # fmt: skip
    path = {
        "A": [f"/v1/customers/nearby?lon={lon}&lat={lat}&limit={K}" for lon, lat in asked],
        "B": [f"/customers/nearby?lon={lon}&lat={lat}&limit={K}" for lon, lat in asked],
    }
    with (
        serving(["geocrm.api.app:app"], OURS, "/health", **settings) as a,
        serving(["benchmarks.peers.textbook:app"], TEXTBOOK, "/openapi.json", **textbook) as b,
    ):
        pairs = [
            (fetch(OURS, p, token), fetch(TEXTBOOK, q)) for p, q in zip(path["A"][:200], path["B"][:200], strict=True)
        ]
        equal = all(len(mine) == K and same(mine, other) for mine, other in pairs)
        print(f"   200 answers compared, equal: {equal}; the rep sees {seen:,} of {CUSTOMERS:,} sites", flush=True)
        headers = {"A": {"Authorization": f"Bearer {token}"}, "B": {}}
        base = {"A": f"http://127.0.0.1:{OURS}", "B": f"http://127.0.0.1:{TEXTBOOK}"}
        pid = {"A": a.pid, "B": b.pid}
        for who in "AB":
            run(base[who], path[who], seconds=2, connections=CONNECTIONS, headers=headers[who])
        runs: dict[str, list[Load]] = {"A": [], "B": []}
        cpu: dict[str, list[float]] = {"A": [], "B": []}
        for who in TURNS:
            before = cpu_seconds([pid[who], postmaster])
            made = run(base[who], path[who], seconds=SECONDS, connections=CONNECTIONS, headers=headers[who])
            cpu[who].append((cpu_seconds([pid[who], postmaster]) - before) / made.requests * 1000)
            runs[who].append(made)
            if made.failed:
                raise RuntimeError(f"{made.failed} of {made.requests} requests failed")
    if database.settings.database_url is None:
        local.stop(HOME)
    rate = {who: statistics.median(r.per_second for r in runs[who]) for who in "AB"}
    p95 = {who: statistics.median(r.p95_ms for r in runs[who]) for who in "AB"}
    spent = {who: statistics.median(cpu[who]) for who in "AB"}
    scale = f"{CUSTOMERS:,} customers, k = {K}, a rep who sees {seen:,}"
    peer = "FastAPI + SQLAlchemy + GeoAlchemy2, no row security"
    for row, metric, figures, target, less in (
        ("nearby", "requests per second", rate, 3.5, False),
        ("nearby cpu", "CPU seconds per 1,000 requests", spent, None, True),
        ("nearby p95", "95th percentile, ms", p95, None, True),
    ):
        yield compare(
            row, peer, metric, figures["A"], figures["B"], target=target, scale=scale, equal=equal, less_is_better=less
        )
