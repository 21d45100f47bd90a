"""Importing customers: upsert, sites, contacts, parents, rejected rows, dry run."""

from __future__ import annotations

import csv
import io
import random

import pytest
from sqlalchemy import text

from geocrm.errors import Conflict, Forbidden, Invalid, InvalidFile
from geocrm.ingest import batches, load, previews, undo
from tests import makers
from tests.ingest.conftest import Desk

SHOP = """Customer ID,Name,Status,Street,City,State,Zip,Country,Lat,Lon,Email,Phone
1,Alpha GmbH,Customer,Hauptstr. 1,Berlin,BE,10115,Germany,52.53,13.38,info@alpha.de,+49 30 1234567
2,Beta Ltd,Lead,High Street 2,London,,EC1A,United Kingdom,51.52,-0.1,beta@example.co.uk,
3,Gamma SARL,Prospect,Rue 3,Paris,,75001,FR,48.86,2.34,,
"""


def test_first_time_new_second_time_unchanged(desk: Desk) -> None:
    first = desk.run(SHOP, "customers", source="shop")
    assert first["status"] == "done"
    assert {k: first["counts"][k] for k in ("new", "changed", "unchanged", "rejected", "flagged")} == {
        "new": 3,
        "changed": 0,
        "unchanged": 0,
        "rejected": 0,
        "flagged": 0,
    }
    before = desk.snapshot()
    assert len(before["customers"]) == len(before["sites"]) == len(before["site_lookup"]) == 3
    assert desk.counts(SHOP, "customers", source="shop") == (0, 0, 3, 0)
    assert desk.snapshot() == before
    assert desk.rows(
        "SELECT c.name, c.stage, s.country, s.placement, s.location_precision, ST_X(s.location), s.is_primary, "
        "k.email, k.phone "
        "FROM customers c JOIN sites s ON s.customer_id = c.id LEFT JOIN contacts k ON k.customer_id = c.id "
        "ORDER BY c.id"
    ) == [
        ("Alpha GmbH", "active", "DE", "placed", "given", 13.38, True, "info@alpha.de", "+49 30 1234567"),
        ("Beta Ltd", "lead", "GB", "placed", "given", -0.1, True, "beta@example.co.uk", None),
        ("Gamma SARL", "prospect", "FR", "placed", "given", 2.34, True, None, None),
    ]


def test_the_same_ids_of_another_source_are_other_customers(desk: Desk) -> None:
    desk.run(SHOP, "customers", source="shop")
    assert desk.counts(SHOP, "customers", source="erp") == (3, 0, 0, 0)
    assert desk.one("SELECT count(*) FROM customers") == 6


def test_only_what_differs_is_changed(desk: Desk) -> None:
    desk.run(SHOP, "customers", source="shop")
    edited = SHOP.replace("Beta Ltd,Lead", "Beta Limited,Customer").replace("48.86,2.34", "48.87,2.35")
    assert desk.counts(edited, "customers", source="shop") == (0, 2, 1, 0)
    assert desk.rows("SELECT name, stage, version FROM customers ORDER BY id") == [
        ("Alpha GmbH", "active", 1),
        ("Beta Limited", "active", 2),
        ("Gamma SARL", "prospect", 2),
    ]
    assert (
        desk.one("SELECT ST_AsText(location) FROM site_lookup ORDER BY customer_id DESC LIMIT 1") == "POINT(2.35 48.87)"
    )


def test_columns_that_a_file_does_not_have_stay(desk: Desk) -> None:
    desk.run(SHOP, "customers", source="shop")
    assert (
        desk.counts("Customer ID,Industry\n1,Retail\n3,\n", "customers", source="shop", constants={"name": "unused"})[1]
        >= 1
    )
    desk.run(SHOP, "customers", source="shop")
    assert desk.rows("SELECT industry FROM customers ORDER BY id") == [("Retail",), (None,), (None,)]
    assert desk.one("SELECT count(*) FROM sites WHERE placement = 'placed'") == 3


