"""Providers that are away, late, or talk nonsense: a clear problem in time, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from tests.api.oidc.steps import AUTH, begin, code_of, fragment, signed_in, to_callback
from tests.conftest import MakeApp, MakeClient
from tests.factories import expect
from tests.oidc_provider import CLIENT_ID, OidcProvider
from tests.patience import PATIENCE, within

pytestmark = pytest.mark.only("embedded")  # little of it comes to the database
DISCOVERY = "/.well-known/openid-configuration"
LATE = 0.4  # seconds that are waited


@pytest.fixture
async def fresh_app(make_app: MakeApp, oidc_settings: dict[str, Any]) -> FastAPI:
    """A service that knows nothing of the provider yet."""
    return await make_app(**oidc_settings)


@pytest.fixture
def fresh(fresh_app: FastAPI, make_client: MakeClient) -> AsyncClient:
    """A client of it."""
    return make_client(fresh_app)


@asynccontextmanager
async def impatient(app: FastAPI) -> AsyncIterator[None]:
    """Give the provider little time inside, and fail if it is waited for much longer.

    Else it has time enough: it shares a busy machine with us.
    """
    provider = app.state.resources.social_login.providers()[0]
    patience, provider._timeout = provider._timeout, LATE
    try:
        async with within(LATE * 4):
            yield
    finally:
        provider._timeout = patience


async def never() -> Response:
    await asyncio.sleep(30)
    return Response()


async def trickling() -> Response:
    async def letters() -> Any:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.05)

    return StreamingResponse(letters())


async def endless() -> Response:
    async def blanks() -> Any:
        for _ in range(64):
            yield b" " * 16_384

    return StreamingResponse(blanks())


async def packed() -> Response:
    return Response(b"\x1f\x8b" + b"\0" * 100, headers={"Content-Encoding": "gzip"})


async def deep() -> Response:
    return Response(b"[" * 100_000)


async def elsewhere() -> Response:
    return RedirectResponse("http://127.0.0.1:1/")


async def broken() -> Response:
    return Response(status_code=500)


async def no_utf8() -> Response:
    return Response(b"\xff\xfe{}")


def saying(value: object) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return JSONResponse(value)

    return answer


NONSENSE = {
    "1 MB": endless,
    "packed": packed,
    "deep": deep,
    "redirect": elsewhere,
    "500": broken,
    "no UTF-8": no_utf8,
    "list": saying([]),
    "nothing": saying({}),
    "null": saying(None),
}


async def test_a_provider_that_is_late_is_given_up_in_time(
    fresh: AsyncClient, fresh_app: FastAPI, provider: OidcProvider
) -> None:
    for path in (DISCOVERY, "/jwks", "/token"):
        for slow in (never, trickling):
            login = f"{AUTH}/oidc/house/login"
            target = login if path == DISCOVERY else await to_callback(fresh, provider)
            provider.instead = {path: slow}
            async with impatient(fresh_app):
                answer = await fresh.get(target)
            problem = expect(answer, 502)
            assert problem["error_code"] == "PROVIDER_FAILED"
            assert problem["detail"] == "The House did not answer in time; try again later"
            provider.reset()


@pytest.mark.parametrize("path", ["/token", "/userinfo"])
@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_is_a_problem_and_not_an_error(
    client: AsyncClient, provider: OidcProvider, path: str, nonsense: str
) -> None:
    if path == "/userinfo":
        provider.claims = {"email": None}
    callback = await to_callback(client, provider)
    provider.instead = {path: NONSENSE[nonsense]}
    answer = await client.get(callback)
    wanted = [(502, "PROVIDER_FAILED")]
    if path == "/userinfo" and nonsense == "nothing":
        wanted = [(401, "INVALID_ID_TOKEN")]
    assert [(answer.status_code, code_of(answer))] == wanted
    provider.instead = {}
    provider.claims = {}
    await signed_in(client, provider)


@pytest.mark.parametrize("path", [DISCOVERY, "/jwks"])
async def test_nonsense_in_its_documents_is_not_remembered(
    make_app: MakeApp,
    make_client: MakeClient,
    oidc_settings: dict[str, Any],
    provider: OidcProvider,
    path: str,
) -> None:
    fresh = make_client(await make_app(**oidc_settings))
    for nonsense in NONSENSE.values():
        if path == "/jwks":
            callback = await to_callback(fresh, provider)
            provider.instead = {path: nonsense}
            answer = await fresh.get(callback)
        else:
            provider.instead = {path: nonsense}
            answer = await fresh.get(f"{AUTH}/oidc/house/login")
        assert (answer.status_code, code_of(answer)) == (502, "PROVIDER_FAILED")
        provider.instead = {}
    await signed_in(fresh, provider)


async def test_a_discovery_document_that_contradicts_is_not_followed(
    fresh: AsyncClient, provider: OidcProvider
) -> None:
    async with AsyncClient(verify=False, timeout=PATIENCE) as reader:
        document = (await reader.get(provider.url + DISCOVERY)).json()
    for change in (
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": 7},
        {"jwks_uri": None},
        {"token_endpoint_auth_methods_supported": 7},
    ):
        provider.instead = {DISCOVERY: saying(document | change)}
        answer = await fresh.get(f"{AUTH}/oidc/house/login")
        assert (answer.status_code, code_of(answer)) == (502, "PROVIDER_FAILED"), change


@pytest.mark.parametrize(
    "person",
    [
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "nul\0"},
        {"sub": "half\ud800"},
    ],
)
async def test_a_subject_that_cannot_be_kept_is_nobody(
    client: AsyncClient, provider: OidcProvider, person: dict[str, Any]
) -> None:
    provider.vouch_for(**person)
    answer = await client.get(await to_callback(client, provider))
    assert answer.status_code in (401, 502)
    assert code_of(answer) in ("INVALID_ID_TOKEN", "PROVIDER_FAILED")


async def test_a_provider_that_is_down_is_a_problem_and_comes_back(
    make_app: MakeApp, make_client: MakeClient
) -> None:
    closed = {"client_id": CLIENT_ID, "issuer": "http://127.0.0.1:1"}
    client = make_client(await make_app(oidc_providers={"closed": closed}))
    answer = await client.get(f"{AUTH}/oidc/closed/login")
    assert expect(answer, 502)["error_code"] == "PROVIDER_FAILED"
    assert "127.0.0.1" not in answer.text


async def test_a_page_is_told_of_an_outage_where_it_is(
    browser: AsyncClient, provider: OidcProvider
) -> None:
    callback = await to_callback(browser, provider)
    provider.instead = {"/token": broken}
    answer = await browser.get(callback)
    assert fragment(answer) == {"sign_in_error": "PROVIDER_FAILED"}


async def test_many_at_once_ask_for_the_documents_once(
    fresh: AsyncClient, provider: OidcProvider
) -> None:
    await asyncio.gather(*(begin(fresh) for _ in range(10)))
    assert provider.asked[DISCOVERY] == 1


async def test_many_at_once_do_not_wait_one_after_the_other(
    fresh: AsyncClient, fresh_app: FastAPI, provider: OidcProvider
) -> None:
    provider.instead = {DISCOVERY: never}
    path = f"{AUTH}/oidc/house/login"
    async with impatient(fresh_app):
        answers = await asyncio.gather(*(fresh.get(path) for _ in range(10)))
    assert {each.status_code for each in answers} == {502}


@pytest.mark.only("production")
async def test_while_a_provider_is_away_no_connection_is_held(
    make_app: MakeApp,
    make_client: MakeClient,
    oidc_settings: dict[str, Any],
    provider: OidcProvider,
) -> None:
    app: FastAPI = await make_app(**oidc_settings, database_pool_size=1)
    client = make_client(app)
    callback = await to_callback(client, provider)
    reached = asyncio.Event()

    async def stuck() -> Response:
        reached.set()
        return await never()

    provider.instead = {"/token": stuck}
    waiting = asyncio.create_task(client.get(callback))
    await asyncio.wait_for(reached.wait(), PATIENCE)
    expect(await make_client(app).get("/api/v1/items"), 200)
    waiting.cancel()
