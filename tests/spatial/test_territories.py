"""Which territory a site belongs to: first match, borders, publishing, undo, edits, many at once."""

from typing import Any

import pytest
from shapely import Polygon, box
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm.access import SYSTEM
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import (
    Conflict,
    Forbidden,
    Invalid,
    InvalidFilter,
    InvalidGeometry,
    NotFound,
    PreconditionFailed,
)
from geocrm.spatial import areas, layers, ledger, ledger_bulk, territories
from tests.makers import actor_of, make_customer, make_site, make_user, square
from tests.spatial.two_squares import NOW, START, Sales, day


def test_first_match_wins_and_the_basis_is_kept(session: Session, sales: Sales) -> None:
    draft = sales.draft()
    rule = {"field": "industry", "op": "=", "value": "mining"}
    mines = areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="Mines", rule=rule).area_id
    named = make_customer(session, 0.5, 0.5, industry="mining")
    ruled = make_customer(session, 0.5, 0.5, industry="mining")
    in_polygon = make_customer(session, 0.5, 0.5)
    nowhere = make_customer(session, 50, 50)
    pending_by_rule = make_customer(session, industry="mining")
    pending = make_customer(session)
    flagged = make_customer(session, 0.5, 0.5, site={"placement": "flagged", "flags": ["zero"]})
    everybody = (named, ruled, in_polygon, nowhere, pending_by_rule, pending, flagged)
    sales.evaluate(*everybody)
    layers.name_accounts(session, sales.layer.id, draft, [(named.id, sales.east)], actor=SYSTEM)
    sales.publish(draft)
    assert [sales.of(c) for c in everybody] == [
        [(sales.east, "named")], [(mines, "rule")], [(sales.west, "polygon")], [(None, "none")], [(mines, "rule")],
        [(None, "none")], [(None, "none")],
    ]  # fmt: skip
    assert [c.territory_ids for c in (named, ruled, nowhere)] == [[sales.east], [mines], []]
    looked_up = dict(
        session.execute(text("SELECT customer_id, territory_id FROM site_lookup WHERE customer_id = ANY (:ids)"),
                        {"ids": [c.id for c in everybody]}).all()
    )  # fmt: skip
    assert looked_up == {named.id: sales.east, ruled.id: mines, in_polygon.id: sales.west, nowhere.id: None}


def test_a_point_on_the_border_belongs_to_exactly_one(session: Session, sales: Sales) -> None:
    corner = make_customer(session, 1.0, 0.25)
    sales.evaluate(corner)
    assert sales.of(corner) == [(sales.west, "polygon")]
    draft = sales.draft()
    areas.put_area(session, sales.layer.id, draft, sales.east, actor=SYSTEM, priority=1)
    sales.publish(draft)
    assert sales.of(corner) == [(sales.east, "polygon")]


def test_points_on_a_slanted_border_are_never_lost(session: Session) -> None:
    """Two triangles of many small pieces share a slanted border; points computed on it are off by an ulp at most."""
    layer = layers.create_layer(session, key="slanted", name="Slanted", kind="territories", actor=SYSTEM)
    draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
    border = [(0.1 + 0.73 * t / 97, 0.2 + 0.61 * t / 97) for t in range(98)]
    for name, corner in (("Below", (0.83, 0.2)), ("Above", (0.1, 0.81))):
        areas.put_area(session, layer.id, draft, actor=SYSTEM, name=name, geometry=Polygon([*border, corner]))
    territories.publish(session, layer.id, draft, actor=SYSTEM, reason="plan", effective_from=START)
    step = [i / 389 for i in range(1, 389)]
    lon = [border[0][0] + (border[-1][0] - border[0][0]) * s for s in step]
    lat = [border[0][1] + (border[-1][1] - border[0][1]) * s for s in step]
    found = territories.at_points(session, lon, lat)
    assert all(len(f) == 1 and f[0].area_id is not None for f in found)


def test_holes_enclaves_and_islands(session: Session, sales: Sales) -> None:
    draft = sales.draft()
    ring = box(10, 10, 16, 16).difference(box(11, 11, 15, 15)).union(box(12.5, 12.5, 13.5, 13.5))
    outer = areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="Ring", geometry=ring).area_id
    enclave = box(11, 11, 15, 15).difference(box(12.5, 12.5, 13.5, 13.5))
    inner = areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="Enclave", geometry=enclave).area_id
    sales.publish(draft)
    found = territories.at_points(session, [10.5, 11.5, 13, 12.5, 9.9], [10.5, 11.5, 13, 13, 13], as_of=NOW)
    assert [f[0].area_id for f in found] == [outer, inner, outer, outer, None]


