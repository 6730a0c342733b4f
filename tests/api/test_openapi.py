"""The OpenAPI documents: complete, consistent, and true of what is answered."""

import json
import re
from typing import Any

import pytest
from httpx import AsyncClient
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from app.main import openapi_document

METHODS = ("get", "put", "post", "delete", "patch")


@pytest.fixture
def document() -> Any:
    return openapi_document("/")


def operations(document: Any) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def test_every_operation_is_described(document: Any) -> None:
    for name, operation in operations(document):
        for part in ("summary", "description", "tags", "operationId", "responses"):
            assert operation.get(part), f"{name} has no {part}"
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_every_body_has_an_example_and_is_closed(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for name, operation in operations(document):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            reference = content["schema"].get("$ref", "").rpartition("/")[2]
            if not reference or media == "application/x-www-form-urlencoded":
                continue
            schema = schemas[reference]
            assert schema.get("additionalProperties") is False, f"{name}: {reference} is open"


def test_every_operation_lists_its_errors_as_problems(document: Any) -> None:
    for name, operation in operations(document):
        if not name.partition(" ")[2].startswith("/api/"):
            continue
        answers = operation["responses"]
        assert "503" in answers, name
        if operation.get("security"):
            assert "401" in answers, name
        for status, answer in answers.items():
            if status.startswith(("4", "5")):
                assert "application/problem+json" in answer["content"], f"{name} {status}"


def test_every_operation_lists_what_any_request_can_run_into(document: Any) -> None:
    for name, operation in operations(document):
        if " /api/" in name:
            wanted = {"414", "422", "429", "431", "500", "503"}
            wanted |= {"401", "403"} if operation.get("security") else set()
            wanted |= {"413"} if "requestBody" in operation else set()
            assert wanted <= set(operation["responses"]), name


def test_every_error_has_an_example(document: Any) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            problem = answer.get("content", {}).get("application/problem+json")
            if problem is None:
                continue
            for example in problem["examples"].values():
                value = document["components"]["examples"][example["$ref"].rpartition("/")[2]]
                assert value["value"]["status"] == int(status), name


def test_every_json_body_and_answer_has_an_example_that_fits_it(document: Any) -> None:
    for name, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        contents = [(*each,) for body in bodies for each in body.get("content", {}).items()]
        for media, content in contents:
            if media != "application/json" or "schema" not in content:
                continue
            examples = [each["value"] for each in content.get("examples", {}).values()]
            schema = {**content["schema"], "components": document["components"]}
            for example in examples or [content["example"]]:
                faults = Draft202012Validator(schema).iter_errors(example)
                assert not [fault.message for fault in faults], name


def test_every_parameter_is_described(document: Any) -> None:
    for name, operation in operations(document):
        for each in operation.get("parameters", []):
            assert each.get("description"), f"{name} {each['name']}"


@pytest.mark.parametrize(("version", "other"), [("v1", "v2"), ("v2", "v1")])
def test_the_document_of_a_version_names_no_address_of_the_other(version: str, other: str) -> None:
    document = openapi_document(f"/api/{version}/")
    assert f"/api/{other}" not in json.dumps(document)
    assert document["info"]["title"] == f"Kingpost {version}"  # type: ignore[index]


def test_every_answer_has_a_model(document: Any) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status in ("200", "201"):
                schemas = [each.get("schema") for each in answer.get("content", {}).values()]
                assert schemas, f"{name} {status}"
                assert all(schemas), f"{name} {status}"


def test_every_reference_leads_somewhere(document: Any) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])


def test_whatever_creates_says_that_it_can_be_repeated(document: Any) -> None:
    repeatable = {
        path
        for path, operations in document["paths"].items()
        if "post" in operations
        and any(
            each["name"] == "Idempotency-Key" for each in operations["post"].get("parameters", [])
        )
    }
    creating = ("items", "items/bulk", "items/import", "items/{item_id}/files", "auth/register")
    assert {
        f"/api/{version}/{path}"
        for version in ("v1", "v2")
        for path in (*creating, "auth/api-keys", "webhooks")
    } <= repeatable
    for path in repeatable:
        answers = document["paths"][path]["post"]["responses"]
        good = next(answer for status, answer in answers.items() if status.startswith("2"))
        assert "Idempotency-Replayed" in good["headers"], path
    created = document["paths"]["/api/v1/items"]["post"]["responses"]["201"]
    assert {"ETag", "Location"} <= set(created["headers"])


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_each_version_has_a_document_of_its_own(client: AsyncClient, version: str) -> None:
    document = (await client.get(f"/api/{version}/openapi.json")).json()
    assert document == openapi_document(f"/api/{version}/")
    assert document["paths"]
    assert all(path.startswith(f"/api/{version}/") for path in document["paths"])
    everything = (await client.get("/openapi.json")).json()
    assert everything == openapi_document("/")
    assert set(document["paths"]) < set(everything["paths"])


@pytest.mark.parametrize(("version", "other"), [("v1", r"[A-Z]"), ("v2", r"_")])
def test_each_version_spells_what_is_asked_in_its_own_way(
    document: Any, version: str, other: str
) -> None:
    asked = {
        each["name"]
        for path, operations in document["paths"].items()
        if path.startswith(f"/api/{version}/")
        for operation in operations.values()
        for each in operation.get("parameters", [])
        if each["in"] == "query"
    }
    assert asked
    assert not {name for name in asked if re.search(other, name)}


def test_v2_has_every_operation_of_v1(document: Any) -> None:
    def of(version: str) -> set[str]:
        prefix = f"/api/{version}/"
        names = [name for name, _ in operations(document)]
        return {name.replace(prefix, "/") for name in names if prefix in name}

    assert of("v1") == of("v2")


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/api/v1/docs", "/api/v2/docs", "/api/v1/redoc", "/api/v2/redoc"]
)
async def test_the_pages_take_everything_from_here(client: AsyncClient, path: str) -> None:
    page = await client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text


@pytest.mark.parametrize("asset", ["swagger-ui.css", "swagger-ui-bundle.js", "redoc.standalone.js"])
async def test_their_assets_are_served(client: AsyncClient, asset: str) -> None:
    answer = await client.get(f"/docs/assets/{asset}")
    assert answer.status_code == 200
    assert "cdn.redoc.ly" not in answer.text
