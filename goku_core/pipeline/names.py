"""Names that become files: read from tables, archives and manifests that somebody else may have written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from goku_core.pipeline.errors import GokuError

LONGEST = 200  # bytes; file systems stop at 255, and suffixes come behind. Our choice


def require_plain(names: Iterable[Any], where: str) -> None:
    """Raises `GokuError` for the first that is not the name of one file in one folder, whatever it is put together with."""
    for name in names:
        if not is_plain(name):
            raise GokuError(
                f"{where}: {str(name)[:80]!r} is no plain name of a file, so nothing is read or written under it. "
                f"Whoever made this did not mean well, or it is damaged: do not use it."
            )


def is_plain(name: Any) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(os.fsencode(name) if _encodable(name) else b"") <= LONGEST
        and name not in (".", "..")
        and not any(c in "/\\" or not c.isprintable() for c in name)
        and name == name.strip()
        and not name.startswith("-")
    )


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # half a surrogate
        return False
    return True
