"""The public keys that others verify our access tokens by (RFC 7517)."""

from collections.abc import Mapping

from fastapi import APIRouter, Response
from pydantic import Field

from app.clock import now
from app.dependencies.resources import CurrentResources
from app.schemas.base import Output
from app.schemas.problems import problems

# A new key is published longer before it signs than this (`kingpost keys rotate`).
_MAX_AGE = 300  # seconds

router = APIRouter(tags=["auth"])


class KeySet(Output):
    """A JWK Set: public keys only."""

    keys: list[Mapping[str, str]] = Field(
        examples=[
            [
                {
                    "kty": "EC",
                    "crv": "P-256",
                    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                    "alg": "ES256",
                    "use": "sig",
                    "kid": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
                }
            ]
        ]
    )


@router.get(
    "/.well-known/jwks.json",
    response_model=KeySet,
    summary="Public keys",
    responses=problems(503),
)
async def public_keys(response: Response, resources: CurrentResources) -> KeySet:
    """Return the keys that verify access tokens; none where a shared secret signs them (HS256)."""
    response.headers["Cache-Control"] = f"public, max-age={_MAX_AGE}"
    return KeySet(keys=resources.keys.published(now()))
