"""`/metrics`, for Prometheus."""

from fastapi import APIRouter
from starlette.responses import Response

from app.dependencies.operators import operators_only
from app.dependencies.resources import CurrentResources
from app.observability.metrics import CONTENT_TYPE

router = APIRouter(include_in_schema=False, dependencies=[operators_only])


@router.get("/metrics", response_model=None)
async def scrape(resources: CurrentResources) -> Response:
    """Return the metrics of all workers in Prometheus' text format."""
    return Response(resources.metrics.render(), media_type=CONTENT_TYPE)
