"""The page at `/` as a browser fetches it; what it does is in tests/system/test_console.py."""

import re

import pytest
from httpx import AsyncClient

ASSETS = ["console.css", "console.js", "live.js", "session.js", "api.js", "forms.js", "problem.js"]


async def test_the_page_runs_under_a_policy_without_inline_code(client: AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text)
    assert "<style" not in answer.text
    assert not re.search(r"\s(on\w+|style)=", answer.text)


@pytest.mark.parametrize("path", ["/", *(f"/console/{name}" for name in ASSETS)])
async def test_a_browser_keeps_what_has_not_changed(client: AsyncClient, path: str) -> None:
    first = await client.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await client.head(path)
    assert (head.status_code, head.content) == (200, b"")


async def test_nothing_beside_the_console_is_served(client: AsyncClient) -> None:
    for path in ("/console/../main.py", "/console/%2e%2e/main.py", "/console/missing.js"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
