"""What becomes of a frame before GRiT looks at it, as VBench does it and as GRiT's configuration says.

VBench's wrapper brings frames whose short side is above 768 px down to 720. Its predictor then computes a picture of short
side 800 (at most 1333 wide or high, the defaults of detectron2, INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST) and feeds the other
one (grit/predictor.py, SingleDefaultPredictor): detection runs at native size, on things smaller or larger than the network
was meant to see. "official" does that; "corrected" feeds the picture of short side 800.

Whether torchvision averages when it shrinks depends on its version, which VBench does not pin for this call; here it does not,
as in VBench's other transforms.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image

from goku_core.scorers.resizing import scaled, tensor

SHRUNK_ABOVE, SHRUNK_TO = 768, 720
SHORT, LONG = 800, 1333


def official(frames: np.ndarray, by_opencv: bool) -> np.ndarray:
    """uint8 (T, H, W, 3) -> the same or smaller. by_opencv: as for `color`; else as torchvision scales tensors."""
    height, width = frames.shape[1:3]
    if min(height, width) <= SHRUNK_ABOVE:
        return frames
    scale = float(SHRUNK_TO) / min(height, width)
    rows, columns = int(scale * height), int(scale * width)
    if by_opencv:
        return np.stack([cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_LINEAR) for frame in frames])
    pixels = scaled(tensor(frames), (rows, columns), "bilinear").round().clamp(0, 255)
    return pixels.to(torch.uint8).permute(0, 2, 3, 1).numpy()


def corrected(frames: np.ndarray) -> np.ndarray:
    """uint8 (T, H, W, 3) to short side 800, long side at most 1333; bilinear, averaged when it shrinks, 8 bits (PIL)."""
    height, width = frames.shape[1:3]
    scale = min(SHORT / min(height, width), LONG / max(height, width))
    rows, columns = int(scale * height + 0.5), int(scale * width + 0.5)
    if (rows, columns) == (height, width):
        return frames
    pictures = (Image.fromarray(frame).resize((columns, rows), Image.Resampling.BILINEAR) for frame in frames)
    return np.stack([np.asarray(picture) for picture in pictures])
