"""Signatures that the public library of the scheme accepts, and secrets that only we can read."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.security.sealed import Sealer, Unsealable
from app.security.webhook_signing import new_signing_secret, signed_headers

BODY = '{"type":"item.created","data":{"name":"Schöner Tisch"}}'.encode()
OLD, NEW = b"o" * 32, b"n" * 32


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


def test_a_sealed_secret_opens_again_and_never_looks_the_same() -> None:
    sealer = Sealer("webhooks", OLD)
    first, second = sealer.seal("whsec_x", "user:1"), sealer.seal("whsec_x", "user:1")
    assert first != second
    assert "whsec" not in first
    assert sealer.open(first, "user:1") == sealer.open(second, "user:1") == "whsec_x"


def test_it_opens_with_the_previous_key_and_is_then_sealed_under_the_new_one() -> None:
    sealed = Sealer("webhooks", OLD).seal("whsec_x", "user:1")
    both = Sealer("webhooks", NEW, OLD)
    assert both.open(sealed, "user:1") == "whsec_x"
    assert not sealed.startswith(both.prefix)
    assert both.seal("whsec_x", "user:1").startswith(both.prefix)
    with pytest.raises(Unsealable):
        Sealer("webhooks", NEW).open(sealed, "user:1")


def test_it_opens_nowhere_else() -> None:
    sealer = Sealer("webhooks", OLD)
    sealed = sealer.seal("whsec_x", "user:1")
    changed = sealed[:-2] + ("A" if sealed[-2] != "A" else "B") + sealed[-1]
    for text, context in ((sealed, "user:2"), (changed, "user:1")):
        with pytest.raises(Unsealable):
            sealer.open(text, context)
    other_purpose = Sealer("mail", OLD)
    with pytest.raises(Unsealable):
        other_purpose.open(sealed, "user:1")
