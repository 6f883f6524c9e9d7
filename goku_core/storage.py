"""Objects in an S3 bucket: the only module that speaks S3.

`put_if_absent` is what a team's commit records rest on: of several writers of one key exactly one wins, and the others
learn it (conditional PUT, `If-None-Match: *`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from botocore.client import BaseClient

# Answers to a conditional PUT that lost: the key is there (412), or another writer is just writing it (409).
LOST = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
ABSENT = {"NoSuchKey", "404", "NotFound"}


class Bucket:
    """A bucket, or the part of it under `prefix`.

    endpoint  URL of an S3-compatible store; None: AWS, or what AWS_ENDPOINT_URL says. Credentials come from boto3's own
              chain (environment, profile, role), never from parameters.
    """

    def __init__(self, name: str, prefix: str = "", endpoint: str | None = None) -> None:
        import boto3

        self.name, self.prefix = name, prefix
        self._client: BaseClient = boto3.client("s3", endpoint_url=endpoint)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write an object unless the key exists; True when this call wrote it. The content's SHA-256 travels along."""
        from botocore.exceptions import ClientError

        try:
            self._client.put_object(
                Bucket=self.name,
                Key=self.prefix + key,
                Body=content,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                Metadata={"sha256": hashlib.sha256(content).hexdigest()},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in LOST:
                return False
            raise self._named(error, key) from error
        return True

    def get(self, key: str) -> bytes | None:
        """The object's bytes, None where there is none. Raises `GokuError` when they differ from the digest written."""
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object(Bucket=self.name, Key=self.prefix + key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return None
            raise self._named(error, key) from error
        content: bytes = answer["Body"].read()
        written = answer["Metadata"].get("sha256")
        if written and written != hashlib.sha256(content).hexdigest():
            raise GokuError(f"s3://{self.name}/{self.prefix}{key}: its bytes are not the ones that were written.")
        return content

    def _named(self, error: Exception, key: str) -> GokuError:
        return GokuError(
            f"s3://{self.name}/{self.prefix}{key}: {error}. Check the bucket's name, the endpoint and the credentials."
        )


def fetch(bucket: Bucket, key: str, path: Path) -> bool:
    """Copy an object to a local file, which appears whole or not at all; False where there is no such object."""
    content = bucket.get(key)
    if content is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return True
