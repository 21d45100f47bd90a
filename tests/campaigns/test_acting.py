"""What automations do: each event once, within caps, consents and hold-outs, and what of it is deleted."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, filters
from geocrm.access import SYSTEM
from geocrm.campaigns import (
    acting,
    audiences,
    automations,
    eligibility,
    entries,
    geofences,
    holdouts,
    offers,
    redemptions,
)
from geocrm.crm import changes, tasks
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import Conflict, Forbidden, Invalid, NotFound
from tests.campaigns.automated import (
    CIRCLE,
    DAILY,
    ENTERED,
    NOW,
    act,
    consent,
    happen,
    make_audience,
    make_automation,
    members,
    outcomes,
)
from tests.makers import actor_of, make_customer, make_user


def test_an_event_enters_its_customer_into_an_audience_once(session: Session, fence: int) -> None:
    ann, bea = make_customer(session), make_customer(session)
    automation = make_automation(session)
    idle = make_automation(session, enabled=False)
    numbers = happen(session, fence, ann, bea)
    happen(session, fence, ann, type="geofence.exited")
    other = geofences.put(session, SYSTEM, "depots", "a", CIRCLE).fence_id
    happen(session, other, ann)
    assert outcomes(session, automation) == [(ann.id, "waiting", None), (bea.id, "waiting", None)]
    assert act(session, automation) == 2
    assert members(session, automation.audience_id) == dict.fromkeys((ann.id, bea.id), NOW + timedelta(hours=2))
    assert act(session, automation) == 0
    assert outcomes(session, idle) == []
    with access.as_user(session, SYSTEM):
        log = automations.find_runs(session, automation.id)
    assert [(one["event_id"], one["status"], one["expires_at"]) for one in log] == [
        (f"evt_{number}", "done", NOW + timedelta(hours=2)) for number in reversed(numbers)
    ]
    # late, so that it would be over already; again, which moves the end on, and not back
    happen(session, fence, ann, at=NOW - timedelta(hours=3))
    happen(session, fence, ann, at=NOW + timedelta(minutes=30))
    happen(session, fence, ann, at=NOW + timedelta(minutes=10))
    act(session, automation, NOW + timedelta(minutes=31))
    assert members(session, automation.audience_id)[ann.id] == NOW + timedelta(hours=2, minutes=30)
    assert outcomes(session, automation)[2] == (ann.id, "skipped", "too_late")
    # a filter that names it holds until the end, and the sweep takes out who is there
    wanted = filters.parse({"audience": f"aud_{automation.audience_id}"})
    assert wanted.sentence() == f"in audience aud_{automation.audience_id}"
    session.execute(
        text("UPDATE audience_members SET expires_at = now() + interval '1 hour' * (customer_id = :ann)::integer"),
        {"ann": ann.id},
    )
    condition = wanted.compile("customer", schema="public")
    found = session.scalars(text(f"SELECT c.id FROM customers c WHERE {condition.named()}"), condition.params())
    assert found.all() == [ann.id]
    assert entries.leave_expired(session, now=datetime.now(UTC)) == 1
    assert list(members(session, automation.audience_id)) == [ann.id]


def test_one_fence_of_a_tag(session: Session, fence: int) -> None:
    customer = make_customer(session)
    other = geofences.put(session, SYSTEM, "shops", "b", CIRCLE).fence_id
    automation = make_automation(session, trigger=ENTERED | {"external_id": "b"})
    happen(session, fence, customer)
    assert outcomes(session, automation) == []
    happen(session, other, customer)
    assert outcomes(session, automation) == [(customer.id, "waiting", None)]


def test_who_is_left_aside_and_why(session: Session, fence: int) -> None:
    names = ("done", "lapsed", "no consent", "held out", "erased")
    customers = {name: make_customer(session) for name in names}
    customers["lapsed"].stage = "lapsed"
    for name in ("done", "lapsed", "held out", "erased"):
        consent(session, customers[name], "marketing")
    customers["erased"].erased_at = NOW
    automation = make_automation(
        session, condition={"field": "stage", "op": "=", "value": "active"}, consent_purpose="marketing",
        hold_out_share=0.3, campaign_id=7, cap_days=3,
    )  # fmt: skip
    for name in ("done", "held out"):  # look for a customer whom the hash holds out, or does not
        while holdouts.is_held_out("cam_7", f"cus_{customers[name].id}", 0.3) is not (name == "held out"):
            customers[name] = make_customer(session)
            consent(session, customers[name], "marketing")
    while holdouts.is_held_out("cam_7", f"cus_{customers['no consent'].id}", 0.3):
        customers["no consent"] = make_customer(session)
    happen(session, fence, *customers.values(), customers["done"])
    act(session, automation)
    expected = ["done", "not_in_condition", "no_consent", "held_out", "no_customer", "capped"]
    assert [reason or status for _, status, reason in outcomes(session, automation)] == expected
    assert list(members(session, automation.audience_id)) == [customers["done"].id]
    for days, reason in ((2.9, "capped"), (3.1, None)):
        later = NOW + timedelta(days=days)
        happen(session, fence, customers["done"], at=later)
        act(session, automation, later)
        assert outcomes(session, automation)[-1][2] == reason
    assert set(automations.REASONS) >= set(expected) - {"done"}


def test_an_offer_is_made_by_an_event_and_holds_for_so_long(session: Session, fence: int) -> None:
    now = datetime.now(UTC)
    ann, bea = make_customer(session, 8.54, 47.37), make_customer(session, 8.54, 47.37)
    audience = make_audience(session)
    offer = offers.create_offer(
        session, actor=SYSTEM, name="Coffee", title="A coffee", ends_at=now + timedelta(days=3), consent_purpose=None,
        audience={"audience": f"aud_{audience}"},
    )  # fmt: skip
    assert [one["pointer"] for one in offers.check_draft(session, offer.id)] == ["/audience"]
    action = {"kind": "offer", "offer_id": offer.id, "hours": 2.0}
    automation = make_automation(session, enabled=False, action=action)
    assert [one["pointer"] for one in automations.check(session, automation)] == ["/action/offer_id"]
    with pytest.raises(Invalid, match="not live"):
        automations.enable(session, SYSTEM, automation)
    assert offers.check_draft(session, offer.id) == [], "an automation makes it"
    offers.go_live(session, offer.id, actor=SYSTEM)
    automations.enable(session, SYSTEM, automation)

    def judged(customer: models.Customer, at: datetime) -> eligibility.Judged:
        with access.as_user(session, SYSTEM):
            (one,) = eligibility.judge(session, customer.id, 8.54, 47.37, moment=at, explain=True)
        return one

    def eligible(customer: models.Customer, at: datetime) -> tuple[str, ...]:
        return judged(customer, at).reasons

    assert eligible(ann, now + timedelta(seconds=1)) == ("not_in_audience",)
    happen(session, fence, ann, at=now)
    act(session, automation, now)
    moments = (now + timedelta(seconds=1), now + timedelta(minutes=119), now + timedelta(minutes=121))
    assert [eligible(ann, at) for at in moments] == [(), (), ("not_in_audience",)]
    assert judged(ann, moments[0]).open_until == now + timedelta(hours=2), "not the end of the offer, days later"
    assert eligible(bea, moments[0]) == ("not_in_audience",)
    assert judged(bea, moments[0]).open_until == now + timedelta(days=3)
    with pytest.raises(Conflict):
        redemptions.redeem(session, offer.id, bea.id, actor=SYSTEM, key="b")
    assert not redemptions.redeem(session, offer.id, ann.id, actor=SYSTEM, key="a").again
    # an end of the offer is the end of the entry, and what has ended is not made
    offers.edit_offer(session, offer.id, actor=SYSTEM, ends_at=now + timedelta(hours=1))
    offers.go_live(session, offer.id, actor=SYSTEM)
    happen(session, fence, bea, at=now)
    act(session, automation, now)
    assert members(session, audience)[bea.id] == now + timedelta(hours=1)
    offers.end_offer(session, offer.id, actor=SYSTEM)
    happen(session, fence, bea, at=now)
    act(session, automation, now)
    assert outcomes(session, automation)[-1] == (bea.id, "failed", "offer_not_live")


def test_audiences_that_ask_who_was_entered_follow(session: Session, fence: int) -> None:
    active, lapsed = make_customer(session), make_customer(session, stage="lapsed")
    automation = make_automation(session)
    both = {"all": [{"audience": f"aud_{automation.audience_id}"}, {"field": "stage", "op": "=", "value": "active"}]}
    worked_out = audiences.find_or_make(session, filters.parse(both))
    assert audiences.refresh(session, worked_out.id) == 0
    now = datetime.now(UTC)
    happen(session, fence, active, lapsed, at=now)
    act(session, automation, now)
    assert audiences.follow(session) == 2
    assert list(members(session, worked_out.id)) == [active.id]
    session.execute(text("UPDATE audience_members SET expires_at = now() WHERE expires_at IS NOT NULL"))
    assert entries.leave_expired(session, now=datetime.now(UTC)) == 2
    audiences.follow(session)
    assert members(session, worked_out.id) == {}
    with pytest.raises(Invalid, match="there is no audience aud_999"):
        audiences.find_or_make(session, filters.parse({"audience": "aud_999"}))
    with pytest.raises(Conflict, match="names this audience"):
        entries.delete(session, SYSTEM, entries.open_for_edit(session, automation.audience_id or 0))


def test_a_task_goes_to_the_rep_of_the_territory(session: Session, fence: int) -> None:
    layer = models.Layer(key="sales", name="Sales", kind="territories", is_primary=True)
    session.add(layer)
    session.flush()
    rep, keeper, gone = make_user(session), make_user(session), make_user(session, active=False)
    front = models.Area(layer_id=layer.id, name="Front", owner_id=rep.id)
    vacant = models.Area(layer_id=layer.id, name="Vacant", owner_id=gone.id)
    session.add_all([front, vacant])
    session.flush()

    def placed(area: models.Area, owner: models.User | None) -> models.Customer:
        more: dict[str, Any] = {"owner_id": None if owner is None else owner.id, "territory_ids": [area.id]}
        return make_customer(session, 8.54, 47.37, site={"territory_id": area.id}, **more)

    ours, owned, nobodys = placed(front, keeper), placed(vacant, keeper), placed(vacant, gone)
    action = {"kind": "task", "title": "Call", "details": "About the visit", "due_days": 2}
    automation = make_automation(session, action=action)
    happen(session, fence, ours, owned, nobodys, ours)
    act(session, automation)
    assert [reason for _, _, reason in outcomes(session, automation)] == [None, None, "no_rep", "task_open"]
    with access.as_user(session, actor_of(session, rep)):
        (seen,) = tasks.find(session)
    assert (seen["customer"]["id"], seen["assignee"]["id"]) == (f"cus_{ours.id}", f"usr_{rep.id}")
    assert (seen["title"], seen["details"], seen["due_at"]) == ("Call", "About the visit", NOW + timedelta(days=2))
    with access.as_user(session, SYSTEM):
        assert [one["assignee"]["id"] for one in tasks.find(session)] == [f"usr_{rep.id}", f"usr_{keeper.id}"]
    number = int(seen["id"].removeprefix("tsk_"))
    with pytest.raises(NotFound):
        tasks.finish(session, actor_of(session, make_user(session)), number)
    with pytest.raises(Forbidden):
        tasks.finish(session, actor_of(session, make_user(session, "analyst")), number)
    done = tasks.finish(session, actor_of(session, rep), number)
    assert done["done_by"]["id"] == f"usr_{rep.id}"
    assert tasks.finish(session, actor_of(session, rep), number)["version"] == done["version"], "done twice is once"
    happen(session, fence, ours)
    act(session, automation)
    assert outcomes(session, automation)[-1] == (ours.id, "done", None)


def test_a_schedule_acts_on_everybody_who_passes_and_a_missed_time_is_done_once(session: Session) -> None:
    customers = [make_customer(session, stage="lapsed" if n % 2 else "active") for n in range(7)]
    condition = {"field": "stage", "op": "=", "value": "active"}
    action = {"kind": "audience", "audience_id": make_audience(session), "hours": 24.0}
    automation = make_automation(session, trigger=DAILY, condition=condition, action=action)
    first = datetime(2026, 11, 22, 16, tzinfo=UTC)
    assert automation.next_at == first
    assert act(session, automation) == 0
    late = first + timedelta(days=3, hours=1)  # nobody worked for days
    looked_at = 0
    for _ in range(3):  # two lots, and then there is nobody more
        looked_at += act(session, automation, late, round_lot=4)
    assert looked_at >= 7
    active = [one.id for one in customers if one.stage == "active"]
    assert members(session, automation.audience_id) == dict.fromkeys(active, late + timedelta(hours=24))
    session.refresh(automation)
    assert (automation.next_at, automation.round_for) == (first + timedelta(days=4), None)
    assert act(session, automation, late, round_lot=4) == 0
    assert sorted(outcomes(session, automation), key=str) == sorted(
        [*((one, "done", None) for one in active), (None, "skipped", "not_in_condition")], key=str
    )
    assert session.scalar(text("SELECT customers FROM automation_runs WHERE customer_id IS NULL")) == 3
    automations.disable(session, SYSTEM, automation, now=late)
    assert automation.next_at is None
    assert act(session, automation, first + timedelta(days=9)) == 0


def test_a_condition_that_cannot_be_asked_any_longer_is_told_in_the_log(session: Session, fence: int) -> None:
    customer = make_customer(session)
    automation = make_automation(session)
    automation.condition = {"field": "segments.gone", "op": "=", "value": "seg_1"}
    happen(session, fence, customer)
    with pytest.raises(Exception, match="gone"), session.begin_nested():
        act(session, automation)
    acting.give_up(session, automation.id, now=NOW)
    assert outcomes(session, automation) == [(customer.id, "failed", "not_possible")]
    daily = make_automation(session, trigger=DAILY)
    acting.give_up(session, daily.id, now=NOW + timedelta(days=2))
    assert outcomes(session, daily) == [(None, "failed", "not_possible")]
    assert daily.next_at == datetime(2026, 11, 24, 16, tzinfo=UTC)


def test_a_withdrawn_consent_takes_along_what_was_made_under_it(session: Session, fence: int) -> None:
    rep = make_user(session)
    ann, bea = make_customer(session, owner_id=rep.id), make_customer(session, owner_id=rep.id)
    for one in (ann, bea):
        for purpose in ("location", "marketing"):
            consent(session, one, purpose)
    into = make_automation(session, consent_purpose="marketing")
    calls = make_automation(session, action={"kind": "task", "title": "Call"})
    daily = make_automation(session, trigger=DAILY, consent_purpose="marketing")
    happen(session, fence, ann, bea)
    for automation in (into, calls, daily):
        act(session, automation, NOW + timedelta(hours=7 if automation is daily else 0))

    def made_for(customer: models.Customer) -> list[int]:
        return [
            session.scalar(text(f"SELECT count(*) FROM {table} WHERE customer_id = :id"), {"id": customer.id}) or 0
            for table in ("audience_members", "tasks", "automation_runs", "events")
        ]

    assert made_for(ann) == made_for(bea) == [2, 1, 3, 1]
    changes.withdraw_consent(session, SYSTEM, ann, "location", "app")
    assert made_for(ann) == [1, 0, 1, 0], "what the schedule did says nothing of a place"
    counted = {"last_at": NOW, "done": 1, "skipped": 0, "failed": 0, "waiting": 0, "forgotten": 1}
    with access.as_user(session, SYSTEM):
        latest = automations.find_latest(session, [into.id, daily.id])
        assert (latest[into.id], latest[daily.id]["forgotten"]) == (counted, 0)
        assert len(automations.find_runs(session, into.id)) == 1
    changes.withdraw_consent(session, SYSTEM, ann, "marketing", "app")
    assert made_for(ann) == [0, 0, 1, 0]
    changes.withdraw_consent(session, SYSTEM, bea, "marketing", "app")
    assert made_for(bea) == [0, 1, 3, 1]
    logged = session.scalars(text("SELECT r::text FROM automation_runs r")).all()
    assert not any("8.54" in one or "47.37" in one for one in logged)


def test_old_runs_are_deleted_but_not_those_that_a_cap_goes_by(new_database: Callable[[], Database]) -> None:
    database = new_database()
    with database.writing() as session:
        fence = geofences.put(session, SYSTEM, "shops", "a", CIRCLE).fence_id
        customer = make_customer(session)
        capped, free = make_automation(session, cap_days=200), make_automation(session)
        happen(session, fence, customer, customer)
        for automation in (capped, free):
            act(session, automation)
        session.execute(text("UPDATE automation_runs SET created_at = :at"), {"at": NOW})
    assert acting.expire(database, now=NOW + timedelta(days=91), keep_days=90, chunk=2) == 3
    assert acting.expire(database, now=NOW + timedelta(days=201), keep_days=90) == 1


def test_workers_side_by_side_and_a_withdrawal_meanwhile(new_database: Callable[[], Database]) -> None:
    """Each event once, whoever takes it; and who withdraws while a lot is done is in nothing afterwards."""
    database = new_database()
    with database.writing() as session:
        fence = geofences.put(session, SYSTEM, "shops", "a", CIRCLE).fence_id
        customers = [make_customer(session) for _ in range(40)]
        for one in customers:
            consent(session, one, "location")
            consent(session, one, "marketing")
        automation = make_automation(session, consent_purpose="marketing", cap_days=1)
        for _ in range(3):
            happen(session, fence, *customers)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            acting.act_due(database, now=NOW, lot=7)

    def withdraw() -> None:
        for one in customers[::2]:
            with database.writing() as session:
                opened = changes.open_for_edit(session, SYSTEM, one.id)
                changes.withdraw_consent(session, SYSTEM, opened, "location", "app")

    workers = [threading.Thread(target=work) for _ in range(2)]
    withdrawing = threading.Thread(target=withdraw)
    for thread in (*workers, withdrawing):
        thread.start()
    withdrawing.join(60)
    for _ in range(200):
        with database.writing() as session:
            if not session.scalar(text("SELECT count(*) FROM automation_runs WHERE status = 'waiting'")):
                break
        stop.wait(0.05)
    stop.set()
    for thread in workers:
        thread.join(60)
    with database.writing() as session:
        kept = [one.id for one in customers[1::2]]
        assert sorted(members(session, automation.audience_id)) == kept
        counts = session.execute(
            text(
                "SELECT customer_id, status, reason, sum(customers) FROM automation_runs GROUP BY 1, 2, 3 ORDER BY 1, 2"
            )
        ).all()
        expected = [row for one in kept for row in ((one, "done", None, 1), (one, "skipped", "capped", 2))]
        assert [tuple(row) for row in counts] == [*expected, (None, "skipped", "forgotten", 3 * len(kept))]
