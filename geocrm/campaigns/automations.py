"""Automations: when an event happens to a customer, or at an hour, make an offer, a task, or an entry in an audience.

Made and edited while they are not enabled; what stands in the way is said when they are. What they do is done by the
worker (`acting`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import Row, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from geocrm import filters, ids
from geocrm.access import Actor, require
from geocrm.campaigns import audiences, entries, events, holdouts, hours, offers, schedules
from geocrm.db import audit
from geocrm.db.models import Automation, Geofence, Offer
from geocrm.db.queries import named
from geocrm.errors import Conflict, Fault, Invalid, NotFound

MOST: Final = 1000
LONGEST_CAP_DAYS: Final = 366
LONGEST_HOURS: Final = 24 * 366
LATEST_DUE_DAYS: Final = 366
PREVIEW_DAYS: Final = 7
LATEST_RUNS: Final = 1000
"""Of so many runs it is told in a list what came of them."""
CONSENT: Final = "marketing"
"""The purpose of the consent that offers and audiences ask for unless another one, or none, is said; tasks ask none."""
REASONS: Final = {
    "no_customer": "the customer is no more",
    "not_in_condition": "the customer does not pass the condition",
    "no_consent": "the customer's consent is missing",
    "held_out": "the customer is held out, so that what it brings can be measured",
    "capped": "it did this for the customer within the days of the cap",
    "too_late": "what it gives would have been over already",
    "already_in": "the customer is in the audience for at least as long",
    "task_open": "the task it made before is still open",
    "no_rep": "neither the territory nor the customer has an active rep",
    "disabled": "it was disabled meanwhile",
    "offer_not_live": "the offer is not live any longer",
    "offer_changed": "the offer does not ask for one audience any longer",
    "not_possible": "the condition could not be asked; the log of the server says why",
}
"""Why a run did nothing, in words; the last three are failures, the others were left aside."""
UNKNOWN_KEY: Final = "GC422"
"""What the database answers where a filter names a segmentation or score that there is not."""
FAILURES: Final = frozenset({"offer_not_live", "offer_changed", "not_possible"})


@dataclass(frozen=True, slots=True)
class Target:
    """What the action of an automation comes down to: the audience that customers are entered into and until when at
    most, or a `failure` because of which it cannot be done. For a task all are None."""

    audience_id: int | None = None
    ends_at: datetime | None = None
    failure: str | None = None


def find(session: Session, *, after: int = 0, limit: int = 50) -> Sequence[Automation]:
    """Automations by id."""
    return session.scalars(select(Automation).where(Automation.id > after).order_by(Automation.id).limit(limit)).all()


def get(session: Session, automation_id: int) -> Automation:
    """An automation; raises NotFound."""
    found = session.get(Automation, automation_id, populate_existing=True)
    if found is None:
        raise NotFound()
    return found


def open_for_edit(session: Session, automation_id: int) -> Automation:
    """The automation, locked; raises NotFound."""
    found = session.get(Automation, automation_id, with_for_update={"key_share": True}, populate_existing=True)
    if found is None:
        raise NotFound()
    return found


def create(session: Session, actor: Actor, values: Mapping[str, Any]) -> Automation:
    """A new automation, not enabled. `values` are name, trigger, action, and optionally condition, consent_purpose,
    cap_days, hold_out_share, campaign_id.

    Raises Forbidden, Conflict where there are too many, Invalid with a pointer for what cannot be or is not there."""
    require(actor, "automations:write")
    if int(session.scalar(text("SELECT count(*) FROM automations")) or 0) >= MOST:
        raise Conflict(f"There are {MOST:,} automations already: delete those that nobody needs.")
    made = Automation(created_by=actor.user_id, enabled=False, hold_out_share=0.0)
    _set(session, actor, made, values)
    if "consent_purpose" not in values and made.action != "task":
        made.consent_purpose = CONSENT
    session.add(made)
    session.flush()
    session.refresh(made)
    _record(session, actor, "automation.create", made.id, after=dict(values))
    return made


def edit(session: Session, actor: Actor, automation: Automation, changes: Mapping[str, Any]) -> None:
    """Change what is given; trigger and action as wholes. Raises Forbidden, Invalid as `create`, Conflict while it is
    enabled."""
    require(actor, "automations:write")
    if automation.enabled:
        raise Conflict("This automation is enabled: disable it, change it, and enable it again.")
    was_task = automation.action == "task"
    _set(session, actor, automation, changes)
    if was_task and automation.action != "task" and "consent_purpose" not in changes:
        automation.consent_purpose = automation.consent_purpose or CONSENT
    _changed(session, automation)
    _record(session, actor, "automation.update", automation.id, after=dict(changes))


def delete(session: Session, actor: Actor, automation: Automation) -> None:
    """Take an automation away, with its log; what it made stays. Raises Forbidden, Conflict while it is enabled."""
    require(actor, "automations:write")
    if automation.enabled:
        raise Conflict("This automation is enabled: disable it first.")
    number, before = automation.id, {"name": automation.name}
    session.execute(text("DELETE FROM automations WHERE id = CAST(:id AS bigint)"), {"id": number})
    session.expunge(automation)
    _record(session, actor, "automation.delete", number, before=before)


def enable(session: Session, actor: Actor, automation: Automation, *, now: datetime | None = None) -> None:
    """From now on it acts. Raises Forbidden, Invalid with every fault of `check`."""
    require(actor, "automations:publish")
    if automation.enabled:
        return
    faults = check(session, automation)
    if faults:
        said = "; ".join(f"{fault['pointer'].lstrip('/')}: {fault['detail']}" for fault in faults)
        raise Invalid(f"The automation cannot be enabled yet. {said}", errors=faults)
    automation.enabled = True
    automation.next_at = next_at(automation, now or datetime.now(UTC))
    _changed(session, automation)
    _record(session, actor, "automation.enable", automation.id)


def disable(session: Session, actor: Actor, automation: Automation, *, now: datetime | None = None) -> None:
    """It acts no longer; what waits is left aside. Raises Forbidden."""
    require(actor, "automations:publish")
    if not automation.enabled:
        return
    automation.enabled = False
    automation.next_at = automation.round_for = automation.round_after = None
    values = {"automation": automation.id, "status": "skipped", "reason": "disabled", "runs": None}
    session.execute(text(named("automations", "finish_all")), values | {"now": now or datetime.now(UTC)})
    _changed(session, automation)
    _record(session, actor, "automation.disable", automation.id)


def next_at(automation: Automation, after: datetime) -> datetime | None:
    """When a schedule comes round next; None for an event."""
    if automation.trigger != "schedule":
        return None
    clock = schedules.read_clock(automation.clock or "")
    assert clock is not None
    return schedules.next_after(after, clock, automation.days or (), hours.read_zone(automation.time_zone or ""))


def check(session: Session, automation: Automation) -> list[Fault]:
    """What stands in the way of enabling it: a fence that is gone or cannot make the event, an offer that is not live,
    nobody who could do a task, a condition that cannot be asked or that nobody will ever pass."""
    faults = _trigger_faults(session, automation)
    failure = target(session, automation).failure
    if failure == "offer_not_live":
        faults.append({"pointer": "/action/offer_id", "detail": "the offer is not live: set it live first"})
    elif failure is not None:
        faults.append(_NO_AUDIENCE)
    if automation.action == "task" and not session.scalar(text(named("automations", "has_reps"))):
        fault = "neither a territory nor a customer has an active rep who could do it"
        faults.append({"pointer": "/action/kind", "detail": fault})
    return faults + _condition_faults(session, automation)


def target(session: Session, automation: Automation) -> Target:
    """What the action comes down to now."""
    if automation.action == "task":
        return Target()
    if automation.action == "audience":
        return Target(automation.audience_id)
    assert automation.offer_id is not None
    offer = session.get(Offer, automation.offer_id, populate_existing=True)
    if offer is None or offers.status_of(offer) != "live" or offer.live_version is None:
        return Target(failure="offer_not_live")
    version = offers.get_version(session, offer.id, offer.live_version).version
    audience_id = entries.audience_of(version.audience)
    return Target(failure="offer_changed") if audience_id is None else Target(audience_id, version.ends_at)


def condition_of(automation: Automation) -> filters.Filter:
    """The condition of an automation; the filter that everybody passes where there is none."""
    return filters.parse(automation.condition, reader=filters.Reader(contacts=True), pointer="/condition")


def judge(
    session: Session,
    automation: Automation,
    aim: Target,
    candidates: str,
    values: Mapping[str, Any],
    *,
    now: datetime,
    counted: bool = False,
) -> Sequence[Row[Any]]:
    """What it does for its candidates, a named query: a row for each, with `reason` why not, or `counted` by reason."""
    compiled = condition_of(automation).compile("customer", schema="public")
    statement = named("automations", "judge").replace("{condition}", compiled.named())
    statement = statement.replace("{candidates}", candidates)
    if counted:
        statement = f"SELECT reason, count(*) AS customers FROM ({statement}) AS judged GROUP BY reason ORDER BY reason"
    campaign = automation.campaign_id
    return session.execute(
        text(statement),
        {
            "hours": automation.hours,
            "ends": aim.ends_at,
            "consent": automation.consent_purpose,
            "share": automation.hold_out_share,
            "key": ids.show("aut", automation.id) if campaign is None else ids.show("cam", campaign),
            "cap_days": automation.cap_days,
            "automation": automation.id,
            "audience": aim.audience_id,
            "task": automation.action == "task",
            "now": now,
        }
        | compiled.params()
        | dict(values),
    ).all()


def preview(session: Session, automation: Automation, *, now: datetime | None = None) -> dict[str, Any]:
    """What it would do now, in numbers of customers, by reason; nothing is done. Of an event: for the customers to whom
    it happened in the last seven days, as if it happened now. Raises Invalid where it cannot be enabled."""
    faults = [fault for fault in check(session, automation) if fault["pointer"] != "/action/offer_id"]
    if faults:
        raise Invalid(f"{faults[0]['pointer'].lstrip('/')}: {faults[0]['detail']}", errors=faults)
    moment = now or datetime.now(UTC)
    values: dict[str, Any] = {}
    count = None
    if automation.trigger == "event":
        values = {
            "since": moment - timedelta(days=PREVIEW_DAYS),
            "type": automation.event_type,
            "fence": automation.geofence_id,
            "tag": automation.geofence_tag,
        }
        happened = named("automations", "happened")
        count = session.scalar(text(f"SELECT count(*) FROM events e WHERE {happened}"), values)
        candidates = named("automations", "candidates_past").replace("{happened}", happened)
    else:
        candidates = named("automations", "candidates_all")
    aim = target(session, automation)
    rows = judge(session, automation, aim, candidates, values, now=moment, counted=True)
    skipped = {row.reason: row.customers for row in rows if row.reason is not None}
    return {
        "customers": sum(row.customers for row in rows),
        "touched": sum(row.customers for row in rows if row.reason is None),
        "skipped": skipped,
        "events": count,
        "next_at": next_at(automation, moment),
    }


def find_runs(
    session: Session, automation_id: int, *, status: str | None = None, before: int | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """The log, newest first, of customers that the reader sees; raises NotFound."""
    get(session, automation_id)
    values = {"automation": automation_id, "status": status, "before": before, "limit": limit}
    return [
        {
            "id": ids.show("run", row.id),
            "automation_version": row.automation_version,
            "customer": ids.reference("cus", row.customer_id, row.customer_name),
            "customers": row.customers,
            "event_id": ids.show("evt", row.event_id),
            "moment": row.moment,
            "status": row.status,
            "reason": row.reason,
            "detail": None if row.reason is None else REASONS.get(row.reason),
            "task_id": ids.show("tsk", row.task_id),
            "expires_at": row.expires_at,
            "created_at": row.created_at,
            "finished_at": row.finished_at,
        }
        for row in session.execute(text(named("automations", "runs")), values)
    ]


def find_latest(session: Session, automation_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What came of the newest runs of each automation that the reader sees, in customers: `last_at`, `done`, `skipped`,
    `failed`, `waiting`; and how many runs went with a consent that was withdrawn (`forgotten`)."""
    rows = session.execute(
        text(named("automations", "latest")), {"automations": list(automation_ids), "most": LATEST_RUNS}
    )
    counts = ("done", "skipped", "failed", "waiting", "forgotten")
    return {row.id: {"last_at": row.last_at} | {name: int(getattr(row, name)) for name in counts} for row in rows}


