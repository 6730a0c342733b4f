"""Files of items: who may add, read and remove them, and what an owner's may take."""

import hashlib
from collections.abc import AsyncIterable
from datetime import datetime, timedelta
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from anyio import CapacityLimiter, to_thread

from app.adapters.database import Connection, Database
from app.adapters.storage import INCOMING, THUMBNAIL, Announced, SignedUpload, Storage
from app.clock import now
from app.errors import (
    ChecksumMismatch,
    FileTooLarge,
    FileTypeNotAllowed,
    NotFound,
    QuotaExceeded,
    TooManyFiles,
    UploadIncomplete,
)
from app.models.events import EventKind
from app.models.files import File
from app.models.items import Item
from app.repositories.files import FileRepository, Home
from app.repositories.imports import ImportRepository
from app.repositories.jobs import JobRepository
from app.schemas.files import PresignIn
from app.security.principal import Principal
from app.services import items, thumbnails, uploads
from app.services.uploads import Limits, Stored
from app.settings import Settings

AWAITED_FOR = timedelta(hours=1)  # an announced file; its quota is held for so long
THUMBNAIL_JOB = "files.thumbnail"
ORPHANED_AFTER = 2 * timedelta(seconds=uploads.LONGEST_SECONDS)  # from the first file to the commit
_NO_FILE = "There is no such file"
_NO_UPLOAD = "There is no such upload"
_UNFINISHED_AFTER = timedelta(hours=24)  # longer than any upload takes


class Reservation(NamedTuple):
    """An announced file, and where the storage takes it: None where we take it ourselves."""

    file: File
    upload: SignedUpload | None


