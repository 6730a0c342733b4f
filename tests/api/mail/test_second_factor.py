"""Owners hear of it when their second factor comes or goes, whoever did it."""

from tests.api.mail.mailbox import PostOffice
from tests.api.second_factors import TOTP, code_of, enrol
from tests.factories import admin, new_user

ON, OFF = "Your account has a second factor", "Your account has no second factor any more"


async def told(office: PostOffice, address: str) -> list[str]:
    return [each for each in await office.subjects(address) if each in (ON, OFF)]


async def test_the_owner_is_told_when_it_comes_and_goes(office: PostOffice) -> None:
    client = office.client
    enrolled = await enrol(client, office.app, await new_user(client))
    email = enrolled.account.email
    assert await told(office, email) == [ON]
    body = {"password": enrolled.account.password, "code": code_of(enrolled.secret)}
    gone = await client.request("DELETE", TOTP, json=body, headers=enrolled.headers)
    assert gone.status_code == 204
    assert await told(office, email) == [ON, OFF]
    for delivery in await office.inbox(email):
        assert enrolled.secret not in delivery.text()
        assert not any(code in delivery.text() for code in enrolled.recovery_codes)


async def test_the_owner_is_told_of_an_admins_reset_and_of_nothing_that_did_not_happen(
    office: PostOffice,
) -> None:
    client = office.client
    boss, plain = await admin(client, office.app), await new_user(client)
    enrolled = await enrol(client, office.app, await new_user(client))
    assert await told(office, enrolled.account.email) == [ON]  # mails may overtake each other
    for account in (enrolled.account, enrolled.account, plain.account):
        url = f"/api/v1/users/{account.id}/totp"
        assert (await client.delete(url, headers=boss.headers)).status_code == 204
    assert await told(office, enrolled.account.email) == [ON, OFF]
    assert await told(office, plain.account.email) == []
