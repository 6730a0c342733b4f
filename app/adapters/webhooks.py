"""Sends webhooks: one POST to an address that was looked up once and judged, within a deadline.

Nothing here follows a redirect, keeps a cookie, uses a proxy or unpacks an answer.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import httpx

DEADLINE = 15.0  # seconds for all of it: looking up, connecting, sending, reading
_CONNECT_SECONDS = 5.0  # to one address, so that there is time for another
_ADDRESSES = 3  # tried in turn
_BODY_READ = 64 * 1024  # bytes; whoever answers more has it cut off
_BODY_KEPT = 1024  # bytes, for the log
_RESOLVERS = 32  # threads; a resolver that hangs holds one for half a minute

Resolve = Callable[[str, int], Awaitable[list[str]]]
# Traces an attempt at a host, as part of a trace; gives the headers that go along.
Trace = Callable[[str, str | None], AbstractContextManager[Mapping[str, str]]]


class Destination(Protocol):
    """Where to send, as the URL says."""

    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def authority(self) -> str: ...
    @property
    def path(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and how it began."""

    status: int
    retry_after: str | None
    body: str


class Undeliverable(Exception):
    """There was no answer; says why, in words for the endpoint's owner."""


class WebhookSender:
    """Sends to addresses that are allowed; one for the process."""

    def __init__(
        self,
        *,
        is_allowed: Callable[[str], bool],
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self._is_allowed = is_allowed
        self._resolve = resolve or self._look_up
        self._tls = tls
        self._deadline = deadline
        self.trace: Trace | None = None
        self._threads: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Let go of the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host, all of them allowed.

        Raises:
            Undeliverable: it has none, or one that is not allowed.
        """
        try:
            async with asyncio.timeout(self._deadline):
                found = await self._resolve(host, port)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise Undeliverable("The host name has no address") from error
        if not found:
            raise Undeliverable("The host name has no address")
        # A name with a good and a bad address is an attempt: to be let in by the one for the other.
        if not all(map(self._is_allowed, found)):
            raise Undeliverable("The host has an address that is not on the public Internet")
        return found

    async def connection(self) -> "httpx.AsyncHTTPTransport":
        """Return connections for one endpoint, to use in `async with`.

        They are never shared: one made for a name must not serve another name at its address.
        """
        import httpx

        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)
        return httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, retries=0)

    async def post(
        self,
        connection: "httpx.AsyncHTTPTransport",
        to: Destination,
        headers: Mapping[str, str],
        body: bytes,
        *,
        traceparent: str | None = None,
    ) -> Answer:
        """Send a message, as part of the trace that caused it.

        Raises:
            Undeliverable: there was no whole answer within the deadline.
        """
        if self.trace is None:
            return await self._post(connection, to, headers, body)
        with self.trace(to.host, traceparent) as traced:
            return await self._post(connection, to, {**headers, **traced}, body)

    async def _post(
        self,
        connection: "httpx.AsyncHTTPTransport",
        to: Destination,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        try:
            async with asyncio.timeout(self._deadline):
                found = await self.addresses(to.host, to.port)
                return await _post_to_first(connection, found[:_ADDRESSES], to, headers, body)
        except TimeoutError as error:
            raise Undeliverable(f"No whole answer within {self._deadline:g} seconds") from error

    async def _look_up(self, host: str, port: int) -> list[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="webhook-dns")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _post_to_first(
    connection: "httpx.AsyncHTTPTransport",
    addresses: list[str],
    to: Destination,
    headers: Mapping[str, str],
    body: bytes,
) -> Answer:
    """Post to the first address that can be connected to."""
    import httpx

    refusal = "Could not connect"
    for address in addresses:
        request = httpx.Request(
            "POST",
            httpx.URL(scheme=to.scheme, host=address, port=to.port, raw_path=to.path.encode()),
            headers={"Host": to.authority, "Accept-Encoding": "identity", **headers},
            content=body,
            extensions={
                "sni_hostname": to.host.rstrip("."),  # the certificate is checked for the name
                "timeout": {"connect": _CONNECT_SECONDS, "pool": DEADLINE},
            },
        )
        try:
            response = await connection.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            refusal = _reason(error)
            continue
        except httpx.HTTPError as error:
            raise Undeliverable("The connection broke before an answer came") from error
        return await _read(response)
    raise Undeliverable(refusal)


async def _read(response: "httpx.Response") -> Answer:
    import httpx

    kept, length = b"", 0
    try:
        async for part in response.stream:  # type: ignore[union-attr]
            kept += part[: _BODY_KEPT - len(kept)]
            length += len(part)
            if length >= _BODY_READ:
                break
    except httpx.HTTPError as error:
        raise Undeliverable("The connection broke within the answer") from error
    finally:
        await response.aclose()
    # PostgreSQL cannot store NUL.
    text = kept.decode(errors="replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return Answer(response.status_code, response.headers.get("retry-after"), text)


def _reason(error: Exception) -> str:
    if "ConnectTimeout" in type(error).__name__:
        return "No connection within 5 seconds"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"The certificate is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS could not be agreed on"
        cause = cause.__cause__ or cause.__context__
    return "Could not connect"
