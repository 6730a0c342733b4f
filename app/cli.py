"""`kingpost`: everything that an operator or developer types."""

import argparse
import asyncio
import json
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from app.settings import Settings
from app.version import VERSION

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 refused."""
    options = _parser().parse_args(arguments)
    os.chdir(os.environ.get("KINGPOST_HOME", Path.cwd()))
    if options.command == "version":
        print(VERSION)
        return 0
    if options.command == "settings":
        return _print_settings(as_env=options.env)
    if options.command == "new-resource":
        return _new_resource(options.name, options.fields, options.plural)
    try:
        settings = Settings()
    except ValidationError as error:
        print("The settings are refused:", file=sys.stderr)
        for each in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in each["loc"]).upper()
            print(f"  {name + ': ' if name else ''}{each['msg']}", file=sys.stderr)
        return 2
    match options.command:
        case "serve":
            return _serve(settings)
        case "migrate":
            return _migrate(settings)
        case "create-admin":
            return asyncio.run(_create_admin(settings, options.username, options.email))
        case "seed":
            return asyncio.run(_seed(settings, options.users, options.items))
        case _:
            return _print_openapi(settings, options.version)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kingpost", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="migrate and serve, in one process, for development")
    commands.add_parser("migrate", help="bring the database to the newest revision")
    admin = commands.add_parser("create-admin", help="create an admin; prints its password once")
    admin.add_argument("--username", required=True)
    admin.add_argument("--email", required=True)
    seed = commands.add_parser("seed", help="fill the database with accounts and items")
    seed.add_argument("--users", type=int, default=100)
    seed.add_argument("--items", type=int, default=10_000)
    openapi = commands.add_parser("openapi", help="print the OpenAPI document")
    openapi.add_argument("--version", choices=("v1", "v2"))
    resource = commands.add_parser("new-resource", help="write a resource in house style")
    resource.add_argument("name", help="its singular in snake_case, such as purchase_order")
    resource.add_argument(
        "fields", nargs="*", help="name:kind; str, text, int, bool, date, datetime"
    )
    resource.add_argument("--plural", help="where adding an s is not right")
    reference = commands.add_parser("settings", help="print every setting with its default")
    reference.add_argument("--env", action="store_true", help="as .env.example")
    commands.add_parser("version", help="print the version")
    return parser


def _serve(settings: Settings) -> int:
    if not _port_is_free(settings):
        print(f"Port {settings.port} is taken; choose another: PORT=8001", file=sys.stderr)
        return 1
    _migrate(settings)
    password = asyncio.run(_first_admin(settings))
    _greet(settings, password)
    import uvicorn

    from app import server

    uvicorn.run(
        "app.main:app",
        host=settings.host,
        port=settings.port,
        ws_ping_interval=settings.websocket_ping_seconds,
        timeout_graceful_shutdown=10,
        **server.OPTIONS,
    )
    return 0


def _port_is_free(settings: Settings) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError:
            return False
    return True


def _greet(settings: Settings, password: str | None) -> None:
    database = "SQLite in " + str(settings.data_dir) if not settings.database_url else "PostgreSQL"
    redis = "Redis by URL" if settings.redis_url else "in-process parts instead of Redis"
    address = f"http://localhost:{settings.port}"
    print(f"Kingpost {VERSION}: {database}, {redis}.")
    print(f"Console: {address}/   API: {address}/docs   Health: {address}/health")
    if password:
        print("First admin: admin@example.com (username admin)")
        print(f"Its password, shown this once: {password}", flush=True)


def _migrate(settings: Settings) -> int:
    if not settings.database_url:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if asyncio.run(_is_current(settings)):
        return 0
    from alembic import command
    from alembic.config import Config

    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = settings.sqlalchemy_url
    command.upgrade(config, "head")
    return 0


async def _is_current(settings: Settings) -> bool:
    """Compare file names with the database: importing Alembic takes longer than a start may."""
    from app.adapters.database import Database
    from app.repositories.schema import current_revision

    newest = max(path.name.partition("_")[0] for path in (ROOT / "migrations/versions").glob("*_*"))
    db = Database(settings)
    try:
        async with db.read() as connection:
            return await current_revision(connection) == newest
    finally:
        await db.close()


async def _first_admin(settings: Settings) -> str | None:
    """Create an admin where there is none; return the password, which is kept nowhere."""
    from app.adapters.database import Database
    from app.repositories.users import UserRepository
    from app.security.principal import Role

    db = Database(settings)
    try:
        async with db.read() as connection:
            if await UserRepository(connection).count(role=Role.ADMIN, is_active=None, q=None):
                return None
    finally:
        await db.close()
    return await _add_admin(settings, "admin", "admin@example.com")


async def _create_admin(settings: Settings, username: str, email: str) -> int:
    from app.errors import DomainError

    try:
        password = await _add_admin(settings, username, email)
    except (DomainError, ValidationError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Its password, shown this once: {password}")
    return 0


async def _add_admin(settings: Settings, username: str, email: str) -> str:
    from app.adapters.database import Database
    from app.resources import secrets_of
    from app.schemas.auth import RegisterIn
    from app.security.passwords import PasswordHasher
    from app.security.principal import Role
    from app.services.accounts import Accounts

    password = secrets.token_urlsafe(15)
    body = RegisterIn(email=email, username=username, password=password, confirm_password=password)
    db, hasher = Database(settings), PasswordHasher(concurrency=1)
    try:
        accounts = Accounts(db, hasher, secrets_of(settings)[0])
        await accounts.register(body, roles=(Role.ADMIN, Role.USER))
    finally:
        hasher.close()
        await db.close()
    return password


async def _seed(settings: Settings, users: int, items: int) -> int:
    from app.adapters.database import Database
    from app.services.seeding import seed

    db = Database(settings)
    try:
        await seed(db, users=users, items=items)
    finally:
        await db.close()
    print(f"Seeded {users} accounts and {items} items.")
    return 0


def _print_settings(*, as_env: bool) -> int:
    from app.scaffolding.settings_reference import env_example, markdown_table

    print(env_example() if as_env else markdown_table(), end="")
    return 0


def _new_resource(name: str, fields: Sequence[str], plural: str | None) -> int:
    from app.scaffolding.fields import Refused
    from app.scaffolding.new_resource import new_resource

    root = Path.cwd()
    try:
        written = new_resource(root, name, fields, plural=plural)
    except Refused as refused:
        print(f"Refused: {refused}.", file=sys.stderr)
        return 2
    print("Written:", *(str(path.relative_to(root)) for path in written), sep="\n  ")
    print("Next: make format check test")
    return 0


def _print_openapi(settings: Settings, version: str | None) -> int:
    from app.main import create_app
    from app.routers.docs import openapi_document

    prefix = f"/api/{version}/" if version else "/"
    print(json.dumps(openapi_document(create_app(settings), prefix), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
