"""Lengths that MP4, MOV and AVI files write down, compared with the file: is it whole, is its picture protected?

Cheap and exact: a few reads, nothing is decoded. An ISO base media file is a sequence of boxes (ISO/IEC 14496-12): four
bytes of length, four of name, then the body, which may be boxes again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from goku_core.media.faults import MediaError

FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Where the description of a track's samples lies.
PATH_TO_SAMPLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
PROTECTED = (b"encv", b"drmi")  # common encryption (ISO/IEC 23001-7) of video, and Apple's
# A recording with one fragment per frame has two boxes a frame: this is five hours of it. More is an attack on our time.
MOST_BOXES = 1_000_000


def check_structure(path: Path, size: int, head: bytes) -> None:
    """Of MP4, MOV and AVI; other files pass. head: the first 16 bytes.

    Raises `MediaError` "truncated", "unreadable" or "encrypted".
    """
    if head[4:8] in FIRST_BOXES:
        with path.open("rb") as file:
            _check_boxes(file, size)
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        promised = struct.unpack("<I", head[4:8])[0] + 8
        if promised > size:
            raise MediaError("truncated", f"the header promises {promised} bytes, the file has {size}")


def _check_boxes(file: BinaryIO, size: int) -> None:
    has_index = False
    for name, start, body, end in _boxes(file, 0, size):
        label = name.decode("ascii", "replace")
        if end < body:
            raise MediaError("unreadable", f"box {label!r} at byte {start} has an impossible length")
        if end > size:
            raise MediaError("truncated", f"the file ends {end - size} bytes inside its {label!r} box")
        if name == b"moov":
            has_index = True
            if _protected(file, body, end, 1):
                raise MediaError("encrypted", "the video track is protected (common encryption)")
    if not has_index:
        raise MediaError("truncated", "the index ('moov' box) is missing: the recording was cut off")


def _boxes(file: BinaryIO, position: int, limit: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(name, start, start of the body, end) of the boxes in a range. Ends behind a box that overruns it."""
    for _ in range(MOST_BOXES):
        if position + 8 > limit:
            return
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        body = position + 8
        if length == 1:
            large = file.read(8)
            if len(large) < 8:
                raise MediaError("truncated", "the file ends inside a box header")
            length, body = struct.unpack(">Q", large)[0], position + 16
        elif length == 0:  # "until the end"
            length = limit - position
        end = position + length
        yield name, position, body, end
        if end < body or end > limit:
            return
        position = end
    raise MediaError("unreadable", f"more than {MOST_BOXES} boxes")


def _protected(file: BinaryIO, start: int, end: int, depth: int) -> bool:
    """Whether a sample description below this box is that of a protected video track."""
    wanted = PATH_TO_SAMPLES[depth]
    for name, _, body, stop in _boxes(file, start, end):
        if name != wanted or stop > end:
            continue
        if name == PATH_TO_SAMPLES[-1]:
            entries = _boxes(file, body + 8, stop)  # behind version, flags and count
            if any(entry in PROTECTED for entry, *_ in entries):
                return True
        elif _protected(file, body, stop, depth + 1):
            return True
    return False
