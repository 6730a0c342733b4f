"""Puts a router's routes under a version. v2 is derived from v1, not written again."""

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Response
from fastapi.params import Depends
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import WebSocketRoute

from app.schemas.versions import CamelCase


@dataclass(frozen=True)
class Resource:
    """The routers of a resource: those that both versions share, and what only one of them has.

    `successors` names the schemas that v2 has a richer one for.
    """

    shared: tuple[APIRouter, ...]
    v1: tuple[APIRouter, ...] = ()
    v2: tuple[APIRouter, ...] = ()
    successors: Mapping[type, type] = field(default_factory=dict)


def add_routes(
    table: APIRouter,
    router: APIRouter,
    *,
    prefix: str = "",
    camel_case: CamelCase | None = None,
    dependencies: Sequence[Depends] = (),
) -> None:
    """Add every route of a router to the table, flat, so that it can be found by its prefix.

    With `camel_case`, bodies, queries and answers are that version's models.
    """
    spell: Callable[[Any], Any] = camel_case.of if camel_case else lambda annotation: annotation
    for route in router.routes:
        if isinstance(route, APIWebSocketRoute):
            # FastAPI's route would hold three exit stacks for each socket, 2 KiB, for parameters
            # that none of ours has.
            table.routes.append(WebSocketRoute(prefix + route.path, route.endpoint))
        elif isinstance(route, APIRoute):
            endpoint = _respelled(route.endpoint, camel_case) if camel_case else route.endpoint
            table.add_api_route(
                prefix + route.path,
                endpoint,
                response_model=spell(route.response_model),
                status_code=route.status_code,
                tags=route.tags,
                dependencies=[*dependencies, *route.dependencies],
                summary=route.summary,
                description=route.description,
                response_description=route.response_description,
                responses=route.responses,
                deprecated=route.deprecated,
                name=route.name,
                methods=route.methods,
                include_in_schema=route.include_in_schema,
                # Nothing has no media type.
                response_class=Response if route.status_code == 204 else route.response_class,
                response_model_exclude_none=route.response_model_exclude_none,
                openapi_extra=route.openapi_extra,
                route_class_override=type(route),
            )


def _respelled(endpoint: Callable[..., Any], camel_case: CamelCase) -> Callable[..., Any]:
    """Return the same function, declaring the other version's models for its parameters."""
    signature = inspect.signature(endpoint, eval_str=True)
    parameters = [
        parameter.replace(annotation=camel_case.of(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    if not isinstance(endpoint, types.FunctionType):
        raise TypeError(f"an endpoint must be a plain function: {endpoint!r}")
    twin = types.FunctionType(
        endpoint.__code__,
        endpoint.__globals__,
        endpoint.__name__,
        endpoint.__defaults__,
        endpoint.__closure__,
    )
    twin.__kwdefaults__ = endpoint.__kwdefaults__
    twin.__doc__ = endpoint.__doc__
    twin.__module__ = endpoint.__module__
    twin.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return twin
