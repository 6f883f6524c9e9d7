"""What an address gives: bytes on their way, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass


class Failure(Exception):
    """One address that gave no file; it becomes a row with this class and message.

    passing       another try may succeed: these are repeated, and counted against the share that may stay unreachable
    wait_seconds  what the server asked for before another try; None: it said nothing
    """

    def __init__(
        self, error_class: str, message: str, *, passing: bool = False, wait_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.error_class, self.message = error_class, message
        self.passing, self.wait_seconds = passing, wait_seconds


@dataclass(frozen=True)
class Reply:
    """The bytes of a file from `start` on.

    total           bytes of the whole file, None where the server does not say
    etag, modified  validators, empty where there are none
    sha256          of the whole file, where its writer left it
    chunks          raises `Failure` when the connection breaks; to be closed
    """

    start: int
    total: int | None
    etag: str
    modified: str
    media_type: str
    sha256: str
    chunks: Generator[bytes, None, None]
