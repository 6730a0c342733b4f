"""Password hashes: argon2id, off the event loop, and only so many at once."""

import asyncio
import os
import secrets
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from passlib.context import CryptContext
from passlib.exc import UnknownHashError

from app.errors import Unavailable

# OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane. About 17 ms.
CONTEXT = CryptContext(
    schemes=["argon2"],
    argon2__type="ID",
    argon2__memory_cost=19_456,  # KiB
    argon2__time_cost=2,
    argon2__parallelism=1,
)
_NICENESS = 10  # of one thread: only Linux gives each its own

Result = TypeVar("Result")


class Verification(NamedTuple):
    """Whether a password is right, and its new hash where the old one's cost is out of date."""

    ok: bool
    new_hash: str | None


class PasswordHasher:
    """Hashes in threads behind one limiter: each takes a core and 19 MiB while it runs."""

    def __init__(self, *, concurrency: int | None = None, max_waiting: int = 64) -> None:
        workers = concurrency or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(
            workers, thread_name_prefix="argon2", initializer=_give_way
        )
        self._max_in_flight = workers + max_waiting
        self._in_flight = 0
        self._dummy = _of_no_password()

    async def hash(self, password: str) -> str:
        """Return the hash of a new password.

        Raises:
            Unavailable: too many are waiting already.
        """
        return await self._run(_hash, password)

    async def verify(self, password: str, hashed: str | None) -> Verification:
        """Check a password; without a hash it takes the same time and is wrong.

        Raises:
            Unavailable: too many are waiting already.
        """
        result = await self._run(_verify, password, hashed or self._dummy)
        return result if hashed else Verification(ok=False, new_hash=None)

    def close(self) -> None:
        """Let running hashes end and start no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[..., Result], *arguments: str) -> Result:
        if self._in_flight >= self._max_in_flight:
            raise Unavailable("Too many sign-ins at once", retry_after=1)
        self._in_flight += 1
        future = self._threads.submit(function, *arguments)
        # Counted until the thread is done with it, also when the client has hung up meanwhile.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._landed))
        return await asyncio.wrap_future(future)

    def _landed(self) -> None:
        self._in_flight -= 1


def _of_no_password() -> str:
    """Return a hash that takes as long as any to verify, for accounts that do not exist."""
    digest = secrets.token_bytes(32)  # drawn: to compute one takes 20 ms of each start
    return str(CONTEXT.handler()(use_defaults=True, checksum=digest).to_string())


def _give_way() -> None:
    """Let the event loop's thread go first: others' p99 beside sign-ins falls by a third."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _hash(password: str) -> str:
    return str(CONTEXT.hash(_normalised(password)))


def _verify(password: str, hashed: str) -> Verification:
    try:
        ok, new_hash = CONTEXT.verify_and_update(_normalised(password), hashed)
    except (UnknownHashError, ValueError):  # a damaged hash opens nothing
        return Verification(ok=False, new_hash=None)
    return Verification(ok=bool(ok), new_hash=new_hash)


def _normalised(password: str) -> str:
    # NIST SP 800-63B, 5.1.1.2: the same characters typed on another keyboard are the same password.
    return unicodedata.normalize("NFKC", password)
