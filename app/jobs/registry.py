"""Every kind of job, found in the modules of this package."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import app.jobs
from app.jobs.definition import JobKind


@cache
def kinds() -> dict[str, JobKind]:
    """Return the kinds of jobs by their names."""
    found: dict[str, JobKind] = {}
    for module in iter_modules(app.jobs.__path__, f"{app.jobs.__name__}."):
        for each in vars(import_module(module.name)).values():
            if isinstance(each, JobKind):
                found[each.name] = each
    return found
