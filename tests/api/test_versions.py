"""Which version serves a request, and how an answer says so."""

import contextlib
from datetime import UTC, datetime

import pytest
from httpx import AsyncClient
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UnsupportedApiVersion
from app.middleware.versions import VERSIONS, version_of_accept, version_of_header
from tests.conftest import MakeApp, MakeClient
from tests.factories import create_item, expect, new_user


@pytest.mark.parametrize(
    ("path", "headers", "version"),
    [
        ("/api/items", {}, "1"),
        ("/api/items", {"API-Version": "1"}, "1"),
        ("/api/items", {"API-Version": "2"}, "2"),
        ("/api/items", {"API-Version": "2.0"}, "2"),
        ("/api/items", {"API-Version": "v2"}, "2"),
        ("/api/items", {"API-Version": "V1"}, "1"),
        ("/api/items", {"Accept": "application/vnd.kingpost.v2+json"}, "2"),
        ("/api/items", {"Accept": "text/html, application/vnd.kingpost.v2+json;q=0.5"}, "2"),
        ("/api/items", {"Accept": "application/json"}, "1"),
        ("/api/items", {"API-Version": "1", "Accept": "application/vnd.kingpost.v2+json"}, "1"),
        ("/api/v1/items", {"API-Version": "2"}, "1"),
        ("/api/v2/items", {"API-Version": "1"}, "2"),
        ("/api/v2/items", {"API-Version": "99"}, "2"),
    ],
)
async def test_the_path_wins_then_the_header_then_accept(
    client: AsyncClient, path: str, headers: dict[str, str], version: str
) -> None:
    answer = await client.get(path, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["api-version"] == version
    assert ("nextCursor" in answer.json()) is (version == "2")
    if path == "/api/items":
        assert {"api-version", "accept"} <= {
            name.strip().lower() for name in answer.headers["vary"].split(",")
        }


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/api/items", {"API-Version": "3"}),
        ("/api/items", {"API-Version": ""}),
        ("/api/items", {"API-Version": "one"}),
        ("/api/items", {"API-Version": "1.1"}),
        ("/api/items", {"Accept": "application/vnd.kingpost.v3+json"}),
        ("/api/v3/items", {}),
        ("/api/v0/items", {}),
    ],
)
async def test_an_unknown_version_is_refused(
    client: AsyncClient, path: str, headers: dict[str, str]
) -> None:
    answer = await client.get(path, headers=headers)
    assert expect(answer, 400)["error_code"] == "UNSUPPORTED_API_VERSION"
    assert ("api-version" in answer.headers["vary"].lower()) is (path == "/api/items")


async def test_v2_speaks_camel_case_and_hears_both(client: AsyncClient) -> None:
    tokens = await new_user(client)
    for body in (
        {"name": "Desk", "price": 5, "discountPercent": 10, "displayName": "A desk"},
        {"name": "Desk", "price": 5, "discount_percent": 10, "display_name": "A desk"},
    ):
        answer = await client.post("/api/v2/items", json=body, headers=tokens.headers)
        item = expect(answer, 201)
        assert (item["discountPercent"], item["displayName"]) == (10, "A desk")
        assert not [name for name in item if "_" in name]
        assert answer.headers["location"] == f"/api/v2/items/{item['id']}"
        plain = expect(await client.get(f"/api/v1/items/{item['id']}"), 200)
        assert (plain["discount_percent"], "display_name" in plain) == (10, False)


async def test_v2_has_metadata_of_bounded_size(client: AsyncClient) -> None:
    tokens = await new_user(client)
    item = await create_item(client, tokens)
    url = f"/api/v2/items/{item['id']}"
    kept = {"supplier": {"sku": "OD-1"}, "n": [1, None]}
    answer = await client.patch(url, json={"metadata": kept}, headers=tokens.headers)
    assert expect(answer, 200)["metadata"] == {"supplier": {"sku": "OD-1"}, "n": [1, None]}
    large = {"metadata": {"x": "y" * 4100}}
    answer = await client.patch(url, json=large, headers=tokens.headers)
    assert answer.status_code == 422
    answer = await client.patch(url, json={"metadata": {"supplier": None}}, headers=tokens.headers)
    assert expect(answer, 200)["metadata"] == {"n": [1, None]}


async def test_a_version_that_retires_says_so(make_app: MakeApp, make_client: MakeClient) -> None:
    since, until = datetime(2026, 1, 2, tzinfo=UTC), datetime(2027, 3, 4, 5, 6, 7, tzinfo=UTC)
    client = make_client(await make_app(api_v1_deprecated_at=since, api_v1_sunset_at=until))
    answer = await client.get("/api/v1/items")
    assert answer.headers["deprecation"] == f"@{int(since.timestamp())}"
    assert answer.headers["sunset"] == "Thu, 04 Mar 2027 05:06:07 GMT"
    assert '</api/v2/items>; rel="successor-version"' in answer.headers["link"]
    newer = await client.get("/api/v2/items")
    assert not {"deprecation", "sunset"} & set(newer.headers)


@given(st.text(max_size=40))
def test_any_header_names_a_version_or_is_refused(value: str) -> None:
    with contextlib.suppress(UnsupportedApiVersion):
        assert version_of_header(value) in VERSIONS


@given(st.text(alphabet=st.sampled_from("application/vnd.kingpost.v123+json;q=0., *"), max_size=80))
def test_any_accept_names_a_version_or_none_or_is_refused(value: str) -> None:
    with contextlib.suppress(UnsupportedApiVersion):
        assert version_of_accept(value) in (*VERSIONS, None)


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("application/vnd.kingpost.v1+json;q=0.2, application/vnd.kingpost.v2+json;q=0.9", "v2"),
        ("application/vnd.kingpost.v3+json, application/vnd.kingpost.v1+json", "v1"),
        ("application/vnd.kingpost.v2+json;q=0", None),
        ("APPLICATION/VND.KINGPOST.V2+JSON", "v2"),
        ("*/*", None),
    ],
)
def test_accept_is_ranked_by_quality(accept: str, version: str | None) -> None:
    assert version_of_accept(accept) == version
