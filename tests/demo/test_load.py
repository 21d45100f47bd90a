"""The demo company in the database: what was generated is there, hangs together, and each role can sign in."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, frames
from geocrm.db.engine import Database
from geocrm.demo import load, scale
from geocrm.errors import Conflict

CUSTOMERS = 2_500


@pytest.fixture(scope="module")
def demo(new_database: Callable[[], Database]) -> tuple[Database, load.Loaded]:
    database = new_database()
    return database, load.load(database, customers=CUSTOMERS, seed=1)


@pytest.fixture
def loaded(demo: tuple[Database, load.Loaded]) -> load.Loaded:
    return demo[1]


@pytest.fixture
def books(demo: tuple[Database, load.Loaded]):  # type: ignore[no-untyped-def]
    with demo[0].writing() as session:
        yield session
        session.rollback()


def number(session: Session, sql: str) -> int:
    return int(session.execute(text(sql)).scalar_one())


def test_every_row_arrived(books: Session, loaded: load.Loaded) -> None:
    assert loaded.rows["customers"] == CUSTOMERS
    for table, rows in loaded.rows.items():
        assert number(books, f"SELECT count(*) FROM {table}") == rows, table
        assert rows > 0, table


def test_every_layer_is_in_force(books: Session) -> None:
    for layer_id in books.scalars(text("SELECT id FROM layers")).all():
        areas = number(books, f"SELECT count(*) FROM layer_areas WHERE layer_id = {layer_id} AND layer_version = 1")
        assert len(frames.areas_in_force(books, layer_id)) == areas > 0


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        ("SELECT parent_id FROM customers", "SELECT id FROM customers"),
        ("SELECT owner_id FROM customers", "SELECT id FROM users"),
        ("SELECT customer_id FROM customer_sources", "SELECT id FROM customers"),
        ("SELECT site_id FROM site_sources", "SELECT id FROM sites"),
        ("SELECT sale_id FROM sale_sources", "SELECT id FROM sales"),
        ("SELECT interaction_id FROM interaction_sources", "SELECT id FROM interactions"),
        ("SELECT site_id FROM sales", "SELECT id FROM sites"),
        ("SELECT place_id FROM sales", "SELECT id FROM places"),
        ("SELECT product_id FROM sale_lines", "SELECT id FROM products"),
        ("SELECT user_id FROM interactions", "SELECT id FROM users"),
        ("SELECT territory_id FROM sites", "SELECT id FROM areas"),
        ("SELECT unnest(territory_ids) FROM customers", "SELECT id FROM areas"),
        ("SELECT owner_id FROM areas", "SELECT id FROM users"),
        ("SELECT team_id FROM areas", "SELECT id FROM teams"),
        ("SELECT customer_id FROM named_accounts", "SELECT id FROM customers"),
    ],
)
def test_references_lead_somewhere(books: Session, child: str, parent: str) -> None:
    query = f"SELECT count(*) FROM ({child}) AS c(id) WHERE c.id IS NOT NULL AND c.id NOT IN ({parent})"
    assert number(books, query) == 0
    assert number(books, f"SELECT count(*) FROM ({child}) AS c(id) WHERE c.id IS NOT NULL") > 0


def test_sales_are_the_sum_of_their_lines(books: Session) -> None:
    wrong = """
        SELECT count(*) FROM sales s JOIN (
          SELECT customer_id, sale_id, sum(amount) AS amount, sum(cost) AS cost, sum(discount) AS discount
          FROM sale_lines GROUP BY 1, 2) l ON l.customer_id = s.customer_id AND l.sale_id = s.id
        WHERE (s.amount, s.cost, s.discount) IS DISTINCT FROM (l.amount, l.cost, l.discount)"""
    assert number(books, wrong) == 0
    strange = """
        SELECT count(*) FROM sales s JOIN sites t ON t.id = s.site_id WHERE t.customer_id <> s.customer_id"""
    assert number(books, strange) == 0


def test_new_rows_get_fresh_ids(books: Session) -> None:
    made = number(books, "INSERT INTO customers (kind, name, stage) VALUES ('person', 'New', 'lead') RETURNING id")
    assert made > CUSTOMERS


def test_sites_of_all_placements(books: Session) -> None:
    found = {
        row.placement: row.n for row in books.execute(text("SELECT placement, count(*) AS n FROM sites GROUP BY 1"))
    }
    assert set(found) == {"placed", "pending", "flagged"}
    assert number(books, "SELECT count(*) FROM sites WHERE location_precision = 'postcode' AND precision_m > 25") > 10
    assert number(books, "SELECT count(*) FROM sites WHERE placement = 'flagged' AND flags <> '{zero}'") == 0
    assert number(books, "SELECT count(*) FROM site_lookup") == found["placed"]


def test_the_ledger_says_whose_each_site_is(books: Session) -> None:
    placed = number(books, "SELECT count(*) FROM sites WHERE placement = 'placed'")
    current = """
        SELECT count(*) FROM assignments a JOIN layers l ON l.id = a.layer_id AND l.is_primary
        WHERE a.superseded_at IS NULL AND a.valid_to IS NULL"""
    assert number(books, current) >= placed
    bases = {row[0] for row in books.execute(text("SELECT DISTINCT basis FROM assignments"))}
    assert {"named", "rule", "polygon"} <= bases
    assert number(books, "SELECT count(*) FROM contradictions WHERE kind = 'rule_against_polygon'") > 0
    same = f"{current} AND a.area_id IS DISTINCT FROM (SELECT s.territory_id FROM sites s WHERE s.id = a.site_id)"
    assert number(books, same) == 0


def test_the_plan_was_changed_once(books: Session) -> None:
    moved = """
        SELECT count(*) FROM assignments a JOIN areas x ON x.id = a.area_id
        WHERE x.name = 'Black Canyon' AND a.valid_to = '2026-01-01T00:00:00Z' AND a.superseded_at IS NULL"""
    assert number(books, moved) > 0
    assert number(books, "SELECT current_version FROM layers WHERE key = 'sales'") == 2


def test_every_role_signs_in_and_sees_its_rows(books: Session) -> None:
    seen = {}
    for role, email in load.LOGINS.items():
        user = books.execute(
            text("SELECT id, role, password_hash FROM users WHERE email = :email"), {"email": email}
        ).one()
        assert user.role == role
        assert access.verify_password(load.PASSWORD, user.password_hash)
        with access.as_user(books, access.load_actor(books, user.id)):
            seen[role] = number(books, "SELECT count(*) FROM customers")
    assert seen["administrator"] == seen["marketer"] == seen["analyst"] == CUSTOMERS
    assert 0 < seen["rep"] < seen["manager"] < CUSTOMERS / 2


def test_what_reps_own_is_near(books: Session) -> None:
    """Each rep's customers lie in or beside the territory: neighbours, not scattered over the map."""
    far = """
        SELECT count(*) FROM customers c
        JOIN sites s ON s.customer_id = c.id AND s.is_primary AND s.placement = 'placed'
        JOIN areas a ON a.owner_id = c.owner_id
        JOIN area_versions v ON v.area_id = a.id AND v.version = 1
        WHERE NOT ST_DWithin(v.geometry, s.location, 0.7)"""
    assert number(books, far) < CUSTOMERS * 0.01


