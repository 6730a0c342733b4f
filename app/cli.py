"""`kingpost`: everything that an operator or developer types."""

import argparse
import asyncio
import errno
import json
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from app.errors import DatabaseUnavailable, DomainError
from app.settings import Settings, refusals
from app.version import VERSION

if TYPE_CHECKING:  # each command imports what it needs: `kingpost version` is quick
    from app.adapters.database import Database

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed, 2 refused."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case None:
                parser.print_help()
                return 0
            case "version":
                print(VERSION)
                return 0
            case "settings":
                return _print_settings(as_env=options.env)
            case "doctor":
                from app.commands import doctor

                return doctor.run(options)
            case "new-resource":
                return _new_resource(options.name, options.fields, options.plural)
            case _:
                return _with_settings(options)
    except DatabaseUnavailable as error:
        cause = error.__cause__
        print(f"No database: {getattr(cause, 'orig', cause)}", file=sys.stderr)
        return 1
    except DomainError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # what a shell reports of a process that SIGINT ended


def _with_settings(options: argparse.Namespace) -> int:
    try:
        settings = Settings()
    except ValueError as error:
        print("The settings are refused:", *refusals(error), sep="\n  ", file=sys.stderr)
        return 2
    match options.command:
        case "serve":
            return _serve(settings)
        case "worker":
            return _work(settings)
        case "jobs":
            return _jobs(settings, options)
        case "migrate":
            return _check(settings) if options.check else _migrate(settings)
        case "create-admin":
            return _create_admin(settings, options)
        case "reset-second-factor":
            return _reset_second_factor(settings, options.login)
        case "seed":
            return _seed(settings, options)
        case "keys":
            from app.commands import keys

            return keys.run(settings, options)
        case _:
            return _print_openapi(settings, options.version)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kingpost", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="migrate and serve, in one process, for development")
    commands.add_parser("worker", help="run background jobs")
    jobs = commands.add_parser("jobs", help="list jobs, retry or forget failed ones")
    jobs.add_argument("act", choices=("list", "retry", "purge"))
    jobs.add_argument("ids", nargs="*", type=int, help="which; none: all failed ones")
    jobs.add_argument("--status", default="failed", help="which to list (default: failed)")
    migrate = commands.add_parser("migrate", help="bring the database to the newest revision")
    migrate.add_argument("--check", action="store_true", help="only say whether it is; 1 if not")
    admin = commands.add_parser("create-admin", help="create an admin; prints its password once")
    admin.add_argument("--username", required=True)
    admin.add_argument("--email", required=True)
    admin.add_argument(
        "--password-stdin", action="store_true", help="ask for the password, or read it from a pipe"
    )
    reset = commands.add_parser(
        "reset-second-factor", help="turn off the factor of somebody who has lost it"
    )
    reset.add_argument("login", help="username or e-mail address")
    seed = commands.add_parser("seed", help="fill the database with accounts and items")
    seed.add_argument("--users", type=int, default=100)
    seed.add_argument("--items", type=int, default=10_000)
    seed.add_argument(
        "--in-production", action="store_true", help="although everybody knows their password"
    )
    openapi = commands.add_parser("openapi", help="print the OpenAPI document")
    openapi.add_argument("--version", choices=("v1", "v2"))
    keys = commands.add_parser("keys", help="make, rotate and list the keys of access tokens")
    keys.add_argument("act", choices=("generate", "rotate", "list"))
    keys.add_argument("--algorithm", choices=("ES256", "RS256"), help="default: as before, ES256")
    keys.add_argument(
        "--after",
        type=int,
        # Kubernetes hands a changed secret on within two minutes; others keep what is published
        # for five.
        default=10,
        metavar="MINUTES",
        help="until a new key signs; every process has to know it by then (default: 10)",
    )
    resource = commands.add_parser("new-resource", help="write a resource in house style")
    resource.add_argument("name", help="its singular in snake_case, such as purchase_order")
    resource.add_argument(
        "fields", nargs="*", help="name:kind; str, text, int, money, bool, date, datetime"
    )
    resource.add_argument("--plural", help="where adding an s is not right")
    reference = commands.add_parser("settings", help="print every setting with its default")
    reference.add_argument("--env", action="store_true", help="as .env.example")
    doctor = commands.add_parser("doctor", help="look for what is wrong, and say how to mend it")
    doctor.add_argument("--json", action="store_true", help="as data")
    commands.add_parser("version", help="print the version")
    return parser


def _serve(settings: Settings) -> int:
    problem = _cannot_listen(settings)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    _upgrade(settings)
    # The output of a production is kept, and no password belongs there.
    password = None if settings.is_production else asyncio.run(_first_admin(settings))
    _greet(settings, password)
    import uvicorn

    from app import server

    uvicorn.run(
        "app.main:app",
        host=settings.host,
        port=settings.port,
        workers=1,  # else Uvicorn would read WEB_CONCURRENCY, which is Gunicorn's
        ws_ping_interval=settings.websocket_ping_seconds,
        timeout_graceful_shutdown=10,
        **server.OPTIONS,
    )
    return 0


def _work(settings: Settings) -> int:
    if not _is_migrated(settings):
        return 1
    import uvicorn

    from app.main import create_worker_app

    uvicorn.run(
        create_worker_app(settings),
        host=settings.host,
        port=settings.worker_port,
        workers=1,
        access_log=False,
        log_config=None,
    )
    return 0


