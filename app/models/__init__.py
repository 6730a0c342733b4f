"""The tables. Importing this package makes all of them known to `metadata`."""

from importlib import import_module
from pkgutil import iter_modules

from app.models.base import metadata

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = ["metadata"]
