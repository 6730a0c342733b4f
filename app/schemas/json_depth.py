"""How deep JSON is nested, told before it is parsed."""

from app.errors import Unprocessable


class JsonDepth:
    """Measures how deep JSON is nested, chunk by chunk, without parsing it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._openings = 0
        self._seen = b""
        self._is_exact = False
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes.

        Raises:
            Unprocessable: more levels are open than the limit.
        """
        if not self._is_exact:
            # Fewer brackets than levels allowed: no need to look closer.
            self._openings += chunk.count(b"[") + chunk.count(b"{")
            self._seen += chunk
            if self._openings <= self._limit:
                return
            self._is_exact, chunk, self._seen = True, self._seen, b""
        for byte in chunk:
            self._step(byte)

    def _step(self, byte: int) -> None:
        if self._in_string:
            if self._is_escaped:
                self._is_escaped = False
            elif byte == 0x5C:
                self._is_escaped = True
            elif byte == 0x22:
                self._in_string = False
        elif byte == 0x22:
            self._in_string = True
        elif byte in (0x5B, 0x7B):
            self._depth += 1
            if self._depth > self._limit:
                message = f"JSON may be nested at most {self._limit} levels deep"
                raise Unprocessable.field("body", message, "json_depth")
        elif byte in (0x5D, 0x7D):
            self._depth -= 1
