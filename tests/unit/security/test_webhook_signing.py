"""Signatures that the public library of the scheme accepts."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.security.webhook_signing import new_signing_secret, signed_headers

BODY = '{"type":"item.created","data":{"name":"Schöner Tisch"}}'.encode()


def test_the_public_library_accepts_a_signature() -> None:
    secret = new_signing_secret()
    headers = signed_headers("42", int(time.time()), BODY, [secret])
    assert Webhook(secret).verify(BODY, headers)["type"] == "item.created"


def test_the_signature_is_the_one_that_the_library_makes() -> None:
    secret = new_signing_secret()
    moment = datetime(2026, 11, 21, 8, tzinfo=UTC)
    ours = signed_headers("42", int(moment.timestamp()), BODY, [secret])["webhook-signature"]
    assert ours == Webhook(secret).sign("42", moment, BODY.decode())


def test_either_secret_verifies_while_rotating() -> None:
    old, new = new_signing_secret(), new_signing_secret()
    headers = signed_headers("42", int(time.time()), BODY, [new, old])
    for secret in (old, new):
        Webhook(secret).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_signing_secret()).verify(BODY, headers)


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp"])
def test_whatever_is_changed_is_noticed(part: str) -> None:
    secret = new_signing_secret()
    headers = signed_headers("42", int(time.time()), BODY, [secret])
    body = BODY + b" " if part == "body" else BODY
    if part != "body":
        headers[part] += "1"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_a_secret_has_256_random_bits_behind_a_prefix() -> None:
    made = {new_signing_secret() for _ in range(10)}
    assert len(made) == 10
    for secret in made:
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
