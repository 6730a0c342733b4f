"""The audit log: every security-relevant act is in it, whole, and nothing ever leaves it early."""

import json
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from app.clock import now
from app.models.audit import AuditKind, audit_log, audit_sweeps
from app.repositories.audit import Act, AuditFilter, AuditRepository, record
from app.repositories.users import UserRepository
from app.services.retention import sweep
from tests.api.test_refresh import let_grace_pass
from tests.conftest import MakeClient
from tests.factories import PASSWORD, Tokens, admin, expect, new_user, register, sign_in

AUDIT = "/api/v1/audit"
WRONG = "a-wrong-and-secret-guess"


async def entries(client: AsyncClient, boss: Tokens, query: str = "") -> list[dict[str, Any]]:
    answer = expect(await client.get(f"{AUDIT}?limit=100{query}", headers=boss.headers), 200)
    found: list[dict[str, Any]] = answer["items"]
    return found


async def told_of(client: AsyncClient, boss: Tokens, account_id: int) -> list[str]:
    """Return the kinds of all that was done by or to an account, the oldest first."""
    by = await entries(client, boss, f"&actor_id={account_id}")
    to = await entries(client, boss, f"&object=user:{account_id}")
    found = {each["id"]: each["kind"] for each in (*by, *to)}
    return [found[key] for key in sorted(found)]


