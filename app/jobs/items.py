"""The job of an import of items."""

from app.jobs.definition import Failed, Lost, Outcome, Run, job
from app.services.item_import import Importer, ImportStopped, Overtaken

_HOURS = 6  # an attempt that takes longer goes on in the next one, where it was


@job("items.import", waits=(1, 5, 30, 120, 600), seconds=_HOURS * 3600)
async def import_items(run: Run) -> Outcome:
    """Import the file that came with the job."""
    resources = run.resources
    importer = Importer(resources.db, resources.files.storage, resources.settings.max_json_depth)
    try:
        return await importer.run(run.job_id, run.progress)
    except ImportStopped as stopped:
        raise Failed(str(stopped)) from stopped
    except Overtaken as overtaken:
        raise Lost from overtaken
