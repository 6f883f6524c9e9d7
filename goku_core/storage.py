"""Objects in an S3 bucket, and signatures by a key of KMS: the only module that speaks to AWS.

`put_if_absent` is what a team's commit records rest on: of several writers of one key exactly one wins, and the others
learn it (conditional PUT, `If-None-Match: *`).
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from botocore.client import BaseClient

SCHEME = "s3://"
# Answers to a conditional PUT that lost: the key is there (412), or another writer is just writing it (409).
LOST = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
ABSENT = {"NoSuchKey", "404", "NotFound"}
CHUNK = 1 << 18  # bytes of a read from a stream
PART = 16 << 20  # bytes of a part of a multipart upload; ten thousand of them are the most S3 takes: 160 GB
# Refusals that stay refusals, whatever their status.
NEVER = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "NoSuchBucket", "NoSuchKey", "InvalidRange"}


class ObjectError(GokuError):
    """A request that the store refused or that did not arrive.

    status   HTTP status of the answer, None where there was none
    code     S3's own word for it ("NoSuchKey"), or the class of the client's error ("EndpointConnectionError")
    passing  the same request may succeed later
    """

    def __init__(self, message: str, *, status: int | None, code: str, passing: bool) -> None:
        super().__init__(message)
        self.status, self.code, self.passing = status, code, passing
        self.kind = "infrastructure" if passing else "user"


@dataclass(frozen=True)
class Object:
    """One object. The ETag changes with the bytes; it is no digest one may compute.

    sha256  of the bytes, where their writer left it and `head` was asked: listings do not tell
    """

    key: str
    bytes: int
    etag: str
    sha256: str = ""


@dataclass(frozen=True)
class Stream:
    """An object on its way.

    start, total  bytes: where the chunks begin, and how many the whole object has
    sha256        of the whole object, where its writer left it; empty otherwise
    chunks        raises `ObjectError` when the connection breaks; close it when not read to its end
    """

    start: int
    total: int
    etag: str
    media_type: str
    sha256: str
    chunks: Iterator[bytes]


def split_url(url: str) -> tuple[str, str]:
    """``s3://bucket/a/key`` -> ("bucket", "a/key"). Raises `GokuError` where there is no bucket's name."""
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not url.startswith(SCHEME) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", bucket):
        raise GokuError(f"{url!r} is not s3://bucket/key.")
    return bucket, key