def test_publishing_looks_only_at_what_the_edit_can_change(session: Session, sales: Sales) -> None:
    still = [make_customer(session, 0.1 + i / 100, 0.5) for i in range(20)]
    moving = make_customer(session, 1.1, 0.5)
    sales.evaluate(*still, moving)
    draft = sales.draft()
    areas.put_area(session, sales.layer.id, draft, sales.west, actor=SYSTEM, geometry=box(0, 0, 1.2, 1))
    areas.put_area(session, sales.layer.id, draft, sales.east, actor=SYSTEM, geometry=box(1.2, 0, 2, 1))
    done = sales.publish(draft, effective_from=day(-100))
    assert (done.concerned, done.moved, done.rows) == (1, 1, 2)
    history = territories.history(session, moving.id)
    assert [(h.area_id, h.valid_from, h.valid_to, h.reason, h.layer_version) for h in history] == [
        (sales.west, day(-100), None, "plan", draft),
        (sales.east, START, day(-100), "edit", 1),
    ]
    every = territories.history(session, moving.id, superseded=True)
    assert [(h.valid_from, h.valid_to, h.superseded_at is not None) for h in every] == [
        (day(-100), None, False), (START, day(-100), False), (START, None, True),
    ]  # fmt: skip


def test_a_scheduled_version_waits_for_its_time(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    sales.evaluate(customer)
    draft = sales.draft()
    areas.put_area(session, sales.layer.id, draft, sales.west, actor=SYSTEM, name="Far west", geometry=square(-5, 0))
    areas.put_area(session, sales.layer.id, draft, sales.east, actor=SYSTEM, geometry=box(0, 0, 2, 1))
    done = sales.publish(draft, effective_from=day(30))
    assert done.status == "scheduled"
    assert sales.of(customer) == [(sales.west, "polygon")]
    assert sales.of(customer, day(31)) == [(sales.east, "polygon")]
    late = make_customer(session, 0.6, 0.5)  # edits are evaluated under the scheduled version too
    sales.evaluate(late)
    assert sales.of(late, day(31)) == [(sales.east, "polygon")]
    assert customer.territory_ids == [sales.west]
    assert territories.make_due_current(session, now=day(29)) == []
    assert territories.make_due_current(session, now=day(30)) == [sales.layer.id]
    session.refresh(sales.layer)
    assert sales.layer.current_version == draft
    assert customer.territory_ids == late.territory_ids == [sales.east]
    assert session.get(models.Area, sales.west).name == "Far west"
    statuses = {v.version: v.status for v in layers.find_versions(session, sales.layer.id)}
    assert statuses == {1: "retired", draft: "published"}


def test_a_move_by_hand_survives_a_scheduled_plan(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    sales.evaluate(customer)
    plan = sales.draft()
    areas.put_area(session, sales.layer.id, plan, sales.west, actor=SYSTEM, geometry=box(0, 0, 1, 2))
    sales.publish(plan, effective_from=day(30))
    done = territories.move(
        session, sales.layer.id, {customer.id: sales.east}, actor=SYSTEM, reason="knows them", now=day(1)
    )
    assert done.moved == 1
    territories.make_due_current(session, now=day(31))
    assert sales.of(customer, day(31)) == [(sales.east, "named")]
    assert territories.history(session, customer.id)[0].reason == "knows them"
    held = areas.get_area(session, sales.layer.id, sales.layer.current_version, sales.west)[1]
    assert areas.shape_of(held).equals(box(0, 0, 1, 2))


def test_drafts_that_overlap_in_time(session: Session, sales: Sales) -> None:
    one, two, three = sales.draft(), sales.draft(), sales.draft()
    areas.put_area(session, sales.layer.id, one, sales.west, actor=SYSTEM, name="Sunset")
    areas.put_area(session, sales.layer.id, two, sales.east, actor=SYSTEM, name="Sunrise")
    areas.put_area(session, sales.layer.id, three, sales.west, actor=SYSTEM, name="Evening")
    sales.publish(one)
    assert sales.publish(two, now=day(1)).merged
    names = {area.name for area, _ in areas.find_areas(session, sales.layer.id, two)}
    held = {held.name for _, held in areas.find_areas(session, sales.layer.id, two)}
    assert names == held == {"Sunset", "Sunrise"}
    with pytest.raises(Conflict, match="Sunset"):
        sales.publish(three, now=day(2))
    session.expire_all()
    assert sales.publish(three, now=day(2), overwrite=True).merged
    assert session.get(models.Area, sales.west).name == "Evening"
    with pytest.raises(Conflict, match="published"):
        areas.put_area(session, sales.layer.id, three, sales.west, actor=SYSTEM, name="Late")


def test_undo_publishes_the_former_version(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    sales.evaluate(customer)
    territories.move(session, sales.layer.id, {customer.id: sales.east}, actor=SYSTEM, reason="try", now=day(1))
    assert sales.of(customer, day(1)) == [(sales.east, "named")]
    undone = territories.undo(session, sales.layer.id, actor=SYSTEM, reason="a mistake", now=day(2))
    assert undone.version == 3
    assert sales.of(customer, day(2)) == [(sales.west, "polygon")]
    assert [h.reason for h in territories.history(session, customer.id)] == ["a mistake", "try", "edit"]


def test_edits_count_from_now_on(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    second = make_site(session, customer, 0.6, 0.5)
    sales.evaluate(customer, now=day(0))
    second.location = "SRID=4326;POINT(1.5 0.5)"
    session.flush()
    sales.evaluate(customer, now=day(1))
    assert sorted(customer.territory_ids) == [sales.west, sales.east]
    assert sales.of(customer, day(0.5)) == [(sales.west, "polygon")] * 2
    assert sales.of(customer, day(1)) == [(sales.west, "polygon"), (sales.east, "polygon")]
    session.delete(second)
    session.flush()
    sales.evaluate(customer, now=day(2))
    assert sales.of(customer, day(2)) == [(sales.west, "polygon")]
    assert len(sales.of(customer, day(1.5))) == 2
    number = customer.id
    session.execute(text("DELETE FROM customers WHERE id = :id"), {"id": number})
    session.expunge_all()
    territories.evaluate(session, [number], actor=SYSTEM, reason="import undone", now=day(3))
    rows = session.execute(
        text("SELECT count(*), count(superseded_at) FROM assignments WHERE customer_id = :id"), {"id": number}
    ).one()
    assert rows[0] == rows[1] > 3


def test_re_evaluating_what_did_not_change_writes_nothing(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    sales.evaluate(customer)
    assert territories.evaluate(session, [customer.id], actor=SYSTEM, reason="again", now=day(1)) == 0


def test_layers_besides_the_primary_live_in_the_ledger_only(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    sales.evaluate(customer)
    layer = layers.create_layer(session, key="service", name="Service", kind="territories", actor=SYSTEM)
    draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
    area = areas.put_area(session, layer.id, draft, actor=SYSTEM, name="All", geometry=box(-10, -10, 10, 10)).area_id
    territories.publish(session, layer.id, draft, actor=SYSTEM, reason="plan", now=NOW)
    held = {h.layer_key: (h.area_id, h.is_primary) for h in territories.of_customer(session, customer.id, as_of=NOW)}
    assert held == {"sales": (sales.west, True), "service": (area, False)}
    assert customer.territory_ids == [sales.west]
    assert [a.layer_key for a in territories.at(session, 0.5, 0.5, as_of=NOW)] == ["sales", "service"]
    assert [a.layer_key for a in territories.at(session, 0.5, 0.5, as_of=day(-1))] == ["sales"]


def test_trading_areas_are_published_without_a_ledger(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    sales.evaluate(customer)
    marketer = actor_of(session, make_user(session, "marketer"))
    layer = layers.create_layer(session, key="shops", name="Shops", kind="trading_areas", actor=marketer)
    draft = layers.create_draft(session, layer.id, actor=marketer).version
    areas.put_area(session, layer.id, draft, actor=marketer, name="Shop", geometry=square(0.5, 0.5))
    done = territories.publish(session, layer.id, draft, actor=marketer, reason="first", now=NOW)
    assert (done.status, done.concerned) == ("published", 0)
    assert [h.layer_key for h in territories.of_customer(session, customer.id, as_of=NOW)] == ["sales"]
    with pytest.raises(Forbidden):
        layers.create_draft(session, sales.layer.id, actor=marketer)
    with pytest.raises(Forbidden):
        layers.create_draft(session, layer.id, actor=actor_of(session, make_user(session, "rep")))


def test_areas_are_checked_before_anything_is_written(session: Session, sales: Sales) -> None:
    draft = sales.draft()
    put = areas.put_area(session, sales.layer.id, draft, sales.west, actor=SYSTEM, name="One")
    with pytest.raises(PreconditionFailed):
        areas.put_area(session, sales.layer.id, draft, sales.west, actor=SYSTEM, name="Two", if_match=put.version - 1)
    with pytest.raises(InvalidGeometry):
        areas.put_area(
            session, sales.layer.id, draft, actor=SYSTEM, name="X", geometry=Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
        )
    with pytest.raises(InvalidFilter) as caught:
        areas.put_area(
            session, sales.layer.id, draft, actor=SYSTEM, name="X", rule={"field": "stage", "op": "=", "value": "lead"}
        )
    assert caught.value.errors[0]["pointer"].startswith("/rule")
    with pytest.raises(NotFound):
        areas.put_area(session, sales.layer.id, draft, 10**9, actor=SYSTEM, name="X")
    with pytest.raises(Invalid):
        areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="X", priority=10**9)
    with pytest.raises(Invalid):
        areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="X", owner_id=10**9)
    with pytest.raises(Invalid, match="why"):
        sales.publish(draft, reason=" ")
    areas.delete_area(session, sales.layer.id, draft, sales.east, actor=SYSTEM)
    assert layers.count_areas(session, sales.layer.id, draft) == 1


def test_areas_are_imported_by_what_the_source_calls_them(session: Session, sales: Sales) -> None:
    rows: list[dict[str, Any]] = [
        {"external_id": "N", "name": "North", "geometry": square(5, 5), "attributes": {"plan": 1}, "row": 2},
        {"external_id": "S", "name": "South", "rule": {"field": "region", "op": "=", "value": "CO"}, "row": 3},
        {"external_id": "B", "geometry": Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "row": 4},
        {"external_id": "N", "geometry": square(5, 5), "row": 5},
        {"external_id": "", "geometry": square(5, 5), "row": 6},
    ]
    draft = sales.draft()
    done = areas.import_areas(session, sales.layer.id, draft, rows, actor=SYSTEM, source="gis")
    assert (done.new, done.changed, done.unchanged) == (2, 0, 0)
    assert [(r["row"], r["pointer"]) for r in done.rejected] == [
        (4, "/geometry/coordinates/0"), (5, "/external_id"), (6, "/external_id"),
    ]  # fmt: skip
    sales.publish(draft)
    again = sales.draft()
    rows[0] |= {"name": "Far north"}
    done = areas.import_areas(session, sales.layer.id, again, rows[:2], actor=SYSTEM, source="gis", replace=True)
    assert (done.new, done.changed, done.unchanged) == (0, 1, 1)
    assert {held.name for _, held in areas.find_areas(session, sales.layer.id, again)} == {"Far north", "South"}
    mended = areas.import_areas(
        session, sales.layer.id, sales.draft(), rows[2:3], actor=SYSTEM, source="gis", repair=True
    )
    assert mended.new == 1
    assert "mended" in mended.notes[0]["detail"]


def test_bulk_evaluation_equals_the_list(session: Session, sales: Sales) -> None:
    draft = sales.draft()
    rule = {"field": "industry", "op": "=", "value": "mining"}
    areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="Mines", rule=rule)
    sales.publish(draft)
    people = [
        make_customer(
            session,
            i / 20,
            0.5,
            industry="mining" if i % 7 == 0 else None,
            site={} if i % 5 else {"placement": "flagged"},
        )
        for i in range(50)
    ]
    session.execute(text("CREATE TEMP TABLE changed_customers (customer_id bigint PRIMARY KEY) ON COMMIT DROP"))
    session.execute(
        text("INSERT INTO changed_customers SELECT unnest(CAST(:ids AS bigint[]))"), {"ids": [p.id for p in people]}
    )
    assert territories.evaluate_bulk(session, actor=SYSTEM, reason="import", now=NOW) >= 50
    assert territories.evaluate(session, [p.id for p in people], actor=SYSTEM, reason="again", now=day(1)) == 0
    differing = text(
        "SELECT count(*) FROM sites s JOIN assignments a ON a.site_id = s.id "
        "WHERE a.valid_to IS NULL AND a.area_id IS DISTINCT FROM s.territory_id"
    )
    assert session.scalar(differing) == 0


def test_new_customers_by_the_fast_way_are_assigned_alike(session: Session, sales: Sales) -> None:
    draft = sales.draft()
    areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="Over", geometry=box(0.5, 0, 1.5, 1), priority=1)
    areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="Twin", geometry=box(0, 0, 1, 1))
    sales.publish(draft, effective_from=START)
    people = [
        make_customer(session, i / 16, i % 5 / 4, site={} if i % 6 else {"placement": "flagged"}) for i in range(-3, 50)
    ]
    for person in people[::7]:
        make_site(session, person, 1.75, 0.5)
    make_site(session, make_customer(session, 1, 1), 0.5, 0.5)
    homeless = models.Customer(kind="person", stage="lead", name="Without a site")
    session.add(homeless)
    session.flush()
    people.append(homeless)
    session.execute(text("CREATE TEMP TABLE changed_customers (customer_id bigint PRIMARY KEY) ON COMMIT DROP"))
    session.execute(text("INSERT INTO changed_customers SELECT id FROM customers"))
    assert ledger_bulk.all_new(session)
    assert ledger.polygon_layers(session) is not None
    written = territories.evaluate_bulk(session, actor=SYSTEM, reason="import", now=NOW)
    assert written == session.scalar(text("SELECT count(*) FROM sites"))
    assert not ledger_bulk.all_new(session)

    def state() -> list[Any]:
        queries = (
            "SELECT customer_id, site_id, valid_from, valid_to, area_id, basis, layer_version, reason, by_edit, ahead "
            "FROM assignments WHERE superseded_at IS NULL ORDER BY 1, 2, 3",
            "SELECT customer_id, site_id, kind, area_id, polygon_area_id FROM contradictions ORDER BY 1, 2",
            "SELECT id, territory_id FROM sites ORDER BY 1",
            "SELECT id, territory_ids FROM customers ORDER BY 1",
            "SELECT site_id, territory_id FROM site_lookup ORDER BY 1",
        )
        return [session.execute(text(query)).all() for query in queries]

    fast = state()
    session.execute(text("DELETE FROM contradictions"))
    session.execute(text("UPDATE sites SET territory_id = NULL"))
    session.execute(text("DELETE FROM assignments"))
    ids = list(session.scalars(text("SELECT id FROM customers")))
    territories.evaluate(session, ids, actor=SYSTEM, reason="import", now=NOW)
    assert state() == fast


def test_the_index_on_pieces_serves(database: Database, session: Session) -> None:
    layer = layers.create_layer(session, key="grid", name="Grid", kind="territories", actor=SYSTEM)
    draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
    rows = [
        {"external_id": f"{x}/{y}", "geometry": box(x / 4, y / 4, x / 4 + 0.25, y / 4 + 0.25)}
        for x in range(30) for y in range(30)
    ]  # fmt: skip
    areas.import_areas(session, layer.id, draft, rows, actor=SYSTEM, source="grid")
    territories.publish(session, layer.id, draft, actor=SYSTEM, reason="grid", effective_from=START)
    session.execute(text("SELECT geocrm_analyze_areas()"))
    plan = "\n".join(
        session.scalars(
            text(
                "EXPLAIN SELECT * FROM area_pieces p "
                "WHERE p.geometry && ST_Expand(ST_SetSRID(ST_MakePoint(1, 1), 4326), 1e-9)"
            )
        )
    )
    assert "ix_area_pieces_geometry" in plan
    scans = text("SELECT idx_scan, seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'area_pieces'")
    before = session.execute(scans).one()
    territories.at_points(session, [1.1] * 50, [1.1] * 50)
    after = session.execute(scans).one()
    assert after.idx_scan - before.idx_scan >= 50
    assert after.seq_scan == before.seq_scan


def test_a_loaded_layer_is_taken_over(session: Session) -> None:
    """A layer written as published by a bulk load has no periods yet; the first evaluation derives them."""
    layer = models.Layer(key="loaded", name="Loaded", kind="territories", is_primary=True, current_version=1)
    session.add(layer)
    session.flush()
    session.add(
        models.LayerVersion(layer_id=layer.id, version=1, status="published", effective_from=START, reason="load")
    )
    area = models.Area(layer_id=layer.id, name="A")
    session.add(area)
    session.flush()
    session.add(
        models.AreaVersion(area_id=area.id, version=1, name="A", geometry="SRID=4326;MULTIPOLYGON(((0 0,1 0,1 1,0 0)))")
    )
    session.flush()
    session.add(models.LayerArea(layer_id=layer.id, layer_version=1, area_id=area.id, area_version=1))
    customer = make_customer(session, 0.5, 0.25)
    territories.evaluate(session, [customer.id], actor=SYSTEM, reason="load")
    held = territories.of_customer(session, customer.id)[0]
    assert (held.area_id, held.valid_from, held.layer_version) == (area.id, START, 1)
