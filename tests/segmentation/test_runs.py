"""Runs of segmentations: reproducible, cancelled and killed without a trace, published, reverted, compared."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from geocrm import access, filters, jobs
from geocrm.access import SYSTEM
from geocrm.api.errors import translate
from geocrm.crm import customers
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import Conflict, Invalid, InvalidFilter, NotFound
from geocrm.segmentation import console, features, published, publishing, rfm, rules, runs, segmentations, statistics
from geocrm.spatial import lookup
from tests.makers import make_customer, make_place, make_sale

CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
PEOPLE = 240


def fill(session: Session, people: int = PEOPLE, seed: int = 7) -> list[int]:
    """Customers around two towns: those near the shop buy often and online, the others seldom and in shops."""
    dice = np.random.default_rng(seed)
    make_place(session, -105.0, 39.7)
    made = []
    for number in range(people):
        near = number % 2 == 0
        lon, lat = (-105.0, 39.7) if near else (-107.9, 37.3)
        customer = make_customer(session, lon + dice.normal(0, 0.02), lat + dice.normal(0, 0.02))
        made.append(customer.id)
        if number % 12 == 11:
            continue  # never bought
        rate, leaves = dice.gamma(3.5, 1 / 60), dice.beta(0.8, 3)
        day = dice.uniform(300, 700)  # before the cutoff
        for _ in range(60):
            make_sale(
                session,
                customer,
                f"{dice.gamma(2, 1 / rate):.2f}",
                occurred_at=CUTOFF - timedelta(days=day),
                channel="online" if near else "shop",
            )
            day -= dice.exponential(20 if near else 90)
            if day < 1 or dice.random() < leaves:
                break
    session.flush()
    lookup.refresh(session, made)
    return made


@pytest.fixture(scope="module")
def company(new_database: Callable[[], Database]) -> Database:
    database = new_database()
    with database.writing() as session:
        fill(session)
    return database


def create(database: Database, key: str, method: str, **parameters: Any) -> int:
    with database.writing() as session:
        return segmentations.create_segmentation(
            session, actor=SYSTEM, key=key, name=key.title(), method=method, parameters=parameters
        ).id


def run(database: Database, segmentation_id: int, **more: Any) -> models.SegmentationRun:
    """A run, done by the worker's own code."""
    with database.writing() as session:
        rule = segmentations.get_segmentation(session, segmentation_id).method == "rule"
        given = more if rule else {"cutoff": CUTOFF} | more
        started = runs.start(session, segmentation_id, actor=SYSTEM, **given)
    jobs.run_queued(database)
    with database.writing() as session:
        return session.get_one(models.SegmentationRun, started.id)


def members(database: Database, run_id: int) -> dict[int, int]:
    with database.writing() as session:
        rows = session.execute(
            text("SELECT customer_id, segment_id FROM segment_members WHERE run_id = :id"), {"id": run_id}
        )
        return {row.customer_id: row.segment_id for row in rows}


def names(database: Database) -> dict[int, str]:
    with database.writing() as session:
        return {row.id: row.name for row in session.execute(text("SELECT id, name FROM segments"))}


def on_lookups(database: Database) -> dict[int, int | None]:
    with database.writing() as session:
        return {row.customer_id: row.segment_id for row in session.execute(text("SELECT * FROM site_lookup"))}


def publish(database: Database, segmentation_id: int, number: int) -> publishing.Published:
    with database.writing() as session:
        return publishing.publish(session, segmentation_id, number, actor=SYSTEM)


