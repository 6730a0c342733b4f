"""Lets nothing depend on a secret key that was replaced."""

from app.jobs.definition import Outcome, Run, job


@job("second_factor.reseal", seconds=600, every=3600)
async def reseal(run: Run) -> Outcome:
    """Seal the second factors' secrets with the current key, where it is not what they have."""
    return {"resealed": await run.resources.second_factor.reseal()}
