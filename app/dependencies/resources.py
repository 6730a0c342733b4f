"""What the process holds, for routes that ask by type."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from app.resources import Resources


async def current_resources(connection: HTTPConnection) -> Resources:
    """Return the resources that the lifespan opened."""
    resources: Resources = connection.app.state.resources
    return resources


CurrentResources = Annotated[Resources, Depends(current_resources)]
