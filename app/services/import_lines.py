"""Splits a file that arrives in blocks into its lines, and the lines of CSV into its records.

Nothing here grows with the file. What is too long, or a quoted field that is never closed, costs
its own line and not the rest of the file.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

# An item with the longest fields, each character escaped as \uXXXX, takes 61 KiB.
MAX_LINE_BYTES = 64 * 1024
TOO_LONG = f"The line is longer than {MAX_LINE_BYTES} bytes"
UNCLOSED = f"A quoted field that begins in this line is not closed within {MAX_LINE_BYTES} bytes"
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line of the file, or a record of several."""

    number: int  # of its first line, from 1
    last: int  # of its last line
    end: int  # the byte of the file after it
    content: bytes
    defect: str | None = None  # why it cannot be read


class Lines:
    """Splits blocks into lines; starts anew at any line whose number and first byte are known."""

    def __init__(self, *, number: int = 1, offset: int = 0) -> None:
        self._number = number
        self._offset = offset
        self._tail = b""
        self._dropped = 0  # bytes of a line that is too long

    def feed(self, block: bytes) -> list[Line]:
        """Return the lines that a block completes."""
        pieces = (self._tail + block).split(b"\n")
        self._tail = pieces.pop()
        found = [self._completed(piece, ended=1) for piece in pieces]
        if len(self._tail) > MAX_LINE_BYTES:
            self._dropped += len(self._tail)
            self._tail = b""
        return found

    def finish(self) -> list[Line]:
        """Return the last line, where no line break ends it."""
        if not self._tail and not self._dropped:
            return []
        last, self._tail = self._tail, b""
        return [self._completed(last, ended=0)]

    def _completed(self, piece: bytes, *, ended: int) -> Line:
        size, self._dropped = self._dropped + len(piece), 0
        number = self._number
        self._number += 1
        self._offset += size + ended
        if size > MAX_LINE_BYTES:
            return Line(number, number, self._offset, b"", TOO_LONG)
        content = piece.removeprefix(_BOM) if number == 1 else piece
        return Line(number, number, self._offset, content)


class Records:
    """Joins the lines of CSV into records: a quoted field may go on over several (RFC 4180)."""

    def __init__(self) -> None:
        self._begun: list[Line] = []
        self._size = 0
        self._is_open = False

    def join(self, lines: Iterable[Line], *, is_last: bool = False) -> list[Line]:
        """Return the records that these lines complete; with `is_last`, nothing follows them."""
        found: list[Line] = []
        waiting = deque(lines)
        while waiting or (is_last and self._begun):
            if not waiting:
                found.append(self._give_up(waiting))
                continue
            line = waiting.popleft()
            if line.defect and not self._begun:
                found.append(line)
            elif line.defect or self._size + len(line.content) > MAX_LINE_BYTES:
                waiting.appendleft(line)
                found.append(self._give_up(waiting))
            else:
                self._add(line, found)
        return found

    def _add(self, line: Line, found: list[Line]) -> None:
        self._begun.append(line)
        self._size += len(line.content) + 1
        self._is_open = quote_is_open(line.content, self._is_open)
        if self._is_open:
            return
        content = b"\n".join([each.content for each in self._begun])
        found.append(Line(self._begun[0].number, line.last, line.end, content))
        self._forget()

    def _give_up(self, waiting: deque[Line]) -> Line:
        """Refuse the line that a record began in, and look at those after it once more."""
        first, *rest = self._begun
        waiting.extendleft(reversed(rest))
        self._forget()
        return first._replace(content=b"", defect=UNCLOSED)

    def _forget(self) -> None:
        self._begun.clear()
        self._size = 0
        self._is_open = False


def quote_is_open(line: bytes, is_open: bool) -> bool:
    """Tell whether a quoted field goes on beyond a line, given whether one was open before it."""
    at = 0
    while True:
        if is_open:
            at = line.find(b'"', at)
            if at < 0:
                return True
            if line.startswith(b'""', at):
                at += 2
            else:
                at, is_open = at + 1, False
        elif at == 0 and line.startswith(b'"'):
            at, is_open = 1, True
        else:
            at = line.find(b',"', at)
            if at < 0:
                return False
            at, is_open = at + 2, True
