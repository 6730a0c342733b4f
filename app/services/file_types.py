"""What a file is, told from its content; its name only tells one kind of text from another."""

import codecs
import json

HEAD_BYTES = 8192  # the content is told from these first bytes

_TEXTS = {
    ".csv": "text/csv",
    ".json": "application/json",
}
# What a browser would take for a page or a drawing that runs scripts, wherever it begins.
_MARKUP = (
    ("text/html", (b"<!doctype html", b"<html", b"<script", b"<head", b"<body", b"<iframe")),
    ("image/svg+xml", (b"<svg", b"<!doctype svg")),
)
_XML = b"<?xml"
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\b\x1b")


def content_type(head: bytes, name: str) -> str:
    """Return the media type of a content by its first `HEAD_BYTES` bytes."""
    import filetype

    kind = filetype.guess(head)
    if kind is not None:
        return str(kind.mime)
    if not _is_text(head):
        return "application/octet-stream"
    return _markup(head) or _kind_of_text(head, name)


def _is_text(head: bytes) -> bool:
    if any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in head):
        return False
    try:
        # The head may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD_BYTES)
    except UnicodeDecodeError:
        return False
    return True


def _markup(head: bytes) -> str | None:
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for kind, openings in _MARKUP:
        if text.startswith(openings) or (text.startswith((_XML, b"<!--")) and openings[0] in text):
            return kind
    return "application/xml" if text.startswith(_XML) else None


def _kind_of_text(head: bytes, name: str) -> str:
    kind = next((kind for end, kind in _TEXTS.items() if name.lower().endswith(end)), "text/plain")
    if kind == "application/json" and not _may_be_json(head):
        return "text/plain"
    return kind


def _may_be_json(head: bytes) -> bool:
    if len(head) == HEAD_BYTES:
        return head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[", b'"')
    try:
        json.loads(head)
    except (ValueError, RecursionError):
        return False
    return True
