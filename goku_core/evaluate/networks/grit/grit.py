"""GRiT-B as a whole: a picture to boxes, each with a class name and, if asked, a sentence.

Own code on plain torch, no detectron2. It loads `grit_b_densecap_objectdet.pth` (trained for both tasks) by the names of its
tensors. Facts from grit/modeling/meta_arch/grit.py, grit/predictor.py and image_dense_captions.py in VBench's copy
(Apache-2.0) and from detectron2 (modeling/meta_arch/rcnn.py, postprocessing.py).

**Unverified against official values**: the file could not be had where this was written. Names and shapes are those of the
network that VBench's copy builds; on random weights its boxes, names and sentences and these are equal (docs/weights.md).

Shapes: H W pixels, N things, L words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.evaluate.networks.grit.backbone import STRIDES, Backbone
from goku_core.evaluate.networks.grit.boxes import clipped, pooled
from goku_core.evaluate.networks.grit.cascade import POOLED, Cascade
from goku_core.evaluate.networks.grit.proposals import Proposals
from goku_core.evaluate.networks.grit.size import GRIT_B, Size
from goku_core.evaluate.networks.grit.text import TextDecoder
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source
from goku_core.scorers.tensors import adopt, read_tensors

SOURCE = Source(
    "grit-b",
    "grit/grit_b_densecap_objectdet.pth",
    "hf download OpenGVLab/VBench_Used_Models grit_b_densecap_objectdet.pth --local-dir weights/grit",
    "MIT (the code's; none is stated beside the file)",
)
MEAN, DEVIATION = (123.675, 116.280, 103.530), (58.395, 57.12, 57.375)
"""Of red, green, blue, 0..255."""
LEAST_SCORE = 0.5
"""Of a box, before its words are weighed in: VBench's confidence_threshold."""
AT_ONCE = 32
"""Boxes described together: bounds the memory; each picture's are always grouped alike."""
UNUSED = ("roi_heads.mask_head.", "pixel_mean", "pixel_std")
"""Of the file: the head that draws masks, which no judge looks at, and constants."""
TEXT, SECOND_TEXT = "roi_heads.text_decoder.", "roi_heads.text_decoder_det."
"""VBench's copy names the one text decoder twice."""


class _RoiHeads(Cascade):
    """The checkpoint keeps the text decoder beside the box heads."""

    def __init__(self, size: Size) -> None:
        super().__init__(size)
        self.text_decoder = TextDecoder(size)


class Grit(nn.Module):
    def __init__(self, size: Size = GRIT_B) -> None:
        super().__init__()
        self.size = size
        self.backbone = Backbone(size)
        self.proposal_generator = Proposals(size)
        self.roi_heads = _RoiHeads(size)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """RGB (3, H, W), 0..255 -> five maps (1, C, h, w). Filled up with the mean colour, right and below."""
        mean, deviation = (pixels.new_tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
        height, width = pixels.shape[1:]
        by = STRIDES[2]
        normal = F.pad((pixels - mean) / deviation, (0, -width % by, 0, -height % by))
        return self.backbone(normal[None])

    def things(self, maps: Sequence[Tensor], height: int, width: int, least: float) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4) and scores (N,) of a picture of height x width px."""
        boxes, scores = self.proposal_generator(maps)
        boxes, scores = self.roi_heads([one[0] for one in maps[: len(POOLED)]], boxes, scores, height, width, least)
        boxes = clipped(boxes, height, width)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return boxes[solid], scores[solid]

    def describe(
        self, maps: Sequence[Tensor], boxes: Tensor, tasks: Sequence[int]
    ) -> dict[int, list[tuple[Tensor, Tensor]]]:
        """For each task, by groups of boxes: words (n, L) and logarithm of their mean probability (n,)."""
        told: dict[int, list[tuple[Tensor, Tensor]]] = {task: [] for task in tasks}
        for some in boxes.split(AT_ONCE) if len(boxes) else ():
            cells = pooled([one[0] for one in maps[: len(POOLED)]], POOLED, some, self.size.thing)
            memory = self.roi_heads.text_decoder.remember(cells.flatten(2).transpose(1, 2))
            for task in tasks:
                told[task].append(self.roi_heads.text_decoder.write(memory, task))
        return told

    @property
    def device(self) -> torch.device:
        return self.backbone.bottom_up.pos_embed.device


def from_checkpoint(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the published file by the names they have here: unused ones and the text decoder's second name left out.

    Raises GokuError where the two names of the text decoder hold different tensors.
    """
    for name, tensor in tensors.items():
        first = name.replace(SECOND_TEXT, TEXT, 1)
        if name.startswith(SECOND_TEXT) and not (first in tensors and torch.equal(tensors[first], tensor)):
            raise GokuError(
                f"{name} differs from {first}: the file is not {SOURCE.name}, which has one text decoder. Get it: {SOURCE.get}"
            )
    return {name: tensor for name, tensor in tensors.items() if not name.startswith((*UNUSED, SECOND_TEXT))}


def load_grit(path: Path, device: str = "cpu", size: Size = GRIT_B) -> Grit:
    """Raises GokuError where the file is not GRiT-B of both tasks."""
    network = Grit(size)
    return adopt(network, from_checkpoint(read_tensors(path, ("model",))), path, SOURCE).to(device)