def _jobs(settings: Settings, options: argparse.Namespace) -> int:
    from app.models.jobs import JobStatus

    if options.status not in set(JobStatus):
        print(f"--status is one of {', '.join(JobStatus)}", file=sys.stderr)
        return 2
    if not _is_migrated(settings):
        return 1
    asyncio.run(_look_after_jobs(settings, options))
    return 0


async def _look_after_jobs(settings: Settings, options: argparse.Namespace) -> None:
    from app.models.jobs import JobStatus
    from app.repositories.jobs import JobRepository

    async with _database(settings) as db, db.transaction() as connection:
        jobs = JobRepository(connection)
        match options.act:
            case "list":
                for job in await jobs.page(
                    owner_id=None, status=JobStatus(options.status), limit=1000
                ):
                    told = f"{job.id}  {job.kind}  {job.attempts} attempts  {job.error or ''}"
                    print(f"{job.created_at:%Y-%m-%d %H:%M}  {told}")
            case "retry":
                ids = options.ids or await jobs.failed_ids()
                retried = [each for each in ids if await jobs.retry(each)]
                print(f"Queued again: {len(retried)}")
            case _:
                print(f"Forgotten: {await jobs.purge(options.ids)}")


def _cannot_listen(settings: Settings) -> str | None:
    """Return why nothing can listen on the port, before anything else is begun."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"Port {settings.port} is taken; choose another: PORT={settings.port + 1}"
            where = f"HOST={settings.host} PORT={settings.port}"
            return f"Nothing can listen on {where}: {error.strerror}"
    return None


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
    before, after = _upgrade(settings)
    print(f"The database {'is' if before == after else 'is now'} at revision {after}.")
    return 0


def _check(settings: Settings) -> int:
    current, newest = asyncio.run(_revision(settings)), _revisions()[-1]
    is_current = _is_current(current)
    print(f"The database is at revision {current or 'none'}; the newest is {newest}.")
    return 0 if is_current else 1


def _upgrade(settings: Settings) -> tuple[str | None, str | None]:
    """Migrate where there is something to do; return the revisions before and after."""
    if not settings.database_url:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    current = asyncio.run(_revision(settings))
    if _is_current(current):
        return current, current
    from alembic import command
    from alembic.config import Config

    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = settings.sqlalchemy_url
    command.upgrade(config, "head")
    return current, _revisions()[-1]


async def _revision(settings: Settings) -> str | None:
    from app.repositories.schema import current_revision

    async with _database(settings) as db, db.read() as connection:
        return await current_revision(connection)


def _revisions() -> list[str]:
    """Return the revisions by their files' names: importing Alembic takes too long for a start."""
    return sorted(
        path.name.partition("_")[0] for path in (ROOT / "migrations/versions").glob("*_*.py")
    )


def _is_current(revision: str | None) -> bool:
    """One that we do not know is a newer one, and none of our business."""
    known = _revisions()
    return revision is not None and (revision == known[-1] or revision not in known)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator["Database"]:
    from app.adapters.database import Database

    db = Database(settings)
    try:
        yield db
    finally:
        await db.close()


def _is_migrated(settings: Settings) -> bool:
    if _is_current(asyncio.run(_revision(settings))):
        return True
    print("The database is not at the newest revision; first: kingpost migrate", file=sys.stderr)
    return False


async def _first_admin(settings: Settings) -> str | None:
    """Create an admin where there is none; return the password, which is kept nowhere."""
    from app.repositories.users import UserRepository
    from app.security.principal import Role

    async with _database(settings) as db, db.read() as connection:
        if await UserRepository(connection).count(role=Role.ADMIN, is_active=None, q=None):
            return None
    password = _new_password()
    await _add_admin(settings, "admin", "admin@example.com", password)
    return password


def _create_admin(settings: Settings, options: argparse.Namespace) -> int:
    from app.schemas.validation import field_errors

    if not _is_migrated(settings):
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
    from app.resources import secrets_of
    from app.schemas.auth import RegisterIn
    from app.security.passwords import PasswordHasher
    from app.security.principal import Role
    from app.services.accounts import Accounts

    body = RegisterIn(email=email, username=username, password=password, confirm_password=password)
    hasher = PasswordHasher(concurrency=1)
    try:
        async with _database(settings) as db:
            accounts = Accounts(db, hasher, secrets_of(settings)[0])
            await accounts.register(body, roles=(Role.ADMIN, Role.USER))
    finally:
        hasher.close()


def _reset_second_factor(settings: Settings, login: str) -> int:
    if not _is_migrated(settings):
        return 1
    asyncio.run(_reset(settings, login))
    print("The second factor is off, and the account's sessions have ended.")
    return 0


async def _reset(settings: Settings, login: str) -> None:
    from app.resources import secrets_of
    from app.security.sealing import Sealer
    from app.services.second_factor import SecondFactor

    async with _database(settings) as db:
        secret, _ = secrets_of(settings)
        sealer = Sealer([secret], "totp")
        factors = SecondFactor(db, secret, sealer, issuer=settings.second_factor_issuer)
        await factors.reset(await factors.owner(login))


def _seed(settings: Settings, options: argparse.Namespace) -> int:
    if settings.is_production and not options.in_production:
        print("Everybody knows the seeded accounts' password: --in-production", file=sys.stderr)
        return 2
    if not _is_migrated(settings):
        return 1
    asyncio.run(_fill(settings, options.users, options.items))
    print(f"Seeded {options.users} accounts and {options.items} items.")
    return 0


async def _fill(settings: Settings, users: int, items: int) -> None:
    from app.services.seeding import seed

    async with _database(settings) as db:
        await seed(db, users=users, items=items)


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
