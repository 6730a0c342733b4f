"""Turns every error, from whatever layer, into one RFC 9457 problem."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from slowapi.errors import RateLimitExceeded
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DomainError, NotFound, Unavailable, Unprocessable
from app.middleware.request_context import context_of
from app.problem_details import MEDIA_TYPE, encoded, problem
from app.schemas.validation import field_errors

logger = logging.getLogger("kingpost.errors")

_CODES = {400: "BAD_REQUEST", 405: "METHOD_NOT_ALLOWED", 413: "PAYLOAD_TOO_LARGE"}


def problem_response(error: DomainError, scope: Scope) -> Response:
    """Return the answer that tells a client of a domain error."""
    context = context_of(scope)
    if context and isinstance(error, Unavailable) and error.__cause__:
        context.cause = _in_one_line(error.__cause__)
    return _problem(
        scope, error.status, error.error_code, error.title, error.detail, error.headers, error.extra
    )


def install_exception_handlers(app: FastAPI) -> None:
    """Answer what routes and the framework raise as problems."""
    app.add_exception_handler(DomainError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RateLimitExceeded, _on_http_exception)
    app.add_exception_handler(RecursionError, _on_recursion)


class ErrorBoundary:
    """Answers what nobody caught: errors of middleware as problems, all else as a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except DomainError as error:
            if started:
                raise
            await problem_response(error, scope)(scope, receive, send)
        except Exception:
            logger.exception("unexpected error")
            if started:
                raise  # the server cuts the connection, so that nobody takes half for the whole
            await problem_response(DomainError(), scope)(scope, receive, send)


async def _on_domain_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, DomainError):
        raise error
    return problem_response(error, request.scope)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = error.errors()
    if any(each.get("type") == "json_invalid" for each in errors):
        return _malformed_json(request)
    if _is_wrong_content_type(request, errors):
        wanted = "x-www-form-urlencoded" if _wants_form(request) else "json"
        detail = f"Send the body as application/{wanted}"
        return _problem(
            request.scope, 415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type", detail
        )
    return problem_response(Unprocessable(errors=field_errors(errors)), request.scope)


def _is_wrong_content_type(request: Request, errors: Any) -> bool:
    """Tell a body that FastAPI left as bytes, because its type is not JSON, from bad JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json")
    is_json &= media_type != "application/json-patch+json"  # RFC 6902: ours are merge patches
    is_form = media_type in ("application/x-www-form-urlencoded", "multipart/form-data")
    whole_body = any(tuple(each.get("loc", ())) == ("body",) for each in errors)
    has_body = request.headers.get("content-length", "0") != "0" or (
        "transfer-encoding" in request.headers
    )
    if _wants_form(request):
        return has_body and not is_form
    return whole_body and has_body and not is_json


def _wants_form(request: Request) -> bool:
    body_field = getattr(request.scope.get("route"), "body_field", None)
    return body_field is not None and type(body_field.field_info).__name__ == "Form"


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if isinstance(error.__cause__, DomainError):  # what we refuse while FastAPI reads the body
        return problem_response(error.__cause__, request.scope)
    if error.status_code == 400 and isinstance(error.__cause__, ValueError):
        return _malformed_json(request)  # not UTF-8, or a number of thousands of digits
    if error.status_code == 404:  # of a router: what we do not find is a domain error
        return problem_response(NotFound("There is nothing at this address"), request.scope)
    phrase = HTTPStatus(error.status_code).phrase
    code = _CODES.get(error.status_code, phrase.upper().replace(" ", "_").replace("-", "_"))
    return _problem(
        request.scope, error.status_code, code, phrase, str(error.detail), error.headers
    )


def _malformed_json(request: Request) -> Response:
    detail = "The body is not valid JSON"
    return _problem(request.scope, 400, "MALFORMED_JSON", "Malformed JSON", detail)


async def _on_recursion(request: Request, error: Exception) -> Response:
    error = Unprocessable.field("body", "The body is nested too deeply", "json_depth")
    return problem_response(error, request.scope)


def _in_one_line(error: BaseException) -> str:
    """Return what an operator wants to know of an error; what follows may be SQL."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _problem(
    scope: Scope,
    status: int,
    error_code: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    context = context_of(scope)
    if context:
        context.error_code = error_code
    members = problem(
        status,
        error_code,
        title,
        detail,
        instance=context.path if context else scope.get("path", ""),
        request_id=context.request_id if context else None,
        **(extra or {}),
    )
    return Response(encoded(members), status, dict(headers or {}), MEDIA_TYPE)
