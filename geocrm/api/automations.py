"""Automations: make, check, enable, see what they did."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import Field
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.api import pages
from geocrm.api.dependencies import (
    CanEditAutomations,
    CanEnableAutomations,
    CanReadAutomations,
    Expected,
    IfMatch,
    Reading,
    Writing,
    etag,
    router,
)
from geocrm.api.idempotency import Idempotent
from geocrm.api.offers import Obstacles, Purpose, Share, Zone
from geocrm.api.shapes import AudienceId, AutomationId, Body, CampaignId, Name, Named, OfferId, Page, Shown, Text
from geocrm.campaigns import automations
from geocrm.crm import consents
from geocrm.db.models import Automation, Geofence
from geocrm.segmentation.methods import names_of

routes = router("Automations")

_CONDITION = {"field": "stage", "op": "=", "value": "active"}
Kind = Literal["event", "schedule"]
EventType = Literal["geofence.entered", "geofence.exited", "geofence.dwelled"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Label = Annotated[Text, Field(min_length=1, max_length=300)]
Hours = Annotated[float, Field(gt=0, le=automations.LONGEST_HOURS, strict=True, allow_inf_nan=False)]
CapDays = Annotated[int, Field(ge=1, le=automations.LONGEST_CAP_DAYS, strict=True)]
DueDays = Annotated[int, Field(ge=0, le=automations.LATEST_DUE_DAYS, strict=True)]


class Trigger(Body):
    """An event of fences with a tag, or of one of them; or a time on days of the week."""

    kind: Kind = Field(examples=["event"])
    type: EventType | None = Field(None, description="Of an event.", examples=["geofence.entered"])
    tag: Annotated[Label, Field(max_length=63)] | None = Field(None, description="Of an event.", examples=["shops"])
    external_id: Annotated[Label, Field(max_length=200)] | None = Field(
        None, description="Of an event: this fence alone.", examples=["denver-1"]
    )
    days: list[Day] | None = Field(None, max_length=7, description="Of a schedule; null: every day.", examples=[None])
    at: Annotated[str, Field(pattern="^[0-9]{2}:[0-9]{2}$")] | None = Field(
        None, description="Of a schedule: on the clock of the time zone.", examples=[None]
    )
    time_zone: Zone | None = Field(None, description="Of a schedule.", examples=[None])


class Action(Body):
    """An offer that waits for automations, an audience, or a task for the rep of the customer's territory."""

    kind: Literal["offer", "audience", "task"] = Field(examples=["offer"])
    offer_id: OfferId | None = Field(None, description="Of an offer.", examples=["off_3"])
    audience_id: AudienceId | None = Field(None, description="Of an audience.", examples=[None])
    hours: Hours | None = Field(
        None, description="Of an offer or audience: so long from the event on; null: to the offer's end, for good.",
        examples=[2.0],
    )  # fmt: skip
    title: Label | None = Field(None, description="Of a task.", examples=[None])
    details: Text | None = Field(None, description="Of a task.", examples=[None])
    due_days: DueDays | None = Field(None, description="Of a task: due after so many days.", examples=[None])


class NewAutomation(Body):
    """What sets it off, for whom, and what it does. It acts once it is enabled."""

    name: Annotated[Name, Field(max_length=300, examples=["Coffee at the door"])]
    trigger: Trigger
    action: Action
    condition: dict[str, Any] | None = Field(None, description="A filter; null: everybody.", examples=[_CONDITION])
    consent_purpose: Purpose | None = Field(
        None,
        description="The consent that the customer must have given; null: none. Left out: marketing for offers and"
        " audiences, none for tasks.",
    )
    cap_days: CapDays | None = Field(None, description="Once for a customer within so many days.", examples=[7])
    hold_out_share: Share = Field(
        0.0, description="Held out, to measure what it brings; an offer holds out its own.", examples=[0.0]
    )
    campaign_id: CampaignId | None = Field(
        None, description="What is of one campaign holds out the same customers.", examples=[None]
    )


class AutomationEdit(Body):
    """What is to be different; fields left out stay, trigger and action are given whole."""

    never_null = ("name", "trigger", "action", "hold_out_share")

    name: Annotated[Name, Field(max_length=300, examples=["Coffee at the door"])] | None = None
    trigger: Trigger | None = None
    action: Action | None = None
    condition: dict[str, Any] | None = Field(None, examples=[_CONDITION])
    consent_purpose: Purpose | None = None
    cap_days: CapDays | None = Field(None, examples=[7])
    hold_out_share: Share | None = Field(None, examples=[0.0])
    campaign_id: CampaignId | None = Field(None, examples=[None])


class ShownTrigger(Shown):
    """What sets it off."""

    kind: Kind = Field(examples=["event"])
    type: str | None = Field(examples=["geofence.entered"])
    tag: str | None = Field(examples=["shops"])
    external_id: str | None = Field(examples=["denver-1"])
    days: list[str] | None = Field(examples=[None])
    at: str | None = Field(examples=[None])
    time_zone: str | None = Field(examples=[None])


