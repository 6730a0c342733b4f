"""Every error that the domain can raise, with the status and stable code that clients see.

Raised in any room; turned into RFC 9457 problem+json in one place, `app.middleware.problems`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class DomainError(Exception):
    """A refusal that the client is told about: a status, a stable code and a sentence."""

    status: ClassVar[int] = 500
    error_code: ClassVar[str] = "INTERNAL_ERROR"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


class BadRequest(DomainError):
    status, error_code, title = 400, "BAD_REQUEST", "Bad request"


class UnsupportedApiVersion(DomainError):
    status, error_code, title = 400, "UNSUPPORTED_API_VERSION", "Unsupported API version"


class UpgradeRequired(DomainError):
    """Plain HTTP where a WebSocket speaks, or a proxy that dropped `Upgrade` on the way."""

    status, error_code, title = 426, "UPGRADE_REQUIRED", "Upgrade to a WebSocket"


class InvalidOneTimeToken(BadRequest):
    """A token from a mail that was used, has run out, or is for something else."""

    error_code, title = "INVALID_ONE_TIME_TOKEN", "The link is invalid, used or has expired"


class SignInExpired(BadRequest):
    error_code = "SIGN_IN_EXPIRED"
    title = "This sign-in was not begun in this browser, took too long or is over: begin again"


class InvalidCursor(DomainError):
    status, error_code, title = 400, "INVALID_CURSOR", "Invalid cursor"


class Unauthenticated(DomainError):
    """No valid credentials. Carries `WWW-Authenticate` (RFC 9110, section 11.6.1)."""

    status, error_code, title = 401, "UNAUTHENTICATED", "Authentication required"

    def __init__(
        self,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            detail, headers={"WWW-Authenticate": "Bearer", **(headers or {})}, extra=extra
        )


class InvalidCredentials(Unauthenticated):
    error_code, title = "INVALID_CREDENTIALS", "Wrong username or password"


class InvalidToken(Unauthenticated):
    """A token that is not good; the challenge says so by RFC 6750, section 3.1."""

    error_code, title = "INVALID_TOKEN", "The token is invalid or has expired"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


class InvalidApiKey(Unauthenticated):
    error_code, title = "INVALID_API_KEY", "The API key is invalid, has expired or was revoked"


class TokenReused(Unauthenticated):
    """A spent refresh token came back: its whole session has been revoked (RFC 9700, 4.14.2)."""

    error_code, title = "TOKEN_REUSED", "The refresh token was already used"


class SecondFactorRequired(Unauthenticated):
    """The password was right; `challenge` goes back with the code, before it runs out."""

    error_code, title = "SECOND_FACTOR_REQUIRED", "A code of the second factor is required"

    def __init__(self, challenge: str, *, expires_in: int) -> None:
        super().__init__(
            headers={"Cache-Control": "no-store"},
            extra={"challenge": challenge, "challenge_expires_in": expires_in},
        )


class InvalidChallenge(Unauthenticated):
    error_code, title = "INVALID_CHALLENGE", "The challenge has expired; sign in again"


class InvalidCode(Unauthenticated):
    error_code, title = "INVALID_CODE", "The code is wrong or was used before"


class InvalidIdToken(Unauthenticated):
    error_code, title = "INVALID_ID_TOKEN", "The provider's proof of identity is not valid"


class Forbidden(DomainError):
    status, error_code, title = 403, "FORBIDDEN", "Not allowed"


class SecondFactorSetupRequired(Forbidden):
    error_code, title = "SECOND_FACTOR_SETUP_REQUIRED", "Admins need a second factor here"


class CrossSiteRequest(Forbidden):
    error_code, title = "CROSS_SITE_REQUEST", "The cookie works from our own pages only"


class InvalidSignature(Forbidden):
    error_code, title = "INVALID_SIGNATURE", "The link is not valid, or not any more"


class AccountSuspended(Forbidden):
    error_code, title = "ACCOUNT_SUSPENDED", "This account is suspended"


class ProviderRefused(Forbidden):
    error_code, title = "PROVIDER_REFUSED", "The provider did not let you sign in"


class InsufficientScope(Forbidden):
    error_code, title = "INSUFFICIENT_SCOPE", "The API key may not be used for this"


class NotFound(DomainError):
    status, error_code, title = 404, "NOT_FOUND", "Not found"


class MethodNotAllowed(DomainError):
    status, error_code, title = 405, "METHOD_NOT_ALLOWED", "Method not allowed"


class RequestTimeout(DomainError):
    status, error_code, title = 408, "REQUEST_TIMEOUT", "The request did not go on"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class Conflict(DomainError):
    status, error_code, title = 409, "CONFLICT", "Conflict"


class EmailTaken(Conflict):
    error_code, title = "EMAIL_TAKEN", "This e-mail address is already registered"


class UsernameTaken(Conflict):
    error_code, title = "USERNAME_TAKEN", "This username is taken"


class SecondFactorExists(Conflict):
    error_code, title = "SECOND_FACTOR_EXISTS", "There is a second factor already"


class LastAdmin(Conflict):
    error_code, title = "LAST_ADMIN", "The last active admin cannot be removed"


class EmailNeeded(Conflict):
    error_code, title = (
        "EMAIL_NEEDED",
        "The provider told no e-mail address, which an account needs",
    )


class LinkNeeded(EmailTaken):
    """An account has the address, but not both sides have seen that its owner reads mail there."""

    title = (
        "An account with this e-mail address exists: sign in to it as before, and link the "
        "provider from there"
    )


class IdentityTaken(Conflict):
    error_code, title = "IDENTITY_TAKEN", "This identity is linked to another account"


class LastWayIn(Conflict):
    error_code = "LAST_WAY_IN"
    title = "Without a password or another identity nobody could sign in to the account"


class TooManyApiKeys(Conflict):
    error_code, title = "TOO_MANY_API_KEYS", "There are as many API keys as one may have"


class IdempotencyInProgress(Conflict):
    error_code, title = "IDEMPOTENCY_IN_PROGRESS", "The first request with this key still runs"


class TooManyFiles(Conflict):
    error_code, title = "TOO_MANY_FILES", "The item has as many files as it may have"


class UploadIncomplete(Conflict):
    error_code, title = "UPLOAD_INCOMPLETE", "The file has not been uploaded yet"


class JobFinished(Conflict):
    error_code, title = "JOB_FINISHED", "The job has already finished"


class JobNotFailed(Conflict):
    error_code, title = "JOB_NOT_FAILED", "Only a failed or cancelled job can be retried"


class Gone(DomainError):
    status, error_code, title = 410, "GONE", "Gone"


class EventsExpired(Gone):
    error_code, title = "EVENTS_EXPIRED", "Events before the retention period are gone"


class PreconditionFailed(DomainError):
    status, error_code, title = 412, "PRECONDITION_FAILED", "The resource has changed"


class PayloadTooLarge(DomainError):
    status, error_code, title = 413, "PAYLOAD_TOO_LARGE", "The body is too large"


class FileTooLarge(PayloadTooLarge):
    error_code, title = "FILE_TOO_LARGE", "The file is too large"


class QuotaExceeded(PayloadTooLarge):
    error_code, title = "QUOTA_EXCEEDED", "The owner's storage is used up"


class UriTooLong(DomainError):
    status, error_code, title = 414, "URI_TOO_LONG", "The URL is too long"


class UnsupportedMediaType(DomainError):
    status, error_code, title = 415, "UNSUPPORTED_MEDIA_TYPE", "Unsupported media type"


class FileTypeNotAllowed(UnsupportedMediaType):
    error_code, title = "FILE_TYPE_NOT_ALLOWED", "Files of this type are not accepted"


class RangeNotSatisfiable(DomainError):
    """No byte of the range exists; `Content-Range` tells the size (RFC 9110, section 15.5.17)."""

    status, error_code, title = 416, "RANGE_NOT_SATISFIABLE", "The range lies beyond the end"

    def __init__(self, size: int) -> None:
        super().__init__(headers={"Content-Range": f"bytes */{size}"})


class Unprocessable(DomainError):
    """Input that is well-formed but not acceptable; `errors` names the fields.

    Each entry is `{"field": dotted path, "message": sentence, "type": stable kind}`.
    """

    status, error_code, title = 422, "VALIDATION_ERROR", "The input is not acceptable"

    def __init__(
        self, detail: str | None = None, *, errors: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(detail, extra={"errors": errors or []})

    @classmethod
    def field(cls, field: str, message: str, kind: str = "value_error") -> "Unprocessable":
        """Return the error for one field."""
        return cls(message, errors=[{"field": field, "message": message, "type": kind}])


class IdempotencyKeyReused(Unprocessable):
    error_code, title = "IDEMPOTENCY_KEY_REUSED", "This key was used with another request"


class BulkRefused(Unprocessable):
    """An all-or-nothing request had a bad entry; nothing was changed."""

    error_code, title = "BULK_REFUSED", "An entry was refused, so nothing was changed"


class ChecksumMismatch(Unprocessable):
    error_code, title = "CHECKSUM_MISMATCH", "What arrived is not what was announced"


class RateLimited(DomainError):
    """Too many requests; `retry_after` in whole seconds becomes `Retry-After`."""

    status, error_code, title = 429, "RATE_LIMITED", "Too many requests"

    def __init__(self, detail: str | None = None, *, retry_after: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class AccountLocked(RateLimited):
    error_code, title = "ACCOUNT_LOCKED", "Too many failed sign-ins; try again later"


class TooManyImports(RateLimited):
    error_code, title = "TOO_MANY_IMPORTS", "Too many of your imports are waiting"


class HeadersTooLarge(DomainError):
    status, error_code, title = 431, "HEADERS_TOO_LARGE", "Too many or too large header fields"


class ProviderFailed(DomainError):
    """502 and not 503: a proxy that tried a callback again would find it spent."""

    status, error_code, title = 502, "PROVIDER_FAILED", "The provider did not answer as it should"


class Unavailable(DomainError):
    """Something this request needs is away for now; the client should come back."""

    status, error_code, title = 503, "SERVICE_UNAVAILABLE", "Temporarily unavailable"

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class TooManyExports(Unavailable):
    error_code, title = "TOO_MANY_EXPORTS", "Too many exports are running; try again later"


class Overloaded(Unavailable):
    error_code, title = "OVERLOADED", "Too many requests at once; try again later"


class DatabaseUnavailable(Unavailable):
    error_code, title = "DATABASE_UNAVAILABLE", "The database is temporarily unavailable"


class StorageUnavailable(Unavailable):
    error_code, title = "STORAGE_UNAVAILABLE", "The file storage is temporarily unavailable"


class InsufficientStorage(DomainError):
    status, error_code, title = 507, "INSUFFICIENT_STORAGE", "There is no room left for the file"
