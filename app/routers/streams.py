"""Bodies of any length, taken in and sent piece by piece, with patience but not for ever."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from app.errors import BadRequest
from app.services.uploads import patiently

PIECE_SECONDS = 30.0  # for about 128 KiB: whoever reads slower holds what others wait for
TOTAL_SECONDS = 3600.0


class PatientStream(StreamingResponse):
    """Streams a generator's bytes, up to a deadline for each piece and one for all.

    The generator is closed when the answer ends, however it ends: what it holds must not wait for
    the garbage collector.
    """

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], *, media_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(pieces, media_type=media_type, headers=headers)
        self._pieces = pieces

    async def stream_response(self, send: Send) -> None:
        """Send the head and the pieces; raises TimeoutError for a reader that is too slow."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(PIECE_SECONDS):
                await send(message)

        async with aclosing(self._pieces), asyncio.timeout(TOTAL_SECONDS):
            await super().stream_response(send_in_time)


async def first_of(request: Request, pieces: AsyncGenerator[bytes, None]) -> bytes:
    """Return the first piece, for which a client may have to wait; not for one that hangs up.

    Raises:
        BadRequest: the client is gone, and the pieces are closed.
    """
    first = asyncio.ensure_future(anext(pieces))
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((first, gone), return_when=asyncio.FIRST_COMPLETED)
        if first.done():
            return first.result()
    finally:
        gone.cancel()
        first.cancel()
        await asyncio.wait((first, gone))
    await pieces.aclose()
    raise BadRequest("The client hung up")


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def incoming(request: Request) -> AsyncIterator[bytes]:
    """Return the body of a request as it arrives.

    Raises:
        RequestTimeout: nothing came for a while.
        BadRequest: the client hung up.
    """
    return patiently(_arriving(request))


async def _arriving(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise BadRequest("The upload was cut off") from error
