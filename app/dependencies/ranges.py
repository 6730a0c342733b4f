"""Range requests (RFC 9110, section 14): one range of bytes, or the whole."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, NamedTuple

from fastapi import Depends, Header

from app.errors import RangeNotSatisfiable

_RANGE = re.compile(r"(?i:bytes)=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*")


class Extent(NamedTuple):
    """A part of a content: from a byte on, so many."""

    start: int
    length: int


class Representation(NamedTuple):
    """What the conditions of a request are compared with."""

    etag: str  # unquoted; always strong
    modified_at: datetime
    size: int


def parse_range(header: str, size: int) -> Extent | None:
    """Return the extent that a Range header asks for; None stands for the whole.

    Several ranges are answered with the whole, which is allowed, and bounds what one request can
    ask for; so is what is no range of bytes.

    Raises:
        RangeNotSatisfiable: it begins beyond the end.
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        length = min(int(suffix), size)
        start = size - length
    else:
        start = int(first)
        end = min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None  # invalid, so as if it were not there (14.1.1)
        length = end - start + 1
    if length <= 0:
        raise RangeNotSatisfiable(size)
    return Extent(start, length)


Wanted = Callable[[Representation], Extent | None]


async def wanted_range(
    header: Annotated[
        str | None, Header(alias="Range", description="One range, such as `bytes=0-99`.")
    ] = None,
    condition: Annotated[
        str | None,
        Header(alias="If-Range", description="The range only if this is still its ETag or date."),
    ] = None,
) -> Wanted:
    """Return which part of a representation a request asks for."""

    def wanted(current: Representation) -> Extent | None:
        if header is None or (condition is not None and not _is_current(condition, current)):
            return None
        return parse_range(header, current.size)

    return wanted


async def modified_since(
    header: Annotated[
        str | None,
        Header(alias="If-Modified-Since", description="Answer 304 if it has not changed since."),
    ] = None,
    tags: Annotated[str | None, Header(alias="If-None-Match", include_in_schema=False)] = None,
) -> Callable[[datetime], bool]:
    """Return whether a date of change is news; ignored beside If-None-Match (13.1.3)."""
    moment = _date(header) if header is not None and tags is None else None
    return lambda modified_at: moment is None or modified_at.replace(microsecond=0) > moment


def _is_current(condition: str, current: Representation) -> bool:
    """Compare strongly, by tag or by exact date (13.1.5)."""
    if condition.strip().startswith('"'):
        return condition.strip() == f'"{current.etag}"'
    return _date(condition) == current.modified_at.replace(microsecond=0)


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


WantedRange = Annotated[Wanted, Depends(wanted_range)]
IsModifiedSince = Annotated[Callable[[datetime], bool], Depends(modified_since)]
