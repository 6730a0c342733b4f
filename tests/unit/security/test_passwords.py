"""Password hashing: argon2id off the loop, bounded, upgraded when its cost changes."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from passlib.context import CryptContext

from app.errors import Unavailable
from app.security.password_rules import common_passwords, weakness
from app.security.passwords import PasswordHasher

pytestmark = pytest.mark.costly_hashes


@pytest.fixture
def hasher() -> Iterator[PasswordHasher]:
    hasher = PasswordHasher(concurrency=2, max_waiting=4)
    yield hasher
    hasher.close()


async def test_a_hash_is_argon2id_at_the_cost_that_owasp_names(hasher: PasswordHasher) -> None:
    hashed = await hasher.hash("correct horse")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hashed != await hasher.hash("correct horse")


async def test_a_password_is_verified(hasher: PasswordHasher) -> None:
    hashed = await hasher.hash("cafe\u0301")
    assert (await hasher.verify("caf\u00e9", hashed)).ok
    assert not (await hasher.verify("cafe", hashed)).ok
    assert not (await hasher.verify("cafe", None)).ok


async def test_what_stands_in_for_no_account_is_a_hash_of_the_same_cost(
    hasher: PasswordHasher,
) -> None:
    real, stand_in = await hasher.hash("correct horse"), hasher._dummy
    assert stand_in.split("$")[:4] == real.split("$")[:4]
    assert [len(part) for part in stand_in.split("$")] == [len(p) for p in real.split("$")]
    assert not (await hasher.verify("", stand_in)).ok
    assert (await hasher.verify("correct horse", real)).ok


@pytest.mark.parametrize("damaged", ["", "x", "$argon2id$", "$2b$12$abc", "$argon2id$v=19$m=1$a$b"])
async def test_a_damaged_hash_opens_nothing(hasher: PasswordHasher, damaged: str) -> None:
    assert not (await hasher.verify("anything", damaged)).ok


async def test_a_hash_of_another_cost_is_made_anew(hasher: PasswordHasher) -> None:
    old = CryptContext(["argon2"], argon2__memory_cost=8192, argon2__time_cost=1).hash("horse")
    verification = await hasher.verify("horse", old)
    assert verification.ok
    assert verification.new_hash is not None
    assert "m=19456,t=2" in verification.new_hash
    again = await hasher.verify("horse", verification.new_hash)
    assert (again.ok, again.new_hash) == (True, None)


async def test_more_than_may_wait_are_told_to_come_back(hasher: PasswordHasher) -> None:
    results = await asyncio.gather(*(hasher.hash("x") for _ in range(12)), return_exceptions=True)
    refused = [each for each in results if isinstance(each, Unavailable)]
    assert len(refused) == 6
    assert refused[0].headers["Retry-After"] == "1"
    await hasher.hash("there is room again")


async def test_a_caller_that_left_still_counts_until_its_hash_is_done() -> None:
    hasher = PasswordHasher(concurrency=1, max_waiting=1)
    leaving = [asyncio.create_task(hasher.hash("x")) for _ in range(2)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    with pytest.raises(Unavailable):
        await hasher.hash("y")
    hasher.close()


async def test_the_loop_turns_on_while_passwords_are_hashed(hasher: PasswordHasher) -> None:
    async def longest_wait() -> float:
        longest, hashing = 0.0, asyncio.gather(*(hasher.hash("x") for _ in range(6)))
        while not hashing.done():
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)
        await hashing
        return longest

    # Six on the loop would hold it for longer than one of them, each time.
    for _ in range(5):
        if await longest_wait() < 0.25:
            return
    pytest.fail("the loop was held each time")


@pytest.mark.parametrize(
    "password", ["password", "PASSWORD", "12345678", "qwertyuiop", "iloveyou1"]
)
def test_the_commonest_passwords_are_weak(password: str) -> None:
    assert weakness(password, "ada", "ada@example.com")


def test_the_list_of_common_passwords_is_a_long_one() -> None:
    assert len(common_passwords()) > 9_000


@pytest.mark.parametrize(
    ("password", "is_weak"),
    [
        ("my-ada.lovelace-1815", True),
        ("ada@example.com", True),
        ("ADA@EXAMPLE.COM", True),
        ("difference engine", False),
        ("ad astra per aspera", False),
    ],
)
def test_a_password_is_not_the_account_itself(password: str, is_weak: bool) -> None:
    assert bool(weakness(password, "ada.lovelace", "ada@example.com")) is is_weak


def test_a_short_name_forbids_nothing() -> None:
    assert weakness("cascading abc waterfall", "ca", "x@example.com") is None
