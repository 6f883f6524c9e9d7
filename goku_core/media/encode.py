"""Writes video and image files. Same frames in, same bytes out: no dates, no library versions in the file."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np

from goku_core.pipeline.errors import GokuError

# x264's default is 23; ours is a step better because previews are looked at and measured.
DEFAULT_CRF = 20
# A key frame every two seconds: random access costs at most two seconds of decoding.
# For libx264. Its macroblock trees read memory that nobody wrote: the same pictures then give other bytes now and then.
SAME_BYTES = {"x264-params": "mbtree=0"}
KEY_FRAME_SECONDS = 2.0
MAX_DENOMINATOR = 1001  # NTSC rates are n/1001
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def write_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: float | Fraction,
    *,
    bitrate_kbps: int | None = None,
    crf: int | None = None,
    preset: str = "veryfast",
    threads: int = 1,
    codec: str = "libx264",
) -> int:
    """Encodes RGB frames, uint8 (H, W, 3) with even H and W, and returns how many were written.

    fps           frames per second
    bitrate_kbps  average target; without it constant quality ``crf`` (0 best to 51 worst) holds
    preset        speed step of x264 and x265; other codecs have none and ignore it
    threads       1 by default: callers run several files at a time, and one thread gives the same bytes everywhere

    The file is written under a temporary name beside ``path`` and renamed when complete, so a kill leaves no
    half-written file under the real name. MP4 and MOV get their header in front (faststart).
    Raises GokuError when there is no frame or the sizes are odd or differ.
    """
    path = Path(path)
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise GokuError(f"{path}: no frames to write; a video needs at least one")
    height, width = _checked_size(first, path)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        count = _encode(
            partial,
            chain([first], iterator),
            height,
            width,
            Fraction(fps).limit_denominator(MAX_DENOMINATOR),
            _codec_options(codec, bitrate_kbps, crf, preset),
            bitrate_kbps,
            threads,
            codec,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def write_image(path: str | Path, rgb: np.ndarray, quality: int = 92) -> None:
    """Writes uint8 (H, W, 3) RGB as JPEG, PNG or WebP, by suffix. ``quality`` 1..100 holds for JPEG and WebP.

    Raises GokuError on another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise GokuError(f"{path}: cannot write images as '{suffix}'; use one of {', '.join(IMAGE_SUFFIXES)}")
    options: list[int] = []
    if suffix in (".jpg", ".jpeg"):
        options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    elif suffix == ".webp":
        options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    done, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise GokuError(f"{path}: the image of shape {rgb.shape} could not be encoded as {suffix}")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data.tobytes())
    partial.replace(path)


def _checked_size(frame: np.ndarray, path: Path) -> tuple[int, int]:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise GokuError(f"{path}: frames must be uint8 (H, W, 3) RGB, not {frame.dtype} {frame.shape}")
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        raise GokuError(f"{path}: {width}x{height} has an odd side; 4:2:0 video needs even sides")
    return height, width


def _codec_options(codec: str, bitrate_kbps: int | None, crf: int | None, preset: str) -> dict[str, str]:
    options: dict[str, str] = {}
    if codec in ("libx264", "libx265"):
        options["preset"] = preset
        if codec == "libx264":
            options |= SAME_BYTES
        if codec == "libx265":
            # One pool thread, and no build information in the stream.
            options["x265-params"] = "pools=1:frame-threads=1:info=0:log-level=error"
    if bitrate_kbps is None:
        if codec in ("libx264", "libx265", "libvpx-vp9"):
            options["crf"] = str(DEFAULT_CRF if crf is None else crf)
        else:
            options["qscale"] = "3"
    return options


def _encode(
    path: Path,
    frames: Iterable[np.ndarray],
    height: int,
    width: int,
    rate: Fraction,
    options: dict[str, str],
    bitrate_kbps: int | None,
    threads: int,
    codec: str,
) -> int:
    container_options = {"fflags": "+bitexact"}
    if path.suffix.lower() in (".mp4", ".mov", ".m4v"):
        container_options["movflags"] = "+faststart"
    count = 0
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / rate
        context.gop_size = max(1, round(float(rate) * KEY_FRAME_SECONDS))
        context.thread_count = threads
        if bitrate_kbps is not None:
            stream.bit_rate = bitrate_kbps * 1000
        for image in frames:
            if _checked_size(image, path) != (height, width):
                raise GokuError(f"{path}: frame {count} is {image.shape[:2]}, not {(height, width)} as the first")
            # OpenCV converts fast, to BT.601 limited range: what a decoder assumes of untagged video.
            planes = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2YUV_I420)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = count, 1 / rate
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count
