"""What one process holds, opened and closed by the lifespan; never a module global."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from app.adapters.cache import Cache, open_cache
from app.adapters.database import Database
from app.adapters.limits import Limits, RateLimiter, parse_limits
from app.adapters.mail import Mailer, open_mailer
from app.adapters.oidc import Providers
from app.adapters.pubsub import PubSub, open_pubsub
from app.adapters.redis import RedisLink, open_redis
from app.adapters.snapshots import Snapshots
from app.adapters.storage import open_storage
from app.adapters.webhooks import WebhookSender
from app.concurrency.ending import ended
from app.concurrency.unending import unending
from app.events.hub import Hub
from app.events.invalidation import forget_changed
from app.events.presence import Presence
from app.events.tail import EventTail
from app.observability.metrics import Metrics
from app.observability.tracing import Tracing
from app.security.fingerprints import Fingerprints
from app.security.key_files import read_keys
from app.security.keys import KeyRing, SigningKey, keys_of_secrets, outlives
from app.security.links import LinkSigner
from app.security.passwords import PasswordHasher
from app.security.sealing import Sealer
from app.security.secrets import development_secret
from app.security.signing import CursorSigner
from app.security.ssrf import is_public
from app.security.tokens import TokenIssuer
from app.services import session_use, signing_keys
from app.services.accounts import Accounts
from app.services.addresses import Addresses
from app.services.api_keys import ApiKeys
from app.services.authentication import Authenticator
from app.services.files import Files
from app.services.key_uses import KeyUses
from app.services.notices import tell_of_sign_in
from app.services.post import Post
from app.services.recovery import Recovery
from app.services.second_factor import SecondFactor
from app.services.sessions import Sessions
from app.services.social_login import SocialLogin
from app.services.webhook_loop import WebhookLoop
from app.services.webhook_secrets import WebhookSecrets
from app.services.webhook_turns import WebhookTurns
from app.services.webhooks import Webhooks
from app.settings import Settings
from app.shutdown import drain_on_signal

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Resources:
    """The parts of one process, each made once."""

    settings: Settings
    metrics: Metrics
    db: Database
    snapshots: Snapshots
    redis: RedisLink | None
    pubsub: PubSub
    limiter: RateLimiter
    cache: Cache
    passwords: PasswordHasher
    authenticator: Authenticator
    api_keys: ApiKeys
    key_uses: KeyUses
    accounts: Accounts
    recovery: Recovery
    addresses: Addresses
    sessions: Sessions
    second_factor: SecondFactor
    mailer: Mailer
    post: Post
    social_login: SocialLogin
    cursors: CursorSigner
    fingerprints: Fingerprints
    keys: KeyRing
    tail: EventTail
    hub: Hub
    files: Files
    links: LinkSigner
    webhooks: Webhooks
    webhook_secrets: WebhookSecrets
    webhook_loop: WebhookLoop
    tracing: Tracing | None
    is_draining: bool = False
    started_at: float = field(default_factory=time.monotonic)

    def drain(self) -> None:
        """Say that this process is about to end: not ready any more, and streams may come back."""
        self.is_draining = True
        self.hub.close()

    def uptime(self) -> float:
        """Return the seconds since the process was ready."""
        return time.monotonic() - self.started_at


@asynccontextmanager
async def open_resources(
    settings: Settings, metrics: Metrics, tracing: Tracing | None
) -> AsyncIterator[Resources]:
    """Open everything, run what runs beside the requests, and close it all in reverse."""
    async with AsyncExitStack() as stack:
        resources = _build(settings, metrics, stack, tracing)
        await resources.files.storage.open()
        await resources.tail.start()
        tasks = [
            asyncio.create_task(unending(name, run), name=name)
            for name, run in {
                "pubsub": resources.pubsub.run,
                "event-tail": resources.tail.run,
                "hub": resources.hub.run,
                "presence": resources.hub.keep_count,
                "key-uses": resources.key_uses.run,
                "loop-lag": lambda: _watch_loop(metrics),
                "session-use": lambda: session_use.run(resources.db, resources.authenticator),
                "signing-keys": lambda: _follow_keys(resources),
            }.items()
        ]
        stack.push_async_callback(ended, *tasks)
        logger.info("ready: %s", "; ".join(f"{k}: {v}" for k, v in describe(resources).items()))
        with drain_on_signal(resources.drain, settings.drain_seconds):
            yield resources
        resources.drain()


def describe(resources: Resources) -> dict[str, str]:
    """Return which parts are real and which embedded, for the log and for `kingpost doctor`."""
    return {
        "database": "PostgreSQL" if resources.db.is_postgres else "SQLite (embedded)",
        "mail": "SMTP" if resources.settings.smtp_host else "files in DATA_DIR/mail (embedded)",
        "redis": "connected by URL" if resources.redis else "in-process (embedded)",
        "files": "S3" if resources.settings.s3_bucket else "local disk (embedded)",
    }


def secrets_of(settings: Settings) -> list[bytes]:
    """Return the secret, and the one beside it; in development one is made where none is set."""
    given = [settings.secret_key, settings.secret_key_previous]
    known = [each.get_secret_value() for each in given if each]
    if settings.secret_key is None:
        known.insert(0, development_secret(settings.data_dir / "secrets"))
    return [each.encode() for each in known]


def open_keys(settings: Settings, of_secrets: Sequence[SigningKey]) -> KeyRing:
    """Return the keys that access tokens are signed and verified by.

    Where there are files, the secret's key signs until the first of them does.

    Raises:
        ValueError, OSError: the files cannot be used.
    """
    of_files = read_keys(settings.signing_keys_dir) if settings.signing_keys_dir else []
    return KeyRing(
        [*of_secrets, *of_files],
        outlives=outlives(
            timedelta(minutes=settings.access_token_minutes),
            timedelta(seconds=settings.clock_leeway_seconds),
        ),
    )


async def _follow_keys(resources: Resources) -> None:
    folder = resources.settings.signing_keys_dir
    if folder is not None:
        of_secrets = keys_of_secrets(*secrets_of(resources.settings))
        on_change = resources.authenticator.forget_tokens
        await signing_keys.follow(folder, resources.keys, of_secrets, on_change)


def _build(
    settings: Settings, metrics: Metrics, stack: AsyncExitStack, tracing: Tracing | None
) -> Resources:
    if tracing:
        tracing.start()
        stack.push_async_callback(tracing.close)
    secrets = secrets_of(settings)
    secret = secrets[0]
    db = Database(settings, trace=tracing.statement if tracing else None)
    stack.push_async_callback(db.close)
    snapshots = Snapshots(settings, trace=tracing.statement if tracing else None)
    snapshots.trace = tracing.snapshot if tracing else None
    stack.push_async_callback(snapshots.close)
    redis = open_redis(settings)
    if redis is not None:
        redis.trace = tracing.command if tracing else None
        stack.push_async_callback(redis.close)
    cache = open_cache(
        redis, on_lookup=lambda name, outcome: metrics.cache_lookups.labels(name, outcome).inc()
    )
    stack.push_async_callback(cache.close)
    pubsub = open_pubsub(redis)
    stack.push_async_callback(pubsub.close)
    storage = open_storage(settings)
    stack.push_async_callback(storage.close)
    providers = Providers(settings)
    stack.push_async_callback(providers.close)
    passwords = PasswordHasher(
        concurrency=settings.password_hash_concurrency, max_waiting=settings.password_hash_queue
    )
    stack.callback(passwords.close)
    keys = open_keys(settings, keys_of_secrets(*secrets))
    tokens = TokenIssuer(
        keys,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        lifetime=timedelta(minutes=settings.access_token_minutes),
        leeway=timedelta(seconds=settings.clock_leeway_seconds),
    )
    tail = EventTail(db, pubsub, poll_seconds=settings.event_poll_seconds)
    db.after_commit.append(tail.announce)
    key_uses = KeyUses(db)
    authenticator = Authenticator(
        db,
        tokens,
        tail.is_fresh,
        on_key_use=key_uses.note,
        admins_need_second_factor=settings.require_second_factor_for_admins,
    )
    tail.listen_early(lambda events: forget_changed(authenticator, events))
    hub = Hub(db, pubsub, tail, authenticator, Presence(redis), settings, metrics)
    tail.listen(tracing.events(hub.deliver) if tracing else hub.deliver)
    metrics.pool_limit.set(settings.database_pool_size)
    metrics.refresh_with(lambda: _read_pool(metrics, db))
    limiter = RateLimiter(redis, on_refusal=lambda name: metrics.rate_limited.labels(name).inc())
    post = Post(Sealer(secrets, "mail"), limiter, _mails_to_one(settings))
    forget_user = authenticator.forget_user
    sender = WebhookSender(is_allowed=_anywhere if settings.webhooks_allow_private else is_public)
    sender.trace = tracing.webhook if tracing else None
    stack.callback(sender.close)
    webhook_secrets = WebhookSecrets(db, Sealer(secrets, "webhooks"))
    webhooks = Webhooks(db, sender, webhook_secrets, settings)
    turns = WebhookTurns(db, webhooks, webhook_secrets, sender, post, metrics, settings)
    webhook_loop = WebhookLoop(db, webhooks, turns)
    tail.listen(lambda _: webhook_loop.events_came())
    return Resources(
        settings=settings,
        metrics=metrics,
        db=db,
        snapshots=snapshots,
        redis=redis,
        pubsub=pubsub,
        limiter=limiter,
        cache=cache,
        passwords=passwords,
        authenticator=authenticator,
        api_keys=ApiKeys(db, authenticator),
        key_uses=key_uses,
        accounts=Accounts(db, passwords, secret, post=post, on_change=forget_user),
        recovery=Recovery(db, passwords, post, on_change=forget_user),
        addresses=Addresses(db, post, on_change=forget_user),
        sessions=Sessions(
            db,
            tokens,
            authenticator,
            secrets=secrets,
            idle_life=timedelta(days=settings.refresh_token_days),
            longest_life=timedelta(days=settings.session_days),
            on_open=partial(tell_of_sign_in, post),
        ),
        second_factor=SecondFactor(
            db,
            secret,
            Sealer(secrets, "totp"),
            issuer=settings.second_factor_issuer,
            post=post,
            on_change=forget_user,
        ),
        mailer=open_mailer(settings),
        post=post,
        social_login=SocialLogin(
            db,
            providers,
            authenticator,
            settings,
            secrets,
        ),
        cursors=CursorSigner(secrets),
        fingerprints=Fingerprints(secrets),
        keys=keys,
        tail=tail,
        hub=hub,
        files=Files(db, storage, settings),
        links=LinkSigner(secrets),
        webhooks=webhooks,
        webhook_secrets=webhook_secrets,
        webhook_loop=webhook_loop,
        tracing=tracing,
    )


def _anywhere(_address: str) -> bool:
    return True


def _mails_to_one(settings: Settings) -> Limits | None:
    return parse_limits(settings.rate_limit_mail_to) if settings.rate_limits_enabled else None


async def _watch_loop(metrics: Metrics) -> None:
    """Measure how late a timer fires; what blocks the loop shows here first."""
    pause = 0.25
    while True:
        due = time.monotonic() + pause
        await asyncio.sleep(pause)
        metrics.loop_lag.observe(max(0.0, time.monotonic() - due))
        metrics.refresh()


def _read_pool(metrics: Metrics, db: Database) -> None:
    size, in_use = db.pool_use()
    metrics.pool_size.set(size)
    metrics.pool_in_use.set(in_use)
