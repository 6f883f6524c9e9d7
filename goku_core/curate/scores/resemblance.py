"""Which pictures look the same: a 64-bit perceptual hash together with a small colour signature.

The hash is the DCT hash of the ImageHash library, which the paper uses (section 4.4), with one change. There a bit says
whether a low-frequency coefficient of 32x32 luma exceeds the median of the 64; on plain pictures most coefficients are
about zero, so the bits follow coding noise: a JPEG of quality 60 differed from its original in up to 31 bits. Here a
coefficient must exceed a floor; then copies of 300 procedural pictures (quality 60, or rescaled to 720p) differ in at
most 3 bits. The price: plain pictures resemble one another more. Structure alone does not tell a red square from a
green one anyway, so the colour signature (means of 8x8 tiles) must be near as well. Largest difference of any tile and
channel on 700 pictures: copies at most 3 levels, different scenes at least 23.
"""

from __future__ import annotations

import cv2
import numpy as np

from goku_core.media.decode import resize

TILES = 8
FLOOR = 20.0  # DCT units of 32x32 luma; coding noise stays below
SHARE = 0.1  # of the largest coefficient: the same for pictures with strong structure


def perceptual_hash(rgb: np.ndarray) -> str:
    """64 bits as 16 hexadecimal digits. rgb: uint8 (H, W, 3)."""
    luma = resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 32, 32).astype(np.float32)
    low = cv2.dct(luma)[:8, :8].ravel()
    bits = low > max(FLOOR, SHARE * float(np.abs(low[1:]).max()))
    bits[0] = low[0] > 32 * 128  # the first coefficient is the mean brightness (32 times the mean)
    return np.packbits(bits).tobytes().hex()


def signature(rgb: np.ndarray) -> bytes:
    """Mean colours of 8x8 tiles: 192 bytes, order row, column, channel."""
    return resize(rgb, TILES, TILES).tobytes()


def hash_distance(first: str, second: str) -> int:
    """Bits in which two hashes differ, 0 to 64."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


def color_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Largest difference of any tile and channel, in levels of 255. uint8 (..., n) and (n,) to int16 (...)."""
    return np.abs(first.astype(np.int16) - second.astype(np.int16)).max(axis=-1)
