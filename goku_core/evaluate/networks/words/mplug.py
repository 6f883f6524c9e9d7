"""mPLUG (arXiv 2205.12005) for questions: CLIP's ViT-L/14 at 504 px, BERT, a fusion of both, an answer writer.

Names and order of operations are those of ModelScope's `modeling_mplug.py` (Apache-2.0) for
`damo/mplug_visual-question-answering_coco_large_en`; every size is read from the `config.yaml` and `config_bert.json`
beside its weights. Unverified against official values: nobody has run the published tensors through this code yet; its
parts are checked against transformers' CLIP and BERT on random tensors.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from goku_core.evaluate.networks.words.beams import by_length_penalty
from goku_core.evaluate.networks.words.bert import BertSize, BertText, BertWriter, Layer, seen
from goku_core.evaluate.networks.words.checkpoints import without
from goku_core.evaluate.networks.words.wordpieces import END, START
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source
from goku_core.scorers.tensors import adopt, read_tensors

SOURCE = Source(
    "mPLUG VQA large",
    "mplug_visual-question-answering_coco_large_en",
    "hf download diffusion-bench/mplug_visual-question-answering_coco_large_en "
    "--local-dir weights/mplug_visual-question-answering_coco_large_en",
    "Apache-2.0",
)
TENSORS = ("pytorch_model.safetensors", "pytorch_model.bin")
"""The file of the folder, after what somebody may have made of it."""
SPARE = (
    r"\.position_ids$",
    r"^(visual_encoder|text_encoder|fusion_encoder|text_decoder|visn_fc|visn_layer_norm)_m\.",  # averages of training
    r"^visual_encoder\.(?!visual\.)",  # CLIP's text tower
    r"^visual_encoder\.visual\.proj$",
)

TEXT = BertSize(vocabulary=30522, types=2)


@dataclass(frozen=True)
class MplugSize:
    """side: of the picture, px; patch .. heads: of CLIP's vision tower; text: what the three text networks share.

    asked, fused, written  layers of the question encoder, of the fusion that are used, of the writer
    stacked                layers of the fusion in the file: the first `stacked - fused` are never used
    stride                 every how many fusion layers words and picture attend together
    beams, least, most     of the search for the answer
    """

    side: int = 504
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    text: BertSize = TEXT
    asked: int = 6
    fused: int = 6
    stacked: int = 12
    written: int = 12
    stride: int = 6
    beams: int = 5
    least: int = 1
    most: int = 10


def size_of(config: Mapping[str, Any], bert: Mapping[str, Any]) -> MplugSize:
    """Of the contents of `config.yaml` and `config_bert.json`. Keys that are left out have ModelScope's defaults."""
    width = config.get("clip_vision_width", 1024)
    text = BertSize(
        vocabulary=bert["vocab_size"],
        width=bert["hidden_size"],
        heads=bert["num_attention_heads"],
        hidden=bert["intermediate_size"],
        positions=bert["max_position_embeddings"],
        types=bert["type_vocab_size"],
    )
    return MplugSize(
        side=config.get("image_res", 504),
        patch=config.get("clip_vision_patch_size", 14),
        width=width,
        layers=config.get("clip_vision_layers", 24),
        heads=width // 64,
        text=text,
        asked=bert["text_encoder_layers"],
        fused=bert["fusion_layers"],
        stacked=bert["num_hidden_layers"],
        written=bert["text_decode_layers"],
        stride=bert.get("stride_layer", 100),
        beams=config.get("beam_size", 5),
        least=config.get("min_length", 1),
        most=config.get("max_length", 10),
    )


