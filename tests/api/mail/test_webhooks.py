"""The owner of a webhook that was switched off for its answers is written to, once."""

from tests.api.hooks import hooked
from tests.api.mail.mailbox import PostOffice
from tests.factories import create_item, new_user
from tests.receivers import answering, receiving


async def test_who_is_switched_off_gets_one_mail_that_names_the_host_alone(
    office: PostOffice,
) -> None:
    owner = await new_user(office.client)
    async with receiving() as receiver:
        receiver.answer = answering(410)
        async with hooked(office.client, owner, receiver, "item.created") as hook:
            for _ in range(3):
                await create_item(office.client, owner)
            await hook.settled("failed")
            letters = [
                each.text()
                for each in await office.inbox(owner.account.email)
                if each.message["Subject"] == "A webhook of yours was switched off"
            ]
    (text,) = letters
    assert f"127.0.0.1:{receiver.port} " in text
    assert "410" in text
    assert "/hook" not in text  # a path may be a secret
