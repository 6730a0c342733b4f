"""Who may call what: every operation of the OpenAPI document × every kind of caller.

A new operation without a row here fails, and so does one whose guard was removed: two tests take
every guard away, of people and of API keys, and see the rows turn red.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from app.dependencies import auth
from app.dependencies.auth import Caller
from app.main import openapi_document
from app.security.principal import Principal, Role
from app.security.scopes import LIVE, NEEDED, Scope
from tests.api.rules import (
    ADMINS,
    ANALYSTS,
    EVERYONE,
    OWN_PRIVATE,
    PRIVATE,
    SIGNED_IN,
    WHO,
    found,
    sent,
)
from tests.factories import Tokens, admin, analyst, create_item, expect, new_user

NOBODYS = 2**60  # the id of nothing
METHODS = ("get", "put", "post", "delete", "patch")
RULES = {
    "POST /auth/register": EVERYONE,
    "POST /auth/token": EVERYONE,
    "POST /auth/refresh": EVERYONE,
    "POST /auth/logout": SIGNED_IN,
    "POST /auth/logout-all": SIGNED_IN,
    "GET /auth/sessions": SIGNED_IN,
    "DELETE /auth/sessions/{session_id}": "401 P 404 404 404 401",
    "POST /auth/password/change": SIGNED_IN,
    "POST /auth/ws-ticket": SIGNED_IN,
    "GET /users/me": SIGNED_IN,
    "PATCH /users/me": SIGNED_IN,
    "DELETE /users/me": SIGNED_IN,
    "GET /users": ADMINS,
    "GET /users/{user_id}": SIGNED_IN,
    "PATCH /users/{user_id}": ADMINS,
    "DELETE /users/{user_id}": ADMINS,
    "GET /users/{user_id}/items": EVERYONE,
    "GET /items": EVERYONE,
    "POST /items": SIGNED_IN,
    "POST /items/bulk": SIGNED_IN,
    "GET /items/stats": ANALYSTS,
    "GET /items/{item_id}": PRIVATE,
    "PUT /items/{item_id}": OWN_PRIVATE,
    "PATCH /items/{item_id}": OWN_PRIVATE,
    "DELETE /items/{item_id}": OWN_PRIVATE,
    "POST /items/{item_id}/restore": OWN_PRIVATE,
    "GET /events": EVERYONE,
}
BODIES: dict[str, Any] = {
    "POST /items": {"name": "A", "price": 1},
    "PUT /items/{item_id}": {"name": "A", "price": 1},
    "PATCH /items/{item_id}": {"name": "B"},
    "PATCH /users/me": {"full_name": "A"},
    "PATCH /users/{user_id}": {"full_name": "A"},
    "POST /items/bulk": {"operations": []},
}
for _resource in found():
    RULES |= _resource.operations
    BODIES |= _resource.bodies
MADE_BY = {name: by for resource in found() for name, by in resource.made_by.items()}
# After these, somebody or their session is gone.
ENDING = {
    "DELETE /users/me",
    "DELETE /users/{user_id}",
    "POST /auth/logout",
    "POST /auth/logout-all",
    "DELETE /auth/sessions/{session_id}",
}.union(*(resource.ending for resource in found()))
# Not called: it streams for ever; tests/api/test_events.py holds who may read what there.
UNCALLED = {"GET /events"}.union(*(resource.uncalled for resource in found()))


@dataclass
class World:
    """The callers and what belongs to the owner."""

    callers: dict[str, Tokens | None]
    owner_id: int
    item_id: int
    session_id: int
    others: dict[str, int] = field(default_factory=dict)
    keys: dict[tuple[str, frozenset[Scope]], str] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """Fill the owner's things into a path."""
        known = {"item_id": self.item_id, "user_id": self.owner_id, "session_id": self.session_id}
        return path.format_map(defaultdict(lambda: NOBODYS, known | self.others))


