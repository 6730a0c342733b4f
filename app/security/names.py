"""How e-mail addresses and usernames compare: one key for every spelling of the same name."""

import re
import unicodedata

MIN_USERNAME = 3
_MAX_LOCAL_PART = 64  # octets (RFC 5321, 4.5.3.1.1)
_MAX_KEY = {"username": 200, "email": 640}  # characters: the widths of their columns

# Unicode's Default_Ignorable_Code_Point: nobody sees them, so that they tell no two names apart.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def folded(name: str) -> str:
    """Return the form in which e-mail addresses and usernames compare (NFKC_Casefold)."""
    visible = _INVISIBLE.sub("", name)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold()).strip()


def username_fault(username: str) -> str | None:
    """Return what is wrong with a username, as a sentence; None where it will do."""
    key = folded(username)
    if len(key) < MIN_USERNAME:
        return f"It must have at least {MIN_USERNAME} characters that can be seen"
    if len(key) > _MAX_KEY["username"]:
        return "It has letters that stand for too many others"
    return None


def email_fault(email: str) -> str | None:
    """Return why an address that mail could be sent to cannot be kept; None where it can."""
    if len(email.rpartition("@")[0].encode()) > _MAX_LOCAL_PART:
        return "It has too much before the @"
    if len(folded(email)) > _MAX_KEY["email"]:
        return "It has letters that stand for too many others"
    return None
