"""Webhook endpoints and their delivery log over HTTP. An account sees its own, and nobody else."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from app.dependencies.auth import CurrentUser
from app.dependencies.idempotency import SecretOnceRoute
from app.dependencies.limits import rate_limit
from app.dependencies.pages import Cursor, CursorPage, Offset, OffsetPage
from app.dependencies.resources import CurrentResources
from app.models.webhooks import DeliveryStatus, WebhookDelivery
from app.routers.pages import link_by_cursor, link_by_offset
from app.routers.versioning import Resource
from app.schemas.base import PathId
from app.schemas.problems import problems
from app.schemas.webhooks import (
    DeliveryCursorPage,
    DeliveryDetail,
    DeliveryPage,
    ReplayIn,
    ReplayOut,
    SecretOut,
    WebhookCreated,
    WebhookCursorPage,
    WebhookIn,
    WebhookOut,
    WebhookPage,
    WebhookPatch,
)

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
creating = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=SecretOnceRoute)
by_offset = APIRouter(prefix="/webhooks", tags=["webhooks"])
by_cursor = APIRouter(prefix="/webhooks", tags=["webhooks"])

resource = Resource(shared=(router, creating), v1=(by_offset,), v2=(by_cursor,))

WebhookId = Annotated[PathId, Path(description="The webhook's id.", examples=[42])]
DeliveryId = Annotated[PathId, Path(description="The delivery's id.", examples=[7])]
_limited = [Depends(rate_limit("webhooks"))]


class DeliveryFilter(OffsetPage):
    """A page of deliveries by offset."""

    status: DeliveryStatus | None = Field(None, description="Only those that stand so.")


class DeliveryCursorFilter(CursorPage):
    """A page of deliveries by cursor."""

    status: DeliveryStatus | None = Field(None, description="Only those that stand so.")


@by_offset.get(
    "",
    response_model=WebhookPage,
    summary="List your webhooks",
    responses=problems(401, 422, 429, 503),
)
async def list_webhooks_by_offset(
    request: Request,
    response: Response,
    page: Offset,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """List the caller's webhooks, with the total; there are at most 20."""
    found = await resources.webhooks.of(caller)
    link_by_offset(request, response, skip=page.skip, limit=page.limit, total=len(found))
    shown = found[page.skip : page.skip + page.limit]
    return {"items": shown, "total": len(found), "skip": page.skip, "limit": page.limit}


