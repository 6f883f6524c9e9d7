"""One request to a bucket, with the same answers as one to a web server."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

from goku_core.collect.download.answer import Failure, Reply
from goku_core.collect.download.cache import Known
from goku_core.storage import Bucket, ObjectError, Stream, split_url

CHANGED, UNSATISFIABLE = 412, 416


class Buckets:
    """One client per bucket, shared by all threads."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._known: dict[str, Bucket] = {}
        self._guard = threading.Lock()  # clients may be shared by threads, but not made by several at once

    def of(self, name: str) -> Bucket:
        with self._guard:
            if name not in self._known:
                self._known[name] = Bucket(name, connections=self._connections)
            return self._known[name]


def ask(url: str, known: Known, start: int, buckets: Buckets) -> Reply | None:
    """The object at `url`, as `web.ask` has it: from `start` on if it is still the known version, else from its beginning."""
    name, key = split_url(url)
    try:
        bucket = buckets.of(name)
        if known.sha256 or (start > 0 and start == known.total):
            found = bucket.head(key)
            if found is not None and found.etag == known.etag:
                return None
            start = 0
        stream = _stream(bucket, key, known, start)
    except ObjectError as error:
        raise _failure(error) from None
    if stream is None:
        raise Failure("http-404", f"there is no object {url}")
    return Reply(
        start=stream.start,
        total=stream.total,
        etag=stream.etag,
        modified="",
        media_type=stream.media_type,
        sha256=stream.sha256,
        chunks=_chunks(stream.chunks),
    )


def _stream(bucket: Bucket, key: str, known: Known, start: int) -> Stream | None:
    if not (start and known.etag):
        return bucket.stream(key)
    try:
        return bucket.stream(key, start, known.etag)
    except ObjectError as error:
        if error.status not in (CHANGED, UNSATISFIABLE):
            raise
        return bucket.stream(key)


def _chunks(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    try:
        yield from chunks
    except ObjectError as error:
        raise Failure("cut", str(error), passing=True) from None


def _failure(error: ObjectError) -> Failure:
    if error.status is not None:
        return Failure(f"http-{error.status}", str(error), passing=error.passing)
    if error.passing:
        return Failure("connect", str(error), passing=True)
    return Failure("credentials" if "Credentials" in error.code else "store", str(error))
