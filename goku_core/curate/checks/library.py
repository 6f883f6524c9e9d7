"""Great Expectations, imported ahead of time and without what is not used: it takes seconds, and validation comes last.

A thread imports it while other processes decode. What it would need for tables that lie in other people's stores it takes for
not installed, as it is on many machines: ours lies in memory.
"""

from __future__ import annotations

import importlib.abc
import os
import sys
import threading
from contextlib import suppress
from typing import Any

UNUSED = ("boto3", "botocore", "sqlalchemy")
_IMPORTING = threading.Lock()


class _NotInstalled(importlib.abc.MetaPathFinder):
    """Some packages, for imports of the thread that made it."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.partition(".")[0] in UNUSED and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{fullname} is kept from Great Expectations", name=fullname)


def great_expectations() -> Any:
    """The package; waits where it is being imported."""
    with _IMPORTING:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the package is imported
        finder = _NotInstalled()
        sys.meta_path.insert(0, finder)
        try:
            import great_expectations

            return great_expectations
        finally:
            sys.meta_path.remove(finder)


def import_ahead() -> None:
    """Begins to import it. What goes wrong is told to whoever asks for it."""

    def load() -> None:
        with suppress(ImportError):  # raised again by `great_expectations`
            great_expectations()

    threading.Thread(target=load, daemon=True, name="import-ahead").start()
