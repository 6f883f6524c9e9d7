"""What a file is, read from its header: kind, size, rate, length, bit rate. Nothing is decoded but one frame.

The file name is not trusted: a picture is known by its first bytes, a video by what the demultiplexer finds.
Broken files raise `MediaError`, whose ``error_class`` is one of

==============  ==========================================================================================
empty           zero bytes
unreadable      no container we read, or a header that cannot be parsed, or a first frame that does not decode
no-video        a sane container without a moving-picture track
truncated       the file ends before its own structure says it does
encrypted       the track is protected; no frame can be had
too-large       more pixels than `MAX_PIXELS`: a decompression bomb or not for us
==============  ==========================================================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

# Our choice: 8K UHD is 33 million pixels; twice that admits every real picture, a frame stays below 200 MB.
MAX_PIXELS = 67_000_000
# Containers the platform reads. FFmpeg would otherwise open play lists (which name other files) and text too.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg"}


class MediaError(Exception):
    """A file that cannot be used. ``error_class`` is one of the classes in this module's table."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return (MediaError, (self.error_class, self.message))  # survives the way between two processes


@dataclass(frozen=True)
class MediaInfo:
    """Facts of one file.

    kind          "video" or "image"
    codec         FFmpeg's name ("h264", "hevc", ...) or the picture format in small letters ("jpeg")
    width, height pixels as shown, that is after rotation
    fps           average frames per second; 0 for pictures
    seconds       length of the video track; 0 for pictures
    bitrate_kbps  of the video track; of the whole file where the container does not say; 0 for pictures
    time_base     seconds per tick of the integer timestamps; 1 for pictures
    rotation      degrees counterclockwise that the stored frame is turned for display (-180..180)
    frames        number of frames the container promises; None where it does not say
    """

    kind: str
    codec: str
    width: int
    height: int
    fps: Fraction
    seconds: float
    bitrate_kbps: float
    time_base: Fraction
    rotation: int
    has_video: bool
    frames: int | None


def probe(path: str | Path) -> MediaInfo:
    """Read the facts of a video or picture file.

    Raises `MediaError`; `FileNotFoundError` where there is no such file.
    """
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        raise MediaError("empty", "the file has zero bytes")
    with path.open("rb") as file:
        head = file.read(16)
    if is_picture(head):
        return _probe_picture(path)
    _check_structure(path, size, head)
    return _probe_video(path, size)


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes is a JPEG, PNG, WebP, GIF, BMP or TIFF picture."""
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
    return head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def open_container(path: str | Path) -> Any:
    """Open a video file for demultiplexing: local files only, known containers only.

    Raises `MediaError` "unreadable".
    """
    import av

    try:
        return av.open(str(path), options=dict(_OPTIONS), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError("unreadable", f"neither a video nor a picture: {plain(error)}") from error


def video_stream(container: Any) -> Any:
    """The moving-picture track, never a cover picture. Raises `MediaError` "no-video"."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise MediaError("no-video", "the container has no video track")


def plain(error: Exception) -> str:
    """FFmpeg's message without number and path, so that the same fault reads the same on every machine."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip() or type(error).__name__


def _probe_picture(path: Path) -> MediaInfo:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            codec = (image.format or "unknown").lower()
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Image.DecompressionBombError as error:
        raise MediaError("too-large", str(error)) from error
    except UnidentifiedImageError as error:
        raise MediaError("unreadable", "the picture's header cannot be parsed") from error
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise MediaError("unreadable", f"the picture's header cannot be parsed: {plain(error)}") from error
    if turned:
        width, height = height, width
    _check_pixels(width, height)
    return MediaInfo("image", codec, width, height, Fraction(0), 0.0, 0.0, Fraction(1), 0, True, 1)


def _probe_video(path: Path, size: int) -> MediaInfo:
    import av

    with open_container(path) as container:
        stream = video_stream(container)
        width, height = stream.width, stream.height
        _check_pixels(width, height)
        try:
            first = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise MediaError("unreadable", f"the first frame does not decode: {plain(error)}") from error
        if first is None:
            raise MediaError("truncated", "the header is readable, but no frame follows it")
        rotation = int(first.rotation)
        if rotation % 180:
            width, height = height, width
        if stream.duration is not None:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = (container.duration or 0) / av.time_base
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        bits = stream.bit_rate or container.bit_rate or (8 * size / seconds if seconds > 0 else 0)
        return MediaInfo(
            kind="video",
            codec=stream.codec_context.name,
            width=width,
            height=height,
            fps=Fraction(rate),
            seconds=seconds,
            bitrate_kbps=bits / 1000,
            time_base=Fraction(stream.time_base),
            rotation=rotation,
            has_video=True,
            frames=stream.frames or None,
        )


def _check_pixels(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise MediaError("unreadable", f"the header gives an impossible size: {width}x{height}")
    if width * height > MAX_PIXELS:
        raise MediaError("too-large", f"{width}x{height} is more than {MAX_PIXELS} pixels")


def _check_structure(path: Path, size: int, head: bytes) -> None:
    """Compare the lengths that MP4 and AVI write down with the length of the file: cheap and exact."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _check_boxes(path, size)
    elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        promised = struct.unpack("<I", head[4:8])[0] + 8
        if promised > size:
            raise MediaError("truncated", f"the header promises {promised} bytes, the file has {size}")


def _check_boxes(path: Path, size: int) -> None:
    """Walk the top-level boxes of an ISO base media file (MP4, MOV)."""
    has_index = False
    with path.open("rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            length, name = struct.unpack(">I4s", file.read(8))
            body = 8
            if length == 1:
                large = file.read(8)
                if len(large) < 8:
                    raise MediaError("truncated", "the file ends inside a box header")
                length, body = struct.unpack(">Q", large)[0], 16
            elif length == 0:  # "until the end of the file"
                length = size - position
            label = name.decode("ascii", "replace")
            if length < body:
                raise MediaError("unreadable", f"box {label!r} at byte {position} has an impossible length")
            if position + length > size:
                missing = position + length - size
                raise MediaError("truncated", f"the file ends {missing} bytes inside its {label!r} box")
            if name == b"moov":
                has_index = True
                index = file.read(min(length - body, 1 << 24))
                if b"sinf" in index and b"schm" in index:
                    raise MediaError("encrypted", "the track is protected (common encryption)")
            position += length
    if not has_index:
        raise MediaError("truncated", "the index ('moov' box) is missing: the recording was cut off")
