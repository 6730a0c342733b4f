"""Who may call what of the second factor."""

from tests.api.rules import ADMINS, EVERYONE, SIGNED_IN, Rules

rules = Rules(
    operations={
        "GET /auth/totp": SIGNED_IN,
        "POST /auth/totp": SIGNED_IN,
        "POST /auth/totp/confirm": SIGNED_IN,
        "POST /auth/totp/recovery-codes": SIGNED_IN,
        "DELETE /auth/totp": SIGNED_IN,
        "POST /auth/token/second-factor": EVERYONE,
        "DELETE /users/{user_id}/totp": ADMINS,
    },
)
