"""Spans of traces, as adapters see them: begun by a function that was given, ended with a block."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Begins the span of a statement; None where nothing is traced. What it returns ends it.
End = Callable[[BaseException | None], None]
Begin = Callable[[str], End | None]


@contextmanager
def ended(end: End | None) -> Iterator[None]:
    """End a span with the block, however that ends."""
    try:
        yield
    except BaseException as error:
        if end:
            end(error)
        raise
    if end:
        end(None)
