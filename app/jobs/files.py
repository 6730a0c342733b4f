"""Thumbnails of images, and the sweep of what no file knows."""

from app.jobs.definition import Failed, Outcome, Run, job
from app.services import thumbnails
from app.services.files import THUMBNAIL_JOB


@job(THUMBNAIL_JOB, waits=(5, 60, 600), seconds=60)
async def make_thumbnail(run: Run, file_id: int) -> Outcome:
    """Make a small picture of an image."""
    try:
        is_made = await run.resources.files.make_thumbnail(file_id)
    except thumbnails.NotAPicture as error:
        raise Failed(str(error)) from error
    return {"file_id": file_id, "is_made": is_made}


@job("files.sweep", waits=(60, 600), seconds=1800, every=3600)
async def sweep_files(run: Run) -> Outcome:
    """Delete contents that no file knows, and forget announced files that never came."""
    return await run.resources.files.sweep_orphans()
