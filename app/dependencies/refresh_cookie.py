"""The refresh token as a cookie that no script can read, for browsers.

Whatever sets or uses the cookie refuses other sites' pages, beside `SameSite`: a form that they
post must neither sign anybody in nor spend a token.
"""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Query, Request, Response

from app.errors import CrossSiteRequest
from app.schemas.auth import TokenPair
from app.settings import Settings

_NAME = "kingpost_refresh"
_PATH = "/api"  # one for all versions, and for paths without any


async def as_cookie(
    request: Request,
    cookie: Annotated[
        bool,
        Query(
            description="For browsers: keep the refresh token in a cookie that scripts cannot read."
        ),
    ] = False,
) -> bool:
    """Return whether the refresh token shall go into a cookie.

    Raises:
        CrossSiteRequest: it shall, but the request comes from another site's page.
    """
    if cookie:
        _refuse_other_sites(request)
    return cookie


async def given_cookie(request: Request) -> str | None:
    """Return the refresh token that came as a cookie."""
    return request.cookies.get(_name(request))


AsCookie = Annotated[bool, Depends(as_cookie)]
GivenCookie = Annotated[str | None, Depends(given_cookie)]


def usable(request: Request, cookie: str) -> str:
    """Return the refresh token of a cookie, if the request comes from a page that may use it.

    Raises:
        CrossSiteRequest: it comes from another site's page.
    """
    _refuse_other_sites(request)
    return cookie


def handed_over(
    request: Request, response: Response, pair: TokenPair, *, by_cookie: bool
) -> TokenPair:
    """Return what the body says; with `by_cookie` the refresh token is in a cookie instead."""
    response.headers["Cache-Control"] = "no-store"
    if not by_cookie or pair.refresh_token is None:
        return pair
    response.set_cookie(
        _name(request),
        pair.refresh_token,
        max_age=pair.refresh_expires_in,
        path=_PATH,
        secure=_is_https(request),
        httponly=True,
        samesite="strict",
    )
    return pair.model_copy(update={"refresh_token": None})


def take_back(request: Request, response: Response) -> None:
    """Have the browser forget the cookie, if it sent one."""
    if _name(request) in request.cookies:
        response.delete_cookie(
            _name(request), _PATH, secure=_is_https(request), httponly=True, samesite="strict"
        )


def _name(request: Request) -> str:
    # With the prefix, nobody who can only speak plain HTTP can plant one (RFC 6265bis, 4.1.3.1).
    return f"__Secure-{_NAME}" if _is_https(request) else _NAME


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https"


def _refuse_other_sites(request: Request) -> None:
    """Browsers name the page's origin with every POST; no form can send the header."""
    origin = request.headers.get("origin")
    if origin is None:
        if "x-requested-with" not in request.headers:
            raise CrossSiteRequest("Send the header X-Requested-With")
        return
    settings: Settings = request.app.state.resources.settings
    if settings.cors_credentials and origin in settings.cors_origins:
        return
    given = urlsplit(origin)
    is_downgrade = _is_https(request) and given.scheme != "https"
    if is_downgrade or given.netloc.lower() != request.headers.get("host", "").lower():
        raise CrossSiteRequest
