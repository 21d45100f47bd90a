"""RFM and features of customers with ten sales each, from the database to a frame: ours beside pandas with lifetimes'
own summary, reading the same tables; statistics after 1 % new sales beside a full run; DuckDB on a table of its own.

Sales are generated as a stream, in the order of time, as they come in; the last hundredth is the new one. Answers are
compared column by column before anything is timed. `GEOCRM_BENCH_CUSTOMERS` sets the size (1,000,000).
"""

import os
import statistics as stats
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa

from benchmarks import Row, compare
from benchmarks.nearby import CUSTOMERS, HOME
from benchmarks.peers import pandas_features
from geocrm.db import local
from geocrm.db.copying import copy_table
from geocrm.db.engine import Database, open_database
from geocrm.db.migrate import prepare_and_upgrade
from geocrm.segmentation import features, rfm, statistics
from geocrm.settings import Settings

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 1_095
SALES = 10 * CUSTOMERS
NEW = SALES // 100
CHUNK = 1_000_000
TURNS = 3
OWN_HOME = HOME.with_name(f"{HOME.name}-features")
CHANNELS = np.array(["shop", "web", "phone", "trade"])
NAMES = [
    *("repeat_frequency", "recency_weeks", "t_weeks", "mean_repeat_value", "recency_days", "tenure_days"),
    *("gap_mean_days", "gap_variation", "frequency", "monetary_value", "orders_90", "orders_365", "sales_90"),
    *("sales_365", "sales_year_before", "growth", "basket_value", "returned_share", "discount_share", "margin"),
    "channel_share.*",
]


def sales(batch: int, count: int, first: int, total: int, customers: int = CUSTOMERS) -> Iterator[pa.Table]:
    """Sales number `first` to `first + count` of `total`, in chunks, in the order of time."""
    weights = np.random.default_rng(8).gamma(0.8, size=customers) + 0.05  # some order often, most rarely
    running = np.cumsum(weights) / weights.sum()
    begin = np.datetime64(CUTOFF.replace(tzinfo=None), "us") - np.timedelta64(DAYS, "D")
    for start in range(first, first + count, CHUNK):
        n = min(CHUNK, first + count - start)
        rng = np.random.default_rng([9, start])
        who = np.minimum(np.searchsorted(running, rng.random(n)), customers - 1) + 1
        at = begin + ((start + np.arange(n) + rng.random(n)) / total * DAYS * 86_400e6).astype("timedelta64[us]")
        returned = rng.random(n) < 0.05
        amount = np.round(np.exp(rng.normal(3.7, 0.8, n)), 2) * np.where(returned, -1, 1)
        yield pa.table(
            {
                "customer_id": who,
                "occurred_at": pa.array(at, pa.timestamp("us", tz="UTC")),
                "channel": CHANNELS[rng.choice(4, n, p=[0.45, 0.3, 0.1, 0.15])],
                "currency": np.full(n, "USD"),
                "amount": amount,
                "cost": pa.array(np.round(amount * 0.6, 2), mask=rng.random(n) < 0.1),
                "discount": np.where(rng.random(n) < 0.2, 5.0, 0.0),
                "returned": returned,
                "batch_id": np.full(n, batch),
            }
        )


def open_sales() -> Database:
    """A database with the customers and all sales but the new ones."""
    database = open_database(Settings(home=OWN_HOME))
    prepare_and_upgrade(database)
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as admin:
        (there,) = admin.execute("SELECT count(*) FROM customers").fetchone() or (0,)
        if there not in (0, CUSTOMERS):
            raise RuntimeError(
                f"{OWN_HOME} holds {there:,} customers, not {CUSTOMERS:,}: use another GEOCRM_BENCH_HOME"
            )
        if there == 0:
            print(f"   loading {CUSTOMERS:,} customers and {SALES:,} sales", flush=True)
            with admin.transaction():
                admin.execute("SET LOCAL session_replication_role = replica")  # no check of each sale's customer
                admin.execute(
                    "INSERT INTO customers (kind, name, stage) SELECT 'person', 'Customer ' || n, 'active'"
                    " FROM generate_series(1, %s) AS n",
                    (CUSTOMERS,),
                )
                for chunk in sales(1, SALES - NEW, 0, SALES):
                    copy_table(admin, "sales", chunk)
        admin.execute("DELETE FROM sales WHERE batch_id = 2")
        admin.execute("TRUNCATE sale_changes")
        admin.execute("VACUUM ANALYZE sales")
    return database


def add_new(database: Database) -> None:
    """The new sales, as an import writes them."""
    with psycopg.connect(database.conninfo("admin")) as admin:
        admin.execute("SET session_replication_role = replica")
        for chunk in sales(2, NEW, SALES - NEW, SALES):
            copy_table(admin, "sales", chunk)
    with database.writing() as session:
        statistics.tell_import(session, 2)


def read_all(database: Database) -> pd.DataFrame:
    """Features and RFM of all customers who bought."""
    with database.writing() as session:
        cuts = features.rfm_cuts(session, CUTOFF)
        frames = []
        for chunk in features.read_features(session, CUTOFF, NAMES):
            bought = chunk[chunk["frequency"] > 0]
            frames.append(bought.join(rfm.score(bought, cuts)))
        return pd.concat(frames)


