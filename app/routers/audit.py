"""The audit log over HTTP: admins read it, and nobody writes it."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.dependencies.audit import AuditByCursor, AuditByOffset
from app.dependencies.auth import Admin
from app.dependencies.resources import CurrentResources
from app.repositories.audit import AuditRepository
from app.routers.pages import link_by_cursor, link_by_offset
from app.routers.versioning import Resource
from app.schemas.audit import AuditCursorPage, AuditPage
from app.schemas.problems import problems

by_offset = APIRouter(prefix="/audit", tags=["audit"])
by_cursor = APIRouter(prefix="/audit", tags=["audit"])

resource = Resource(shared=(), v1=(by_offset,), v2=(by_cursor,))


@by_offset.get(
    "",
    response_model=AuditPage,
    summary="Read the audit log",
    responses=problems(401, 403, 422, 429, 503),
)
async def read_log_by_offset(
    request: Request,
    response: Response,
    query: AuditByOffset,
    _caller: Admin,
    resources: CurrentResources,
) -> Any:
    """List who did what to which object, from where; the newest first, for admins."""
    wanted = query.filter()
    async with resources.db.read() as connection:
        repository = AuditRepository(connection)
        found = await repository.page(wanted, skip=query.skip, limit=query.limit)
        total = await repository.count(wanted)
    link_by_offset(request, response, skip=query.skip, limit=query.limit, total=total)
    return {"items": found, "total": total, "skip": query.skip, "limit": query.limit}


@by_cursor.get(
    "",
    response_model=AuditCursorPage,
    summary="Read the audit log",
    responses=problems(400, 401, 403, 422, 429, 503),
)
async def read_log_by_cursor(
    request: Request,
    response: Response,
    query: AuditByCursor,
    _caller: Admin,
    resources: CurrentResources,
) -> Any:
    """List who did what to which object, from where; the newest first, for admins."""
    after = query.after(resources.cursors)
    async with resources.db.read() as connection:
        found = await AuditRepository(connection).page(
            query.filter(), limit=query.limit + 1, after=after
        )
    page, has_more = found[: query.limit], len(found) > query.limit
    next_cursor = query.cursor_of(resources.cursors, page[-1]) if has_more else None
    link_by_cursor(request, response, next_cursor=next_cursor)
    return {"items": page, "next_cursor": next_cursor, "has_more": has_more}
