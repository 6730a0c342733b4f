"""Query strings that were asked before are not read again."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams

from app.dependencies.idempotency import Handler

_REMEMBERED = 128  # a route; the longest that a server lets in make 1 MB


class QueryRoute(APIRoute):
    """A route whose one query model is remembered by the query string, so it must not be changed.

    FastAPI looks at the type of each field anew for each request: a seventh of what a list costs.
    OpenAPI is told of the model as ever.
    """

    def get_route_handler(self) -> Handler:
        """Handle requests by a dependency that remembers, in place of the model."""
        told, (model,) = self.dependant, self.dependant.query_params
        remembering = Dependant(
            call=_reader(model), name=model.name, request_param_name="request", path=self.path
        )
        self.dependant = replace(
            told, query_params=[], dependencies=[*told.dependencies, remembering]
        )
        handler = super().get_route_handler()
        self.dependant = told
        return handler


def _reader(model: Any) -> Callable[[Request], Awaitable[Any]]:
    @lru_cache(_REMEMBERED)
    def read(text: bytes) -> Any:
        values, errors = request_params_to_args([model], QueryParams(text))
        if errors:
            raise RequestValidationError(errors)
        return values[model.name]

    async def remembered(request: Request) -> Any:
        return read(request.scope["query_string"])

    return remembered