def test_a_repeated_id_with_other_addresses_makes_sites(desk: Desk) -> None:
    file = (
        "Customer ID,Name,Street,City,Country,Lat,Lon,Contact,Email\n"
        "7,Chain,Main St 1,Denver,US,39.74,-104.99,Ann,ann@chain.example\n"
        "7,Chain,Side St 2,Boulder,US,40.01,-105.27,,\n"
        "7,Chain,Main St 1,Denver,US,39.74,-104.99,Bob,bob@chain.example\n"
        "8,Single,Elm 3,Aurora,US,39.73,-104.83,,\n"
    )
    assert desk.counts(file, "customers", source="s") == (4, 0, 0, 0)
    assert desk.rows(
        "SELECT c.name, s.city, s.is_primary FROM customers c JOIN sites s ON s.customer_id = c.id ORDER BY s.id"
    ) == [
        ("Chain", "Denver", True),
        ("Chain", "Boulder", False),
        ("Single", "Aurora", True),
    ]
    assert desk.rows("SELECT name, is_primary FROM contacts ORDER BY id") == [("Ann", True), ("Bob", False)]
    before = desk.snapshot()
    shuffled = file.splitlines()
    shuffled[1:] = reversed(shuffled[1:])
    assert desk.counts("\n".join(shuffled), "customers", source="s")[0] == 0
    assert desk.snapshot()["sites"] == before["sites"]
    moved = file.replace("Side St 2,Boulder", "Side St 20,Boulder") + "7,Chain,Third 3,Golden,US,39.75,-105.22,,\n"
    new, changed, unchanged, _ = desk.counts(moved, "customers", source="s")
    assert (new, changed + unchanged) == (0, 5)
    assert desk.rows("SELECT line1 FROM sites ORDER BY id") == [
        ("Main St 1",),
        ("Side St 20",),
        ("Elm 3",),
        ("Third 3",),
    ]


def test_sites_with_ids_of_their_own_follow_their_id(desk: Desk) -> None:
    file = "Customer ID,Name,Site ID,Street,City,Country\n1,A,x,One 1,Denver,US\n1,A,y,Two 2,Denver,US\n"
    desk.run(file, "customers", source="s")
    ids = desk.rows("SELECT external_id, site_id FROM site_sources ORDER BY 1")
    swapped = file.replace("One 1", "Two 2", 1).replace("y,Two 2", "y,One 1")
    assert desk.counts(swapped, "customers", source="s") == (0, 2, 0, 0)
    assert desk.rows("SELECT external_id, site_id FROM site_sources ORDER BY 1") == ids
    assert desk.rows("SELECT line1 FROM sites ORDER BY id") == [("Two 2",), ("One 1",)]


def test_parents_owners_and_persons(desk: Desk) -> None:
    with desk.database.writing() as session:
        rep = makers.make_user(session, email="ann@example.com", name="Ann Rep").id
    file = (
        "id,name,first name,last name,parent,owner,email\n"
        "1,Holding,,,,ann@example.com,\n2,Daughter,,,1,Nobody,\n3,,Eva,Doe,,Ann "
        "Rep,eva@doe.example\n4,Loop,,,5,,\n5,Pool,,,4,,\n6,Lost,,,99,,\n"
    )
    summary = desk.run(file, "customers", source="s")
    assert summary["counts"]["flags"] == {"owner_unknown": 1, "parent_circular": 2, "parent_unknown": 1}
    assert desk.rows(
        "SELECT c.name, c.kind, c.owner_id, p.name FROM customers c LEFT "
        "JOIN customers p ON p.id = c.parent_id ORDER BY c.id"
    ) == [
        ("Holding", "organisation", rep, None),
        ("Daughter", "organisation", None, "Holding"),
        ("Eva Doe", "person", rep, None),
        ("Loop", "organisation", None, None),
        ("Pool", "organisation", None, None),
        ("Lost", "organisation", None, None),
    ]


