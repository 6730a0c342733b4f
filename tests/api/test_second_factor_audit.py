"""What happens to a second factor is written down, and no code with it."""

from fastapi import FastAPI
from httpx import AsyncClient

from tests.api.second_factors import (
    TOTP,
    code_of,
    enrol,
    let_steps_pass,
    password_form,
    sign_in,
    wrong_code,
)
from tests.factories import admin, expect, new_user


async def test_the_life_of_a_second_factor_is_told_in_order(
    client: AsyncClient, app: FastAPI
) -> None:
    boss = await admin(client, app)
    enrolled = await enrol(client, app, await new_user(client))
    account, password = enrolled.account, enrolled.account.password
    wrong = wrong_code(enrolled.secret)
    assert (await password_form(client, account, otp=wrong)).status_code == 401
    expect(await sign_in(client, enrolled), 200)
    await let_steps_pass(app, account)
    expect(await sign_in(client, enrolled, enrolled.recovery_codes[0]), 200)
    body = {"password": password, "code": code_of(enrolled.secret)}
    path = f"{TOTP}/recovery-codes"
    expect(await client.post(path, json=body, headers=enrolled.headers), 200)
    await let_steps_pass(app, account)
    gone = await client.request("DELETE", TOTP, json=body, headers=enrolled.headers)
    assert gone.status_code == 204
    again = await enrol(client, app, enrolled.tokens)
    url = f"/api/v1/users/{account.id}/totp"
    assert (await client.delete(url, headers=boss.headers)).status_code == 204

    answers = [
        await client.get(f"/api/v1/audit?limit=100&{query}", headers=boss.headers)
        for query in (f"actor_id={account.id}", f"object=user:{account.id}")
    ]
    entries = {each["id"]: each for answer in answers for each in expect(answer, 200)["items"]}
    told = [entries[key] for key in sorted(entries)]
    assert [each["kind"] for each in told] == [
        "user.registered",
        "sign_in.succeeded",
        "second_factor.enabled",
        "second_factor.refused",
        "sign_in.succeeded",
        "recovery_code.used",
        "sign_in.succeeded",
        "recovery_codes.renewed",
        "second_factor.disabled",
        "second_factor.enabled",
        "second_factor.reset",
    ]
    ways = [each["detail"] for each in told if each["kind"] == "sign_in.succeeded"]
    assert ways == [{}, {"second_factor": True}, {"second_factor": True}]
    assert told[-1]["actor_id"] == boss.account.id
    written = "".join(answer.text for answer in answers)
    for secret in (enrolled.secret, again.secret, wrong, enrolled.recovery_codes[0]):
        assert secret not in written
