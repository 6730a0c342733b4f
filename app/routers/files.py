"""Files of items over HTTP."""

import re
from typing import Annotated, Any, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.dependencies.auth import CurrentUser, OptionalUser
from app.dependencies.idempotency import IdempotencyKey, IdempotentRoute, answer_once
from app.dependencies.limits import rate_limit
from app.dependencies.preconditions import IfNoneMatch
from app.dependencies.ranges import IsModifiedSince, Representation, WantedRange
from app.dependencies.resources import CurrentResources
from app.models.files import File
from app.routers.downloads import content_headers, described, download
from app.routers.streams import incoming
from app.routers.versioning import Resource
from app.schemas.base import PathId
from app.schemas.files import (
    ConfirmIn,
    FileList,
    FileOut,
    LinkIn,
    LinkOut,
    PresignIn,
    PresignOut,
)
from app.schemas.problems import problems
from app.security.links import Right
from app.services import files, items, uploads
from app.services.thumbnails import MEDIA_TYPE, SIDE

router = APIRouter(tags=["files"], route_class=IdempotentRoute)
# A body that is streamed must not be read before; a signed address must not be kept.
plain = APIRouter(tags=["files"])

resource = Resource(shared=(router, plain))

UPLOAD_PATHS = re.compile(r"/api/v[0-9]+/(items/[0-9]+/files|files/[0-9]+/content)$")
DOWNLOAD_PATHS = re.compile(r"/api/v[0-9]+/files/")

ItemId = Annotated[PathId, Path(description="The item's id.", examples=[42])]
FileId = Annotated[PathId, Path(description="The file's id.", examples=[5])]

_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": _FILE | {"description": "A file; repeatable."},
                        "files": {"type": "array", "items": _FILE},
                    },
                    "additionalProperties": False,
                    "minProperties": 1,
                },
                "example": {"file": "(content of desk.jpg)"},
            }
        },
    }
}
_RAW = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": _FILE, "example": "(content)"}},
    }
}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The content", "content": {"*/*": {"schema": _FILE}}},
    206: {"description": "The range of it", "content": {"*/*": {"schema": _FILE}}},
    304: {"description": "Not modified"},
}


@plain.post(
    "/items/{item_id}/files",
    response_model=FileList,
    status_code=201,
    summary="Upload files",
    dependencies=[Depends(rate_limit("upload"))],
    openapi_extra=_FORM,
    responses=problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503, 507),
)
async def upload_files(
    request: Request,
    item_id: ItemId,
    caller: CurrentUser,
    key: IdempotencyKey,
    resources: CurrentResources,
) -> Response:
    """Add one or many files to an item: all of them or none.

    Sent as `multipart/form-data` in the field `file` or `files`, streamed to the storage. The type
    of each is told from its content.
    """
    item = await items.read_to_change(resources.db, item_id, caller)
    media_type = request.headers.get("content-type", "")
    stored = await resources.files.receive(item, incoming(request), media_type)
    storage = resources.files.storage

    async def add() -> Response:
        added = await resources.files.add(item, stored)
        return _created(request, FileList, {"items": added}, added[0] if len(added) == 1 else None)

    async with uploads.kept_if_added(storage, stored):
        if key is None:
            return await add()
        answer = await answer_once(request, key, files.fingerprint(item_id, stored), add)
    if answer.headers.get("idempotency-replayed"):
        await uploads.discard(storage, stored)
    return answer


@router.get(
    "/items/{item_id}/files",
    response_model=FileList,
    summary="List an item's files",
    responses=problems(401, 404, 422, 429, 503),
)
async def list_files(item_id: ItemId, viewer: OptionalUser, resources: CurrentResources) -> Any:
    """List the files of an item that the caller may read, the oldest first."""
    return {"items": await resources.files.of_item(item_id, viewer)}


