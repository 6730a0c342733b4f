"""Who asks: the account behind a request, as far as authorisation needs to know it."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What an account may do beyond its own things."""

    USER = "user"
    ANALYST = "analyst"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """A signed-in account: its id, the session it came with and its roles as of now.

    `needs_second_factor`: an admin whose power waits for one, and is not among the roles.
    """

    user_id: int
    session_id: int
    roles: frozenset[Role]
    needs_second_factor: bool = False

    @property
    def is_admin(self) -> bool:
        """True where the account may read and change everybody's things."""
        return Role.ADMIN in self.roles