def test_the_truth_is_written_down(demo: tuple[Database, load.Loaded]) -> None:
    directory = demo[0].settings.home / "demo"
    facts = json.loads((directory / "truth.json").read_text())
    assert facts["seed"] == 1
    assert facts["truth"]["campaign"]["name"] == "Ride into Spring"
    assert len(pd.read_parquet(directory / "truth.parquet")) == CUSTOMERS


def test_a_second_load_is_refused(demo: tuple[Database, load.Loaded]) -> None:
    with pytest.raises(Conflict, match="empty database"):
        load.load(demo[0], customers=10)


def test_a_load_that_fails_leaves_nothing(new_database: Callable[[], Database], tmp_path: Path) -> None:
    database = new_database()

    def stop(what: str, done: int, total: int) -> None:
        if what == "territories":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load.load(database, customers=60, progress=stop, truth_directory=tmp_path)
    with database.writing() as session:
        assert load.is_fresh(session)
        assert number(session, "SELECT count(*) FROM teams") == 0
    assert not list(tmp_path.iterdir())


def test_scale_loads_coherent_owners(new_database: Callable[[], Database]) -> None:
    database = new_database()
    reps = scale.load_scale(database, customers=4_000, reps=20, seed=3)
    with database.writing() as session:
        assert number(session, "SELECT count(*) FROM site_lookup") == 4_000
        counts = [row[0] for row in session.execute(text("SELECT count(*) FROM customers GROUP BY owner_id"))]
        assert len(counts) == len(reps) == 20
        assert max(counts) < 2 * min(counts)
        outside = """
            SELECT count(*) FROM sites s JOIN area_versions v ON v.area_id = s.territory_id
            WHERE NOT ST_Intersects(v.geometry, s.location)"""
        assert number(session, outside) == 0
        overlaps = """
            SELECT count(*) FROM area_versions a JOIN area_versions b ON a.area_id < b.area_id
            WHERE a.geometry && b.geometry AND ST_Area(ST_Intersection(a.geometry, b.geometry)) > 1e-9"""
        assert number(session, overlaps) == 0
        indexes = number(session, "SELECT count(*) FROM pg_indexes WHERE tablename IN ('customers', 'sites')")
        keys = number(
            session, "SELECT count(*) FROM pg_constraint WHERE conrelid = 'sites'::regclass AND contype = 'f'"
        )
    fresh = new_database()
    with fresh.writing() as session:
        assert number(session, "SELECT count(*) FROM pg_indexes WHERE tablename IN ('customers', 'sites')") == indexes
        assert keys == 1
    with pytest.raises(Conflict):
        scale.load_scale(database, customers=10)
