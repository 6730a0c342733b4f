"""What endpoints are sent, as the `webhooks` of the OpenAPI documents. Nothing here is served."""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header
from fastapi.routing import APIRoute
from pydantic import create_model
from starlette.routing import BaseRoute

from app.schemas.items import ItemOut
from app.schemas.webhooks import KINDS, TEST_KIND, WebhookMessage

_Id = Annotated[str, Header(description="The same at each attempt.", examples=["1042"])]
_Timestamp = Annotated[
    int, Header(description="When it was sent, in Unix seconds.", examples=[1795248000])
]
_Signature = Annotated[
    str,
    Header(
        description="`v1,` and the base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`; two of them, "
        "with a space between, while the secret is being rotated.",
        examples=["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="],
    ),
]


@cache
def webhook_routes() -> Sequence[BaseRoute]:
    """Return a route for each kind of event: what a receiver would implement."""
    router = APIRouter(tags=["webhook messages"])
    for kind in (*KINDS, TEST_KIND):
        router.add_api_route(
            str(kind),
            _receiver_of(_model_of(str(kind))),
            methods=["POST"],
            name=f"receive {kind}",
            summary=str(kind),
            description="Sent to endpoints that ask for it and whose owner may read it. Answer 2xx "
            "within 15 seconds; anything else is tried again, 410 switches the endpoint off.",
            status_code=204,
            response_model=None,
        )
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.unique_id = route.operation_id = f"receive_{route.path.replace('.', '_')}"
    return router.routes


def _model_of(kind: str) -> type[WebhookMessage]:
    """Return the message of a kind: its name is fixed, and its data where that has a model."""
    name = "".join(word.capitalize() for word in kind.replace(".", "_").split("_"))
    exact: Any = Literal[kind]
    data: Any = ItemOut if kind.startswith("item.") else dict[str, Any]
    inherited = WebhookMessage.model_fields["data"]
    return create_model(
        f"{name}Message",
        __base__=WebhookMessage,
        __doc__=f"The message of `{kind}`.",
        type=(exact, ...),
        data=(data, inherited),
    )


def _receiver_of(model: type[WebhookMessage]) -> Any:
    async def receive(
        message: Any, webhook_id: _Id, webhook_timestamp: _Timestamp, webhook_signature: _Signature
    ) -> None:
        """Stand for the receiver, which is the reader's."""

    receive.__annotations__["message"] = Annotated[model, Body()]
    return receive
