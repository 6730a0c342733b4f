"""Who may call what of API keys: each is its owner's alone, and no key makes or changes keys."""

from tests.api.rules import SIGNED_IN, Rules

_OWN_ALONE = "401 P 404 404 404 401"

rules = Rules(
    operations={
        "GET /auth/api-keys": SIGNED_IN,
        "POST /auth/api-keys": SIGNED_IN,
        "GET /auth/api-keys/{key_id}": _OWN_ALONE,
        "PATCH /auth/api-keys/{key_id}": _OWN_ALONE,
        "DELETE /auth/api-keys/{key_id}": _OWN_ALONE,
        "POST /auth/api-keys/{key_id}/rotate": _OWN_ALONE,
    },
    bodies={
        "POST /auth/api-keys": {"name": "Import", "scopes": ["items:read"]},
        "PATCH /auth/api-keys/{key_id}": {"name": "Export"},
    },
    made_by={"key_id": "POST /auth/api-keys"},
)