class Files:
    """The rules of files, over the database and the storage."""

    def __init__(self, db: Database, storage: Storage, settings: Settings) -> None:
        self._db = db
        self.storage = storage
        self._quota = settings.file_quota_bytes
        self._max_per_item = settings.max_files_per_item
        self._pictures = CapacityLimiter(1)  # each may take some hundred MB while it is decoded
        self.limits = Limits(
            settings.max_file_bytes, settings.max_files_per_upload, frozenset(settings.file_types)
        )

    async def of_item(self, item_id: int, viewer: Principal | None) -> list[File]:
        """Return the files of an item that the viewer may read.

        Raises:
            NotFound: there is no such item for the viewer.
        """
        await items.read(self._db, item_id, viewer)
        async with self._db.read() as connection:
            return await FileRepository(connection).of_item(item_id)

    async def read(self, file_id: int, viewer: Principal | None) -> File:
        """Return a file whose item the viewer may read.

        Raises:
            NotFound: there is none for the viewer.
        """
        file = await self.read_by_link(file_id)
        try:
            await items.read(self._db, file.item_id, viewer)
        except NotFound as error:
            raise NotFound(_NO_FILE) from error
        return file

    async def read_by_link(self, file_id: int) -> File:
        """Return a file for whoever bears a link to it.

        Raises:
            NotFound: it is gone, or its item.
        """
        async with self._db.read() as connection:
            file = await FileRepository(connection).get(file_id)
        if file is None:
            raise NotFound(_NO_FILE)
        return file

    async def receive(
        self, item: Item, chunks: AsyncIterable[bytes], media_type: str
    ) -> list[Stored]:
        """Store the files of a multipart body; nothing of them can be seen yet.

        Raises:
            QuotaExceeded: the owner's storage is used up already.
            And all that `uploads.receive_form` raises.
        """
        async with self._db.read() as connection:
            usage = await FileRepository(connection).usage(item.owner_id, item.id)
        if usage.size >= self._quota:
            raise QuotaExceeded
        return await uploads.receive_form(self.storage, chunks, media_type, self.limits)

    async def add(self, item: Item, stored: list[Stored]) -> list[File]:
        """Make stored contents files of an item, in one transaction with their events.

        Raises:
            NotFound: the item has gone meanwhile.
            QuotaExceeded, TooManyFiles: there is no room for them.
        """
        rows = [_row(item, file) for file in stored]
        async with self._db.transaction() as connection:
            repository = FileRepository(connection)
            home = await self._make_room(repository, item, rows)
            added = await repository.add(rows)
            await repository.record(EventKind.FILE_ADDED, home, *added)
            await _ask_for_thumbnails(connection, added)
        return added

    async def remove(self, file_id: int, caller: Principal) -> None:
        """Delete a file, and then its content.

        Raises:
            NotFound: there is none that the caller may know of.
            Forbidden: the caller may only read it.
        """
        file = await self.read(file_id, caller)
        await items.read_to_change(self._db, file.item_id, caller)
        async with self._db.transaction() as connection:
            repository = FileRepository(connection)
            home = await repository.lock_home(file.item_id, file.owner_id)
            removed = await repository.remove(file_id) if home else None
            if home is None or removed is None:
                raise NotFound(_NO_FILE)
            await repository.record(EventKind.FILE_REMOVED, home, removed)
        await self.storage.delete([removed.key, _thumbnail(removed)])

    async def announce(self, item: Item, announced: PresignIn) -> Reservation:
        """Hold room for a file that is uploaded past us, and say where the storage takes it.

        Raises:
            FileTooLarge, FileTypeNotAllowed: such a file would be refused.
            NotFound, QuotaExceeded, TooManyFiles: as in `add`.
        """
        if announced.size > self.limits.file_bytes:
            raise FileTooLarge(f"A file may have at most {self.limits.file_bytes} bytes")
        uploads.require_type(announced.content_type, self.limits)
        stored = Stored(
            uploads.new_key(),
            uploads.clean_name(announced.name),
            announced.content_type,
            announced.size,
            announced.sha256,
        )
        row = {**_row(item, stored), "expires_at": now() + AWAITED_FOR}
        async with self._db.transaction() as connection:
            repository = FileRepository(connection)
            await self._make_room(repository, item, [row])
            (file,) = await repository.add([row])
        upload = await self.storage.upload_url(_incoming(file), _announced(file), AWAITED_FOR)
        return Reservation(file, upload)

    async def receive_announced(self, file_id: int, chunks: AsyncIterable[bytes]) -> None:
        """Store an announced file that comes to us.

        Raises:
            NotFound: nothing is awaited under this id.
            ChecksumMismatch: it is not what was announced.
        """
        async with self._db.read() as connection:
            file = await FileRepository(connection).awaited(file_id)
        if file is None:
            raise NotFound(_NO_UPLOAD)
        await uploads.receive_announced(self.storage, _incoming(file), chunks, _announced(file))

    async def confirm(self, item: Item, file_id: int) -> File:
        """Make an announced file, uploaded meanwhile, one that is there.

        Raises:
            UploadIncomplete: it has not been uploaded, or is not awaited.
            ChecksumMismatch, FileTypeNotAllowed: it is not what was announced, and is gone now.
        """
        async with self._db.read() as connection:
            repository = FileRepository(connection)
            file = await repository.awaited(file_id, item.id)
            there = None if file else await repository.get(file_id)
        if there is not None and there.item_id == item.id:
            return there  # confirmed before: the answer was lost, say
        if file is None:
            raise UploadIncomplete(_NO_UPLOAD)
        wanted = Stored(uploads.new_key(), file.name, "", file.size, file.sha256)
        try:
            stored = await uploads.adopt(self.storage, _incoming(file), wanted, self.limits)
        except NotFound as error:
            raise UploadIncomplete from error
        except (ChecksumMismatch, FileTypeNotAllowed):
            await self._forget(file)
            raise
        confirmed = await self._confirmed(item, file, stored)
        await self.storage.delete([_incoming(file)])
        return confirmed

    async def make_thumbnail(self, file_id: int) -> bool:
        """Make the small picture of a file and store it; False where the file is gone.

        Raises:
            NotAPicture: none can be made.
        """
        async with self._db.read() as connection:
            file = await FileRepository(connection).get(file_id)
        if file is None:
            return False
        with await to_thread.run_sync(TemporaryFile) as source:
            async with self.storage.read(file.key) as blocks:
                async for block in blocks:
                    await to_thread.run_sync(source.write, block)
            picture = await to_thread.run_sync(thumbnails.make, source, limiter=self._pictures)
        async with self.storage.create(_thumbnail(file)) as sink:
            await sink.write(picture)
        async with self._db.transaction() as connection:
            is_kept = await FileRepository(connection).set_thumbnail(file_id)
        if not is_kept:
            await self.storage.delete([_thumbnail(file)])
        return is_kept

    async def thumbnail(self, file_id: int, viewer: Principal | None) -> tuple[File, bytes]:
        """Return a file that the viewer may read, and its small picture.

        Raises:
            NotFound: there is no such file for the viewer, or it has none.
        """
        file = await self.read(file_id, viewer)
        if not file.has_thumbnail:
            raise NotFound("The file has no thumbnail")
        async with self.storage.read(_thumbnail(file)) as blocks:
            return file, b"".join([block async for block in blocks])

    async def sweep_orphans(self) -> dict[str, int]:
        """Delete what no file knows: of crashes, of purged items, of uploads never confirmed.

        To be called by a schedule; any number of processes may, at any time.
        """
        moment = now()
        async with self._db.transaction() as connection:
            expired = await FileRepository(connection).delete_expired(moment)
        orphans = 0
        async for names in self.storage.older_than(moment - ORPHANED_AFTER):
            async with self._db.read() as connection:
                keys = {_key(name) for name in names}
                known = await FileRepository(connection).known(keys)
                known |= await ImportRepository(connection).known(keys)
            lost = [name for name in names if _key(name) not in known]
            await self.storage.delete(lost)
            orphans += len(lost)
        unfinished = await self.storage.discard_unfinished(moment - _UNFINISHED_AFTER)
        return {"expired": expired, "orphans": orphans, "unfinished": unfinished}

    async def _make_room(
        self, repository: FileRepository, item: Item, rows: list[dict[str, Any]]
    ) -> Home:
        """Hold the item still and see that the rows have room."""
        home = await repository.lock_home(item.id, item.owner_id)
        if home is None:
            raise NotFound("There is no such item")
        usage = await repository.usage(item.owner_id, item.id)
        if usage.number + len(rows) > self._max_per_item:
            raise TooManyFiles(f"An item may have at most {self._max_per_item} files")
        if usage.size + sum(row["size"] for row in rows) > self._quota:
            raise QuotaExceeded(f"Of {self._quota} bytes, {usage.size} are taken")
        return home

    async def _confirmed(self, item: Item, file: File, stored: Stored) -> File:
        async with (
            uploads.kept_if_added(self.storage, [stored]),
            self._db.transaction() as connection,
        ):
            repository = FileRepository(connection)
            home = await repository.lock_home(item.id, item.owner_id)
            confirmed = (
                await repository.confirm(file.id, stored.key, stored.content_type) if home else None
            )
            if home is None or confirmed is None:
                raise UploadIncomplete(_NO_UPLOAD)
            await repository.record(EventKind.FILE_ADDED, home, confirmed)
            await _ask_for_thumbnails(connection, [confirmed])
        return confirmed

    async def _forget(self, file: File) -> None:
        async with self._db.transaction() as connection:
            await FileRepository(connection).remove(file.id, awaited=True)
        await self.storage.delete([_incoming(file)])


