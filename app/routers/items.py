"""The catalogue over HTTP."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.dependencies.auth import CurrentUser, OptionalUser, require_role
from app.dependencies.idempotency import IdempotentRoute
from app.dependencies.items import CursorListQuery, OffsetListQuery
from app.dependencies.preconditions import IfMatch, IfNoneMatch, etag
from app.dependencies.queries import QueryRoute
from app.dependencies.resources import CurrentResources
from app.errors import DomainError
from app.models.items import Item
from app.routers.item_pages import page_by_cursor, page_by_offset
from app.routers.versioning import Resource
from app.schemas.base import PathId
from app.schemas.items import (
    SUCCESSORS,
    BulkCreate,
    BulkIn,
    BulkOut,
    ItemCursorPage,
    ItemIn,
    ItemOut,
    ItemPage,
    ItemPatch,
    ItemStats,
)
from app.schemas.problems import problems
from app.security.principal import Role
from app.services import bulk, items, statistics

router = APIRouter(prefix="/items", tags=["items"], route_class=IdempotentRoute)
by_offset = APIRouter(prefix="/items", tags=["items"], route_class=QueryRoute)
by_cursor = APIRouter(prefix="/items", tags=["items"], route_class=QueryRoute)

resource = Resource(shared=(router,), v1=(by_offset,), v2=(by_cursor,), successors=SUCCESSORS)

_TAGGED = {
    "ETag": {
        "description": "Its version: for `If-Match` and `If-None-Match`.",
        "schema": {"type": "string", "examples": ['"1"']},
    }
}
_LOCATED = {"Location": {"description": "Where it is.", "schema": {"type": "string"}}}

ItemId = Annotated[PathId, Path(description="The item's id.", examples=[42])]


@by_offset.get(
    "",
    response_model=ItemPage,
    summary="List items",
    responses=problems(400, 401, 422, 429, 503),
)
async def list_items_by_offset(
    request: Request,
    response: Response,
    query: OffsetListQuery,
    viewer: OptionalUser,
    resources: CurrentResources,
) -> Any:
    """List what the caller may read, filtered, searched and sorted, with the total."""
    return await page_by_offset(request, response, query, viewer, resources)


@by_cursor.get(
    "",
    response_model=ItemCursorPage,
    summary="List items",
    responses=problems(400, 401, 422, 429, 503),
)
async def list_items_by_cursor(
    request: Request,
    response: Response,
    query: CursorListQuery,
    viewer: OptionalUser,
    resources: CurrentResources,
) -> Any:
    """List what the caller may read, page by page; pages neither skip nor repeat an item."""
    return await page_by_cursor(request, response, query, viewer, resources)


@router.post(
    "",
    response_model=ItemOut,
    status_code=201,
    summary="Create an item",
    responses={
        201: {"headers": _TAGGED | _LOCATED},
        **problems(400, 401, 409, 413, 415, 422, 429, 503),
    },
)
async def create_item(
    request: Request,
    response: Response,
    body: ItemIn,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """Create an item that the caller owns."""
    item = await items.create(resources.db, caller, body)
    response.headers["Location"] = f"{request.url.path}/{item.id}"
    return _tagged(response, item)


@router.post(
    "/bulk",
    response_model=BulkOut,
    summary="Create, change and delete many items",
    responses=problems(400, 401, 409, 413, 415, 422, 429, 503),
)
async def change_items(
    body: BulkIn,
    caller: CurrentUser,
    resources: CurrentResources,
    atomic: Annotated[bool, Query(description="All or nothing; else each on its own.")] = True,
) -> Any:
    """Carry out up to 1,000 operations in order."""
    outcomes = await bulk.run(resources.db, caller, body.operations, atomic=atomic)
    results = [
        _bulk_result(index, entry, outcome)
        for index, (entry, outcome) in enumerate(zip(body.operations, outcomes, strict=True))
    ]
    failed = sum(result["error"] is not None for result in results)
    return {"succeeded": len(results) - failed, "failed": failed, "results": results}


@router.get(
    "/stats",
    response_model=ItemStats,
    summary="Figures over all items",
    dependencies=[Depends(require_role(Role.ANALYST, Role.ADMIN))],
    responses={304: {"description": "Not modified"}, **problems(401, 403, 429, 503)},
)
async def item_statistics(
    response: Response, is_known: IfNoneMatch, resources: CurrentResources
) -> Any:
    """Count items and describe prices, by tag and day; up to 30 seconds old."""
    entry = await statistics.cached(
        resources.cache, resources.db, resources.settings.stats_cache_seconds
    )
    headers = {"ETag": entry.etag, "Cache-Control": "private, no-cache"}
    if is_known(entry.etag.strip('"')):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return ItemStats.model_validate_json(entry.body)


@router.get(
    "/{item_id}",
    response_model=ItemOut,
    summary="Read an item",
    responses={
        200: {"headers": _TAGGED},
        304: {"description": "Not modified"},
        **problems(401, 404, 422, 429, 503),
    },
)
async def read_item(
    response: Response,
    item_id: ItemId,
    viewer: OptionalUser,
    is_known: IfNoneMatch,
    resources: CurrentResources,
) -> Any:
    """Read an item that is public, or the caller's own."""
    item = await items.read(resources.db, item_id, viewer)
    if is_known(item.version):
        return Response(status_code=304, headers={"ETag": etag(item.version)})
    return _tagged(response, item)