async def new_world(client: AsyncClient, app: FastAPI) -> World:
    owner = await new_user(client)
    item = await create_item(client, owner, visibility="private")
    listed = await client.get("/api/v1/auth/sessions", headers=owner.headers)
    ended = await new_user(client)
    await client.post("/api/v1/auth/logout", headers=ended.headers)
    boss, suspended = await admin(client, app), await new_user(client)
    url = f"/api/v1/users/{suspended.account.id}/suspend"
    expect(await client.post(url, json={"reason": "Spam"}, headers=boss.headers), 200)
    return World(
        {
            "nobody": None,
            "owner": owner,
            "stranger": await new_user(client),
            "analyst": await analyst(client, app),
            "admin": boss,
            "ended": ended,
            "suspended": suspended,
        },
        owner.account.id,
        item["id"],
        listed.json()["items"][0]["id"],
    )


_known: dict[int, World] = {}


async def world_for(
    name: str, client: AsyncClient, app: FastAPI, *, is_ending: bool | None = None
) -> World:
    """Return a world that the call before has left whole: anew only where it ends somebody."""
    if name in ENDING if is_ending is None else is_ending:
        return await new_world(client, app)
    if id(app) not in _known:
        _known[id(app)] = await new_world(client, app)
    world = _known[id(app)]
    owner = world.callers["owner"]
    assert owner
    item = await create_item(client, owner, visibility="private")
    others = world.others
    for parameter, operation in MADE_BY.items():
        if f"{{{parameter}}}" in name:
            url = f"/api/v1{operation.removeprefix('POST ')}".format(item_id=item["id"])
            made = await client.post(url, **sent(BODIES[operation]), headers=owner.headers)
            if made.status_code != 409:  # else they have as many as they may: the last one will do
                body = expect(made, 201)
                others[parameter] = body["items"][0]["id"] if "items" in body else body["id"]
    return replace(world, item_id=item["id"])


async def world_after(
    got: str, world: World, name: str, client: AsyncClient, app: FastAPI
) -> World:
    """Return a world for the next call: what was refused has ended nobody."""
    if name in ENDING and got != "P":
        return world
    return await world_for(name, client, app)


def documented(version: str) -> list[str]:
    prefix = f"/api/{version}"
    paths: Any = openapi_document(f"{prefix}/")["paths"]
    return [
        f"{method.upper()} {path.removeprefix(prefix)}"
        for path, methods in paths.items()
        for method in methods
        if method in METHODS
    ]


async def outcome(client: AsyncClient, world: World, version: str, name: str, who: str) -> str:
    caller = world.callers[who]
    return await outcome_with(client, world, version, name, caller.headers if caller else {})


async def outcome_with(
    client: AsyncClient, world: World, version: str, name: str, headers: dict[str, str]
) -> str:
    method, path = name.split(" ")
    answer = await client.request(
        method,
        f"/api/{version}{world.url(path)}",
        **sent(BODIES.get(name, {} if method in ("POST", "PUT", "PATCH") else None)),
        headers=headers,
    )
    return str(answer.status_code) if answer.status_code in (401, 403, 404) else "P"


async def key_of(
    client: AsyncClient, world: World, who: str, scopes: frozenset[Scope]
) -> dict[str, str]:
    """Return the header of a caller's API key with these scopes, made when first asked for."""
    if (who, scopes) not in world.keys:
        caller = world.callers[who]
        assert caller
        body = {"name": "A", "scopes": sorted(scopes)}
        made = await client.post("/api/v1/auth/api-keys", json=body, headers=caller.headers)
        world.keys[who, scopes] = expect(made, 201)["secret"]
    return {"X-API-Key": world.keys[who, scopes]}


def by_key(name: str) -> list[tuple[str, frozenset[Scope], str]]:
    """Return whose API key with which scopes gets what: derived from the declared scope.

    A key with the scope gets what its owner gets, and never more; any other is refused.
    """
    everything = frozenset(Scope)
    needed = NEEDED.get(name)
    if needed is None:
        return [(who, everything, "403") for who in ("owner", "admin")]
    as_owner = dict(zip(WHO, RULES[name].split(), strict=True))
    wanted = [(who, frozenset({needed}), as_owner[who]) for who in ("owner", "stranger", "admin")]
    return wanted + [(who, everything - {needed}, "403") for who in ("owner", "admin")]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_operation_has_its_rule(version: str) -> None:
    assert sorted(documented(version)) == sorted(RULES)