# ---------------------------------------------------------------- what it says

_NO_AUDIENCE: Final[Fault] = {
    "pointer": "/action/offer_id",
    "detail": "the offer is not one that automations make: its audience must name one audience that customers are"
    ' entered into, such as {"audience": "aud_3"}',
}
_PLAIN: Final = ("name", "consent_purpose", "cap_days", "campaign_id")


def _set(session: Session, actor: Actor, automation: Automation, values: Mapping[str, Any]) -> None:
    """Write what is given; raises Invalid with a pointer to each fault, before anything is written."""
    faults: list[Fault] = []
    made: dict[str, Any] = {name: values[name] for name in _PLAIN if name in values}
    if values.get("cap_days") is not None and not 1 <= values["cap_days"] <= LONGEST_CAP_DAYS:
        faults.append(
            {"pointer": "/cap_days", "detail": f"expected 1 to {LONGEST_CAP_DAYS} days; null is without a cap"}
        )
    if "trigger" in values:
        made |= _read_trigger(session, values["trigger"], faults)
    if "action" in values:
        made |= _read_action(session, values["action"], faults)
    if "condition" in values:
        made["condition"] = _read_condition(session, actor, values["condition"], faults)
    if "hold_out_share" in values:
        made["hold_out_share"] = values["hold_out_share"]
    share = made.get("hold_out_share", automation.hold_out_share)
    if not 0 <= share <= holdouts.LARGEST_SHARE:
        faults.append({"pointer": "/hold_out_share", "detail": f"expected 0 to {holdouts.LARGEST_SHARE}"})
    elif share > 0 and made.get("action", automation.action) == "offer":
        fault = "an offer holds out its own: those held out here would be compared with nobody"
        faults.append({"pointer": "/hold_out_share", "detail": fault})
    if faults:
        first = faults[0]
        raise Invalid(f"{first['pointer'].lstrip('/')}: {first['detail']}", errors=faults)
    for name, value in made.items():
        setattr(automation, name, value)