@router.put(
    "/{item_id}",
    response_model=ItemOut,
    summary="Replace an item",
    responses={
        200: {"headers": _TAGGED},
        **problems(400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503),
    },
)
async def replace_item(
    response: Response,
    item_id: ItemId,
    body: ItemIn,
    caller: CurrentUser,
    precondition: IfMatch,
    resources: CurrentResources,
) -> Any:
    """Replace an item whole; what is left out goes back to its default."""
    item = await items.replace(resources.db, item_id, caller, body, precondition)
    return _tagged(response, item)


@router.patch(
    "/{item_id}",
    response_model=ItemOut,
    summary="Change an item",
    responses={
        200: {"headers": _TAGGED},
        **problems(400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503),
    },
)
async def patch_item(
    response: Response,
    item_id: ItemId,
    body: ItemPatch,
    caller: CurrentUser,
    precondition: IfMatch,
    resources: CurrentResources,
) -> Any:
    """Change some fields by JSON merge patch (RFC 7396)."""
    item = await items.patch(resources.db, item_id, caller, body, precondition)
    return _tagged(response, item)


@router.delete(
    "/{item_id}",
    status_code=204,
    summary="Delete an item",
    responses=problems(400, 401, 403, 404, 412, 422, 429, 503),
)
async def delete_item(
    item_id: ItemId, caller: CurrentUser, precondition: IfMatch, resources: CurrentResources
) -> None:
    """Delete an item; it can be restored for 30 days."""
    await items.delete(resources.db, item_id, caller, precondition)


@router.post(
    "/{item_id}/restore",
    response_model=ItemOut,
    summary="Restore a deleted item",
    responses={200: {"headers": _TAGGED}, **problems(401, 404, 409, 422, 429, 503)},
)
async def restore_item(
    response: Response, item_id: ItemId, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Bring back an item deleted within the last 30 days."""
    return _tagged(response, await items.restore(resources.db, item_id, caller))


def _tagged(response: Response, item: Item) -> Item:
    response.headers["ETag"] = etag(item.version)
    return item


def _bulk_result(index: int, entry: object, outcome: bulk.Outcome) -> dict[str, Any]:
    if isinstance(outcome, DomainError):
        error = {
            "error_code": outcome.error_code,
            "detail": outcome.detail,
            "errors": outcome.extra.get("errors", []),
        }
        return {"index": index, "status": outcome.status, "item": None, "error": error}
    status = 204 if outcome is None else 201 if isinstance(entry, BulkCreate) else 200
    return {"index": index, "status": status, "item": outcome, "error": None}
