"""The version of the service, as its package says it."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("kingpost")
except PackageNotFoundError:  # run from a plain checkout
    VERSION = "0.1.0"
