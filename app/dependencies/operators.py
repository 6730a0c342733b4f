"""HTTP Basic (RFC 7617) before the operators' pages, where settings give a name and password."""

import base64
import binascii
import hmac

from fastapi import Depends
from starlette.requests import Request

from app.errors import Unauthenticated
from app.resources import Resources


async def _check_in_production(request: Request) -> None:
    resources: Resources = request.app.state.resources
    if resources.settings.is_production:
        await _check(request)


async def _check(request: Request) -> None:
    resources: Resources = request.app.state.resources
    username, password = (
        resources.settings.operators_username,
        resources.settings.operators_password,
    )
    if username is None or password is None:
        return
    expected = f"{username}:{password.get_secret_value()}".encode()
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
    except binascii.Error:
        given = b""
    if not hmac.compare_digest(given, expected):
        raise Unauthenticated(headers={"WWW-Authenticate": 'Basic realm="operators"'})


operators_only = Depends(_check)
operators_only_in_production = Depends(_check_in_production)
