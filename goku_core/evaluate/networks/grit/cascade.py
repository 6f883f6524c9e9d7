"""Which of the proposals are things, and where exactly: three box heads, each correcting the one before (arXiv 1712.00726).

Own code; the tensors carry the names of GRiT's checkpoint. Facts from grit/modeling/roi_heads/grit_roi_heads.py and
grit_fast_rcnn.py in VBench's copy and from detectron2 (modeling/roi_heads/cascade_rcnn.py, fast_rcnn.py); weights of the
regressions are the defaults of detectron2's configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.evaluate.networks.grit.backbone import STRIDES
from goku_core.evaluate.networks.grit.boxes import clipped, kept, moved, pooled
from goku_core.evaluate.networks.grit.size import Size

WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
OVERLAP = 0.5
MOST = 256
POOLED = STRIDES[:3]
"""Boxes are cut out of p3 to p5."""


class _Head(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size.channels * size.box**2, size.hidden)
        self.fc2 = nn.Linear(size.hidden, size.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, box, box) -> (N, hidden)."""
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))


class _Predictor(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.cls_score = nn.Linear(size.hidden, 2)  # thing, background
        self.bbox_pred = nn.Sequential(nn.Linear(size.hidden, size.hidden), nn.ReLU(), nn.Linear(size.hidden, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, hidden) -> probability of a thing (N,), regression (N, 4)."""
        return self.cls_score(x).softmax(dim=1)[:, 0], self.bbox_pred(x)


class Cascade(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.side = size.box
        self.box_head = nn.ModuleList(_Head(size) for _ in WEIGHTS)
        self.box_predictor = nn.ModuleList(_Predictor(size) for _ in WEIGHTS)

    def forward(
        self, maps: Sequence[Tensor], boxes: Tensor, scores: Tensor, height: int, width: int, least: float
    ) -> tuple[Tensor, Tensor]:
        """Proposals (N, 4) with scores (N,) -> things (n, 4) within the picture, best first, and scores (n,) above `least`.

        maps p3 to p5, (C, h, w). The score is the root of (mean of the heads) x (proposal's score).
        """
        told = torch.zeros_like(scores)
        for stage, (head, predict) in enumerate(zip(self.box_head, self.box_predictor, strict=True)):
            if stage:
                boxes = clipped(boxes, height, width)
            thing, deltas = predict(head(pooled(maps, POOLED, boxes, self.side)))
            told = told + thing
            boxes = moved(boxes, deltas, WEIGHTS[stage])
        return things(boxes, (told / len(WEIGHTS) * scores).sqrt(), height, width, least)


def things(boxes: Tensor, scores: Tensor, height: int, width: int, least: float) -> tuple[Tensor, Tensor]:
    """What is above `least` and not suppressed, at most 256, best first."""
    usable = torch.isfinite(boxes).all(dim=1) & torch.isfinite(scores) & (scores > least)
    boxes, scores = clipped(boxes[usable], height, width), scores[usable]
    best = kept(boxes, scores, OVERLAP)[:MOST]
    return boxes[best], scores[best]