class Bucket:
    """A bucket, or the part of it under `prefix`. May be used by several threads at once.

    endpoint     URL of an S3-compatible store; None: AWS, or what AWS_ENDPOINT_URL says. Credentials come from boto3's
                 own chain (environment, profile, role), never from parameters.
    connections  kept open at once
    """

    def __init__(self, name: str, prefix: str = "", endpoint: str | None = None, connections: int = 10) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.name, self.prefix = name, prefix
        config = Config(max_pool_connections=connections, retries={"mode": "standard", "total_max_attempts": 3})
        try:
            self._client: BaseClient = boto3.client("s3", endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:  # a profile that is not there, an endpoint that is no address
            raise self._named(error, "") from error

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write an object unless the key exists; True when this call wrote it. The content's SHA-256 travels along."""
        try:
            self._call(
                "put_object",
                key,
                Body=content,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                Metadata={"sha256": hashlib.sha256(content).hexdigest()},
            )
        except ObjectError as error:
            if error.code in LOST:
                return False
            raise
        return True

    def put(self, path: Path, key: str) -> str:
        """Write a file of any size, in parts where it is large; the object appears whole or not at all.

        Returns the SHA-256 of the file, which travels along as metadata, as `put_if_absent` has it.
        """
        from boto3.exceptions import Boto3Error
        from boto3.s3.transfer import TransferConfig
        from botocore.exceptions import BotoCoreError, ClientError

        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        extra = {"Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "SHA256"}
        config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART)
        try:
            self._client.upload_file(str(path), self.name, self.prefix + key, ExtraArgs=extra, Config=config)
        except (ClientError, BotoCoreError, Boto3Error) as error:
            # The transfer wraps the answer of the store, which says whether trying again is worth it.
            answer = error.__context__ if isinstance(error.__context__, ClientError) else error
            raise self._named(answer, key) from error
        return sha256

    def create(self) -> bool:
        """Make the bucket; False where this account has it already."""
        try:
            self._call("create_bucket", None)
        except ObjectError as error:
            if error.code in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                return False
            raise
        return True

    def get(self, key: str) -> bytes | None:
        """The object's bytes, None where there is none. Raises `GokuError` when they differ from the digest written."""
        stream = self.stream(key)
        if stream is None:
            return None
        content = b"".join(stream.chunks)
        if stream.sha256 and stream.sha256 != hashlib.sha256(content).hexdigest():
            raise GokuError(f"{self.url(key)}: its bytes are not the ones that were written.")
        return content

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._call("delete_object", key)

    def head(self, key: str) -> Object | None:
        """What is known of an object without its bytes, None where there is none."""
        try:
            answer = self._call("head_object", key)
        except ObjectError as error:
            if error.code in ABSENT:
                return None
            raise
        return Object(key, answer["ContentLength"], answer["ETag"], answer["Metadata"].get("sha256", ""))

    def list(self, prefix: str = "", page: int = 1000) -> Iterator[Object]:
        """All objects whose key begins with `prefix`, by key; keys are relative to the bucket's prefix.

        page  objects asked for at once, 1000 at most
        """
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=self.prefix + prefix, PaginationConfig={"PageSize": page}
        )
        try:
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield Object(entry["Key"].removeprefix(self.prefix), entry["Size"], entry["ETag"])
        except (ClientError, BotoCoreError) as error:
            raise self._named(error, prefix) from error

    def stream(self, key: str, start: int = 0, etag: str | None = None) -> Stream | None:
        """The object from byte `start` on, None where there is none.

        etag  the version wanted; another one in its place is an `ObjectError` of status 412
        A start at or behind the object's end is an `ObjectError` of status 416.
        """
        wanted: dict[str, str] = {"Range": f"bytes={start}-"} if start else {}
        if etag:
            wanted["IfMatch"] = etag
        try:
            answer = self._call("get_object", key, **wanted)
        except ObjectError as error:
            if error.code in ABSENT:
                return None
            raise
        total = int(answer["ContentRange"].rpartition("/")[2]) if start else answer["ContentLength"]
        return Stream(
            start=start,
            total=total,
            etag=answer["ETag"],
            media_type=answer.get("ContentType", ""),
            sha256=answer["Metadata"].get("sha256", ""),
            chunks=self._chunks(key, answer["Body"]),
        )

    def read(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        """`length` bytes from byte `start` on: a tensor out of a shard. Raises `ObjectError` where there are fewer.

        etag  the version wanted, as for `stream`: an index and its shard then never come from two publications
        """
        if length == 0:
            return b""
        wanted = {"IfMatch": etag} if etag else {}
        answer = self._call("get_object", key, Range=f"bytes={start}-{start + length - 1}", **wanted)
        content = b"".join(self._chunks(key, answer["Body"]))
        if len(content) != length:
            raise ObjectError(
                f"{self.url(key)} ends at byte {start + len(content)}; {length} bytes from byte {start} on were asked for.",
                status=416,
                code="InvalidRange",
                passing=False,
            )
        return content

    def url(self, key: str) -> str:
        return f"{SCHEME}{self.name}/{self.prefix}{key}"

    def _chunks(self, key: str, body: Any) -> Iterator[bytes]:
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        with closing(body):
            try:
                yield from body.iter_chunks(CHUNK)
            except (BotoCoreError, HTTPError, OSError) as error:
                raise self._named(error, key) from error

    def _call(self, operation: str, key: str | None, **wanted: Any) -> Any:
        """key None: of the bucket itself."""
        from botocore.exceptions import BotoCoreError, ClientError

        named = wanted if key is None else {"Key": self.prefix + key, **wanted}
        try:
            return getattr(self._client, operation)(Bucket=self.name, **named)
        except (ClientError, BotoCoreError) as error:
            raise self._named(error, key or "") from error

    def _named(self, error: Exception, key: str) -> ObjectError:
        from botocore import exceptions
        from urllib3.exceptions import HTTPError

        told = getattr(error, "response", None) or {}
        status = told.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = told.get("Error", {}).get("Code") or type(error).__name__
        if status is None:
            on_the_way = (
                exceptions.ConnectionError,
                exceptions.HTTPClientError,
                exceptions.IncompleteReadError,
                exceptions.FlexibleChecksumError,
                HTTPError,
                OSError,
            )
            passing = isinstance(error, on_the_way)
        else:
            passing = code not in NEVER and (status in (408, 429) or status >= 500)
        message = f"{self.url(key)}: {error}. Check the bucket's name, the endpoint and the credentials."
        return ObjectError(message, status=status, code=code, passing=passing)


class KeyService:
    """A key of AWS KMS that signs; the private part never leaves KMS. Credentials as for `Bucket`.

    key        id, alias (``alias/goku``) or ARN of an asymmetric signing key: NIST P-256, or Ed25519
    algorithm  "ecdsa-p256-sha256" or "ed25519"
    public     base64 of the DER SubjectPublicKeyInfo

    Raises `GokuError` where the key is not there, may not be used, or is of another kind.
    """

    KINDS: ClassVar = {"ECDSA_SHA_256": "ecdsa-p256-sha256", "ED25519_SHA_512": "ed25519"}

    def __init__(self, key: str) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError

        self._key = key
        # an ARN says the region; an id or an alias leaves it to boto3's own chain
        region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else None
        try:
            self._client: BaseClient = boto3.client("kms", region_name=region)
            told = self._client.get_public_key(KeyId=key)
        except (ClientError, BotoCoreError, ValueError) as error:
            raise self._named(error) from error
        offered = told.get("SigningAlgorithms") or []
        known = [name for name in offered if name in self.KINDS]
        if not known:
            kinds = ", ".join(offered) or "nothing that signs"
            raise GokuError(f"kms:{key}: offers {kinds}; bundles are signed by a key of spec ECC_NIST_P256.")
        self._with = known[0]
        self.algorithm = self.KINDS[self._with]
        self.public = base64.b64encode(told["PublicKey"]).decode()

    def sign(self, message: bytes) -> bytes:
        """Signature of up to 4096 bytes: DER for P-256, 64 bytes for Ed25519."""
        from botocore.exceptions import BotoCoreError, ClientError

        wanted = {"KeyId": self._key, "Message": message, "MessageType": "RAW", "SigningAlgorithm": self._with}
        try:
            return self._client.sign(**wanted)["Signature"]
        except (ClientError, BotoCoreError) as error:
            raise self._named(error) from error

    def _named(self, error: Exception) -> GokuError:
        return GokuError(f"kms:{self._key}: {error}. Check the key's name, the region and the credentials.")


def publish(bucket: Bucket, folder: Path, last: Sequence[str] = (), threads: int = 8) -> list[str]:
    """Write the files of a folder; returns the keys written. What is there with the same digest is not sent again.

    last  relative paths written after everything else, in this order: an index, whose readers then find what it names
    A publication that was cut off is finished by calling again. Raises `GokuError` as `Bucket.put` does.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if absent := [key for key in last if key not in files]:
        raise GokuError(f"{folder} holds no {absent[0]}, so it cannot be published.")

    def write(key: str) -> bool:
        there = bucket.head(key)
        if there is not None and there.sha256:
            with files[key].open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == there.sha256:
                    return False
        bucket.put(files[key], key)
        return True

    first = [key for key in files if key not in last]
    with ThreadPoolExecutor(threads) as pool:
        written = list(pool.map(write, first))
    written += [write(key) for key in last]
    return [key for key, new in zip([*first, *last], written, strict=True) if new]


def fetch(bucket: Bucket, key: str, path: Path) -> bool:
    """Copy an object to a local file, which appears whole or not at all; False where there is no such object.

    The bytes pass through in chunks. Raises `GokuError` when they differ from the digest written.
    """
    stream = bucket.stream(key)
    if stream is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    digest = hashlib.sha256()
    with temporary.open("wb") as file:
        for chunk in stream.chunks:
            digest.update(chunk)
            file.write(chunk)
    if stream.sha256 and stream.sha256 != digest.hexdigest():
        temporary.unlink()
        raise GokuError(f"{bucket.url(key)}: its bytes are not the ones that were written.")
    temporary.replace(path)
    return True


if __name__ == "__main__":  # python -m goku_core.storage BUCKET...: makes those that are not there (infra/compose.yaml)
    for _name in sys.argv[1:]:
        print(f"{_name}: {'made' if Bucket(_name).create() else 'was there'}")
