"""API, worker or PostgreSQL is killed at a random moment of an import: in the end the tables are as if it had not been.

A moment is a number of bytes written ahead (WAL), drawn between nothing and what an undisturbed import writes. The
client does what a careful program does: where no answer came, it asks again.
"""

import csv
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from geocrm import access
from geocrm.access import SYSTEM
from geocrm.db import local
from geocrm.db.engine import Database, open_database
from geocrm.db.models import ApiKey
from geocrm.ingest.load import FIRST_LOAD_BYTES
from geocrm.settings import Settings
from geocrm.spatial import areas, layers, publishing
from tests.faults.running import Running, fresh_home
from tests.makers import make_user, square

pytestmark = [pytest.mark.faults]

ROWS = 3_000
IMPORT_S = 180
VICTIMS = ("worker", "database", "api")
BY_IMPORT = (
    *("customers", "sites", "site_lookup", "lookup_changes", "lookup_counts", "site_cells", "site_cell_deltas"),
    *("contacts", "consents", "customer_sources", "site_sources", "assignments", "contradictions"),
    *("import_rows", "import_batches"),
)
OF_THE_RUN = (  # what differs between two runs of the same import: keys handed out and the time of day
    *(
        "id",
        "customer_id",
        "site_id",
        "batch_id",
        "object_id",
        "created_at",
        "updated_at",
        "recorded_at",
        "valid_from",
        "since",
    ),
)


KILLED_TOO = {"first load": "database", "general way": "api"}
SHARES = {"first load": 1.0, "general way": 0.8}  # rows that are customers of their own, by how they are imported


def write_customers(path: Path, seed: int, share: float) -> None:
    """People and organisations in and around ten squares; some with several sites where less than all rows are
    customers of their own, some rows with faults."""
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            [
                "Customer ID",
                "Name",
                "Type",
                "Stage",
                "E-mail",
                "Street",
                "City",
                "State",
                "ZIP",
                "Country",
                "Lon",
                "Lat",
            ]
        )
        number = 0
        for _ in range(ROWS):
            number += draw.random() < share  # else one more site of the same customer
            lon, lat = -100 + 10 * draw.random(), 38 + 4 * draw.random()
            if draw.random() < 0.01:
                lat = 95.0
            if draw.random() < 0.01:
                lon = lat = 0.0
            stage = ("prospect", "lead", "active", "lapsed")[number % 4]
            kind = "organisation" if number % 7 == 0 else "person"
            name, mail = f"Customer {number}", f"k{number}@example.com"
            address = (f"{draw.randint(1, 9999)} Main Street", "Salina", "KS", "67401", "US")
            rows.writerow([f"K{number}", name, kind, stage, mail, *address, f"{lon:.6f}", f"{lat:.6f}"])


def make_territories(database: Database) -> str:
    """Ten territories, and an API key of an administrator: its token."""
    token, digest = access.new_token("gk_")
    with database.writing() as session:
        admin = make_user(session, "administrator")
        session.add(
            ApiKey(
                user_id=admin.id,
                name="kills",
                prefix=token[:8],
                digest=digest,
                scopes=["imports", "contacts", "exact", "customers:write", "locations:exact"],
            )
        )
        layer = layers.create_layer(
            session, key="sales", name="Sales", kind="territories", actor=SYSTEM, is_primary=True
        )
        draft = layers.create_draft(session, layer.id, actor=SYSTEM, source="empty")
        for x, y in itertools.product(range(5), range(2)):
            areas.put_area(
                session,
                layer.id,
                draft.version,
                actor=SYSTEM,
                name=f"Square {x} {y}",
                geometry=square(-99 + 2 * x, 39 + 2 * y, 0.9),
                owner_id=admin.id,
            )
        publishing.publish(session, layer.id, draft.version, actor=SYSTEM, reason="first plan")
    return token


