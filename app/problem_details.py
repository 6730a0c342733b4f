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


def problem_of(error: DomainError, *, instance: str, request_id: str | None) -> bytes:
    """Return the body that tells a client of a domain error."""
    return problem_body(
        {
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "instance": instance,
            "error_code": error.error_code,
            "request_id": request_id,
            **error.extra,
        }
    )


def problem_body(members: Mapping[str, Any]) -> bytes:
    """Return a problem's members as JSON, with the `type` that goes with its code."""
    name = members["error_code"].lower().replace("_", "-")
    # ASCII: what a client sent may stand in the path, lone surrogates included.
    return json.dumps({"type": f"urn:kingpost:error:{name}", **members}, ensure_ascii=True).encode()
