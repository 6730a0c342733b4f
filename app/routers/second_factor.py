"""The second factor over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from app.dependencies.auth import Admin, CurrentDevice, CurrentUser
from app.dependencies.limits import client_key, rate_limit
from app.dependencies.refresh_cookie import AsCookie, handed_over
from app.dependencies.resources import CurrentResources
from app.errors import Forbidden
from app.routers.versioning import Resource
from app.schemas.auth import TokenPair
from app.schemas.base import PathId
from app.schemas.problems import problems
from app.schemas.second_factor import (
    ChallengeAnswer,
    CodeIn,
    EnrolmentOut,
    FullProof,
    PasswordProof,
    RecoveryCodes,
    SecondFactorOut,
)

router = APIRouter(tags=["second factor"])

resource = Resource(shared=(router,))

_guarded = [Depends(rate_limit("password"))]


@router.get(
    "/auth/totp",
    response_model=SecondFactorOut,
    summary="Read the second factor",
    responses=problems(401, 429, 503),
)
async def read_second_factor(caller: CurrentUser, resources: CurrentResources) -> Any:
    """Say whether the caller has a second factor, and how many recovery codes are left."""
    return await resources.second_factor.status(caller.user_id)


@router.post(
    "/auth/totp",
    response_model=EnrolmentOut,
    summary="Begin a second factor",
    dependencies=_guarded,
    responses=problems(400, 401, 409, 413, 415, 422, 429, 503),
)
async def begin_second_factor(
    body: PasswordProof,
    caller: CurrentUser,
    device: CurrentDevice,
    resources: CurrentResources,
) -> Any:
    """Return a new secret for an authenticator app. It counts once a code has confirmed it."""
    user = await resources.accounts.prove_again(caller.user_id, body.password, device)
    return await resources.second_factor.enrol(user)


@router.post(
    "/auth/totp/confirm",
    response_model=RecoveryCodes,
    summary="Confirm a second factor",
    dependencies=_guarded,
    responses=problems(400, 401, 404, 409, 413, 415, 422, 429, 503),
)
async def confirm_second_factor(
    body: CodeIn,
    caller: CurrentUser,
    device: CurrentDevice,
    resources: CurrentResources,
) -> Any:
    """Turn the second factor on and return ten recovery codes; every other session ends."""
    user = await resources.accounts.get(caller.user_id)
    codes = await resources.second_factor.confirm(caller, user, body.code, device)
    return {"recovery_codes": codes}


@router.post(
    "/auth/totp/recovery-codes",
    response_model=RecoveryCodes,
    summary="Get new recovery codes",
    dependencies=_guarded,
    responses=problems(400, 401, 404, 413, 415, 422, 429, 503),
)
async def renew_recovery_codes(
    body: FullProof,
    caller: CurrentUser,
    device: CurrentDevice,
    resources: CurrentResources,
) -> Any:
    """Return ten new recovery codes; the old ones no longer work."""
    user = await resources.accounts.prove_again(caller.user_id, body.password, device)
    return {"recovery_codes": await resources.second_factor.renew_codes(user, body.code, device)}


@router.delete(
    "/auth/totp",
    status_code=204,
    summary="Remove the second factor",
    dependencies=_guarded,
    responses=problems(400, 401, 404, 413, 415, 422, 429, 503),
)
async def remove_second_factor(
    body: FullProof, caller: CurrentUser, device: CurrentDevice, resources: CurrentResources
) -> None:
    """Turn the second factor off; every other session ends."""
    user = await resources.accounts.prove_again(caller.user_id, body.password, device)
    await resources.second_factor.remove(caller, user, body.code, device)


@router.post(
    "/auth/token/second-factor",
    response_model=TokenPair,
    response_model_exclude_none=True,
    summary="Sign in with a second factor",
    dependencies=[Depends(rate_limit("login", key=client_key))],
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
)
async def answer_challenge(
    request: Request,
    response: Response,
    body: ChallengeAnswer,
    by_cookie: AsCookie,
    device: CurrentDevice,
    resources: CurrentResources,
) -> Any:
    """Exchange the challenge of `SECOND_FACTOR_REQUIRED` and a code for tokens."""
    user = await resources.second_factor.answer(body.challenge, body.code, device)
    pair = await resources.sessions.open(user, device, has_proven_factor=True)
    return handed_over(request, response, pair, by_cookie=by_cookie)


@router.delete(
    "/users/{user_id}/totp",
    status_code=204,
    summary="Reset somebody's second factor",
    responses=problems(401, 403, 404, 422, 429, 503),
)
async def reset_second_factor(
    user_id: Annotated[PathId, Path(description="Whose.", examples=[7])],
    caller: Admin,
    resources: CurrentResources,
) -> None:
    """Turn off the factor of somebody who has lost it, for admins; all their sessions end."""
    if user_id == caller.user_id:  # else a stolen token would be enough to be rid of it
        raise Forbidden("Remove your own with DELETE /auth/totp, by password and code")
    await resources.second_factor.reset(user_id)