@dataclass
class Company:
    """A running geocrm with territories, a file to import, and what an undisturbed import of it gives."""

    way: str
    running: Running
    token: str
    file: Path
    tables: dict[str, str]
    written: int

    def admin(self) -> psycopg.Connection[Any]:
        cluster = local.find(self.running.home)
        assert cluster is not None
        return psycopg.connect(cluster.admin_url("geocrm"), autocommit=True)

    def patiently(self, ask: Callable[[httpx2.Client], httpx2.Response]) -> httpx2.Response:
        """Ask until there is an answer that is not a failure of the server."""
        deadline = time.monotonic() + IMPORT_S
        while True:
            try:
                with httpx2.Client(
                    base_url=f"http://127.0.0.1:{self.running.port}",
                    headers={"Authorization": f"Bearer {self.token}"},
                    timeout=60,
                ) as client:
                    answer = ask(client)
                if answer.status_code < 500:
                    return answer
            except httpx2.HTTPError:
                pass
            assert time.monotonic() < deadline, f"no answer:\n{self.running.said}\n{self.running.log('api')}"
            time.sleep(0.1)

    def start_import(self) -> str:
        """Upload the file and have it run; the import's id."""
        uploaded = self.patiently(
            lambda client: client.post(
                "/v1/imports",
                files={"file": ("customers.csv", self.file.read_bytes(), "text/csv")},
                data={"kind": "customers", "source": "crm"},
            )
        )
        assert uploaded.status_code == 202, uploaded.text
        batch = str(uploaded.json()["id"])
        started = self.patiently(lambda client: client.post(f"/v1/imports/{batch}/run", json={}))
        assert started.status_code in (202, 409), started.text  # 409: the answer was lost, the run was not
        return batch

    def finish_import(self, batch: str) -> None:
        """Wait until it is done; a failure on the way is taken up again by the queue."""
        deadline = time.monotonic() + IMPORT_S
        while True:
            state = self.patiently(lambda client: client.get(f"/v1/imports/{batch}")).json()
            if state["status"] == "done":
                return
            assert time.monotonic() < deadline, f"{state}\n{self.running.said}\n{self.running.log('worker')}"
            time.sleep(0.1)

    def empty(self) -> None:
        """As before the import."""
        with self.admin() as connection:
            connection.execute(f"TRUNCATE {', '.join(BY_IMPORT)} RESTART IDENTITY CASCADE".encode())

    def wal(self, connection: psycopg.Connection[Any]) -> int:
        row = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
        assert row is not None
        return int(row[0])

    def snapshot(self) -> dict[str, str]:
        """For each table how many rows it has and a digest of them, with customers by what their source calls them."""
        found: dict[str, str] = {}
        queries = {
            table: f"SELECT s.external_id AS k, to_jsonb(t) - %(run)s::text[] AS r FROM {table} t "
            f"LEFT JOIN customer_sources s ON s.customer_id = t.{'id' if table == 'customers' else 'customer_id'}"
            for table in (
                *("customers", "sites", "site_lookup", "contacts", "consents", "site_sources", "assignments"),
                *("contradictions", "customer_sources"),
            )
        }
        queries["import_rows"] = (
            "SELECT s.external_id AS k, to_jsonb(t) - %(run)s::text[] AS r FROM import_rows t "
            "JOIN import_batches b ON b.id = t.batch_id AND b.status = 'done' "
            "LEFT JOIN customer_sources s ON s.customer_id = t.customer_id"
        )
        queries["import_batches"] = (
            "SELECT b.status AS k, jsonb_build_object('new', counts->'new', 'rejected', counts->'rejected', "
            "'flagged', counts->'flagged', 'processed', processed) AS r FROM import_batches b WHERE status = 'done'"
        )
        queries["cells"] = (
            "SELECT to_jsonb(c) - 'n' AS k, to_jsonb(sum(n)) AS r FROM ("
            "SELECT level, cell, stage, kind, owner_id, territory_id, segment_id, n FROM site_cells UNION ALL "
            "SELECT level, cell, stage, kind, owner_id, territory_id, segment_id, n FROM site_cell_deltas) c "
            "GROUP BY to_jsonb(c) - 'n' HAVING sum(n) <> 0"
        )
        with self.admin() as connection:
            for name, query in queries.items():
                row = connection.execute(
                    "SELECT count(*) || ' rows, ' || coalesce(md5(string_agg(concat(k, ' ', r), chr(10) "
                    f"ORDER BY concat(k, ' ', r))), '') FROM ({query}) AS q".encode(),
                    {"run": list(OF_THE_RUN)} if "%(run)s" in query else None,
                ).fetchone()
                assert row is not None
                found[name] = row[0]
        return found

    def kill(self, victim: str) -> None:
        pid = self.running.database() if victim == "database" else self.running.child(victim)
        os.kill(pid, signal.SIGKILL)

    def import_with_a_kill(self, victim: str, point: int) -> str:
        """One import during which `victim` is killed once `point` bytes are written; says what the moment was."""
        self.empty()
        with self.admin() as watcher:
            begin = self.wal(watcher)
            batch = self.start_import()
            while self.wal(watcher) - begin < point:
                state = watcher.execute("SELECT bool_or(status = 'done') FROM import_batches").fetchone()
                if state is not None and state[0]:
                    break  # it wrote less than the undisturbed one: the kill comes right after
                time.sleep(0.001)
            at = self.wal(watcher) - begin
            status = watcher.execute("SELECT max(status) FROM import_batches").fetchone()
            self.kill(victim)
        self.finish_import(batch)
        self.running.wait_until_ready()
        return f"{victim} after {at} of {self.written} bytes, import {status[0] if status else '?'}"


