"""RFM segments of all customers, as `geocrm segments run` makes them, from the database into it: statistics of sales,
features, scores and members written. Time and memory of one size beside those of a tenth of it.

Each run is a process of its own; its memory is the most that it and the server's processes held at once, shared
buffers aside. `GEOCRM_BENCH_CUSTOMERS` sets the size (1,000,000), `GEOCRM_BENCH_SALES_EACH` the sales of each customer
(10). 20,000,000 customers with 3 sales each take some 25 GB of disk and half an hour, most of it loading; of the
indexes only primary keys are made, which is all that a run reads by.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import psycopg

from benchmarks import Row, compare
from benchmarks.features import CUTOFF, sales
from benchmarks.import_customers import _most_memory_mb
from benchmarks.nearby import CUSTOMERS, HOME
from geocrm.access import SYSTEM
from geocrm.db import local
from geocrm.db.copying import copy_table
from geocrm.db.engine import open_database
from geocrm.db.migrate import prepare_and_upgrade
from geocrm.segmentation import runs, segmentations
from geocrm.settings import CHECKOUT, Settings

EACH = int(os.environ.get("GEOCRM_BENCH_SALES_EACH", "10"))
TENTH = 10
BOUND_MB = 4_000.0


def home_of(customers: int) -> Path:
    """Where a size lives."""
    return HOME.with_name(f"{HOME.name}-segments-{customers}")


def load(customers: int) -> None:
    """A database of this size, where there is none."""
    database = open_database(Settings(home=home_of(customers)))
    prepare_and_upgrade(database)
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as admin:
        (there,) = admin.execute("SELECT count(*) FROM customers").fetchone() or (0,)
        if there == customers:
            return
        if there:
            raise RuntimeError(f"{home_of(customers)} holds {there:,} customers: remove it")
        print(f"   loading {customers:,} customers with {EACH} sales each", flush=True)
        with admin.transaction():
            admin.execute("SET LOCAL session_replication_role = replica")  # no check of each sale's customer
            for name, statement in _indexes(admin):
                admin.execute(statement.encode())
                print(f"   without {name}", flush=True)
            admin.execute("ALTER TABLE sales DROP CONSTRAINT pk_sales CASCADE")
            admin.execute(
                "INSERT INTO customers (kind, name, stage) SELECT 'person', 'Customer ' || n, 'active'"
                " FROM generate_series(1, %s) AS n",
                (customers,),
            )
            total = customers * EACH
            for chunk in sales(1, total, 0, total, customers):
                copy_table(admin, "sales", chunk)
            admin.execute("SET LOCAL maintenance_work_mem = '1GB'")
            admin.execute("ALTER TABLE sales ADD CONSTRAINT pk_sales PRIMARY KEY (customer_id, id)")
        admin.execute("VACUUM ANALYZE customers")
        admin.execute("VACUUM ANALYZE sales")


def _indexes(admin: psycopg.Connection) -> list[tuple[str, str]]:
    """The indexes of customers and sales that are no keys, each with the statement that drops it."""
    found = admin.execute(
        "SELECT indexname, format('DROP INDEX %I', indexname) FROM pg_indexes i WHERE schemaname = 'public'"
        " AND tablename IN ('customers', 'sales')"
        " AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname)"
    )
    return [(str(name), str(statement)) for name, statement in found]


def run_here(customers: int) -> dict[str, float]:
    """One run in this process."""
    database = open_database(Settings(home=home_of(customers)))
    key = f"rfm{time.time_ns()}"
    with database.writing() as session:
        held = segmentations.create_segmentation(session, actor=SYSTEM, key=key, name=key, method="rfm")
        run = runs.start(session, held.id, actor=SYSTEM, cutoff=CUTOFF, queued=False).id
    began = time.perf_counter()
    done = runs.execute(database, run)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "customers": done["customers"], "rss_mb": _most_memory_mb()}


def run(customers: int) -> dict[str, float]:
    """One run, and the most memory that it and the server took at once."""
    cluster = local.ensure_running(home_of(customers))
    words = [sys.executable, "-m", "benchmarks.segments", str(customers)]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)
    most = 0.0
    stop = threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.2):
            most = max(most, sum(_own_mb(pid) for pid in (started.pid, *_children(cluster.pid()))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    said, _ = started.communicate()
    stop.set()
    watcher.join()
    if started.returncode:
        raise RuntimeError("the run failed")
    result: dict[str, float] = json.loads(said.splitlines()[-1])
    return result | {"most_mb": most}


def _children(pid: int | None) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _own_mb(pid: int) -> float:
    """Memory of a process that it shares with none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure() -> Iterable[Row]:
    """Time and memory."""
    made = {}
    for customers in (CUSTOMERS // TENTH, CUSTOMERS):
        load(customers)
        made[customers] = run(customers)
        print(f"   {customers:,}: {made[customers]}", flush=True)
        local.stop(home_of(customers))
    small, large = made[CUSTOMERS // TENTH], made[CUSTOMERS]
    scale = f"{CUSTOMERS:,} customers, {EACH} sales each"
    equal = 0.9 < large["customers"] / (TENTH * small["customers"]) < 1.1
    yield compare(
        "segments, rfm, all of it", f"{TENTH} × the time of a tenth of the customers", "seconds", large["seconds"],
        TENTH * small["seconds"], target=0.8, scale=scale, equal=equal, less_is_better=True,
    )  # fmt: skip
    yield compare(
        "segments, rfm, memory", "bound of 4 GB", "MB at most, client and server, shared buffers aside",
        large["most_mb"], BOUND_MB, target=1.0, scale=scale, equal=equal, less_is_better=True,
    )  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(run_here(int(sys.argv[1]))))
