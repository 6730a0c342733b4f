"""What a password must not be (NIST SP 800-63B, 5.1.1.2): short, common, or the account's name."""

import unicodedata
from functools import cache
from importlib.resources import files

MIN_PASSWORD = 8
MAX_PASSWORD = 128
_MIN_NAME = 3  # a shorter name would forbid too many good passwords


@cache
def common_passwords() -> frozenset[str]:
    """Return the commonest passwords, in lower case."""
    text = (files("app.security") / "common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("# "))


def weakness(password: str, username: str, email: str) -> str | None:
    """Return what is wrong with a password, as a sentence; None where it will do."""
    folded = _plain(password)
    if folded in common_passwords():
        return "This password is among the commonest; choose another one"
    if len(username) >= _MIN_NAME and _plain(username) in folded:
        return "The password must not contain the username"
    if folded in (_plain(email), _plain(email.partition("@")[0])):
        return "The password must not be the e-mail address"
    return None


def _plain(text: str) -> str:
    # What is hashed is the compatibility form: full-width letters hide no common password.
    return unicodedata.normalize("NFKC", text).casefold()