@plain.post(
    "/items/{item_id}/files/presign",
    response_model=PresignOut,
    summary="Announce a file and get where to send it",
    dependencies=[Depends(rate_limit("upload"))],
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
)
async def presign_upload(
    request: Request,
    item_id: ItemId,
    body: PresignIn,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """Hold room for a file, and return a signed address that takes it and nothing else.

    Where files are kept in S3, that is the bucket itself. Send the content there within the hour,
    then confirm it.
    """
    item = await items.read_to_change(resources.db, item_id, caller)
    file, upload = await resources.files.announce(item, body)
    announced: dict[str, Any] = {
        "id": file.id,
        "method": "PUT",
        "url": upload.url if upload else "",
        "headers": upload.headers if upload else {"Content-Type": "application/octet-stream"},
        "expires_at": files.expires(file),
    }
    if upload is None:
        thing, lifetime = str(file.id), files.AWAITED_FOR
        query, announced["expires_at"] = resources.links.sign(Right.UPLOAD, thing, lifetime)
        announced["url"] = _link(request, f"/api/v1/files/{file.id}/content", query)
    return announced


@router.post(
    "/items/{item_id}/files/confirm",
    response_model=FileOut,
    status_code=201,
    summary="Confirm an announced file",
    responses=problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 507),
)
async def confirm_upload(
    request: Request,
    response: Response,
    item_id: ItemId,
    body: ConfirmIn,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """Check that what was sent is what was announced, and add it to the item. Safe to repeat."""
    item = await items.read_to_change(resources.db, item_id, caller)
    file = await resources.files.confirm(item, body.id)
    response.headers["Location"] = _location(request, file)
    return file


@plain.put(
    "/files/{file_id}/content",
    status_code=204,
    summary="Send an announced file",
    dependencies=[Depends(rate_limit("upload"))],
    openapi_extra=_RAW,
    responses=problems(400, 401, 403, 404, 408, 413, 422, 429, 503, 507),
)
async def send_content(
    request: Request,
    file_id: FileId,
    expires: Annotated[int, Query(ge=0, le=2**53, description="Of the signed address.")],
    signature: Annotated[str, Query(max_length=100, description="Of the signed address.")],
    resources: CurrentResources,
) -> None:
    """Take the bare content of an announced file. No token is needed: the address is signed."""
    resources.links.check(Right.UPLOAD, str(file_id), expires, signature)
    await resources.files.receive_announced(file_id, incoming(request))


@router.get(
    "/files/{file_id}",
    response_class=Response,
    response_model=None,
    summary="Download a file",
    responses={**_CONTENT, **problems(401, 403, 404, 416, 422, 429, 503)},
)
async def download_file(
    request: Request,
    file_id: FileId,
    viewer: OptionalUser,
    is_known: IfNoneMatch,
    is_modified_since: IsModifiedSince,
    wanted: WantedRange,
    resources: CurrentResources,
    expires: Annotated[int, Query(ge=0, le=2**53, description="Of a link.")] = 0,
    signature: Annotated[
        str | None, Query(max_length=100, description="Of a link; then no token is needed.")
    ] = None,
) -> Response:
    """Download a file of an item that the caller may read, whole or one range of it."""
    if signature is not None:
        resources.links.check(Right.DOWNLOAD, str(file_id), expires, signature)
        file = await resources.files.read_by_link(file_id)
    else:
        file = await resources.files.read(file_id, viewer)
    if is_known(file.sha256) or not is_modified_since(file.created_at):
        return Response(status_code=304, headers=content_headers(file))
    extent = wanted(Representation(file.sha256, file.created_at, file.size))
    storage = resources.files.storage
    start, length = extent or (0, file.size)
    return download(request, file, extent, lambda: storage.read(file.key, start, length))


@router.get(
    "/files/{file_id}/thumbnail",
    response_class=Response,
    response_model=None,
    summary="Get a small picture of a file",
    responses={
        200: {
            "description": "WebP, 320 pixels at most",
            "content": {"image/webp": {"schema": _FILE}},
        },
        304: {"description": "Not modified"},
        **problems(401, 404, 422, 429, 503),
    },
)
async def read_thumbnail(
    file_id: FileId, viewer: OptionalUser, is_known: IfNoneMatch, resources: CurrentResources
) -> Response:
    """Get the small picture of an image, made in the background soon after its upload."""
    file, picture = await resources.files.thumbnail(file_id, viewer)
    tag = f"{file.sha256}-{SIDE}"
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": "private, max-age=3600",
        "Vary": "Authorization, X-API-Key",  # who signs in next in this browser is another
    }
    if is_known(tag):
        return Response(status_code=304, headers=headers)
    return Response(picture, headers=headers, media_type=MEDIA_TYPE)


@router.post(
    "/files/{file_id}/url",
    response_model=LinkOut,
    summary="Make a link to a file",
    responses=problems(400, 401, 404, 413, 415, 422, 429, 503),
)
async def make_link(
    request: Request,
    file_id: FileId,
    body: LinkIn,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """Return an address of the content that needs no token, good for some minutes.

    Whoever has it can download the file until then, whatever becomes of the item's visibility.
    """
    file = await resources.files.read(file_id, caller)
    lifetime = body.lifetime
    query, expires_at = resources.links.sign(Right.DOWNLOAD, str(file_id), lifetime)
    headers = content_headers(file) | described(file)
    direct = await resources.files.storage.download_url(file.key, headers, lifetime)
    url = direct or _link(request, f"/api/v1/files/{file_id}", query)
    return {"url": url, "expires_at": expires_at}


@router.delete(
    "/files/{file_id}",
    status_code=204,
    summary="Delete a file",
    responses=problems(401, 403, 404, 422, 429, 503),
)
async def delete_file(file_id: FileId, caller: CurrentUser, resources: CurrentResources) -> None:
    """Delete a file for good."""
    await resources.files.remove(file_id, caller)


def _created(request: Request, model: type[BaseModel], content: Any, only: File | None) -> Response:
    """Return the ready answer, in the words of the version that is asked: it may be kept."""
    route = cast("APIRoute", request.scope["route"])
    spelled: type[BaseModel] = route.response_model or model
    body = spelled.model_validate(content, from_attributes=True).model_dump_json(by_alias=True)
    headers = {"Location": _location(request, only)} if only else {}
    return Response(body, 201, headers, "application/json")


def _location(request: Request, file: File) -> str:
    version = request.url.path.split("/")[2]
    return f"/api/{version}/files/{file.id}"


def _link(request: Request, path: str, query: dict[str, str]) -> str:
    return f"{str(request.base_url).rstrip('/')}{path}?{urlencode(query)}"
