"""BLIP (arXiv 2201.12086) for questions: ViT-B/16 at 480 px, a question encoder and an answer writer.

Names and sizes are those of `model_base_vqa_capfilt_large.pth` as T2I-CompBench loads it (BLIPvqa_eval/models,
configs/vqa.yaml, configs/med_config.json, commit 1b70949). The conversion on the hub is for 384 px and is another model.
Unverified against official values: nobody has run the published tensors through this code yet; its parts are checked
against transformers' BlipForQuestionAnswering on random tensors. That one is not used itself: its default sizes differ from
the published ones (8 heads in the text networks, 1e-5 in the LayerNorms of the picture), and its writer (5.23) looks at the
padding of the question.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.evaluate.networks.words.bert import BASE, BertSize, BertText, BertWriter
from goku_core.evaluate.networks.words.checkpoints import without
from goku_core.evaluate.networks.words.wordpieces import WRITE
from goku_core.scorers.sources import Source
from goku_core.scorers.tensors import adopt, read_tensors

SOURCE = Source(
    "BLIP-VQA base",
    "model_base_vqa_capfilt_large.pth",
    "curl -L -o weights/model_base_vqa_capfilt_large.pth "
    "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_base_vqa_capfilt_large.pth",
    "BSD-3-Clause",
)
YES, NO = 2748, 2053
"""Of bert-base-uncased: "yes", "no"."""

SPARE = (r"\.position_ids$",)


@dataclass(frozen=True)
class BlipSize:
    """The published model. side: of the picture, in pixels; text: of both text networks."""

    side: int = 480
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    text: BertSize = BASE


PUBLISHED = BlipSize()


class _Attention(nn.Module):
    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.proj = nn.Linear(size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        query, keys, values = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, eps=1e-6)
        self.attn = _Attention(size)
        self.norm2 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(size.width, size.hidden), "fc2": nn.Linear(size.hidden, size.width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class PictureEncoder(nn.Module):
    """(B, 3, side, side) -> (B, 1 + (side/patch)^2, width)."""

    def __init__(self, size: BlipSize) -> None:
        super().__init__()
        places = (size.side // size.patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + places, size.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, size.width, size.patch, size.patch)})
        self.blocks = nn.Sequential(*(_Block(size) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return self.norm(self.blocks(x + self.pos_embed))


class BlipVqa(nn.Module):
    def __init__(self, size: BlipSize = PUBLISHED) -> None:
        super().__init__()
        self.size = size
        self.visual_encoder = PictureEncoder(size)
        self.text_encoder = BertText(replace(size.text, memory=size.width))
        self.text_decoder = BertWriter(replace(size.text, memory=size.text.width))

    def answer(self, picture: Tensor, words: Tensor, real: Tensor, start: int = WRITE) -> Tensor:
        """Logits of the first word of the answer, (Q, vocabulary).

        picture  (1, S, width) of `visual_encoder`; words, real: (Q, L), the questions about it
        start    the word that the writer begins with
        """
        memory = self.text_encoder.encoder.recall(picture)
        states = self.text_encoder(words, real, memory)
        first = torch.full((len(words), 1), start, device=words.device)
        return self.text_decoder(first, self.text_decoder.recall(states), real)

    def forward(self, picture: Tensor, words: Tensor, real: Tensor) -> Tensor:
        """P(yes) / (P(yes) + P(no)) of each question, (Q,). As `answer`.

        The official code divides two softmax values; this is the same number, also where both round to 0.
        """
        logits = self.answer(picture, words, real)
        return torch.sigmoid(logits[:, YES] - logits[:, NO])


def load_blip(file: Path, device: str = "cpu", size: BlipSize = PUBLISHED) -> BlipVqa:
    """Raises GokuError where the file is another checkpoint."""
    tensors = without(read_tensors(file, ("model",)), SPARE)
    return adopt(BlipVqa(size), tensors, file, SOURCE).to(device)
