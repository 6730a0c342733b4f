"""What a sign-in gets whose password was right, until the second factor is proven as well."""

from datetime import timedelta

from app.clock import now
from app.models.second_factor import Challenge
from app.models.users import User
from app.security.opaque import digest, new_secret

CHALLENGE_LIFE = timedelta(minutes=5)
CHALLENGE_ATTEMPTS = 5


def new_challenge(user: User) -> tuple[str, Challenge]:
    """Return a challenge for a user whose password was right, and what is kept of it."""
    token = new_secret("kpc")
    kept = Challenge(digest(token), user.id, password_digest(user), 0, now() + CHALLENGE_LIFE)
    return token, kept


def password_digest(user: User) -> str:
    """Return what ties a challenge to the password that was right."""
    return digest(user.password_hash or "")
