"""Reading multipart bodies, and telling names and types, for any input."""

import unicodedata
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest, PayloadTooLarge
from app.services.file_types import content_type
from app.services.multipart import PartBegins, PartEnds, read_parts
from app.services.uploads import clean_name

BOUNDARY = b"b0und"
CONTENTS = st.lists(
    st.lists(
        st.sampled_from([b"\r\n", b"--", b"\r\n--b0un", b"\r\n--b0undX", b"-", b"x", b"\0", b"\r"]),
        max_size=8,
    ).map(b"".join),
    max_size=4,
)


def body_of(contents: list[bytes]) -> bytes:
    head = b'Content-Disposition: form-data; name="file"; filename="%d"\r\n\r\n'
    parts = [
        b"--" + BOUNDARY + b"\r\n" + head % at + each + b"\r\n" for at, each in enumerate(contents)
    ]
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def parsed(body: bytes, size: int, max_parts: int = 10) -> list[tuple[str | None, bytes]]:
    """Read a body that arrives in chunks of a size."""

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    async def read() -> list[tuple[str | None, bytes]]:
        found: list[tuple[str | None, bytes]] = []
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        ended = 0
        async for event in read_parts(chunks(), kind, max_parts):
            match event:
                case PartBegins():
                    assert ended == len(found)
                    found.append((event.filename, b""))
                case PartEnds():
                    ended += 1
                case _:
                    found[-1] = (found[-1][0], found[-1][1] + event)
        assert ended == len(found)
        return found

    return anyio.run(read)


@given(CONTENTS, st.integers(1, 40))
def test_what_was_sent_is_read_however_it_is_cut(contents: list[bytes], size: int) -> None:
    found = parsed(body_of(contents), size)
    assert found == [(str(at), each) for at, each in enumerate(contents)]


@given(CONTENTS.filter(bool), st.integers(1, 40), st.data())
def test_a_body_cut_short_is_refused(contents: list[bytes], size: int, data: st.DataObject) -> None:
    whole = body_of(contents)
    cut = data.draw(st.integers(0, len(whole) - len(b"--\r\n")))
    with pytest.raises(BadRequest):
        parsed(whole[:cut], size)


@given(CONTENTS, st.integers(1, 40), st.data())
def test_a_changed_body_is_read_or_refused(
    contents: list[bytes], size: int, data: st.DataObject
) -> None:
    body = bytearray(body_of(contents))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadRequest):
        parsed(bytes(body), size)


@given(st.integers(1, 5), st.integers(1, 8))
def test_one_part_too_many_is_one_too_many(most: int, number: int) -> None:
    body = body_of([b"x"] * number)
    if number <= most:
        assert len(parsed(body, 50, most)) == number
    else:
        with pytest.raises(PayloadTooLarge):
            parsed(body, 50, most)


@given(st.text(max_size=400))
def test_any_name_becomes_one_that_people_can_read(name: str) -> None:
    cleaned = clean_name(name)
    assert 1 <= len(cleaned) <= 255
    assert not set(cleaned) & set("/\\\0\r\n")
    assert cleaned.strip(".")
    assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert clean_name(cleaned) == cleaned


@given(st.binary(max_size=300), st.sampled_from(["a.txt", "a.json", "a.csv", "a.png", ""]))
def test_any_content_has_a_type_that_its_name_cannot_change_much(content: bytes, name: str) -> None:
    told, unnamed = content_type(content, name), content_type(content, "")
    texts = {"text/plain", "text/csv", "application/json"}
    assert told == unnamed or {told, unnamed} <= texts
