"""`GET /items/export`: every item of a list, in one answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from app.concurrency.ahead import ahead
from app.dependencies.auth import OptionalUser
from app.dependencies.items import ItemListQuery
from app.dependencies.limits import caller_key, rate_limit
from app.dependencies.resources import CurrentResources
from app.dependencies.versions import SpeaksV2
from app.repositories.items import ItemRepository
from app.resources import Resources
from app.routers.streams import PatientStream, first_of
from app.routers.versioning import Resource
from app.schemas.problems import problems
from app.security.principal import Principal
from app.services import item_export
from app.services.item_export import TextFormat

router = APIRouter(prefix="/items", tags=["items"])

resource = Resource(shared=(router,))

_BATCH = 500  # rows: 3 ms of work between two looks at everybody else
_PIECE = 128 * 1024  # bytes; from here on the compression runs in a thread


class ExportQuery(ItemListQuery):
    """Which items an export has, in which order and form."""

    format: TextFormat = Field(TextFormat.NDJSON, description="One JSON object a line, or CSV.")


@router.get(
    "/export",
    response_class=Response,
    response_model=None,
    summary="Export items",
    dependencies=[Depends(rate_limit("export"))],
    responses={
        200: {
            "description": "All items of the list, one a line",
            "content": {
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "example": '{"id":42,"name":"Oak desk","price":349.0,"tags":["office"]}\n',
                },
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": 'id,name,price,tags\r\n42,Oak desk,349.00,"[""office""]"\r\n',
                },
            },
        },
        **problems(400, 401, 422, 429, 503),
    },
)
async def export_items(
    request: Request,
    query: Annotated[ExportQuery, Query()],
    viewer: OptionalUser,
    is_v2: SpeaksV2,
    resources: CurrentResources,
) -> Response:
    """Stream what the caller may read as of one moment, with the list's filters, search and sort.

    A cut connection means that the file is not whole: there is no answer that ends early by itself.
    """
    headers = {
        "Content-Disposition": f'attachment; filename="items.{query.format}"',
        "Cache-Control": "private, no-store",
    }
    if request.scope.get("state", {}).get("is_head"):
        head = Response(media_type=query.format.media_type, headers=headers)
        del head.headers["content-length"]  # nobody knows it before the end
        return head
    pieces = ahead(_pieces(query, viewer, resources, caller_key(request), is_v2=is_v2))
    # Asked for before the answer begins: a database that is away is still a 503 then.
    first = await first_of(request, pieces)
    return PatientStream(
        _continued(first, pieces), media_type=query.format.media_type, headers=headers
    )


async def _pieces(
    query: ExportQuery, viewer: Principal | None, resources: Resources, holder: str, *, is_v2: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the file in pieces that are worth compressing; at least one, which may be empty."""
    encode = item_export.encoder(query.format, is_v2=is_v2)
    piece = [item_export.head(query.format, is_v2=is_v2)]
    async with resources.snapshots.open(holder) as connection:
        batches = ItemRepository(connection).stream(
            query.filter(), viewer, query.sort, batch=_BATCH
        )
        async with aclosing(batches):
            async for rows in batches:
                piece.append(encode(rows))
                if sum(map(len, piece)) >= _PIECE:
                    yield b"".join(piece)
                    piece.clear()
    yield b"".join(piece)


async def _continued(
    first: bytes, rest: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