def fingerprint(item_id: int, stored: list[Stored]) -> str:
    """Return what makes two uploads the same, whatever boundary they were sent with."""
    said = [f"upload to {item_id}", *(f"{len(f.name)} {f.name} {f.sha256}" for f in stored)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def expires(file: File) -> datetime:
    """Return until when an announced file is awaited."""
    return file.expires_at or file.created_at


async def _ask_for_thumbnails(connection: Connection, added: list[File]) -> None:
    jobs = JobRepository(connection)
    for file in added:
        if file.content_type in thumbnails.SOURCES:
            await jobs.enqueue(THUMBNAIL_JOB, {"file_id": file.id}, owner_id=file.owner_id)


def _row(item: Item, stored: Stored) -> dict[str, Any]:
    return {
        "item_id": item.id,
        "owner_id": item.owner_id,
        "key": stored.key,
        "name": stored.name,
        "content_type": stored.content_type,
        "size": stored.size,
        "sha256": stored.sha256,
        "created_at": now(),
    }


def _announced(file: File) -> Announced:
    return Announced(file.content_type, file.size, file.sha256)


def _incoming(file: File) -> str:
    return f"{INCOMING}{file.key}"


def _thumbnail(file: File) -> str:
    return f"{file.key}{THUMBNAIL}"


def _key(name: str) -> str:
    return name.removeprefix(INCOMING).removesuffix(THUMBNAIL)
