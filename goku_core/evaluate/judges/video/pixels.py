"""Frames scaled, cropped and normalised as the benchmarks' own code does it, digit for digit.

torchvision and its versions differ in what a resize does; these are the two forms that VBench's clip networks are given.
Shapes: T frames of H x W px.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and deviation of red, green, blue in 0..1 (vbench/utils.py, clip_transform)."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def viclip_pixels(frames: np.ndarray, side: int) -> Tensor:
    """uint8 (T, H, W, 3) to float32 (T, 3, side, side): `clip_transform` on a tensor of uint8.

    Short side to ``side``, bicubic without averaging; then cut to 0..255 and rounded, since the tensor is uint8; centre.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float()
    rows, columns = short_side(*frames.shape[1:3], side)
    if (rows, columns) != tuple(frames.shape[1:3]):
        pixels = F.interpolate(pixels, size=(rows, columns), mode="bicubic", align_corners=False, antialias=False)
        pixels = pixels.clamp(0, 255).round()
    top, left = centre(rows, columns, side)
    return _normalised(pixels[..., top : top + side, left : left + side], CLIP)


def umt_pixels(frames: np.ndarray, scaled: int, side: int) -> Tensor:
    """uint8 (T, H, W, 3) to float32 (T, 3, side, side): short side to ``scaled`` by OpenCV, bilinear; centre.

    vbench/human_action.py with umt/functional.py.
    """
    rows, columns = short_side(*frames.shape[1:3], scaled)
    if (rows, columns) != tuple(frames.shape[1:3]):
        frames = np.stack([cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_LINEAR) for frame in frames])
    top, left = centre(rows, columns, side)
    cut = np.ascontiguousarray(frames[:, top : top + side, left : left + side].transpose(0, 3, 1, 2))
    return _normalised(torch.from_numpy(cut).float(), IMAGENET)


def short_side(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns when the shorter of them becomes ``side``; the longer is cut to whole pixels, not rounded."""
    if width <= height:
        return int(side * height / width), side
    return side, int(side * width / height)


def centre(rows: int, columns: int, side: int) -> tuple[int, int]:
    """Top and left of the middle square; halves of a pixel go to the even neighbour, as Python rounds."""
    return round((rows - side) / 2.0), round((columns - side) / 2.0)


def _normalised(pixels: Tensor, mean_and_deviation: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in mean_and_deviation)
    return (pixels / 255.0 - mean) / deviation
