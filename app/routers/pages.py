"""The `Link` header of a page (RFC 8288): where the pages beside it are."""

from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response


def link_by_offset(
    request: Request, response: Response, *, skip: int, limit: int, total: int
) -> None:
    """Name the pages beside one by offset."""
    more, back = skip + limit, max(0, skip - limit)
    _link(
        request,
        response,
        next={"skip": more, "limit": limit} if more < total else None,
        prev={"skip": back, "limit": limit} if skip > 0 else None,
    )


def link_by_cursor(
    request: Request, response: Response, *, next_cursor: str | None, previous: str | None = None
) -> None:
    """Name the pages beside one by cursor."""
    _link(
        request,
        response,
        next={"cursor": next_cursor} if next_cursor else None,
        prev={"cursor": previous} if previous else None,
    )


def _link(request: Request, response: Response, **pages: dict[str, object] | None) -> None:
    """Each page by the parameters that it changes, at the address that the client used."""
    links = [
        f'<{_with(request, changes)}>; rel="{relation}"'
        for relation, changes in pages.items()
        if changes is not None
    ]
    if links:
        response.headers["Link"] = ", ".join(links)


def _with(request: Request, changes: dict[str, object]) -> str:
    kept = [pair for pair in request.query_params.multi_items() if pair[0] not in changes]
    return f"{quote(request.scope['path'])}?{urlencode([*kept, *changes.items()])}"
