"""`kingpost create-admin` and `reset-second-factor`: accounts, by whoever holds the database."""

import argparse
import asyncio
import secrets
import sys
from getpass import getpass

from pydantic import ValidationError

from app.commands.migrate import is_migrated, opened
from app.repositories.users import UserRepository
from app.resources import secrets_of
from app.schemas.auth import RegisterIn
from app.schemas.validation import field_errors
from app.security.passwords import PasswordHasher
from app.security.principal import Role
from app.security.sealing import Sealer
from app.services.accounts import Accounts
from app.services.second_factor import SecondFactor
from app.settings import Settings


async def first_admin(settings: Settings) -> str | None:
    """Create an admin where there is none; return the password, which is kept nowhere."""
    async with opened(settings) as db, db.read() as connection:
        if await UserRepository(connection).count(role=Role.ADMIN, is_active=None, q=None):
            return None
    password = _new_password()
    await _add_admin(settings, "admin", "admin@example.com", password)
    return password


def create_admin(settings: Settings, options: argparse.Namespace) -> int:
    """Create an admin; return the exit code."""
    if not is_migrated(settings):
        return 1
    password = _read_password() if options.password_stdin else _new_password()
    try:
        asyncio.run(_add_admin(settings, options.username, options.email, password))
    except ValidationError as error:
        for each in field_errors(error.errors(include_url=False, include_input=False)):
            print(f"{each['field']}: {each['message']}", file=sys.stderr)
        return 1
    if not options.password_stdin:
        print(f"Its password, shown this once: {password}")
    return 0


def _new_password() -> str:
    return secrets.token_urlsafe(15)


def _read_password() -> str:
    """Ask without an echo on a terminal; an argument would show in the list of processes."""
    if sys.stdin.isatty():
        return getpass("Its password: ")
    return sys.stdin.readline().rstrip("\r\n")


async def _add_admin(settings: Settings, username: str, email: str, password: str) -> None:
    body = RegisterIn(email=email, username=username, password=password, confirm_password=password)
    hasher = PasswordHasher(concurrency=1)
    try:
        async with opened(settings) as db:
            accounts = Accounts(db, hasher, secrets_of(settings)[0])
            await accounts.register(body, roles=(Role.ADMIN, Role.USER))
    finally:
        hasher.close()


def reset_second_factor(settings: Settings, login: str) -> int:
    """Turn off the second factor of an account; return the exit code."""
    if not is_migrated(settings):
        return 1
    asyncio.run(_reset(settings, login))
    print("The second factor is off, and the account's sessions have ended.")
    return 0


async def _reset(settings: Settings, login: str) -> None:
    async with opened(settings) as db:
        known = secrets_of(settings)
        sealer = Sealer(known, "totp")
        factors = SecondFactor(db, known[0], sealer, issuer=settings.second_factor_issuer)
        await factors.reset(await factors.owner(login))
