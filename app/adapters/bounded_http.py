"""HTTP to servers that are not ours: answers are bounded, not compressed, and lead nowhere else."""

from collections.abc import AsyncIterator

import httpx

MAX_ANSWER = 256 * 1024  # bytes; a provider's longest document has about 20 KB


class BoundedTransport(httpx.AsyncBaseTransport):
    """One connection pool for many short-lived clients, none of which closes it."""

    def __init__(self, max_bytes: int = MAX_ANSWER) -> None:
        self._pool = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=20, keepalive_expiry=10)
        )
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, asking for an answer as it is: what unpacks may be of any size."""
        request.headers["Accept-Encoding"] = "identity"
        answer = await self._pool.handle_async_request(request)
        stream = answer.stream
        if not isinstance(stream, httpx.AsyncByteStream):
            raise httpx.DecodingError("not a stream", request=request)
        if answer.headers.get("content-encoding", "identity") != "identity":
            await stream.aclose()
            raise httpx.DecodingError("compressed without being asked", request=request)
        answer.stream = _Bounded(stream, self._max_bytes, request)
        return answer

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.aclose()


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, bound: int, request: httpx.Request) -> None:
        self._stream = stream
        self._bound = bound
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in self._stream:
            received += len(chunk)
            if received > self._bound:
                raise httpx.DecodingError("the answer is too large", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
