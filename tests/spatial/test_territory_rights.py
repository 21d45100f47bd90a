"""Who may publish and preview, contradictions, hand-over."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from shapely import box
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access
from geocrm.access import SYSTEM, Actor
from geocrm.db import models
from geocrm.errors import (
    Forbidden,
    Invalid,
    NotFound,
)
from geocrm.spatial import areas, contradictions, handover, layers, preview, territories
from tests.makers import actor_of, make_customer, make_sale, make_team, make_user, square
from tests.spatial.two_squares import NOW, START, Sales, day


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
