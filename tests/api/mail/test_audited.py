"""What the audit log tells of what was done by links in mails."""

from tests.api.mail.mailbox import PostOffice
from tests.api.mail.test_addresses import CONFIRM, change, confirm, new_for
from tests.api.mail.test_recovery import reset, reset_token
from tests.api.test_audit import told_of
from tests.factories import admin, expect, new_user


async def test_what_is_done_by_mail_is_told(office: PostOffice) -> None:
    boss = await admin(office.client, office.app)
    tokens = await new_user(office.client)
    old, new = tokens.account.email, new_for(tokens)
    expect(await change(office, tokens), 202)
    for address in (old, new):
        await confirm(office, await office.token(address, CONFIRM))
    told = await told_of(office.client, boss, tokens.account.id)
    assert told[-2:] == ["email.change_asked", "email.changed"]


async def test_a_reset_is_told(office: PostOffice) -> None:
    boss = await admin(office.client, office.app)
    tokens = await new_user(office.client)
    assert await reset(office, await reset_token(office, tokens.account)) == 204
    told = await told_of(office.client, boss, tokens.account.id)
    assert told[-1] == "password.reset"
