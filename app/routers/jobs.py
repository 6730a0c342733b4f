"""Background jobs over HTTP: how they stand, and what to do about them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from app.dependencies.auth import CurrentUser
from app.dependencies.pages import Cursor, Offset
from app.dependencies.resources import CurrentResources
from app.models.jobs import JobStatus
from app.repositories.jobs import JobRepository
from app.routers.pages import link_by_cursor, link_by_offset
from app.routers.versioning import Resource
from app.schemas.base import Line, PathId
from app.schemas.jobs import JobCursorPage, JobOut, JobPage
from app.schemas.problems import problems
from app.services import jobs

router = APIRouter(prefix="/jobs", tags=["jobs"])
by_offset = APIRouter(prefix="/jobs", tags=["jobs"])
by_cursor = APIRouter(prefix="/jobs", tags=["jobs"])

resource = Resource(shared=(router,), v1=(by_offset,), v2=(by_cursor,))

JobId = Annotated[PathId, Path(description="The job's id.", examples=[42])]
StatusFilter = Annotated[JobStatus | None, Query(description="Only those that stand so.")]
KindFilter = Annotated[Line | None, Query(max_length=60, description="Only those of this kind.")]


@by_offset.get(
    "",
    response_model=JobPage,
    summary="List jobs",
    responses=problems(401, 422, 429, 503),
)
async def list_jobs_by_offset(
    request: Request,
    response: Response,
    caller: CurrentUser,
    page: Offset,
    resources: CurrentResources,
    status: StatusFilter = None,
    kind: KindFilter = None,
) -> Any:
    """List the caller's jobs, an admin everybody's, the newest first."""
    owner_id = None if caller.is_admin else caller.user_id
    async with resources.db.read() as connection:
        repository = JobRepository(connection)
        found = await repository.page(
            owner_id=owner_id, status=status, kind=kind, skip=page.skip, limit=page.limit
        )
        total = await repository.count(owner_id=owner_id, status=status, kind=kind)
    link_by_offset(request, response, skip=page.skip, limit=page.limit, total=total)
    return {"items": found, "total": total, "skip": page.skip, "limit": page.limit}


@by_cursor.get(
    "",
    response_model=JobCursorPage,
    summary="List jobs",
    responses=problems(400, 401, 422, 429, 503),
)
async def list_jobs_by_cursor(
    request: Request,
    response: Response,
    caller: CurrentUser,
    page: Cursor,
    resources: CurrentResources,
    status: StatusFilter = None,
    kind: KindFilter = None,
) -> Any:
    """List the caller's jobs, an admin everybody's, the newest first."""
    owner_id = None if caller.is_admin else caller.user_id
    scope = f"jobs:{owner_id}:{status}:{kind}"
    before_id = page.after_id(resources.cursors, scope) or None
    async with resources.db.read() as connection:
        found = await JobRepository(connection).page(
            owner_id=owner_id, status=status, kind=kind, limit=page.limit + 1, before_id=before_id
        )
    shown = found[: page.limit]
    next_cursor = None
    if len(found) > page.limit:
        next_cursor = resources.cursors.encode({"i": shown[-1].id}, scope)
    link_by_cursor(request, response, next_cursor=next_cursor)
    return {"items": shown, "next_cursor": next_cursor, "has_more": next_cursor is not None}


@router.get(
    "/{job_id}",
    response_model=JobOut,
    summary="Read a job",
    responses=problems(401, 404, 422, 429, 503),
)
async def read_job(job_id: JobId, caller: CurrentUser, resources: CurrentResources) -> Any:
    """Read how a job stands that the caller asked for; an admin any."""
    return await jobs.read(resources.db, job_id, caller)


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Cancel a job",
    responses=problems(401, 404, 409, 422, 429, 503),
)
async def cancel_job(job_id: JobId, caller: CurrentUser, resources: CurrentResources) -> None:
    """Cancel a job: at once where it waits, within seconds where it runs."""
    await jobs.cancel(resources.db, job_id, caller)


@router.post(
    "/{job_id}/retry",
    response_model=JobOut,
    summary="Retry a job",
    responses=problems(401, 404, 409, 422, 429, 503),
)
async def retry_job(job_id: JobId, caller: CurrentUser, resources: CurrentResources) -> Any:
    """Queue a job anew that failed for good or was cancelled."""
    return await jobs.retry(resources.db, job_id, caller)
