"""Users, teams, API keys, the audit log."""

from datetime import datetime
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import Query, Request, Response
from pydantic import Field

from geocrm import access
from geocrm.access import SCOPES
from geocrm.api import pages
from geocrm.api.dependencies import (
    CanManageKeys,
    CanManageUsers,
    CanReadAudit,
    CanReadCustomers,
    IfMatch,
    Reading,
    Writing,
    etag,
    gate_of,
    router,
)
from geocrm.api.idempotency import Idempotent
from geocrm.api.shapes import Body, Flag, KeyId, Name, Named, Page, Shown, TeamId, Text, UserId, When
from geocrm.crm import history, key_requests, people
from geocrm.errors import Invalid

routes = router("Users and keys")

RoleName = Literal["administrator", "manager", "rep", "marketer", "analyst"]
Email = Annotated[Text, Field(min_length=3, max_length=320, pattern=r"^[^@\s]+@[^@\s]+$", examples=["ada@example.com"])]
Password = Annotated[Text, Field(min_length=10, max_length=500, examples=["correct horse battery"])]
ScopeName = Annotated[
    Literal[
        "customers:read",
        "customers:write",
        "offers:redeem",
        "imports",
        "geofences:write",
        "positions:write",
        "contacts",
        "locations:exact",
    ],
    Field(examples=["customers:read"]),
]
assert set(ScopeName.__origin__.__args__) == set(SCOPES)  # type: ignore[attr-defined]


class Colleague(Shown):
    """Somebody who works with geocrm."""

    id: str = Field(examples=["usr_7"])
    name: str = Field(examples=["Ada Young"])
    role: str = Field(examples=["rep"])
    team: Named | None


class ShownUser(Colleague):
    """A user, as administrators see them."""

    email: str
    active: bool
    version: int
    created_at: datetime


class NewUser(Body):
    """A user; without a password they cannot sign in yet."""

    email: Email
    name: Name = Field(examples=["Ada Young"])
    role: RoleName = Field(examples=["rep"])
    team_id: TeamId | None = None
    password: Password | None = None


class UserChanges(Body):
    """What to change; fields left out stay."""

    never_null = ("email", "name", "role", "active", "password")

    email: Email | None = None
    name: Name | None = None
    role: RoleName | None = Field(None, examples=["manager"])
    team_id: TeamId | None = None
    active: Flag | None = None
    password: Password | None = None


class ShownTeam(Shown):
    """A team; teams nest."""

    id: str = Field(examples=["tea_2"])
    name: str = Field(examples=["Mountain"])
    parent_id: str | None = Field(examples=["tea_1"])


class Teams(Shown):
    """All teams."""

    data: list[ShownTeam]


class NewTeam(Body):
    """A team."""

    name: Name = Field(examples=["Mountain"])
    parent_id: TeamId | None = None


class TeamChanges(Body):
    """What to change; fields left out stay."""

    never_null = ("name",)

    name: Name | None = Field(None, examples=["Rocky Mountains"])
    parent_id: TeamId | None = None


class NewKey(Body):
    """A key for a program that acts for a user, within its scopes."""

    name: Name = Field(examples=["Store finder"])
    user_id: UserId
    scopes: Annotated[list[ScopeName], Field(max_length=20)] = Field(examples=[["customers:read"]])
    expires_at: When | None = None


class ShownKey(Shown):
    """A key, without its secret."""

    id: str = Field(examples=["key_3"])
    name: str = Field(examples=["Store finder"])
    user: Named
    prefix: str = Field(examples=["gk_Zk3mP0a"])
    scopes: list[str] = Field(examples=[["customers:read"]])
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="Of the last week.")


class KeyRequest(Shown):
    """A request that a key made. No address is kept, as addresses hold positions."""

    id: int
    at: datetime
    method: str = Field(examples=["GET"])
    route: str = Field(examples=["/v1/offers/eligible"])
    status: int = Field(examples=[200])
    took_ms: float = Field(description="Milliseconds.", examples=[3.2])
    request_id: str = Field(description="`X-Request-Id` of the answer.", examples=["req_0f3c9a7be8d14c55"])


class ShownSecret(ShownKey):
    """A new key with its secret, which is shown this once."""

    secret: str = Field(examples=["gk_Zk3mP0a…"])


class AuditRow(Shown):
    """One thing that was done."""

    id: int
    at: datetime
    action: str = Field(examples=["customer.update"])
    object: str | None = Field(examples=["cus_1042"])
    actor: Named | None
    key_id: str | None = Field(examples=[None])
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    sealed: bool = Field(description="Whether the entry is in the hash chain yet.")


