"""Errors on the wire: RFC 9457 problem details, and their place in OpenAPI."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Dotted path.", examples=["price"])
    message: str = Field(examples=["Input should be greater than 0"])
    type: str = Field(examples=["greater_than"])


class Problem(BaseModel):
    """A problem (RFC 9457), as every error is answered."""

    type: str = Field(examples=["urn:kingpost:error:not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such item"])
    instance: str = Field(examples=["/api/v1/items/42"])
    error_code: str = Field(description="Stable; branch on it.", examples=["NOT_FOUND"])
    request_id: str = Field(examples=["0192f0c1a2b34c5d8e9f"])
    errors: list[FieldError] | None = Field(None, description="With 422: what is wrong, by field.")
    challenge: str | None = Field(
        None, description="With SECOND_FACTOR_REQUIRED: to be sent back with a code."
    )
    challenge_expires_in: int | None = Field(None, description="Seconds.")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` for the errors that an operation can give."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }
        for status in statuses
    }
