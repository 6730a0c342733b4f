"""Every setting of the service, typed and documented."""

from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic.functional_validators import BeforeValidator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.settings.identity_providers import ProviderSettings, read_json
from app.settings.rules import Unsafe, problems
from app.settings.sources import CommaSeparated, FileSource


class Environment(StrEnum):
    """Where the service runs; production refuses unsafe settings."""

    DEVELOPMENT = "development"
    TEST = "test"
    PRODUCTION = "production"


class MailTls(StrEnum):
    """How the way to the mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Settings(BaseSettings):
    """The whole configuration of one process."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    # ── Where and how it runs ────────────────────────────────────────────────────────────────
    environment: Environment = Field(
        Environment.DEVELOPMENT, description="development, test or production."
    )
    host: str = Field("127.0.0.1", description="Address that `kingpost serve` listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    web_concurrency: int | None = Field(
        None, ge=1, description="Gunicorn workers. Unset: from the CPUs (and the cgroup's limit)."
    )
    data_dir: Path = Field(
        Path("var"), description="Folder of the embedded parts: database, secrets, files, mails."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )
    log_format: Literal["auto", "json", "pretty"] = Field(
        "auto", description="auto is pretty on a terminal and JSON elsewhere."
    )
    drain_seconds: float = Field(
        0.0,
        ge=0,
        le=15,
        description="Seconds that /health/ready answers 503 before the socket closes.",
    )

    # ── Traces ───────────────────────────────────────────────────────────────────────────────
    otlp_endpoint: str | None = Field(
        None,
        description="Where traces are sent by OTLP over HTTP, such as http://collector:4318. "
        "Unset: none are made.",
    )
    trace_sample_ratio: float = Field(
        0.1, ge=0, le=1, description="Share of the requests that are traced."
    )

    # ── Database ─────────────────────────────────────────────────────────────────────────────
    database_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host/name. Unset: SQLite in DATA_DIR."
    )
    database_pool_size: int = Field(
        5,
        ge=1,
        description="Connections per process (about two per core of the database serve best).",
    )
    database_pool_timeout: float = Field(
        2.5, gt=0, description="Seconds to wait for a connection before answering 503."
    )
    database_statement_timeout: float = Field(
        15.0, gt=0, description="Seconds after which PostgreSQL ends a statement."
    )
    database_pgbouncer: bool = Field(
        False, description="Set when PgBouncer in transaction mode stands between."
    )

    # ── Redis ────────────────────────────────────────────────────────────────────────────────
    redis_url: SecretStr | None = Field(
        None,
        description="redis://host:6379/0, or redis+sentinel://host:26379,host2:26379/service/0. "
        "Unset: in-process parts, one worker only.",
    )
    redis_timeout: float = Field(
        0.05, gt=0, description="Seconds that a cache or limit may wait for Redis."
    )

    # ── Security ─────────────────────────────────────────────────────────────────────────────
    secret_key: SecretStr | None = Field(
        None,
        description="At least 32 random bytes; signs tokens and cursors. Unset in development: "
        "made on the first start, in DATA_DIR/secrets.",
    )
    secret_key_previous: SecretStr | None = Field(
        None,
        description="A key beside SECRET_KEY that verifies and opens, and never signs or seals: "
        "the one before the last change, or the one to come.",
    )
    signing_keys_dir: Path | None = Field(
        None,
        description="Folder of PEM files that sign access tokens by ES256 or RS256; "
        "`kingpost keys` makes them. Unset: HS256 by SECRET_KEY.",
    )
    token_issuer: str = Field("kingpost", description="`iss` of the access tokens.")
    token_audience: str = Field("kingpost-api", description="`aud` of the access tokens.")
    access_token_minutes: int = Field(15, ge=1, le=1440, description="Life of an access token.")
    refresh_token_days: int = Field(30, ge=1, description="Life of a session without use.")
    session_days: int = Field(
        180, ge=1, description="Life of a session however much it is used; then one signs in anew."
    )
    require_second_factor_for_admins: bool = Field(
        False, description="Admins without a second factor have no more power than anyone."
    )
    second_factor_issuer: str = Field(
        "Kingpost", min_length=1, description="Name of this service in authenticator apps."
    )
    clock_leeway_seconds: int = Field(
        60, ge=0, le=300, description="Clock skew that token times are forgiven."
    )
    password_hash_concurrency: int | None = Field(
        None, ge=1, description="Password hashes at once per process. Unset: one per CPU."
    )
    password_hash_queue: int = Field(
        64, ge=1, description="Sign-ins that may wait for a hash before the answer is 503."
    )
    audit_retention_days: int = Field(
        400, ge=1, description="Days that the audit log is kept: a year, and time to look back."
    )
    cors_origins: CommaSeparated = Field(
        (), description="Origins allowed by CORS and on WebSockets, comma-separated."
    )
    cors_credentials: bool = Field(False, description="Allow credentials in CORS.")
    trusted_proxies: CommaSeparated = Field(
        ("127.0.0.1",),
        description="Addresses or networks whose X-Forwarded-* headers are believed.",
    )
    hsts_seconds: int = Field(
        63_072_000, ge=0, description="Strict-Transport-Security max-age, sent over TLS only."
    )
    public_url: str | None = Field(
        None,
        description="Where people reach the service, such as https://api.example.com. "
        "Unset: as each request says; in mails localhost.",
    )
    oidc_providers: Annotated[dict[str, ProviderSettings], NoDecode, BeforeValidator(read_json)] = (
        Field(
            {},
            description="Who people may sign in by, as JSON: "
            '{"google": {"client_id": "…", "client_secret": "…"}}. See docs/social-login.md.',
        )
    )
    oidc_timeout: float = Field(
        5.0, gt=0, le=12, description="Seconds that a provider may take for all of a sign-in."
    )
    operators_username: str | None = Field(
        None, description="HTTP Basic user for /metrics, and for the docs in production."
    )
    operators_password: SecretStr | None = Field(
        None, description="Its password. Both unset: /metrics is open to whoever reaches it."
    )

    # ── Mail ─────────────────────────────────────────────────────────────────────────────────
    mail_from: str = Field(
        "Kingpost <kingpost@localhost.localdomain>", description="Sender of the mails."
    )
    smtp_host: str | None = Field(
        None, description="The mail server. Unset: each mail becomes a file in DATA_DIR/mail."
    )
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port; with TLS usually 465.")
    smtp_username: str | None = Field(None, description="User to sign in with there.")
    smtp_password: SecretStr | None = Field(None, description="Its password.")
    smtp_tls: MailTls = Field(
        MailTls.STARTTLS,
        description="starttls, tls (from the first byte) or none. Certificates are checked.",
    )

    # ── Limits ───────────────────────────────────────────────────────────────────────────────
    rate_limits_enabled: bool = Field(True, description="Turn all rate limits on or off.")
    rate_limit_default: str = Field(
        "6000/minute", description="Every API call, per user, API key or address."
    )
    rate_limit_login: str = Field("120/minute", description="Sign-ins, per address.")
    rate_limit_register: str = Field("120/minute", description="Registrations, per address.")
    rate_limit_refresh: str = Field("300/minute", description="Refreshes, per address.")
    rate_limit_password: str = Field(
        "30/minute", description="Password changes and resets, per user or address."
    )
    rate_limit_export: str = Field("60/minute", description="Exports, per user or address.")
    rate_limit_import: str = Field("60/minute", description="Imports, per user.")
    exports_at_once: int = Field(
        4, ge=1, description="Exports that a process runs at once, on connections of their own."
    )
    max_import_bytes: int = Field(
        512 * 1024 * 1024, ge=1024, description="Largest body of an import, in bytes."
    )
    rate_limit_upload: str = Field("300/minute", description="Uploads of files, per user.")
    rate_limit_account_export: str = Field(
        "6/hour", description="Exports of all of one's own data, per user."
    )
    rate_limit_webhooks: str = Field(
        "60/minute", description="New, tested and repeated webhooks, per user."
    )
    rate_limit_api_keys: str = Field(
        "30/minute", description="API keys made and rotated, per user."
    )
    rate_limit_mail: str = Field(
        "30/hour", description="Requests that lead to a mail, per user or address."
    )
    rate_limit_mail_to: str = Field(
        "3/hour;10/day", description="Mails of one kind to one e-mail address, whoever asks."
    )
    max_requests_at_once: int = Field(
        200, ge=1, description="Requests that a process works on at once; to more it answers 503."
    )
    max_body_bytes: int = Field(
        2 * 1024 * 1024, ge=1024, description="Largest request body outside uploads, in bytes."
    )
    max_query_bytes: int = Field(8192, ge=256, description="Longest query string, in bytes.")
    max_header_count: int = Field(100, ge=10, description="Most header fields of a request.")
    max_json_depth: int = Field(32, ge=4, description="Deepest nesting of a JSON body.")

    # ── Files ────────────────────────────────────────────────────────────────────────────────
    files_dir: Path | None = Field(
        None, description="Folder of uploaded files. Unset: DATA_DIR/files. Not used with S3."
    )
    max_file_bytes: int = Field(50 * 1024 * 1024, ge=1, description="Largest file, in bytes.")
    max_upload_bytes: int = Field(
        200 * 1024 * 1024, ge=1024, description="Largest upload of one or many files, in bytes."
    )
    max_files_per_upload: int = Field(20, ge=1, description="Most files in one upload.")
    max_files_per_item: int = Field(100, ge=1, le=1000, description="Most files of one item.")
    file_quota_bytes: int = Field(
        1024 * 1024 * 1024, ge=0, description="Bytes that the files of one owner may take."
    )
    file_types: CommaSeparated = Field(
        (
            "image/jpeg",
            "image/png",
            "image/webp",
            "image/gif",
            "application/pdf",
            "application/json",
            "application/zip",
            "text/plain",
            "text/csv",
            "audio/mpeg",
            "video/mp4",
        ),
        description="Media types of files that are accepted, told from the content.",
    )
    s3_bucket: str | None = Field(
        None, description="Bucket that files are kept in. Unset: in FILES_DIR."
    )
    s3_endpoint_url: str | None = Field(
        None, description="Address of the S3 service. Unset: that of AWS."
    )
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_access_key_id: str | None = Field(
        None, description="Unset: from where AWS's own tools take it, such as the pod's role."
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="Goes with the key id.")

    # ── Jobs ─────────────────────────────────────────────────────────────────────────────────
    run_jobs: Literal["auto", "inline", "worker"] = Field(
        "auto",
        description="Who runs jobs: the server itself (inline) or `kingpost worker`. auto is "
        "worker with Redis and inline without.",
    )
    job_concurrency: int = Field(10, ge=1, le=1000, description="Jobs at once per process.")
    job_lease_seconds: float = Field(
        30.0, gt=0, description="After this long without a sign of life a job is run again."
    )
    worker_port: int = Field(
        9000, ge=0, le=65535, description="Port of a worker's /health and /metrics."
    )

    # ── API versions ─────────────────────────────────────────────────────────────────────────
    api_v1_deprecated_at: datetime | None = Field(
        None, description="When v1 became deprecated (RFC 9745), RFC 3339."
    )
    api_v1_sunset_at: datetime | None = Field(
        None, description="When v1 stops answering (RFC 8594), RFC 3339."
    )

    # ── Events ───────────────────────────────────────────────────────────────────────────────
    event_retention_hours: int = Field(24, ge=1, description="How long events can be resumed.")
    event_poll_seconds: float = Field(
        0.5, gt=0, le=1, description="Net under the wake-ups: how often new events are looked for."
    )
    websocket_ping_seconds: float = Field(20.0, gt=0, description="Pause between server pings.")
    websocket_queue: int = Field(
        256, ge=8, description="Messages a slow reader may lag behind before it is closed (1013)."
    )
    websocket_messages_per_second: float = Field(
        20.0, gt=0, description="Messages a client may send each second, averaged."
    )
    websocket_connections_per_user: int = Field(
        50, ge=1, description="Open sockets per user and process."
    )
    websocket_connections_per_address: int = Field(
        1000, ge=1, description="Open sockets per address and process, signed in or not yet."
    )
    stats_cache_seconds: int = Field(30, ge=1, description="Life of the cached item statistics.")

    # ── Webhooks ─────────────────────────────────────────────────────────────────────────────
    webhooks_allow_http: bool = Field(
        False, description="Let webhooks go to http:// in production too; elsewhere they may."
    )
    webhooks_allow_private: bool = Field(
        False,
        description="Let webhooks go to private, loopback and link-local addresses. Whoever may "
        "register one can then reach your network: for development and tests.",
    )
    webhooks_ports: CommaSeparated = Field(
        (), description="Ports that webhooks may go to, comma-separated. Unset: any."
    )
    webhooks_wait_scale: float = Field(
        1.0, gt=0, le=1, description="Factor of the waits between attempts; below 1 for tests."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then `*_FILE`, then `.env`."""
        return init_settings, env_settings, FileSource(settings_cls), dotenv_settings

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        found = problems(self)
        if found:
            raise Unsafe(found)
        return self

    @cached_property
    def sqlalchemy_url(self) -> str:
        """The database URL with an async driver; plain `postgresql://` would mean psycopg."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{self.data_dir / 'kingpost.db'}"
        url = self.database_url.get_secret_value()
        scheme, separator, rest = url.partition("://")
        if scheme in ("postgres", "postgresql"):
            scheme = "postgresql+asyncpg"
        elif scheme == "sqlite":
            scheme = "sqlite+aiosqlite"
        return f"{scheme}{separator}{rest}"

    @property
    def is_postgres(self) -> bool:
        """True where the database is PostgreSQL; else it is SQLite."""
        return self.sqlalchemy_url.startswith("postgresql+")

    @property
    def runs_jobs_inline(self) -> bool:
        """True where the server runs jobs itself."""
        return self.run_jobs == "inline" or (self.run_jobs == "auto" and self.redis_url is None)

    @property
    def is_production(self) -> bool:
        """True where unsafe settings are refused and operators' pages are guarded."""
        return self.environment is Environment.PRODUCTION