def _read_trigger(session: Session, given: Mapping[str, Any], faults: list[Fault]) -> dict[str, Any]:
    made: dict[str, Any] = dict.fromkeys(
        ("event_type", "geofence_tag", "geofence_id", "days", "clock", "time_zone"), None
    ) | {"trigger": given.get("kind")}

    def fault(name: str, detail: str) -> None:
        faults.append({"pointer": f"/trigger/{name}", "detail": detail})

    own = {"event": ("type", "tag", "external_id"), "schedule": ("days", "at", "time_zone")}
    if made["trigger"] not in own:
        fault("kind", "expected event or schedule")
        return made
    for kind, names in own.items():
        for name in names if kind != made["trigger"] else ():
            if given.get(name) is not None:
                fault(name, f"goes with kind {kind}")
    if made["trigger"] == "event":
        if given.get("type") not in events.TYPES:
            fault("type", f"expected one of {', '.join(events.TYPES)}")
        made["event_type"], made["geofence_tag"] = given.get("type"), given.get("tag")
        if not given.get("tag"):
            fault("tag", "say of which fences: a tag, or a tag with an external_id")
            return made
        fences = select(Geofence).where(Geofence.tag == given["tag"], Geofence.deleted_at.is_(None))
        if given.get("external_id") is not None:
            found = session.scalars(fences.where(Geofence.external_id == given["external_id"])).one_or_none()
            if found is None:
                fault("external_id", "there is no such geofence")
            else:
                made["geofence_id"] = found.id
        elif session.scalars(fences.limit(1)).first() is None:
            fault("tag", "there is no geofence with this tag")
        return made
    days = given.get("days")
    made["days"] = list(hours.DAYS) if days is None else [day for day in hours.DAYS if day in days]
    made["clock"], made["time_zone"] = given.get("at"), given.get("time_zone")
    if not made["days"]:
        fault("days", f"on none of these days it would ever happen: expected some of {', '.join(hours.DAYS)}")
    if not isinstance(made["clock"], str) or schedules.read_clock(made["clock"]) is None:
        fault("at", "expected a time of day such as 09:00")
    if made["time_zone"] is None:
        fault("time_zone", "whose clock shows this: expected a time zone such as Europe/Zurich")
    else:
        try:
            hours.read_zone(made["time_zone"], pointer="/trigger/time_zone")
        except Invalid as error:
            faults.extend(error.errors)
    return made


