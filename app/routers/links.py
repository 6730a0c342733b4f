"""`Link` headers of pages (RFC 8288)."""

from urllib.parse import quote, urlencode

from starlette.requests import Request


def page_links(request: Request, **pages: dict[str, object] | None) -> str | None:
    """Return a `Link` header naming other pages, each by the query parameters that it changes.

    The address is the one that the client used, so that a link keeps its version and filters.
    """
    links = [
        f'<{_with(request, changes)}>; rel="{relation}"'
        for relation, changes in pages.items()
        if changes is not None
    ]
    return ", ".join(links) or None


def _with(request: Request, changes: dict[str, object]) -> str:
    kept = [pair for pair in request.query_params.multi_items() if pair[0] not in changes]
    return f"{quote(request.scope['path'])}?{urlencode([*kept, *changes.items()])}"
