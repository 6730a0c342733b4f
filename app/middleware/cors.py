"""CORS, whose refusals are problems as well."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from app.errors import BadRequest
from app.middleware.problems import problem_response


class Cors(CORSMiddleware):
    """Starlette's, which refuses a preflight in plain text."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                answer = self.preflight_response(headers)
                if answer.status_code == 400:
                    answer = problem_response(BadRequest(bytes(answer.body).decode()), scope)
                    answer.headers.add_vary_header(self.preflight_headers["Vary"])
                await answer(scope, receive, send)
                return
        await super().__call__(scope, receive, send)