def _read_action(session: Session, given: Mapping[str, Any], faults: list[Fault]) -> dict[str, Any]:
    made: dict[str, Any] = dict.fromkeys(("offer_id", "audience_id", "hours", "title", "details", "due_days"), None) | {
        "action": given.get("kind")
    }
    own = {
        "offer": ("offer_id", "hours"),
        "audience": ("audience_id", "hours"),
        "task": ("title", "details", "due_days"),
    }

    def fault(name: str, detail: str) -> None:
        faults.append({"pointer": f"/action/{name}", "detail": detail})

    if made["action"] not in own:
        fault("kind", "expected offer, audience or task")
        return made
    mine = own[made["action"]]
    for name in sorted({name for names in own.values() for name in names}):
        if given.get(name) is None:
            continue
        if name in mine:
            made[name] = given[name]
        else:
            fault(name, f"does not go with kind {made['action']}")
    if made["hours"] is not None and not 0 < made["hours"] <= LONGEST_HOURS:
        fault("hours", f"expected more than 0 and at most {LONGEST_HOURS} hours; null is without an end")
    if made["action"] == "task":
        if not made["title"]:
            fault("title", "say in a few words what is to be done")
        made["due_days"] = 0 if made["due_days"] is None else made["due_days"]
        if not 0 <= made["due_days"] <= LATEST_DUE_DAYS:
            fault("due_days", f"expected 0 to {LATEST_DUE_DAYS} days")
    elif made["action"] == "audience":
        if made["audience_id"] is None:
            fault("audience_id", "say into which audience")
        else:
            try:
                entries.check_there(session, made["audience_id"], "/action/audience_id")
            except Invalid as error:
                faults.extend(error.errors)
    elif made["offer_id"] is None:
        fault("offer_id", "say which offer")
    else:
        faults += _offer_faults(session, made["offer_id"])
    return made