class _QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _ClipBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=_QuickGelu(),
                c_proj=nn.Linear(4 * width, width),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class ClipVision(nn.Module):
    """(B, 3, side, side) -> (B, 1 + (side/patch)^2, width), after the last LayerNorm and without the projection."""

    def __init__(self, size: MplugSize) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, size.width, size.patch, size.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(size.width))
        self.positional_embedding = nn.Parameter(torch.zeros(1 + (size.side // size.patch) ** 2, size.width))
        self.ln_pre = nn.LayerNorm(size.width)
        blocks = nn.Sequential(*(_ClipBlock(size.width, size.heads) for _ in range(size.layers)))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.ln_post = nn.LayerNorm(size.width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(patches), 1, -1), patches], dim=1)
        return self.ln_post(self.transformer["resblocks"](self.ln_pre(x + self.positional_embedding)))


class Fusion(nn.Module):
    """Words look at the picture; in every `stride`-th layer but the first, words and picture attend to one another."""

    def __init__(self, size: MplugSize) -> None:
        super().__init__()
        self.stride = size.stride
        text = replace(size.text, memory=size.text.width)
        used = range(size.stacked - size.fused, size.stacked)
        layers = nn.ModuleDict({str(n): Layer(text) for n in used})
        self.encoder = nn.ModuleDict({"layer": layers})

    def forward(self, words: Tensor, picture: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """words (Q, L, D), picture (1, S, D), real (Q, L) -> picture (1 or Q, S, D) and words (Q, L, D)."""
        places = picture.shape[1]
        for number, layer in enumerate(self.encoder["layer"].values()):
            if number == 0 or number % self.stride:
                words = layer(words, seen(real), layer.crossattention.look(picture), None)
                continue
            picture = picture.expand(len(words), -1, -1)
            both = torch.cat([picture, words], dim=1)
            may = torch.cat([real.new_ones(len(words), places), real], dim=1)
            both = layer.feed(layer.attention(both, layer.attention.look(both), seen(may)))
            picture, words = picture + both[:, :places], both[:, places:]
        return picture, words


class Mplug(nn.Module):
    def __init__(self, size: MplugSize) -> None:
        super().__init__()
        self.size = size
        text = size.text
        self.visual_encoder = nn.ModuleDict({"visual": ClipVision(size)})
        if size.width != text.width:
            self.visn_fc = nn.Linear(size.width, text.width)
            self.visn_layer_norm = nn.LayerNorm(text.width, eps=1e-12)
        self.text_encoder = BertText(replace(text, layers=size.asked))
        self.fusion_encoder = Fusion(size)
        self.text_decoder = BertWriter(replace(text, layers=size.written, memory=text.width))

    def look(self, pixels: Tensor) -> Tensor:
        """(B, 3, side, side) -> (B, S, D)."""
        x = self.visual_encoder["visual"](pixels)
        return x if self.size.width == self.size.text.width else self.visn_layer_norm(self.visn_fc(x))

    def understand(self, picture: Tensor, words: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """picture (1, S, D) of `look`, questions (Q, L): what the answer is written from (Q, S + L, D), and what of it is
        real (Q, S + L)."""
        picture, asked = self.fusion_encoder(self.text_encoder(words, real), picture, real)
        states = torch.cat([picture.expand(len(words), -1, -1), asked], dim=1)
        return states, torch.cat([real.new_ones(len(words), picture.shape[1]), real], dim=1)

    def answers(self, picture: Tensor, words: Tensor, real: Tensor) -> list[list[int]]:
        """The answer to each question, from [CLS] on. As `understand`."""
        states, recallable = self.understand(picture, words, real)
        memory = self.text_decoder.recall(states)

        def logits(texts: Tensor, rows: Tensor) -> Tensor:
            return self.text_decoder(texts, [(keys[rows], values[rows]) for keys, values in memory], recallable[rows])

        size = self.size
        device = str(words.device)
        return by_length_penalty(logits, len(words), START, END, size.beams, size.least, size.most, device)


def load_mplug(folder: Path, device: str = "cpu") -> Mplug:
    """Of a folder with `config.yaml`, `config_bert.json` and `pytorch_model.bin`. Raises GokuError where it is none."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        bert = json.loads((folder / config.get("bert_config", "config_bert.json")).read_text(encoding="utf-8"))
        size = size_of(config, bert)
    except (OSError, ValueError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise GokuError(f"{folder}: its configuration cannot be used: {error!r}. See docs/weights.md") from error
    file = next((folder / name for name in TENSORS if (folder / name).is_file()), folder / TENSORS[-1])
    tensors = {name.replace("model.", ""): value for name, value in read_tensors(file, ("model", "module")).items()}
    unused = "|".join(str(n) for n in range(size.stacked - size.fused))
    spare = (*SPARE, rf"^fusion_encoder\.encoder\.layer\.({unused})\.") if unused else SPARE
    return adopt(Mplug(size), without(tensors, spare), file, SOURCE).to(device)
