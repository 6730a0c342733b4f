"""Who may export and import items."""

from tests.api.rules import EVERYONE, SIGNED_IN, Rules

rules = Rules(
    operations={
        "GET /items/export": EVERYONE,
        "POST /items/import": SIGNED_IN,
        # Nobody has the job that it is called with.
        "GET /jobs/{job_id}/rejected": "401 404 404 404 404 401",
    }
)
