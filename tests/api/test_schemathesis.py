"""Every operation against what its schema allows and forbids: no 5xx, no undocumented answer."""

import asyncio
from functools import cache
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from httpx import AsyncClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from app.main import openapi_document
from tests.api.test_authorization import RULES, UNCALLED
from tests.factories import admin
from tests.live_server import LiveServer

# Of each kind, per operation; fewer where an id is all that there is to try. Together they reach
# more branches of the app (19,684) than 10 for each did with API keys made up as well (19,615).
EXAMPLES, EXAMPLES_OF_IDS = 7, 4
# What a schema cannot say: that passwords differ, that a name is taken, that a token is genuine.
BEYOND_SCHEMA = {"positive_data_acceptance", "missing_required_header", "ignored_auth"}


@pytest.mark.parametrize("name", sorted(set(RULES) - UNCALLED))
async def test_an_operation_keeps_its_schema(
    server: LiveServer, client: AsyncClient, app: FastAPI, version: str, name: str
) -> None:
    tokens = await admin(client, app)
    method, path = name.split(" ")
    operation = _schema(version)[f"/api/{version}{path}"][method]
    is_of_ids = not (operation.body or operation.query or operation.headers)
    kinds = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]
    excluded = [check for check in _all_checks() if check.__name__ in BEYOND_SCHEMA]

    lenient = [each for each in _all_checks() if each.__name__ == "negative_data_rejection"]

    @settings(
        max_examples=(EXAMPLES_OF_IDS if is_of_ids else EXAMPLES) * len(kinds),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(kinds))
    def holds(case: Any) -> None:
        headers = tokens.headers if RULES[name].startswith("401") else None
        answer = case.call(base_url=server.url, headers=headers, timeout=20)
        if answer.status_code == 414:  # too long for any URL: it reached no operation
            return
        # Entry by entry, a bad one is a result of its own in an answer of 200.
        by_entry = lenient if name == "POST /items/bulk" and "atomic" in (case.query or {}) else []
        case.validate_response(answer, excluded_checks=[*excluded, *by_entry])

    await asyncio.to_thread(holds)


@cache
def _schema(version: str) -> Any:
    """Return what schemathesis knows of a version: it indexes each document that it is given.

    It makes no API keys up: half of the cases ended there, and test_api_keys.py holds what is none.
    """
    schema = schemathesis.openapi.from_dict(openapi_document(f"/api/{version}/"))
    schema.config.generation.update(with_security_parameters=False)
    return schema


def _all_checks() -> list[Any]:
    from schemathesis.checks import CHECKS

    return list(CHECKS.get_all())
