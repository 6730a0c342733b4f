"""Signing in by a provider over HTTP, and the identities of an account."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.dependencies.auth import CurrentDevice, CurrentUser
from app.dependencies.limits import client_key, rate_limit
from app.dependencies.refresh_cookie import AsCookie, handed_over
from app.dependencies.resources import CurrentResources
from app.errors import DomainError
from app.models.identities import Identity
from app.resources import Resources
from app.routers.versioning import Resource
from app.schemas.auth import TokenPair
from app.schemas.base import Line, PathId
from app.schemas.oidc import (
    IdentityList,
    IdentityOut,
    LinkIn,
    LinkOut,
    ProviderList,
    SignInCodeIn,
    SignInQuery,
)
from app.schemas.problems import problems
from app.security.sign_ins import SIGN_IN_LIFE
from app.services.social_login import CODE_LIFE, Callback, SignInCode

router = APIRouter(prefix="/auth", tags=["social login"])

resource = Resource(shared=(router,))

ProviderName = Annotated[
    str, Path(max_length=32, description="As in the list of providers.", examples=["google"])
]
_limited = Depends(rate_limit("login", key=client_key))
_COOKIE = "kingpost_sign_in"


@router.get(
    "/oidc/providers",
    response_model=ProviderList,
    summary="List who one may sign in by",
    responses=problems(401, 429, 503),
)
async def list_providers(request: Request, resources: CurrentResources) -> Any:
    """List the providers that the service is set up with."""
    here = request.url.path.removesuffix("/providers")
    return {
        "items": [
            {"name": each.name, "label": each.label, "login_path": f"{here}/{each.name}/login"}
            for each in resources.social_login.providers()
        ]
    }


@router.get(
    "/oidc/{provider}/login",
    status_code=302,
    response_class=Response,
    response_description="To the provider, with a cookie that knows the browser again",
    summary="Sign in by a provider",
    dependencies=[_limited],
    responses=problems(401, 404, 422, 429, 502, 503),
)
async def begin_sign_in(
    request: Request,
    provider: ProviderName,
    query: Annotated[SignInQuery, Query()],
    resources: CurrentResources,
) -> Response:
    """Send the browser to the provider (code flow with PKCE, state and nonce)."""
    redirect_uri = _redirect_uri(request, resources, provider)
    begun = await resources.social_login.begin(provider, query.redirect_to, redirect_uri)
    answer = _redirect(begun.url, 302)
    _set_cookie(answer, redirect_uri, begun.cookie, int(SIGN_IN_LIFE.total_seconds()))
    return answer


@router.get(
    "/oidc/{provider}/callback",
    response_model=TokenPair | IdentityOut,
    summary="Come back from a provider",
    dependencies=[_limited],
    responses={
        303: {"description": "For pages: to `redirect_to`, with a one-time code in the fragment"},
        **problems(400, 401, 403, 404, 409, 414, 422, 429, 502, 503),
    },
)
async def finish_sign_in(
    request: Request,
    response: Response,
    provider: ProviderName,
    device: CurrentDevice,
    resources: CurrentResources,
    code: Annotated[
        str | None, Query(max_length=4096, description="From the provider, to be exchanged by us.")
    ] = None,
    state: Annotated[
        str | None, Query(max_length=200, description="From the provider, as we gave it.")
    ] = None,
    error: Annotated[
        str | None, Query(max_length=200, description="From the provider, where it refused.")
    ] = None,
    iss: Annotated[
        Line | None, Query(max_length=500, description="Who answers (RFC 9207).")
    ] = None,
) -> Any:
    """Finish a sign-in with tokens, or linking with the identity.

    A page (`Accept: text/html`) is sent on to `redirect_to` instead, with one of these in the
    fragment: `sign_in_code`, for `POST /auth/oidc/exchange`; `linked`, with the provider's name;
    `sign_in_error`, with an error code.
    """
    social_login = resources.social_login
    redirect_uri = _redirect_uri(request, resources, provider)
    cookie = request.cookies.get(_cookie_name(redirect_uri))
    is_page = "text/html" in request.headers.get("accept", "")
    target = "/"
    try:
        sign_in = social_login.resume(provider, cookie, state)
        target = sign_in.redirect_to
        found = await social_login.finish(sign_in, Callback(code, state, error, iss), redirect_uri)
    except DomainError as problem:
        if not is_page:
            raise
        return _redirect(f"{target}#sign_in_error={problem.error_code}", 303)
    if isinstance(found, Identity):
        if is_page:
            return _redirect(f"{target}#linked={found.provider}", 303)
        return IdentityOut.model_validate(found)
    if is_page:
        made = await social_login.issue_code(found)
        answer = _redirect(f"{target}#sign_in_code={made.code}", 303)
        _set_cookie(answer, redirect_uri, made.browser, int(CODE_LIFE.total_seconds()))
        return answer
    response.headers["Cache-Control"] = "no-store"
    _set_cookie(response, redirect_uri, "", 0)
    return await resources.sessions.open(found, device)


@router.post(
    "/oidc/exchange",
    response_model=TokenPair,
    response_model_exclude_none=True,
    summary="Exchange a page's code for tokens",
    dependencies=[_limited],
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
)
async def exchange_code(
    request: Request,
    response: Response,
    body: SignInCodeIn,
    by_cookie: AsCookie,
    device: CurrentDevice,
    resources: CurrentResources,
) -> Any:
    """Exchange the code of a redirect for tokens, once, in the browser that signed in.

    An account with a second factor is asked for it as at `/auth/token`.
    """
    redirect_uri = _redirect_uri(request, resources, "")
    browser = request.cookies.get(_cookie_name(redirect_uri), "")
    user = await resources.social_login.spend_code(SignInCode(body.code, browser))
    _set_cookie(response, redirect_uri, "", 0)
    pair = await resources.sessions.open(user, device)
    return handed_over(request, response, pair, by_cookie=by_cookie)


@router.post(
    "/oidc/{provider}/link",
    response_model=LinkOut,
    summary="Begin linking an identity",
    dependencies=[_limited],
    responses=problems(400, 401, 404, 413, 415, 422, 429, 502, 503),
)
async def begin_linking(
    request: Request,
    response: Response,
    provider: ProviderName,
    body: LinkIn,
    caller: CurrentUser,
    resources: CurrentResources,
) -> Any:
    """Tell where the browser goes to link an identity to the caller's account."""
    redirect_uri = _redirect_uri(request, resources, provider)
    begun = await resources.social_login.begin(
        provider, body.redirect_to, redirect_uri, linking=caller
    )
    _set_cookie(response, redirect_uri, begun.cookie, int(SIGN_IN_LIFE.total_seconds()))
    return {"authorization_url": begun.url}