@by_cursor.get(
    "",
    response_model=WebhookCursorPage,
    summary="List your webhooks",
    responses=problems(400, 401, 422, 429, 503),
)
async def list_webhooks_by_cursor(
    request: Request,
    response: Response,
    page: Cursor,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """List the caller's webhooks, page by page; there are at most 20."""
    after = page.after_id(resources.cursors, "webhooks")
    found = [each for each in await resources.webhooks.of(caller) if each.id > after]
    shown, next_cursor = found[: page.limit], None
    if len(found) > page.limit:
        next_cursor = resources.cursors.encode({"i": shown[-1].id}, "webhooks")
    link_by_cursor(request, response, next_cursor=next_cursor)
    return {"items": shown, "next_cursor": next_cursor, "has_more": next_cursor is not None}


@creating.post(
    "",
    response_model=WebhookCreated,
    status_code=201,
    summary="Create a webhook",
    dependencies=_limited,
    responses=problems(400, 401, 409, 413, 415, 422, 429, 503),
)
async def create_webhook(
    request: Request,
    response: Response,
    body: WebhookIn,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """Have the events that you may read sent to an address, from now on.

    The answer has the secret that messages are signed with; it is not shown again, and null where
    the request is repeated under its `Idempotency-Key`.
    """
    endpoint, secret = await resources.webhooks.create(caller, body)
    response.headers["Location"] = f"{request.url.path}/{endpoint.id}"
    return {**endpoint._asdict(), "secret": secret}


@router.get(
    "/deliveries/{delivery_id}",
    response_model=DeliveryDetail,
    summary="Read a delivery",
    responses=problems(401, 404, 422, 429, 503),
)
async def read_delivery(
    delivery_id: DeliveryId, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Read a delivery with what was sent and what was answered at its last attempt."""
    return _shown(await resources.webhooks.delivery(delivery_id, caller))


@router.post(
    "/deliveries/{delivery_id}/retry",
    response_model=DeliveryDetail,
    status_code=202,
    summary="Send a delivery again",
    dependencies=_limited,
    responses=problems(401, 404, 409, 413, 422, 429, 503),
)
async def retry_delivery(
    delivery_id: DeliveryId, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Send a delivery again, now and with all its attempts; its id stays the same."""
    return _shown(await resources.webhooks.retry(delivery_id, caller))


@router.get(
    "/{webhook_id}",
    response_model=WebhookOut,
    summary="Read a webhook",
    responses=problems(401, 404, 422, 429, 503),
)
async def read_webhook(
    webhook_id: WebhookId, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Read one of the caller's webhooks."""
    return await resources.webhooks.get(webhook_id, caller)


@router.patch(
    "/{webhook_id}",
    response_model=WebhookOut,
    summary="Change a webhook",
    dependencies=_limited,
    responses=problems(400, 401, 404, 413, 415, 422, 429, 503),
)
async def patch_webhook(
    webhook_id: WebhookId, body: WebhookPatch, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Change some fields by JSON merge patch (RFC 7396).

    Switched off, what waited to be sent is cancelled; switched on, it gets what comes from now on.
    `replay` sends what was missed.
    """
    return await resources.webhooks.change(webhook_id, caller, body)


@router.delete(
    "/{webhook_id}",
    status_code=204,
    summary="Delete a webhook",
    responses=problems(401, 404, 422, 429, 503),
)
async def delete_webhook(
    webhook_id: WebhookId, caller: CurrentUser, resources: CurrentResources
) -> None:
    """Delete a webhook with its log, for good."""
    await resources.webhooks.delete(webhook_id, caller)


@router.post(
    "/{webhook_id}/secret/rotate",
    response_model=SecretOut,
    summary="Change a webhook's secret",
    dependencies=_limited,
    responses=problems(401, 404, 413, 422, 429, 503),
)
async def rotate_webhook_secret(
    webhook_id: WebhookId, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Get a new secret. For 24 hours messages carry two signatures, by it and by the one before."""
    secret, expires_at = await resources.webhooks.rotate(webhook_id, caller)
    return {"secret": secret, "previous_expires_at": expires_at}


@router.post(
    "/{webhook_id}/test",
    response_model=DeliveryDetail,
    status_code=202,
    summary="Send a test",
    dependencies=_limited,
    responses=problems(401, 404, 409, 413, 422, 429, 503),
)
async def test_webhook(
    webhook_id: WebhookId, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Send a `webhook.test` message; read its delivery to see what came of it."""
    return _shown(await resources.webhooks.test(webhook_id, caller))


@router.post(
    "/{webhook_id}/replay",
    response_model=ReplayOut,
    status_code=202,
    summary="Send all events of a time again",
    dependencies=_limited,
    responses=problems(400, 401, 404, 409, 413, 415, 422, 429, 503),
)
async def replay_webhook(
    webhook_id: WebhookId, body: ReplayIn, caller: CurrentUser, resources: CurrentResources
) -> Any:
    """Send again what was sent, or was to be, and what is still kept of what was not."""
    return {"queued": await resources.webhooks.replay(webhook_id, caller, body)}


@by_offset.get(
    "/{webhook_id}/deliveries",
    response_model=DeliveryPage,
    summary="List a webhook's deliveries",
    responses=problems(401, 404, 422, 429, 503),
)
async def list_deliveries_by_offset(
    request: Request,
    response: Response,
    webhook_id: WebhookId,
    query: Annotated[DeliveryFilter, Query()],
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """List what was sent or is to be, the newest first, with the total."""
    found, total = await resources.webhooks.deliveries(
        webhook_id, caller, query.status, skip=query.skip, limit=query.limit
    )
    link_by_offset(request, response, skip=query.skip, limit=query.limit, total=total)
    shown = [_shown(each) for each in found]
    return {"items": shown, "total": total, "skip": query.skip, "limit": query.limit}


@by_cursor.get(
    "/{webhook_id}/deliveries",
    response_model=DeliveryCursorPage,
    summary="List a webhook's deliveries",
    responses=problems(400, 401, 404, 422, 429, 503),
)
async def list_deliveries_by_cursor(
    request: Request,
    response: Response,
    webhook_id: WebhookId,
    query: Annotated[DeliveryCursorFilter, Query()],
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """List what was sent or is to be, the newest first, page by page."""
    scope = f"deliveries:{webhook_id}:{query.status}"
    found = await resources.webhooks.deliveries_before(
        webhook_id,
        caller,
        query.status,
        before_id=query.after_id(resources.cursors, scope) or None,
        limit=query.limit + 1,
    )
    page = found[: query.limit]
    next_cursor = None
    if len(found) > query.limit:
        next_cursor = resources.cursors.encode({"i": page[-1].id}, scope)
    link_by_cursor(request, response, next_cursor=next_cursor)
    shown = [_shown(each) for each in page]
    return {"items": shown, "next_cursor": next_cursor, "has_more": next_cursor is not None}


def _shown(delivery: WebhookDelivery) -> dict[str, Any]:
    """Return a delivery with its event's id as clients know it."""
    event_id = None if delivery.event_id is None else str(delivery.event_id)
    return {**delivery._asdict(), "event_id": event_id}
