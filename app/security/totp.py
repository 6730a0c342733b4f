"""One-time codes: those that an authenticator app shows (RFC 6238), and those kept on paper."""

import hmac
import secrets
from datetime import datetime

STEP_SECONDS = 30
_SKEW = 1  # steps before and after ours that are accepted (RFC 6238, section 5.2)
RECOVERY_CODES = 10
# No letter that is read as another: 16 of 32 are 80 random bits, so that a plain digest will do.
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_RECOVERY_LENGTH = 16


def new_totp_secret() -> str:
    """Return a secret of 160 bits in base32, as authenticator apps take it (RFC 4226, 4)."""
    import pyotp

    return str(pyotp.random_base32())


def otpauth_uri(secret: str, *, account: str, issuer: str) -> str:
    """Return the address that an authenticator app reads from a QR code."""
    import pyotp

    return str(pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=issuer))


def qr_code(text: str) -> str:
    """Return a text as a QR code: an SVG in a data URI, black on white whatever stands behind."""
    import segno

    return str(segno.make(text, error="m").svg_data_uri(scale=4, light="#fff"))


def matching_step(secret: str, code: str, moment: datetime) -> int | None:
    """Return the time step whose code this is, None where it is none of those near the moment."""
    import pyotp

    totp = pyotp.TOTP(secret, interval=STEP_SECONDS)
    now = int(moment.timestamp()) // STEP_SECONDS
    near = range(now - _SKEW, now + _SKEW + 1)
    # All are compared, so that the time taken does not tell which one came close.
    fits = [hmac.compare_digest(totp.generate_otp(step), code) for step in near]
    return next((step for step, is_it in zip(near, fits, strict=True) if is_it), None)


def new_recovery_codes() -> list[str]:
    """Return codes for whoever has lost the device."""
    return [_recovery_code() for _ in range(RECOVERY_CODES)]


def normalised(code: str) -> str:
    """Return a code as it is compared: however it was spaced, dashed or capitalised."""
    return "".join(code.split()).replace("-", "").upper()


def is_totp(code: str) -> bool:
    """Tell whether a normalised code has the form of an authenticator app's."""
    return len(code) == 6 and code.isascii() and code.isdigit()


def is_recovery(code: str) -> bool:
    """Tell whether a normalised code has the form of one kept on paper."""
    return len(code) == _RECOVERY_LENGTH and set(code) <= set(_ALPHABET)


def _recovery_code() -> str:
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_RECOVERY_LENGTH))
    return "-".join(letters[at : at + 4] for at in range(0, _RECOVERY_LENGTH, 4))
