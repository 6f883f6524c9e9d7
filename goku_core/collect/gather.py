"""Everything a list, a table or a bucket names: fetched or read in place, one row each, in the order of the source."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from goku_core.collect.download.answer import Failure
from goku_core.collect.download.cache import Cache
from goku_core.collect.download.fetch import Fetched, Fetcher, Wanted, in_threads
from goku_core.collect.entries import Entry, entries
from goku_core.collect.listing import (
    RAW_FOLDER,
    Medium,
    Sidecar,
    examine,
    kind_of,
    mark_duplicates,
    of_unknown_type,
    sidecar_from,
    uri_of,
)
from goku_core.collect.request import Request
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.storage import split_url

CACHE = "downloads"
LARGEST_SIDECAR = 1 << 20  # bytes; our choice


@dataclass(frozen=True)
class Gathered:
    """A medium, and the file it was downloaded to."""

    medium: Medium
    fetched: Fetched | None = None
    unreachable: bool = False


def gather(request: Request, context: Context, raw: Path) -> tuple[list[Medium], int]:
    """Rows in the order of the source, and the bytes received; files of kept rows lie in ``raw``, named by content.

    Raises `GokuError` where nothing is kept or the disk is full, ConnectionError (another run may do better) where more
    addresses than allowed are unreachable. What has arrived is kept for the next run in any case.
    """
    found = list(_listed_once(entries(request, context.workspace)))
    with (
        Cache.opened(context.cache(CACHE), lambda _: context.say("collect: waits for another download")) as cache,
        context.progress(f"collect: fetching from {request.source}", len(found), "files") as bar,
    ):
        guard, arrived = threading.Lock(), 0

        def advance(files: int, received: int) -> None:
            nonlocal arrived
            with guard:
                arrived += received
                bar.advance(files, MB=arrived / 1e6)

        fetcher = Fetcher(request.download, cache, context.fingerprint, lambda received: advance(0, received))

        def one(entry: Entry | Medium) -> Gathered:
            gathered = Gathered(entry) if isinstance(entry, Medium) else _one(entry, fetcher, context)
            advance(1, 0)
            return gathered

        try:
            gathered = in_threads(found, one, request.download.threads, fetcher.stop)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise GokuError(
                "collect: the disk is full. What has arrived is kept in .goku/cache/downloads; make room and run again"
            ) from error
        media = mark_duplicates([one.medium for one in gathered])
        _refuse_unreachable(gathered, request)
        _refuse_nothing(media, request)
        for medium, one in zip(media, gathered, strict=True):
            if medium.outcome == "kept" and one.fetched is not None:
                _lay(one.fetched.path, raw / PurePosixPath(medium.uri).name)
    return media, arrived


def _listed_once(found: Iterable[Entry]) -> Iterable[Entry | Medium]:
    """Entries, and in the place of one that was there before the row that says so."""
    seen: set[str] = set()
    for entry in found:
        if entry.problem is None and entry.name in seen:
            medium = Medium(entry.name, _kind(entry.name), outcome="rejected", filter="duplicate")
            yield replace(medium, message="the same address is listed before", source=_source(entry))
        else:
            seen.add(entry.name)
            yield entry


def _one(entry: Entry, fetcher: Fetcher, context: Context) -> Gathered:
    try:
        if entry.problem is not None:
            raise entry.problem
        if entry.path is not None:
            return Gathered(_local(entry, entry.path, context))
        assert entry.wanted is not None
        if entry.wanted.etag and kind_of(PurePosixPath(entry.name)) == "unknown":
            # As in a folder: what is no medium by its name is not read.
            medium = Medium(entry.name, "unknown", bytes=entry.wanted.bytes or 0, source=entry.name)
            return Gathered(of_unknown_type(medium, PurePosixPath(entry.name)))
        fetched = fetcher.fetch(entry.wanted)
    except Failure as failure:
        medium = Medium(entry.name, _kind(entry.name), outcome="failed", filter=failure.error_class)
        medium = replace(medium, message=failure.message, source=_source(entry))
        return Gathered(medium, unreachable=failure.passing)
    uri = f"{RAW_FOLDER}/{fetched.sha256}{fetched.suffix}"
    sidecar = _sidecar(entry.sidecars[0], fetcher) if entry.sidecars else entry.sidecar
    medium = Medium(uri, kind_of(PurePosixPath(uri)), fetched.sha256, fetched.bytes, sidecar, source=entry.name)
    return Gathered(medium, fetched)


def _local(entry: Entry, path: Path, context: Context) -> Medium:
    """A file of this machine that a table names, left in place; the table's captions come before the file's own."""
    medium = examine(path, uri_of(path, context.workspace))
    given, wanted = entry.sidecar, entry.wanted
    if given.caption or given.captions or given.problem:
        medium = replace(medium, sidecar=given)
    if medium.outcome == "kept" and wanted is not None:
        if wanted.bytes not in (None, medium.bytes):
            told = f"{wanted.bytes} bytes were announced, the file has {medium.bytes}"
            return replace(medium, outcome="failed", filter="size", message=told)
        if wanted.sha256 and wanted.sha256 != medium.media_id:
            told = f"its SHA-256 is {medium.media_id}, the table says {wanted.sha256}"
            return replace(medium, outcome="failed", filter="digest", message=told)
    return medium


def _sidecar(wanted: Wanted, fetcher: Fetcher) -> Sidecar:
    """Captions that lie beside an object of a bucket."""
    name = PurePosixPath(wanted.address).name
    if (wanted.bytes or 0) > LARGEST_SIDECAR:
        return Sidecar(problem=f"{name}: {wanted.bytes} bytes are no caption")
    bucket, key = split_url(wanted.address)
    try:
        return sidecar_from(name, fetcher.buckets.of(bucket).get(key) or b"")
    except GokuError as error:
        return Sidecar(problem=f"{name}: {error}")


def _refuse_unreachable(gathered: list[Gathered], request: Request) -> None:
    unreachable = [one.medium for one in gathered if one.unreachable]
    if len(unreachable) > request.download.unreachable_max * len(gathered):
        classes = Counter(medium.filter for medium in unreachable)
        raise ConnectionError(
            f"{len(unreachable)} of {len(gathered)} addresses cannot be reached now ("
            + ", ".join(f"{count} {name}" for name, count in sorted(classes.items()))
            + f"); the first is {unreachable[0].uri}: {unreachable[0].message}. What has arrived is kept for the next "
            "run; collect.download.unreachable_max says how many may be left out"
        )


def _refuse_nothing(media: list[Medium], request: Request) -> None:
    if any(medium.outcome == "kept" for medium in media):
        return
    classes = Counter(medium.filter for medium in media)
    first = media[0]
    raise GokuError(
        f"collect.source: nothing of {request.source} can be used: "
        + ", ".join(f"{count} {name}" for name, count in sorted(classes.items()))
        + f"; the first is {first.uri}: {first.message}"
    )


def _kind(name: str) -> str:
    try:
        return kind_of(PurePosixPath(urlsplit(name).path))
    except ValueError:
        return "unknown"


def _source(entry: Entry) -> str | None:
    return entry.name if entry.path is None else None


def _lay(source: Path, target: Path) -> None:
    """The cached file under its name in data/raw: a link, a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        shutil.copyfile(source, target)