def test_rfm_from_run_to_tile(company: Database) -> None:
    """Members are those of the pure method on one frame; published and active they are on lookups and tiles."""
    which = create(company, "rfm", "rfm")
    done = run(company, which)
    assert (done.status, done.error) == ("done", None)
    with company.writing() as session:
        frame = pd.concat(
            features.read_features(session, CUTOFF, ["recency_days", "frequency", "monetary_value"], chunk_rows=1000)
        )
    expected = rfm.score(frame, rfm.cut_by_quantiles(frame))
    wanted = expected["segment"].dropna().astype(str).to_dict()
    held, said = members(company, done.id), names(company)
    assert {customer: said[segment] for customer, segment in held.items()} == wanted
    assert done.customers == len(wanted) == PEOPLE - PEOPLE // 12
    assert not any(on_lookups(company).values()), "nothing is shown before it is published"

    first = publish(company, which, done.number)
    assert (first.run, first.former, first.lookup_rows) == (1, None, 0)
    with company.writing() as session:
        before = lookup.version(session)
        moved = publishing.activate(session, which, actor=SYSTEM)
        assert moved.lookup_rows == len(wanted)
        assert lookup.version(session) != before, "tiles are asked for anew"
    assert {customer: segment for customer, segment in on_lookups(company).items() if segment} == held
    with company.writing() as session:
        cells = session.execute(
            text(
                "SELECT segment_id, sum(n) AS n FROM (SELECT segment_id, n FROM site_cells WHERE level = 8 UNION ALL"
                " SELECT segment_id, n FROM site_cell_deltas WHERE level = 8) c GROUP BY 1 HAVING sum(n) <> 0"
            )
        )
        counted = {row.segment_id: row.n for row in cells}
    sizes = pd.Series(held).value_counts().to_dict()
    assert counted == sizes | {None: PEOPLE // 12}
    with company.writing() as session:
        champions = next(i for i, name in said.items() if name == "Champions")
        for wanted_filter in (
            {"field": "segment", "op": "=", "value": f"seg_{champions}"},
            {"field": "segments.rfm", "op": "in", "value": [f"seg_{champions}"]},
        ):
            parsed = filters.parse(wanted_filter)
            with access.as_user(session, SYSTEM):
                found = customers.find(session, SYSTEM, parsed, limit=500)
                counted_rows = customers.count(session, SYSTEM, parsed)["customers"]
            assert len(found) == counted_rows == sizes[champions]
        best = filters.parse({"field": "scores.rfm.m", "op": ">=", "value": 5})
        with access.as_user(session, SYSTEM):
            assert customers.count(session, SYSTEM, best)["customers"] == (expected["m"] == 5).sum()
            segments, scores = published.of_customer(session, int(frame.index[0]))
        assert segments[0]["segment"]["name"] == wanted[frame.index[0]]
        assert scores["rfm"] == expected.loc[frame.index[0], ["r", "f", "m"]].to_dict()


def test_the_same_comes_back_bit_for_bit(company: Database) -> None:
    """Same data, seed, parameters and code: same members and scores, whatever the size of the chunks."""
    for method, parameters in (("groups", {"k": 2, "dial": 0.5}), ("value", {}), ("rfm", {})):
        which = create(company, f"again-{method}", method, **parameters)
        done = [run(company, which, seed=4) for _ in range(2)]
        with company.writing() as session:
            started = runs.start(session, which, actor=SYSTEM, cutoff=CUTOFF, seed=4)
        runs.execute(company, started.id, chunk_rows=37)
        with company.writing() as session:
            done.append(session.get_one(models.SegmentationRun, started.id))
        assert [one.status for one in done] == ["done"] * 3, [one.error for one in done]
        first, second, chunked = done
        assert first.result_version == second.result_version
        assert first.data_version == second.data_version
        assert first.code_version == second.code_version == runs.code_version()
        held = [set(members(company, one.id).items()) for one in done]
        assert held[0] == held[1] == held[2]
        with company.writing() as session:
            rows = session.execute(text("SELECT run_id, customer_id, numbers FROM scores ORDER BY customer_id")).all()
        scores = {
            one.id: [(row.customer_id, np.float32(row.numbers).tobytes()) for row in rows if row.run_id == one.id]
            for one in done
        }
        assert scores[first.id] == scores[second.id] == scores[chunked.id]
        assert bool(scores[first.id]) == (method != "groups")


def test_new_data_are_another_version(company: Database) -> None:
    which = create(company, "versions", "rfm")
    before = run(company, which)
    with company.writing() as session:
        buyer = session.scalars(text("SELECT customer_id FROM sales ORDER BY 1 LIMIT 1")).one()
        customer = session.get_one(models.Customer, buyer)
        sale = make_sale(session, customer, "9999", occurred_at=CUTOFF - timedelta(days=1))
        statistics.tell_added(session, buyer, sale.id)
    after = run(company, which)
    assert before.data_version != after.data_version
    with company.writing() as session:
        late = make_sale(session, customer, "5", occurred_at=CUTOFF + timedelta(days=1))
        statistics.tell_added(session, buyer, late.id)
    assert run(company, which).data_version == after.data_version, "what is after the cutoff is not read"


def test_groups_by_location_and_behaviour(company: Database) -> None:
    """The two kinds of the world are found; drawn again they are the same segments, and a name given stays."""
    which = create(company, "groups", "groups", k=2, dial=0.5)
    first = run(company, which)
    assert first.status == "done", first.error
    held = members(company, first.id)
    kinds: dict[int, set[int]] = {}
    for number, customer in enumerate(sorted(on_lookups(company))):
        if customer in held:
            kinds.setdefault(held[customer], set()).add(number % 2)
    assert sorted(map(sorted, kinds.values())) == [[0], [1]]
    said = first.results["segments"]
    assert sum(row["size"] for row in said) == len(held) == PEOPLE - PEOPLE // 12
    assert any("shop" in row["sentence"] for row in said), said
    publish(company, which, first.number)
    with company.writing() as session:
        segmentations.rename_segment(session, said[0]["segment"], "Regulars", actor=SYSTEM)
    again = run(company, which, seed=99)
    assert members(company, again.id) == held, "identity is kept whatever the order of the labels"
    assert again.results["drift"]["moved"] == 0
    assert again.results["drift"]["against_run"] == first.number
    assert {row["kind"] for row in again.results["drift"]["lineages"]} == {"same"}
    publish(company, which, again.number)
    assert names(company)[said[0]["segment"]] == "Regulars"


def test_value_has_tiers_by_share_of_the_worth(company: Database) -> None:
    which = create(company, "value", "value", horizon_weeks=26)
    done = run(company, which)
    assert done.status == "done", done.error
    query = (
        "SELECT m.segment_id, s.numbers FROM segment_members m JOIN scores s USING (customer_id, run_id)"
        " WHERE run_id = :id"
    )
    with company.writing() as session:
        rows = session.execute(text(query), {"id": done.id}).all()
    worth = np.array([row.numbers[done.score_names.index("worth")] for row in rows])
    alive = np.array([row.numbers[done.score_names.index("p_alive")] for row in rows])
    tier_of = {row["segment"]: row["label"] for row in done.results["segments"]}
    tiers = np.array([tier_of[row.segment_id] for row in rows])
    assert ((alive >= 0) & (alive <= 1)).all()
    assert (worth >= 0).all()
    for better, worse in ((0, 1), (1, 2)):
        assert worth[tiers == better].min() >= worth[tiers == worse].max()
    total = done.results["total"]
    assert worth.sum() == pytest.approx(total["worth"], rel=1e-5)
    assert total["low"] < total["worth"] < total["high"]
    shares = [worth[tiers <= tier].sum() / worth.sum() for tier in (0, 1)]
    step = worth.max() / worth.sum()
    assert 0.5 <= shares[0] <= 0.5 + step
    assert 0.8 <= shares[1] <= 0.8 + step


def test_rules_divide_by_the_first_that_holds(company: Database) -> None:
    base = create(company, "base", "rfm")
    publish(company, base, run(company, base).number)
    rich = {"field": "scores.base.m", "op": "=", "value": 5}
    bought = {"field": "sales.count", "op": ">=", "value": 1}
    which = create(
        company, "rules", "rule", rules=[{"name": "Rich", "filter": rich}, {"name": "Buyers", "filter": bought}]
    )
    done = run(company, which)
    assert done.status == "done", done.error
    sizes = {row["name"]: row["size"] for row in done.results["segments"]}
    with company.writing() as session, access.as_user(session, SYSTEM):
        counted = rules.preview(session, SYSTEM, rich)
        buyers = rules.preview(session, SYSTEM, bought)
    assert counted.exact
    assert sizes == {"Rich": counted.customers, "Buyers": buyers.customers - counted.customers}
    assert counted.sentence == "m (base) 5"
    with company.writing() as session:
        segmentations.edit_segmentation(
            session, which, actor=SYSTEM, parameters={"rules": [{"name": "Buyers", "filter": bought}]}
        )
    other = run(company, which)
    kept = {row["name"]: row["segment"] for row in done.results["segments"]}
    assert [row["segment"] for row in other.results["segments"]] == [kept["Buyers"]], "known again by its name"
    assert done.parameters != other.parameters


def test_a_count_that_takes_long_is_told_from_a_sample(company: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {"all": [{"field": "name", "op": "exists", "value": True}]}
    counting = "SELECT count(*), pg_sleep(5) FROM customers c WHERE {condition}"
    ask = rules.named
    monkeypatch.setattr(rules, "named", lambda file, name: counting if name == "count_rule" else ask(file, name))
    with company.writing() as session:
        session.execute(text("ANALYZE customers"))
        with access.as_user(session, SYSTEM):
            told = rules.preview(session, SYSTEM, slow, budget_ms=50)
            assert session.scalar(text("SELECT current_setting('statement_timeout')")) == "0"
    assert (told.exact, told.customers, told.looked_at) == (False, PEOPLE, PEOPLE)


def test_unknown_segmentations_and_scores_are_refused(company: Database) -> None:
    which = create(company, "known", "rfm")
    publish(company, which, run(company, which).number)
    for name in ("scores.nowhere.m", "scores.known.nothing", "segments.nowhere"):
        leaf = {"field": name, "op": "exists", "value": True}
        with (
            pytest.raises(DBAPIError, match=r"there is no segmentation|has no score") as caught,
            company.writing() as session,
            access.as_user(session, SYSTEM),
        ):
            customers.count(session, SYSTEM, filters.parse(leaf))
        assert isinstance(translate(caught.value), InvalidFilter), name


def test_publishing_reverting_comparing(company: Database) -> None:
    which = create(company, "history", "rfm")
    one = run(company, which)
    with company.writing() as session:
        segmentations.edit_segmentation(
            session, which, actor=SYSTEM, parameters={"cuts": {"monetary_value": [1, 2, 3, 4]}}
        )
    two = run(company, which)
    publish(company, which, 1)
    with company.writing() as session:
        publishing.activate(session, which, actor=SYSTEM)
    shown = on_lookups(company)
    publish(company, which, 2)
    assert {c: s for c, s in on_lookups(company).items() if s} == members(company, two.id)
    assert on_lookups(company) != shown
    with company.writing() as session:
        assert publishing.revert(session, which, actor=SYSTEM).run == 1
    assert on_lookups(company) == shown
    with company.writing() as session, access.as_user(session, SYSTEM):
        moves = runs.compare(session, one, two)
    old, new = members(company, one.id), members(company, two.id)
    expected = Counter((old.get(customer), new.get(customer)) for customer in {*old, *new})
    assert {(before, after): number for before, after, number in moves} == expected
    with company.writing() as session:
        query = text("SELECT action FROM audit_log WHERE object = :object ORDER BY id")
        actions = session.scalars(query, {"object": f"sgm_{which}"}).all()
    assert actions[-4:] == ["segmentation.publish", "segmentation.activate", *["segmentation.publish"] * 2]


def test_a_publication_that_fails_changes_nothing(company: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    which = create(company, "atomic", "rfm")
    for _ in range(2):
        run(company, which)
    publish(company, which, 1)
    with company.writing() as session:
        publishing.activate(session, which, actor=SYSTEM)
    before = on_lookups(company)

    def fall(session: Session) -> int:
        raise RuntimeError("pulled the plug")

    monkeypatch.setattr(lookup, "refresh_bulk", fall)
    with pytest.raises(RuntimeError):
        publish(company, which, 2)
    with company.writing() as session:
        held = segmentations.get_segmentation(session, which)
        assert runs.get_run(session, which, 1).id == held.current_run_id
    assert on_lookups(company) == before


def test_a_large_change_builds_a_new_generation(company: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    which = create(company, "large", "rfm")
    done = run(company, which)
    with company.writing() as session:
        publishing.activate(session, None, actor=SYSTEM)
        session.execute(text("ANALYZE site_lookup"))
    assert not any(on_lookups(company).values())
    monkeypatch.setattr(lookup, "REBUILD_AT_LEAST", 10)
    publish(company, which, done.number)
    with company.writing() as session:
        table = text("SELECT CAST(CAST('site_lookup' AS regclass) AS oid)")
        former = session.scalar(table)
        publishing.activate(session, which, actor=SYSTEM)
        assert session.scalar(table) != former
    assert {c: s for c, s in on_lookups(company).items() if s} == members(company, done.id)


def test_a_new_site_of_a_member_stands_in_its_segment(company: Database) -> None:
    which = create(company, "moving", "rfm")
    done = run(company, which)
    publish(company, which, done.number)
    with company.writing() as session:
        publishing.activate(session, which, actor=SYSTEM)
    member, segment = next(iter(members(company, done.id).items()))
    for placement in ("pending", "placed"):
        with company.writing() as session:
            session.execute(
                text("UPDATE sites SET placement = :placement WHERE customer_id = :id"),
                {"id": member, "placement": placement},
            )
            lookup.refresh(session, [member])
        assert on_lookups(company).get(member) == (segment if placement == "placed" else None)


def test_cancelled_and_killed_runs_leave_nothing(company: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    which = create(company, "stopped", "rfm")

    def start() -> models.SegmentationRun:
        with company.writing() as session:
            return runs.start(session, which, actor=SYSTEM, cutoff=CUTOFF)

    waiting = start()
    with company.writing() as session:
        runs.cancel(session, which, waiting.number, actor=SYSTEM)
    assert runs.execute(company, waiting.id) == {"status": "cancelled"}
    going = start()
    write = runs.copy_encoded

    def cancel_then_write(connection: Any, rows: Any) -> None:
        write(connection, rows)
        with company.writing() as session:
            runs.cancel(session, which, going.number, actor=SYSTEM)
        monkeypatch.setattr(runs, "copy_encoded", write)

    monkeypatch.setattr(runs, "copy_encoded", cancel_then_write)
    assert runs.execute(company, going.id) == {"status": "cancelled"}
    assert members(company, going.id) == {}
    with company.writing() as session:
        assert runs.get_run(session, which, going.number).status == "cancelled"
        with pytest.raises(Conflict, match="cancelled"):
            runs.cancel(session, which, going.number, actor=SYSTEM)
    killed = start()

    def fall(connection: Any, rows: Any) -> None:
        write(connection, rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "copy_encoded", fall)
    with pytest.raises(KeyboardInterrupt):
        runs.execute(company, killed.id)
    monkeypatch.setattr(runs, "copy_encoded", write)
    assert members(company, killed.id) == {}
    assert runs.execute(company, killed.id)["status"] == "done"
    assert len(members(company, killed.id)) == PEOPLE - PEOPLE // 12
    jobs.run_queued(company)  # the jobs of these runs find nothing left to do
    assert len(members(company, killed.id)) == PEOPLE - PEOPLE // 12


def test_old_members_make_room(company: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "KEEP", 2)
    which = create(company, "room", "rfm")
    first = run(company, which)
    publish(company, which, first.number)
    later = [run(company, which) for _ in range(3)]
    assert [bool(members(company, one.id)) for one in (first, *later)] == [True, False, True, True]
    with pytest.raises(Conflict, match="to make room"):
        publish(company, which, later[0].number)


def test_a_run_that_is_just_being_published_makes_no_room(company: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old run is published while a new one ends: the members that are shown stay."""
    monkeypatch.setattr(runs, "KEEP", 1)
    which = create(company, "busy", "rfm")
    old = run(company, which)
    with company.writing() as session:
        new = runs.start(session, which, actor=SYSTEM, cutoff=CUTOFF)
    with ThreadPoolExecutor(1) as beside, company.writing() as session:
        publishing.publish(session, which, old.number, actor=SYSTEM)
        ending = beside.submit(runs.execute, company, new.id)
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
        while not ending.done() and not session.scalar(text(waits)):
            time.sleep(0.02)
        assert not ending.done()
        session.commit()
        assert ending.result(30)["status"] == "done"
    with company.writing() as session:
        assert runs.get_run(session, which, old.number).kept
    assert len(members(company, old.id)) == PEOPLE - PEOPLE // 12


def test_few_customers_are_answered_honestly(new_database: Callable[[], Database]) -> None:
    """Nobody, and five: what has an answer gives it, the others say what they would need; nothing is made up."""
    database = new_database()
    everybody = [{"name": "All", "filter": {"field": "stage", "value": "active"}}]
    which = {
        "rfm": create(database, "rfm", "rfm"),
        "groups": create(database, "groups", "groups"),
        "value": create(database, "value", "value"),
        "rule": create(database, "rule", "rule", rules=everybody),
    }
    found = {method: run(database, number) for method, number in which.items()}
    assert {method: one.status for method, one in found.items()} == {
        "rfm": "failed", "groups": "failed", "value": "failed", "rule": "done",
    }  # fmt: skip
    for method in ("rfm", "groups", "value"):
        error = found[method].error
        assert error is not None
        assert "customer" in error["detail"], error
    with database.writing() as session:
        made = [make_customer(session, 7.0 + number / 10, 46.0) for number in range(5)]
        for number, customer in enumerate(made):
            make_sale(session, customer, "10", occurred_at=CUTOFF - timedelta(days=number + 1))
        statistics.tell_changed(session, [customer.id for customer in made])
    found = {method: run(database, number) for method, number in which.items()}
    assert {method: one.status for method, one in found.items()} == {
        "rfm": "done", "groups": "failed", "value": "failed", "rule": "done",
    }, [one.error for one in found.values()]  # fmt: skip
    assert "need" in str(found["groups"].error)
    assert sum(row["size"] for row in found["rfm"].results["segments"]) == 5


def test_what_is_wrong_is_said_before_anything_runs(session: Session) -> None:
    def create_wrong(method: str, pointer: str, key: str = "wrong", **parameters: Any) -> None:
        with pytest.raises(Invalid) as caught:
            segmentations.create_segmentation(
                session, actor=SYSTEM, key=key, name="Wrong", method=method, parameters=parameters
            )
        assert caught.value.errors[0]["pointer"] == pointer, caught.value.errors

    contact = {"field": "contact.email", "op": "exists", "value": True}
    create_wrong("nothing", "/method")
    for key in ("Best buyers!", "käufer", "", "x" * 61, "a.b", "a\n"):
        create_wrong("rfm", "/key", key)
    create_wrong("rfm", "/parameters/cuts", cuts={"frequency": [5, 4, 3, 2]})
    create_wrong("rfm", "/parameters/k", k=3)
    create_wrong("groups", "/parameters/dial", dial=1.5)
    create_wrong("groups", "/parameters/features", features=["shoe_size"])
    create_wrong("value", "/parameters/horizon_weeks", horizon_weeks="long")
    create_wrong("rule", "/parameters/rules", rules=[])
    create_wrong("rule", "/parameters/rules/0/filter", rules=[{"name": "x", "filter": {"all": []}}])
    create_wrong("rule", "/parameters/rules/0/filter/field", rules=[{"name": "x", "filter": contact}])
    made = segmentations.create_segmentation(session, actor=SYSTEM, key="right", name="Right", method="rfm")
    with pytest.raises(Invalid, match="to come"):
        runs.start(session, made.id, actor=SYSTEM, cutoff=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(Invalid, match="time zone"):
        runs.start(session, made.id, actor=SYSTEM, cutoff=CUTOFF.replace(tzinfo=None))
    with pytest.raises(Conflict):
        segmentations.create_segmentation(session, actor=SYSTEM, key="right", name="Again", method="rfm")


def test_refreshing_by_themselves(company: Database) -> None:
    with company.writing() as session:
        which = segmentations.create_segmentation(
            session, actor=SYSTEM, key="weekly", name="Weekly", method="rfm", refresh_days=7
        ).id
        assert len(runs.start_due(session, actor=SYSTEM)) == 1
        assert runs.start_due(session, actor=SYSTEM) == [], "it waits already"
    jobs.run_queued(company)
    with company.writing() as session:
        run_id = segmentations.get_segmentation(session, which).current_run_id
        assert run_id is not None
        assert session.get_one(models.SegmentationRun, run_id).status == "done"
        assert runs.start_due(session, actor=SYSTEM) == [], "seven days have not gone by"


def test_commands_of_the_terminal(company: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of docs/how-to/segments.md, in their order."""
    monkeypatch.setattr(console, "command_session", company.writing)
    monkeypatch.setattr(console, "command_database", lambda: nullcontext(company))
    said: list[str] = []
    console.create("terminal", "By hand", "rfm", None, echo=said.append)
    console.run("terminal", CUTOFF, 1, then_publish=False, echo=said.append)
    assert "Run 1 of terminal is done, not published" in said[1]
    assert any("Champions" in line for line in said)
    console.publish("terminal", 1, echo=said.append)
    console.activate("terminal", echo=said.append)
    assert "carry the segments of terminal" in said[-1]
    console.run("terminal", CUTOFF - timedelta(days=60), 1, then_publish=True, echo=said.append)
    console.revert("terminal", echo=said.append)
    assert "Run 1 of terminal is published again" in said[-1]
    console.show_list(as_json=False, echo=said.append)
    assert any("terminal" in line and "(active)" in line for line in said)
    with pytest.raises(NotFound, match="There is no run 99 of this segmentation"):
        console.publish("terminal", 99, echo=said.append)
    with pytest.raises(Invalid, match=r"none\.json cannot be read: No such file"):
        console.create("other", None, "rfm", tmp_path / "none.json", echo=said.append)
    assert list(console._found({"choice": {"reason": "One group: none."}, "notes": ["n"]})) == ["One group: none.", "n"]
    assert jobs.run_queued(company) == 0, "what is done at the terminal is not queued as well"
