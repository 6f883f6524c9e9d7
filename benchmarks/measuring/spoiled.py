"""Bad media files: real containers, each spoiled in one way. A pure function of (number of files, seed).

Two kinds. Odd ones are sound but unusual: codecs, pixel formats and sizes that nobody expects. Spoiled ones are made
from sound ones by changing bytes; the change is drawn from (seed, number of the file).
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

FPS = 24
Bytes = bytearray
Change = Callable[[Bytes, np.random.Generator], Bytes]


@dataclass(frozen=True)
class Base:
    """A sound file: container suffix, codec, pixel format, size and length."""

    suffix: str
    codec: str
    pixels: str = "yuv420p"
    height: int = 96
    width: int = 128
    frames: int = 60
    options: tuple[tuple[str, str], ...] = ()  # of the container
    coding: tuple[tuple[str, str], ...] = ()


QUIET = (("x265-params", "log-level=none"),)
SOUND = (
    Base(".mp4", "libx264"),
    Base(".mp4", "libx264", options=(("movflags", "+faststart"),), coding=(("x264-params", "bframes=3:open-gop=1"),)),
    Base(".mp4", "libx264", options=(("movflags", "frag_keyframe+empty_moov"),)),
    Base(".mkv", "libx264"),
    Base(".ts", "libx264"),
    Base(".avi", "libx264"),
    Base(".flv", "libx264"),
    Base(".mkv", "libx265", frames=40, coding=QUIET),
    Base(".webm", "libvpx-vp9", frames=30),
    Base(".webm", "libvpx", frames=40),
    Base(".avi", "mpeg4"),
    Base(".mpg", "mpeg2video"),
)
ODD = (
    Base(".mov", "prores", "yuv422p10le"),
    Base(".mov", "prores_ks", "yuva444p10le"),
    Base(".mov", "qtrle", "argb"),
    Base(".mov", "png", "rgba"),
    Base(".mov", "cfhd", "yuv422p10le"),
    Base(".mov", "dnxhd", "yuv422p", 1080, 1920, 3, coding=(("profile", "dnxhr_sq"),)),
    Base(".mkv", "ffv1", "yuv420p"),
    Base(".mkv", "ffv1", "gray16le"),
    Base(".mkv", "ffv1", "bgra"),
    Base(".mkv", "ffv1", "yuv444p12le"),
    Base(".avi", "huffyuv", "yuv422p"),
    Base(".avi", "ffvhuff", "rgb24"),
    Base(".avi", "utvideo", "yuv420p"),
    Base(".avi", "magicyuv", "gbrp"),
    Base(".avi", "rawvideo", "yuv420p"),
    Base(".avi", "rawvideo", "pal8"),
    Base(".mkv", "rawvideo", "rgb24"),
    Base(".avi", "mjpeg", "yuvj420p"),
    Base(".mkv", "mjpeg", "yuvj444p"),
    Base(".avi", "msmpeg4v2"),
    Base(".avi", "wmv2"),
    Base(".avi", "cinepak", "rgb24", frames=3),
    Base(".avi", "zmbv", "pal8"),
    Base(".avi", "msvideo1", "rgb555le"),
    Base(".mov", "rpza", "rgb555le"),
    Base(".mov", "svq1", "yuv410p"),
    Base(".mov", "jpeg2000", "yuv420p", frames=24),
    Base(".flv", "flv"),
    Base(".flv", "flashsv", "bgr24"),
    Base(".mp4", "mpeg4"),
    Base(".mp4", "mpeg2video"),
    Base(".mpg", "mpeg1video"),
    Base(".ts", "libx265", frames=24, coding=QUIET),
    Base(".mp4", "h263", height=96, width=128),
    Base(".mov", "gif", "pal8"),
    Base(".mkv", "snow", frames=12),
    Base(".mp4", "libsvtav1", frames=12),
    Base(".mkv", "libx264", "yuv444p"),
    Base(".mkv", "libx264", "yuv422p10le"),
    Base(".mkv", "libx264", "gray"),
    Base(".mkv", "libx264rgb", "rgb24"),
    Base(".mkv", "libx265", "yuv420p12le", frames=24, coding=QUIET),
    Base(".webm", "libvpx-vp9", "yuva420p", frames=24),
    Base(".webm", "libvpx-vp9", "yuv420p", 97, 131, 24),
    Base(".mkv", "ffv1", "yuv444p", 1, 1),
    Base(".mkv", "ffv1", "yuv444p", 1, 257),
    Base(".mkv", "ffv1", "yuv444p", 511, 2),
    Base(".mp4", "libx264", "yuv420p", 2, 2),
    Base(".mp4", "libx264", "yuv420p", 16, 4096),
    Base(".mp4", "libx264", "yuv420p", 4320, 7680, 2),
    Base(".mkv", "ffv1", "gray", 9000, 9000, 2),
    Base(".mkv", "mjpeg", "yuvj420p", 16000, 16000, 1),
    Base(".mp4", "libx264", frames=1),
    Base(".mp4", "libx264", frames=2),
    Base(".mkv", "libx264", frames=1),
    Base(".avi", "mpeg4", frames=1),
    Base(".mp4", "libx264", coding=(("x264-params", "keyint=infinite:intra-refresh=1"),)),
    Base(".mp4", "libx264", coding=(("x264-params", "tff=1"),)),
    Base(".mkv", "libx264", options=(("live", "1"),)),
)


def corpus(folder: Path, files: int, seed: int) -> list[tuple[str, str]]:
    """Writes ``files`` files and returns (name, class) of each, in order. A quarter of them is odd, the rest spoiled.

    Encoders that this FFmpeg does not have are left out; others stand in their place.
    """
    sound = [data for base in SOUND if (data := written(base, folder)) is not None]
    pictures = list(_pictures())
    made: list[tuple[str, str]] = []
    for base in ODD[: max(1, files // 4)]:
        if (found := written(base, folder)) is not None:
            name = f"{len(made):04d}{base.suffix}"
            (folder / name).write_bytes(found[1])
            made.append((name, "odd size" if _odd_size(base) else "odd codec or pixels"))
    changes = list(CHANGES.items())
    number = 0
    while len(made) < files:
        rng = np.random.default_rng([seed, len(made)])
        label, change = changes[number % len(changes)]
        turn, number = number // len(changes), number + 1
        suffix, data = sound[turn % len(sound)] if number % 8 else pictures[turn % len(pictures)]
        name = f"{len(made):04d}{suffix if rng.uniform() < 0.9 else '.mp4'}"  # names lie as well
        (folder / name).write_bytes(bytes(change(bytearray(data), rng)))
        made.append((name, label))
    return made


def written(base: Base, folder: Path) -> tuple[str, bytes] | None:
    """(suffix, content) of the sound file; None where this FFmpeg cannot write it."""
    path = folder / f"base{base.suffix}"
    try:
        _encode(base, path)
        return base.suffix, path.read_bytes()
    except (av.error.FFmpegError, ValueError, OverflowError):
        return None
    finally:
        path.unlink(missing_ok=True)


def _encode(base: Base, path: Path) -> None:
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (12, 16, 3), np.uint8)
    coding = dict(base.coding)
    if base.codec.startswith("libx264"):  # see `goku_core.media.encode.SAME_BYTES`
        coding["x264-params"] = ":".join(filter(None, ["mbtree=0", coding.get("x264-params")]))
    with av.open(str(path), "w", options={"fflags": "+bitexact"} | dict(base.options)) as output:
        stream = output.add_stream(base.codec, rate=FPS, options=coding)
        stream.codec_context.thread_count = 1
        stream.height, stream.width, stream.pix_fmt = base.height, base.width, base.pixels
        stream.codec_context.gop_size = 12
        for index in range(base.frames):
            image = ground.repeat(-(-base.height // 12), 0).repeat(-(-base.width // 16), 1)
            image = np.ascontiguousarray(np.roll(image, 2 * index, axis=1)[: base.height, : base.width])
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if base.pixels == "pal8":
                frame = (
                    frame.reformat(format="rgb8").reformat(format="bgr8") if base.codec == "gif" else _indexed(image)
                )
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def _indexed(image: np.ndarray) -> av.VideoFrame:
    """A frame with a palette of 256 greys."""
    frame = av.VideoFrame(image.shape[1], image.shape[0], "pal8")
    plane, palette = frame.planes
    rows = np.zeros((plane.height, plane.line_size), np.uint8)
    rows[:, : plane.width] = image.mean(axis=2)
    plane.update(rows.tobytes())
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1)
    greys[:, 3] = 255
    palette.update(greys.tobytes())
    return frame


def _odd_size(base: Base) -> bool:
    return (base.height, base.width) not in ((96, 128), (1080, 1920)) or base.frames <= 2


def _pictures() -> Iterator[tuple[str, bytes]]:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 80, 3), np.uint8))
    for suffix, kind in ((".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP"), (".jpg", "GIF"), (".png", "TIFF")):
        out = io.BytesIO()
        image.save(out, kind)
        yield suffix, out.getvalue()


# --- ways to spoil a file -------------------------------------------------------------------------------------------


def _flips(data: Bytes, rng: np.random.Generator) -> Bytes:
    for at in rng.integers(0, len(data), int(rng.integers(1, 64))):
        data[at] = int(rng.integers(256))
    return data


def _flips_in_front(data: Bytes, rng: np.random.Generator) -> Bytes:
    for at in rng.integers(0, min(len(data), 600), int(rng.integers(1, 12))):
        data[at] = int(rng.integers(256))
    return data


def _one_bit(data: Bytes, rng: np.random.Generator) -> Bytes:
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return data


def _truncated(data: Bytes, rng: np.random.Generator) -> Bytes:
    share = rng.choice([0.0, 0.001, 0.01, 0.5, 0.9, 0.999, rng.uniform()])
    return data[: int(share * len(data)) + int(rng.integers(0, 9))]


def _without_front(data: Bytes, rng: np.random.Generator) -> Bytes:
    return data[int(rng.integers(1, len(data) // 2)) :]


def _hole(data: Bytes, rng: np.random.Generator) -> Bytes:
    start = int(rng.integers(0, len(data)))
    length = min(int(rng.integers(16, 4096)), len(data) - start)
    data[start : start + length] = bytes(length) if rng.uniform() < 0.5 else rng.bytes(length)
    return data


def _pushed_in(data: Bytes, rng: np.random.Generator) -> Bytes:
    at = int(rng.integers(0, len(data)))
    return data[:at] + bytearray(rng.bytes(int(rng.integers(1, 2048)))) + data[at:]


def _blocks_shuffled(data: Bytes, rng: np.random.Generator) -> Bytes:
    size = int(rng.choice([188, 512, 1500]))
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    return Bytes().join(blocks[i] for i in rng.permutation(len(blocks)))


def _boxes(data: Bytes, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """(start, end) of the boxes of an MP4 in a range; of other files, thirds."""
    found, limit = [], len(data) if end is None else end
    while start + 8 <= limit:
        length = int.from_bytes(data[start : start + 4], "big")
        if length < 8 or start + length > limit:
            break
        found.append((start, start + length))
        start += length
    third = max(1, len(data) // 3)
    return found or [(0, third), (third, 2 * third), (2 * third, len(data))]


def _boxes_reordered(data: Bytes, rng: np.random.Generator) -> Bytes:
    parts = [data[start:end] for start, end in _boxes(data)]
    return Bytes().join(parts[i] for i in rng.permutation(len(parts)))


def _box_removed(data: Bytes, rng: np.random.Generator) -> Bytes:
    boxes = _boxes(data)
    start, end = boxes[int(rng.integers(len(boxes)))]
    return data[:start] + data[end:]


def _box_repeated(data: Bytes, rng: np.random.Generator) -> Bytes:
    boxes = _boxes(data)
    start, end = boxes[int(rng.integers(len(boxes)))]
    return data[:end] + data[start:end] + data[end:]


_NAMES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"stts", b"stss", b"stsz", b"stsc", b"stco", b"ctts")
_NAMES += (b"avc1", b"avcC", b"mvhd", b"tkhd", b"mdhd", b"hdlr", b"elst", b"moof", b"tfhd", b"trun", b"mdat")
_LIES = (0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00FFFFFF)


def _length_lies(data: Bytes, rng: np.random.Generator) -> Bytes:
    """The length in front of a box says something else; elsewhere any four bytes."""
    places = [at - 4 for name in _NAMES if (at := data.find(name)) >= 4]
    at = int(rng.choice(places)) if places else int(rng.integers(0, max(1, min(len(data), 400) - 4)))
    data[at : at + 4] = struct.pack(">I", int(rng.choice(_LIES)))
    return data


def _table_lies(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Numbers inside the index: counts, offsets, durations, time scales, sides."""
    places = [at + 4 for name in _NAMES if (at := data.find(name)) >= 4]
    start = int(rng.choice(places)) if places else 20
    for _ in range(int(rng.integers(1, 5))):
        at = min(max(0, len(data) - 4), start + 4 * int(rng.integers(0, 24)))
        data[at : at + 4] = struct.pack(">I", int(rng.choice(_LIES)))
    return data


