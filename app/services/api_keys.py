"""The life of an API key: made, renamed, given another secret, revoked."""

from datetime import timedelta

from app.adapters.database import Database
from app.errors import NotFound, TooManyApiKeys
from app.models.api_keys import ApiKey
from app.models.audit import AuditKind
from app.repositories.api_keys import ApiKeyRepository
from app.repositories.audit import Act, record
from app.schemas.api_keys import ApiKeyIn
from app.security.api_keys import new_api_key, visible_part
from app.security.opaque import digest
from app.services.authentication import Authenticator

MAX_KEYS = 50  # of one user


class ApiKeys:
    """The keys of users. Each is its owner's alone: others, admins included, find none."""

    def __init__(self, db: Database, authenticator: Authenticator) -> None:
        self._db = db
        self._authenticator = authenticator

    async def create(self, user_id: int, body: ApiKeyIn) -> tuple[ApiKey, str]:
        """Create a key; return it with its secret, which is kept nowhere.

        Raises:
            TooManyApiKeys: the user has as many as one may have.
        """
        secret = new_api_key()
        async with self._db.transaction() as connection:
            repository = ApiKeyRepository(connection)
            if await repository.count_for_update(user_id) >= MAX_KEYS:
                raise TooManyApiKeys(f"At most {MAX_KEYS} keys: delete one first")
            key = await repository.add(
                user_id=user_id,
                name=body.name,
                prefix=visible_part(secret),
                digest=digest(secret),
                scopes=[scope.value for scope in body.scopes],
                expires_at=body.expires_at,
            )
            detail = {"scopes": list(key.scopes)}
            await record(
                connection, Act(AuditKind.API_KEY_CREATED, "api_key", key.id, detail=detail)
            )
        return key, secret

    async def listed(self, user_id: int) -> list[ApiKey]:
        """Return a user's keys, the newest first."""
        async with self._db.read() as connection:
            return await ApiKeyRepository(connection).of_user(user_id)

    async def get(self, user_id: int, key_id: int) -> ApiKey:
        """Return one of a user's keys.

        Raises:
            NotFound: the user has none of this id.
        """
        async with self._db.read() as connection:
            return _found(await ApiKeyRepository(connection).get(user_id, key_id))

    async def rename(self, user_id: int, key_id: int, name: str) -> ApiKey:
        """Give a key another name.

        Raises:
            NotFound: the user has none of this id.
        """
        async with self._db.transaction() as connection:
            return _found(await ApiKeyRepository(connection).rename(user_id, key_id, name))

    async def rotate(self, user_id: int, key_id: int, overlap: timedelta) -> tuple[ApiKey, str]:
        """Give a key a new secret at once; the old one works until the overlap ends.

        Raises:
            NotFound: the user has none of this id.
        """
        secret = new_api_key()
        async with self._db.transaction() as connection:
            rotated = await ApiKeyRepository(connection).rotate(
                user_id,
                key_id,
                prefix=visible_part(secret),
                digest=digest(secret),
                overlap=overlap,
            )
            if rotated is not None:
                await record(connection, Act(AuditKind.API_KEY_ROTATED, "api_key", key_id))
        self._authenticator.forget_key(key_id)  # other workers hear of it by the event
        return _found(rotated), secret

    async def delete(self, user_id: int, key_id: int) -> None:
        """Revoke a key.

        Raises:
            NotFound: the user has none of this id.
        """
        async with self._db.transaction() as connection:
            is_gone = await ApiKeyRepository(connection).delete(user_id, key_id)
            if is_gone:
                await record(connection, Act(AuditKind.API_KEY_REVOKED, "api_key", key_id))
        self._authenticator.forget_key(key_id)
        if not is_gone:
            raise NotFound(_NONE)


_NONE = "There is no such API key"


def _found(key: ApiKey | None) -> ApiKey:
    if key is None:
        raise NotFound(_NONE)
    return key
