"""What automations do: each event once, within caps, consents and hold-outs; schedules by the clock on the wall."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

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
    events,
    geofences,
    holdouts,
    offers,
    redemptions,
    schedules,
)
from geocrm.campaigns.events import NewEvent
from geocrm.crm import changes, tasks
from geocrm.db import models
from geocrm.db.engine import Database
from geocrm.errors import Conflict, Forbidden, Invalid, NotFound
from tests.makers import actor_of, make_customer, make_user

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)  # a Sunday
ENTERED = {"kind": "event", "type": "geofence.entered", "tag": "shops"}
DAILY = {"kind": "schedule", "at": "09:00", "time_zone": "America/Denver"}
CIRCLE = {"center": {"lon": 8.54, "lat": 47.37}, "radius_m": 120.0}


@pytest.fixture
def fence(session: Session) -> int:
    return geofences.put(session, SYSTEM, "shops", "a", CIRCLE).fence_id


def make_automation(session: Session, *, enabled: bool = True, now: datetime = NOW, **values: Any) -> models.Automation:
    """One that enters whoever comes into a shop into an audience, without a consent, unless said otherwise."""
    given: dict[str, Any] = {"name": "At the door", "trigger": ENTERED, "consent_purpose": None} | values
    if "action" not in given:
        given["action"] = {"kind": "audience", "audience_id": make_audience(session), "hours": 2.0}
    made = automations.create(session, SYSTEM, given)
    if enabled:
        automations.enable(session, SYSTEM, made, now=now)
    return made


def make_audience(session: Session) -> int:
    count = session.scalar(text("SELECT count(*) FROM audiences"))
    return entries.create(session, SYSTEM, f"Audience {count}")


def happen(session: Session, fence: int, *customers: models.Customer, at: datetime = NOW, **more: Any) -> list[int]:
    given = {"type": "geofence.entered", "purpose": "location", "geofence_id": fence} | more
    return events.record(session, [NewEvent(one.id, occurred_at=at, data={}, **given) for one in customers])


def act(session: Session, automation: models.Automation, now: datetime = NOW, **more: Any) -> int:
    session.flush()
    return acting.act(session, automation.id, now=now, **more)


def outcomes(session: Session, automation: models.Automation) -> list[tuple[int | None, str, str | None]]:
    rows = session.execute(
        text("SELECT customer_id, status, reason FROM automation_runs WHERE automation_id = :id ORDER BY id"),
        {"id": automation.id},
    )
    return [(row.customer_id, row.status, row.reason) for row in rows]


def members(session: Session, audience_id: int | None) -> dict[int, datetime | None]:
    with access.as_user(session, SYSTEM):
        found = session.execute(
            text("SELECT customer_id, expires_at FROM visible.audience_members WHERE audience_id = :id"),
            {"id": audience_id},
        )
        return {row.customer_id: row.expires_at for row in found}


def consent(session: Session, customer: models.Customer, purpose: str) -> None:
    granted = datetime(2026, 1, 1, tzinfo=UTC)
    session.add(models.Consent(customer_id=customer.id, purpose=purpose, channel="app", granted_at=granted))
    session.flush()


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

    def eligible(customer: models.Customer, at: datetime) -> tuple[str, ...]:
        with access.as_user(session, SYSTEM):
            (one,) = eligibility.judge(session, customer.id, 8.54, 47.37, moment=at, explain=True)
        return one.reasons

    assert eligible(ann, now + timedelta(seconds=1)) == ("not_in_audience",)
    happen(session, fence, ann, at=now)
    act(session, automation, now)
    moments = (now + timedelta(seconds=1), now + timedelta(minutes=119), now + timedelta(minutes=121))
    assert [eligible(ann, at) for at in moments] == [(), (), ("not_in_audience",)]
    assert eligible(bea, moments[0]) == ("not_in_audience",)
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


@pytest.mark.parametrize(
    ("after", "clock", "days", "zone", "expected"),
    [
        ("2026-11-22T10:00Z", "09:00", None, "America/Denver", "2026-11-22T16:00Z"),
        ("2026-11-22T16:00Z", "09:00", None, "America/Denver", "2026-11-23T16:00Z"),  # after, not at
        ("2026-03-07T17:00Z", "09:00", None, "America/Denver", "2026-03-08T15:00Z"),  # summer began, the clock says 9
        ("2026-10-31T16:00Z", "09:00", None, "America/Denver", "2026-11-01T16:00Z"),
        ("2026-03-08T05:00Z", "02:30", None, "America/Denver", "2026-03-08T09:30Z"),  # skipped: 3:30 by the clock
        ("2026-11-01T05:00Z", "01:30", None, "America/Denver", "2026-11-01T07:30Z"),  # the first of two
        ("2026-11-01T07:30Z", "01:30", None, "America/Denver", "2026-11-02T08:30Z"),  # and not the second
        ("2026-11-22T10:00Z", "09:00", ["sun"], "Pacific/Kiritimati", "2026-11-28T19:00Z"),  # Sunday there
        ("2026-11-22T10:00Z", "00:00", ["mon"], "UTC", "2026-11-23T00:00Z"),
        ("2026-11-23T00:00Z", "00:00", ["mon"], "UTC", "2026-11-30T00:00Z"),
        ("2011-12-29T12:00Z", "12:00", ["fri"], "Pacific/Apia", "2011-12-30T22:00Z"),  # a Friday that there was not
    ],
)
def test_a_schedule_goes_by_the_clock_on_the_wall(
    after: str, clock: str, days: list[str] | None, zone: str, expected: str
) -> None:
    at = time.fromisoformat(clock)
    every = days or ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    found = schedules.next_after(datetime.fromisoformat(after), at, every, ZoneInfo(zone))
    assert found == datetime.fromisoformat(expected)


def test_every_day_has_one_time_whatever_the_clock_does() -> None:
    """Against a minute-by-minute walk over the days on which clocks change."""
    for zone, start in (
        ("America/Denver", "2026-03-06"),
        ("America/Denver", "2026-10-30"),
        ("Australia/Lord_Howe", "2026-04-03"),
    ):
        for clock in ("01:30", "02:00", "02:30", "23:59"):
            moment, times = datetime.fromisoformat(f"{start}T00:00Z"), []
            while len(times) < 5:
                moment = schedules.next_after(
                    moment, time.fromisoformat(clock), ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ZoneInfo(zone)
                )
                times.append(moment.astimezone(ZoneInfo(zone)))
            assert [one.date() for one in times] == [times[0].date() + timedelta(days=n) for n in range(5)]
            assert sum(f"{one:%H:%M}" != clock for one in times) <= 1, (zone, clock, times)


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


def test_a_preview_counts_and_does_nothing(session: Session, fence: int) -> None:
    ann, bea, _ = make_customer(session), make_customer(session), make_customer(session)
    consent(session, ann, "marketing")
    automation = make_automation(session, enabled=False, consent_purpose="marketing")
    happen(session, fence, ann, ann, bea)
    session.execute(
        text("UPDATE events SET created_at = now() - interval '8 days' WHERE customer_id = :b"), {"b": bea.id}
    )
    happen(session, fence, bea)
    told = automations.preview(session, automation, now=datetime.now(UTC))
    assert told == {"customers": 2, "touched": 1, "skipped": {"no_consent": 1}, "events": 3, "next_at": None}
    automations.edit(session, SYSTEM, automation, {"trigger": DAILY})
    told = automations.preview(session, automation, now=NOW)
    assert told == {
        "customers": 3, "touched": 1, "skipped": {"no_consent": 2}, "events": None,
        "next_at": datetime(2026, 11, 22, 16, tzinfo=UTC),
    }  # fmt: skip
    assert session.scalar(text("SELECT count(*) FROM automation_runs")) == 0
    assert members(session, automation.audience_id) == {}


@pytest.mark.parametrize(
    ("values", "pointers"),
    [
        ({"trigger": ENTERED | {"tag": "nothing"}}, ["/trigger/tag"]),
        ({"trigger": ENTERED | {"external_id": "z"}}, ["/trigger/external_id"]),
        ({"trigger": {"kind": "event", "tag": "shops", "at": "09:00"}}, ["/trigger/at", "/trigger/type"]),
        ({"trigger": {"kind": "never"}}, ["/trigger/kind"]),
        ({"trigger": DAILY | {"days": []}}, ["/trigger/days"]),
        ({"trigger": DAILY | {"at": "24:30", "time_zone": "Denver"}}, ["/trigger/at", "/trigger/time_zone"]),
        ({"trigger": {"kind": "schedule", "tag": "shops"}}, ["/trigger/tag", "/trigger/at", "/trigger/time_zone"]),
        ({"action": {"kind": "offer", "offer_id": 999}}, ["/action/offer_id"]),
        ({"action": {"kind": "offer"}}, ["/action/offer_id"]),
        ({"action": {"kind": "audience", "audience_id": 999, "title": "x"}}, ["/action/title", "/action/audience_id"]),
        ({"action": {"kind": "audience"}}, ["/action/audience_id"]),
        ({"action": {"kind": "task", "due_days": 900}}, ["/action/title", "/action/due_days"]),
        ({"action": {"kind": "sing"}}, ["/action/kind"]),
        ({"condition": {"audience": "aud_999"}}, ["/condition"]),
        ({"condition": {"field": "nothing", "value": 1}}, ["/condition/field"]),
        ({"cap_days": 0, "hold_out_share": 0.95}, ["/cap_days", "/hold_out_share"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_nothing_is_written(
    session: Session, fence: int, values: dict[str, Any], pointers: list[str]
) -> None:
    automation = make_automation(session, enabled=False)
    before = {name: getattr(automation, name) for name in models.Automation.__mapper__.column_attrs.keys()}  # noqa: SIM118
    for attempt in (
        lambda: make_automation(session, enabled=False, **values),
        lambda: automations.edit(session, SYSTEM, automation, values),
    ):
        with pytest.raises(Invalid) as caught:
            attempt()
        assert [fault["pointer"] for fault in caught.value.errors] == pointers
    assert {name: getattr(automation, name) for name in before} == before
    assert session.scalar(text("SELECT count(*) FROM automations")) == 1


def test_offers_that_no_automation_can_make(session: Session) -> None:
    ends = datetime.now(UTC) + timedelta(days=3)
    make_customer(session)
    plain = offers.create_offer(session, actor=SYSTEM, name="Tea", title="Tea", ends_at=ends, consent_purpose=None)
    for status in ("draft", "live", "ended"):
        if status == "live":
            offers.go_live(session, plain.id, actor=SYSTEM)
        if status == "ended":
            offers.end_offer(session, plain.id, actor=SYSTEM)
        action = {"kind": "offer", "offer_id": plain.id}
        said = "has ended" if status == "ended" else "not one that automations make"
        with pytest.raises(Invalid, match=said) as caught:
            make_automation(session, trigger=DAILY, action=action)
        assert [fault["pointer"] for fault in caught.value.errors] == ["/action/offer_id"]


def test_what_stands_in_the_way_of_enabling(session: Session, fence: int) -> None:
    dwelled = make_automation(session, enabled=False, trigger=ENTERED | {"type": "geofence.dwelled"})
    task = make_automation(session, enabled=False, action={"kind": "task", "title": "Call"})
    empty = make_automation(session, enabled=False, condition={"audience": f"aud_{make_audience(session)}"})
    unknown = make_automation(session, enabled=False, condition={"field": "segments.gone", "value": "seg_1"})
    make_customer(session)
    for automation, pointer in (
        (dwelled, "/trigger/type"), (task, "/action/kind"), (empty, "/condition"), (unknown, "/condition"),
    ):  # fmt: skip
        assert [fault["pointer"] for fault in automations.check(session, automation)] == [pointer]
        with pytest.raises(Invalid):
            automations.enable(session, SYSTEM, automation)
        assert not automation.enabled
    geofences.delete(session, SYSTEM, "shops", "a")
    assert automations.check(session, empty)[0]["pointer"] == "/trigger/tag"


def test_it_is_changed_while_it_is_not_enabled(session: Session, fence: int) -> None:
    customer = make_customer(session)
    automation = make_automation(session)
    analyst = actor_of(session, make_user(session, "analyst"))
    for change in (automations.edit, automations.delete):
        with pytest.raises(Conflict, match="is enabled"):
            change(session, SYSTEM, automation, *([{"name": "Other"}] if change is automations.edit else []))  # type: ignore[operator]
    with pytest.raises(Forbidden):
        automations.disable(session, analyst, automation)
    happen(session, fence, customer)
    automations.disable(session, SYSTEM, automation, now=NOW)
    assert outcomes(session, automation) == [(customer.id, "skipped", "disabled")]
    with pytest.raises(Forbidden):
        automations.enable(session, analyst, automation)
    automations.edit(session, analyst, automation, {"name": "Other", "cap_days": 5})
    assert (automation.name, automation.cap_days, automation.event_type) == ("Other", 5, "geofence.entered")
    into = {"action": {"kind": "audience", "audience_id": automation.audience_id}}
    automations.edit(session, analyst, automation, {"action": {"kind": "task", "title": "Call"}})
    assert (automation.consent_purpose, automation.audience_id) == (None, None)
    automations.edit(session, analyst, automation, into)
    assert automation.consent_purpose == "marketing", "what is no task asks for a consent, unless none is said"
    automations.edit(session, analyst, automation, into | {"consent_purpose": None})
    assert automation.consent_purpose is None
    automations.delete(session, analyst, automation)
    assert session.scalar(text("SELECT count(*) FROM automation_runs")) == 0


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
    changes.withdraw_consent(session, SYSTEM, ann, "marketing", "app")
    assert made_for(ann) == [0, 0, 1, 0]
    changes.withdraw_consent(session, SYSTEM, bea, "marketing", "app")
    assert made_for(bea) == [0, 1, 3, 1]
    logged = session.scalars(text("SELECT r::text FROM automation_runs r")).all()
    assert not any("8.54" in one or "47.37" in one for one in logged)


def test_each_sees_own_customers_and_a_partner_nothing_of_fences(session: Session, fence: int) -> None:
    rep = make_user(session)
    own, other = make_customer(session, owner_id=rep.id), make_customer(session)
    for one in (own, other):
        consent(session, one, "location")
    automation = make_automation(session, action={"kind": "audience", "audience_id": make_audience(session)})
    calls = make_automation(session, action={"kind": "task", "title": "Call"})
    daily = make_automation(session, trigger=DAILY, condition={"field": "stage", "value": "lapsed"})
    happen(session, fence, own, other)
    act(session, automation)
    act(session, calls)
    act(session, daily, NOW + timedelta(days=1))
    actor = actor_of(session, rep)
    scopes = frozenset({"customers:read"})
    partner = access.Actor(
        actor.user_id, actor.name, actor.role, owners=actor.owners, key_id=1, scopes=scopes, exact=False
    )
    for who, seen, counted, to_do in ((actor, [own.id], 0, 1), (partner, [], 0, 0), (SYSTEM, [own.id, other.id], 1, 1)):
        with access.as_user(session, who):
            log = automations.find_runs(session, automation.id)
            inside = entries.find_members(session, automation.audience_id or 0)
            for rows in (log, inside):
                assert sorted(int(one["customer"]["id"][4:]) for one in rows) == seen
            assert entries.get(session, automation.audience_id or 0, count=True)["members"] == len(seen)
            assert len(automations.find_runs(session, daily.id)) == counted
            assert len(tasks.find(session)) == to_do
    with pytest.raises(Invalid, match="exact places"):
        filters.parse({"audience": "aud_1"}, reader=filters.Reader(exact=False))


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
                "SELECT customer_id, status, reason, count(*) AS n FROM automation_runs GROUP BY 1, 2, 3 ORDER BY 1, 2"
            )
        ).all()
        expected = [row for one in kept for row in ((one, "done", None, 1), (one, "skipped", "capped", 2))]
        assert [tuple(row) for row in counts] == expected
