"""Who may call what of signing in by a provider.

What names a provider or an identity needs one, so tests/api/test_oidc_identities.py holds those.
"""

from tests.api.rules import EVERYONE, SIGNED_IN, Rules

rules = Rules(
    operations={
        "GET /auth/oidc/providers": EVERYONE,
        "POST /auth/oidc/exchange": EVERYONE,
        "GET /auth/oidc/{provider}/login": EVERYONE,
        "GET /auth/oidc/{provider}/callback": EVERYONE,
        "POST /auth/oidc/{provider}/link": SIGNED_IN,
        "GET /auth/identities": SIGNED_IN,
        "DELETE /auth/identities/{identity_id}": "401 P 404 404 404 401",
    },
    bodies={"POST /auth/oidc/exchange": {"code": "kps_none"}},
    uncalled=frozenset(
        {
            "GET /auth/oidc/{provider}/login",
            "GET /auth/oidc/{provider}/callback",
            "POST /auth/oidc/{provider}/link",
            "DELETE /auth/identities/{identity_id}",
        }
    ),
)