def test_unknown_owners_and_empty_stages_push_nothing_out(desk: Desk) -> None:
    with desk.database.writing() as session:
        rep = makers.make_user(session, email="bob@example.com").id
    desk.run("id,name,stage,owner,parent\n1,A,lapsed,bob@example.com,2\n2,B,lead,,\n", "customers", source="s")
    before = desk.snapshot()
    again = desk.run("id,name,stage,owner,parent\n1,A,,who@example.com,77\n2,B,,,\n", "customers", source="s")
    assert (again["counts"]["unchanged"], again["counts"]["flagged"]) == (2, 1)
    assert desk.snapshot() == before
    assert desk.one("SELECT owner_id FROM customers WHERE name = 'A'") == rep


def test_doubtful_points_are_flagged_and_in_no_lookup(desk: Desk) -> None:
    file = (
        "id,name,country,lat,lon\n1,zero,DE,0,0\n"
        "2,swapped,DE,13.38,52.53\n3,abroad,DE,40.7,-74\n4,good,DE,52.53,13.38\n"
        "5,impossible,DE,95,200\n6,half,DE,52.5,\n7,nan,DE,nan,13\n8,inf,DE,inf,13\n"
    )
    summary = desk.run(file, "customers", source="s")
    assert summary["counts"]["flags"] == {"out_of_country": 1, "swapped": 1, "zero": 1}
    assert summary["counts"]["rejected"] == 4
    assert desk.rows("SELECT c.name FROM site_lookup l JOIN customers c ON c.id = l.customer_id") == [("good",)]
    reasons = {row["id"]: row["_reason"] for row in csv.DictReader(io.StringIO(desk.rejected(summary)))}
    assert "no place on earth" in reasons["5"]
    assert "missing" in reasons["6"]
    assert "not a coordinate" in reasons["7"]
    assert "not a coordinate" in reasons["8"]


def test_addresses_without_coordinates_are_placed_or_wait(desk: Desk) -> None:
    file = "id,name,city,zip,country\n1,A,Denver,80202,US\n2,B,Nowhereville,99999,US\n3,C,,,US\n"
    desk.run(file, "customers", source="s")
    assert desk.rows(
        "SELECT c.name, s.placement, s.location_precision FROM customers c "
        "LEFT JOIN sites s ON s.customer_id = c.id ORDER BY c.id"
    ) == [
        ("A", "placed", "postcode"),
        ("B", "pending", None),
        ("C", None, None),
    ]
    before = desk.snapshot()
    assert desk.counts(file, "customers", source="s") == (0, 0, 3, 0)
    assert desk.snapshot() == before
    # a person's better point survives the next import while the address stays
    desk.write(
        "UPDATE sites SET location = ST_SetSRID(ST_MakePoint(-105, 39.7), 4326), location_precision = 'rooftop', "
        "precision_m = 10 "
        "WHERE city = 'Denver'"
    )
    assert desk.counts(file, "customers", source="s") == (0, 0, 3, 0)
    assert desk.counts(file.replace("Denver,80202", "Boulder,80301"), "customers", source="s") == (0, 1, 2, 0)
    assert desk.one("SELECT location_precision FROM sites WHERE city = 'Boulder'") == "postcode"


def test_rejected_rows_come_back_ready_to_mend(desk: Desk) -> None:
    file = (
        'id,name,stage,lon,lat,phone,note\n1,"=cmd|x",customer,8.5,47.4,+41 44 111 22 33,-12.5\n'
        "2,B,no such stage,-122.4,37.8,-5,x\n3,C,customer,abc,1,,\n,D,customer,1,1,,\n5,E\n"
    )
    summary = desk.run(file, "customers", source="s", columns={"attributes.note": "note"})
    assert summary["counts"]["rejected"] == 4
    assert summary["counts"]["new"] == 1
    text = desk.rejected(summary)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["id", "name", "stage", "lon", "lat", "phone", "note", "_line", "_column", "_reason"]
    assert [(row["_line"], row["_column"]) for row in rows] == [("3", "stage"), ("4", "lon"), ("5", "id"), ("6", "")]
    assert rows[0]["lon"] == "-122.4"
    assert rows[0]["phone"] == "-5"
    assert "the row has 2 fields, the header has 7 columns" in rows[3]["_reason"]
    mended = text.replace("no such stage", "lead").replace("abc", "1").replace("\r\n,D,", "\r\n4,D,")
    again = desk.run(mended, "customers", source="s", columns={"attributes.note": "note"})
    assert (again["counts"]["new"], again["counts"]["rejected"]) == (4, 0)
    assert desk.rows("SELECT name FROM customers ORDER BY id") == [("=cmd|x",), ("B",), ("C",), ("D",), ("E",)]


