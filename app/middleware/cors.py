"""Cross-origin requests (Fetch, section 3.3): Starlette's, with refusals in the form of ours."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BadRequest
from app.middleware.problems import problem_response


class Cors(CORSMiddleware):
    """Answers preflights, and tells browsers which answers a page may read."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_preflight(scope):
            await super().__call__(scope, receive, send)
            return
        answer: ASGIApp
        answer = response = self.preflight_response(request_headers=Headers(scope=scope))
        if response.status_code >= 400:
            kept = ("content-length", "content-type")
            headers = {k: v for k, v in response.headers.items() if k not in kept}
            detail = bytes(response.body).decode()
            answer = problem_response(BadRequest(detail, headers=headers), scope)
        await answer(scope, receive, send)


def _is_preflight(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names