def _parameters(data: Bytes, rng: np.random.Generator) -> Bytes:
    """The description of the codec: parameter sets, private data."""
    marks = (b"avcC", b"hvcC", b"\x00\x00\x01\x67", b"\x00\x00\x01\x68", b"\x63\xa2", b"strf", b"\x00\x00\x01\xb3")
    places = [at for mark in marks if (at := data.find(mark)) >= 0] or [min(100, len(data) // 2)]
    start = int(rng.choice(places)) + 4
    for _ in range(int(rng.integers(1, 6))):
        at = min(len(data) - 1, start + int(rng.integers(0, 40)))
        data[at] = int(rng.integers(256))
    return data


def _joined(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Front of one file, rest of another; or one behind the other."""
    cut = int(rng.integers(1, len(data)))
    return data + data if rng.uniform() < 0.4 else data[:cut] + data[int(rng.integers(0, cut)) :]


def _renamed(data: Bytes, rng: np.random.Generator) -> Bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("film.txt", "not a film\n" * 50)
    kinds = [
        b"",
        b"\x00" * 5000,
        b"this is a letter\n" * 300,
        b"<!doctype html><html><body><video src='a.mp4'></video></body></html>" * 20,
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b'<?xml version="1.0"?><MPD><Period/></MPD>',
        packed.getvalue(),
        b"%PDF-1.7\n" + rng.bytes(3000),
        b"\x7fELF" + rng.bytes(3000),
        b"RIFF" + struct.pack("<I", 3000) + b"WAVEfmt " + rng.bytes(3000),
        b"OggS" + rng.bytes(2000),
        b"\x1aE\xdf\xa3" + rng.bytes(2000),
        b"\x00\x00\x00\x18ftypisom" + rng.bytes(2000),
        b"FLV\x01\x05\x00\x00\x00\x09" + rng.bytes(2000),
        b"\x47" + (rng.bytes(187) + b"\x47") * 20,
        b"\x89PNG\r\n\x1a\n" + rng.bytes(500),
        b"\xff\xd8\xff\xe0" + rng.bytes(500),
        rng.bytes(int(rng.integers(1, 20_000))),
    ]
    return Bytes(kinds[int(rng.integers(len(kinds)))])


CHANGES: dict[str, Change] = {
    "bytes changed": _flips,
    "truncated": _truncated,
    "header changed": _flips_in_front,
    "lengths lie": _length_lies,
    "index lies": _table_lies,
    "codec parameters changed": _parameters,
    "one bit": _one_bit,
    "front missing": _without_front,
    "a hole": _hole,
    "bytes pushed in": _pushed_in,
    "blocks shuffled": _blocks_shuffled,
    "boxes reordered": _boxes_reordered,
    "a box missing": _box_removed,
    "a box twice": _box_repeated,
    "two files in one": _joined,
    "something else renamed": _renamed,
}
