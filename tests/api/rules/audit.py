"""Who may read the audit log, suspend accounts, and take their own data home."""

from tests.api.rules import ADMINS, SIGNED_IN, Rules

rules = Rules(
    operations={
        "GET /audit": ADMINS,
        "GET /users/me/export": SIGNED_IN,
        "POST /users/{user_id}/suspend": ADMINS,
        "POST /users/{user_id}/unsuspend": ADMINS,
    },
    bodies={"POST /users/{user_id}/suspend": {"reason": "Spam"}},
    ending=frozenset({"POST /users/{user_id}/suspend"}),
)