class ShownAction(Shown):
    """What it does."""

    kind: Literal["offer", "audience", "task"] = Field(examples=["offer"])
    offer_id: str | None = Field(examples=["off_3"])
    audience_id: str | None = Field(examples=[None])
    hours: float | None = Field(examples=[2.0])
    title: str | None = Field(examples=[None])
    details: str | None = Field(examples=[None])
    due_days: int | None = Field(examples=[None])


class LatestRuns(Shown):
    """What came of its newest runs, in customers that you see."""

    last_at: datetime | None = Field(description="When it was last set off.", examples=["2026-03-02T09:00:00Z"])
    done: int = Field(examples=[41])
    skipped: int = Field(examples=[7])
    failed: int = Field(examples=[0])
    waiting: int = Field(examples=[0])
    forgotten: int = Field(
        description="Runs of all time that were deleted with a consent; 0 to who does not see all.", examples=[0]
    )


class ShownAutomation(Shown):
    """An automation."""

    id: str = Field(examples=["aut_2"])
    name: str = Field(examples=["Coffee at the door"])
    enabled: bool = Field(examples=[True])
    trigger: ShownTrigger
    action: ShownAction
    condition: dict[str, Any] | None = Field(examples=[{"all": [_CONDITION]}])
    condition_sentence: str = Field(examples=["active"])
    consent_purpose: str | None = Field(examples=["marketing"])
    cap_days: int | None = Field(examples=[7])
    hold_out_share: float = Field(examples=[0.0])
    campaign_id: str | None = Field(examples=[None])
    next_at: datetime | None = Field(description="Of a schedule, while it is enabled.", examples=[None])
    latest: LatestRuns | None = Field(
        description=f"Of the newest {automations.LATEST_RUNS:,} runs; null in the answer to a change."
    )
    version: int = Field(description="Its ETag.")
    created_at: datetime
    updated_at: datetime


class AutomationPreview(Shown):
    """What it would do now, in customers."""

    customers: int = Field(description="Looked at: everybody, or those to whom it happened.", examples=[412])
    touched: int = Field(description="For whom it would act.", examples=[305])
    skipped: dict[str, int] = Field(
        description="The others, by the first reason.", examples=[{"no_consent": 95, "capped": 12}]
    )
    events: int | None = Field(description="Of an event: how often it happened in the last 7 days.", examples=[660])
    next_at: datetime | None = Field(description="Of a schedule: when it would come round.", examples=[None])


class ShownAutomationRun(Shown):
    """That an automation was set off for a customer, and what came of it; or how many customers a schedule left
    aside."""

    id: str = Field(examples=["run_81"])
    automation_version: int = Field(examples=[2])
    customer: Named | None
    customers: int = Field(examples=[1])
    event_id: str | None = Field(examples=["evt_12"])
    moment: datetime = Field(description="When the event happened, or of the schedule.")
    status: Literal["waiting", "done", "skipped", "failed"] = Field(examples=["done"])
    reason: str | None = Field(description="Why nothing was done.", examples=[None])
    detail: str | None = Field(description="The same in words.", examples=[None])
    task_id: str | None = Field(examples=[None])
    expires_at: datetime | None = Field(description="Until when the offer or entry holds.")
    created_at: datetime
    finished_at: datetime | None = Field(examples=["2026-03-02T09:00:01Z"])


def _shown(session: Session, automation: Automation, latest: dict[int, dict[str, Any]] | None = None) -> dict[str, Any]:
    fence = None if automation.geofence_id is None else session.get(Geofence, automation.geofence_id)
    same = (
        "name", "enabled", "condition", "consent_purpose", "cap_days", "hold_out_share", "next_at", "version",
        "created_at", "updated_at",
    )  # fmt: skip
    return {name: getattr(automation, name) for name in same} | {
        "id": ids.show("aut", automation.id),
        "latest": None if latest is None else latest[automation.id],
        "campaign_id": ids.show("cam", automation.campaign_id),
        "condition_sentence": automations.condition_of(automation).sentence(names_of(session)),
        "trigger": {
            "kind": automation.trigger,
            "type": automation.event_type,
            "tag": automation.geofence_tag,
            "external_id": None if fence is None else fence.external_id,
            "days": automation.days,
            "at": automation.clock,
            "time_zone": automation.time_zone,
        },
        "action": {
            "kind": automation.action,
            "offer_id": ids.show("off", automation.offer_id),
            "audience_id": ids.show("aud", automation.audience_id),
            "hours": automation.hours,
            "title": automation.title,
            "details": automation.details,
            "due_days": automation.due_days,
        },
    }


def _changed(
    response: Response, session: Session, automation_id: int, expected: Expected, change: Callable[[Automation], object]
) -> dict[str, Any]:
    """An automation after a change to the version that was expected."""
    held = automations.open_for_edit(session, automation_id)
    expected.check(held.version)
    change(held)
    response.headers["ETag"] = etag(held.version)
    return _shown(session, held)


