"""Who asks, for routes that ask by type."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import OAuth2PasswordBearer
from starlette.requests import HTTPConnection, Request

from app.dependencies.limits import check
from app.errors import (
    Forbidden,
    InsufficientScope,
    InvalidToken,
    SecondFactorSetupRequired,
    Unauthenticated,
)
from app.middleware.request_context import context_of
from app.resources import Resources
from app.security.principal import Principal, Role
from app.security.scopes import Scope, needed_scope
from app.services.sessions import Device

API_KEY_HEADER = "x-api-key"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_UNASKED = object()


async def authenticate(connection: HTTPConnection, *, fresh: bool = False) -> Principal | None:
    """Return the caller, None for nobody; asked once a request, whoever asks.

    An API key is checked against its scopes here, so that no route can leave it out.

    Raises:
        InvalidToken, InvalidApiKey: credentials were sent that are not valid.
        InsufficientScope: the API key may not be used for this.
    """
    state = connection.scope.setdefault("state", {})
    known: Principal | object | None = state.get("principal", _UNASKED)
    if known is None:
        return None
    if isinstance(known, Principal) and not fresh:
        require_scope(connection, known)
        return known
    principal = await _identified(connection, fresh=fresh)
    state["principal"] = principal
    if principal is not None:
        context = context_of(connection.scope)
        if context is not None:
            context.user_id = principal.user_id
            context.credential = _credential(principal)
        require_scope(connection, principal)
    return principal


async def _identified(connection: HTTPConnection, *, fresh: bool) -> Principal | None:
    token, key = bearer_token(connection), connection.headers.get(API_KEY_HEADER)
    resources: Resources = connection.app.state.resources
    if key is None:
        if token is None:
            return None
        return await resources.authenticator.authenticate(token, fresh=fresh)
    if token is not None:
        # Which of them counted could differ between us and who stands before us.
        raise InvalidToken("Send either Authorization or X-API-Key, not both")
    return await resources.authenticator.authenticate_key(key, fresh=fresh)


def _credential(principal: Principal) -> str:
    if principal.key is not None:
        return f"api_key:{principal.key.key_id}"
    return f"session:{principal.session_id}"


def require_scope(connection: HTTPConnection, principal: Principal) -> None:
    """Let an API key pass only where its scopes say so; whoever signed in passes.

    Raises:
        InsufficientScope: the key lacks the operation's scope, or no key may call it.
    """
    if principal.key is None:
        return
    method = connection.scope.get("method", "WS")
    needed = needed_scope(method, connection.scope["route"].path)
    if needed is None:
        raise InsufficientScope("No API key can be used here: sign in")
    require_granted(principal, needed)


def require_granted(principal: Principal, scope: Scope) -> None:
    """Let an API key pass only with a scope; whoever signed in passes.

    Raises:
        InsufficientScope: the key was not given the scope.
    """
    if principal.key is not None and scope not in principal.key.scopes:
        raise InsufficientScope(f"The API key needs the scope {scope}")


def bearer_token(connection: HTTPConnection) -> str | None:
    """Return the token of the `Authorization` header (RFC 6750, section 2.1).

    Raises:
        InvalidToken: the header has another form.
    """
    header = connection.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise InvalidToken("Send the header as: Authorization: Bearer TOKEN")
    return token.strip()


async def default_limit(request: Request) -> None:
    """Count every API call against the caller's limit, or the address's where nobody signed in.

    Raises:
        RateLimited: the limit is used up.
        InvalidToken, InvalidApiKey, InsufficientScope: as in `authenticate`; it counts as well.
    """
    try:
        if not _names_its_client(request):
            await authenticate(request)
    finally:
        await check(request, "default")


def _names_its_client(request: Request) -> bool:
    """OAuth 2 clients may say by HTTP Basic who they are (RFC 6749, 2.3.1); Swagger UI does."""
    is_basic = request.headers.get("authorization", "").lower().startswith("basic ")
    return is_basic and request.url.path.endswith("/auth/token")


class Caller(OAuth2PasswordBearer):
    """A dependency that returns the caller, and tells OpenAPI how to become one.

    Whatever a role allows to change asks the database for the roles, past every cache.
    """

    def __init__(self, *roles: Role, is_optional: bool = False) -> None:
        super().__init__(tokenUrl="/api/v1/auth/token", scheme_name="Bearer", auto_error=False)
        self._roles = frozenset(roles)
        self._is_optional = is_optional

    async def __call__(self, request: Request) -> Principal | None:  # type: ignore[override]
        """Return the caller; a bad token is refused even where none is needed.

        Raises:
            Unauthenticated: nobody signed in.
            Forbidden: none of the roles is the caller's.
            SecondFactorSetupRequired: it would be, once there is a second factor.
        """
        fresh = bool(self._roles) and request.method not in _SAFE_METHODS
        principal = await authenticate(request, fresh=fresh)
        if principal is None:
            if self._is_optional:
                return None
            raise Unauthenticated
        if self._roles and principal.roles.isdisjoint(self._roles):
            if principal.needs_second_factor and Role.ADMIN in self._roles:
                raise SecondFactorSetupRequired
            raise Forbidden
        return principal


def require_role(*roles: Role) -> Caller:
    """Return a dependency that lets only callers with one of these roles pass."""
    return Caller(*roles)


async def device(request: Request) -> Device:
    """Return where a sign-in comes from."""
    address = request.client.host if request.client else None
    return Device(address, request.headers.get("user-agent"))


OptionalUser = Annotated[Principal | None, Depends(Caller(is_optional=True))]
CurrentUser = Annotated[Principal, Depends(Caller())]
Admin = Annotated[Principal, Depends(require_role(Role.ADMIN))]
CurrentDevice = Annotated[Device, Depends(device)]
