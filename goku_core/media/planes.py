"""Smaller copies of a decoded frame, made from its stored planes, so that no full-size colour conversion is paid.

At 1080p a conversion to RGB costs about half as much as decoding the frame did; what is compared, hashed or read by
models is small. Measured per 1080p frame, one core of an EPYC: RGB and scaling to 960 px 12 ms, `shrunk` to 960 px
1.1 ms; an averaged thumbnail 0.9 ms, from every fifth row 0.15 ms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LUMA_PLANE = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray")
HALF_CHROMA = ("yuv420p", "yuvj420p")
THUMBNAIL_ROWS = 3  # rows of a tile that are averaged: 45 pixels at 1080p, where all 225 look the same but for grain


def plane(frame: Any, index: int) -> np.ndarray:
    """One stored plane, uint8 (H, W): a view, valid as long as the frame is."""
    stored = frame.planes[index]
    return np.frombuffer(stored, np.uint8).reshape(-1, stored.line_size)[: stored.height, : stored.width]


def shrink(image: np.ndarray, height: int, width: int, gaps: float = 2.0) -> np.ndarray:
    """A plane, uint8 (H, W) to (height, width): halved by averages as long as it can be, the rest bilinear.

    OpenCV averages whole factors five times as fast as broken ones. Bilinear reading skips pixels where the rest is near
    2, which motion does not mind; from a rest of ``gaps`` on areas are averaged.
    """
    import cv2

    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        image = resize(image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2], *(n // 2 for n in image.shape))
    if image.shape == (height, width):
        return image
    if image.shape[0] >= gaps * height:
        return resize(image, height, width)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def shrunk(frame: Any, height: int, width: int) -> Any:
    """A copy of (height, width), both even, of a frame that is larger, as an `av.VideoFrame` of 8-bit 4:2:0 or RGB."""
    import av

    if frame.format.name not in HALF_CHROMA:
        return frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    sizes = ((height, width), *[(height // 2, width // 2)] * 2)
    parts = [shrink(plane(frame, index), *size, gaps=1.5) for index, size in enumerate(sizes)]
    stored = np.concatenate([part.ravel() for part in parts]).reshape(height * 3 // 2, width)
    copy = av.VideoFrame.from_ndarray(stored, format=frame.format.name)
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range  # or its colours would be read differently
    return copy


def thumbnail(frame: Any, factor: int) -> np.ndarray:
    """uint8 RGB, ``factor`` times smaller, stored orientation; see `Frame.thumbnail`."""
    import cv2

    height, width = (max(2, side // factor // 2 * 2) for side in (frame.height, frame.width))
    if frame.format.name not in HALF_CHROMA or min(frame.height, frame.width) < 2 * factor:
        return resize(frame.to_ndarray(format="rgb24"), height, width)
    step = factor // THUMBNAIL_ROWS if factor % THUMBNAIL_ROWS == 0 else 1
    planes = np.empty(height * width * 3 // 2, np.uint8)
    start = 0
    for index, (rows, columns) in enumerate(((height, width), *[(height // 2, width // 2)] * 2)):
        tiles = plane(frame, index)[: rows * factor, : columns * factor][step // 2 :: step]
        planes[start : start + rows * columns] = resize(tiles, rows, columns).ravel()
        start += rows * columns
    return cv2.cvtColor(planes.reshape(height * 3 // 2, width), cv2.COLOR_YUV2RGB_I420)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area averaging when shrinking, bilinear when growing. uint8 (H, W[, 3]) to (height, width[, 3])."""
    import cv2

    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