@routes.get(
    "/automations", operation_id="list_automations", response_model=Page[ShownAutomation], summary="List automations"
)
def list_automations(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadAutomations,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """By id."""
    found = automations.find(session, after=pages.read_id(cursor) or 0, limit=limit + 1)
    made = pages.page(request, response, found, limit, lambda one: [one.id])
    latest = automations.find_latest(session, [one.id for one in made["data"]])
    return made | {"data": [_shown(session, one, latest) for one in made["data"]]}


@routes.post(
    "/automations",
    status_code=201,
    operation_id="create_automation",
    response_model=ShownAutomation,
    summary="Create an automation",
)
def create_automation(session: Writing, actor: CanEditAutomations, once: Idempotent, new: NewAutomation) -> Response:
    """It does nothing before it is enabled."""

    def produce() -> tuple[Any, dict[str, str]]:
        values = new.model_dump()
        if "consent_purpose" not in new.model_fields_set:
            del values["consent_purpose"]
        made = _shown(session, automations.create(session, actor, values))
        return made, {"Location": f"/v1/automations/{made['id']}", "ETag": etag(made["version"])}

    return once.answer(session, actor, produce, shape=ShownAutomation)


@routes.get(
    "/automations/{automation_id}",
    operation_id="get_automation",
    response_model=ShownAutomation,
    summary="One automation",
)
def get_automation(
    response: Response, session: Reading, actor: CanReadAutomations, automation_id: AutomationId
) -> object:
    """What sets it off, for whom, and what it does."""
    found = automations.get(session, automation_id)
    response.headers["ETag"] = etag(found.version)
    return _shown(session, found, automations.find_latest(session, [found.id]))


@routes.patch(
    "/automations/{automation_id}",
    operation_id="edit_automation",
    response_model=ShownAutomation,
    summary="Edit an automation",
)
def edit_automation(
    response: Response,
    session: Writing,
    actor: CanEditAutomations,
    automation_id: AutomationId,
    expected: IfMatch,
    edit: AutomationEdit,
) -> object:
    """While it is not enabled; else 409. Fields left out stay."""
    change = partial(automations.edit, session, actor, changes=edit.model_dump(exclude_unset=True))
    return _changed(response, session, automation_id, expected, change)


@routes.delete(
    "/automations/{automation_id}",
    status_code=204,
    operation_id="delete_automation",
    summary="Delete an automation",
)
def delete_automation(
    session: Writing, actor: CanEditAutomations, automation_id: AutomationId, expected: IfMatch
) -> None:
    """With its log, while it is not enabled; else 409. What it made stays."""
    held = automations.open_for_edit(session, automation_id)
    expected.check(held.version)
    automations.delete(session, actor, held)


@routes.post(
    "/automations/{automation_id}/check",
    operation_id="check_automation",
    response_model=Obstacles,
    summary="What stands in the way of enabling it",
)
def check_automation(session: Writing, actor: CanEditAutomations, automation_id: AutomationId) -> object:
    """All of it at once: a fence that is gone, an offer that is not live, nobody who could do a task, a condition that
    nobody will ever pass."""
    found = automations.get(session, automation_id)
    doubt = consents.doubt(session, found.consent_purpose)
    warnings = [] if doubt is None else [{"pointer": "/consent_purpose", "detail": doubt}]
    return {"data": automations.check(session, found), "warnings": warnings}


@routes.post(
    "/automations/{automation_id}/preview",
    operation_id="preview_automation",
    response_model=AutomationPreview,
    summary="What it would do now",
)
def preview_automation(session: Writing, actor: CanEditAutomations, automation_id: AutomationId) -> object:
    """How many customers it would touch now, and why not the others; nothing is done. Of an event: of those to whom it
    happened in the last seven days."""
    return automations.preview(session, automations.get(session, automation_id))


@routes.post(
    "/automations/{automation_id}/enable",
    operation_id="enable_automation",
    response_model=ShownAutomation,
    summary="Enable an automation",
)
def enable_automation(
    response: Response, session: Writing, actor: CanEnableAutomations, automation_id: AutomationId, expected: IfMatch
) -> object:
    """From now on it acts, on events that happen from now on."""
    return _changed(response, session, automation_id, expected, partial(automations.enable, session, actor))


@routes.post(
    "/automations/{automation_id}/disable",
    operation_id="disable_automation",
    response_model=ShownAutomation,
    summary="Disable an automation",
)
def disable_automation(
    response: Response, session: Writing, actor: CanEnableAutomations, automation_id: AutomationId, expected: IfMatch
) -> object:
    """It acts no longer; what waits is left aside, which the log says."""
    return _changed(response, session, automation_id, expected, partial(automations.disable, session, actor))


@routes.get(
    "/automations/{automation_id}/runs",
    operation_id="list_automation_runs",
    response_model=Page[ShownAutomationRun],
    summary="What an automation did",
)
def list_automation_runs(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadAutomations,
    automation_id: AutomationId,
    status: Annotated[
        Literal["waiting", "done", "skipped", "failed"] | None, Query(description="Only these.", examples=["done"])
    ] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Newest first, of customers that you see. What geofences set off, an API key sees with `locations:exact` alone."""
    rows = automations.find_runs(session, automation_id, status=status, before=pages.read_id(cursor), limit=limit + 1)
    return pages.page(request, response, rows, limit, pages.id_of)
