"""Confirming and changing an e-mail address over HTTP."""

from typing import Any

from fastapi import APIRouter, Depends

from app.dependencies.auth import CurrentDevice, CurrentUser
from app.dependencies.limits import client_key, rate_limit
from app.dependencies.resources import CurrentResources
from app.routers.versioning import Resource
from app.schemas.auth import AcceptedOut, EmailChangeIn, EmailChangeOut, MailedTokenIn, ResendIn
from app.schemas.problems import problems

router = APIRouter(prefix="/auth/email", tags=["auth"])

resource = Resource(shared=(router,))


@router.post(
    "/verify",
    status_code=204,
    summary="Confirm an e-mail address",
    dependencies=[Depends(rate_limit("password", key=client_key))],
    responses=problems(400, 413, 415, 422, 429, 503),
)
async def verify_email(body: MailedTokenIn, resources: CurrentResources) -> None:
    """Spend the token of the mail that came after registering."""
    await resources.addresses.verify(body.token)


@router.post(
    "/resend",
    status_code=202,
    response_model=AcceptedOut,
    summary="Ask for another confirmation mail",
    dependencies=[Depends(rate_limit("mail", key=client_key))],
    responses=problems(400, 413, 415, 422, 429, 503),
)
async def resend_verification(body: ResendIn, resources: CurrentResources) -> Any:
    """Send another link, if there is an account whose address is not confirmed yet.

    The answer and its time are the same if there is none. Only the last link works.
    """
    await resources.addresses.ask_again(body.email)
    return {"detail": "If an account waits for it, a mail is on its way."}


@router.post(
    "/change",
    status_code=202,
    response_model=AcceptedOut,
    summary="Change the e-mail address",
    dependencies=[Depends(rate_limit("mail"))],
    responses=problems(400, 401, 404, 413, 415, 422, 429, 503),
)
async def change_email(
    body: EmailChangeIn, caller: CurrentUser, device: CurrentDevice, resources: CurrentResources
) -> Any:
    """Send a link to the new address and one to the old; the change waits for both.

    A second request takes the first one's place.
    """
    accounts = resources.accounts
    user = await accounts.prove_again(caller.user_id, body.password, device)
    await resources.addresses.change(user, body.email)
    return {"detail": "Both addresses get a mail, and the change waits for both."}


@router.post(
    "/change/confirm",
    response_model=EmailChangeOut,
    summary="Agree to a change of address",
    dependencies=[Depends(rate_limit("password", key=client_key))],
    responses=problems(400, 409, 413, 415, 422, 429, 503),
)
async def confirm_email_change(body: MailedTokenIn, resources: CurrentResources) -> Any:
    """Spend the token of either address; the second of the two changes it."""
    return {"is_changed": await resources.addresses.confirm(body.token)}


@router.post(
    "/change/cancel",
    status_code=204,
    summary="Stop a change of address",
    dependencies=[Depends(rate_limit("password", key=client_key))],
    responses=problems(400, 413, 415, 422, 429, 503),
)
async def cancel_email_change(body: MailedTokenIn, resources: CurrentResources) -> None:
    """Spend the token that went to the old address to stop the change."""
    await resources.addresses.cancel(body.token)