@router.get(
    "/identities",
    response_model=IdentityList,
    summary="List own identities",
    responses=problems(401, 429, 503),
)
async def list_identities(caller: CurrentUser, resources: CurrentResources) -> Any:
    """List the accounts elsewhere that sign in to the caller's account."""
    return {"items": await resources.social_login.identities.listed(caller.user_id)}


@router.delete(
    "/identities/{identity_id}",
    status_code=204,
    summary="Unlink an identity",
    responses=problems(401, 404, 409, 422, 429, 503),
)
async def unlink_identity(
    identity_id: Annotated[PathId, Path(description="Its id.", examples=[7])],
    caller: CurrentUser,
    resources: CurrentResources,
) -> None:
    """Unlink an identity; the last way in stays."""
    await resources.social_login.identities.unlink(caller.user_id, identity_id)


def _redirect_uri(request: Request, resources: Resources, provider: str) -> str:
    """Return the callback as the provider knows it: one address, whatever the API's version."""
    base = resources.settings.public_url or f"{request.url.scheme}://{request.url.netloc}"
    return f"{base}/api/auth/oidc/{provider}/callback"


def _redirect(location: str, status: int) -> Response:
    headers = {"Location": location, "Cache-Control": "no-store"}
    return Response(status_code=status, headers=headers)


def _cookie_name(redirect_uri: str) -> str:
    """Return the cookie's name; with TLS, one that no other host can set (RFC 6265bis, 4.1.3)."""
    return f"__Host-{_COOKIE}" if redirect_uri.startswith("https://") else _COOKIE


def _set_cookie(response: Response, redirect_uri: str, value: str, max_age: int) -> None:
    response.set_cookie(
        _cookie_name(redirect_uri),
        value,
        max_age=max_age,
        path="/",
        secure=redirect_uri.startswith("https://"),
        httponly=True,
        samesite="lax",  # the provider's redirect is a navigation from another site
    )
