"""`kingpost`: everything that an operator or developer types."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.errors import DatabaseUnavailable, DomainError
from app.settings import Settings, refusals
from app.version import VERSION

# Each command is imported where it is run: `kingpost version` is quick.


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
    except BrokenPipeError:  # as behind `| head`; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # and of one that SIGPIPE ended


def _with_settings(options: argparse.Namespace) -> int:
    try:
        settings = Settings()
    except ValueError as error:
        print("The settings are refused:", *refusals(error), sep="\n  ", file=sys.stderr)
        return 2
    match options.command:
        case "serve":
            from app.commands import serve

            return serve.serve(settings)
        case "worker":
            from app.commands import serve

            return serve.work(settings)
        case "jobs":
            from app.commands import jobs

            return jobs.run(settings, options)
        case "migrate":
            from app.commands import migrate

            return migrate.check(settings) if options.check else migrate.migrate(settings)
        case "create-admin":
            from app.commands import accounts

            return accounts.create_admin(settings, options)
        case "reset-second-factor":
            from app.commands import accounts

            return accounts.reset_second_factor(settings, options.login)
        case "seed":
            from app.commands import seed

            return seed.run(settings, options)
        case "keys":
            from app.commands import keys

            return keys.run(settings, options)
        case _:
            return _print_openapi(options.version)


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
    seed.add_argument("--users", type=_at_least_one, default=100)
    seed.add_argument("--items", type=_at_least_one, default=10_000)
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


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("is a number from 1 on")
    return int(text)


def _print_openapi(version: str | None) -> int:
    from app.main import openapi_document

    print(json.dumps(openapi_document(f"/api/{version}/" if version else "/"), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
