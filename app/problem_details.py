"""A problem (RFC 9457) as it goes over the wire, and the headers that any answer carries."""

import json
from collections.abc import Mapping
from typing import Any

from app.errors import DomainError

MEDIA_TYPE = "application/problem+json"
API_CSP = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def problem(
    status: int,
    error_code: str,
    title: str,
    detail: str,
    *,
    instance: str,
    request_id: str | None,
    **extra: Any,
) -> dict[str, Any]:
    """Return the members of a problem, in the order that people read them."""
    return {
        "type": f"urn:kingpost:error:{error_code.lower().replace('_', '-')}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        "error_code": error_code,
        "request_id": request_id,
        **extra,
    }


def problem_of(error: DomainError, *, instance: str, request_id: str | None) -> dict[str, Any]:
    """Return the members of an error's problem."""
    return problem(
        error.status,
        error.error_code,
        error.title,
        error.detail,
        instance=instance,
        request_id=request_id,
        **error.extra,
    )


def encoded(members: Mapping[str, Any]) -> bytes:
    """Return a problem as JSON, in ASCII: a path that a client sent may hold lone surrogates."""
    return json.dumps(members, ensure_ascii=True).encode()
