"""Drafts, publishing, moves, hand-over, contradictions, sales and lookups of territories."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from shapely import Polygon, box
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM, Actor
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
    TooLarge,
)
from geocrm.spatial import areas, contradictions, handover, layers, ledger, ledger_bulk, preview, territories
from tests.makers import actor_of, make_customer, make_sale, make_site, make_team, make_user, square

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def day(days: float) -> datetime:
    return NOW + timedelta(days=days)


@dataclass
class Sales:
    """A primary layer with two squares side by side, published long ago."""

    session: Session
    layer: models.Layer
    west: int
    east: int

    def draft(self, actor: Actor = SYSTEM) -> int:
        return layers.create_draft(self.session, self.layer.id, actor=actor).version

    def publish(self, version: int, actor: Actor = SYSTEM, **options: Any) -> territories.Published:
        values = {"reason": "plan", "now": NOW} | options
        return territories.publish(self.session, self.layer.id, version, actor=actor, **values)

    def evaluate(self, *customers: models.Customer, now: datetime = NOW) -> None:
        ids = [c.id for c in customers]
        territories.evaluate(self.session, ids, actor=SYSTEM, reason="edit", now=now)

    def of(self, customer: models.Customer, as_of: datetime = NOW) -> list[tuple[int | None, str]]:
        return [
            (h.area_id, h.basis)
            for h in territories.of_customer(self.session, customer.id, as_of=as_of)
            if h.layer_id == self.layer.id
        ]


@pytest.fixture
def sales(session: Session) -> Sales:
    layer = layers.create_layer(session, key="sales", name="Sales", kind="territories", is_primary=True, actor=SYSTEM)
    draft = layers.create_draft(session, layer.id, actor=SYSTEM).version
    west = areas.put_area(session, layer.id, draft, actor=SYSTEM, name="West", geometry=square(0.5, 0.5)).area_id
    east = areas.put_area(session, layer.id, draft, actor=SYSTEM, name="East", geometry=square(1.5, 0.5)).area_id
    territories.publish(
        session,
        layer.id,
        draft,
        actor=SYSTEM,
        reason="initial import",
        effective_from=START,
        now=NOW - timedelta(days=9),
    )
    return Sales(session, layer, west, east)


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


def test_a_manager_publishes_own_teams_territories_only(session: Session, sales: Sales) -> None:
    north, south = make_team(session), make_team(session)
    manager = make_user(session, "manager", team_id=north.id)
    rep = make_user(session, "rep", team_id=north.id)
    other = make_user(session, "rep", team_id=south.id)
    for area, owner, team in ((sales.west, rep, north), (sales.east, other, south)):
        handover.set_owner(session, area, owner_id=owner.id, team_id=team.id, actor=SYSTEM, reason="plan", now=day(-1))
    mine, theirs = make_customer(session, 0.5, 0.5), make_customer(session, 1.5, 0.5)
    sales.evaluate(mine, theirs)
    actor = actor_of(session, manager)
    draft = sales.draft(actor)
    areas.put_area(session, sales.layer.id, draft, sales.west, actor=actor, geometry=box(0, 0, 1, 2))
    assert sales.publish(draft, actor).moved == 0
    draft = sales.draft(actor)
    areas.put_area(session, sales.layer.id, draft, sales.east, actor=actor, name="Ours")
    with pytest.raises(Forbidden, match="East"), session.begin_nested():
        sales.publish(draft, actor, now=day(1))
    draft = sales.draft(actor)  # a named account would take a customer away from the other team
    layers.name_accounts(session, sales.layer.id, draft, [(theirs.id, sales.west)], actor=actor)
    with pytest.raises(Forbidden, match="East"), session.begin_nested():
        sales.publish(draft, actor, now=day(1))
    with pytest.raises(Forbidden):
        sales.publish(sales.draft(), actor_of(session, rep))


def test_a_manager_restates_own_teams_past_only(session: Session, sales: Sales) -> None:
    north, south = make_team(session), make_team(session)
    manager = make_user(session, "manager", team_id=north.id)
    for area, team in ((sales.west, north), (sales.east, south)):
        handover.set_owner(session, area, owner_id=None, team_id=team.id, actor=SYSTEM, reason="plan", now=day(-60))
    theirs = make_customer(session, 2.5, 0.5)
    sales.evaluate(theirs)
    draft = sales.draft()  # the other team's territory grows five days ago
    areas.put_area(session, sales.layer.id, draft, sales.east, actor=SYSTEM, geometry=box(1, 0, 3, 1))
    sales.publish(draft, effective_from=day(-5))
    assert (sales.of(theirs, day(-6)), sales.of(theirs, day(-4))) == ([(None, "none")], [(sales.east, "polygon")])
    actor = actor_of(session, manager)

    def restate(begin: datetime) -> territories.Published:
        draft = sales.draft(actor)
        areas.put_area(session, sales.layer.id, draft, sales.west, actor=actor, name=f"West {draft}")
        return sales.publish(draft, actor, effective_from=begin)

    with pytest.raises(Forbidden, match=r"own team's past.*East"), session.begin_nested():
        restate(day(-20))  # would take the other team's growth back to then
    assert sales.of(theirs, day(-6)) == [(None, "none")]
    with pytest.raises(Forbidden, match="East"), session.begin_nested():
        restate(START - timedelta(days=9))
    assert restate(day(-3)).effective_from == day(-3)
    assert restate(day(3)).status == "scheduled"
    mine = make_customer(session, 0.5, 0.5)
    sales.evaluate(mine)
    draft = sales.draft()  # a customer named for the other team until yesterday
    layers.name_accounts(session, sales.layer.id, draft, [(mine.id, sales.east)], actor=SYSTEM)
    sales.publish(draft, effective_from=day(-2))
    draft = sales.draft()
    layers.unname_accounts(session, sales.layer.id, draft, [mine.id], actor=SYSTEM)
    sales.publish(draft, effective_from=day(-1))
    with pytest.raises(Forbidden, match="East"), session.begin_nested():
        restate(day(-1.5))
    assert sales.of(mine, day(-1.5)) == [(sales.east, "named")]
    handover.set_owner(session, sales.east, owner_id=None, team_id=north.id, actor=SYSTEM, reason="plan", now=day(-0.5))
    with pytest.raises(Forbidden, match="was not then"), session.begin_nested():
        restate(day(-1.5))  # it was the other team's then


def test_a_manager_gives_territories_to_own_team_only(session: Session, sales: Sales) -> None:
    north, south = make_team(session), make_team(session)
    manager = make_user(session, "manager", team_id=north.id)
    rep, heir = make_user(session, "rep", team_id=north.id), make_user(session, "rep", team_id=north.id)
    gone = make_user(session, "rep", team_id=north.id, active=False)
    other = make_user(session, "rep", team_id=south.id)

    def give(who: Actor, owner: int | None, team: int | None, area: int = sales.west, reason: str = "plan") -> None:
        handover.set_owner(session, area, owner_id=owner, team_id=team, actor=who, reason=reason, now=day(-1))

    give(SYSTEM, rep.id, north.id)
    give(SYSTEM, other.id, south.id, sales.east)
    actor = actor_of(session, manager)
    nobody = 10**9
    for owner, team, pointer in (
        (rep.id, south.id, "/team_id"), (rep.id, nobody, "/team_id"), (None, south.id, "/team_id"),
        (other.id, north.id, "/owner_id"), (gone.id, north.id, "/owner_id"), (nobody, None, "/owner_id"),
    ):  # fmt: skip
        with pytest.raises(Invalid) as refused:
            give(actor, owner, team)
        assert refused.value.errors[0]["pointer"] == pointer, (owner, team)
        draft = sales.draft(actor)
        with pytest.raises(Invalid) as refused:
            areas.put_area(
                session, sales.layer.id, draft, sales.west, actor=actor, owner_id=owner, team_id=team, name="W"
            )
        assert refused.value.errors[0]["pointer"] in (pointer, "/owner_id"), (owner, team)
    with pytest.raises(Forbidden, match="nobody"):
        give(actor, None, None)
    with pytest.raises(Forbidden, match="nobody"):
        areas.put_area(
            session, sales.layer.id, sales.draft(actor), sales.west, actor=actor, owner_id=None, team_id=None
        )
    with pytest.raises(NotFound):
        give(actor, rep.id, north.id, sales.east)
    with pytest.raises(Invalid, match="why"):
        give(actor, heir.id, north.id, reason=" ")
    for owner, team in ((gone.id, north.id), (rep.id, nobody)):
        with pytest.raises(Invalid):
            give(SYSTEM, owner, team)
    area = session.get(models.Area, sales.west)
    assert (area.owner_id, area.team_id) == (rep.id, north.id)
    give(actor, heir.id, north.id)
    assert (area.owner_id, area.team_id) == (heir.id, north.id)
    give(actor, None, north.id)
    give(SYSTEM, None, None)
    assert (area.owner_id, area.team_id) == (None, None)
    rows = [
        {"external_id": "a", "geometry": square(9, 9), "owner_id": rep.id, "team_id": north.id},
        {"external_id": "b", "geometry": square(9, 9), "owner_id": other.id, "team_id": None},
        {"external_id": "c", "geometry": square(9, 9), "owner_id": None, "team_id": south.id},
        {"external_id": "d", "geometry": square(9, 9), "owner_id": gone.id, "team_id": None},
    ]
    done = areas.import_areas(session, sales.layer.id, sales.draft(actor), rows, actor=actor, source="gis")
    assert done.new == 1
    assert [(r["external_id"], r["pointer"]) for r in done.rejected] == [
        ("b", "/owner"), ("d", "/owner"), ("c", "/team"),
    ]  # fmt: skip


def test_preview_says_who_moves_and_writes_nothing(session: Session, sales: Sales) -> None:
    rep, other = make_user(session), make_user(session)
    handover.set_owner(session, sales.west, owner_id=rep.id, team_id=None, actor=SYSTEM, reason="plan", now=day(-1))
    handover.set_owner(session, sales.east, owner_id=other.id, team_id=None, actor=SYSTEM, reason="plan", now=day(-1))
    seen, hidden = make_customer(session, 0.9, 0.5, name="Seen"), make_customer(session, 1.05, 0.5)
    for customer in (seen, hidden):
        make_sale(session, customer, "100.5", occurred_at=day(-30))
        make_sale(session, customer, "7", currency="EUR", occurred_at=day(-30))
        make_sale(session, customer, "1000", occurred_at=day(-400))
    sales.evaluate(seen, hidden)
    draft = sales.draft()
    areas.put_area(session, sales.layer.id, draft, sales.west, actor=SYSTEM, geometry=box(0, 0, 0.8, 1))
    areas.put_area(session, sales.layer.id, draft, sales.east, actor=SYSTEM, geometry=box(0.7, 0, 1, 1), name="Orient")
    before = session.scalar(text("SELECT md5(string_agg(a::text, ',' ORDER BY a::text)) FROM assignments a"))
    whole = preview.preview(session, sales.layer.id, draft, actor=SYSTEM, now=NOW)
    assert (whole.moves, whole.moves_hidden, whole.concerned) == (2, 0, 2)
    assert whole.sales == {"EUR": Decimal(14), "USD": Decimal(201)}
    first = whole.moving[0]
    assert (first.customer_name, first.from_name, first.to_name) == ("Seen", "West", "Orient")
    assert {b.area_id: b.name for b in whole.by_area} == {sales.west: "West", sales.east: "Orient", None: None}
    balances = {b.area_id: (b.leaving, b.entering, b.sales_leaving.get("USD"), b.sales_entering.get("USD"))
                for b in whole.by_area}  # fmt: skip
    assert balances == {
        sales.west: (1, 0, Decimal("100.5"), None),
        sales.east: (1, 1, Decimal("100.5"), Decimal("100.5")),
        None: (0, 1, None, Decimal("100.5")),
    }
    assert {b.owner_id: (b.leaving, b.entering) for b in whole.by_owner} == {
        rep.id: (1, 0), other.id: (1, 1), None: (0, 1),
    }  # fmt: skip
    assert whole.coverage is not None
    assert [(o.name, o.other_name) for o in whole.coverage.overlaps] == [("West", "Orient")]
    assert whole.coverage.overlaps[0].area_m2 == pytest.approx(0.1 * 111_195 * 110_574, rel=0.01)
    partly = preview.preview(
        session, sales.layer.id, draft, actor=access.Actor(rep.id, "rep", "manager", owners=(rep.id,),
                                                           territories=(sales.west,)), now=NOW,
    )  # fmt: skip
    assert (partly.moves, partly.moves_hidden, len(partly.moving)) == (2, 1, 1)
    assert partly.sales == {"EUR": Decimal(7), "USD": Decimal("100.5")}
    after = session.scalar(text("SELECT md5(string_agg(a::text, ',' ORDER BY a::text)) FROM assignments a"))
    assert after == before
    assert layers.get_version(session, sales.layer.id, draft).status == "draft"
    assert sales.publish(draft).moved == 2


def test_gaps_are_reported(session: Session, sales: Sales) -> None:
    draft = sales.draft()
    frame = box(-1, -1, 3, 3).difference(box(0, 0, 2, 2))
    areas.put_area(session, sales.layer.id, draft, actor=SYSTEM, name="Frame", geometry=frame)
    found = preview.coverage(session, sales.layer.id, draft)
    assert (found.overlap_count, found.gap_count) == (0, 1)
    assert 0 < found.gaps[0].lon < 2
    assert 1 < found.gaps[0].lat < 2
    assert found.gaps[0].geometry["type"] == "Polygon"


def test_contradictions_are_queued_and_resolved(session: Session, sales: Sales) -> None:
    draft = sales.draft()
    rule = {"field": "industry", "op": "=", "value": "mining"}
    areas.put_area(session, sales.layer.id, draft, sales.east, actor=SYSTEM, rule=rule)
    sales.publish(draft)
    against = make_customer(session, 0.5, 0.5, industry="mining")
    agreeing = make_customer(session, 1.5, 0.5, industry="mining")
    without = make_customer(session, 40, 40, industry="mining")
    nothing = make_customer(session, 41, 41)
    sales.evaluate(against, agreeing, without, nothing)
    found = {e.customer_id: (e.kind, e.area_id, e.polygon_area_id) for e in contradictions.find(session)}
    assert found == {
        against.id: ("rule_against_polygon", sales.east, sales.west),
        without.id: ("no_polygon", sales.east, None),
        nothing.id: ("nothing", None, None),
    }
    assert set(contradictions.count(session).values()) == {1}
    keys = {e.customer_id: (e.customer_id, e.site_id, e.layer_id) for e in contradictions.find(session)}
    stranger = actor_of(session, make_user(session, "manager", team_id=make_team(session).id))
    with pytest.raises(NotFound):
        contradictions.resolve(session, [keys[against.id]], action="dismiss", actor=stranger, reason="no")
    with pytest.raises(Forbidden):
        contradictions.resolve(
            session, [keys[against.id]], action="dismiss", actor=actor_of(session, make_user(session)), reason="no"
        )
    contradictions.resolve(session, [keys[against.id]], action="accept_rule", actor=SYSTEM, reason="rule", now=NOW)
    with pytest.raises(Invalid, match="which area"):
        contradictions.resolve(session, [keys[nothing.id]], action="name", actor=SYSTEM, reason="ours")
    contradictions.resolve(
        session, [keys[nothing.id]], action="name", area_id=sales.west, actor=SYSTEM, reason="ours", now=day(1)
    )
    assert sales.of(nothing, day(1)) == [(sales.west, "named")]
    contradictions.resolve(session, [keys[without.id]], action="dismiss", actor=SYSTEM, reason="far", now=NOW)
    assert contradictions.find(session) == []
    assert [e.resolution for e in contradictions.find(session, resolved=True)] == ["accept_rule", "dismiss"]
    sales.evaluate(against, without, now=day(2))  # the same contradictions stay resolved
    assert contradictions.find(session) == []
    without.industry = None
    session.flush()
    sales.evaluate(without, now=day(3))  # another one is a new entry
    assert [(e.customer_id, e.kind) for e in contradictions.find(session)] == [(without.id, "nothing")]


def test_a_leavers_territories_and_accounts_are_handed_over(
    session: Session, sales: Sales, as_user: Callable[[Actor], Any]
) -> None:
    leaver, heir = make_user(session, name="Leaver"), make_user(session, name="Heir")
    handover.set_owner(session, sales.west, owner_id=leaver.id, team_id=None, actor=SYSTEM, reason="plan", now=day(-9))
    owned, inside = make_customer(session, 60, 60, owner_id=leaver.id), make_customer(session, 0.5, 0.5)
    sales.evaluate(owned, inside)
    done = handover.hand_over(session, leaver.id, heir.id, actor=SYSTEM, reason="leaves", now=NOW)
    assert done == handover.HandedOver((sales.west,), 1)
    for user, names in ((leaver, set()), (heir, {owned.id, inside.id})):
        with as_user(actor_of(session, user)):
            assert set(session.scalars(text("SELECT customer_id FROM site_lookup"))) == names
    owners = {when: territories.at(session, 0.5, 0.5, as_of=day(when))[0].owner_id for when in (-10, -5, 1)}
    assert owners == {-10: None, -5: leaver.id, 1: heir.id}
    assert sales.of(inside) == [(sales.west, "polygon")]
    manager = actor_of(session, make_user(session, "manager", team_id=make_team(session).id))
    with pytest.raises(NotFound):
        handover.hand_over(session, heir.id, leaver.id, actor=manager, reason="x", now=day(1))
    with pytest.raises(Forbidden):
        handover.hand_over(session, heir.id, leaver.id, actor=actor_of(session, leaver), reason="x", now=day(1))


def test_the_owner_that_a_version_sets_counts_from_its_time(session: Session, sales: Sales) -> None:
    first, second = make_user(session), make_user(session)
    draft = sales.draft()
    areas.put_area(session, sales.layer.id, draft, sales.west, actor=SYSTEM, owner_id=first.id)
    sales.publish(draft, effective_from=day(-50))
    draft = sales.draft()
    areas.put_area(session, sales.layer.id, draft, sales.west, actor=SYSTEM, owner_id=second.id)
    sales.publish(draft, effective_from=day(50))
    found = {d: territories.at(session, 0.5, 0.5, as_of=day(d))[0].owner_id for d in (-51, -50, 0, 49, 50)}
    assert found == {-51: None, -50: first.id, 0: first.id, 49: first.id, 50: second.id}
    assert session.get(models.Area, sales.west).owner_id == first.id
    territories.make_due_current(session, now=day(50))
    assert session.get(models.Area, sales.west).owner_id == second.id


def test_sales_as_was_and_restated(session: Session, sales: Sales, as_user: Callable[[Actor], Any]) -> None:
    customer = make_customer(session, 0.5, 0.5)
    far = make_site(session, customer, 60, 60)
    sales.evaluate(customer)
    make_sale(session, customer, "10", occurred_at=day(-40))
    make_sale(session, customer, "20", occurred_at=day(-5))
    make_sale(session, customer, "5", occurred_at=day(-5), currency="EUR")
    make_sale(session, customer, "3", occurred_at=day(-5), site_id=far.id)
    draft = sales.draft()
    layers.name_accounts(session, sales.layer.id, draft, [(customer.id, sales.east)], actor=SYSTEM)
    sales.publish(draft, effective_from=day(-10))

    def report(basis: Any) -> list[tuple[Any, ...]]:
        rows = territories.sales_by_territory(
            session, sales.layer.id, day(-365), NOW, basis=basis, period="year", now=NOW
        )
        return [(r.area_id, r.currency, r.amount, r.sales) for r in rows]

    assert report("as_was") == [
        (sales.west, "USD", Decimal(10), 1), (sales.east, "EUR", Decimal(5), 1), (sales.east, "USD", Decimal(23), 2),
    ]  # fmt: skip
    assert report("restated") == [(sales.east, "EUR", Decimal(5), 1), (sales.east, "USD", Decimal(33), 3)]
    with as_user(actor_of(session, make_user(session))):
        assert report("as_was") == []
    with pytest.raises(Invalid):
        report("guessed")


def test_sales_without_a_site_are_those_of_the_primary_site_of_their_time(session: Session, sales: Sales) -> None:
    customer = make_customer(session, 0.5, 0.5)
    third, second = make_site(session, customer, 1.5, 0.5), make_site(session, customer, 60, 60)
    is_primary = (models.Site.customer_id == customer.id, models.Site.is_primary)
    was = session.scalars(select(models.Site).where(*is_primary)).one()
    sales.evaluate(customer)
    for until, site in ((day(-30), was), (day(-20), second)):
        session.add(models.FormerPrimarySite(customer_id=customer.id, until=until, site_id=site.id))
    was.is_primary, third.is_primary = False, True
    for amount, when in (("1", day(-40)), ("20", day(-30)), ("300", day(-21)), ("4000", day(-20)), ("50000", day(-5))):
        make_sale(session, customer, amount, occurred_at=when)
    make_sale(session, customer, "600000", occurred_at=day(-40), site_id=third.id)

    def report(basis: Any) -> dict[int | None, Decimal]:
        rows = territories.sales_by_territory(
            session, sales.layer.id, day(-365), NOW, basis=basis, period="year", now=NOW
        )
        return {row.area_id: row.amount for row in rows}

    assert report("as_was") == {sales.west: Decimal(1), None: Decimal(320), sales.east: Decimal(654000)}
    assert report("restated") == {sales.east: Decimal(654321)}


def test_reading_shows_what_the_actor_sees(session: Session, sales: Sales, as_user: Callable[[Actor], Any]) -> None:
    customer = make_customer(session, 0.5, 0.5)
    sales.evaluate(customer)
    rep = make_user(session)
    with as_user(actor_of(session, rep)):
        assert territories.history(session, customer.id) == []
        assert len(territories.at(session, 0.5, 0.5, as_of=NOW)) == 1  # whose an area is, everybody may know
    handover.set_owner(session, sales.west, owner_id=rep.id, team_id=None, actor=SYSTEM, reason="plan", now=NOW)
    with as_user(actor_of(session, rep)):
        assert [h.area_id for h in territories.history(session, customer.id)] == [sales.west]


def test_the_hot_function_answers_like_the_domain(session: Session, sales: Sales) -> None:
    rep = make_user(session, "rep")
    handover.set_owner(session, sales.west, owner_id=rep.id, team_id=None, actor=SYSTEM, reason="plan", now=day(-3))
    token, digest = access.new_token()
    session.add(models.UserSession(digest=digest, user_id=rep.id, csrf_token="x", expires_at=day(9999)))
    session.flush()
    session.execute(text("SET LOCAL ROLE geocrm_api"))
    query = text("SELECT geocrm_territories_at(:digest, :lon, :lat, CAST(:as_of AS timestamptz))")
    values = {"digest": digest, "lon": 0.5, "lat": 0.5, "as_of": NOW}
    assert session.scalar(query, values) == {
        "data": [
            {
                "layer": {"id": f"lay_{sales.layer.id}", "key": "sales", "name": sales.layer.name, "is_primary": True},
                "area": {"id": f"ter_{sales.west}", "name": "West"},
                "owner": {"id": f"usr_{rep.id}", "name": rep.name},
                "team": None,
                "basis": "polygon",
                "reason": "initial import",
                "since": "2024-01-01T00:00:00Z",
                "until": None,
                "layer_version": 1,
            }
        ]
    }
    shown = territories.as_shown(territories.at(session, 0.5, 0.5, as_of=NOW)[0])
    assert shown | {"since": "2024-01-01T00:00:00Z"} == session.scalar(query, values)["data"][0]
    assert shown["since"] == datetime(2024, 1, 1, tzinfo=UTC)
    outside = session.scalar(query, values | {"lon": 50})["data"][0]
    said = {"layer", "basis"}  # and nothing that would be invented
    assert outside == dict.fromkeys(outside, None) | {name: outside[name] for name in said}
    assert (outside["layer"]["key"], outside["basis"]) == ("sales", "none")
    assert session.scalar(query, values | {"as_of": datetime(2023, 1, 1, tzinfo=UTC)}) == {"data": []}
    assert token


def test_a_key_without_exact_places_is_answered_for_the_grid(session: Session, sales: Sales) -> None:
    user = make_user(session, "administrator")
    _, digest = access.new_token("gk_")
    session.add(
        models.ApiKey(user_id=user.id, name="k", prefix="gk", digest=digest, scopes=["customers:read"], created_at=NOW)
    )
    session.flush()
    snapped = session.execute(
        text("SELECT ST_X(p), ST_Y(p) FROM geocrm_snap(ST_SetSRID(ST_MakePoint(0.9999, 0.5), 4326)) p")
    ).one()
    expected = "West" if snapped[0] <= 1 else "East"
    found = session.scalar(
        text("SELECT geocrm_territories_at(:digest, 0.9999, 0.5, CAST(:as_of AS timestamptz))"),
        {"digest": digest, "as_of": NOW},
    )
    assert found["data"][0]["area"]["name"] == expected


def test_points_are_checked(session: Session) -> None:
    with pytest.raises(Invalid, match="lon, lat"):
        territories.at(session, float("nan"), 0)
    with pytest.raises(Invalid):
        territories.at_points(session, [0, 1], [0])
    with pytest.raises(TooLarge):
        territories.at_points(session, [0] * 1001, [0] * 1001)
    assert territories.at_points(session, [], []) == []


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
