"""Who may call what: every operation of the OpenAPI document × every kind of caller.

A new operation without a row here fails, and so does one whose guard was removed: two tests take
every guard away, of people and of API keys, and see the rows turn red.
"""

from collections import defaultdict
from dataclasses import dataclass, field
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
    """The callers of an app and their keys, made when first asked for, and the owner's things."""

    client: AsyncClient
    app: FastAPI
    callers: dict[str, Tokens] = field(default_factory=dict)
    keys: dict[tuple[str, frozenset[Scope]], str] = field(default_factory=dict)
    things: dict[str, int] = field(default_factory=dict)

    def url(self, path: str) -> str:
        """Fill the owner's things into a path."""
        return path.format_map(defaultdict(lambda: NOBODYS, self.things))


async def caller_of(world: World, who: str) -> Tokens:
    if who not in world.callers:
        world.callers[who] = await new_caller(world, who)
    return world.callers[who]


async def new_caller(world: World, who: str) -> Tokens:
    client = world.client
    if who in ("analyst", "admin"):
        return await (analyst if who == "analyst" else admin)(client, world.app)
    user = await new_user(client)
    if who == "ended":
        await client.post("/api/v1/auth/logout", headers=user.headers)
    if who == "suspended":
        boss = await caller_of(world, "admin")
        url = f"/api/v1/users/{user.account.id}/suspend"
        expect(await client.post(url, json={"reason": "Spam"}, headers=boss.headers), 200)
    return user


async def make_things(world: World, name: str) -> None:
    """Make what the path of an operation names; what was there before may be gone."""
    client, owner = world.client, await caller_of(world, "owner")
    world.things["user_id"] = owner.account.id
    if "{session_id}" in name:
        listed = await client.get("/api/v1/auth/sessions", headers=owner.headers)
        world.things["session_id"] = expect(listed, 200)["items"][0]["id"]
    makers = {made: by for made, by in MADE_BY.items() if f"{{{made}}}" in name}
    if any("{item_id}" in path for path in (name, *makers.values())):
        item = await create_item(client, owner, visibility="private")
        world.things["item_id"] = item["id"]
    for made, by in makers.items():
        url = f"/api/v1{world.url(by.removeprefix('POST '))}"
        answer = await client.post(url, **sent(BODIES[by]), headers=owner.headers)
        if answer.status_code != 409:  # else they have as many as they may: the last one will do
            body = expect(answer, 201)
            world.things[made] = body["items"][0]["id"] if "items" in body else body["id"]


_known: dict[int, World] = {}


async def world_for(
    name: str, client: AsyncClient, app: FastAPI, *, is_ending: bool | None = None
) -> World:
    """Return a world ready for a call: with callers of its own only if that ends somebody."""
    if name in ENDING if is_ending is None else is_ending:
        world = World(client, app)
    else:
        world = _known.setdefault(id(app), World(client, app))
        world.client = client
    if "{" in name:
        await make_things(world, name)
    return world


def documented(version: str) -> list[str]:
    prefix = f"/api/{version}"
    paths: Any = openapi_document(f"{prefix}/")["paths"]
    return [
        f"{method.upper()} {path.removeprefix(prefix)}"
        for path, methods in paths.items()
        for method in methods
        if method in METHODS
    ]


async def outcome(world: World, version: str, name: str, who: str) -> str:
    headers = {} if who == "nobody" else (await caller_of(world, who)).headers
    return await outcome_with(world, version, name, headers)


async def outcome_with(world: World, version: str, name: str, headers: dict[str, str]) -> str:
    method, path = name.split(" ")
    answer = await world.client.request(
        method,
        f"/api/{version}{world.url(path)}",
        **sent(BODIES.get(name, {} if method in ("POST", "PUT", "PATCH") else None)),
        headers=headers,
    )
    return str(answer.status_code) if answer.status_code in (401, 403, 404) else "P"


async def key_of(world: World, who: str, scopes: frozenset[Scope]) -> dict[str, str]:
    """Return the header of a caller's API key with these scopes."""
    if (who, scopes) not in world.keys:
        caller = await caller_of(world, who)
        body = {"name": "A", "scopes": sorted(scopes)}
        made = await world.client.post("/api/v1/auth/api-keys", json=body, headers=caller.headers)
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
    world = await world_for(name, client, app)
    for who, wanted in zip(WHO, RULES[name].split(), strict=True):
        await prepare(world, name)
        got = await outcome(world, version, name, who)
        assert (who, got) == (who, wanted)
        if got == "P":  # what is refused changes nothing
            await clean_up(world, name)
            world = await world_for(name, client, app)
    assert await outcome(world, version, name, "suspended") == "401"
    await clean_up(world, name)


async def prepare(world: World, name: str) -> None:
    """Bring what the call is about into the state that it needs."""
    if name == "POST /items/{item_id}/restore":
        owner = await caller_of(world, "owner")
        await world.client.delete(world.url("/api/v1/items/{item_id}"), headers=owner.headers)


async def clean_up(world: World, name: str) -> None:
    """Remove what was made for a call, where that can be: there may only be so many of a kind."""
    owner = await caller_of(world, "owner")
    for operation in RULES:
        method, path = operation.split(" ")
        made = path.rpartition("/")[2].strip("{}")
        if method == "DELETE" and made in MADE_BY and f"{{{made}}}" in name:
            await world.client.delete(f"/api/v1{world.url(path)}", headers=owner.headers)


@pytest.mark.parametrize("name", sorted(set(RULES) - UNCALLED))
async def test_what_an_api_key_may_call(
    client: AsyncClient, app: FastAPI, version: str, name: str
) -> None:
    is_ending = name in ENDING and name in NEEDED  # else it is refused, and ends nobody
    world = await world_for(name, client, app, is_ending=is_ending)
    for who, scopes, wanted in by_key(name):
        await prepare(world, name)
        got = await outcome_with(world, version, name, await key_of(world, who, scopes))
        assert (who, scopes, got) == (who, scopes, wanted)
        if got == "P":
            await clean_up(world, name)
            world = await world_for(name, client, app, is_ending=is_ending)
    await clean_up(world, name)


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
    world = World(client, app)
    await make_things(world, "{item_id} {session_id}")
    for name in sorted(set(RULES) - UNCALLED - ENDING):
        refused = [(who, scopes) for who, scopes, wanted in by_key(name) if wanted == "403"]
        got = [
            await outcome_with(world, "v1", name, await key_of(world, who, scopes))
            for who, scopes in refused
        ]
        assert set(got) != {"403"}, name


async def test_without_its_guard_each_rule_turns_red(
    client: AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(client, app)
    await make_things(world, "{item_id} {session_id}")
    boss = await caller_of(world, "admin")
    everything = Principal(boss.account.id, 0, frozenset(Role))

    async def unguarded(self: Caller, request: object) -> Principal:
        return everything

    monkeypatch.setattr(Caller, "__call__", unguarded)
    guarded = {name for name in RULES if RULES[name].startswith("401")}
    for name in sorted(guarded - UNCALLED - ENDING):
        assert await outcome(world, "v1", name, "nobody") != "401", name