@routes.get(
    "/colleagues", operation_id="list_colleagues", response_model=Page[Colleague], summary="Who works with geocrm"
)
def list_colleagues(
    request: Request,
    response: Response,
    session: Reading,
    actor: CanReadCustomers,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Names, roles and teams of active users, to choose an owner from."""
    rows = people.find_colleagues(session, after=pages.read_id(cursor) or 0, limit=limit + 1)
    return pages.page(request, response, rows, limit, pages.id_of)


@routes.get("/users", operation_id="list_users", response_model=Page[ShownUser], summary="List users")
def list_users(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanManageUsers,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """All users, by id."""
    rows = people.find_users(session, after=pages.read_id(cursor) or 0, limit=limit + 1)
    return pages.page(request, response, rows, limit, pages.id_of)


@routes.post("/users", status_code=201, operation_id="create_user", response_model=ShownUser, summary="Create a user")
def create_user(session: Writing, actor: CanManageUsers, once: Idempotent, new: NewUser) -> Response:
    """A user with a role, and a team where the role needs one."""

    def produce() -> tuple[Any, dict[str, str]]:
        password_hash = None if new.password is None else access.hash_password(new.password)
        user_id = people.create_user(session, actor, password_hash, new.model_dump(exclude={"password"}))
        _, found = people.get_user(session, user_id)
        return found, {"Location": f"/v1/users/{found['id']}", "ETag": etag(found["version"])}

    return once.answer(session, actor, produce, shape=ShownUser)


@routes.get("/users/{user_id}", operation_id="get_user", response_model=ShownUser, summary="One user")
def get_user(response: Response, session: Writing, actor: CanManageUsers, user_id: UserId) -> object:
    """One user."""
    _, found = people.get_user(session, user_id)
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.patch("/users/{user_id}", operation_id="edit_user", response_model=ShownUser, summary="Edit a user")
async def edit_user(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanManageUsers,
    user_id: UserId,
    expected: IfMatch,
    changed: UserChanges,
) -> object:
    """A new password, or leaving, ends the user's sessions; leaving revokes their keys too."""
    password_hash = None
    if changed.password is not None:
        password_hash = await anyio.to_thread.run_sync(
            access.hash_password, changed.password, limiter=gate_of(request).hashing
        )

    def work() -> dict[str, Any]:
        user, _ = people.get_user(session, user_id)
        session.refresh(user, with_for_update=True)
        expected.check(user.version)
        people.edit_user(
            session, actor, user, changed.model_dump(exclude_unset=True, exclude={"password"}), password_hash
        )
        return people.get_user(session, user_id)[1]

    found = await anyio.to_thread.run_sync(work)
    response.headers["ETag"] = etag(found["version"])
    return found


@routes.get("/teams", operation_id="list_teams", response_model=Teams, summary="List teams")
def list_teams(session: Reading, actor: CanReadCustomers) -> object:
    """All teams, by id."""
    return {"data": people.find_teams(session)}


@routes.post("/teams", status_code=201, operation_id="create_team", response_model=ShownTeam, summary="Create a team")
def create_team(session: Writing, actor: CanManageUsers, once: Idempotent, new: NewTeam) -> Response:
    """A team, perhaps below another one."""
    return once.answer(
        session, actor, lambda: (people.create_team(session, actor, new.name, new.parent_id), {}), shape=ShownTeam
    )


@routes.patch("/teams/{team_id}", operation_id="edit_team", response_model=ShownTeam, summary="Edit a team")
def edit_team(session: Writing, actor: CanManageUsers, team_id: TeamId, changed: TeamChanges) -> object:
    """Rename it, or put it below another one."""
    return people.edit_team(session, actor, team_id, changed.model_dump(exclude_unset=True))


@routes.get("/keys", operation_id="list_keys", response_model=Page[ShownKey], summary="List API keys")
def list_keys(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanManageKeys,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """All keys, revoked ones too, by id."""
    rows = people.find_keys(session, after=pages.read_id(cursor) or 0, limit=limit + 1)
    return pages.page(request, response, rows, limit, pages.id_of)


@routes.post("/keys", status_code=201, operation_id="create_key", response_model=ShownSecret, summary="Make an API key")
def create_key(session: Writing, actor: CanManageKeys, new: NewKey) -> object:
    """The secret is in this answer and never again; only its digest is kept."""
    if actor.scopes is not None and not set(new.scopes) <= actor.scopes:
        raise Invalid(
            "A key cannot make a key of more scopes than its own.",
            errors=[{"pointer": "/scopes", "detail": "more than those of the key that asks"}],
        )
    return people.create_key(session, actor, new.user_id, new.name, new.scopes, new.expires_at)


@routes.delete("/keys/{key_id}", status_code=204, operation_id="revoke_key", summary="Revoke an API key")
def revoke_key(session: Writing, actor: CanManageKeys, key_id: KeyId) -> None:
    """Good for nothing from the next request on."""
    people.revoke_key(session, actor, key_id)


@routes.get(
    "/keys/{key_id}/requests", operation_id="list_key_requests", response_model=Page[KeyRequest],
    summary="What a key asked",
)  # fmt: skip
def list_key_requests(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanManageKeys,
    key_id: KeyId,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> object:
    """Newest first: the last 500, for a week; of a burst the last hundred of every few seconds."""
    before = pages.read_id(cursor)
    key_requests.check_there(session, key_id)
    key_requests.write(session, request.app.state.requests.take())  # after all that may refuse, so that it is not lost
    rows = key_requests.find(session, key_id, before=before, limit=limit + 1)
    return pages.page(request, response, rows, limit, lambda row: [row["id"]])


@routes.get("/audit", operation_id="list_audit_log", response_model=Page[AuditRow], summary="The audit log")
def list_audit_log(
    request: Request,
    response: Response,
    session: Writing,
    actor: CanReadAudit,
    action: Annotated[Text | None, Query(max_length=100, examples=["customer.update"])] = None,
    object: Annotated[Text | None, Query(max_length=100, examples=["cus_1042"])] = None,
    limit: pages.Limit = 50,
    cursor: pages.Cursor = None,
) -> Any:
    """Who did what, newest first."""
    rows = history.find_entries(session, action=action, object_id=object, after=pages.read_id(cursor), limit=limit + 1)
    return pages.page(request, response, rows, limit, lambda row: [row["id"]])
