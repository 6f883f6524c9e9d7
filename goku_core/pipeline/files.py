"""Atomic writes and canonical JSON: what records, digests and locks rest on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, no NaN. What fingerprints are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write so that a reader, also after a power cut, finds the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def append_json_line(path: Path, value: Any) -> None:
    """One line, written by a single call in append mode: lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (canonical_json(value) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of an append-only file; a last line that a kill cut off is left out."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:  # cut off by a kill, then a later attempt appended behind it
            continue


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, atomically; a copy where the file system has no hard links."""
    temporary = target.with_name(f".{target.name[:40]}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        shutil.copy2(source, temporary)
    temporary.replace(target)
    # Renaming one link of an inode over another link of the same inode does nothing and leaves the source in place.
    temporary.unlink(missing_ok=True)


# POSIX record locks (lockf) belong to a process: they end with it, however it ends, and orphaned children of a killed
# process do not hold them (flock's would be inherited). Within one process they exclude nobody, hence the second lock.
_IN_PROCESS: dict[str, threading.Lock] = {}
_IN_PROCESS_GUARD = threading.Lock()


@contextlib.contextmanager
def lock(path: Path, *, owner: str = "", waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock file `path`; `waiting(owner text of the holder)` is called once when somebody else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _IN_PROCESS_GUARD:
        inner = _IN_PROCESS.setdefault(str(path.resolve()), threading.Lock())
    if not inner.acquire(blocking=False):
        if waiting:
            waiting("another thread of this process")  # reading the file here would drop the holder's lock
        inner.acquire()
    try:
        with path.open("a+", encoding="utf-8") as file:
            told = False
            while not _locked(file.fileno()):
                if not told and waiting:
                    file.seek(0)
                    waiting(file.read().strip())
                told = True
                time.sleep(0.1)
            file.truncate(0)
            file.write(owner)
            file.flush()
            yield
    finally:
        inner.release()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def lock_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock if nobody does: yields whether it was obtained."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _IN_PROCESS_GUARD:
        inner = _IN_PROCESS.setdefault(str(path.resolve()), threading.Lock())
    if not inner.acquire(blocking=False):
        yield False
        return
    try:
        with path.open("a+", encoding="utf-8") as file:
            yield _locked(file.fileno())
    finally:
        inner.release()
