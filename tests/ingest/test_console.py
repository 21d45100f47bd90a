"""Imports at a terminal: what is said, where rejected rows go, how it ends."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from geocrm import cli, errors, texts
from geocrm.db import engine
from geocrm.db.engine import Database
from geocrm.errors import GeocrmError

SALES = "Order Number,Order Date,Customer Number,Quantity,Unit Price,Currency\nO-1,2026-09-03,C-1,4,12.50,USD\n"
AREAS = (
    '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"id": "n", "name": "North"}, '
    '"geometry": {"type": "Polygon", "coordinates": [[[-105, 40], [-104, 40], [-104, 41], [-105, 41], [-105, 40]]]}}]}'
)


@pytest.fixture(scope="module")
def company(new_database: Callable[[], Database]) -> Database:
    return new_database()


@pytest.fixture(autouse=True)
def its_database(company: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(company, "dispose", lambda: None)  # it is the tests', not the command's
    monkeypatch.setattr(engine, "open_database", lambda settings: company)
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> tuple[str, str]:
    """What a command printed, and the sentence that it ended with (empty where it ended well)."""
    done = CliRunner().invoke(cli.app, ["import", *words])
    if isinstance(done.exception, GeocrmError):
        return done.output, texts.of_error(done.exception)
    assert done.exit_code == 0, done.output
    return done.output, ""


def write(name: str, content: str) -> str:
    Path(name).write_text(content, encoding="utf-8")
    return name


def batches(database: Database) -> int:
    with database.writing() as session:
        return int(session.scalar(text("SELECT count(*) FROM import_batches")) or 0)


@pytest.mark.parametrize("options", [["--preview"], ["--dry-run"], []])
def test_a_file_of_another_kind_says_what_it_lacks_and_what_it_looks_like(
    options: list[str], company: Database
) -> None:
    before = batches(company)
    _, said = run("customers", write("orders.csv", SALES), *options)
    assert said.splitlines() == [
        "orders.csv cannot be imported as customers: no column was recognised as one of name, last_name, first_name, "
        "contact_name, email.",
        "  Its columns: Order Number, Order Date, Customer Number, Quantity, Unit Price, Currency.",
        "  Say which one it is, for example: --map 'name=Order Number'",
        "  or in a recipe (--recipe FILE): columns: {name: Order Number}",
        "  Its columns look like sales: geocrm import sales orders.csv",
    ]
    assert batches(company) == before


def test_a_file_that_looks_like_nothing_else_suggests_no_kind() -> None:
    _, said = run("customers", write("ab.csv", "a;b\n1;2\n"))
    assert "no column was recognised as external_id nor as one of name, " in said
    assert "--map external_id=a" in said
    assert "look like" not in said


def test_columns_not_taken_are_named_and_can_be_kept(company: Database) -> None:
    file = write("people.csv", "id,name,Colour,Shoe size\nk1,Ann,red,44\n")
    for options in (["--preview"], ["--dry-run"]):
        printed, said = run("customers", file, "--source", "kept", *options)
        assert said == ""
        assert "Not taken: Colour, Shoe size." in printed
        assert "--map attributes.colour=Colour --map 'attributes.shoe_size=Shoe size'" in printed
    printed, _ = run(
        "customers", file, "--source", "kept", "--map", "attributes.colour=Colour", "--map", "attributes.size=Shoe size"
    )
    assert "Not taken" not in printed
    with company.writing() as session:
        held = session.scalar(text("SELECT attributes FROM customers WHERE name = 'Ann'"))
    assert held == {"colour": "red", "size": 44}


def test_a_preview_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = "a very long company name that goes on and on " * 3
    printed, _ = run("customers", write("long.csv", f"id,name,city\n1,{long},{long}\n"), "--preview")
    assert max(map(len, printed.splitlines())) <= 80


def test_nothing_usable_ends_badly_with_the_reasons() -> None:
    rows = "".join(f"{n},Name,x{n},y{n}\n" for n in range(1, 8))
    file = write("bad.csv", f"id,name,lat,lon\n{rows}")
    printed, said = run("customers", file)
    assert said == "Not one row of bad.csv can be used (7 rejected)."
    assert "line 2 and 6 more: lat: not a coordinate: degrees with a decimal point, such as 39.7392" in printed
    assert "Rejected rows are in bad-rejected.csv" in printed
    # one good row is enough to end well
    printed, said = run("customers", write("half.csv", f"id,name,lat,lon\nh1,Good,40,-105\n{rows}"))
    assert said == ""
    assert "line 3 and 6 more" in printed


def test_a_dry_run_leaves_the_rejected_rows_of_an_import_alone(company: Database) -> None:
    Path("mixed-rejected.csv").write_text("of the import", encoding="utf-8")
    before = batches(company)
    printed, said = run("customers", write("mixed.csv", "id,name,lat,lon\n1,A,x,y\n2,B,40,-105\n"), "--dry-run")
    assert said == ""
    assert "The rows that would be rejected are in mixed-would-be-rejected.csv" in printed
    assert Path("mixed-rejected.csv").read_text(encoding="utf-8") == "of the import"
    assert "not a coordinate" in Path("mixed-would-be-rejected.csv").read_text(encoding="utf-8-sig")
    assert batches(company) == before


def test_areas_say_their_layer_and_what_comes_next(company: Database) -> None:
    printed, _ = run("areas", write("north.geojson", AREAS), "--target-layer", "spring-plan", "--dry-run")
    assert "layers publish" not in printed
    printed, _ = run("areas", write("north.geojson", AREAS), "--target-layer", "spring-plan")
    assert "draft 1 of layer spring-plan" in printed
    assert "lay_" not in printed
    commands = [line.strip() for line in printed.splitlines() if line.startswith("  geocrm ")]
    assert commands == [
        "geocrm layers preview spring-plan",
        'geocrm layers publish spring-plan --reason "north.geojson"',
    ]
    runner = CliRunner()
    for command, wrong in (
        ("layers preview spring", "There is no layer spring; `geocrm layers list` lists their keys."),
        ("layers publish sales --reason x", "There is no layer sales; `geocrm layers list` lists their keys."),
    ):
        assert str(runner.invoke(cli.app, command.split()).exception) == wrong
    for command in ("layers preview spring-plan", "layers publish lay_spring-plan --reason north"):
        assert runner.invoke(cli.app, command.split()).exit_code == 0
    nothing_left = runner.invoke(cli.app, ["layers", "preview", "spring-plan"])
    assert "`geocrm import areas FILE --target-layer spring-plan` makes one" in str(nothing_left.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["customers", "nothing.csv"], "There is no file nothing.csv."),
        (["customers", "."], ". is a directory; name a file in it."),
        (["customers", "ok.csv", "--map", "name"], "--map name: write FIELD=COLUMN"),
        (["customers", "ok.csv", "--map", "nam=name"], "in nam: customers have no field “nam”"),
        (["customers", "ok.csv", "--map", "name=Firm"], "no column “Firm”. It has: id, name."),
        (["customers", "ok.csv", "--recipe", "none.yaml"], "The recipe none.yaml cannot be read: "),
        (["customers", "ok.csv", "--save-recipe", "no/where.yaml"], "--save-recipe no/where.yaml cannot be written: "),
        (["undo", "9"], "'9' is no import id; it looks like imp_…"),
        (["undo", "imp_999999"], "There is no import imp_999999; see `geocrm import list`."),
    ],
)
def test_what_is_wrong_is_said_in_words(words: list[str], said: str) -> None:
    write("ok.csv", "id,name\nok1,Fine\n")
    assert said in run(*words)[1]


def test_places_of_faults_are_words() -> None:
    assert texts.place("/filter/all/0/field") == "--filter, in all, entry 1, in field"
    assert texts.place("/recipe/columns/a~1b") == "recipe, in columns, in a/b"
    assert texts.place("") == ""
    one = errors.InvalidFilter(
        "Filter: unknown field", errors=[{"pointer": "/filter/args/0", "detail": "unknown field"}]
    )
    assert texts.of_error(one) == "--filter, in args, entry 1: unknown field"
    many = errors.Invalid("Two things.", errors=[{"pointer": "/lon", "detail": "too far"}] * 12)
    assert texts.of_error(many).splitlines() == ["Two things.", *["  lon: too far"] * 10, "  … and 2 more"]
    assert texts.of_error(errors.NotFound("There is none.")) == "There is none."


def test_lists_are_json_for_scripts() -> None:
    run("areas", write("north.geojson", AREAS), "--target-layer", "json-plan")
    runner = CliRunner()

    def listed(words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(runner.invoke(cli.app, [*words.split(), "--json"]).output)
        return found

    newest = listed("import list")[0]
    assert (newest["kind"], newest["status"], newest["counts"]["new"]) == ("areas", "done", 1)
    layer = next(row for row in listed("layers list") if row["key"] == "json-plan")
    assert (layer["version_in_force"], layer["waiting"]) == (None, [{"version": 1, "status": "draft"}])
    runner.invoke(
        cli.app,
        ["users", "add", "ada@example.com", "--name", "Ada", "--role", "rep", "--team", "North"],
        env={"GEOCRM_NEW_PASSWORD": "a-long-password"},
    )
    assert [(row["email"], row["role"], row["team"]) for row in listed("users list")] == [
        ("ada@example.com", "rep", "North")
    ]


def test_flagged_rows_are_named_and_all_of_many_are_in_a_file() -> None:
    printed, _ = run("customers", write("two.csv", "id,name,email,lat,lon\nf1,Ann,x@@y,40,-105\nf2,Bob,,0,0\n"))
    assert re.search(r"line 2 \(Ann, cus_[0-9]+\): unlikely e-mail address\n", printed)
    assert re.search(r"line 3 \(Bob, cus_[0-9]+\): coordinates at \(0, 0\)\n", printed)
    assert not Path("two-flagged.csv").exists()
    rows = "".join(f"g{n},Cust {n},x@@y\n" for n in range(7))
    printed, _ = run("customers", write("many.csv", f"id,name,email\n{rows}"))
    assert "… and 2 more: all of them are in many-flagged.csv." in printed
    kept = Path("many-flagged.csv").read_text(encoding="utf-8-sig").splitlines()
    assert (kept[0], len(kept)) == ("_line,_flags,customer_id,name", 8)
    assert re.fullmatch(r"8,email,cus_[0-9]+,Cust 6", kept[-1])


def test_what_is_rejected_of_a_rejected_file_gets_the_next_number() -> None:
    run("customers", write("cl-rejected.csv", "id,name,lat,lon\n1,A,x,y\n2,B,40,-105\n"))
    assert Path("cl-rejected-2.csv").exists()
    run("customers", write("cl-rejected-2.csv", "id,name,lat,lon\n1,A,x,y\n2,B,40,-105\n"), "--dry-run")
    assert Path("cl-would-be-rejected-3.csv").exists()


def test_a_column_type_is_the_kind_where_it_says_nothing_else() -> None:
    printed, _ = run("customers", write("t1.csv", "id,name,Type\nt1,Ann,Person\nt2,Hut,Company\n"), "--dry-run")
    assert "Not taken" not in printed
    printed, _ = run("customers", write("t2.csv", "id,name,Type\nt1,Ann,Person\nt2,Hut,Partner\n"), "--dry-run")
    assert "Not taken: Type." in printed
