"""Why a media file cannot be used: one exception, one table of classes.

==============  ==========================================================================================
empty           zero bytes
unreadable      no container we read, or a header that cannot be parsed, or a first frame that does not decode
no-video        a sane container without a moving-picture track (sound only; a cover picture is none)
truncated       the file ends before its own structure or header says it does, or no frame follows the header
damaged         more than one frame in 200 holds picture that the decoder had to make up
encrypted       the track is protected; no frame can be had
too-large       more pixels than `MAX_PIXELS`: a decompression bomb or not for us
timestamps      frames without a usable place in time, so that no span could name them
unsupported     sound, but shown in a way that we do not reproduce: mirrored, or turned by no multiple of 90 degrees
==============  ==========================================================================================
"""

from __future__ import annotations

from typing import Any

CLASSES = (
    "empty",
    "unreadable",
    "no-video",
    "truncated",
    "damaged",
    "encrypted",
    "too-large",
    "timestamps",
    "unsupported",
)


class MediaError(Exception):
    """A file that cannot be used. ``error_class`` is one of the classes in this module's table."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return (MediaError, (self.error_class, self.message))  # survives the way between two processes


def plain(error: Exception) -> str:
    """FFmpeg's message without number and path, so that the same fault reads the same on every machine."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip() or type(error).__name__
