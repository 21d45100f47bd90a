"""A first load writes what the general way writes, and leaves the database as it found it where it does not."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from geocrm.access import SYSTEM
from geocrm.db.engine import Database
from geocrm.errors import GeocrmError
from geocrm.ingest import first_load, load
from geocrm.ingest.first_load import Repeated, Seen
from geocrm.spatial import areas, layers, lookup, territories
from tests.ingest.conftest import CURRENT, Desk
from tests.makers import make_user, square

LEDGER = "customer_id, site_id, layer_id, valid_from, valid_to, area_id, basis, layer_version, actor_id, ahead"
ALSO = {
    "assignments": LEDGER,
    "contradictions": "customer_id, site_id, layer_id, kind, area_id",
    "import_rows": "line_no, outcome, customer_id, object_id, flags, reasons, input",
    "site_cells": "level, cell, stage, kind, owner_id, territory_id, segment_id, n",
    "lookup_counts": "*",
}
TIMES = "created_at|updated_at|since"
TABLES = "customers,sites,contacts,customer_sources,site_sources,assignments,contradictions,import_rows"
SEED = 20261122
HEADER = [
    "Account ID", "Account Name", "First Name", "Last Name", "Email", "Phone", "Stage", "Owner", "Industry", "Street",
    "Zip", "Country", "Lat", "Lon", "Precision", "Newsletter",
]  # fmt: skip


@pytest.fixture
def desks(new_database: Callable[[], Database], tmp_path: Path) -> Callable[[], Desk]:
    """Empty desks with two layers: a primary one and one of another kind of territories."""

    def make() -> Desk:
        database = new_database()
        with database.writing() as session:
            make_user(session, "rep", name="Rosa Rep", email="rosa@example.com")
            for key, lon in (("sales", 0.5), ("technicians", 1.2)):
                layer = layers.create_layer(
                    session, key=key, name=key, kind="territories", is_primary=key == "sales", actor=SYSTEM
                )
                draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
                for number in range(3):
                    outline = square(lon + number, 0.5)
                    areas.put_area(session, layer.id, draft, actor=SYSTEM, name=f"{key} {number}", geometry=outline)
                start = datetime(2025, 1, 1, tzinfo=UTC)
                territories.publish(
                    session, layer.id, draft, actor=SYSTEM, reason="plan", effective_from=start, now=start
                )
        return Desk(database, tmp_path)

    return make


def export(rows: int, *, repeat: int | None = None) -> str:
    """Customers of a CRM with everything that can be the matter; `repeat`: this row's customer comes once more at the
    end."""
    rng = np.random.default_rng(SEED)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEADER)
    lines = []
    for number in range(rows):
        lon, lat = rng.uniform(-0.5, 4), rng.uniform(-0.2, 1.2)
        person = number % 3 == 0
        line: list[Any] = [
            f"A{number * 7919 % 100_003:06d}", "" if person else f"Company “{number}”, Ltd", "Ada" if person else "",
            f"Lovelace {number}" if person else "", f"a{number}@example.com" if number % 2 else "",
            f"+1 303 555 {number % 10_000:04d}" if number % 5 else "", ["active", "lead", ""][number % 3],
            ["rosa@example.com", "", "nobody@example.com"][number % 3], "Retail" if number % 4 else "",
            f"{number} Main Street", "", "US", f"{lat:.6f}", f"{lon:.6f}", "120" if number % 6 == 0 else "",
            "yes" if number % 2 else "",
        ]  # fmt: skip
        match number % 50:
            case 7:
                line[12:14] = ["0", "0"]
            case 11:
                line[9:14] = ["1 Elm Street", "80202", "US", "", ""]  # placed by its postal code
            case 13:
                line[9:14] = ["", "", "", "", ""]  # no site at all
            case 17:
                line[9:14] = ["9 Nowhere Lane", "", "", "", ""]  # pending
            case 19:
                line[12] = "95"  # rejected
            case 23:
                line[0] = ""  # rejected
        lines.append(line)
    if repeat is not None:
        lines.append([*lines[repeat][:9], "99 Other Street", *lines[repeat][10:]])
    writer.writerows(lines)
    return out.getvalue()


def everything(desk: Desk) -> dict[str, list[str]]:
    """All rows but times of writing and numbers without meaning, and the shape of the tables."""
    found = {
        table: sorted(
            row[0]
            for row in desk.rows(
                f"SELECT CAST(to_jsonb(t) - CAST('{{{TIMES.replace('|', ',')}}}' AS text[]) AS text) "
                f"FROM (SELECT {columns} FROM {table}) AS t"
            )
        )
        for table, columns in (CURRENT | ALSO).items()
    }
    return found | {"shape": shape(desk)}


def shape(desk: Desk) -> list[str]:
    """Indexes, constraints, row security."""
    values = {"tables": [*TABLES.split(","), "site_lookup", "site_cells"]}
    indexes = desk.rows(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = ANY (CAST(:tables AS text[]))",
        **values,
    )
    constraints = desk.rows(
        "SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) || convalidated FROM pg_constraint "
        "WHERE conrelid = ANY (CAST(CAST(:tables AS text[]) AS regclass[]))",
        **values,
    )
    security = desk.rows(
        "SELECT relname || relrowsecurity || relforcerowsecurity || CAST(ARRAY("
        "SELECT CAST(a AS text) FROM unnest(relacl) AS a ORDER BY 1) AS text) FROM pg_class "
        "WHERE oid = ANY (CAST(CAST(:tables AS text[]) AS regclass[]))",
        **values,
    )
    policies = desk.rows(
        "SELECT tablename || policyname || qual FROM pg_policies WHERE tablename = ANY (CAST(:tables AS text[]))",
        **values,
    )
    return sorted(row[0] for row in [*indexes, *constraints, *security, *policies])


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which ways a run went: "begun" and "finished" first loads."""
    gone: list[str] = []
    opened, finished = first_load.FirstLoad.__init__, first_load.FirstLoad.finish

    def init(self: Any, *args: Any) -> None:
        gone.append("begun")
        opened(self, *args)

    def finish(self: Any) -> None:
        finished(self)
        gone.append("finished")

    monkeypatch.setattr(first_load.FirstLoad, "__init__", init)
    monkeypatch.setattr(first_load.FirstLoad, "finish", finish)
    return gone


