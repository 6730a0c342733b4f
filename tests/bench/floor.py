"""The floors that the service is measured against: the least that the same stack can do.

`hello` is raw ASGI, `broadcast` that with WebSockets. `bare` is FastAPI with an asyncpg pool and
response models and nothing else: no sign-in, no limits, no metrics, no log. Its `/trivial` is
FastAPI's smallest JSON.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, HTTPException, Query, Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.schemas.items import ItemIn, ItemOut
from app.settings import Settings

_COLUMNS = (
    "id, owner_id, name, description, price_cents, discount_basis_points, tags, visibility, "
    "version, created_at, updated_at"
)
_LIVE = "FROM items WHERE deleted_at IS NULL"


class Page(BaseModel):
    """A list, as v1 answers it."""

    items: list[ItemOut]
    total: int


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer anything with the same bytes."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


_sockets: set[Send] = set()


async def broadcast(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the body of any request to every WebSocket, one after the other: the floor of events."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": '{"type":"subscribed"}'})
        _sockets.add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        _sockets.discard(send)
        return
    if scope["type"] == "http":
        message = {"type": "websocket.send", "text": (await receive())["body"].decode()}
        for each in tuple(_sockets):
            await each(message)
    await hello(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = Settings()
    url = settings.database_url.get_secret_value() if settings.database_url else ""
    app.state.owner_id = 1
    async with asyncpg.create_pool(url, min_size=4, max_size=settings.database_pool_size) as pool:
        app.state.pool = pool
        yield


bare = FastAPI(lifespan=_lifespan)


@bare.get("/health/live")
async def live() -> Response:
    """Say that the server is up."""
    return Response()


@bare.get("/trivial", response_model=None)
async def trivial() -> dict[str, str]:
    """Answer JSON without a model and without asking anybody."""
    return {"status": "ok"}


@bare.get("/api/v1/items/{item_id}", response_model=ItemOut)
async def read_item(item_id: int) -> Any:
    """Read an item by its key."""
    row = await bare.state.pool.fetchrow(f"SELECT {_COLUMNS} {_LIVE} AND id = $1", item_id)
    if row is None:
        raise HTTPException(404)
    return _item(row)


@bare.get("/api/v1/items", response_model=Page)
async def list_items(
    skip: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Any:
    """List items by offset, with the total."""
    statement = (
        f"SELECT {_COLUMNS}, (SELECT count(*) {_LIVE}) AS total "
        f"{_LIVE} ORDER BY id OFFSET $1 LIMIT $2"
    )
    rows = await bare.state.pool.fetch(statement, skip, limit)
    return {"items": [_item(row) for row in rows], "total": rows[0]["total"] if rows else 0}


@bare.post("/api/v1/items", response_model=ItemOut, status_code=201)
async def create_item(body: ItemIn) -> Any:
    """Create an item, without an event."""
    row = await bare.state.pool.fetchrow(
        "INSERT INTO items (owner_id, name, description, price_cents, discount_basis_points, tags,"
        " visibility, metadata, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, '{}', now(), now()) "
        f"RETURNING {_COLUMNS}",
        bare.state.owner_id,
        body.name,
        body.description,
        int(body.price * 100),
        int(body.discount_percent * 100),
        body.tags,
        body.visibility.value,
    )
    return _item(row)


def _item(row: asyncpg.Record) -> dict[str, Any]:
    cents, discount = row["price_cents"], row["discount_basis_points"]
    return {
        **row,
        "price": cents / 100,
        "discount_percent": discount / 100,
        "discounted_price": cents * (10_000 - discount) // 10_000 / 100,
        "on_sale": discount > 0,
    }
