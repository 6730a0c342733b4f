"""fastapi-cache2's backends, without one that nobody here uses.

Its package imports every backend that it can. DynamoDB's brings all of AWS's client along, which is
installed for files in S3: 15 MB and 0.3 s for each process that never needs it.
"""

import sys

sys.modules.setdefault("fastapi_cache.backends.dynamodb", None)  # type: ignore[arg-type]

from fastapi_cache.backends.redis import RedisBackend  # noqa: E402
from fastapi_cache.types import Backend  # noqa: E402

__all__ = ["Backend", "RedisBackend"]
