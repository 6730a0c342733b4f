"""An example for every body and every error of the OpenAPI document, made from what it says."""

from collections.abc import Iterator
from typing import Any

from app import errors
from app.errors import DomainError
from app.problem_details import problem
from app.schemas.problems import problems

_DEPTH = 8  # of models within models; one may hold itself
_OF_FORMAT = {"date-time": "2026-01-31T12:00:00Z", "email": "ada@example.com"}
_OF_TYPE = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "object": {}}
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
# The most general error of each status; docs/api.md lists the narrower ones.
_ERRORS: tuple[type[DomainError], ...] = (
    errors.BadRequest,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.NotFound,
    errors.RequestTimeout,
    errors.Conflict,
    errors.EventsExpired,
    errors.PreconditionFailed,
    errors.PayloadTooLarge,
    errors.UriTooLong,
    errors.UnsupportedMediaType,
    errors.RangeNotSatisfiable,
    errors.Unprocessable,
    errors.RateLimited,
    errors.HeadersTooLarge,
    errors.DomainError,
    errors.ProviderFailed,
    errors.Unavailable,
    errors.InsufficientStorage,
)


def complete_errors(document: Any) -> None:
    """Add what every operation of the API can answer, and an example of each error."""
    for path, _, operation in _operations(document):
        if path.startswith("/api/"):
            always = (414, 422, 429, 431, 500, 503)
            signed_in = (401, 403) if operation.get("security") else ()
            with_body = (408,) if "requestBody" in operation else ()
            for status, answer in problems(*always, *signed_in, *with_body).items():
                operation["responses"].setdefault(str(status), answer)
    document["components"]["examples"] = {each.error_code: _problem(each) for each in _ERRORS}
    codes = {str(each.status): each.error_code for each in _ERRORS}
    for _, _, operation in _operations(document):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/problem+json")
            if content is not None and status in codes:
                code = codes[status]
                content["examples"] = {code: {"$ref": f"#/components/examples/{code}"}}


def add_examples(document: Any) -> None:
    """Give each JSON body and answer an example, where it has none of its own."""
    schemas = document["components"]["schemas"]
    for _, _, operation in _operations(document):
        body = operation.get("requestBody", {}).get("content", {})
        answers = [each.get("content", {}) for each in operation["responses"].values()]
        for content, is_input in ((body, True), *((each, False) for each in answers)):
            for media_type, described in content.items():
                is_told = "example" in described or "examples" in described
                if "problem" in media_type or is_told or "schema" not in described:
                    continue
                if media_type.endswith("json") or "urlencoded" in media_type:
                    described["example"] = sample(described["schema"], schemas, is_input=is_input)


def sample(schema: Any, schemas: Any, *, is_input: bool, depth: int = 0) -> Any:
    """Return a value that a schema allows; of an input, without what may be left out as null."""
    if "$ref" in schema:
        return sample(
            schemas[schema["$ref"].rpartition("/")[2]], schemas, is_input=is_input, depth=depth + 1
        )
    for key in ("example", "const", "default"):
        if schema.get(key) is not None:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        if "default" in schema and is_input:
            return None
        return sample(choices[0], schemas, is_input=is_input, depth=depth)
    if "properties" in schema and depth < _DEPTH:
        found = {
            name: sample(each, schemas, is_input=is_input, depth=depth)
            for name, each in schema["properties"].items()
        }
        return {name: value for name, value in found.items() if not (is_input and value is None)}
    if schema.get("type") == "array":
        item = schema.get("items", {})
        if depth >= _DEPTH or not item:
            return []
        return [sample(item, schemas, is_input=is_input, depth=depth)]
    if schema.get("format") in _OF_FORMAT:
        return _OF_FORMAT[schema["format"]]
    return _OF_TYPE.get(schema.get("type", ""))


def _operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                yield path, method, operation


def _problem(kind: type[DomainError]) -> dict[str, Any]:
    value = problem(
        kind.status,
        kind.error_code,
        kind.title,
        kind.title,
        instance="/api/v1/items/42",
        request_id="0192f0c1a2b34c5d8e9f",
    )
    if kind is errors.Unprocessable:
        message = "Input should be greater than 0"
        value["errors"] = [{"field": "price", "message": message, "type": "greater_than"}]
    return {"summary": kind.title, "value": value}
