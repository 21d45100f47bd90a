"""Import of customers with coordinates: validated, indexed, assigned to 3,100 territories (the counties of the United
States).

Ours is `geocrm.ingest.load.run` in a process of its own: it reads the CSV file, checks every row, writes customers,
sites, ids, ledger, lookup rows, tile pyramid and lineage, and is done when a lookup would see the customers. Beside it

* `GeoDataFrame.to_postgis` of the same file, a PostGIS point-in-polygon join, and the indexes that ours has on the same
columns;
* bare `\\copy` (psql) of what the importer wrote, into the same tables and indexes of an empty database.

All three run on one private PostgreSQL with durable settings, each in a database of its own. `GEOCRM_BENCH_IMPORT_ROWS`
sets the size (1,000,000).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import psycopg
import shapely
from sqlalchemy import create_engine, make_url, text

from benchmarks import Row, compare
from geocrm.access import SYSTEM
from geocrm.db import local
from geocrm.db.engine import API_LOGIN, WORKER_LOGIN, Database
from geocrm.db.migrate import prepare_and_upgrade
from geocrm.demo.geography import random
from geocrm.demo.scale import draw_land, draw_points
from geocrm.ingest import batches, load
from geocrm.settings import CHECKOUT, Settings
from geocrm.spatial import atlas

ROWS = int(os.environ.get("GEOCRM_BENCH_IMPORT_ROWS", "1000000"))
HOME = Path(os.environ.get("GEOCRM_BENCH_HOME", CHECKOUT / ".geocrm-bench"))
MEMORY_MB = 500
SEED = 7
STAGES = np.array(["prospect", "lead", "active", "lapsed"])
COPIED = (
    "customers",
    "sites",
    "customer_sources",
    "site_sources",
    "assignments",
    "contradictions",
    "import_rows",
    "site_lookup",
    "site_cells",
)


def write_file(path: Path, rows: int) -> None:
    """A CRM export of organisations, scattered as people live, with shuffled ids."""
    land = draw_land(1, 2)
    rng = random(SEED, 1)
    order = rng.permutation(rows)
    zips = land.zips.reset_index(drop=True)
    with path.open("w", encoding="utf-8") as out:
        for start in range(0, rows, 100_000):
            n = min(100_000, rows - start)
            row, lon, lat = draw_points(land, rng, n)
            ids = order[start : start + n]
            frame = pd.DataFrame(
                {
                    "Account ID": [f"A{i:08d}" for i in ids],
                    "Account Name": [f"Company {i * 7919 % 1_000_003:,} & Sons" for i in ids],
                    "Lifecycle Stage": STAGES[rng.integers(0, 4, n)],
                    "Industry": np.array(["Retail", "Trade", "Health", "Education"])[rng.integers(0, 4, n)],
                    "Billing Street": [f"{number} Main Street" for number in rng.integers(1, 9999, n)],
                    "Billing Zip": zips["zip"].to_numpy()[row] if "zip" in zips else [f"{z:05d}" for z in row],
                    "Billing Country": "US",
                    "Latitude": lat,
                    "Longitude": lon,
                }
            )
            frame.to_csv(out, index=False, header=start == 0)


def territories() -> gpd.GeoDataFrame:
    """The counties as territories."""
    found = atlas.us_counties()
    return gpd.GeoDataFrame({"name": found.iloc[:, 0].astype(str)}, geometry=found.geometry.to_numpy(), crs=4326)


@contextmanager
def fresh(cluster: local.Cluster, name: str, home: Path, *, migrated: bool = True) -> Iterator[Database]:
    """An empty database, dropped afterwards."""
    with psycopg.connect(cluster.admin_url("postgres"), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    database = open_named(cluster, name, home)
    if migrated:
        prepare_and_upgrade(database)
    else:
        with psycopg.connect(cluster.admin_url("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
    try:
        yield database
    finally:
        database.dispose()
        with psycopg.connect(cluster.admin_url("postgres"), autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def open_named(cluster: local.Cluster, name: str, home: Path) -> Database:
    """A database of the cluster by name."""
    return Database(
        make_url(cluster.admin_url(name)),
        make_url(cluster.url(API_LOGIN, name)),
        make_url(cluster.url(WORKER_LOGIN, name)),
        settings=Settings(home=home),
    )


def publish(database: Database, areas: gpd.GeoDataFrame) -> None:
    """The territories as the published version of the primary layer."""
    with psycopg.connect(database.conninfo("admin")) as connection:
        connection.execute(
            "INSERT INTO layers (key, name, kind, is_primary, current_version) VALUES ('sales', 'Sales', "
            "'territories', true, 1)"
        )
        connection.execute(
            "INSERT INTO layer_versions (layer_id, version, status, effective_from, published_at) "
            "SELECT id, 1, 'published', '2024-01-01Z', '2024-01-01Z' FROM layers"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "WITH made AS (INSERT INTO areas (layer_id, name) SELECT id, %s FROM layers RETURNING id, layer_id), "
                "outlined AS (INSERT INTO area_versions (area_id, version, name, geometry) "
                "SELECT id, 1, %s, ST_Multi(ST_GeomFromWKB(%s, 4326)) FROM made) "
                "INSERT INTO layer_areas (layer_id, layer_version, area_id, area_version) SELECT layer_id, 1, "
                "id, 1 FROM made",
                [
                    (name, name, shapely.to_wkb(shape))
                    for name, shape in zip(areas["name"], areas.geometry, strict=True)
                ],
            )
    with database.writing() as session:
        from geocrm.spatial import ledger

        ledger.layers_in_force(session)  # cuts the outlines into pieces, as publishing does
        session.execute(text("ANALYZE areas"))
    database.dispose()
    with psycopg.connect(database.conninfo("admin"), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def ours(name: str, home: Path, file: Path) -> dict[str, float]:
    """The import in a process of its own: seconds, and the most memory that it held."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.import_customers", name, str(home), str(file)],
        check=True,
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def import_here(name: str, home: Path, file: Path) -> dict[str, float]:
    """What `ours` measures, in this process."""
    cluster = local.ensure_running(HOME)
    database = open_named(cluster, name, home)
    began = time.perf_counter()
    with database.writing() as session:
        batch = batches.create_batch(
            session, file, "customers", "bench", None, SYSTEM, uploads=database.settings.uploads
        ).id
    summary = load.run(batch, database=database)
    seconds = time.perf_counter() - began
    database.dispose()
    counts = summary["counts"]
    return {
        "seconds": seconds,
        "rss_mb": _most_memory_mb(),
        "new": counts["new"],
        "rejected": counts["rejected"],
        "flagged": counts["flagged"],
    }


