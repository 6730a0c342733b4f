"""`Link` headers of pages (RFC 8288)."""

from starlette.datastructures import URL
from starlette.requests import Request


def page_links(request: Request, **pages: dict[str, object] | None) -> str | None:
    """Return a `Link` header naming other pages, each by the query parameters that it changes.

    The address is the one that the client used, so that a link keeps its version and filters.
    """
    links = [
        f'<{_with(request.url, changes)}>; rel="{relation}"'
        for relation, changes in pages.items()
        if changes is not None
    ]
    return ", ".join(links) or None


def _with(url: URL, changes: dict[str, object]) -> str:
    changed = url.include_query_params(**changes)
    return f"{changed.path}?{changed.query}"
