"""Who may call what mails lead to: their tokens are what lets one in."""

from tests.api.rules import EVERYONE, SIGNED_IN, Rules

rules = Rules(
    operations={
        "POST /auth/password/forgot": EVERYONE,
        "POST /auth/password/reset": EVERYONE,
        "POST /auth/email/verify": EVERYONE,
        "POST /auth/email/resend": EVERYONE,
        "POST /auth/email/change": SIGNED_IN,
        "POST /auth/email/change/confirm": EVERYONE,
        "POST /auth/email/change/cancel": EVERYONE,
    },
)
