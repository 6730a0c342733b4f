"""The steps of signing in by a provider, as a browser takes them."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from httpx import URL, AsyncClient, Response

from tests.factories import Account, Tokens, expect
from tests.oidc_provider import OidcProvider

AUTH = "/api/v1/auth"
ME = "/api/v1/users/me"
IDENTITIES = f"{AUTH}/identities"


async def begin(client: AsyncClient, name: str = "house", **query: str) -> str:
    """Begin a sign-in; return where the browser is sent."""
    answer = await client.get(f"{AUTH}/oidc/{name}/login", params=query)
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


async def to_callback(client: AsyncClient, provider: OidcProvider, name: str = "house") -> URL:
    """Sign in at the provider; return the callback that the browser is about to follow."""
    return await provider.consent(await begin(client, name))


async def come_back(client: AsyncClient, provider: OidcProvider, name: str = "house") -> Response:
    """Sign in at the provider and follow the callback."""
    return await client.get(await to_callback(client, provider, name))


async def signed_in(client: AsyncClient, provider: OidcProvider, name: str = "house") -> Tokens:
    """Sign in, and return what a client without pages gets."""
    answer = expect(await come_back(client, provider, name), 200)
    tokens = Tokens(answer["access_token"], answer["refresh_token"], Account(0, "", "", ""))
    me = await profile(client, tokens)
    account = Account(me["id"], me["email"], me["username"], "")
    return Tokens(tokens.access, tokens.refresh, account)


async def profile(client: AsyncClient, tokens: Tokens) -> dict[str, Any]:
    """Return who the tokens are of."""
    return expect(await client.get(ME, headers=tokens.headers), 200)


async def linked(client: AsyncClient, provider: OidcProvider, tokens: Tokens) -> Response:
    """Link an identity to an account, in its owner's browser."""
    url = f"{AUTH}/oidc/house/link"
    begun = expect(await client.post(url, json={}, headers=tokens.headers), 200)
    return await client.get(await provider.consent(begun["authorization_url"]))


async def identities(client: AsyncClient, tokens: Tokens) -> list[dict[str, Any]]:
    """Return the identities of an account."""
    answer = expect(await client.get(IDENTITIES, headers=tokens.headers), 200)
    found: list[dict[str, Any]] = answer["items"]
    return found


def with_cookies_of(client: AsyncClient) -> dict[str, str]:
    """Return the header that repeats a client's cookies, whatever it is told to forget later."""
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}


def code_of(answer: Response) -> str:
    """Return the problem's code."""
    return str(answer.json()["error_code"])


def fragment(answer: Response) -> dict[str, str]:
    """Return what a redirect carries in its fragment."""
    assert answer.status_code == 303, answer.text
    pairs = parse_qs(urlsplit(answer.headers["location"]).fragment)
    return {name: values[0] for name, values in pairs.items()}
