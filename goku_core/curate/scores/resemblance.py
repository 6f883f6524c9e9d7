"""What a clip is recognised by under another name: a 64-bit perceptual hash, and a signature of its frames for a closer look.

Re-encoded, scaled, brighter, letterboxed, cropped or shifted by half a second, a clip shall still be found.

`look` gives both. Black bars are cut off first. The hash is taken of the *mean frame* of the clip: half a second more or less
changes it little, where the middle frame of the paper's way (ImageHash on key frames, section 4.4) may be another one. Bits
are signs of the 64 lowest frequencies of the mean frame's luma. A cropped copy is met by hashes of `WINDOWS` of the frame:
the copy's hash of its whole frame is near that of some window of the original. The signature holds those hashes, and for every
sampled frame 16x16 tiles of luma and 4x4 of colour: 288 bytes. `goku bench dedup` compares this with plain hashes of frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from goku_core.media.decode import resize

THUMBNAIL = 96  # px, both sides: what everything here is taken from
SIDE = 64  # px, the same without bars
LUMA, COLOR = 16, 4  # tiles per side
FRAME_BYTES = LUMA * LUMA + 2 * COLOR * COLOR
VERSION = 1  # of the signature; in its first byte, above the stride
MOST_FRAMES = 24  # of a signature; longer clips give every second, every fourth, ...
BAR_LUMA, BAR_SHARE = 20, 0.25  # a bar is darker everywhere and always, and takes no more than this of a side
# Signs of coefficients that are about zero (symmetric pictures have many) would follow coding noise.
FLOOR, SHARE = 12.0, 0.02  # DCT units of 32x32 luma; of the largest coefficient


@dataclass(frozen=True)
class Window:
    """Part of a frame that lacks ``share`` of both sides and lies at (y, x): 0 is top and left, 1 bottom and right."""

    share: float
    y: float
    x: float


# Crops of 5 % are met within 2 % wherever they lie, those of 10 % within 4 %.
WINDOWS = (
    *(Window(share, 0.5, 0.5) for share in (0.0, 0.05, 0.10)),
    *(Window(0.05, y, x) for y in (0.1, 0.9) for x in (0.1, 0.9)),
    *(Window(0.10, y, x) for y in (0.2, 0.8) for x in (0.2, 0.8)),
)
_LOWEST = np.array(sorted(((i, j) for i in range(12) for j in range(12) if i + j), key=lambda p: (p[0] + p[1], p))[:64])
_HEAD = 1 + 8 * (len(WINDOWS) - 1)


@dataclass(frozen=True)
class Look:
    """What `look` measured, unpacked.

    hashes  uint64 (len(WINDOWS),): of the whole mean frame first
    luma    uint8 (T, LUMA, LUMA); color: uint8 (T, COLOR, COLOR, 2), Cr and Cb
    stride  samples from one frame of these to the next: a power of two
    """

    hashes: np.ndarray
    luma: np.ndarray
    color: np.ndarray
    stride: int


def look(samples: Sequence[np.ndarray]) -> dict[str, str | bytes]:
    """Columns ``phash`` and ``signature`` of a clip or picture. samples: uint8 (H, W, 3) RGB, evenly spaced, at least one."""
    stride = 1
    while math.ceil(len(samples) / stride) > MOST_FRAMES:
        stride *= 2
    frames = without_bars(np.stack([thumbnail(image) for image in samples[::stride]]))
    frames = np.stack([resize(frame, SIDE, SIDE) for frame in frames])
    planes = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb) for frame in frames])
    mean = planes[..., 0].astype(np.float32).mean(axis=0)
    hashes = [_hash(_part(mean, window)) for window in WINDOWS]
    tiles = b"".join(
        resize(np.ascontiguousarray(plane[..., 0]), LUMA, LUMA).tobytes()
        + resize(np.ascontiguousarray(plane[..., 1:]), COLOR, COLOR).tobytes()
        for plane in planes
    )
    head = bytes([VERSION << 4 | stride.bit_length() - 1]) + b"".join(one.to_bytes(8, "big") for one in hashes[1:])
    return {"phash": f"{hashes[0]:016x}", "signature": head + tiles}


def unpack(phash: str, signature: bytes) -> Look:
    """The opposite of `look`. Raises ValueError where these are not what it wrote."""
    frames, rest = divmod(len(signature) - _HEAD, FRAME_BYTES)
    if frames < 1 or rest or signature[0] >> 4 != VERSION:
        raise ValueError(f"a signature of {len(signature)} bytes, version {signature[0] >> 4 if signature else None}")
    others = np.frombuffer(signature, ">u8", len(WINDOWS) - 1, 1).astype(np.uint64)
    tiles = np.frombuffer(signature, np.uint8, offset=_HEAD).reshape(frames, FRAME_BYTES)
    luma = tiles[:, : LUMA * LUMA].reshape(frames, LUMA, LUMA)
    color = tiles[:, LUMA * LUMA :].reshape(frames, COLOR, COLOR, 2)
    hashes = np.concatenate([np.array([int(phash, 16)], np.uint64), others])
    return Look(hashes, luma, color, 1 << (signature[0] & 15))


def perceptual_hash(rgb: np.ndarray) -> str:
    """64 bits of one picture as 16 hexadecimal digits. rgb: uint8 (H, W, 3)."""
    return str(look([rgb])["phash"])


def hash_distance(first: str, second: str) -> int:
    """Bits in which two hashes differ, 0 to 64."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


def thumbnail(rgb: np.ndarray) -> np.ndarray:
    """uint8 (THUMBNAIL, THUMBNAIL, 3). Halved first, which OpenCV does ten times as fast as any other area averaging."""
    while min(rgb.shape[:2]) >= 4 * THUMBNAIL:
        height, width = (side // 2 for side in rgb.shape[:2])
        rgb = resize(rgb[: 2 * height, : 2 * width], height, width)
    return resize(rgb, THUMBNAIL, THUMBNAIL)


def without_bars(frames: np.ndarray) -> np.ndarray:
    """The part of uint8 (T, H, W, 3) that is not black at the edge all the time."""
    brightest = frames.max(axis=0).max(axis=2)
    top, bottom = _dark(brightest), _dark(brightest[::-1])
    left, right = _dark(brightest.T), _dark(brightest.T[::-1])
    height, width = brightest.shape
    return frames[:, top : height - bottom, left : width - right]


def _dark(lines: np.ndarray) -> int:
    """Lines at the beginning that belong to a bar, and the one at its edge, in which bar and picture mix."""
    most = int(len(lines) * BAR_SHARE)
    bright = np.flatnonzero(lines[: most + 1].max(axis=1) > BAR_LUMA)
    count = int(bright[0]) if bright.size else 0
    return count + 1 if count else 0


def _part(image: np.ndarray, window: Window) -> np.ndarray:
    """float32 (32, 32) of the window."""
    kept = SIDE * (1 - window.share)
    scale, shift = kept / SIDE, SIDE - kept
    move = np.float64([[scale, 0, shift * window.x], [0, scale, shift * window.y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(image, move, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(part, (32, 32), interpolation=cv2.INTER_AREA)


def _hash(luma: np.ndarray) -> int:
    low = cv2.dct(luma)[_LOWEST[:, 0], _LOWEST[:, 1]]
    bits = low > max(FLOOR, SHARE * float(np.abs(low).max()))
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