def _offer_faults(session: Session, offer_id: int) -> list[Fault]:
    offer = session.get(Offer, offer_id, populate_existing=True)
    if offer is None:
        return [{"pointer": "/action/offer_id", "detail": "there is no such offer"}]
    if offers.status_of(offer) == "ended":
        return [{"pointer": "/action/offer_id", "detail": "the offer has ended"}]
    number = offer.draft_version if offer.live_version is None else offer.live_version
    assert number is not None
    said = offers.get_version(session, offer_id, number).version.audience
    return [_NO_AUDIENCE] if entries.audience_of(said) is None else []


def _read_condition(
    session: Session, actor: Actor, given: Mapping[str, Any] | None, faults: list[Fault]
) -> dict[str, Any] | None:
    reader = filters.Reader(contacts=actor.contacts != "masked", exact=actor.exact)
    try:
        wanted = filters.parse(given, reader=reader, pointer="/condition")
        audiences.check_named(session, wanted, pointer="/condition")
    except Invalid as error:
        faults.extend(error.errors)
        return None
    return wanted.to_json() if wanted else None


def _trigger_faults(session: Session, automation: Automation) -> list[Fault]:
    if automation.trigger != "event":
        return []
    fences = select(Geofence.dwell_s).where(Geofence.deleted_at.is_(None), Geofence.tag == automation.geofence_tag)
    if automation.geofence_id is not None:
        fences = fences.where(Geofence.id == automation.geofence_id)
    dwells = session.scalars(fences).all()
    if not dwells:
        return [{"pointer": "/trigger/tag", "detail": "there is no such geofence any longer"}]
    if automation.event_type == "geofence.dwelled" and not any(dwells):
        return [{"pointer": "/trigger/type", "detail": "no such geofence has a dwell_s, so nobody dwells in it"}]
    return []


def _condition_faults(session: Session, automation: Automation) -> list[Fault]:
    condition = condition_of(automation)
    if not condition:
        return []
    for number in condition.audiences(required=True):
        values = {"audience": number, "automation": automation.id}
        if not session.scalar(text(named("automations", "may_fill")), values):
            fault = f"nobody is in {ids.show('aud', number)}, and no other automation puts anybody there"
            return [{"pointer": "/condition", "detail": fault}]
    compiled = condition.compile("customer", schema="public")
    try:
        with session.begin_nested():
            session.execute(
                text(f"SELECT {compiled.named()} FROM (SELECT * FROM customers LIMIT 1) AS c"), compiled.params()
            ).all()
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.Error) or error.orig.sqlstate != UNKNOWN_KEY:
            raise
        return [{"pointer": "/condition", "detail": str(error.orig.diag.message_primary)}]
    return []


def _changed(session: Session, automation: Automation) -> None:
    automation.version += 1
    automation.updated_at = datetime.now(UTC)
    session.flush()


def _record(session: Session, actor: Actor, action: str, automation_id: int, **payload: Any) -> None:
    audit.record(
        session,
        action,
        actor_id=actor.user_id,
        key_id=actor.key_id,
        object_id=ids.show("aut", automation_id),
        **payload,
    )
