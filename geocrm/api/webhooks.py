"""Webhooks: register, test, and see what was sent."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from pydantic import Field

from geocrm.api import pages
from geocrm.api.dependencies import CanManageWebhooks, IfMatch, Writing, etag, router, settings_of
from geocrm.api.shapes import Body, DeliveryId, Flag, Page, Short, Shown, Text, WebhookId
from geocrm.campaigns import webhooks

routes = router("Webhooks")

Url = Annotated[Text, Field(max_length=2_000, examples=["https://example.com/hooks/geocrm"])]
Types = Annotated[
    list[Annotated[str, Field(max_length=60)]],
    Field(max_length=50, description="Which events; none named is all.", examples=[["geofence.entered"]]),
]


class NewWebhook(Body):
    """An address that is told events."""

    url: Url
    types: Types = Field(default_factory=list)
    description: Short | None = Field(None, examples=["Loyalty app"])


class WebhookChanges(Body):
    """What to change; fields left out stay."""

    never_null = ("url", "types", "enabled")

    url: Url | None = None
    types: Types | None = None
    description: Short | None = None
    enabled: Flag | None = None


class ShownWebhook(Shown):
    """A webhook, and how it does."""

    id: str = Field(examples=["whk_2"])
    url: str = Field(examples=["https://example.com/hooks/geocrm"])
    description: str | None = Field(examples=["Loyalty app"])
    types: list[str] = Field(examples=[["geofence.entered"]])
    enabled: bool = Field(examples=[True])
    disabled_because: str | None
    failures: int = Field(description="Tries that failed, one after the other.", examples=[0])
    next_at: datetime | None = Field(description="When it is tried again, where tries failed.")
    waiting: int = Field(description="Deliveries that wait.", examples=[0])
    waiting_since: datetime | None
    version: int
    created_at: datetime
    updated_at: datetime


class MadeWebhook(ShownWebhook):
    """A new webhook with its secret, which is shown once."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class NewSecret(Shown):
    """The new secret, which is shown once; for a day messages are signed with the former one too."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class LastTry(Shown):
    """A try: what the receiver answered, or why it did not."""

    at: datetime
    took_ms: int = Field(examples=[84])
    status: int | None = Field(examples=[200])
    error: str | None = Field(examples=[None])


class Try(LastTry):
    """A try, by number."""

    number: int = Field(examples=[1])


class ShownDelivery(Shown):
    """An event for a webhook."""

    id: str = Field(examples=["dlv_31"])
    type: str = Field(examples=["geofence.entered"])
    event_id: str | None = Field(examples=["evt_12"])
    status: Literal["queued", "delivered", "failed"] = Field(examples=["delivered"])
    attempts: int = Field(examples=[1])
    next_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    last_try: LastTry | None


class OneDelivery(ShownDelivery):
    """An event for a webhook, with its tries, newest first."""

    tries: list[Try]


@routes.get("/webhooks", operation_id="list_webhooks", response_model=Page[ShownWebhook], summary="List webhooks")
def list_webhooks(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanManageWebhooks,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """By id."""
    rows = webhooks.find(session, after=pages.read_id(cursor) or 0, limit=limit + 1)
    return pages.page(request, response, rows, limit, pages.id_of)


@routes.post(
    "/webhooks",
    status_code=201,
    operation_id="create_webhook",
    response_model=MadeWebhook,
    summary="Register a webhook",
)
def create_webhook(
    request: Request, response: Response, session: Writing, actor: CanManageWebhooks, new: NewWebhook
) -> object:
    """Every message is signed as Standard Webhooks has it, and comes at least once, in order for each customer. Private
    addresses are refused, here and at every sending. The secret is in this answer and never again."""
    allowed = settings_of(request).webhook_allow_private
    made = webhooks.create(
        session, actor, url=new.url, types=new.types, description=new.description, allow_private=allowed
    )
    response.headers["Location"], response.headers["ETag"] = f"/v1/webhooks/{made['id']}", etag(made["version"])
    return made


@routes.get("/webhooks/{webhook_id}", operation_id="get_webhook", response_model=ShownWebhook, summary="One webhook")
def get_webhook(response: Response, session: Writing, actor: CanManageWebhooks, webhook_id: WebhookId) -> object:
    """And how it does."""
    found = webhooks.get(session, webhook_id)
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.patch(
    "/webhooks/{webhook_id}", operation_id="edit_webhook", response_model=ShownWebhook, summary="Edit a webhook"
)
def edit_webhook(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanManageWebhooks,
    webhook_id: WebhookId,
    expected: IfMatch,
    changed: WebhookChanges,
) -> object:
    """Fields left out stay. One that is enabled again is tried at once."""
    hook = webhooks.open_for_edit(session, webhook_id)
    expected.check(hook.version)
    allowed = settings_of(request).webhook_allow_private
    webhooks.edit(session, actor, hook, changed.model_dump(exclude_unset=True), allow_private=allowed)
    found = webhooks.get(session, webhook_id)
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.delete("/webhooks/{webhook_id}", status_code=204, operation_id="delete_webhook", summary="Delete a webhook")
def delete_webhook(session: Writing, actor: CanManageWebhooks, webhook_id: WebhookId, expected: IfMatch) -> None:
    """With its log and what waits for it."""
    hook = webhooks.open_for_edit(session, webhook_id)
    expected.check(hook.version)
    webhooks.delete(session, actor, hook)


@routes.post(
    "/webhooks/{webhook_id}/secret",
    operation_id="change_webhook_secret",
    response_model=NewSecret,
    summary="Change a webhook's secret",
)
def change_webhook_secret(session: Writing, actor: CanManageWebhooks, webhook_id: WebhookId) -> object:
    """For a day messages carry a signature of the former secret too."""
    return {"secret": webhooks.change_secret(session, actor, webhooks.open_for_edit(session, webhook_id))}


@routes.post(
    "/webhooks/{webhook_id}/test",
    status_code=202,
    operation_id="test_webhook",
    response_model=OneDelivery,
    summary="Send a test event",
)
def test_webhook(session: Writing, actor: CanManageWebhooks, webhook_id: WebhookId) -> object:
    """Of type `webhook.test`; ask for its delivery to see what came of it."""
    return webhooks.send_test(session, actor, webhooks.open_for_edit(session, webhook_id))


@routes.get(
    "/webhooks/{webhook_id}/deliveries",
    operation_id="list_webhook_deliveries",
    response_model=Page[ShownDelivery],
    summary="What was sent to a webhook",
)
def list_webhook_deliveries(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanManageWebhooks,
    webhook_id: WebhookId,
    status: Annotated[Literal["queued", "delivered", "failed"] | None, Query(description="Only these.")] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Newest first."""
    rows = webhooks.find_deliveries(session, webhook_id, status=status, before=pages.read_id(cursor), limit=limit + 1)
    return pages.page(request, response, rows, limit, pages.id_of)


@routes.get(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}",
    operation_id="get_webhook_delivery",
    response_model=OneDelivery,
    summary="One delivery",
)
def get_webhook_delivery(
    session: Writing, actor: CanManageWebhooks, webhook_id: WebhookId, delivery_id: DeliveryId
) -> object:
    """With every try."""
    return webhooks.get_delivery(session, webhook_id, delivery_id)


@routes.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}/resend",
    status_code=202,
    operation_id="resend_webhook_delivery",
    response_model=OneDelivery,
    summary="Send it again",
)
def resend_webhook_delivery(
    session: Writing, actor: CanManageWebhooks, webhook_id: WebhookId, delivery_id: DeliveryId
) -> object:
    """Under the same `webhook-id`, so that the receiver can tell."""
    return webhooks.resend(session, actor, webhooks.open_for_edit(session, webhook_id), delivery_id)
