"""Forgets, every hour, what has had its time."""

from datetime import timedelta

from app.jobs.definition import Outcome, Run, job
from app.services.retention import sweep


@job("retention.sweep", seconds=600, every=3600)
async def sweep_all(run: Run) -> Outcome:
    """Delete old events, answers, failed sign-ins, sessions, tokens, items, jobs and audit."""
    settings = run.resources.settings
    return await sweep(
        run.resources.db,
        timedelta(hours=settings.event_retention_hours),
        timedelta(days=settings.audit_retention_days),
    )
