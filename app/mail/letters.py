"""What is written in each kind of mail, as text and as HTML, from the templates beside this file.

No letter calls anybody by name: a stranger may have chosen it, and mail programs make links of
names that look like addresses.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jinja2 import Environment


class Letter(StrEnum):
    """The kinds of mail; each has two templates of its name."""

    VERIFY = "verify"
    RESET = "reset"
    EMAIL_OLD = "email_old"
    EMAIL_NEW = "email_new"
    EMAIL_TAKEN = "email_taken"
    EMAIL_CHANGED = "email_changed"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - the name of a letter
    SECOND_FACTOR_ON = "second_factor_on"
    SECOND_FACTOR_OFF = "second_factor_off"
    NEW_SIGN_IN = "new_sign_in"
    WEBHOOK_DISABLED = "webhook_disabled"


SUBJECTS: Mapping[Letter, str] = {
    Letter.VERIFY: "Confirm your e-mail address",
    Letter.RESET: "Set a new password",
    Letter.EMAIL_OLD: "Your e-mail address is about to change",
    Letter.EMAIL_NEW: "Confirm your new e-mail address",
    Letter.EMAIL_TAKEN: "You have an account already",
    Letter.EMAIL_CHANGED: "Your e-mail address was changed",
    Letter.PASSWORD_CHANGED: "Your password was changed",
    Letter.SECOND_FACTOR_ON: "Your account has a second factor",
    Letter.SECOND_FACTOR_OFF: "Your account has no second factor any more",
    Letter.NEW_SIGN_IN: "A new sign-in to your account",
    Letter.WEBHOOK_DISABLED: "A webhook of yours was switched off",
}


class Content(NamedTuple):
    """A letter, ready to be sent."""

    subject: str
    text: str
    html: str


def render(letter: Letter, public_url: str, facts: Mapping[str, str]) -> Content:
    """Return a letter with its facts filled in; links lead to the service's public address."""
    environment = _environment()
    values = {
        **facts,
        "subject": SUBJECTS[letter],
        "place": public_url,
        "link": partial(link, public_url),
    }
    return Content(
        SUBJECTS[letter],
        environment.get_template(f"{letter}.txt").render(values),
        environment.get_template(f"{letter}.html").render(values),
    )


def link(public_url: str, action: str, token: str) -> str:
    """Return where a person confirms something.

    The token stands behind the `#`: browsers send that to nobody, so that it is in no log, and the
    scanners of mail servers, which follow links, spend nothing.
    """
    return f"{public_url.rstrip('/')}/#{action}={token}"


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