@pytest.mark.parametrize("name", sorted(set(RULES) - UNCALLED))
async def test_who_may_call(client: AsyncClient, app: FastAPI, version: str, name: str) -> None:
    world, got = await world_for(name, client, app), ""
    for who, wanted in zip(WHO, RULES[name].split(), strict=True):
        if got:
            world = await world_after(got, world, name, client, app)
        await prepare(client, world, name)
        got = await outcome(client, world, version, name, who)
        assert (who, got) == (who, wanted)
        await clean_up(client, world, name)
    world = await world_after(got, world, name, client, app)
    assert await outcome(client, world, version, name, "suspended") == "401"


async def prepare(client: AsyncClient, world: World, name: str) -> None:
    """Bring what the call is about into the state that it needs."""
    owner = world.callers["owner"]
    assert owner
    if name == "POST /items/{item_id}/restore":
        await client.delete(f"/api/v1/items/{world.item_id}", headers=owner.headers)


async def clean_up(client: AsyncClient, world: World, name: str) -> None:
    """Remove what was made for a call, where that can be: there may only be so many of a kind."""
    owner = world.callers["owner"]
    assert owner
    for operation in RULES:
        method, path = operation.split(" ")
        made = path.rpartition("/")[2].strip("{}")
        if method == "DELETE" and made in MADE_BY and f"{{{made}}}" in name:
            await client.delete(f"/api/v1{world.url(path)}", headers=owner.headers)


@pytest.mark.parametrize("name", sorted(set(RULES) - UNCALLED))
async def test_what_an_api_key_may_call(
    client: AsyncClient, app: FastAPI, version: str, name: str
) -> None:
    is_ending = name in ENDING and name in NEEDED  # else it is refused, and ends nobody
    for who, scopes, wanted in by_key(name):
        world = await world_for(name, client, app, is_ending=is_ending)
        await prepare(client, world, name)
        headers = await key_of(client, world, who, scopes)
        got = await outcome_with(client, world, version, name, headers)
        assert (who, scopes, got) == (who, scopes, wanted)
        await clean_up(client, world, name)


def test_every_declared_scope_is_of_an_operation() -> None:
    assert set(NEEDED) - {LIVE} <= set(documented("v1"))


def test_an_undeclared_operation_takes_no_key() -> None:
    paths: Any = openapi_document("/api/v1/")["paths"]
    for name in documented("v1"):
        method, path = name.split(" ")
        schemes = paths[f"/api/v1{path}"][method.lower()].get("security", [])
        assert ({"ApiKey": []} in schemes) is (name in NEEDED), name


def test_no_key_makes_itself_into_more() -> None:
    assert not [name for name in NEEDED if name.split(" ")[1].startswith("/auth")]


async def test_without_the_check_of_scopes_each_rule_turns_red(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "require_scope", lambda _connection, _principal: None)
    world = await new_world(client, app)
    for name in sorted(set(RULES) - UNCALLED - ENDING):
        refused = [(who, scopes) for who, scopes, wanted in by_key(name) if wanted == "403"]
        got = [
            await outcome_with(client, world, "v1", name, await key_of(client, world, who, scopes))
            for who, scopes in refused
        ]
        assert set(got) != {"403"}, name


async def test_without_its_guard_each_rule_turns_red(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await new_world(client, app)
    boss = world.callers["admin"]
    assert boss
    everything = Principal(boss.account.id, 0, frozenset(Role))

    async def unguarded(self: Caller, request: object) -> Principal:
        return everything

    monkeypatch.setattr(Caller, "__call__", unguarded)
    guarded = {name for name in RULES if RULES[name].startswith("401")}
    for name in sorted(guarded - UNCALLED - ENDING):
        assert await outcome(client, world, "v1", name, "nobody") != "401", name