def test_a_dry_run_changes_nothing_and_says_everything(desk: Desk) -> None:
    before = desk.snapshot()
    number = desk.begin(desk.file(SHOP + "4,D,nonsense,,,,,,,,,\n"), "customers", source="shop")
    trial = load.run(number, database=desk.database, dry_run=True)
    assert (trial["status"], trial["dry_run"], trial["counts"]["new"], trial["counts"]["rejected"]) == (
        "preview",
        True,
        3,
        1,
    )
    assert desk.snapshot() == before
    assert "nonsense" in desk.rejected(trial)
    done = load.run(number, database=desk.database)
    assert (done["status"], done["dry_run"], done["counts"]["new"]) == ("done", False, 3)
    assert list(desk.database.settings.uploads.iterdir()) == []
    assert load.run(number, database=desk.database) == done


def test_preview_shows_columns_types_and_samples(desk: Desk) -> None:
    number = desk.begin(desk.file(SHOP), "customers", source="shop")
    with desk.database.writing() as session:
        shown = previews.preview(session, number, uploads=desk.database.settings.uploads)
    by_column = {column["column"]: column for column in shown["columns"]}
    assert (by_column["Zip"]["field"], by_column["Zip"]["type"], by_column["Zip"]["samples"]) == (
        "postal_code",
        "text",
        ["10115", "EC1A", "75001"],
    )
    assert by_column["Lat"]["type"] == "lat"
    assert shown["missing"] == []
    assert shown["rows"][0]["values"]["country"] == "DE"
    with desk.database.writing() as session:
        batches.change_recipe(session, number, {"columns": {"name": "City"}})
        assert (
            previews.preview(session, number, uploads=desk.database.settings.uploads)["rows"][0]["values"]["name"]
            == "Berlin"
        )


def test_what_a_file_lacks_is_named(desk: Desk) -> None:
    with pytest.raises(Invalid, match="lacks external_id"):
        desk.run("name,city\nA,B\n", "customers")
    assert desk.one("SELECT status FROM import_batches") == "failed"
    with pytest.raises(Invalid, match="has no column “Kunde”"):
        desk.run("name,city\nA,B\n", "customers", columns={"external_id": "Kunde"})


def test_managers_import_their_team_only(desk: Desk) -> None:
    with desk.database.writing() as session:
        team = makers.make_team(session, "North").id
        boss = makers.make_user(session, "manager", team_id=team)
        rep = makers.make_user(session, "rep", team_id=team)
        other = makers.make_user(session, "rep")
        actor, marketer = (
            makers.actor_of(session, boss),
            makers.actor_of(session, makers.make_user(session, "marketer")),
        )
        boss_id, rep_email, other_email = boss.id, rep.email, other.email
    desk.run(f"id,name,owner\n1,Theirs,{other_email}\n", "customers", source="s")
    summary = desk.run(
        f"id,name,owner\n1,Mine now,\n2,Ours,{rep_email}\n3,Not ours,{other_email}\n4,Nobody's,\n",
        "customers",
        actor,
        source="s",
    )
    assert (summary["counts"]["new"], summary["counts"]["rejected"]) == (3, 1)
    assert desk.rows("SELECT name FROM customers ORDER BY id") == [("Theirs",), ("Ours",), ("Not ours",), ("Nobody's",)]
    assert desk.one("SELECT owner_id FROM customers WHERE name = 'Nobody''s'") == boss_id
    assert desk.one("SELECT owner_id FROM customers WHERE name = 'Not ours'") == boss_id
    assert summary["counts"]["flags"] == {"owner_unknown": 1}
    with pytest.raises(Forbidden):
        desk.run("id,name\n1,x\n", "customers", marketer)


