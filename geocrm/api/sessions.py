"""Sign in, sign out, who am I."""

from typing import Annotated

import anyio.to_thread
from fastapi import Request, Response
from pydantic import Field

from geocrm import access, ids
from geocrm.access import PERMISSIONS, Actor
from geocrm.api.dependencies import (
    Reading,
    SignedIn,
    Writing,
    gate_of,
    in_transaction,
    router,
    settings_of,
)
from geocrm.api.edge import COOKIE, credential
from geocrm.api.shapes import Body, Named, Shown, Text
from geocrm.crm import people
from geocrm.errors import Unauthenticated

routes = router("Sessions")


class Login(Body):
    """E-mail address and password."""

    email: Annotated[Text, Field(min_length=3, max_length=320, examples=["rep@demo.example"])]
    password: Annotated[Text, Field(min_length=1, max_length=500, examples=["correct horse battery"])]


class Me(Shown):
    """Who is signed in, what they may do, and what the web application needs to know."""

    id: str = Field(examples=["usr_7"])
    name: str = Field(examples=["Ada Young"])
    role: str = Field(examples=["rep"])
    permissions: list[str] = Field(examples=[["customers:read", "customers:write"]])
    contacts: str = Field(
        description="shown, consented or masked: whose contact details are readable.", examples=["shown"]
    )
    exact: bool = Field(description="False: every point is snapped to a grid of 500 m.")
    key_id: str | None = Field(description="The API key in use; null for a signed-in browser.", examples=[None])
    csrf_token: str | None = Field(
        description="Send it as X-CSRF-Token with every write of a signed-in browser.", examples=["wq9N3kT0…"]
    )
    teams: list[Named]
    settings: "WebSettings"


class WebSettings(Shown):
    """Settings that the web application follows."""

    map_style_url: str | None = Field(
        description="A basemap style; null: the built-in one, without a network.", examples=[None]
    )
    max_radius_m: float = Field(examples=[1000000.0])
    upload_max_mb: int = Field(examples=[2048])


@routes.post("/sessions", status_code=201, operation_id="sign_in", response_model=Me, summary="Sign in")
async def sign_in(request: Request, response: Response, login: Login) -> object:
    """Sets the session cookie (httpOnly, SameSite=Lax). Failures are throttled by account and, later, by address."""
    settings = settings_of(request)
    address = request.client.host if request.client else "unknown"
    most = settings.login_attempts_per_15_min
    candidate = await in_transaction(request, lambda session: people.begin_login(session, login.email, address, most))
    right = await anyio.to_thread.run_sync(
        access.verify_password, login.password, candidate.password_hash, limiter=gate_of(request).hashing
    )
    if not right or candidate.user_id is None:
        raise Unauthenticated("E-mail address or password is wrong.")
    user_id = candidate.user_id
    token, actor = await in_transaction(
        request,
        lambda session: people.finish_login(
            session, user_id, login.email, address, settings.session_hours, settings.session_days
        ),
    )
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(settings.session_days * 86_400),  # what ends a session is its own time in the database
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies,
        path="/",
    )
    return await in_transaction(request, lambda session: _me(request, actor, session))


@routes.delete("/sessions/current", status_code=204, operation_id="sign_out", summary="Sign out")
def sign_out(request: Request, response: Response, session: Writing, actor: SignedIn) -> None:
    """Ends the session of this browser. A key is not ended by this; revoke it."""
    found = credential(request.headers)
    if found is not None and actor.key_id is None:
        people.end_session(session, actor, found[0])
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")


@routes.get("/me", operation_id="get_me", response_model=Me, summary="Who am I")
def get_me(request: Request, session: Reading, actor: SignedIn) -> object:
    """The signed-in user or the user of the key, with the permissions that hold now."""
    return _me(request, actor, session)


def _me(request: Request, actor: Actor, session: Reading) -> dict[str, object]:
    settings = settings_of(request)
    teams = [team for team in people.find_teams(session) if ids.read("tea", team["id"]) in actor.team_ids]
    return {
        "id": ids.show("usr", actor.user_id),
        "name": actor.name,
        "role": actor.role,
        "permissions": sorted(permission for permission in PERMISSIONS if actor.may(permission)),
        "contacts": actor.contacts,
        "exact": actor.exact,
        "key_id": ids.show("key", actor.key_id),
        "csrf_token": actor.csrf_token,
        "teams": [{"id": team["id"], "name": team["name"]} for team in teams],
        "settings": {
            "map_style_url": settings.map_style_url,
            "max_radius_m": settings.max_radius_m,
            "upload_max_mb": settings.upload_max_mb,
        },
    }
