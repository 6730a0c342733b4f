"""`POST /items/import`: many new items from a file, as a job; and the lines that were refused."""

import hashlib
import re
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from app.dependencies.auth import CurrentUser
from app.dependencies.idempotency import IdempotencyKey, answer_once
from app.dependencies.limits import rate_limit
from app.dependencies.resources import CurrentResources
from app.dependencies.versions import SpeaksV2
from app.errors import UnsupportedMediaType
from app.models.jobs import Job
from app.routers.streams import PatientStream, incoming
from app.routers.versioning import Resource
from app.schemas.base import PathId
from app.schemas.jobs import JobOut
from app.schemas.problems import problems
from app.services import import_intake, uploads
from app.services.import_intake import Wanted
from app.services.item_export import TextFormat
from app.services.uploads import Stored

# The body is streamed: nothing may read it before, so this is no IdempotentRoute.
router = APIRouter()

resource = Resource(shared=(router,))

IMPORT_PATHS = re.compile(r"/api/v[0-9]+/items/import$")

JobId = Annotated[PathId, Path(description="The import's job.", examples=[42])]
_MEDIA_TYPES = {
    "application/x-ndjson": TextFormat.NDJSON,
    "application/ndjson": TextFormat.NDJSON,
    "application/jsonl": TextFormat.NDJSON,
    "text/csv": TextFormat.CSV,
}
_TEXT = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {
                "schema": _TEXT,
                "example": '{"name":"Oak desk","price":349}\n{"name":"Lamp","price":20}\n',
            },
            "text/csv": {
                "schema": _TEXT,
                "example": "name,price,tags\r\nOak desk,349,office;wood\r\nLamp,20,\r\n",
            },
        },
    }
}


class ImportQuery(BaseModel):
    """How a file of items is read, and whether anything comes of it."""

    format: TextFormat | None = Field(None, description="By default what Content-Type says.")
    atomic: bool = Field(False, description="All lines or none; else each on its own.")
    dry_run: bool = Field(False, description="Only check the lines; import none.")


@router.post(
    "/items/import",
    response_model=JobOut,
    status_code=202,
    tags=["items"],
    summary="Import items",
    dependencies=[Depends(rate_limit("import"))],
    openapi_extra=_BODY,
    responses=problems(400, 401, 408, 409, 413, 415, 422, 429, 503, 507),
)
async def import_items(
    request: Request,
    caller: CurrentUser,
    key: IdempotencyKey,
    is_v2: SpeaksV2,
    resources: CurrentResources,
    query: Annotated[ImportQuery, Query()],
) -> Response:
    """Queue the import of a file of new items, one a line, that the caller will own.

    The job tells how far it is and what came of it. The file's form is that of an export: the
    fields that the service gives itself, such as `id` and `created_at`, are not heeded.
    """
    _require_plain(request)
    wanted = Wanted(query.format or _format_of(request), is_v2, query.atomic, query.dry_run)
    db, storage = resources.db, resources.files.storage
    await import_intake.require_room(db, caller)
    content = await import_intake.receive(storage, incoming(request), wanted.text_format.media_type)

    obsolete: list[str] = []

    async def start() -> Response:
        job, over = await import_intake.start(db, caller, content, wanted)
        obsolete.extend(over)
        return _accepted(request, job)

    async with uploads.kept_if_added(storage, [content]):
        if key is None:
            answer = await start()
        else:
            answer = await answer_once(request, key, _fingerprint(request, content), start)
    if answer.headers.get("idempotency-replayed"):
        obsolete.append(content.key)
    await storage.delete(obsolete)
    return answer


@router.get(
    "/jobs/{job_id}/rejected",
    response_class=Response,
    response_model=None,
    tags=["jobs"],
    summary="Download the refused lines of an import",
    responses={
        200: {
            "description": "One refused line a line, in the order of the file",
            "content": {
                "application/x-ndjson": {
                    "schema": {"type": "string"},
                    "example": '{"line":3,"errors":[{"field":"price","message":"Field required",'
                    '"type":"missing"}]}\n',
                }
            },
        },
        **problems(401, 404, 422, 429, 503),
    },
)
async def read_rejected_lines(
    job_id: JobId, caller: CurrentUser, resources: CurrentResources
) -> Response:
    """Stream the number of each line that was not imported, and why."""
    await import_intake.require_import(resources.db, job_id, caller)
    return PatientStream(
        import_intake.rejected_lines(resources.db, job_id),
        media_type="application/x-ndjson",
        headers={
            "Content-Disposition": f'attachment; filename="rejected-{job_id}.ndjson"',
            "Cache-Control": "private, no-store",
        },
    )


def _format_of(request: Request) -> TextFormat:
    """Return the form that the headers name.

    Raises:
        UnsupportedMediaType: it is none that can be imported.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    found = _MEDIA_TYPES.get(media_type)
    if found is None:
        raise UnsupportedMediaType(
            f"Send {' or '.join(each.media_type for each in TextFormat)}, or say ?format="
        )
    return found


def _require_plain(request: Request) -> None:
    """Let a body pass that is the file itself.

    Raises:
        UnsupportedMediaType: it is compressed, or wrapped in a form.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the file uncompressed")
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise UnsupportedMediaType("Send the file itself as the body, not in a form")


def _fingerprint(request: Request, content: Stored) -> str:
    asked = f"{request.method} {request.url.path}?{request.url.query}\n{content.sha256}"
    return hashlib.sha256(asked.encode()).hexdigest()


def _accepted(request: Request, job: Job) -> Response:
    """Return the ready answer, in the words of the version that is asked: it may be kept."""
    route = cast("APIRoute", request.scope["route"])
    spelled: type[BaseModel] = route.response_model or JobOut
    body: Any = spelled.model_validate(job, from_attributes=True)
    location = f"{request.url.path.removesuffix('items/import')}jobs/{job.id}"
    headers = {"Location": location}
    return Response(body.model_dump_json(by_alias=True), 202, headers, "application/json")