def _most_memory_mb() -> float:
    """The most memory that this process held. (`ru_maxrss` would count the parent's, from before exec.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_seconds(cluster: local.Cluster) -> float:
    """CPU time so far of this process, its ended children, and the server with its ended backends."""
    with psycopg.connect(cluster.admin_url("postgres"), autocommit=True) as connection:
        # only backends that have ended are counted, and one whose client has gone takes a moment to end
        until = time.monotonic() + 30
        while time.monotonic() < until and connection.execute(
            "SELECT EXISTS (SELECT FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())"
        ).fetchone() != (False,):
            time.sleep(0.2)
    time.sleep(0.5)
    fields = Path(f"/proc/{cluster.pid()}/stat").read_text().rpartition(")")[2].split()
    server = sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return server + sum(os.times()[:4])


def to_postgis(database: Database, file: Path, areas: gpd.GeoDataFrame) -> float:
    """Seconds of the GeoPandas way: read, to_postgis, join, the same indexes."""
    engine = create_engine(database.admin_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION postgis"))
        connection.execute(text("CREATE EXTENSION pg_trgm"))
        connection.execute(text("CREATE EXTENSION btree_gist"))
    areas.rename_axis("area_id").reset_index().to_postgis("areas", engine, if_exists="replace")
    with engine.begin() as connection:
        connection.execute(text("CREATE INDEX IF NOT EXISTS areas_geometry ON areas USING gist (geometry)"))
        connection.execute(text("ANALYZE areas"))
    began = time.perf_counter()
    frame = pd.read_csv(file, dtype={"Billing Zip": str})
    frame.columns = ["external_id", "name", "stage", "industry", "line1", "postal_code", "country", "lat", "lon"]
    located = gpd.GeoDataFrame(
        frame.drop(columns=["lat", "lon"]), geometry=gpd.points_from_xy(frame["lon"], frame["lat"]), crs=4326
    )
    located.to_postgis("raw", engine, chunksize=100_000, index=True, index_label="id")
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE customers AS SELECT r.*, a.area_id AS territory_id, CAST(NULL AS bigint) AS "
                "owner_id FROM raw r "
                "LEFT JOIN LATERAL (SELECT a.area_id FROM areas a WHERE ST_Intersects(a.geometry, r.geometry) "
                "ORDER BY a.area_id LIMIT 1) AS a ON true"
            )
        )
        for statement in (
            "ALTER TABLE customers ADD PRIMARY KEY (id)",
            "CREATE UNIQUE INDEX ON customers (external_id)",
            "CREATE INDEX ON customers (owner_id)",
            "CREATE INDEX ON customers (territory_id)",
            "CREATE INDEX ON customers USING gin (name gin_trgm_ops)",
            "CREATE INDEX ON customers USING gist (geometry)",
            "CREATE INDEX ON customers USING gist (owner_id, geometry)",
            "CREATE INDEX ON customers USING gist (territory_id, geometry)",
        ):
            connection.execute(text(statement))
    seconds = time.perf_counter() - began
    engine.dispose()
    return seconds


def export(database: Database, folder: Path) -> None:
    """What the importer wrote, one file a table."""
    with psycopg.connect(database.conninfo("admin")) as connection:
        for table in COPIED:
            with (
                (folder / f"{table}.csv").open("wb") as out,
                connection.cursor().copy(f"COPY {table} TO STDOUT (FORMAT csv)") as copy,
            ):
                for block in copy:
                    out.write(block)


def copy_bare(database: Database, folder: Path) -> float:
    """Seconds of psql's \\copy of those files, table after table, indexes in place."""
    with psycopg.connect(database.conninfo("admin")) as connection:
        connection.execute(
            "INSERT INTO import_batches (id, kind, source, file_name, status) OVERRIDING SYSTEM VALUE "
            "VALUES (1, 'customers', 'bench', 'bench.csv', 'done')"
        )
    psql = local.find_programs() / "psql"
    program = psql if psql.exists() else Path("psql")
    command = [str(program), database.conninfo("admin"), "-v", "ON_ERROR_STOP=1", "-q"]
    for table in COPIED:
        command += ["-c", f"\\copy {table} FROM '{folder / f'{table}.csv'}' (FORMAT csv)"]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def fingerprint(database: Database) -> dict[str, Any]:
    """Rows and a checksum of each copied table."""
    with psycopg.connect(database.conninfo("admin")) as connection:
        return {
            table: connection.execute(
                f"SELECT count(*), sum(CAST(hashtext(CAST(t AS text)) AS bigint)) FROM {table} AS t"
            ).fetchone()
            for table in COPIED
        }


