"""The loop around a request: what is there already, what arrives, whether it is right, and when to try again."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from goku_core.collect.download import magic, objects, web
from goku_core.collect.download.address import Policy, check, public
from goku_core.collect.download.answer import Failure, Reply
from goku_core.collect.download.cache import Cache, Known, name_of
from goku_core.collect.request import Download
from goku_core.storage import SCHEME

LONGEST_WAIT_SECONDS = 60.0  # our choice: a server that asks for more is asked again after this

Item, Result = TypeVar("Item"), TypeVar("Result")


@dataclass(frozen=True)
class Wanted:
    """A file at an address, and what its list says of it.

    etag  of the version wanted, as a bucket's listing has it
    """

    address: str
    bytes: int | None = None
    sha256: str = ""
    etag: str = ""


@dataclass(frozen=True)
class Fetched:
    """A whole file in the cache.

    received  bytes that came over the network this time; the others were there
    """

    path: Path
    sha256: str
    bytes: int
    suffix: str
    received: int


class Stopped(Exception):
    """The work has been given up elsewhere; what has arrived stays in the cache."""


class Fetcher:
    """Brings files into the cache, from several threads at once.

    work      fingerprint of the piece of work: what it has fetched before it was killed is not asked for again
    on_bytes  called with the number of bytes of each chunk that arrives
    """

    def __init__(self, settings: Download, cache: Cache, work: str, on_bytes: Callable[[int], None]) -> None:
        self.settings, self.cache, self._work, self._on_bytes = settings, cache, work, on_bytes
        self._policy = Policy.of(settings.allow_hosts)
        self.buckets = objects.Buckets(settings.threads)
        self._most = int(settings.max_gigabytes * 1e9)
        self.stop = threading.Event()

    def fetch(self, wanted: Wanted) -> Fetched:
        """The file, whole and right. Raises `Failure`; passing ones were repeated as often as the settings say.

        Tries are counted while nothing new arrives: a server that cuts every connection after a megabyte is a slow
        server, not a broken one.
        """
        check(wanted.address)
        piece = self.cache.piece(name_of(public(wanted.address)))
        furthest, failures = _size(piece), 0
        while True:
            try:
                return self._try(wanted)
            except Failure as failure:
                if not failure.passing:
                    raise
                reached = _size(piece)
                failures = 1 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                if failures > self.settings.retries:
                    told = f"{failure.message}; given up after {failures} tries without progress"
                    raise Failure(failure.error_class, told, passing=True) from None
                pause = self.settings.backoff_seconds * 2 ** (failures - 1) * random.uniform(0.5, 1.5)
                if self.stop.wait(min(max(pause, failure.wait_seconds or 0.0), LONGEST_WAIT_SECONDS)):
                    raise Stopped from None

    def _try(self, wanted: Wanted) -> Fetched:
        name = name_of(public(wanted.address))
        known = self.cache.known(name)
        if known.sha256:
            whole = self.cache.whole(known.sha256)
            if _digest(whole) != known.sha256:  # gone, or changed through one of its links
                whole.unlink(missing_ok=True)
                known = Known()
            elif self._is_current(wanted, known):
                return self._kept(name, wanted, known, received=0)
        start = 0 if known.sha256 else _size(self.cache.piece(name))
        if start and not (known.if_range or wanted.sha256):
            start = 0  # nothing would tell that the rest belongs to the same file
        if wanted.etag and wanted.etag != known.etag:
            start = 0
        try:
            reply = self._ask(wanted.address, known, start)
        except Failure as failure:
            if failure.error_class == "range":  # the pieces do not lie within the file: next time from its beginning
                self.cache.forget(name)
            raise
        if reply is None:
            return self._kept(name, wanted, known, received=0)
        with closing(reply.chunks):
            received = self._receive(name, wanted, reply)
        # Where the server did not say how long it is, a cut looks like an end: the next round fetches it anew.
        known = Known() if reply.total is None else Known(reply.etag, reply.modified, reply.total)
        return self._kept(name, wanted, known, received, reply)

    def _ask(self, address: str, known: Known, start: int) -> Reply | None:
        if address.startswith(SCHEME):
            return objects.ask(address, known, start, self.buckets)
        return web.ask(address, known, start, self._policy, self.settings.timeout_seconds)

    def _is_current(self, wanted: Wanted, known: Known) -> bool:
        """Is the whole file what is wanted, without asking the server?"""
        if wanted.sha256:
            return wanted.sha256 == known.sha256
        return known.work == self._work or (bool(wanted.etag) and wanted.etag == known.etag)

    def _receive(self, name: str, wanted: Wanted, reply: Reply) -> int:
        """Writes what arrives behind what is there; returns the bytes that arrived."""
        if reply.total is not None:
            self._check_size(name, wanted, reply.total, whole=True)
        size = reply.start
        with self.cache.piece(name).open("ab" if size else "wb") as file:
            # Noted after the file was emptied and before the first byte: a piece never belongs to another version.
            self.cache.note(name, Known(reply.etag, reply.modified, reply.total))
            looked_at = False
            for chunk in reply.chunks:
                file.write(chunk)
                file.flush()  # what has arrived survives the process
                size += len(chunk)
                self._on_bytes(len(chunk))
                self._check_size(name, wanted, size, whole=False)
                if not looked_at and size >= magic.HEAD:
                    self._suffix(name, reply.media_type)
                    looked_at = True
                if self.stop.is_set():
                    raise Stopped
        if reply.total is not None and size < reply.total:
            told = f"the connection ends after {size} of {reply.total} bytes"
            raise Failure("cut", told, passing=True)
        return size - reply.start

    def _kept(self, name: str, wanted: Wanted, known: Known, received: int, reply: Reply | None = None) -> Fetched:
        """The whole file, checked against all that is known of it, under the name of its content."""
        place = self.cache.whole(known.sha256) if known.sha256 else self.cache.piece(name)
        size = _size(place)
        if size == 0:
            raise self._spoiled(name, "empty", "the file has no bytes")
        self._check_size(name, wanted, size, whole=True)
        suffix = self._suffix(name, reply.media_type if reply else "", place)
        sha256 = known.sha256 or _digest(place)
        for expected, who in ((wanted.sha256, "the table"), (reply.sha256 if reply else "", "the bucket")):
            if expected and expected != sha256:
                # Bytes of several connections may not fit together: then the whole is asked for once more.
                mixed = not known.sha256 and received < size
                told = f"its SHA-256 is {sha256}, {who} says {expected}"
                raise self._spoiled(name, "digest", told, passing=mixed)
        if not known.sha256:
            place = self.cache.keep(name, sha256)
        self.cache.note(name, replace(known, total=size, sha256=sha256, work=self._work))
        return Fetched(place, sha256, size, suffix, received)

    def _check_size(self, name: str, wanted: Wanted, size: int, *, whole: bool) -> None:
        if size > self._most:
            told = f"more than {self._most} bytes (collect.download.max_gigabytes)"
            raise self._spoiled(name, "too-large", told)
        if wanted.bytes is not None and (size > wanted.bytes or (whole and size != wanted.bytes)):
            raise self._spoiled(name, "size", f"{wanted.bytes} bytes were announced, the file has {size}")

    def _suffix(self, name: str, media_type: str, place: Path | None = None) -> str:
        with (place or self.cache.piece(name)).open("rb") as file:
            head = file.read(magic.HEAD)
        if (suffix := magic.suffix_of(head)) is None:
            raise self._spoiled(name, "content-type", magic.described(head, media_type))
        return suffix

    def _spoiled(self, name: str, error_class: str, message: str, *, passing: bool = False) -> Failure:
        """A failure of the bytes themselves: they are no beginning of anything."""
        self.cache.forget(name)
        return Failure(error_class, message, passing=passing)


def in_threads(
    items: Iterable[Item], work: Callable[[Item], Result], threads: int, stop: threading.Event
) -> list[Result]:
    """`work` on every item, results in the order of the items. The first error sets `stop` and is raised."""
    waiting, guard = iter(enumerate(items)), threading.Lock()
    results: dict[int, Result] = {}

    def pull() -> None:
        while not stop.is_set():
            with guard:
                position, item = next(waiting, (None, None))
            if position is None:
                return
            results[position] = work(item)  # type: ignore[arg-type]

    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            for done in as_completed([pool.submit(pull) for _ in range(threads)]):
                done.result()
        except BaseException:
            stop.set()
            raise
    return [results[position] for position in sorted(results)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest(path: Path) -> str:
    """SHA-256 of a file, empty where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
