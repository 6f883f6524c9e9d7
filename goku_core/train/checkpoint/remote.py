"""The second tier: checkpoints in a bucket, sent behind the local ones. Training never waits for the store, nor stops without it.

step-00000400-1f2e3d4c5b6a/   named by its step and the digest of its marker: what is complete there is never written again
    complete.json             written last, by a conditional put
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from goku_core.pipeline.errors import GokuError
from goku_core.storage import Bucket, ObjectError, fetch
from goku_core.train.checkpoint.folder import MARKER, Marker, read_marker

DELAYS = (1.0, 2.0, 4.0, 8.0)  # s between attempts at one checkpoint; each request has three attempts of its own
THREADS = 4  # files on their way at once; a large one is sent in ten parts at once
NAME = re.compile(r"(step-(\d{8,})-[0-9a-f]{12})/")


@dataclass(frozen=True)
class Found:
    """A complete checkpoint of the bucket."""

    key: str
    step: int
    marker: Marker


class Remote:
    """Checkpoints of one run in `bucket`. Sends the newest: one that is overtaken while it waits its turn is left out."""

    def __init__(
        self,
        bucket: Bucket,
        keep: int,
        keep_every: int | None,
        say: Callable[[str], None] = lambda line: None,
        delays: tuple[float, ...] = DELAYS,
    ) -> None:
        self.bucket, self.keep, self.keep_every, self.say, self.delays = bucket, keep, keep_every, say, delays
        self._changed = threading.Condition()
        self._waiting: Path | None = None
        self._sending: Path | None = None
        self._thread: threading.Thread | None = None
        self._away = False

    # writing
    def send(self, checkpoint: Path) -> None:
        """Queues a checkpoint; returns at once."""
        with self._changed:
            self._waiting = checkpoint
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="checkpoints to the store", daemon=True)
                self._thread.start()

    def sending(self) -> list[Path]:
        """Local folders that are still needed."""
        with self._changed:
            return [path for path in (self._waiting, self._sending) if path is not None]

    def wait(self) -> None:
        """Returns when everything queued is sent or given up."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is None and self._sending is None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                self._sending, self._waiting = self._waiting, None
            try:
                self._deliver(self._sending)
            finally:
                with self._changed:
                    self._sending = None
                    self._changed.notify_all()

    def _deliver(self, checkpoint: Path) -> None:
        for delay in (*self.delays, None):
            try:
                self._upload(checkpoint)
                self._sweep()
            except Exception as error:  # whatever it is, training goes on
                passing = isinstance(error, ObjectError) and error.passing
                if not passing or delay is None:
                    self._away = True
                    self.say(
                        f"{checkpoint.name} stays on the local disk alone: {error} Training goes on; the next is sent again."
                    )
                    return
                with self._changed:
                    # A newer one makes this one worth no more attempts.
                    if self._changed.wait_for(lambda: self._waiting is not None, timeout=delay):
                        return
            else:
                if self._away:
                    self.say(f"{checkpoint.name} has arrived: the store is back")
                self._away = False
                return

    def _upload(self, checkpoint: Path) -> None:
        content = (checkpoint / MARKER).read_bytes()
        marker = read_marker(checkpoint)
        if marker is None:
            raise GokuError(f"{checkpoint} has no {MARKER} that can be read.")
        key = f"{checkpoint.name}-{hashlib.sha256(content).hexdigest()[:12]}"

        def put(name: str) -> None:
            there = self.bucket.head(f"{key}/{name}")
            if there is None or there.sha256 != marker.files[name].sha256:
                self.bucket.put(checkpoint / name, f"{key}/{name}")

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(put, marker.files))
        self.bucket.put_if_absent(f"{key}/{MARKER}", content)  # one that is there already says the same

    def _sweep(self) -> None:
        found = self._folders()
        complete = sorted((step, key) for key, (step, names) in found.items() if MARKER in names)
        kept = {key for _, key in complete[-self.keep :]}
        kept |= {key for step, key in complete if self.keep_every and step % self.keep_every == 0}
        newest = complete[-1][0] if complete else -1
        for key, (step, names) in found.items():
            if key not in kept and (step <= newest or MARKER in names):
                for name in sorted(names, key=lambda one: one != MARKER):  # it goes first: half must not look whole
                    self.bucket.delete(f"{key}/{name}")

    # reading
    def complete(self) -> list[Found]:
        """Complete checkpoints, newest first. Raises GokuError where the store does not answer."""
        found = []
        for key, (step, names) in self._folders().items():
            if MARKER in names and (content := self.bucket.get(f"{key}/{MARKER}")) is not None:
                marker = Marker.parse(content)
                found += [Found(key, step, marker)] if marker is not None else []
        return sorted(found, key=lambda one: (one.step, one.marker.saved), reverse=True)

    def fetch(self, found: Found, names: Iterable[str], folder: Path) -> None:
        """Copies files of a checkpoint into `folder`. Raises GokuError where one is missing or damaged on the way."""
        for name in names:
            if not fetch(self.bucket, f"{found.key}/{name}", folder / name):
                raise GokuError(f"{self.bucket.url(f'{found.key}/{name}')} is missing.")

    def forget(self) -> None:
        """Deletes every checkpoint of the run. Markers go first: what is left by an interruption does not look whole."""
        keys = [entry.key for entry in self.bucket.list() if NAME.match(entry.key)]
        for key in sorted(keys, key=lambda one: (not one.endswith(f"/{MARKER}"), one)):
            self.bucket.delete(key)

    def url(self, found: Found) -> str:
        return self.bucket.url(found.key)

    def _folders(self) -> dict[str, tuple[int, set[str]]]:
        """Step and names of the objects of every checkpoint, complete or not."""
        folders: dict[str, tuple[int, set[str]]] = {}
        for entry in self.bucket.list():
            if match := NAME.match(entry.key):
                folders.setdefault(match[1], (int(match[2]), set()))[1].add(entry.key[match.end() :])
        return folders