async def test_the_life_of_an_account_is_told_in_order(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    tokens = await new_user(client)
    me, url = tokens.account, f"/api/v1/users/{tokens.account.id}"
    wrong = {"username": me.username, "password": WRONG}
    assert (await client.post("/api/v1/auth/token", data=wrong)).status_code == 401
    body = {"current_password": WRONG, "new_password": "another-violet-74", **{}}
    body["confirm_password"] = body["new_password"]
    change = "/api/v1/auth/password/change"
    assert (await client.post(change, json=body, headers=tokens.headers)).status_code == 422
    body["current_password"] = PASSWORD
    assert (await client.post(change, json=body, headers=tokens.headers)).status_code == 204
    await client.patch("/api/v1/users/me", json={"full_name": "A"}, headers=tokens.headers)
    await client.patch(url, json={"roles": ["analyst"]}, headers=boss.headers)
    await client.post("/api/v1/auth/logout", headers=tokens.headers)
    await client.post(f"{url}/suspend", json={"reason": "Spam"}, headers=boss.headers)
    await client.post(f"{url}/unsuspend", headers=boss.headers)
    await client.delete(url, headers=boss.headers)
    assert await told_of(client, boss, me.id) == [
        "user.registered",
        "sign_in.succeeded",
        "sign_in.failed",
        "password.refused",
        "password.changed",
        "user.changed",
        "user.roles_changed",
        "session.signed_out",
        "user.suspended",
        "user.unsuspended",
        "user.deleted",
    ]


async def test_an_entry_says_who_did_what_to_which_object_from_where(
    client: AsyncClient, app: FastAPI, make_client: MakeClient
) -> None:
    boss = await admin(client, app)
    sessions = await client.get("/api/v1/auth/sessions", headers=boss.headers)
    session_id = sessions.json()["items"][0]["id"]
    someone = await register(client)
    away = make_client(app, address="203.0.113.77", headers={"User-Agent": "Browser\t1"})
    answer = await away.patch(
        f"/api/v1/users/{someone.id}",
        json={"roles": ["user", "analyst"]},
        headers={**boss.headers, "X-Request-ID": f"r-{someone.id}"},
    )
    assert answer.status_code == 200
    entry = (await entries(client, boss, f"&object=user:{someone.id}"))[0]
    assert {**entry, "id": 0, "created_at": ""} == {
        "id": 0,
        "kind": "user.roles_changed",
        "actor_id": boss.account.id,
        "credential": f"session:{session_id}",
        "object_type": "user",
        "object_id": someone.id,
        "address": "203.0.113.77",
        "user_agent": "Browser 1",
        "request_id": f"r-{someone.id}",
        "detail": {"from": ["user"], "to": ["analyst", "user"]},
        "created_at": "",
    }


async def test_sessions_that_end_are_told_apart(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    tokens = await new_user(client)
    other = await sign_in(client, tokens.account)
    listed = await client.get("/api/v1/auth/sessions", headers=tokens.headers)
    ids = {each["is_current"]: each["id"] for each in listed.json()["items"]}
    await client.delete(f"/api/v1/auth/sessions/{ids[False]}", headers=tokens.headers)
    assert (await client.get("/api/v1/users/me", headers=other.headers)).status_code == 401
    refresh = "/api/v1/auth/refresh"
    await client.post(refresh, json={"refresh_token": tokens.refresh})
    await let_grace_pass(app, tokens)
    answer = await client.post(refresh, json={"refresh_token": tokens.refresh})
    assert answer.json()["error_code"] == "TOKEN_REUSED"
    again = await sign_in(client, tokens.account)
    await client.post("/api/v1/auth/logout-all", headers=again.headers)
    told = await told_of(client, boss, tokens.account.id)
    assert told[-4:] == [
        "session.ended",
        "session.token_reused",
        "sign_in.succeeded",
        "session.signed_out_everywhere",
    ]
    reused = await entries(client, boss, f"&object=session:{ids[True]}")
    assert [each["kind"] for each in reused] == ["session.token_reused", "sign_in.succeeded"]
    assert {each["actor_id"] for each in reused} == {tokens.account.id}


async def test_api_keys_are_told_and_so_is_what_is_done_by_one(
    client: AsyncClient, app: FastAPI
) -> None:
    boss, tokens = await admin(client, app), await new_user(client)
    keys = "/api/v1/auth/api-keys"
    body = {"name": "Robot", "scopes": ["users:write"]}
    made = expect(await client.post(keys, json=body, headers=tokens.headers), 201)
    by_key = {"X-API-Key": made["secret"]}
    await client.patch("/api/v1/users/me", json={"full_name": "A"}, headers=by_key)
    await client.post(f"{keys}/{made['id']}/rotate", json={}, headers=tokens.headers)
    await client.delete(f"{keys}/{made['id']}", headers=tokens.headers)
    told = await entries(client, boss, f"&actor_id={tokens.account.id}")
    assert [each["kind"] for each in told[:4]] == [
        "api_key.revoked",
        "api_key.rotated",
        "user.changed",
        "api_key.created",
    ]
    assert told[2]["credential"] == f"api_key:{made['id']}"
    assert made["secret"] not in json.dumps(told)


async def test_webhooks_are_told(client: AsyncClient, app: FastAPI) -> None:
    boss, tokens = await admin(client, app), await new_user(client)
    hooks = "/api/v1/webhooks"
    body = {"url": "https://198.51.100.7/hook", "events": ["item.created"]}
    answer = await client.post(hooks, json=body, headers=tokens.headers)
    made = expect(answer, 201)
    url = f"{hooks}/{made['id']}"
    await client.patch(url, json={"is_active": False}, headers=tokens.headers)
    rotated = await client.post(f"{url}/secret/rotate", headers=tokens.headers)
    await client.delete(url, headers=tokens.headers)
    told = await entries(client, boss, f"&object=webhook:{made['id']}")
    assert [each["kind"] for each in told] == [
        "webhook.deleted",
        "webhook.rotated",
        "webhook.changed",
        "webhook.created",
    ]
    assert told[2]["detail"] == {"is_active": False}
    for secret in (made["secret"], expect(rotated, 200)["secret"]):
        assert secret not in json.dumps(told)


async def test_guesses_and_locks_are_told_and_what_was_typed_is_not(
    client: AsyncClient, app: FastAPI, make_client: MakeClient
) -> None:
    boss = await admin(client, app)
    victim = await register(client)
    guesser = make_client(app, address="198.51.100.9")
    for name in (victim.username, "hunter2-typed-as-a-name"):
        answers = [
            await guesser.post("/api/v1/auth/token", data={"username": name, "password": WRONG})
            for _ in range(6)
        ]
        assert answers[-1].status_code == 429
    told = await entries(client, boss, f"&object=user:{victim.id}")
    assert [each["kind"] for each in told] == [
        "sign_in.locked_out",
        *["sign_in.failed"] * 5,
        "user.registered",
    ]
    assert {each["actor_id"] for each in told} == {None}
    unknown = [
        each
        for each in await entries(client, boss, "&kind=sign_in.failed")
        if each["address"] == "198.51.100.9" and each["object_id"] is None
    ]
    assert len(unknown) == 5
    async with app.state.resources.db.read() as connection:
        rows = (await connection.execute(select(audit_log))).all()
    everything = json.dumps([tuple(row) for row in rows], default=str)
    for secret in (WRONG, "hunter2", PASSWORD, victim.username, victim.email):
        assert secret not in everything


async def test_an_act_that_is_undone_was_not_done(app: FastAPI) -> None:
    db = app.state.resources.db
    act = Act(AuditKind.USER_CHANGED, "user", 2**60)

    async def act_and_fail() -> None:
        async with db.transaction() as connection:
            await record(connection, act)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await act_and_fail()
    async with db.read() as connection:
        wanted = AuditFilter(object_type="user", object_id=2**60)
        assert await AuditRepository(connection).page(wanted, limit=1) == []


async def test_without_its_record_no_act_is_done(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss, someone = await admin(client, app), await register(client)

    async def broken(*_: object) -> None:
        raise RuntimeError("no room for the log")

    monkeypatch.setattr("app.services.accounts.record", broken)
    url = f"/api/v1/users/{someone.id}"
    answer = await client.patch(url, json={"roles": ["admin"]}, headers=boss.headers)
    assert answer.status_code == 500
    async with app.state.resources.db.read() as connection:
        user = await UserRepository(connection).get(someone.id)
    assert user is not None
    assert user.roles == ["user"]


REFUSED = {
    "a change": update(audit_log).values(actor_id=1),
    "a deletion": delete(audit_log),
    "a deletion by SQL": text("DELETE FROM audit_log WHERE id = (SELECT max(id) FROM audit_log)"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_the_database_refuses_to_change_or_forget(
    client: AsyncClient, app: FastAPI, name: str
) -> None:
    await register(client)
    db = app.state.resources.db
    with pytest.raises(DBAPIError, match="append-only"):
        async with db.transaction() as connection:
            await connection.execute(REFUSED[name])


@pytest.mark.only("production")
async def test_the_log_cannot_be_emptied(client: AsyncClient, app: FastAPI) -> None:
    await register(client)
    with pytest.raises(DBAPIError, match="append-only"):
        async with app.state.resources.db.transaction() as connection:
            await connection.execute(text("TRUNCATE audit_log"))


@pytest.mark.only("production")
async def test_a_table_of_ones_own_opens_no_gate(client: AsyncClient, app: FastAPI) -> None:
    await register(client)

    async def pretend_to_sweep() -> None:
        async with app.state.resources.db.transaction() as connection:
            temporary = "CREATE TEMPORARY TABLE audit_sweeps ON COMMIT DROP AS SELECT 1 AS id"
            await connection.execute(text(temporary))
            await connection.execute(delete(audit_log))

    with pytest.raises(DBAPIError, match="append-only"):
        await pretend_to_sweep()


async def test_not_even_the_sweep_can_change_an_entry(client: AsyncClient, app: FastAPI) -> None:
    await register(client)

    async def sweep_and_change() -> None:
        async with app.state.resources.db.transaction() as connection:
            await connection.execute(insert(audit_sweeps).values(id=1))
            await connection.execute(update(audit_log).values(actor_id=1))

    with pytest.raises(DBAPIError, match="append-only"):
        await sweep_and_change()


@pytest.mark.usefixtures("clean_database")
async def test_the_sweep_forgets_what_is_old_and_closes_the_gate(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, a_year = app.state.resources.db, timedelta(days=365)
    with monkeypatch.context() as patch:
        patch.setattr("app.repositories.audit.now", lambda: now() - timedelta(days=366))
        await register(client)
    await register(client)
    assert (await sweep(db, a_year, a_year))["audit"] == 1
    async with db.read() as connection:
        counts = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (audit_log, audit_sweeps)
        ]
    assert counts == [1, 0]
    with pytest.raises(DBAPIError, match="append-only"):
        async with db.transaction() as connection:
            await connection.execute(delete(audit_log))


async def test_the_filters_narrow_the_log(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    before = now().isoformat().replace("+00:00", "Z")
    tokens = await new_user(client)
    me = tokens.account.id
    mine = await entries(client, boss, f"&actor_id={me}&kind=sign_in.succeeded")
    assert [each["object_type"] for each in mine] == ["session"]
    assert await entries(client, boss, f"&object=user:{me}&until={before}") == []
    since = await entries(client, boss, f"&object=user&since={before}")
    assert {(each["object_type"], each["created_at"] >= before) for each in since} == {
        ("user", True)
    }
    moments = [each["created_at"] for each in await entries(client, boss)]
    assert moments == sorted(moments, reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        "actor_id=0",
        "actor_id=99999999999999999999",
        "kind=nothing",
        "object=user:",
        "object=user:0",
        "object=user:9999999999999999999",
        "object=USER",
        "object=%00",
        "since=yesterday",
        "since=2026-01-01T00:00:00",
        "until=0001-01-01T00:00:00%2B14:00",
        "until=9999-12-31T23:59:59-14:00",
        "limit=101",
    ],
)
async def test_an_odd_filter_is_refused(client: AsyncClient, app: FastAPI, query: str) -> None:
    boss = await admin(client, app)
    assert (await client.get(f"{AUDIT}?{query}", headers=boss.headers)).status_code == 422


async def test_pages_by_cursor_miss_and_repeat_nothing(client: AsyncClient, app: FastAPI) -> None:
    boss = await admin(client, app)
    tokens = await new_user(client)
    me, db = tokens.account.id, app.state.resources.db
    async with db.transaction() as connection:  # all at the very same moment
        acts = [Act(AuditKind.EXPORTED, "user", me, detail={"n": n}) for n in range(7)]
        await record(connection, *acts)
    url, seen = f"/api/v2/audit?object=user:{me}&kind=user.exported&limit=3", []
    cursor = ""
    while True:
        page = expect(await client.get(url + cursor, headers=boss.headers), 200)
        seen += [each["detail"]["n"] for each in page["items"]]
        async with db.transaction() as connection:  # newer ones do not push the pages
            await record(connection, Act(AuditKind.EXPORTED, "user", me, detail={"n": 99}))
        if not page["hasMore"]:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == [6, 5, 4, 3, 2, 1, 0]
    other = await client.get(f"/api/v2/audit?limit=3{cursor}", headers=boss.headers)
    assert expect(other, 400)["error_code"] == "INVALID_CURSOR"


@pytest.mark.only("production")
@pytest.mark.usefixtures("clean_database")
@pytest.mark.parametrize(
    ("condition", "index"),
    [
        ("true", "ix_audit_log_created_at_id"),
        ("created_at < '2026-02-01'", "ix_audit_log_created_at_id"),
        ("actor_id = 7", "ix_audit_log_actor_id_created_at_id"),
        ("kind = 'k7'", "ix_audit_log_kind_created_at_id"),
        ("object_type = 'user' AND object_id = 7", "ix_audit_log_object"),
    ],
)
async def test_every_filter_has_its_index(app: FastAPI, condition: str, index: str) -> None:
    async with app.state.resources.db.transaction() as connection:
        await connection.execute(
            text(
                "INSERT INTO audit_log (kind, actor_id, object_type, object_id, detail, created_at)"
                " SELECT 'k' || n % 50, n % 100, 'user', n % 100, '{}',"
                " timestamptz '2026-01-01' + n * interval '1 minute'"
                " FROM generate_series(1, 100000) n"
            )
        )
        await connection.execute(text("ANALYZE audit_log"))
        plan = await connection.execute(
            text(
                f"EXPLAIN SELECT * FROM audit_log WHERE {condition}"
                " ORDER BY created_at DESC, id DESC LIMIT 20"
            )
        )
        assert index in "\n".join(plan.scalars())