def test_a_manager_reads_of_other_teams_customers_what_is_said_of_unknown_ones(desk: Desk) -> None:
    with desk.database.writing() as session:
        boss = makers.make_user(session, "manager", team_id=makers.make_team(session, "West").id)
        actor = makers.actor_of(session, boss)
        email = boss.email
    desk.run(f"id,name,owner\n1,Theirs,\n2,Ours,{email}\n", "customers", source="s")
    theirs = desk.one("SELECT id FROM customers WHERE name = 'Theirs'")

    def reasons(kind: str, file: str, **recipe: bool) -> list[str]:
        summary = desk.run(file, kind, actor, source="s", **recipe)  # type: ignore[arg-type]
        rows = list(csv.DictReader(io.StringIO(desk.rejected(summary))))
        return [f"{row['_column']}: {row['_reason'].replace(row['customer'], 'X')}" for row in rows]

    names = ("1", "nobody", f"cus_{theirs}", f"cus_{theirs + 100000}")
    sales = "id,customer,date,amount,currency\n" + "".join(f"{name},{name},2026-01-01,5,EUR\n" for name in names)
    calls = "id,customer,date,kind\n" + "".join(f"{name},{name},2026-01-01,call\n" for name in names)
    for kind, file in (("sales", sales), ("interactions", calls)):
        said = reasons(kind, file)
        assert len(said) == 4, said
        assert len(set(said)) == 1, said
    # our own ids are never created, whether anybody has them or not
    said = reasons("sales", sales, create_customers=True)
    assert len(said) == 3
    assert len(set(said)) == 1, said
    assert desk.rows("SELECT name FROM customers ORDER BY id") == [("Theirs",), ("Ours",), ("nobody",)]
    parents = desk.run("id,name,parent\n5,A,1\n6,B,none\n7,C,2\n", "customers", actor, source="s")
    assert parents["counts"]["flags"] == {"parent_unknown": 2}
    # a sale of another team's customer stays there
    desk.run("id,customer,date,amount,currency\nS,1,2026-01-01,5,EUR\n", "sales", source="s")
    assert reasons("sales", "id,customer,date,amount,currency\nS,2,2026-01-01,5,EUR\n") == [
        "id: you cannot import a sale of this id"
    ]


def test_an_import_whose_file_is_gone_fails_and_says_so(desk: Desk) -> None:
    number = desk.begin(desk.file(SHOP), "customers", source="shop")
    kept = desk.database.settings.uploads / desk.one("SELECT file_path FROM import_batches")
    kept.unlink()
    with pytest.raises(InvalidFile, match="file is gone; upload it again"):
        load.run(number, database=desk.database)
    ((status, error),) = desk.rows("SELECT status, error FROM import_batches")
    assert status == "failed"
    assert error["detail"] == "The uploaded file is gone; upload it again."
    # one that runs is left alone
    with desk.database.writing() as session:
        session.execute(text("UPDATE import_batches SET status = 'running'"))
    with desk.database.writing() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": load._LOCK + number})
        with pytest.raises(Conflict, match="running already"):
            load.run(number, database=desk.database)
    assert desk.one("SELECT status FROM import_batches") == "running"


