"""Sends mails, and finds out who asked for one."""

from typing import Any

from app.adapters.mail import Mail, MailRefused
from app.jobs.definition import Failed, Run, job
from app.mail.letters import Letter, render
from app.repositories.one_time_tokens import OneTimeTokenRepository
from app.security.opaque import digest
from app.services.post import ANSWER, SEND, Order

# About two hours: a mail server may be away for that long; links outlive it, or are not sent.
_WAITS = (5.0, 30.0, 300.0, 1800.0, 5400.0)


@job(SEND, waits=_WAITS, seconds=30)
async def send_mail(run: Run, sealed: str) -> dict[str, Any]:
    """Send a letter, unless its link is dead by now."""
    order = _open(run, sealed)
    if not await _is_worth_sending(run, order):
        return {"letter": order.letter, "sent": False}
    settings = run.resources.settings
    # Never what a request said of itself: whoever asks for somebody's link would choose its target.
    public_url = settings.public_url or f"http://localhost:{settings.port}"
    content = render(order.letter, public_url, order.facts)
    try:
        # The same id each time: who gets it twice, after a crash, sees one.
        await run.resources.mailer.send(Mail(f"kingpost-{run.job_id}", order.to, *content))
    except MailRefused as error:
        raise Failed(str(error)) from None
    return {"letter": order.letter, "sent": True}


@job(ANSWER, waits=_WAITS, seconds=30)
async def answer_request(run: Run, sealed: str) -> None:
    """Answer somebody who may or may not have an account."""
    order = _open(run, sealed)
    service = run.resources.recovery if order.letter is Letter.RESET else run.resources.addresses
    await service.answer(order.to)


def _open(run: Run, sealed: str) -> Order:
    try:
        return run.resources.post.open(sealed)
    except ValueError:
        raise Failed("The secret that this mail was sealed by is gone") from None


async def _is_worth_sending(run: Run, order: Order) -> bool:
    token = order.facts.get("token")
    if token is None:
        return True
    async with run.resources.db.read() as connection:
        found = await OneTimeTokenRepository(connection).find(digest(token))
    return found is not None
