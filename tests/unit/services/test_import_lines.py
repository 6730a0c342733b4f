"""The splitter of imports: the same lines wherever the blocks are cut, nothing that grows."""

import csv
import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.services import import_lines
from app.services.import_lines import TOO_LONG, UNCLOSED, Line, Lines, Records, quote_is_open

# What matters to the splitter, and what does not.
CONTENT = st.lists(
    st.sampled_from([b"a", b'"', b'""', b",", b"\n", b"\r\n", b',"', b"\xc3\xa4", b"bb" * 9]),
    max_size=40,
).map(b"".join)
CUTS = st.lists(st.integers(0, 200), max_size=8)


def blocks(content: bytes, cuts: list[int]) -> list[bytes]:
    """Cut a content at some places."""
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    return [content[a:b] for a, b in pairwise(edges)]


def lines_of(parts: list[bytes], lines: Lines | None = None) -> list[Line]:
    splitter = lines or Lines()
    return [line for part in parts for line in splitter.feed(part)] + splitter.finish()


def records_of(parts: list[bytes]) -> list[Line]:
    splitter, joiner = Lines(), Records()
    found = [record for part in parts for record in joiner.join(splitter.feed(part))]
    return found + joiner.join(splitter.finish(), is_last=True)


@given(CONTENT, CUTS)
def test_lines_do_not_depend_on_where_the_blocks_are_cut(content: bytes, cuts: list[int]) -> None:
    found = lines_of(blocks(content, cuts))
    assert found == lines_of([content])
    assert b"\n".join([line.content for line in found]) == content.removesuffix(b"\n")
    assert [line.number for line in found] == list(range(1, len(found) + 1))


@given(CONTENT, CUTS)
def test_records_do_not_depend_on_where_the_blocks_are_cut(content: bytes, cuts: list[int]) -> None:
    assert records_of(blocks(content, cuts)) == records_of([content])


@given(CONTENT, st.integers(0, 20))
def test_it_starts_anew_behind_any_record(content: bytes, index: int) -> None:
    whole = records_of([content])
    if not whole:
        return
    last = whole[min(index, len(whole) - 1)]
    splitter, joiner = Lines(number=last.last + 1, offset=last.end), Records()
    rest = joiner.join(splitter.feed(content[last.end :]))
    rest += joiner.join(splitter.finish(), is_last=True)
    assert rest == whole[whole.index(last) + 1 :]


@given(st.lists(st.lists(st.text(alphabet='a",\n\r ä'), min_size=1), max_size=6), CUTS)
def test_every_csv_that_python_writes_has_its_records(
    rows: list[list[str]], cuts: list[int]
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    records = records_of(blocks(out.getvalue().encode(), cuts))
    found = [next(csv.reader([each.content.decode()], strict=True)) for each in records]
    assert found == rows


@pytest.mark.parametrize(
    ("line", "was_open", "is_open"),
    [
        (b"a,b", False, False),
        (b'"a', False, True),
        (b'a,"b', False, True),
        (b'5" pipe,2', False, False),
        (b'a,"b""', False, True),
        (b'a,"b"""', False, False),
        (b'b"",c', True, True),
        (b'b",c', True, False),
        (b'b","c', True, True),
        (b'"",""', False, False),
        (b"", True, True),
    ],
)
def test_a_quote_is_open_only_where_a_field_began_with_it(
    line: bytes, was_open: bool, is_open: bool
) -> None:
    assert quote_is_open(line, was_open) is is_open


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_lines, "MAX_LINE_BYTES", 20)


@pytest.mark.usefixtures("short_lines")
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_that_is_too_long_costs_itself_alone(size: int) -> None:
    content = b"a\n" + b"x" * 500 + b"\nb\n" + b"y" * 21
    parts = [content[at : at + size] for at in range(0, len(content), size)]
    found = lines_of(parts)
    assert [(line.number, line.defect) for line in found] == [
        (1, None),
        (2, TOO_LONG),
        (3, None),
        (4, TOO_LONG),
    ]
    assert found[-1].end == len(content)


@pytest.mark.usefixtures("short_lines")
def test_a_quote_that_is_never_closed_costs_its_line_alone() -> None:
    content = b'a,1\n"open,2\n' + b"c,3\n" * 10 + b'd,"4'
    found = records_of([content])
    assert [each.number for each in found if each.defect] == [2, 13]
    assert {each.defect for each in found if each.defect} == {UNCLOSED}
    assert [each.content for each in found if not each.defect] == [b"a,1", *[b"c,3"] * 10]


@pytest.mark.usefixtures("short_lines")
def test_a_line_that_is_too_long_inside_quotes_ends_them() -> None:
    found = records_of([b'"open\n' + b"x" * 50 + b"\nlast\n"])
    assert [(each.number, each.defect) for each in found] == [
        (1, UNCLOSED),
        (2, TOO_LONG),
        (3, None),
    ]


def test_nothing_is_kept_of_a_line_without_end() -> None:
    splitter = Lines()
    for _ in range(1000):
        splitter.feed(b"x" * 10_000)
        assert len(splitter._tail) <= import_lines.MAX_LINE_BYTES
    (line,) = splitter.finish()
    assert (line.end, line.defect) == (10_000_000, TOO_LONG)
