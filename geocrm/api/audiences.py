"""Audiences that automations put customers into, and who is in them."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Request, Response
from pydantic import Field

from geocrm.api import pages
from geocrm.api.dependencies import (
    CanEditAutomations,
    CanEnableAutomations,
    CanReadAutomations,
    IfMatch,
    Reading,
    Writing,
    etag,
    router,
)
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import AudienceId, Body, Name, Named, Page, Shown
from geocrm.campaigns import entries
from geocrm.errors import Forbidden

routes = router("Audiences")


class NewAudience(Body):
    """An audience by name; a filter names it by its id, `{"audience": "aud_3"}`."""

    name: Annotated[Name, Field(max_length=300, examples=["At the door"])]


class ShownAudience(Shown):
    """An audience."""

    id: str = Field(examples=["aud_3"])
    name: str = Field(examples=["At the door"])
    version: int = Field(description="Its ETag.")
    created_at: datetime


class OneAudience(ShownAudience):
    """An audience, and how many are in it."""

    members: int | None = Field(
        description="Now, of the customers that you see; null to an API key without `locations:exact`.", examples=[31]
    )


class AudienceEntry(Shown):
    """A customer in an audience."""

    customer: Named
    entered_at: datetime
    expires_at: datetime | None = Field(description="Null: without an end.")


@routes.get("/audiences", operation_id="list_audiences", response_model=Page[ShownAudience], summary="List audiences")
def list_audiences(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadAutomations,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """By id."""
    rows = entries.find(session, after=pages.read_id(cursor) or 0, limit=limit + 1)
    made = pages.page(request, response, rows, limit, pages.id_of)
    return made | {"data": [_plain(row) for row in made["data"]]}


@routes.post(
    "/audiences",
    status_code=201,
    operation_id="create_audience",
    response_model=ShownAudience,
    summary="Create an audience",
)
def create_audience(session: Writing, actor: CanEditAutomations, once: Idempotent, new: NewAudience) -> Response:
    """Nobody is in it before an automation puts them there."""

    def produce() -> tuple[Any, dict[str, str]]:
        made = _plain(entries.get(session, entries.create(session, actor, new.name)))
        return made, {"Location": f"/v1/audiences/{made['id']}", "ETag": etag(made["version"])}

    return once.answer(session, actor, produce, shape=ShownAudience)


@routes.get("/audiences/{audience_id}", operation_id="get_audience", response_model=OneAudience, summary="One audience")
def get_audience(response: Response, session: Reading, actor: CanReadAutomations, audience_id: AudienceId) -> object:
    """With how many are in it."""
    found = entries.get(session, audience_id, count=actor.exact)
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.patch(
    "/audiences/{audience_id}", operation_id="edit_audience", response_model=ShownAudience, summary="Rename an audience"
)
def edit_audience(
    response: Response,
    session: Writing,
    actor: CanEditAutomations,
    audience_id: AudienceId,
    expected: IfMatch,
    edit: NewAudience,
) -> object:
    """Who is in it stays."""
    held = entries.open_for_edit(session, audience_id)
    expected.check(held.version)
    entries.rename(session, actor, held, edit.name)
    found = _plain(entries.get(session, audience_id))
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.delete(
    "/audiences/{audience_id}", status_code=204, operation_id="delete_audience", summary="Delete an audience"
)
def delete_audience(session: Writing, actor: CanEnableAutomations, audience_id: AudienceId, expected: IfMatch) -> None:
    """With who is in it, where no automation and no offer that has not ended names it; else 409."""
    held = entries.open_for_edit(session, audience_id)
    expected.check(held.version)
    entries.delete(session, actor, held)


@routes.get(
    "/audiences/{audience_id}/members",
    operation_id="list_audience_members",
    response_model=Page[AudienceEntry],
    summary="Who is in an audience",
)
def list_audience_members(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadAutomations,
    audience_id: AudienceId,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """By customer, of those that you see. An API key needs `locations:exact` too: geofences may have put them there."""
    if not actor.exact:
        raise Forbidden("An audience may tell where a customer was: the key needs the scope locations:exact.")
    rows = entries.find_members(session, audience_id, after=pages.read_id(cursor) or 0, limit=limit + 1)
    return pages.page(request, response, rows, limit, lambda row: [int(row["customer"]["id"].removeprefix("cus_"))])


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("id", "name", "version", "created_at")}
