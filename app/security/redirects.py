"""Where a browser may be sent: to a page of our own, or of an origin that settings name."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

# No backslash, which browsers read as a slash; no control character or blank, which they drop; and
# no fragment, which we add ourselves.
_PLAIN = re.compile(r"[A-Za-z0-9\-._~:/?@!$&'()*+,;=%\[\]]{1,1000}")


def is_safe_redirect(target: str, origins: Collection[str]) -> bool:
    """Tell whether a target is a path of our own, or an address of one of these origins."""
    if not _PLAIN.fullmatch(target):
        return False
    if target.startswith("/"):
        return not target.startswith("//")  # //evil.example is an address
    try:
        parts = urlsplit(target)
    except ValueError:
        return False
    return f"{parts.scheme}://{parts.netloc}" in origins
