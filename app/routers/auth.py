"""Signing up, in and out over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request, Response

from app.dependencies.auth import CurrentDevice, CurrentUser
from app.dependencies.idempotency import IdempotentRoute
from app.dependencies.limits import client_key, rate_limit
from app.dependencies.refresh_cookie import AsCookie, GivenCookie, handed_over, take_back, usable
from app.dependencies.resources import CurrentResources
from app.errors import NotFound, Unprocessable
from app.routers.versioning import Resource
from app.schemas.auth import (
    SUCCESSORS,
    PasswordChangeIn,
    PasswordForm,
    RefreshIn,
    RegisterIn,
    SessionList,
    TicketOut,
    TokenPair,
)
from app.schemas.base import PathId
from app.schemas.problems import problems
from app.schemas.users import UserOut
from app.services.sessions import TICKET_LIFE

router = APIRouter(prefix="/auth", tags=["auth"])
creating = APIRouter(prefix="/auth", tags=["auth"], route_class=IdempotentRoute)

resource = Resource(shared=(router, creating), successors=SUCCESSORS)


@creating.post(
    "/register",
    response_model=UserOut,
    status_code=201,
    summary="Create an account",
    dependencies=[Depends(rate_limit("register", key=client_key))],
    responses=problems(400, 409, 413, 415, 422, 429, 503),
)
async def register(
    request: Request, response: Response, body: RegisterIn, resources: CurrentResources
) -> Any:
    """Create an account with the role `user`."""
    user = await resources.accounts.register(body)
    users = request.url.path.removesuffix("/auth/register") + "/users"
    response.headers["Location"] = f"{users}/{user.id}"
    return user


@router.post(
    "/token",
    response_model=TokenPair,
    response_model_exclude_none=True,
    summary="Sign in",
    dependencies=[Depends(rate_limit("login", key=client_key))],
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
)
async def sign_in(
    request: Request,
    response: Response,
    form: Annotated[PasswordForm, Form()],
    by_cookie: AsCookie,
    device: CurrentDevice,
    resources: CurrentResources,
) -> Any:
    """Exchange a username or e-mail address and a password for tokens (RFC 6749, 4.3).

    An account with a second factor gets 401 `SECOND_FACTOR_REQUIRED` with a `challenge`, to be
    sent with a code to `/auth/token/second-factor` within five minutes; or send the code along as
    `otp`.
    """
    user = await resources.accounts.prove(form.username, form.password, device)
    is_proven = form.otp is not None and await resources.second_factor.prove(user, form.otp, device)
    pair = await resources.sessions.open(user, device, has_proven_factor=is_proven)
    return handed_over(request, response, pair, by_cookie=by_cookie)


@router.post(
    "/refresh",
    response_model=TokenPair,
    response_model_exclude_none=True,
    summary="Get new tokens",
    dependencies=[Depends(rate_limit("refresh", key=client_key))],
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
)
async def refresh(
    request: Request,
    response: Response,
    cookie: GivenCookie,
    resources: CurrentResources,
    body: RefreshIn | None = None,
) -> Any:
    """Spend a refresh token for a new pair; using a spent one again ends the session.

    Without a body it is the cookie's token, from our own pages only: send `Origin`, as browsers do,
    or `X-Requested-With`.
    """
    if body is not None:
        pair = await resources.sessions.refresh(body.refresh_token)
        return handed_over(request, response, pair, by_cookie=False)
    if cookie is None:
        raise Unprocessable.field("refresh_token", "There is neither a body nor a cookie")
    pair = await resources.sessions.refresh(usable(request, cookie))
    return handed_over(request, response, pair, by_cookie=True)


@router.post("/logout", status_code=204, summary="Sign out", responses=problems(401, 429, 503))
async def sign_out(
    request: Request, response: Response, caller: CurrentUser, resources: CurrentResources
) -> None:
    """End the session that this request came with."""
    await resources.sessions.end(caller)
    take_back(request, response)


@router.post(
    "/logout-all", status_code=204, summary="Sign out everywhere", responses=problems(401, 429, 503)
)
async def sign_out_everywhere(
    request: Request, response: Response, caller: CurrentUser, resources: CurrentResources
) -> None:
    """End every session of the caller."""
    await resources.sessions.end_all(caller.user_id)
    take_back(request, response)


@router.get(
    "/sessions",
    response_model=SessionList,
    summary="List own sessions",
    responses=problems(401, 429, 503),
)
async def list_sessions(caller: CurrentUser, resources: CurrentResources) -> Any:
    """List where the caller is signed in, the last used first."""
    found = await resources.sessions.listed(caller.user_id)
    return {
        "items": [{**each._asdict(), "is_current": each.id == caller.session_id} for each in found]
    }


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    summary="End a session",
    responses=problems(401, 404, 422, 429, 503),
)
async def end_session(
    session_id: Annotated[PathId, Path(description="Its id.", examples=[7])],
    caller: CurrentUser,
    resources: CurrentResources,
) -> None:
    """Sign one device out."""
    if not await resources.sessions.end_one(caller.user_id, session_id):
        raise NotFound("There is no such session")


@router.post(
    "/password/change",
    status_code=204,
    summary="Change the password",
    dependencies=[Depends(rate_limit("password"))],
    responses=problems(400, 401, 413, 415, 422, 429, 503),
)
async def change_password(
    body: PasswordChangeIn,
    caller: CurrentUser,
    device: CurrentDevice,
    resources: CurrentResources,
) -> None:
    """Set a new password; every other session ends."""
    await resources.accounts.change_password(caller, body, device)


@router.post(
    "/ws-ticket",
    response_model=TicketOut,
    summary="Get a ticket for a WebSocket",
    responses=problems(401, 429, 503),
)
async def issue_ticket(caller: CurrentUser, resources: CurrentResources) -> Any:
    """Issue a one-time ticket for browsers, which cannot send headers on a WebSocket."""
    ticket = await resources.sessions.issue_ticket(caller)
    return {"ticket": ticket, "expires_in": int(TICKET_LIFE.total_seconds())}
