"""Keeps the secrets of webhooks readable when SECRET_KEY changes."""

from app.jobs.definition import Outcome, Run, job


@job("webhooks.reseal", every=3600)
async def reseal_webhook_secrets(run: Run) -> Outcome:
    """Seal anew what is still sealed under the key before the last rotation."""
    return {"resealed": await run.resources.webhook_secrets.reseal()}
