"""fastapi-cache2's backends, without the rest of it.

Its packages import all that they can when they are opened: jinja2 and pendulum for a coder that is
not used here, and for DynamoDB all of AWS's client, which is installed for files in S3. That would
be 18 MB and 0.3 s for each process, so both packages are put in place without being run.
"""

import sys
from importlib.util import find_spec, module_from_spec

for _package in ("fastapi_cache", "fastapi_cache.backends"):
    _spec = find_spec(_package)
    if _spec is not None and _package not in sys.modules:
        sys.modules[_package] = module_from_spec(_spec)

from fastapi_cache.backends.redis import RedisBackend  # noqa: E402
from fastapi_cache.types import Backend  # noqa: E402

__all__ = ["Backend", "RedisBackend"]
