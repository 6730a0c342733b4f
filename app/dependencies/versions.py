"""Which version of the API a request is served by, for routes whose bytes are no model's."""

from typing import Annotated

from fastapi import Depends, Request


async def speaks_v2(request: Request) -> bool:
    """Tell whether the request is served by v2; the middleware has put the version in the path."""
    return request.url.path.startswith("/api/v2/")


SpeaksV2 = Annotated[bool, Depends(speaks_v2)]
