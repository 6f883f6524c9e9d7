"""What a file is, read from its header and packets: kind, size, rate, length, bit rate. Decoded is one frame.

The file name is not trusted: a picture is known by its first bytes, a video by what the demultiplexer finds. Neither
are claims of a header that packets can be asked about: length, rate and bit rate are measured on them. Broken files
raise `MediaError`; its classes are listed in `goku_core.media.faults`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from goku_core.media.boxes import check_structure
from goku_core.media.faults import MediaError, plain
from goku_core.media.packets import Packets, read_packets

# Our choice: 8K UHD is 33 million pixels; twice that admits every real picture, a frame stays below 200 MB.
MAX_PIXELS = 67_000_000
# Containers the platform reads. FFmpeg would otherwise open play lists (which name other files) and text too.
# `max_pixels` stops decoders before they allocate a frame of a size that only the bit stream knows.
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg",
    "max_pixels": str(MAX_PIXELS),
}
PIXEL_ASPECTS = (Fraction(1, 4), Fraction(4))  # outside of them the number is taken for a mistake, not for a shape
RATE_TOLERANCE = 0.01  # a claimed rate this near to the measured one is the more exact of the two
# A file that ends this much before its header says is truncated; less is rounding.
MISSING_SHARE, MISSING_SECONDS = 0.05, 1.0
_ANIMATED = ("gif", "webp", "png")
_PQ, _HLG = 16, 18  # transfer characteristics (ITU-T H.273, table 3)


@dataclass(frozen=True)
class MediaInfo:
    """Facts of one file.

    kind          "video" or "image"
    codec         FFmpeg's name ("h264", "hevc", ...) or the picture format in small letters ("jpeg")
    width, height square pixels as shown, that is after the pixel aspect and rotation
    fps           average frames per second; 0 for pictures
    seconds       length of the video track; 0 for pictures
    bitrate_kbps  of the video track, from the sizes of its packets; 0 for pictures
    time_base     seconds per tick of the integer timestamps; 1 for pictures
    rotation      degrees counterclockwise that the stored frame is turned for display (-180..180)
    frames        number of frames the container promises; None where it does not say; of a picture: 1, or how many
                  an animation has
    container     FFmpeg's first name of it ("mov", "matroska", "avi", "mpegts", ...); empty for pictures
    interlaced    whether frames hold two fields of different moments
    transfer      "sdr", or "pq" or "hlg" for the two curves of high dynamic range
    packets       of the video track; None for pictures
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
    container: str = ""
    interlaced: bool = False
    transfer: str = "sdr"
    packets: Packets | None = field(default=None, repr=False, compare=False)


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
    check_structure(path, size, head)
    return _probe_video(path)


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
    """The moving-picture track: of several the one with the most pixels, and of equals the first; never a cover picture.

    Raises `MediaError` "no-video", and "unreadable" where FFmpeg has no decoder for it.
    """
    from av.stream import Disposition

    covers = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    found = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not found:
        what = "only cover pictures" if len(container.streams.video) else "no video track"
        raise MediaError("no-video", f"the container has {what}")
    usable = [stream for stream in found if stream.codec_context is not None]
    if not usable:
        raise MediaError("unreadable", "there is no decoder for the video track")
    stream = max(usable, key=lambda stream: stream.width * stream.height)
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def pixel_aspect(stream: Any) -> Fraction:
    """Width of a pixel over its height; 1 where the track does not say or says something impossible."""
    ratio = stream.sample_aspect_ratio
    least, most = PIXEL_ASPECTS
    return Fraction(ratio) if ratio is not None and least <= ratio <= most else Fraction(1)


def square_width(width: int, aspect: Fraction) -> int:
    """Columns of square pixels that show a row of ``width`` others. The height stays: nothing is made up upwards."""
    return max(1, round(width * aspect))


def _probe_picture(path: Path) -> MediaInfo:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            codec = (image.format or "unknown").lower()
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            # Other formats with several frames (MPO of cameras, TIFF) are one picture and its companions.
            frames = int(getattr(image, "n_frames", 1)) if codec in _ANIMATED else 1
    except Image.DecompressionBombError as error:
        raise MediaError("too-large", str(error)) from error
    except UnidentifiedImageError as error:
        raise MediaError("unreadable", "the picture's header cannot be parsed") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise MediaError("unreadable", f"the picture's header cannot be parsed: {plain(error)}") from error
    if turned:
        width, height = height, width
    _check_pixels(width, height)
    return MediaInfo("image", codec, width, height, Fraction(0), 0.0, 0.0, Fraction(1), 0, True, frames)


def _probe_video(path: Path) -> MediaInfo:
    with open_container(path) as container:
        stream = video_stream(container)
        first = _first_frame(container, stream)
        rotation = _upright(first)
        width, height = square_width(first.width, pixel_aspect(stream)), first.height
        _check_pixels(width, height)
        if rotation % 180:
            width, height = height, width
        interlaced = bool(first.interlaced_frame) or stream.codec_context.field_order >= 2
    with open_container(path) as container:  # anew: the first packets are gone
        stream = video_stream(container)
        packets = read_packets(container, stream)
        _check_promise(container, packets)
        claimed, measured = Fraction(stream.average_rate or stream.guessed_rate or 0), packets.rate
        agrees = measured > 0 and abs(claimed / measured - 1) < RATE_TOLERANCE
        return MediaInfo(
            kind="video",
            codec=stream.codec_context.name,
            width=width,
            height=height,
            fps=claimed if agrees else measured.limit_denominator(100_000),
            seconds=packets.seconds,
            bitrate_kbps=packets.kbps,
            time_base=Fraction(stream.time_base),
            rotation=rotation,
            has_video=True,
            frames=stream.frames or None,
            container=container.format.name.split(",")[0],
            interlaced=interlaced,
            transfer={_PQ: "pq", _HLG: "hlg"}.get(int(first.color_trc), "sdr"),
            packets=packets,
        )


def _first_frame(container: Any, stream: Any) -> Any:
    import av

    _check_pixels(stream.width, stream.height)
    try:
        first = next(container.decode(stream), None)
    except av.error.FFmpegError as error:
        raise MediaError("unreadable", f"the first frame does not decode: {plain(error)}") from error
    if first is None:
        raise MediaError("truncated", "the header is readable, but no frame follows it")
    return first


def _upright(frame: Any) -> int:
    """Degrees by which the frame is turned. Raises `MediaError` "unsupported" for what is more than a turn."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if a * d < b * c:
        raise MediaError("unsupported", "the display matrix mirrors the picture")
    turned = int(frame.rotation)
    if turned % 90:
        raise MediaError("unsupported", f"the picture is turned by {turned} degrees, which is no multiple of 90")
    return turned


def _check_promise(container: Any, packets: Packets) -> None:
    """Where all packets were read: do they last as long as the header says?"""
    promised, found = (container.duration or 0) / 1e6, packets.file_seconds
    if found is not None and promised - found > max(MISSING_SECONDS, MISSING_SHARE * promised):
        raise MediaError("truncated", f"the header promises {promised:.2f} s, {found:.2f} s are there")


def _check_pixels(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise MediaError("unreadable", f"the header gives an impossible size: {width}x{height}")
    if width * height > MAX_PIXELS:
        raise MediaError("too-large", f"{width}x{height} is more than {MAX_PIXELS} pixels")