def test_undo_restores_every_current_row(desk: Desk) -> None:
    rng = random.Random(seed := 20261121)
    print(f"seed {seed}")
    desk.run(SHOP, "customers", source="shop")
    before = desk.snapshot()
    edited = (
        SHOP.replace("Beta Ltd,Lead", "Beta Limited,Customer")
        .replace("48.86,2.34", "48.87,2.35")
        .replace("info@", "new@")
    )
    edited += "1,Alpha GmbH,Customer,Zweitstr. 9,Hamburg,HH,20095,Germany,53.55,10,,\n"
    edited += "".join(
        f"{i},New {i},Lead,,,,,US,{rng.uniform(30, 45):.5f},{rng.uniform(-110, -80):.5f},n{i}@x.example,\n"
        for i in range(10, 40)
    )
    second = desk.run(edited, "customers", source="shop")
    assert second["counts"]["changed"] == 4
    assert desk.snapshot() != before
    desk.write("INSERT INTO segment_members SELECT id, 1, 1 FROM customers")
    desk.write("INSERT INTO scores SELECT id, 1, '{0.5}' FROM customers")
    desk.write("INSERT INTO audience_members SELECT id, 1 FROM customers")
    desk.write("INSERT INTO exposures SELECT id, 1, 1, now(), false, 'off_1', 'cus_1' FROM customers")
    desk.write(
        "WITH made AS (INSERT INTO automations (name, trigger, event_type, geofence_tag, action, title, due_days)"
        " VALUES ('Call', 'event', 'geofence.entered', 'shops', 'task', 'Call', 0) RETURNING id)"
        " INSERT INTO automation_runs (automation_id, automation_version, customer_id, moment)"
        " SELECT made.id, 1, c.id, now() FROM customers c, made"
    )
    desk.write("INSERT INTO tasks (customer_id, title, assignee_id, due_at) SELECT id, 'Call', 1, now() FROM customers")
    undone = desk.undo(second)
    assert undone["status"] == "undone"
    for table in (
        "segment_members",
        "scores",
        "audience_members",
        "exposures",
        "automation_runs",
    ):  # of customers that are gone nothing derived stays
        assert desk.rows(f"SELECT customer_id FROM {table} ORDER BY 1") == desk.rows(
            "SELECT id FROM customers ORDER BY 1"
        )
        desk.write(f"DELETE FROM {table}")
    assert desk.snapshot() == before
    with pytest.raises(Conflict, match="undone"):
        desk.undo(second)
    # and once more, as if it had never been
    assert desk.run(edited, "customers", source="shop")["counts"]["new"] == second["counts"]["new"]


def test_undo_is_refused_where_rows_were_edited_since(desk: Desk) -> None:
    first = desk.run(SHOP, "customers", source="shop")
    ids = [row[0] for row in desk.rows("SELECT id FROM customers ORDER BY id")]
    desk.write("UPDATE customers SET name = 'Edited', version = version + 1 WHERE id = :id", id=ids[0])
    desk.write(
        "INSERT INTO sales (customer_id, occurred_at, currency, amount) VALUES (:id, now(), 'EUR', 5)", id=ids[1]
    )
    desk.write(
        "INSERT INTO redemptions (customer_id, offer_id, version, idempotency_key, redeemed_at)"
        " VALUES (:id, 1, 1, 'k', now())", id=ids[2],
    )  # fmt: skip
    before = desk.snapshot()
    with pytest.raises(Conflict) as refused:
        desk.undo(first)
    assert [(e["pointer"], e["detail"]) for e in refused.value.errors] == [
        (f"/cus_{ids[0]}", "edited since"),
        (f"/cus_{ids[1]}", "has sales"),
        (f"/cus_{ids[2]}", "has redeemed offers"),
    ]
    desk.write("DELETE FROM redemptions")
    desk.write(
        "INSERT INTO tasks (customer_id, title, assignee_id, due_at, done_at) VALUES (:id, 'Call', 1, now(), now())",
        id=ids[2],
    )
    with pytest.raises(Conflict) as refused:
        desk.undo(first)
    assert refused.value.errors[-1]["detail"] == "has tasks that were done"
    desk.write("DELETE FROM tasks")
    assert desk.snapshot() == before
    with desk.database.writing() as session, pytest.raises(Conflict):
        undo.check(session, int(first["id"][4:]))
    assert desk.undo(first, skip_conflicts=True)["counts"]["left_alone"] == 2
    assert desk.rows("SELECT id FROM customers ORDER BY id") == [(ids[0],), (ids[1],)]
    assert desk.one("SELECT count(*) FROM site_lookup") == 2


def test_undo_in_the_wrong_order_is_a_conflict(desk: Desk) -> None:
    first = desk.run(SHOP, "customers", source="shop")
    second = desk.run(SHOP.replace("Alpha", "Omega"), "customers", source="shop")
    with pytest.raises(Conflict) as refused:
        desk.undo(first)
    assert refused.value.errors[0]["detail"] == f"changed by import {second['id']}"
    desk.undo(second)
    desk.undo(first)
    assert desk.one("SELECT count(*) FROM customers") == 0
    assert all(not rows for rows in desk.snapshot().values())
