"""Getting back in without the password, over HTTP."""

from typing import Any

from fastapi import APIRouter, Depends

from app.dependencies.limits import client_key, rate_limit
from app.dependencies.resources import CurrentResources
from app.routers.versioning import Resource
from app.schemas.auth import AcceptedOut, ForgottenPasswordIn, PasswordResetIn
from app.schemas.problems import problems

router = APIRouter(prefix="/auth/password", tags=["auth"])

resource = Resource(shared=(router,))


@router.post(
    "/forgot",
    status_code=202,
    response_model=AcceptedOut,
    summary="Ask for a new password",
    dependencies=[Depends(rate_limit("mail", key=client_key))],
    responses=problems(400, 413, 415, 422, 429, 503),
)
async def forgot_password(body: ForgottenPasswordIn, resources: CurrentResources) -> Any:
    """Send a link that sets a new password, if there is an account with this address.

    The answer and its time are the same if there is none.
    """
    await resources.recovery.ask(body.email)
    return {"detail": "If there is such an account, a mail is on its way."}


@router.post(
    "/reset",
    status_code=204,
    summary="Set a new password",
    dependencies=[Depends(rate_limit("password", key=client_key))],
    responses=problems(400, 413, 415, 422, 429, 503),
)
async def reset_password(body: PasswordResetIn, resources: CurrentResources) -> None:
    """Spend the token of a mail for a new password; every session of the account ends.

    A token that was used, has run out or is for something else is 400 `INVALID_ONE_TIME_TOKEN`.
    """
    await resources.recovery.reset(body)
