"""Automations as they are kept: made, refused, tried out, enabled, changed, and seen."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import access, filters
from geocrm.access import SYSTEM
from geocrm.campaigns import (
    automations,
    entries,
    geofences,
    offers,
)
from geocrm.crm import tasks
from geocrm.db import models
from geocrm.errors import Conflict, Forbidden, Invalid
from tests.campaigns.automated import (
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
