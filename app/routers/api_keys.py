"""API keys over HTTP: for programs that act for a user."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from app.dependencies.auth import CurrentUser
from app.dependencies.idempotency import SecretOnceRoute
from app.dependencies.limits import rate_limit
from app.dependencies.resources import CurrentResources
from app.routers.versioning import Resource
from app.schemas.api_keys import (
    ApiKeyIn,
    ApiKeyList,
    ApiKeyOut,
    ApiKeyPatch,
    ApiKeySecret,
    RotateIn,
)
from app.schemas.base import PathId
from app.schemas.problems import problems

router = APIRouter(prefix="/auth/api-keys", tags=["api keys"], route_class=SecretOnceRoute)

resource = Resource(shared=(router,))

KeyId = Annotated[PathId, Path(description="The key's id.", examples=[3])]


@router.post(
    "",
    response_model=ApiKeySecret,
    status_code=201,
    summary="Create an API key",
    dependencies=[Depends(rate_limit("api_keys"))],
    responses=problems(400, 401, 409, 413, 415, 422, 429, 503),
)
async def create_api_key(
    request: Request,
    response: Response,
    body: ApiKeyIn,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """Create a key that acts for the caller within its scopes; its secret is shown this once."""
    key, secret = await resources.api_keys.create(caller.user_id, body)
    response.headers["Location"] = f"{request.url.path}/{key.id}"
    return {**key._asdict(), "secret": secret}


@router.get(
    "",
    response_model=ApiKeyList,
    summary="List own API keys",
    responses=problems(401, 429, 503),
)
async def list_api_keys(caller: CurrentUser, resources: CurrentResources) -> Any:
    """List the caller's keys, the newest first, without their secrets."""
    return {"items": await resources.api_keys.listed(caller.user_id)}


@router.get(
    "/{key_id}",
    response_model=ApiKeyOut,
    summary="Read an API key",
    responses=problems(401, 404, 422, 429, 503),
)
async def read_api_key(key_id: KeyId, caller: CurrentUser, resources: CurrentResources) -> Any:
    """Read one of the caller's keys, without its secret."""
    return await resources.api_keys.get(caller.user_id, key_id)


@router.patch(
    "/{key_id}",
    response_model=ApiKeyOut,
    summary="Rename an API key",
    responses=problems(400, 401, 404, 413, 415, 422, 429, 503),
)
async def rename_api_key(
    key_id: KeyId, body: ApiKeyPatch, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Give a key another name; for other scopes or another end, create another key."""
    return await resources.api_keys.rename(caller.user_id, key_id, body.name)


@router.delete(
    "/{key_id}",
    status_code=204,
    summary="Revoke an API key",
    responses=problems(401, 404, 422, 429, 503),
)
async def delete_api_key(key_id: KeyId, caller: CurrentUser, resources: CurrentResources) -> None:
    """Revoke a key for good, on every worker within a second."""
    await resources.api_keys.delete(caller.user_id, key_id)


@router.post(
    "/{key_id}/rotate",
    response_model=ApiKeySecret,
    summary="Give an API key a new secret",
    dependencies=[Depends(rate_limit("api_keys"))],
    responses=problems(400, 401, 404, 409, 413, 415, 422, 429, 503),
)
async def rotate_api_key(
    key_id: KeyId,
    body: RotateIn,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """Make a new secret, good at once; the old one works until the overlap ends."""
    overlap = timedelta(seconds=body.overlap_seconds)
    key, secret = await resources.api_keys.rotate(caller.user_id, key_id, overlap)
    return {**key._asdict(), "secret": secret}