def assigned(database: Database, ours_: bool) -> dict[str, str | None]:
    """External id → name of the territory."""
    statement = (
        "SELECT s.external_id, a.name FROM customer_sources s JOIN sites t ON t.customer_id = s.customer_id "
        "LEFT JOIN areas a ON a.id = t.territory_id"
        if ours_
        else "SELECT c.external_id, a.name FROM customers c LEFT JOIN areas a ON a.area_id = c.territory_id"
    )
    with psycopg.connect(database.conninfo("admin")) as connection:
        return dict(connection.execute(statement).fetchall())


def run(scale: int | None = None) -> list[dict[str, Any]]:
    """All rows, at another size where `scale` says so."""
    return [vars(row) | {} for row in measure(scale or ROWS)]


def measure(rows: int = ROWS) -> Iterable[Row]:
    """Rows per second against both peers, and the importer's memory against its bound."""
    cluster = local.ensure_running(HOME)
    areas = territories()
    with (
        tempfile.TemporaryDirectory(prefix="geocrm-bench-") as name,
        fresh(cluster, "bench_import", HOME / "import") as mine,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        file = folder / "export of a crm.csv"
        write_file(file, rows)
        publish(mine, areas)
        spent = cpu_seconds(cluster)
        result = ours("bench_import", HOME / "import", file)
        cpu = {"ours": cpu_seconds(cluster) - spent}
        print(
            f"   ours {result['seconds']:.1f} s, {result['rss_mb']:.0f} MB, {result['flagged']:.0f} flagged", flush=True
        )
        if result["new"] != rows or result["rejected"]:
            raise RuntimeError(
                f"{result['new']:.0f} of {rows:,} customers were imported, {result['rejected']:.0f} rejected"
            )
        print_, mine_assigned = fingerprint(mine), assigned(mine, True)
        export(mine, folder)
        with fresh(cluster, "bench_copy", HOME / "import") as bare:
            spent = cpu_seconds(cluster)
            bare_seconds = copy_bare(bare, folder)
            cpu["copy"] = cpu_seconds(cluster) - spent
            same_rows = fingerprint(bare) == print_
        print(f"   \\copy {bare_seconds:.1f} s, equal: {same_rows}", flush=True)
        with fresh(cluster, "bench_postgis", HOME / "import", migrated=False) as peer:
            spent = cpu_seconds(cluster)
            peer_seconds = to_postgis(peer, file, areas)
            cpu["peer"] = cpu_seconds(cluster) - spent
            same_territories = assigned(peer, False) == mine_assigned
        print(f"   to_postgis {peer_seconds:.1f} s, equal: {same_territories}", flush=True)
    scale = f"{rows:,} customers, {len(areas):,} territories"
    yield compare(
        "import",
        "GeoDataFrame.to_postgis + indexes + PostGIS join",
        "rows per second",
        rows / result["seconds"],
        rows / peer_seconds,
        target=1.5,
        scale=scale,
        equal=same_territories,
    )
    yield compare(
        "import against \\copy",
        "psql \\copy of the clean output",
        "rows per second",
        rows / result["seconds"],
        rows / bare_seconds,
        target=0.5,
        scale=scale,
        equal=same_rows,
    )
    for row, peer_name, who in (
        ("import cpu", "GeoDataFrame.to_postgis + indexes + PostGIS join", "peer"),
        ("import cpu against \\copy", "psql \\copy of the clean output", "copy"),
    ):
        yield compare(
            row,
            peer_name,
            "CPU seconds, client and server",
            cpu["ours"],
            cpu[who],
            target=None,
            scale=scale,
            equal=True,
            less_is_better=True,
        )
    yield compare(
        "import memory",
        f"bound of {MEMORY_MB} MB",
        "MB at most",
        result["rss_mb"],
        float(MEMORY_MB),
        target=1.0,
        scale=scale,
        equal=True,
        less_is_better=True,
    )


if __name__ == "__main__":
    print(json.dumps(import_here(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
