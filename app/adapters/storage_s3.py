"""Contents in a bucket of S3, or of what speaks like it."""

import asyncio
import base64
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from anyio import CancelScope
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from app.adapters.storage import Announced, SignedUpload, checked
from app.errors import NotFound, StorageUnavailable
from app.settings import Settings

PART_BYTES = 5 * 1024 * 1024  # the least that S3 takes as a part of an upload
_READ_BYTES = 64 * 1024
_PAGE = 500  # S3 takes 1,000 names at once
_CONNECT_SECONDS, _ANSWER_SECONDS = 3, 20
_MISSING = frozenset({"NoSuchKey", "NotFound", "404"})


class S3Storage:
    """Objects of one bucket, named as they are."""

    def __init__(self, settings: Settings, bucket: str) -> None:
        self._settings = settings
        self._bucket = bucket
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._opened: Any = None

    async def open(self) -> None:
        """Make the client while nobody waits: reading its models blocks for a tenth of a second.

        What keeps it from being made, such as keys that cannot be had, is told to who needs it.
        """
        with suppress(StorageUnavailable):
            await self._client()

    @asynccontextmanager
    async def create(self, name: str) -> AsyncIterator["_ObjectSink"]:
        """Write a content: whole at the end of the block, without a trace where it raises."""
        sink = _ObjectSink(await self._client(), {"Bucket": self._bucket, "Key": checked(name)})
        try:
            yield sink
            await sink.finish()
        except BaseException:
            with CancelScope(shield=True):
                await sink.abort()
            raise

    @asynccontextmanager
    async def read(
        self, name: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read a content, or a part of it, in blocks."""
        if length == 0:
            yield _nothing()
            return
        end = "" if length is None else start + length - 1
        asked = {"Range": f"bytes={start}-{end}"} if start or length is not None else {}
        client = await self._client()
        with _told():
            answer = await client.get_object(Bucket=self._bucket, Key=checked(name), **asked)
        async with answer["Body"] as body:
            yield _blocks(body)

    async def delete(self, names: Collection[str]) -> None:
        """Delete contents; names that there are none of do not matter."""
        if not names:
            return
        client = await self._client()
        with _told():
            await client.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": [{"Key": checked(name)} for name in names], "Quiet": True},
            )

    async def older_than(self, moment: datetime) -> AsyncIterator[list[str]]:
        """List, in pages, the names of what was written before a moment."""
        client = await self._client()
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, PaginationConfig={"PageSize": _PAGE}
        )
        with _told():
            async for page in pages:
                entries = page.get("Contents", ())
                yield [each["Key"] for each in entries if each["LastModified"] < moment]

    async def discard_unfinished(self, moment: datetime) -> int:
        """Abort uploads in parts that processes which crashed began before a moment."""
        client = await self._client()
        with _told():
            listed = await client.list_multipart_uploads(Bucket=self._bucket)
            old = [each for each in listed.get("Uploads", ()) if each["Initiated"] < moment]
            for each in old:
                await client.abort_multipart_upload(
                    Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"]
                )
        return len(old)

    async def upload_url(
        self, name: str, announced: Announced, lifetime: timedelta
    ) -> SignedUpload | None:
        """Return an address that takes exactly what was announced: type, size and checksum."""
        checksum = base64.b64encode(bytes.fromhex(announced.sha256)).decode()
        client = await self._client()
        with _told():
            url = await client.generate_presigned_url(
                "put_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": checked(name),
                    "ContentType": announced.content_type,
                    "ContentLength": announced.size,
                    "ChecksumSHA256": checksum,
                },
                ExpiresIn=int(lifetime.total_seconds()),
            )
        headers = {"Content-Type": announced.content_type, "x-amz-checksum-sha256": checksum}
        return SignedUpload(url, headers)

    async def download_url(
        self, name: str, headers: dict[str, str], lifetime: timedelta
    ) -> str | None:
        """Return an address that gives a content with these headers."""
        client = await self._client()
        with _told():
            url: str = await client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": checked(name),
                    "ResponseContentType": headers["Content-Type"],
                    "ResponseContentDisposition": headers["Content-Disposition"],
                    "ResponseCacheControl": headers["Cache-Control"],
                },
                ExpiresIn=int(lifetime.total_seconds()),
            )
        return url

    async def check(self) -> None:
        """Find out whether the bucket answers."""
        client = await self._client()
        with _told():
            await client.head_bucket(Bucket=self._bucket)

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def _client(self) -> Any:
        async with self._opening:
            if self._opened is None:
                with _told():
                    self._opened = await self._stack.enter_async_context(
                        _new_client(self._settings)
                    )
        return self._opened


class _ObjectSink:
    """Gathers parts; what fits into one is put at once, all else goes up part by part."""

    def __init__(self, client: Any, place: dict[str, str]) -> None:
        self._client = client
        self._place = place
        self._part = BytesIO()  # sent piece by piece; bytes would be copied whole on their way
        self._upload: dict[str, str] | None = None
        self._parts: list[dict[str, Any]] = []

    async def write(self, block: bytes) -> None:
        self._part.write(block)
        if self._part.tell() >= PART_BYTES:
            await self._send_part()

    async def finish(self) -> None:
        if self._upload is None:
            with _told():
                await self._client.put_object(**self._place, Body=self._taken())
            return
        if self._part.tell():
            await self._send_part()
        with _told():
            await self._client.complete_multipart_upload(
                **self._place, **self._upload, MultipartUpload={"Parts": self._parts}
            )

    async def abort(self) -> None:
        if self._upload is not None:
            with _told():
                await self._client.abort_multipart_upload(**self._place, **self._upload)

    async def _send_part(self) -> None:
        with _told():
            if self._upload is None:
                begun = await self._client.create_multipart_upload(**self._place)
                self._upload = {"UploadId": begun["UploadId"]}
            number = len(self._parts) + 1
            part = await self._client.upload_part(
                **self._place, **self._upload, PartNumber=number, Body=self._taken()
            )
        self._parts.append({"PartNumber": number, "ETag": part["ETag"]})

    def _taken(self) -> BytesIO:
        part, self._part = self._part, BytesIO()
        part.seek(0)
        return part


def _new_client(settings: Settings) -> Any:
    secret = settings.s3_secret_access_key
    return get_session().create_client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=AioConfig(
            signature_version="s3v4",
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_ANSWER_SECONDS,
            retries={"max_attempts": 3, "mode": "standard"},
            max_pool_connections=50,
            # We keep SHA-256 ourselves; not every S3 knows the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # A service of one's own rarely has a host name for every bucket.
            s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
        ),
    )


@contextmanager
def _told() -> Iterator[None]:
    """Say in the words of the domain what went wrong in the storage."""
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            raise NotFound("The content of the file is gone") from error
        raise StorageUnavailable from error
    except (BotoCoreError, HTTPClientError, OSError, TimeoutError) as error:
        raise StorageUnavailable from error


async def _blocks(body: Any) -> AsyncIterator[bytes]:
    while True:
        with _told():
            block: bytes = await body.read(_READ_BYTES)
        if not block:
            return
        yield block


async def _nothing() -> AsyncIterator[bytes]:
    for block in list[bytes]():
        yield block
