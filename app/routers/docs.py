"""The interactive documentation, with every asset served from here and none from a CDN."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles

from app.dependencies.idempotency import KEY_PARAMETER, REPLAYED_HEADER, IdempotentRoute
from app.dependencies.operators import operators_only_in_production
from app.routers.openapi_examples import add_examples, complete_errors
from app.routers.webhook_messages import webhook_routes
from app.schemas.problems import FieldError, Problem, problems
from app.security.scopes import needed_scope
from app.version import VERSION

TITLE = "Kingpost"

_SWAGGER = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="/console/icon.svg">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui" data-openapi="{openapi}"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/console/swagger.js"></script>
</body>
</html>
"""

_REDOC = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="/console/icon.svg">
</head>
<body>
<redoc spec-url="{openapi}"></redoc>
<script src="/docs/assets/redoc.standalone.js"></script>
</body>
</html>
"""

_REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
_CACHED = {"Cache-Control": "public, max-age=86400"}

DESCRIPTION = """
Accounts, roles and a catalogue of items, with search and live updates.

* **Sign in** with `POST /api/v1/auth/token`, or with the *Authorize* button here.
* **Programs** send an API key as `X-API-Key`; each operation says which scope it needs.
* **Errors** are [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem details; branch on
  `error_code`.
* **Repeat safely**: send `Idempotency-Key` with a creating POST; use `ETag` with `If-Match`.
"""
_VERSIONS = """\
* **Versions**: `/api/v1` speaks snake_case and pages by offset,
  `/api/v2` camelCase and cursors. Each has a document of its own.
"""


def add_documentation(
    app: FastAPI, versions: tuple[str, ...], document_of: Callable[[str], dict[str, object]]
) -> None:
    """Add the pages and documents: of everything at the root, of each version under its path.

    `document_of` gives the document of a prefix; the first to ask for one waits in a thread.
    """
    router = APIRouter(include_in_schema=False, dependencies=[operators_only_in_production])
    _add_pages(router, "", "/", document_of)
    for version in versions:
        _add_pages(router, f"/api/{version}", f"/api/{version}/", document_of)
    for route in router.routes:
        app.router.routes.append(route)
    assets = files("fastapi_offline") / "static"
    script: list[str] = []

    async def redoc_script(_request: Request) -> Response:
        if not script:  # its logo comes from a CDN; ours is here
            text = await to_thread.run_sync((assets / "redoc.standalone.js").read_text)
            script.append(text.replace(_REDOC_LOGO, "/console/icon.svg"))
        return Response(script[0], media_type="text/javascript", headers=_CACHED)

    path = "/docs/assets/redoc.standalone.js"
    app.router.add_route(path, redoc_script, include_in_schema=False)
    app.mount("/docs/assets", StaticFiles(directory=str(assets)), name="docs-assets")


def describe(table: Sequence[BaseRoute], prefix: str) -> dict[str, object]:
    """Make the OpenAPI document of the operations whose path starts with a prefix, in 0.3 s."""
    routes = [
        route for route in table if isinstance(route, APIRoute) and route.path.startswith(prefix)
    ]
    webhooks = webhook_routes()
    document = get_openapi(
        title=_title(prefix),
        version=VERSION,
        description=DESCRIPTION + (_VERSIONS if prefix == "/" else ""),
        routes=routes,
        webhooks=webhooks,
        tags=_tags([*routes, *webhooks]),
        separate_input_output_schemas=True,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    reference = "#/components/schemas/{model}"
    schemas["FieldError"] = FieldError.model_json_schema(ref_template=reference)
    schemas["Problem"] = Problem.model_json_schema(ref_template=reference)
    schemas["Problem"].pop("$defs", None)
    _replace_default_errors(document)
    _describe_api_keys(document)
    _describe_repeats(document, routes)
    complete_errors(document)
    add_examples(document)
    if prefix == "/":
        return document
    spoken: dict[str, object] = _spoken_in(prefix, document)
    return spoken


def _tags(routes: Sequence[BaseRoute]) -> list[dict[str, Any]]:
    """Return the tags in the order of the routes: pages that are not told show webhooks first."""
    names = dict.fromkeys(
        str(tag) for route in routes if isinstance(route, APIRoute) for tag in route.tags
    )
    return [{"name": name} for name in names]


def _spoken_in(prefix: str, document: Any) -> Any:
    """Return a document whose texts and examples name the addresses of one version alone."""
    if isinstance(document, dict):
        return {key: _spoken_in(prefix, value) for key, value in document.items()}
    if isinstance(document, list):
        return [_spoken_in(prefix, value) for value in document]
    return document.replace("/api/v1/", prefix) if isinstance(document, str) else document


def _describe_api_keys(document: Any) -> None:
    """Say of each operation which scope of an API key it needs, or leave keys out of it."""
    schemes = document["components"].setdefault("securitySchemes", {})
    schemes["ApiKey"] = {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "Made by `POST /auth/api-keys`. Its scopes narrow what its owner may do.",
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scope = needed_scope(method.upper(), path)
            if scope is not None:
                operation["security"].append({"ApiKey": []})
                operation["description"] += f"\n\nAn API key needs the scope `{scope}`."
                operation["responses"].update(
                    {str(status): answer for status, answer in problems(403).items()}
                )


def _describe_repeats(document: Any, routes: Sequence[APIRoute]) -> None:
    """Say of each operation that can be repeated by key which header asks for that, and tells."""
    for route in routes:
        if "POST" not in (route.methods or ()) or not route.include_in_schema:
            continue
        operation = document["paths"][route.path]["post"]
        parameters = operation.setdefault("parameters", [])
        if isinstance(route, IdempotentRoute):
            parameters.append(KEY_PARAMETER)
        if any(each["name"] == KEY_PARAMETER["name"] for each in parameters):
            answer = operation["responses"][str(route.status_code or 200)]
            answer["headers"] = answer.get("headers", {}) | REPLAYED_HEADER


def _replace_default_errors(document: dict[str, object]) -> None:
    """Describe FastAPI's own 422 as what is really answered: our problem."""
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    paths: dict[str, dict[str, dict[str, dict[str, dict[str, object]]]]] = document["paths"]  # type: ignore[assignment]
    for operations in paths.values():
        for operation in operations.values():
            answer = operation.get("responses", {}).get("422")
            if answer is not None:
                answer["content"] = problem
    messages: dict[str, Any] = document.get("webhooks", {})  # type: ignore[assignment]
    for operations in messages.values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # the receiver answers, and not we
    schemas = document["components"]["schemas"]  # type: ignore[index]
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)


def _title(prefix: str) -> str:
    return f"{TITLE} {prefix.removeprefix('/api').strip('/')}".strip()


def _add_pages(
    router: APIRouter, base: str, prefix: str, document_of: Callable[[str], dict[str, object]]
) -> None:
    async def document() -> JSONResponse:
        return JSONResponse(await to_thread.run_sync(document_of, prefix))

    title = _title(prefix)
    swagger = _SWAGGER.format(title=title, openapi=f"{base}/openapi.json")
    redoc = _REDOC.format(title=title, openapi=f"{base}/openapi.json")

    async def swagger_page() -> HTMLResponse:
        return HTMLResponse(swagger)

    async def redoc_page() -> HTMLResponse:
        return HTMLResponse(redoc)

    router.add_api_route(f"{base}/openapi.json", document, name=f"openapi{base}")
    router.add_api_route(f"{base}/docs", swagger_page, name=f"docs{base}")
    router.add_api_route(f"{base}/redoc", redoc_page, name=f"redoc{base}")
