"""`import geocrm`: lookups and frames as one user, under row security, in bounded chunks."""

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import geopandas as gpd
import pandas as pd
import pytest
from sqlalchemy import text

import geocrm
from geocrm import errors, frames
from geocrm.db.engine import Database
from geocrm.settings import CHECKOUT
from tests import world_of_reports
from tests.world_of_reports import World


@pytest.fixture(scope="module")
def world(new_database: Callable[[], Database]) -> World:
    return world_of_reports.build(new_database())


def test_import_is_quick_and_lazy() -> None:
    code = "import sys, geocrm; print(sorted(m for m in ('pandas', 'sqlalchemy', 'geocrm.frames') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
    assert {"connect", "customers", "nearby"} <= set(dir(geocrm))
    with pytest.raises(AttributeError):
        geocrm.nonsense  # noqa: B018


def test_everybody_sees_their_own(world: World) -> None:
    with geocrm.connect(database=world.database) as session:
        everything = geocrm.customers(session)
    with geocrm.connect(user="Rita@Example.com", database=world.database) as session:
        own = geocrm.customers(session)
        assert session.scalar(text("SELECT count(*) FROM customers")) == len(own)  # SQL of one's own too
        session.commit()
        assert session.scalar(text("SELECT count(*) FROM customers")) == len(own)  # and in the next transaction
    with geocrm.connect(user=f"usr_{world.other}", database=world.database) as session:
        others = geocrm.customers(session)
    assert len(everything) == world.customers
    assert set(own["name"]) == {
        world_of_reports.SCRIPT,
        world_of_reports.TEMPLATE,
        world_of_reports.QUOTES,
        "Nowhere yet",
    }
    assert set(others["name"]) == {world_of_reports.QUOTES}
    assert everything.crs == own.crs == "EPSG:4326"


def test_columns_and_geometry(world: World) -> None:
    with geocrm.connect(database=world.database) as session:
        found = geocrm.customers(session)
        sites = geocrm.customers(session, all_sites=True)
    assert isinstance(found, gpd.GeoDataFrame)
    assert found["id"].str.match(r"cus_\d+$").all()
    row = found[found["name"] == world_of_reports.SCRIPT].iloc[0]
    assert (row.geometry.x, row.geometry.y) == (-105.5, 40.0)
    assert row["attributes"] == {"plan": "gold"}
    assert row["territory"].startswith("West")
    assert found[found["name"] == "Nowhere yet"].geometry.isna().all()
    assert found[found["name"] == "Nowhere yet"]["placement"].tolist() == ["pending"]
    assert len(sites) == len(found) + 1


def test_filter_and_chunks_give_the_same_rows(world: World) -> None:
    wanted = {"field": "stage", "op": "in", "value": ["active", "lead"]}
    with geocrm.connect(database=world.database) as session:
        whole = geocrm.customers(session, wanted)
        parts = list(geocrm.customers(session, wanted, chunk=1))
        assert [len(part) for part in parts] == [1] * len(whole)
        pd.testing.assert_frame_equal(
            pd.DataFrame(pd.concat(parts, ignore_index=True)), pd.DataFrame(whole), check_dtype=False
        )
        nobody = geocrm.customers(session, {"field": "name", "op": "=", "value": "no such name"})
        assert nobody.empty
        assert list(nobody.columns) == list(whole.columns)
        with pytest.raises(errors.InvalidFilter):
            geocrm.customers(session, {"field": "no such field", "op": "=", "value": 1})
        with pytest.raises(errors.Invalid, match="chunk"):
            next(geocrm.customers(session, chunk=0))


def test_a_frame_that_is_too_large_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST", 2)
    with geocrm.connect(database=world.database) as session, pytest.raises(errors.TooLarge, match="chunk="):
        geocrm.customers(session)


def test_sales_are_exact_and_placed(world: World) -> None:
    with geocrm.connect(database=world.database) as session:
        found = geocrm.sales(session)
        assert sum(found["amount"], Decimal(0)) == Decimal("6.3702")
        assert all(isinstance(amount, Decimal) for amount in found["amount"])
        assert found.geometry.notna().all()
        assert geocrm.sales(session, since=datetime(2027, 1, 1, tzinfo=UTC)).empty
        assert len(geocrm.sales(session, until=datetime(2027, 1, 1, tzinfo=UTC))) == 3
        assert sum(len(part) for part in geocrm.sales(session, chunk=2)) == 3
    with geocrm.connect(user=world.other, database=world.database) as session:
        assert len(geocrm.sales(session)) == 1


