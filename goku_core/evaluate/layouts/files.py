"""Files moved whole or not at all, and never over others."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

from goku_core.pipeline.errors import GokuError

NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put(source: Path, place: Path, link: bool) -> bool:
    """The bytes of `source` at `place`; False where they are there already. Raises GokuError where others are."""
    if place.exists():
        if sha256(place) != sha256(source):
            raise GokuError(f"{place} is there with other bytes than {source}: remove it, or name another folder")
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".goku-{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    if not (link and _linked(source, draft)):
        shutil.copyfile(source, draft)
    draft.replace(place)
    return True


def _linked(source: Path, draft: Path) -> bool:
    """False where the file system has no hard links from there to here."""
    try:
        os.link(source, draft)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return False
    return True
