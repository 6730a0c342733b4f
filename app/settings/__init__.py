"""The whole configuration of a process; an unsafe production is refused by name."""

from app.settings.rules import refusals
from app.settings.settings import MailTls, Settings

__all__ = ["MailTls", "Settings", "refusals"]
