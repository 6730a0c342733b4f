"""A list's query string is read once, and answered as if it were read each time."""

from typing import Any

import pytest
from fastapi.dependencies.utils import request_params_to_args
from httpx import AsyncClient

from tests.factories import create_item, new_user


async def test_a_query_that_was_asked_before_is_not_read_again(
    client: AsyncClient, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await new_user(client)
    reads: list[Any] = []

    def noting(fields: Any, received: Any) -> Any:
        reads.append(received)
        return request_params_to_args(fields, received)

    monkeypatch.setattr("app.dependencies.queries.request_params_to_args", noting)
    owner = {"v1": "owner_id", "v2": "ownerId"}[version]
    for many in range(3):
        url = f"/api/{version}/items?{owner}={tokens.account.id}"
        answer = await client.get(url, headers=tokens.headers)
        assert len(answer.json()["items"]) == many  # the query is remembered, not the answer
        await create_item(client, tokens)
    assert len(reads) == 1


async def test_a_query_that_was_refused_is_refused_again(client: AsyncClient, version: str) -> None:
    url = f"/api/{version}/items?limit=0&sort=colour"
    first, second = [(await client.get(url)).json() for _ in range(2)]
    assert first["status"] == second["status"] == 422
    assert [each["field"] for each in first["errors"]] == ["limit", "sort"]
    assert first["errors"] == second["errors"]
