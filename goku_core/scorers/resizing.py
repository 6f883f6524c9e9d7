"""Frames scaled, cropped and normalised as torchvision's transforms do it, which scores depend on. torchvision is no dependency.

On float tensors its `Resize` is plain interpolation with half-pixel centres: no rounding to 8 bits, bicubic values may leave
0..255. Whether it averages when shrinking changed with its versions (`antialias`); the benchmarks that matter write False,
and so does this file. Pictures of PIL are always averaged when they shrink, and rounded to 8 bits, whatever is written.

Shapes: T frames of H x W px.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of red, green, blue, for pixels in 0..1."""
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def tensor(frames: np.ndarray) -> Tensor:
    """uint8 (T, H, W, 3) to float32 (T, 3, H, W), still 0..255."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float()


def short_side(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns when the shorter of them becomes ``side``; the longer is cut to whole pixels, not rounded."""
    if width <= height:
        return int(side * height / width), side
    return side, int(side * width / height)


def scaled(pixels: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Float (T, 3, H, W) to rows and columns ``size``. mode: "bilinear" or "bicubic". Never averaged when it shrinks."""
    if tuple(pixels.shape[-2:]) == size:
        return pixels
    return F.interpolate(pixels, size=size, mode=mode, align_corners=False, antialias=False)


def centre(pixels: Tensor, side: int) -> Tensor:
    """The middle (side, side) of (..., H, W), both at least ``side``; halves of a pixel go to the even neighbour."""
    height, width = pixels.shape[-2:]
    top, left = round((height - side) / 2.0), round((width - side) / 2.0)
    return pixels[..., top : top + side, left : left + side]


def normalised(pixels: Tensor, mean_and_deviation: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """0..255 to 0..1, then less the mean, by the deviation: (T, 3, H, W)."""
    mean, deviation = (pixels.new_tensor(values).view(3, 1, 1) for values in mean_and_deviation)
    return (pixels / 255.0 - mean) / deviation


def dino_pixels(frames: np.ndarray, side: int = 224) -> Tensor:
    """VBench's `dino_transform`: short side to ``side``, bilinear, whole picture. float32 (T, 3, h, w)."""
    size = short_side(*frames.shape[1:3], side)
    return normalised(scaled(tensor(frames), size, "bilinear"), IMAGENET)


def clip_pixels(frames: np.ndarray, side: int = 224) -> Tensor:
    """VBench's `clip_transform`, on tensors: bicubic, not averaged, centre. float32 (T, 3, side, side)."""
    size = short_side(*frames.shape[1:3], side)
    return normalised(centre(scaled(tensor(frames), size, "bicubic"), side), CLIP)


def clip_pixels_of_pictures(frames: np.ndarray, side: int = 224) -> Tensor:
    """VBench's `clip_transform_Image`, on pictures of PIL: bicubic, averaged, 8 bits. float32 (T, 3, side, side)."""
    from PIL import Image

    rows, columns = short_side(*frames.shape[1:3], side)
    pictures = [Image.fromarray(frame) for frame in frames]
    resized = [
        p if p.size == (columns, rows) else p.resize((columns, rows), Image.Resampling.BICUBIC) for p in pictures
    ]
    return normalised(centre(tensor(np.stack([np.asarray(picture) for picture in resized])), side), CLIP)
