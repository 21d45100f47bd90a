"""`geocrm nearby`, `territory`, `report map` on the command line: parse, call, print."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from geocrm import cli, errors, texts
from geocrm.db import engine
from geocrm.db.engine import Database
from tests import world_of_reports
from tests.world_of_reports import World

RUN = CliRunner()


@pytest.fixture(scope="module")
def world(new_database: Callable[[], Database]) -> World:
    return world_of_reports.build(new_database())


@pytest.fixture(autouse=True)
def its_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from geocrm import frames

    monkeypatch.setattr(world.database, "dispose", lambda: None)  # it is the tests', not the command's
    monkeypatch.setattr(engine, "open_database", lambda settings: world.database)
    monkeypatch.setattr(frames, "open_database", lambda settings: world.database)


def run(*words: str) -> str:
    done = RUN.invoke(cli.app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_nearby_prints_a_table_or_json() -> None:
    table = run("nearby", "-105.5", "40.0", "--limit", "2").splitlines()
    assert table[0].split()[:4] == ["id", "site_id", "name", "distance_m"]
    assert len(table) == 3
    rows = json.loads(run("nearby", "-105.5", "40.0", "--limit", "2", "--json", "--user", "rita@example.com"))
    assert [row["name"] for row in rows] == [world_of_reports.SCRIPT, world_of_reports.TEMPLATE]
    assert rows[0]["distance_m"] == 0
    assert run("nearby", "0", "0", "--radius-m", "10").strip() == "No customer is near that point."
    wanted = '{"field": "stage", "op": "=", "value": "lead"}'
    found = json.loads(run("nearby", "-105.5", "40.0", "--json", "--filter", wanted))
    assert [row["name"] for row in found] == [world_of_reports.TEMPLATE]


def test_territories() -> None:
    rows = json.loads(run("territory", "at", "-105.5", "40.0", "--json"))
    assert [(row["layer"]["key"], row["basis"], row["reason"]) for row in rows] == [("sales", "polygon", "first")]
    assert (rows[0]["owner"]["name"], rows[0]["since"][-1]) == ("Rita Rep", "Z")
    customer = json.loads(run("nearby", "-105.5", "40.0", "--limit", "1", "--json"))[0]["id"]
    assert "polygon" in run("territory", "of", customer)
    held = json.loads(run("territory", "of", customer, "--json"))
    assert set(rows[0]) | {"site_id", "recorded_at", "superseded_at", "by"} == set(held[0])
    with pytest.raises(errors.NotFound, match="no customer cus_999999999"):
        run("territory", "of", "cus_999999999")
    nowhere = json.loads(run("territory", "at", "0", "0", "--json"))[0]
    assert (nowhere["area"], nowhere["reason"], nowhere["since"], nowhere["basis"]) == (None, None, None, "none")
    assert run("territory", "at", "0", "0").splitlines()[1].split() == ["sales", "none", "-", "-", "none", "-", "-"]
    assert json.loads(run("territory", "at", "-105.5", "40.0", "--as-of", "2001-01-01", "--json")) == []


def test_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "map.html"
    assert "MB" in run("report", "map", "-o", str(file), "--layer", "sales", "--title", "Mine")
    assert "<h1>Mine</h1>" in file.read_text(encoding="utf-8")
    with pytest.raises(errors.Forbidden):
        run("report", "map", "-o", str(tmp_path / "no.html"), "--user", "ana@example.com")
    with pytest.raises(errors.Invalid, match="cannot be written"):
        run("report", "map", "-o", str(tmp_path / "missing" / "map.html"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.html"]


@pytest.mark.parametrize("given", ["{", "[1]", '"x"'])
def test_a_filter_that_is_no_object_is_refused(given: str) -> None:
    with pytest.raises(errors.InvalidFilter):
        texts.read_json(given)


def test_moments() -> None:
    moment = texts.read_moment("2025-12-31")
    assert moment is not None
    assert moment.isoformat() == "2025-12-31T00:00:00+00:00"
    assert texts.read_moment("2025-12-31T09:00:00+02:00") is not None
    assert texts.read_moment(None) is None
    with pytest.raises(errors.Invalid, match="2025-12-31"):
        texts.read_moment("yesterday")


def test_control_characters_do_not_reach_the_terminal() -> None:
    shown = texts.as_table([{"name": "a\x1b[31mred\nline\u202e"}], empty="-")
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2
