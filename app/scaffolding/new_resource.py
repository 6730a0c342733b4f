"""Writes a new resource in house style, from its table to its tests."""

import ast
import builtins
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.models import metadata
from app.scaffolding.fields import FieldOf, Refused, check_name, parse_fields

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_DEFAULT_FIELDS = ("title:str", "notes:text")
_REVISION = re.compile(r"(\d{4})_.*\.py")
# Where each template goes.
_PLACES = {
    "model.py": "app/models/{plural}.py",
    "migration.py": "migrations/versions/{revision}_{plural}.py",
    "schema.py": "app/schemas/{plural}.py",
    "repository.py": "app/repositories/{plural}.py",
    "service.py": "app/services/{plural}.py",
    "router.py": "app/routers/{plural}.py",
    "test.py": "tests/api/test_{plural}.py",
    "rules.py": "tests/api/rules/{plural}.py",
}
# The columns and types that are ours; the others are SQLAlchemy's.
_OWN_TYPES = frozenset({"Money", "UtcDateTime"})


@dataclass(frozen=True)
class Naming:
    """One word in all the forms that the code needs."""

    singular: str
    plural: str

    @property
    def type(self) -> str:
        """The name of the class, such as `PurchaseOrder`."""
        return "".join(part.capitalize() for part in self.singular.split("_"))

    @property
    def words(self) -> str:
        """The name in a sentence, such as `purchase order`."""
        return self.singular.replace("_", " ")

    @property
    def many(self) -> str:
        """Several of them in a sentence."""
        return self.plural.replace("_", " ")

    @property
    def article(self) -> str:
        """`a` or `an`."""
        return "an" if self.singular[0] in "aeio" else "a"

    @property
    def path(self) -> str:
        """The segment of the URL, such as `purchase-orders`."""
        return self.plural.replace("_", "-")


def new_resource(
    root: Path, name: str, fields: Sequence[str] = (), *, plural: str | None = None
) -> list[Path]:
    """Write every file of a resource into a checkout and name it in `app/main.py`.

    Nothing is written unless all can be.

    Raises:
        Refused: a name or field cannot be, or a file is there already.
    """
    check_name(name)
    naming = Naming(name, plural or _plural_of(name))
    check_name(naming.plural)
    _check_free(naming)
    parsed = parse_fields(fields or _DEFAULT_FIELDS)
    main = root / "app/main.py"
    if not main.is_file():
        raise Refused(f"{root} is not a checkout of Kingpost")
    revision, previous = _next_revision(root / "migrations/versions")
    texts = _rendered(naming, parsed, revision, previous)
    written = {
        root / place.format(plural=naming.plural, revision=revision): texts[template]
        for template, place in _PLACES.items()
    }
    for path in written:
        if path.exists():
            raise Refused(f"{path.relative_to(root)} is there already")
    written[main] = _with_resource(main.read_text(encoding="utf-8"), naming.plural)
    before = main.read_bytes()
    try:
        for path, text in written.items():
            path.write_text(text, encoding="utf-8")
        _format(root, list(written))
    except BaseException:  # a full disk, Ctrl-C: half a resource is worse than none
        for path in written.keys() - {main}:
            path.unlink(missing_ok=True)
        main.write_bytes(before)
        raise
    return list(written)


def _check_free(naming: Naming) -> None:
    """Refuse words that the written code needs for something else."""
    if naming.plural == naming.singular:
        raise Refused("the plural must differ from the name; give it with --plural")
    if naming.plural in metadata.tables:
        raise Refused(f"there is a table {naming.plural!r} already")
    neutral = _rendered(Naming("probe", "probes"), parse_fields(_DEFAULT_FIELDS), "2", "1")
    needed = {*dir(builtins), *_names_in(neutral)}
    for word in (naming.singular, naming.plural, naming.type):
        if word in needed:
            raise Refused(f"{word!r} means something else in the code; take a longer name")


def _names_in(sources: Mapping[str, str]) -> set[str]:
    """Return every name that the sources import, define or use."""
    names: set[str] = set()
    for node in (node for source in sources.values() for node in ast.walk(ast.parse(source))):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add(other or name.partition(".")[0])
    return names


def _rendered(
    naming: Naming, fields: Sequence[FieldOf], revision: str, previous: str
) -> dict[str, str]:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - it writes Python, no HTML
    )
    values = {
        "it": naming,
        "fields": fields,
        "revision": revision,
        "previous": previous,
        "imported": _sqlalchemy_names(fields),
        "own_types": sorted(_OWN_TYPES & {"UtcDateTime", *(each.kind.column for each in fields)}),
        "kinds": {each.kind.python for each in fields},
        "schemas": " ".join(each.kind.schema for each in fields),
    }
    return {name: environment.get_template(f"{name}.jinja").render(values) for name in _PLACES}


def _sqlalchemy_names(fields: Sequence[FieldOf]) -> list[str]:
    own = {each.kind.column.partition("(")[0] for each in fields} - _OWN_TYPES
    shared = {"Column", "ForeignKey", "Index", "Integer", "Table", "text"}
    return sorted(own | shared)


def _format(root: Path, written: Sequence[Path]) -> None:
    """Wrap lines and sort imports, which depend on how long the names are."""
    ruff = Path(sys.executable).parent / "ruff"
    if not ruff.exists():  # only what runs the service is installed: `make format` brings it
        return
    names = [str(path) for path in written]
    for command in (("check", "--quiet", "--select", "I", "--fix"), ("format", "--quiet")):
        subprocess.run([ruff, *command, *names], cwd=root, check=True)  # noqa: S603 - our own


def _plural_of(name: str) -> str:
    if name.endswith("y") and name[-2:-1] not in tuple("aeiou"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "z", "ch", "sh")) else f"{name}s"


def _next_revision(folder: Path) -> tuple[str, str]:
    """Return the number of the next migration and of the one before it."""
    known = [found[1] for path in folder.iterdir() if (found := _REVISION.fullmatch(path.name))]
    newest = max(known)
    return f"{int(newest) + 1:04}", newest


def _with_resource(text: str, plural: str) -> str:
    """Return `app/main.py` with the router imported and the resource listed."""
    imports = re.search(r"from app\.routers import ([a-z_, ]+|\([a-z_,\s]+\))\n", text)
    listed = re.search(r"RESOURCES = \(\n(?:    \w+\.resource,\n)+", text)
    if imports is None or listed is None:
        raise Refused("app/main.py does not list its resources as it used to")
    names = sorted({*re.findall(r"\w+", imports[1]), plural})
    line = f"from app.routers import {', '.join(names)}\n"
    if len(line) > 101:
        line = "from app.routers import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"
    text = text.replace(listed[0], f"{listed[0]}    {plural}.resource,\n")
    return text.replace(imports[0], line)
