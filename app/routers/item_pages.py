"""A page of items, by offset or by cursor, for every list of them."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.dependencies.items import CursorQuery, OffsetQuery, read_cursor, write_cursor
from app.repositories.items import ItemRepository
from app.resources import Resources
from app.routers.pages import link_by_cursor, link_by_offset
from app.security.principal import Principal


async def page_by_offset(
    request: Request,
    response: Response,
    query: OffsetQuery,
    viewer: Principal | None,
    resources: Resources,
) -> dict[str, Any]:
    """Return a page with the total of its list."""
    async with resources.db.read() as connection:
        found, total = await ItemRepository(connection).page(
            query.filter(), viewer, query.sort, skip=query.skip, limit=query.limit
        )
    link_by_offset(request, response, skip=query.skip, limit=query.limit, total=total)
    return {"items": found, "total": total, "skip": query.skip, "limit": query.limit}


async def page_by_cursor(
    request: Request,
    response: Response,
    query: CursorQuery,
    viewer: Principal | None,
    resources: Resources,
) -> dict[str, Any]:
    """Return a page with the cursor of the next one.

    Raises:
        InvalidCursor: the cursor was not made by us, or for another list.
    """
    signer = resources.cursors
    position = read_cursor(signer, query)
    async with resources.db.read() as connection:
        found = await ItemRepository(connection).slice(
            query.filter(), viewer, query.sort, position=position, limit=query.limit + 1
        )
    backwards = position is not None and position.direction == "before"
    has_further = len(found) > query.limit
    page = found[-query.limit :] if backwards else found[: query.limit]
    has_more = backwards or has_further
    has_previous = has_further if backwards else position is not None
    next_cursor = write_cursor(signer, query, page[-1]) if page and has_more else None
    previous = write_cursor(signer, query, page[0], before=True) if page and has_previous else None
    link_by_cursor(request, response, next_cursor=next_cursor, previous=previous)
    return {"items": page, "next_cursor": next_cursor, "has_more": next_cursor is not None}