def test_areas_of_a_layer(world: World) -> None:
    with geocrm.connect(user=world.rep, database=world.database) as session:
        found = geocrm.areas(session, "sales")
        assert found["owner"].tolist() == ["Rita Rep", world_of_reports.SCRIPT]
        assert found.geometry.bounds.to_numpy().tolist() == [[-106, 39, -105, 41], [-105, 39, -104, 41]]
        assert found["id"].str.match(r"ter_\d+$").all()
        assert geocrm.areas(session, "lay_sales", as_of=datetime(2000, 1, 1, tzinfo=UTC)).empty
        with pytest.raises(errors.NotFound):
            geocrm.areas(session, "nonsense")


def test_lookups(world: World) -> None:
    with geocrm.connect(user=world.rep, database=world.database) as session:
        near = geocrm.nearby(session, -105.5, 40.0, limit=3)
        assert near["distance_m"].is_monotonic_increasing
        assert near["name"].iloc[0] == world_of_reports.SCRIPT
        assert near.geometry.iloc[0].x == pytest.approx(-105.5)
        assert geocrm.nearby(session, 0, 0, radius_m=10).empty
        leads = geocrm.nearby(session, -105.5, 40.0, filter={"field": "stage", "op": "=", "value": "lead"})
        assert leads["name"].tolist() == [world_of_reports.TEMPLATE]
        at = geocrm.territory_at(session, -105.5, 40.0)
        assert [(answer.layer_key, answer.owner_id, answer.basis) for answer in at] == [("sales", world.rep, "polygon")]
        held = geocrm.territories_of(session, near["id"].iloc[0])
        assert [answer.basis for answer in held] == ["polygon"]
        with pytest.raises(errors.Invalid):
            geocrm.territories_of(session, "ter_1")
        with pytest.raises(errors.Invalid):
            geocrm.nearby(session, 200, 0)


def test_reading_in_bulk_is_in_the_audit_log(world: World) -> None:
    with geocrm.connect(user=world.rep, database=world.database) as session:
        count = len(geocrm.customers(session))
    with world.database.writing() as session:
        after = session.scalar(
            text(
                "SELECT p.after FROM audit_log a JOIN audit_payloads p ON p.entry_id = a.id "
                "WHERE a.action = 'customers.read' AND a.actor_id = :id ORDER BY a.id DESC LIMIT 1"
            ),
            {"id": world.rep},
        )
    assert after == {"rows": count, "by": "frame"}


def test_unknown_users_and_plain_sessions_are_refused(world: World) -> None:
    for user in ("nobody@example.com", 10**9, "usr_999999999"):
        with pytest.raises(errors.NotFound):
            geocrm.connect(user=user, database=world.database)
    with world.database.reading() as session, pytest.raises(errors.Invalid, match=r"geocrm\.connect"):
        geocrm.customers(session)


def test_the_session_cannot_write(world: World) -> None:
    from sqlalchemy.exc import ProgrammingError

    with geocrm.connect(database=world.database) as session, pytest.raises(ProgrammingError, match="permission denied"):
        session.execute(text("UPDATE customers SET name = 'mine'"))


def test_the_notebook_page_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(url: str | None = None, *, user: str | None = None) -> frames.ReadingSession:
        assert user == "analyst@demo.example"
        return frames.connect(url, user="ana@example.com", database=world.database)

    monkeypatch.setattr(geocrm, "connect", connect, raising=False)
    page = (CHECKOUT / "docs" / "how-to" / "notebooks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "notebooks.md", "exec"), names)
    assert names["total"] == Decimal("6.3702")


def test_a_database_out_of_reach_is_one_sentence_at_once() -> None:
    with pytest.raises(errors.SetupError, match=r"^the database \(host 127\.0\.0\.1, database x\): nothing listens"):
        geocrm.connect("postgresql://geocrm:secret@127.0.0.1:1/x")
