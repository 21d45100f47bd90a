"""The AdventureWorks sample through `examples/adventureworks/run.py`: every figure that is known of it.

The people's records name their sales territory; polygons alone cannot say it (coarse coasts, scattered points, (0, 0)),
country and state can.
"""

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.db.engine import Database
from geocrm.settings import CHECKOUT
from geocrm.spatial import geocoding

SCRIPT = CHECKOUT / "examples" / "adventureworks" / "run.py"
PEOPLE, SHOPS, SHOP_SITES, ORDERS, LINES = 18_148, 701, 712, 25_164, 56_046
SUM = Decimal("24914586.8193")
SAME, OTHER, NOWHERE = 14_983, 6, 3_159
AT_ZERO, SHOPS_AT_ZERO = 873, 30
FACTS = (
    "customers", "sites", "site_lookup", "contacts", "sales", "sale_lines", "products", "customer_sources",
    "site_sources", "sale_sources", "product_sources", "site_cells", "contradictions",
)  # fmt: skip

pytestmark = pytest.mark.timeout(900)  # one import of everything, one repeat, one undo


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = util.spec_from_file_location("adventureworks_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def directory(shared_data: Path) -> Path:
    folder = shared_data / "adventureworks"
    if not folder.is_dir():
        pytest.skip("the AdventureWorks sample is not on this machine")
    return folder


@pytest.fixture(scope="module")
def imported(example: ModuleType, directory: Path, new_database: Callable[[], Database]) -> tuple[Database, Any]:
    database = new_database()
    return database, example.import_all(database, directory)


@pytest.fixture
def done(imported: tuple[Database, Any]) -> Any:
    return imported[1]


@pytest.fixture
def books(imported: tuple[Database, Any]) -> Iterator[Session]:
    """A session whose work is taken back."""
    with imported[0].writing() as session:
        yield session
        session.rollback()


def one(session: Session, sql: str, **values: Any) -> Any:
    return session.execute(text(sql), values).scalar_one()


def test_everything_is_imported(books: Session, done: Any) -> None:
    for what, rows in (("people", PEOPLE), ("shops", SHOP_SITES), ("sales", LINES), ("territories", 10)):
        assert done.imports[what]["new"] == rows, what
        assert done.imports[what]["rejected"] == 0, what
    assert one(books, "SELECT count(*) FROM customers WHERE kind = 'person'") == PEOPLE
    assert one(books, "SELECT count(*) FROM customers WHERE kind = 'organisation'") == SHOPS
    assert one(books, "SELECT count(*) FROM sites") == PEOPLE + SHOP_SITES
    shop_sites = "SELECT count(*) FROM sites s JOIN customers c ON c.id = s.customer_id AND c.kind = 'organisation'"
    assert one(books, shop_sites) == SHOP_SITES
    assert one(books, "SELECT count(*) FROM sales") == ORDERS
    assert one(books, "SELECT count(*) FROM sale_lines") == LINES
    assert one(books, "SELECT count(DISTINCT customer_id) FROM sales") == 17_416
    assert one(books, "SELECT count(*) FROM products") == 130


def test_no_cent_is_lost(books: Session) -> None:
    assert one(books, "SELECT sum(amount) FROM sale_lines") == SUM
    assert one(books, "SELECT sum(amount) FROM sales") == SUM
    assert [row[0] for row in books.execute(text("SELECT DISTINCT currency FROM sales"))] == ["USD"]


def test_defects_of_the_files_are_mended(books: Session, directory: Path) -> None:
    padded = "SELECT count(*) FROM sites WHERE region <> btrim(region) OR country !~ '^[A-Z]{2}$'"
    assert one(books, padded) == 0
    born = {
        row.external_id: row.born
        for row in books.execute(
            text(
                "SELECT x.external_id, c.attributes ->> 'birth_date' AS born FROM customers c "
                "JOIN customer_sources x ON x.customer_id = c.id WHERE c.kind = 'person'"
            )
        )
    }
    with (directory / "customers_geo.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            month, day, year = (int(part) for part in row["BirthDate"].replace("/", "-").split("-"))
            assert born[row["CustomerID"]] == f"{year:04d}-{month:02d}-{day:02d}"
    assert one(books, "SELECT name FROM customers c JOIN customer_sources x ON x.customer_id = c.id "
                      "WHERE x.external_id = '11000'") == "Jon Yang"  # fmt: skip


def test_by_polygon_alone(done: Any) -> None:
    found = done.by_polygon
    assert (found.same, found.other, found.none) == (SAME, OTHER, NOWHERE)
    assert SAME + OTHER + NOWHERE == PEOPLE
    assert set(found.bases) == {"polygon", "none"}
    assert found.queue == {"nothing": NOWHERE}


def test_with_country_and_state_all_are_where_their_record_says(books: Session, done: Any) -> None:
    found = done.with_rules
    assert (found.same, found.other, found.none) == (PEOPLE, 0, 0)
    assert found.bases == {"rule": PEOPLE + SHOP_SITES}
    # 6 contradict a polygon, and those that no polygon holds are listed apart
    assert found.queue == {"rule_against_polygon": OTHER, "no_polygon": NOWHERE}
    follows = """
        SELECT count(*) FROM customers c JOIN sites s ON s.customer_id = c.id JOIN areas a ON a.id = s.territory_id
        WHERE c.kind = 'person' AND a.name = c.attributes ->> 'territory' AND c.territory_ids = ARRAY[a.id]"""
    assert one(books, follows) == PEOPLE


def test_the_ledger_remembers_the_polygons(books: Session) -> None:
    """What the first version said is superseded, not gone."""
    then = "SELECT count(*) FROM assignments a JOIN customers c ON c.id = a.customer_id AND c.kind = 'person' WHERE {}"
    assert one(books, then.format("superseded_at IS NOT NULL AND basis = 'polygon'")) == SAME + OTHER
    assert one(books, then.format("superseded_at IS NULL AND basis = 'rule'")) == PEOPLE


def test_people_at_zero_are_on_no_map_until_placed_from_their_address(books: Session) -> None:
    zero = """
        SELECT s.id FROM sites s JOIN customers c ON c.id = s.customer_id
        WHERE c.kind = 'person' AND s.placement = 'flagged' AND s.flags = '{zero}'"""
    sites = list(books.scalars(text(zero)))
    assert len(sites) == AT_ZERO
    flagged_shops = "SELECT count(*) FROM sites WHERE placement = 'flagged'"
    assert one(books, flagged_shops) == AT_ZERO + SHOPS_AT_ZERO
    shown = "SELECT count(*) FROM site_lookup WHERE site_id = ANY (CAST(:sites AS bigint[]))"
    assert one(books, shown, sites=sites) == 0
    assert one(books, "SELECT count(*) FROM site_lookup WHERE ST_X(location) = 0 AND ST_Y(location) = 0") == 0
    placed = "SELECT count(*) FROM sites WHERE placement = 'placed'"
    assert one(books, "SELECT count(*) FROM site_lookup") == one(books, placed)

    outcome = geocoding.replace_flagged(books, sites, actor=SYSTEM, limit=1_000)
    assert outcome.placed == AT_ZERO
    assert one(books, shown, sites=sites) == AT_ZERO
    coarse = """
        SELECT count(*) FROM sites WHERE id = ANY (CAST(:sites AS bigint[])) AND placement = 'placed'
        AND location_precision IN ('postcode', 'locality', 'region') AND precision_m > 25 AND flags = '{}'"""
    assert one(books, coarse, sites=sites) == outcome.placed
    # still theirs by the rule, and now most also by the polygon
    assert one(books, "SELECT count(*) FROM contradictions WHERE kind = 'no_polygon' AND resolved_at IS NULL "
                      "AND site_id = ANY (CAST(:sites AS bigint[]))", sites=sites) < 0.1 * AT_ZERO  # fmt: skip


def test_again_changes_nothing_and_undo_leaves_nothing(
    example: ModuleType, directory: Path, imported: tuple[Database, Any]
) -> None:
    database, first = imported
    before = fingerprint(database)
    again = example.import_all(database, directory)
    for what, counts in again.imports.items():
        assert counts["new"] == counts["changed"] == counts["rejected"] == 0, what
        assert counts["unchanged"] > 0, what
    assert again.imports["people"]["unchanged"] == PEOPLE
    assert again.imports["sales"]["unchanged"] == LINES
    assert again.with_rules == first.with_rules
    assert fingerprint(database) == before

    example.undo_all(database)
    with database.writing() as session:
        for table in FACTS:
            assert one(session, f"SELECT count(*) FROM {table}") == 0, table
        current = "SELECT count(*) FROM assignments WHERE superseded_at IS NULL"
        assert one(session, current) == 0
        held = """
            SELECT count(*) FROM layers l
            JOIN layer_areas a ON a.layer_id = l.id AND a.layer_version = l.current_version"""
        assert one(session, held) == 0
        assert one(session, "SELECT count(*) FROM import_batches WHERE status <> 'undone'") == 0
        # history stays
        assert one(session, "SELECT count(*) FROM assignments") > 2 * PEOPLE
        assert one(session, "SELECT count(*) FROM audit_log WHERE action = 'import.undo'") == 10


def fingerprint(database: Database) -> dict[str, str]:
    """A digest of every current row."""
    with database.writing() as session:
        return {
            table: one(
                session, f"SELECT coalesce(md5(string_agg(md5(t::text), '' ORDER BY t::text)), '') FROM {table} t"
            )
            for table in (*FACTS, "assignments", "areas", "area_versions", "layers")
            if table != "site_cells"
        }


def test_the_script_names_the_files_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "sales_lines.csv").write_text("OrderDate\n")
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 2
    assert "lacks customers_geo.csv, stores_geo.csv, territories.geojson" in run.stderr
