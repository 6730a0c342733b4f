"""A real S3 service on a real socket, by moto's server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import uuid4

KEYS = {"s3_access_key_id": "testing", "s3_secret_access_key": "testing"}


@dataclass(frozen=True)
class Bucket:
    """An empty bucket."""

    url: str
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """What tells the service to keep its files here."""
        return {"s3_bucket": self.name, "s3_endpoint_url": self.url, **KEYS}

    def objects(self) -> set[str]:
        """Return the names of everything in it."""
        listed = self._client().list_objects_v2(Bucket=self.name)
        return {each["Key"] for each in listed.get("Contents", ())}

    def unfinished(self) -> int:
        """Return how many uploads in parts are open."""
        return len(self._client().list_multipart_uploads(Bucket=self.name).get("Uploads", ()))

    def put(self, name: str, content: bytes) -> None:
        """Write an object past the service."""
        self._client().put_object(Bucket=self.name, Key=name, Body=content)

    def begin_upload(self, name: str) -> None:
        """Open an upload in parts, and leave it open."""
        self._client().create_multipart_upload(Bucket=self.name, Key=name)

    def create(self) -> None:
        """Make it."""
        self._client().create_bucket(Bucket=self.name)

    def clear(self) -> None:
        """Remove everything in it, for the next test."""
        client = self._client()
        for name in self.objects():
            client.delete_object(Bucket=self.name, Key=name)
        for each in client.list_multipart_uploads(Bucket=self.name).get("Uploads", ()):
            client.abort_multipart_upload(
                Bucket=self.name, Key=each["Key"], UploadId=each["UploadId"]
            )

    def _client(self) -> Any:
        return _session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEYS["s3_access_key_id"],
            aws_secret_access_key=KEYS["s3_secret_access_key"],
        )


@cache
def _session() -> Any:
    """Return one session for all buckets: it keeps the service models that it has read."""
    from botocore.session import get_session

    return get_session()


@contextmanager
def s3_server() -> Iterator[str]:
    """Serve S3 until the end of the block, and give its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def new_bucket(url: str) -> Bucket:
    """Make a bucket that nobody else has."""
    bucket = Bucket(url, f"files-{uuid4().hex[:12]}")
    bucket.create()
    return bucket
