"""Where the bytes of latents come from: the workspace's folder, or a bucket that holds the same shards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from goku_core.pipeline.errors import FailureKind, GokuError
from goku_core.shards import Files, Ranged, ShardReader
from goku_core.storage import Bucket, ObjectError, split_url
from goku_core.train.data_request import Data

Answer = TypeVar("Answer")
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # s, our choice


def open_latents(data: Data, folder: Path) -> ShardReader:
    """The latents of one resolution, `data/latents/<resolution>`.

    Its index is always the workspace's own, because the run's fingerprint is taken over it. From a bucket come shards alone,
    which it names by their content; they lie below `<source>/<resolution>/`.
    """
    if data.source is None:
        return ShardReader(folder, Files(folder, checked=data.verify))
    name, prefix = split_url(data.source)
    prefix = f"{prefix.strip('/')}/{folder.name}/".lstrip("/")
    bucket = Bucket(name, connections=max(10, data.threads))
    return ShardReader(folder, Ranged(Patient(bucket, data.patience_seconds), prefix))


class StoreAway(GokuError):
    """The store did not answer for as long as the run was to wait: no word about any one sample."""

    kind: FailureKind = "infrastructure"


class Patient:
    """A bucket that is asked again while what goes wrong may pass.

    Raises `StoreAway` when that takes longer than `seconds`, and other `ObjectError` at once.
    """

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        self.bucket, self.seconds = bucket, seconds

    def get(self, key: str) -> bytes | None:
        return self._asked(lambda: self.bucket.get(key))

    def read(self, key: str, start: int, length: int) -> bytes:
        return self._asked(lambda: self.bucket.read(key, start, length))

    def _asked(self, request: Callable[[], Answer]) -> Answer:
        started, pause = time.monotonic(), FIRST_PAUSE
        while True:
            try:
                return request()
            except ObjectError as error:
                if not error.passing:
                    raise
                if time.monotonic() - started + pause > self.seconds:
                    raise StoreAway(
                        f"the object store did not answer for {self.seconds:g} s (train.data.patience_seconds): {error} The "
                        "run continues from its last checkpoint when it is started again."
                    ) from error
            # Ranks that lost the store together shall not all come back at once; what is read does not depend on it.
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)
