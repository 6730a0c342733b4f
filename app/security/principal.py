"""Who asks: the account behind a request, as far as authorisation needs to know it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from app.security.scopes import Scope


class Role(StrEnum):
    """What an account may do beyond its own things."""

    USER = "user"
    ANALYST = "analyst"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """The API key that an account came with: it narrows what the account may do."""

    key_id: int
    digest: str = field(repr=False)  # of the secret that was sent, the new one or the old
    scopes: frozenset[Scope]
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Principal:
    """An account that has proven who it is, with its roles as of now.

    It came with a session, or with an API key and no session (`session_id` is 0 then).
    `needs_second_factor`: an admin whose power waits for one, and is not among the roles.
    """

    user_id: int
    session_id: int
    roles: frozenset[Role]
    key: KeyGrant | None = None
    needs_second_factor: bool = False

    @property
    def is_admin(self) -> bool:
        """True where the account may read and change everybody's things."""
        return Role.ADMIN in self.roles
