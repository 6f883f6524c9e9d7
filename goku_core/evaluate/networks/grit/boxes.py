"""Arithmetic of boxes that detectors share: overlap, suppression, regression, and features cut out of a map.

detectron2 and torchvision have compiled kernels for two of these; here they are matrix products, which run wherever torch runs.
A box is left, top, right, bottom in pixels. Facts from detectron2 (structures/boxes.py, modeling/box_regression.py,
modeling/poolers.py, layers/roi_align.py with aligned=True) and torchvision (ops/nms, ops/roi_align).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_GROWTH = math.log(1000.0 / 16)
"""Of a side's logarithm in one regression (detectron2, _DEFAULT_SCALE_CLAMP)."""
USUAL_SIDE, USUAL_LEVEL = 224, 4
"""A box of 224 x 224 px is looked up in the map of stride 2**4 (arXiv 1612.03144, equation 1)."""
AT_ONCE = 64
"""Boxes that are cut out together: bounds the memory, changes no result by more than rounding."""


def areas(boxes: Tensor) -> Tensor:
    """(N, 4) -> (N,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def overlaps(one: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of a box (4,) with each of (N, 4): (N,); not a number for two boxes without area."""
    corner = torch.minimum(one[2:], others[:, 2:]) - torch.maximum(one[:2], others[:, :2])
    shared = corner.clamp(min=0).prod(dim=1)
    return shared / (areas(one[None]) + areas(others) - shared)


def kept(boxes: Tensor, scores: Tensor, threshold: float, at_most: int | None = None) -> Tensor:
    """Numbers of the boxes (N, 4) that non-maximum suppression leaves, best first.

    A box is suppressed by a better one that is left when they overlap by more than `threshold`. With `at_most`, no more than
    that many, and those that score exactly as the last of them.
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    ordered, marks = boxes[order].float().cpu(), scores[order].cpu()
    free = torch.ones(len(order), dtype=torch.bool)
    left: list[int] = []
    for place in range(len(order)):
        if not free[place]:
            continue
        if at_most is not None and len(left) >= at_most and marks[place] < marks[left[at_most - 1]]:
            break
        left.append(place)
        free[place + 1 :] &= ~(overlaps(ordered[place], ordered[place + 1 :]) > threshold)
    return order[torch.tensor(left, dtype=torch.long, device=order.device)]


def moved(boxes: Tensor, deltas: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Boxes (N, 4) after a regression (N, 4): shift of the centre in sides, logarithm of the growth, each by its weight."""
    deltas = deltas.float() / deltas.new_tensor(weights)
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + 0.5 * sides + deltas[:, :2] * sides
    sides = sides * deltas[:, 2:].clamp(max=LARGEST_GROWTH).exp()
    return torch.cat([centres - 0.5 * sides, centres + 0.5 * sides], dim=1)


def clipped(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (N, 4) cut at the borders of the picture."""
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def levels(boxes: Tensor, least: int, most: int) -> Tensor:
    """Which map a box is cut out of: logarithm of its stride, int64 (N,)."""
    level = torch.floor(USUAL_LEVEL + torch.log2(areas(boxes).sqrt() / USUAL_SIDE + 1e-8))
    return level.clamp(min=least, max=most).long()


def pooled(maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, side: int) -> Tensor:
    """Each box from the map that suits its size: maps (C, h, w), finest first -> (N, C, side, side)."""
    least, most = int(math.log2(strides[0])), int(math.log2(strides[-1]))
    level = levels(boxes, least, most)
    found = boxes.new_zeros(len(boxes), len(maps[0]), side, side)
    for number, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        (mine,) = torch.where(level == least + number)
        for some in mine.split(AT_ONCE) if len(mine) else ():
            found[some] = roi_align(features, boxes[some] / stride, side)
    return found


def roi_align(features: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Means of bilinear samples: features (C, h, w), boxes (N, 4) in units of the map -> (N, C, side, side).

    Pixel centres lie at halves. A box is cut into side x side cells and each cell sampled on a grid as fine as the map
    (ceil of its height times ceil of its width, as torchvision with sampling_ratio 0); samples more than one pixel outside
    the map are 0. Both the sampling and the interpolation take rows and columns apart, so a cell is (rows' weights) x
    map x (columns' weights).
    """
    down = _weights(boxes[:, 1] - 0.5, boxes[:, 3] - boxes[:, 1], side, features.shape[1])
    along = _weights(boxes[:, 0] - 0.5, boxes[:, 2] - boxes[:, 0], side, features.shape[2])
    return torch.einsum("npch,nqh->ncqp", torch.einsum("npw,chw->npch", along, features), down)


def _weights(start: Tensor, size: Tensor, side: int, length: int) -> Tensor:
    """How much each of `length` pixels counts for each of `side` cells along one axis: (N, side, length)."""
    cell = size / side
    samples = cell.ceil()
    inside = torch.arange(max(int(samples.max()), 1), device=start.device) < samples[:, None]
    number = torch.arange(inside.shape[1], device=start.device, dtype=start.dtype)
    within = (number + 0.5) * (cell / samples.clamp(min=1))[:, None]
    cells = torch.arange(side, device=start.device, dtype=start.dtype)[:, None] * cell[:, None, None]
    place = start[:, None, None] + cells + within[:, None, :]  # (N, side, samples)
    real = inside[:, None, :] & (place >= -1.0) & (place <= length)
    weight = real.to(place.dtype) / samples.clamp(min=1)[:, None, None]
    place = place.clamp(0, length - 1)
    low = place.floor().long()
    part = place - low
    table = place.new_zeros(len(start), side, length)
    table.scatter_add_(2, low, (1 - part) * weight)
    return table.scatter_add_(2, (low + 1).clamp(max=length - 1), part * weight)
