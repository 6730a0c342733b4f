"""Search and tags beside a model of them: the same rows, in the same order, however they are found.

The words are of every frequency, so that PostgreSQL serves some lists along their order and others
out of all that matches.
"""

import random
from collections.abc import Callable
from typing import Any

import asyncpg
from fastapi import FastAPI
from httpx import AsyncClient
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import now
from app.repositories import search
from app.repositories.item_batches import ItemBatches, prepared
from tests.backends import Foundation, run_aside
from tests.factories import new_user

_COUNT = 1200
_WORDS = ("oak", "oaken", "Straße", "日本製", "x2", "wide", "ﬁne", "lamp", "o", "zwölf")
_TAGS = ("red", "green", "blue", "late")
_DIFFER = """
    SELECT $1::text, $2::text
     WHERE (array_to_tsvector(string_to_array($1, ' ')) @@ CAST($2 AS tsquery))
        IS DISTINCT FROM (' ' || $1 LIKE ALL ($3::text[]))
"""
_ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "id": lambda item: item["id"],
    "name": lambda item: (item["name"], item["id"]),
    "price": lambda item: (item["price_cents"], item["id"]),
}


def make_items(chance: random.Random) -> list[dict[str, Any]]:
    """Return items in which a word is the rarer the later it stands in its list."""
    made = []
    for number in range(1, _COUNT + 1):
        words = [word for at, word in enumerate(_WORDS) if chance.random() < 0.6 / 2**at]
        tags = [tag for at, tag in enumerate(_TAGS[:3]) if chance.random() < 0.5 / 4**at]
        if number > _COUNT - 30:
            tags.append("late")
        made.append(
            {
                "name": " ".join(words) or "none",
                "description": None,
                "price_cents": chance.randint(1, 300),
                "discount_basis_points": 0,
                "tags": tags,
                "visibility": "public",
            }
        )
    return made


def stored(item: dict[str, Any]) -> list[str]:
    """Return the words by which an item is found."""
    return search.search_text(item["name"], item["description"], item["tags"]).split()


def model(items: list[dict[str, Any]], query: dict[str, Any], sort: str) -> list[int]:
    """Return the ids that a list must show, in its order."""
    wanted = search.words(query.get("q", ""))
    found = [
        item
        for item in items
        if set(query.get("tag", ())) <= set(item["tags"])
        and item["price_cents"] >= query.get("min_price", 0) * 100
        and all(any(word.startswith(start) for word in stored(item)) for start in wanted)
    ]
    found.sort(key=_ORDERS[sort.lstrip("-")], reverse=sort.startswith("-"))
    return [item["id"] for item in found]


async def walked(client: AsyncClient, params: dict[str, Any]) -> list[int]:
    """Return the ids of all pages: forth by each `next`, and back again by each `prev`."""
    answer = await client.get("/api/v2/items", params=params)
    pages = [answer]
    while "next" in answer.links:
        answer = await client.get(answer.links["next"]["url"])
        pages.append(answer)
    for before in reversed(pages[:-1]):
        answer = await client.get(answer.links["prev"]["url"])
        assert answer.json()["items"] == before.json()["items"], params
    return [item["id"] for page in pages for item in page.json()["items"]]


async def test_lists_show_what_the_model_says_in_either_version_and_direction(
    app: FastAPI, client: AsyncClient
) -> None:
    chance = random.Random(20261121)
    owner = (await new_user(client)).account.id
    items = make_items(chance)
    async with app.state.resources.db.transaction() as connection:
        batch = [prepared(owner, each, now()) for each in items]
        await ItemBatches(connection).write(batch)
    shown = await client.get("/api/v1/items", params={"owner_id": owner, "limit": 1})
    first = shown.json()["items"][0]["id"]
    for number, item in enumerate(items):
        item["id"] = first + number
    for _ in range(25):
        query: dict[str, Any] = {}
        if chance.random() < 0.7:
            words = chance.choices(_WORDS, k=chance.randint(1, 2))
            query["q"] = " ".join(word[: chance.randint(1, 5)] for word in words)
        if chance.random() < 0.4:
            query["tag"] = chance.sample(_TAGS, chance.randint(1, 2))
        if chance.random() < 0.3:
            query["min_price"] = chance.choice((1, 2, 2.95))
        sort = chance.choice(("", "-")) + chance.choice(list(_ORDERS))
        size = chance.choice((23, 60, 100))
        expected = model(items, query, sort)
        params = {**query, "owner_id": owner, "sort": sort, "limit": size}
        assert await walked(client, params) == expected, params
        skip = chance.randint(0, len(expected))
        page = (await client.get("/api/v1/items", params=params | {"skip": skip})).json()
        assert page["total"] == len(expected), params
        assert [item["id"] for item in page["items"]] == expected[skip : skip + size], params


_CLOSE = st.text(st.sampled_from("aAäß ﬁ日-_%\\'1"), max_size=6)  # often one the start of the other
_ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(st.lists(st.tuples(_CLOSE | _ANY, _CLOSE | _ANY), min_size=20, max_size=40))
@settings(max_examples=30)
def test_reading_the_words_finds_what_their_index_finds(
    foundation: Foundation, pairs: list[tuple[str, str]]
) -> None:
    asked = [
        (search.search_text(name, None, []), search.search_query(query, is_postgres=True), patterns)
        for name, query in pairs
        if (patterns := search.search_patterns(query))
    ]

    async def differing() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(foundation.postgres_url)
        try:
            statement = await connection.prepare(_DIFFER)
            return [row for each in asked for row in await statement.fetch(*each)]
        finally:
            await connection.close()

    assert run_aside(differing()) == []
