"""Where something might be: CenterNet as the first stage of a detector (CenterNet2, arXiv 2103.07461).

Own code; the tensors carry the names of GRiT's checkpoint. Facts from centernet2/centernet/modeling/dense_heads in VBench's
copy, constants from configs/Base.yaml. Every cell of the five maps says how likely it is the centre of a thing, of no
particular class, and how far the thing's borders are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.evaluate.networks.grit.backbone import STRIDES
from goku_core.evaluate.networks.grit.boxes import kept
from goku_core.evaluate.networks.grit.size import Size

LEAST_SCORE = 0.0001  # of a centre
MOST_OF_A_MAP = 1000
MOST = 256
OVERLAP = 0.9
SMALLEST = 0.01  # px, side of a box


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


class _Head(nn.Module):
    """One tower for all maps; only the factor of the distances differs."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        tower: list[nn.Module] = []
        for _ in range(size.convolutions):
            tower += [nn.Conv2d(size.channels, size.channels, 3, padding=1), nn.GroupNorm(32, size.channels), nn.ReLU()]
        self.bbox_tower = nn.Sequential(*tower)
        self.bbox_pred = nn.Conv2d(size.channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(_Scale() for _ in STRIDES)
        self.agn_hm = nn.Conv2d(size.channels, 1, 3, padding=1)

    def forward(self, features: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """(1, C, h, w) -> probability of a centre (h, w), distances to the borders in strides (4, h, w)."""
        features = self.bbox_tower(features)
        distances = F.relu(self.bbox_pred(features) * self.scales[level].scale)
        return self.agn_hm(features)[0, 0].sigmoid(), distances[0]


class Proposals(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.centernet_head = _Head(size)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps (1, C, h, w) of one picture -> boxes (n, 4) in pixels, best first, and scores (n,); n about 256 at most."""
        found = [
            centres(*self.centernet_head(features, level), stride)
            for level, (features, stride) in enumerate(zip(maps, STRIDES, strict=True))
        ]
        boxes, scores = torch.cat([one for one, _ in found]), torch.cat([one for _, one in found])
        best = kept(boxes, scores, OVERLAP, MOST)
        return boxes[best], scores[best]


def centres(likely: Tensor, distances: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Of one map, the best thousand cells that are likelier than `LEAST_SCORE`: boxes (n, 4) in pixels, scores (n,).

    likely (h, w); distances (4, h, w) to left, top, right, bottom in strides. A score is the root of the probability. Boxes
    may stick out of the picture and have sides of at least 0.01 px.
    """
    rows, columns = torch.where(likely > LEAST_SCORE)
    scores = likely[rows, columns]
    if len(scores) > MOST_OF_A_MAP:
        scores, best = scores.topk(MOST_OF_A_MAP)
        rows, columns = rows[best], columns[best]
    centre = torch.stack([columns, rows], dim=1) * stride + stride // 2
    reach = distances[:, rows, columns].T * stride
    first, last = centre - reach[:, :2], centre + reach[:, 2:]
    return torch.cat([first, torch.maximum(last, first + SMALLEST)], dim=1), scores.sqrt()
