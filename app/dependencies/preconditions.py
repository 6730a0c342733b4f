"""Conditional requests (RFC 9110, section 13): entity tags, If-Match and If-None-Match."""

import re
from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import Depends, Header

from app.errors import BadRequest, PreconditionFailed

_ETAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')
MAX_ETAGS = 50


class Versioned(Protocol):
    """Anything whose version rises with each change."""

    @property
    def version(self) -> int:
        """Its version."""


def etag(version: int) -> str:
    """Return the strong entity tag of a resource at a version."""
    return f'"{version}"'


def parse_etags(header: str) -> list[tuple[bool, str]] | None:
    """Read a list of entity tags as (is weak, opaque value); None stands for `*`.

    Raises:
        BadRequest: it is not a list of entity tags by RFC 9110, section 8.8.3.
    """
    if header.strip() == "*":
        return None
    tags: list[tuple[bool, str]] = []
    position = 0
    while position < len(header):
        found = _ETAG.match(header, position)
        if found is None or len(tags) == MAX_ETAGS:
            raise BadRequest('An entity tag is a quoted string such as "3"')
        tags.append((found[1] is not None, found[2]))
        position = found.end()
    if not tags:
        raise BadRequest('An entity tag is a quoted string such as "3"')
    return tags


async def if_match(
    header: Annotated[
        str | None,
        Header(
            alias="If-Match",
            description="Change it only if its ETag is still one of these; else 412.",
            examples=['"3"'],
        ),
    ] = None,
) -> Callable[[Versioned], bool]:
    """Return the precondition of `If-Match`; weak tags never match (RFC 9110, 13.1.1).

    What is no entity tag matches nothing either: whoever sent it wanted no blind write.
    """
    if header is None:
        return lambda _: True
    try:
        tags = parse_etags(header)
    except BadRequest as malformed:
        return _never(malformed.detail)
    if tags is None:
        return lambda _: True
    strong = {value for is_weak, value in tags if not is_weak}
    return lambda it: str(it.version) in strong


def _never(because: str) -> Callable[[Versioned], bool]:
    def refuse(_: Versioned) -> bool:
        raise PreconditionFailed(because)

    return refuse


async def if_none_match(
    header: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            description="Answer 304 without a body if its ETag is one of these.",
        ),
    ] = None,
) -> Callable[[int | str], bool]:
    """Return whether a version is what the client already has, by weak comparison (13.1.2).

    What is no entity tag names nothing that the client has: it gets the whole answer.
    """
    if header is None:
        return lambda _: False
    try:
        tags = parse_etags(header)
    except BadRequest:
        return lambda _: False
    if tags is None:
        return lambda _: True
    known = {value for _, value in tags}
    return lambda version: str(version) in known


IfMatch = Annotated[Callable[[Versioned], bool], Depends(if_match)]
IfNoneMatch = Annotated[Callable[[int | str], bool], Depends(if_none_match)]