@pytest.fixture(scope="module")
def territories() -> Iterator[tuple[Running, str]]:
    """A running geocrm with territories, and the token of a key to it."""
    with fresh_home() as home:
        running = Running(home / "data").start()
        try:
            running.wait_for("ready after")
            database = open_database(Settings(home=running.home))
            token = make_territories(database)
            database.dispose()
            yield running, token
        finally:
            running.clean_up()


@pytest.fixture(scope="module", params=SHARES)
def company(
    request: pytest.FixtureRequest, territories: tuple[Running, str], tmp_path_factory: pytest.TempPathFactory
) -> Company:
    file = tmp_path_factory.mktemp("company") / "customers.csv"
    write_customers(file, seed=20, share=SHARES[request.param])
    assert file.stat().st_size > FIRST_LOAD_BYTES
    made = Company(request.param, *territories, file, {}, 0)
    made.empty()
    with made.admin() as watcher:
        begin = made.wal(watcher)
        made.finish_import(made.start_import())
        made.written = made.wal(watcher) - begin
    made.tables = made.snapshot()
    return made


def test_undisturbed_import_is_what_the_file_says(company: Company) -> None:
    with company.file.open() as file:
        rows = list(csv.DictReader(file))
    good = [row for row in rows if float(row["Lat"]) <= 90]
    assert company.tables["customers"].startswith(f"{len({row['Customer ID'] for row in good})} rows")
    assert company.tables["import_rows"].startswith(f"{len(rows)} rows")
    in_a_square = {name: count for name, count in company.tables.items() if name in ("site_lookup", "assignments")}
    assert all(int(count.split()[0]) > ROWS / 2 for count in in_a_square.values()), company.tables


def check_kills(company: Company, seed: int, victims: Iterable[str]) -> None:
    print(f"seed {seed}")
    draw = random.Random(seed)
    for number, victim in enumerate(victims):
        moment = company.import_with_a_kill(victim, draw.randrange(company.written))
        print(f"{number + 1}: {moment}")
        assert company.snapshot() == company.tables, f"seed {seed}, {moment}"


def test_import_survives_kills(company: Company) -> None:
    """The worker, and what else this way of importing leans on: what the client is told, or what is written at once."""
    check_kills(company, seed=random.randrange(1_000_000), victims=("worker", KILLED_TOO[company.way]))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_import_survives_fifty_kills(company: Company) -> None:
    check_kills(company, seed=random.randrange(1_000_000), victims=itertools.islice(itertools.cycle(VICTIMS), 25))
