"""Headers that keep browsers from being used against the people in front of them."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problem_details import API_CSP, SAFE_HEADERS

_CONSOLE_CSP = (
    b"default-src 'self'; connect-src 'self' {ws}; img-src 'self' data: blob:; object-src 'none'; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# Swagger UI and ReDoc set styles from their scripts, and ReDoc searches in a worker.
_DOCS_CSP = (
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"worker-src 'self' blob:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_CREDENTIALS = frozenset({b"authorization", b"cookie", b"x-api-key"})


class SecurityHeaders:
    """Adds what an answer did not set itself."""

    def __init__(self, app: ASGIApp, *, hsts_seconds: int) -> None:
        self._app = app
        self._hsts = b"max-age=%d; includeSubDomains" % hsts_seconds if hsts_seconds else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._completed(scope, list(message.get("headers", ())))
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _completed(
        self, scope: Scope, headers: list[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        present = {name for name, _ in headers}
        headers += [pair for pair in SAFE_HEADERS if pair[0] not in present]
        if b"content-security-policy" not in present:
            headers.append((b"content-security-policy", _policy(scope)))
        if self._hsts and scope.get("scheme") == "https":
            headers.append((b"strict-transport-security", self._hsts))
        if b"cache-control" not in present and not _CREDENTIALS.isdisjoint(
            [name for name, _ in scope["headers"]]
        ):
            headers.append((b"cache-control", b"no-store"))
        return headers


def _policy(scope: Scope) -> bytes:
    path: str = scope["path"]
    if path == "/" or path.startswith("/console/"):
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        # Browsers differ in whether 'self' covers ws: on the same host, so name it.
        socket = b"wss://" if scope.get("scheme") == "https" else b"ws://"
        is_plain = host and not set(host) & set(b" ;,'\"")
        return _CONSOLE_CSP.replace(b"{ws}", socket + host if is_plain else b"")
    if path.endswith(("/docs", "/redoc")) or path.startswith("/docs/"):
        return _DOCS_CSP
    return API_CSP
