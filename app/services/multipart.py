"""Reads `multipart/form-data` (RFC 7578) as it arrives, keeping nothing but the current chunk."""

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_HEADERS = 8
_MAX_HEADER_BYTES = 2048


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part's head: the form field that it is for, and the file name that it was given."""

    field: str
    filename: str | None


class PartEnds:
    """The part that began last is complete."""


Event: TypeAlias = PartBegins | bytes | PartEnds
"""What arrives, in order; bytes belong to the part that began last."""


async def read_parts(
    chunks: AsyncIterable[bytes], content_type: str, max_parts: int
) -> AsyncGenerator[Event, None]:
    """Yield the parts of a body while it arrives.

    Raises:
        UnsupportedMediaType: the body is something else.
        BadRequest: it is malformed, or ends too early.
        PayloadTooLarge: it has more parts than are allowed.
    """
    media_type, options = parse_options_header(content_type)
    if media_type != b"multipart/form-data":
        raise UnsupportedMediaType("Send the files as multipart/form-data")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
        raise BadRequest("multipart/form-data needs a boundary of 1 to 70 characters")
    reading = _Reading(max_parts)
    parser = MultipartParser(
        boundary,
        reading.callbacks(),
        max_header_count=_MAX_HEADERS,
        max_header_size=_MAX_HEADER_BYTES,
    )
    async for chunk in chunks:
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise BadRequest("The multipart body is malformed") from error
        for event in reading.taken():
            yield event
    if not reading.is_complete:
        raise BadRequest("The multipart body ends too early")


@dataclass(slots=True)
class _Reading:
    """Gathers what the parser calls back with."""

    max_parts: int
    parts: int = 0
    is_complete: bool = False
    events: list[Event] = field(default_factory=list)
    name: bytes = b""
    value: bytes = b""
    disposition: bytes = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._head,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def taken(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def _begin(self) -> None:
        self.parts += 1
        if self.parts > self.max_parts:
            raise PayloadTooLarge(f"One upload may have at most {self.max_parts} parts")
        self.disposition = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def _header_end(self) -> None:
        if self.name.lower() == b"content-disposition":
            self.disposition = self.value
        self.name = self.value = b""

    def _head(self) -> None:
        # Names come as UTF-8, whatever else a part says (RFC 7578, section 5.1).
        kind, options = parse_options_header(self.disposition.decode("latin-1"))
        name, filename = options.get(b"name"), options.get(b"filename")
        if kind != b"form-data" or name is None:
            raise BadRequest("Each part needs Content-Disposition: form-data with a name")
        self.events.append(
            PartBegins(
                name.decode("utf-8", "replace"),
                None if filename is None else filename.decode("utf-8", "replace"),
            )
        )

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.events.append(data[start:end])

    def _end(self) -> None:
        self.events.append(PartEnds())

    def _finish(self) -> None:
        self.is_complete = True
