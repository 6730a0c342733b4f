"""Who may call what of webhooks: an account its own, and not even an admin another's."""

from tests.api.rules import SIGNED_IN, Rules

OWN = "401 P 404 404 404 401"
# The endpoints of these tests are off, so that nothing leaves the machine, and have no deliveries;
# tests/api/test_webhooks.py holds who may read and retry those.
NOBODYS = "401 404 404 404 404 401"

rules = Rules(
    operations={
        "GET /webhooks": SIGNED_IN,
        "POST /webhooks": SIGNED_IN,
        "GET /webhooks/{webhook_id}": OWN,
        "PATCH /webhooks/{webhook_id}": OWN,
        "DELETE /webhooks/{webhook_id}": OWN,
        "GET /webhooks/{webhook_id}/deliveries": OWN,
        "POST /webhooks/{webhook_id}/secret/rotate": OWN,
        "POST /webhooks/{webhook_id}/test": OWN,
        "POST /webhooks/{webhook_id}/replay": OWN,
        "GET /webhooks/deliveries/{delivery_id}": NOBODYS,
        "POST /webhooks/deliveries/{delivery_id}/retry": NOBODYS,
    },
    bodies={
        "POST /webhooks": {"url": "https://1.1.1.1/hook", "is_active": False},
        "PATCH /webhooks/{webhook_id}": {"events": ["item.created"]},
        "POST /webhooks/{webhook_id}/replay": {"since": "2026-01-01T00:00:00Z"},
    },
    made_by={"webhook_id": "POST /webhooks"},
)