def general(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "FIRST_LOAD_BYTES", 10**12)


RECIPE = {"types": {"attributes.newsletter": "boolean"}, "columns": {"attributes.newsletter": "Newsletter"}}


def test_a_first_load_equals_the_general_way(
    desks: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    print(f"seed {SEED}")
    one, other, content = desks(), desks(), export(6000)
    before = shape(one)
    assert len(content) > load.FIRST_LOAD_BYTES
    first = one.run(content, "customers", source="crm", **RECIPE)
    assert ways == ["begun", "finished"]
    general(monkeypatch)
    second = other.run(content, "customers", source="crm", **RECIPE)
    assert ways == ["begun", "finished"]
    assert first["counts"] == second["counts"]
    assert first["counts"]["new"] > 5700
    assert first["counts"]["rejected"] == 240
    assert first["counts"]["flagged"] > 100
    mine, theirs = everything(one), everything(other)
    for table, rows in mine.items():
        assert rows == theirs[table], table
        assert rows or table in ("sales", "sale_lines", "sale_sources", "products", "product_sources", "interactions",
                                 "interaction_sources", "places", "place_sources"), table  # fmt: skip
    assert mine["shape"] == before
    assert one.rejected(first) == other.rejected(second)
    # and afterwards it is a database like any other
    again = one.run(content, "customers", source="crm", **RECIPE)["counts"]
    assert (again["new"], again["changed"]) == (0, 0)
    one.undo(first)
    assert one.one("SELECT count(*) FROM customers") == one.one("SELECT count(*) FROM site_lookup") == 0


def test_a_customer_of_several_rows_goes_the_general_way(
    desks: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    one, other = desks(), desks()
    content = export(27_000, repeat=1)  # the second row comes in the second chunk
    first = one.run(content, "customers", source="crm")
    assert ways == ["begun"]
    general(monkeypatch)
    second = other.run(content, "customers", source="crm")
    assert first["counts"] == second["counts"]
    assert one.rejected(first) == other.rejected(second)
    mine, theirs = everything(one), everything(other)
    # the numbers that the first attempt drew are not drawn again
    assert {table: len(rows) for table, rows in mine.items()} == {table: len(rows) for table, rows in theirs.items()}
    assert mine["shape"] == theirs["shape"]
    assert mine["site_cells"] == theirs["site_cells"]
    assert one.one("SELECT count(*) FROM sites GROUP BY customer_id ORDER BY 1 DESC LIMIT 1") == 2


def test_customers_that_are_there_already_go_the_general_way(desks: Callable[[], Desk], ways: list[str]) -> None:
    desk = desks()
    desk.run("id,name\nA1,One\n", "customers", source="crm")
    desk.run(export(3000), "customers", source="crm")
    assert ways == []


def test_tables_in_use_go_the_general_way(
    desks: Callable[[], Desk], ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desks()
    with psycopg.connect(desk.database.conninfo("admin")) as reader:
        reader.execute("SELECT count(*) FROM sites")  # holds it until its transaction ends
        done = desk.run(export(3000), "customers", source="crm")
    assert ways == []
    assert done["counts"]["new"] > 2800


def test_rules_go_the_general_way(desks: Callable[[], Desk], ways: list[str]) -> None:
    desk = desks()
    with desk.database.writing() as session:
        layer = layers.get_layer(session, "sales")
        draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
        rule = {"field": "country", "op": "=", "value": "US"}
        areas.put_area(session, layer.id, draft, actor=SYSTEM, name="Everybody", rule=rule)
        territories.publish(session, layer.id, draft, actor=SYSTEM, reason="rule")
    done = desk.run(export(3000), "customers", source="crm")
    assert ways == []
    assert done["counts"]["new"] > 2800
    assert desk.one("SELECT count(*) FROM assignments WHERE basis = 'rule' AND superseded_at IS NULL") > 2000
    assert desk.one("SELECT count(*) FROM pg_constraint WHERE conname = 'fk_sites_customer_id_customers'") == 1


@pytest.mark.parametrize("where", ["lookups", "writing"])
def test_a_first_load_that_fails_leaves_nothing(
    desks: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    desk = desks()
    before = everything(desk)
    content = export(3000)
    with monkeypatch.context() as broken:

        def fail(*args: Any) -> None:
            raise GeocrmError("The disk is full.")

        if where == "lookups":
            broken.setattr(lookup.Generation, "build", fail)
        else:
            broken.setattr(first_load.FirstLoad, "_add_lookup", fail)
        with pytest.raises(GeocrmError, match="disk is full"):
            desk.run(content, "customers", source="crm")
    assert everything(desk) == before
    assert desk.one("SELECT status FROM import_batches") == "failed"
    assert desk.run(content, "customers", source="crm")["counts"]["new"] > 2800


def test_a_generation_that_was_left_behind_is_replaced(desks: Callable[[], Desk]) -> None:
    desk = desks()
    generation = lookup.Generation(desk.database)
    generation.build()  # committed, and its import killed before the flip
    generation.close()
    desk.run(export(3000), "customers", source="crm")
    assert desk.one("SELECT count(*) FROM site_lookup") == desk.one(
        "SELECT count(*) FROM sites WHERE placement='placed'"
    )
    assert desk.one("SELECT to_regclass('site_lookup_next') IS NULL")


def test_seen_finds_every_repetition() -> None:
    seen = Seen()
    rng = np.random.default_rng(SEED)
    names = np.array([f"id {n}" for n in rng.permutation(50_000)], dtype=object)
    for part in np.array_split(names, 37):
        seen.add(part)
    for _ in range(50):
        with pytest.raises(Repeated):
            seen.add(np.array([f"new {rng.integers(10**9)}", names[rng.integers(50_000)]], dtype=object))
    with pytest.raises(Repeated):
        Seen().add(np.array(["a", "b", "a"], dtype=object))
