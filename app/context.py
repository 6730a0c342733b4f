"""What is known of the request being served, for whoever writes it down: logs, errors, audit."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import quote

_MAX_USER_AGENT = 300
PATH_SAFE = "/%:@!$&'()*+,;=~"  # what stands for itself in a path (RFC 3986, 3.3)


@dataclass(slots=True)
class RequestContext:
    """A request as its log line, its errors and the audit log tell of it.

    `credential` is what the caller signed in by, such as `session:12`; `cause` is what was away,
    where the answer is 503 for that. Headers and client are those
    of the ASGI scope; the scope itself would make every request a cycle for the garbage collector.
    """

    request_id: str
    started_at: float
    user_id: int | None = None
    credential: str | None = None
    error_code: str | None = None
    cause: str | None = None
    client: tuple[str, int] | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    raw_path: bytes = b""

    @property
    def path(self) -> str:
        """The path as it was asked for, percent-encoded, before a version was put into it."""
        return quote(self.raw_path, safe=PATH_SAFE)

    @property
    def address(self) -> str | None:
        """Where the request comes from; behind a trusted proxy, where that says it does."""
        return self.client[0] if self.client else None

    @property
    def user_agent(self) -> str | None:
        """What the client says that it is, cut to 300 printable characters."""
        for name, value in self.headers:
            if name == b"user-agent":
                text = value.decode("latin-1")[:_MAX_USER_AGENT]
                return "".join(each if each.isprintable() else " " for each in text)
        return None


current_request: ContextVar[RequestContext | None] = ContextVar("kingpost_request", default=None)