def all_anew(database: Database) -> None:
    """A full run of the statistics."""
    with database.writing() as session:
        statistics.refresh(session, CUTOFF, full=True)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes, and what it answers."""
    began = time.perf_counter()
    answer = work()
    return time.perf_counter() - began, answer


def cpu_seconds() -> float:
    """CPU time so far of this process and of the server, with its processes that ended."""
    server = local.ensure_running(OWN_HOME).pid()
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    ticks = 0
    for pid, last in ((str(server), 15), *((child, 13) for child in children)):
        with suppress(OSError):  # one that just ends
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:last]))
    return ticks / os.sysconf("SC_CLK_TCK") + sum(os.times()[:2])


def same(ours: pd.DataFrame, theirs: pd.DataFrame, columns: Iterable[str]) -> bool:
    """Whether the columns are equal, to the rounding of floating point."""
    theirs = theirs[theirs["frequency"] > 0].reindex(ours.index)
    unequal = [
        name
        for name in columns
        if not np.allclose(
            ours[name].to_numpy(np.float64), theirs[name].to_numpy(np.float64), rtol=1e-9, atol=1e-7, equal_nan=True
        )
    ]
    for name in unequal:
        print(f"   {name} differs", flush=True)
    return not unequal


def duck(folder: Path) -> tuple[float, pd.DataFrame]:
    """DuckDB's time, and its features; its table is made before."""
    with duckdb.connect(str(folder / "sales.duckdb")) as connection:
        connection.execute("DROP TABLE IF EXISTS sales")
        connection.execute("SET TimeZone = 'UTC'")
        for batch, count, first in ((1, SALES - NEW, 0), (2, NEW, SALES - NEW)):
            for number, chunk in enumerate(sales(batch, count, first, SALES)):
                connection.register("chunk", chunk)
                how = "INSERT INTO sales" if batch == 2 or number else "CREATE TABLE sales AS"
                connection.execute(f"{how} SELECT * REPLACE (CAST(occurred_at AS timestamp) AS occurred_at) FROM chunk")
                connection.unregister("chunk")
        query = (Path(__file__).parent / "peers" / "features.sql").read_text(encoding="utf-8")
        naive = CUTOFF.replace(tzinfo=None)
        values: dict[str, Any] = {f"from_{days}": naive - timedelta(days=days) for days in (90, 365, 730)}
        values |= {"cutoff": naive, "end_day": (naive - timedelta(days=1)).date()}
        runs = [seconds(lambda: connection.execute(query, values).df()) for _ in range(TURNS)]
    return stats.median(took for took, _ in runs), runs[0][1].set_index("customer_id")


def measure() -> Iterable[Row]:
    """Full run beside pandas, refresh beside the full run, DuckDB."""
    database = open_sales()
    with database.writing() as session:
        statistics.refresh(session, CUTOFF, full=True)
    add_new(database)
    refreshes = []
    for turn in range(TURNS):
        with database.writing() as session:
            trial = session.begin_nested()
            took, done = seconds(lambda: statistics.refresh(session, CUTOFF))
            assert not done.full, done.why
            refreshes.append(took)
            if turn + 1 < TURNS:
                trial.rollback()
    followed = read_all(database)
    worker = database.conninfo("worker").replace("postgresql://", "postgresql+psycopg://")
    full, reading, theirs = [], [], []
    cpu: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(TURNS):
        before = cpu_seconds()
        full.append(seconds(lambda: all_anew(database))[0])
        took, ours = seconds(lambda: read_all(database))
        reading.append(took)
        cpu["ours"].append(cpu_seconds() - before)
        if turn < 2:
            before = cpu_seconds()
            took, peer = seconds(lambda: pandas_features.features(worker, CUTOFF))
            theirs.append(took)
            cpu["theirs"].append(cpu_seconds() - before)
        if turn == 0:
            shares = [name for name in ours.columns if name.startswith("channel_share.")]
            columns = [*NAMES[:-1], *shares]
            equal = same(ours, peer, [*columns, "r", "f", "m"])
            pd.testing.assert_frame_equal(ours, followed, check_exact=True)
            del followed
        del ours
    print("   full " + ", ".join(f"{s:.2f}" for s in full) + "; read " + ", ".join(f"{s:.2f}" for s in reading)
          + "; refresh " + ", ".join(f"{s:.2f}" for s in refreshes), flush=True)  # fmt: skip
    ducks, answer = duck(OWN_HOME)
    equal_duck = same(peer[peer["frequency"] > 0], answer, set(columns) & set(answer.columns))
    if database.settings.database_url is None:
        local.stop(OWN_HOME)
    scale = f"{CUSTOMERS:,} customers, {SALES:,} sales"
    fulls, reads, again = stats.median(full), stats.median(reading), stats.median(refreshes)
    for row, peer_name, ours_s, theirs_s, target, agrees in (
        ("features", "pandas + lifetimes' summary", fulls + reads, stats.median(theirs), 5.0, equal),
        ("features refresh", "our own full run of the statistics", again, fulls, 20.0, True),
        ("features refresh and read", "our own full run, read", again + reads, fulls + reads, None, True),
        ("features duckdb", "DuckDB, a table of its own, RFM by ntile", fulls + reads, ducks, None, equal_duck),
    ):
        yield compare(
            row, peer_name, "seconds", ours_s, theirs_s, target=target, scale=scale, equal=agrees, less_is_better=True
        )
    yield compare(
        "features cpu", "pandas + lifetimes' summary", "CPU seconds, client and server", stats.median(cpu["ours"]),
        stats.median(cpu["theirs"]), target=None, scale=scale, equal=equal, less_is_better=True,
    )  # fmt: skip
