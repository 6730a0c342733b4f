"""Owners hear of sign-ins that are new and of a changed password; nobody is flooded."""

import pytest
from httpx import AsyncClient

from tests.api.mail.conftest import MakeOffice
from tests.api.mail.mailbox import PostOffice
from tests.conftest import MakeClient
from tests.factories import PASSWORD, Account, expect, new_user, register, sign_in

NOTICE = "A new sign-in to your account"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
)


@pytest.fixture
def at(office: PostOffice, make_client: MakeClient) -> "At":
    return At(office, make_client)


class At:
    """Clients at a place, with a device."""

    def __init__(self, office: PostOffice, make_client: MakeClient) -> None:
        self._office = office
        self._make_client = make_client

    def __call__(self, address: str, device: str = FIREFOX.format(140)) -> AsyncClient:
        headers = {"User-Agent": device}
        return self._make_client(self._office.app, address=address, headers=headers)


async def notices(office: PostOffice, account: Account) -> int:
    return (await office.subjects(account.email)).count(NOTICE)


async def test_a_new_place_or_device_is_told_of_once(office: PostOffice, at: At) -> None:
    home = at("198.51.100.20")
    account = await register(home)
    await sign_in(home, account)
    await sign_in(home, account)
    await sign_in(at("198.51.100.77", FIREFOX.format(141)), account)  # an update, next door
    assert await notices(office, account) == 0
    await sign_in(at("203.0.113.9"), account)
    assert await notices(office, account) == 1
    await sign_in(at("198.51.100.20", SAFARI), account)
    await sign_in(at("198.51.100.20", SAFARI), account)
    assert await notices(office, account) == 2
    text = (await office.inbox(account.email))[-1].text()
    assert "Safari on iPhone" in text
    assert "198.51.100.20" in text


async def test_a_wrong_password_sends_nothing(office: PostOffice, at: At) -> None:
    account = await register(at("198.51.100.20"))
    await sign_in(at("198.51.100.20"), account)
    form = {"username": account.username, "password": "a guess"}
    answer = await at("203.0.113.9").post("/api/v1/auth/token", data=form)
    assert answer.status_code == 401
    assert await notices(office, account) == 0


async def test_what_a_device_says_of_itself_is_not_repeated(office: PostOffice, at: At) -> None:
    account = await register(at("198.51.100.20"))
    await sign_in(at("198.51.100.20"), account)
    await sign_in(at("203.0.113.9", "<b>CANARY</b> https://evil.example/ Chrome/1"), account)
    mail = (await office.inbox(account.email))[-1]
    assert mail.message["Subject"] == NOTICE
    assert "CANARY" not in mail.message.as_string()
    assert "Device: Chrome\n" in mail.text().replace("\r\n", "\n")


async def test_a_thief_who_moves_about_floods_nobody(office: PostOffice, at: At) -> None:
    account = await register(at("198.51.100.20"))
    for number in range(12):
        await sign_in(at(f"203.0.{number}.9"), account)
    assert 1 <= await notices(office, account) <= 5


async def test_strangers_cannot_use_up_the_notices(
    make_office: MakeOffice, make_client: MakeClient
) -> None:
    office = await make_office(rate_limits_enabled=True, rate_limit_mail="1000/hour")
    at = At(office, make_client)
    account = await register(at("198.51.100.20"))
    await sign_in(at("198.51.100.20"), account)
    for _ in range(10):
        expect(await office.post("password/forgot", {"email": account.email}), 202)
        expect(await office.post("email/resend", {"email": account.email}), 202)
    await sign_in(at("203.0.113.9"), account)
    assert await notices(office, account) == 1


async def test_a_changed_password_is_told_of(office: PostOffice) -> None:
    tokens = await new_user(office.client)
    body = {"current_password": PASSWORD, "new_password": "x y z another phrase"}
    body["confirm_password"] = body["new_password"]
    answer = await office.post("password/change", body, headers=tokens.headers)
    assert answer.status_code == 204
    assert "Your password was changed" in await office.subjects(tokens.account.email)
