"""Downloads: ranges, conditions, HEAD and links."""

from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import now
from app.routers.downloads import content_disposition
from app.security import links
from tests.api.files import add_file
from tests.api.test_errors import problem
from tests.factories import Tokens, create_item, expect, new_user

CONTENT = b"0123456789" * 300  # more than what is compressed elsewhere


async def a_file(client: AsyncClient, **item: str) -> tuple[Tokens, str]:
    """Return who owns a file, and its path."""
    owner = await new_user(client)
    made = await create_item(client, owner, **item)
    file = await add_file(client, owner, made["id"], CONTENT)
    return owner, f"/api/v1/files/{file['id']}"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=2990-", 2990, 3000), ("bytes=-5", 2995, 3000)],
)
async def test_a_range_is_answered_alone(
    client: AsyncClient, asked: str, start: int, stop: int
) -> None:
    _, url = await a_file(client)
    answer = await client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, CONTENT[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/3000"
    assert answer.headers["content-length"] == str(stop - start)


async def test_a_range_beyond_the_end_is_416(client: AsyncClient) -> None:
    _, url = await a_file(client)
    answer = await client.get(url, headers={"Range": "bytes=3000-"})
    problem(answer, 416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == "bytes */3000"


async def test_a_thousand_ranges_are_answered_with_the_whole_once(client: AsyncClient) -> None:
    _, url = await a_file(client)
    ranges = "bytes=" + ",".join(f"{n}-" for n in range(1000))
    answer = await client.get(url, headers={"Range": ranges})
    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_content_is_never_compressed_on_the_way(client: AsyncClient) -> None:
    _, url = await a_file(client)
    answer = await client.get(url, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == "3000"


async def test_what_the_client_has_is_not_sent_again(client: AsyncClient) -> None:
    _, url = await a_file(client)
    whole = await client.get(url)
    tag, date = whole.headers["etag"], whole.headers["last-modified"]
    for headers in (
        {"If-None-Match": tag},
        {"If-None-Match": f'"x", W/{tag}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": date},
        {"If-None-Match": tag, "Range": "bytes=0-1"},
    ):
        answer = await client.get(url, headers=headers)
        assert (answer.status_code, answer.content) == (304, b""), headers
        assert answer.headers["etag"] == tag
        assert answer.headers["cache-control"] == "private, no-cache"
    for headers in (
        {"If-None-Match": '"x"'},
        {"If-None-Match": '"x"', "If-Modified-Since": date},
        {"If-Modified-Since": "Sat, 21 Nov 1998 08:00:00 GMT"},
        {"If-Modified-Since": "nonsense"},
    ):
        assert (await client.get(url, headers=headers)).status_code == 200, headers


async def test_a_part_goes_on_only_of_the_same_content(client: AsyncClient) -> None:
    _, url = await a_file(client)
    tag = (await client.get(url)).headers["etag"]
    part = {"Range": "bytes=10-19"}
    assert (await client.get(url, headers={**part, "If-Range": tag})).status_code == 206
    assert (await client.get(url, headers={**part, "If-Range": '"x"'})).status_code == 200


async def test_head_tells_what_get_would(client: AsyncClient) -> None:
    _, url = await a_file(client)
    for headers in ({}, {"Range": "bytes=0-9"}):
        got, head = await client.get(url, headers=headers), await client.head(url, headers=headers)
        assert (head.status_code, head.content) == (got.status_code, b"")
        kept = ("content-length", "etag", "content-type", "content-disposition", "last-modified")
        assert {k: head.headers[k] for k in kept} == {k: got.headers[k] for k in kept}


async def test_head_reads_nothing(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = await a_file(client)
    monkeypatch.setattr(app.state.resources.files.storage, "read", None)
    assert (await client.head(url)).status_code == 200


async def test_a_content_that_is_gone_is_404(client: AsyncClient, app: FastAPI) -> None:
    owner, url = await a_file(client)
    files = app.state.resources.files
    file = await files.read_by_link(int(url.rpartition("/")[2]))
    await files.storage.delete([file.key])
    problem(await client.get(url, headers=owner.headers), 404, "NOT_FOUND")


async def link(client: AsyncClient, tokens: Tokens, url: str, **body: int) -> Response:
    return await client.post(f"{url}/url", json=body, headers=tokens.headers)


def relative(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


async def test_a_link_needs_no_token_until_it_expires(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, url = await a_file(client, visibility="private")
    problem(await client.get(url), 404, "NOT_FOUND")
    made = expect(await link(client, owner, url, minutes=5), 200)
    assert made["url"].startswith("http://testserver/api/v1/files/")
    at = relative(made["url"])
    assert (await client.get(at)).content == CONTENT
    part = await client.get(at, headers={"Range": "bytes=0-1"})
    assert (part.status_code, part.content) == (206, b"01")
    monkeypatch.setattr(links, "now", lambda: now() + timedelta(minutes=4, seconds=58))
    assert (await client.get(at)).status_code == 200
    monkeypatch.setattr(links, "now", lambda: now() + timedelta(minutes=5))
    problem(await client.get(at), 403, "INVALID_SIGNATURE")


async def test_a_link_is_good_for_its_file_and_its_purpose_alone(client: AsyncClient) -> None:
    owner, url = await a_file(client, visibility="private")
    _, other = await a_file(client, visibility="private")
    query = urlsplit(expect(await link(client, owner, url), 200)["url"]).query
    expires, signature = (pair.partition("=")[2] for pair in query.split("&"))
    for at in (
        f"{other}?{query}",
        f"{url}?expires={int(expires) + 1}&signature={signature}",
        f"{url}?expires={expires}&signature={'0' * 64}",
        f"{url}?expires={expires}&signature=%F0%9F%98%80",
        f"{url}?signature={signature}",
    ):
        problem(await client.get(at), 403, "INVALID_SIGNATURE")
    sent = await client.put(f"{url}/content?{query}", content=b"a")
    problem(sent, 403, "INVALID_SIGNATURE")
    await client.delete(url, headers=owner.headers)
    problem(await client.get(f"{url}?{query}"), 404, "NOT_FOUND")


async def test_a_link_to_a_file_of_a_deleted_item_leads_nowhere(client: AsyncClient) -> None:
    owner, url = await a_file(client)
    at = relative(expect(await link(client, owner, url), 200)["url"])
    item_id = expect(
        await client.get(f"/api/v1/items?owner_id={owner.account.id}", headers=owner.headers), 200
    )["items"][0]["id"]
    await client.delete(f"/api/v1/items/{item_id}", headers=owner.headers)
    problem(await client.get(at), 404, "NOT_FOUND")


async def test_only_who_can_read_a_file_can_make_a_link(client: AsyncClient) -> None:
    owner, url = await a_file(client, visibility="private")
    problem(await link(client, await new_user(client), url), 404, "NOT_FOUND")
    for minutes in (0, 24 * 60 + 1):
        problem(await link(client, owner, url, minutes=minutes), 422, "VALIDATION_ERROR")


@settings(max_examples=200)
@given(st.text(min_size=1, max_size=60))
def test_any_name_makes_a_safe_header(name: str) -> None:
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert header.startswith('attachment; filename="')
