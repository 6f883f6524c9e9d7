"""From a picture to the input of GenEval's detector, and from its logits to things with a box, a mask and a score.

The rules are those of mmdetection 2.25's test pipeline and of its instance post-processing for Mask2Former.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

LONGEST, SHORTEST = 1333, 800
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
DIVISOR = 32
MOST = 100
"""Pairs of query and class that are kept, best first: test_cfg.max_per_image."""


@dataclass(frozen=True)
class Instance:
    """One thing found.

    label   number of the class
    score   probability of the class times mean probability of the mask within itself
    box     left, top, right, bottom in pixels of the picture, right and bottom exclusive; zeros for an empty mask
    mask    bool (H, W) of the picture
    """

    label: int
    score: float
    box: tuple[float, float, float, float]
    mask: np.ndarray


def resized(height: int, width: int) -> tuple[int, int]:
    """(height, width) within 800 x 1333 either way round, proportions kept, rounded as mmcv does."""
    scale = min(LONGEST / max(height, width), SHORTEST / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def prepared(picture: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
    """uint8 RGB (H, W, 3) -> float32 (1, 3, H', W') with sides that 32 divides, and the size before padding.

    Resized as 8 bits (OpenCV, bilinear), normalised, padded with zeros below and to the right.
    """
    height, width = resized(*picture.shape[:2])
    small = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_LINEAR)
    normal = (torch.from_numpy(small).float() - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    edges = (0, -width % DIVISOR, 0, -height % DIVISOR)
    return F.pad(normal.permute(2, 0, 1), edges)[None], (height, width)


def full_size(
    masks: torch.Tensor, padded: tuple[int, int], inner: tuple[int, int], picture: tuple[int, int]
) -> torch.Tensor:
    """Mask logits (queries, h, w) of the network -> (queries, H, W) of the picture: up to the padded input, padding cut off,
    then to the picture, bilinear both times."""
    large = F.interpolate(masks[None], padded, mode="bilinear", align_corners=False)[:, :, : inner[0], : inner[1]]
    return F.interpolate(large, picture, mode="bilinear", align_corners=False)[0]


def instances(classes: torch.Tensor, masks: torch.Tensor, most: int = MOST) -> list[Instance]:
    """classes (queries, classes + 1) logits, the last for "no object"; masks (queries, H, W) logits -> things, best first.

    One query may answer with several classes. Which pairs are kept is decided by the probability of the class alone.
    """
    odds = classes.softmax(dim=-1)[:, :-1]
    kept = odds.flatten().topk(min(most, odds.numel()))
    found = []
    for odd, place in zip(kept.values.tolist(), kept.indices.tolist(), strict=True):
        logits = masks[place // odds.shape[1]]
        inside = logits > 0
        sure = float(logits[inside].double().sigmoid().sum()) / (float(inside.sum()) + 1e-6)
        mask = inside.cpu().numpy()
        found.append(Instance(place % odds.shape[1], odd * sure, box_of(mask), mask))
    return sorted(found, key=lambda thing: -thing.score)


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Tight box of a bool mask, right and bottom exclusive; zeros where it is empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
