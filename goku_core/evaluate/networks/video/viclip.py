"""ViCLIP (arXiv 2307.06942): CLIP with a vision tower that attends over all patches of all frames at once.

Facts from VBench's copy (vbench/third_party/ViCLIP, Apache-2.0): ViT-L/14 at 224 px with eight frames, a text tower like
CLIP's with 32 tokens. Tensors carry the names of `ViClip-InternVid-10M-FLT.pth` below its key "model", and all of them are
needed. Every frame gets the same place embedding, each patch also one for its frame; one class token stands for the clip.

Shapes: B clips, T frames, H W px, P patches of a frame, L tokens, W width, D of the shared space.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.scorers.sources import Source, obtain
from goku_core.scorers.tensors import adopt, read_tensors, twin

SOURCE = Source(
    name="viclip-l14",
    place="viclip/ViClip-InternVid-10M-FLT.pth",
    get="hf download OpenGVLab/VBench_Used_Models ViClip-InternVid-10M-FLT.pth --local-dir weights/viclip",
    licence="not stated beside the file: see OpenGVLab/InternVideo (code Apache-2.0)",
)


@dataclass(frozen=True)
class Size:
    """Sizes of both towers. space: numbers in an embedding."""

    side: int = 224
    patch: int = 14
    frames: int = 8
    width: int = 1024
    layers: int = 24
    heads: int = 16
    words: int = 49408
    tokens: int = 32
    text_width: int = 768
    text_layers: int = 12
    text_heads: int = 12
    space: int = 768


L14 = Size()


class _Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values, as torch's own module names it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width).normal_(std=width**-0.5))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        mixed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = mixed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(seen.transpose(1, 2).flatten(2))


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = _Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", _QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        for block in self.resblocks:
            x = block(x, causal)
        return x


class _VisionTower(nn.Module):
    """Clips (B, T, 3, H, W) to (B, D)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        places, scale = (size.side // size.patch) ** 2 + 1, size.width**-0.5
        patch = (1, size.patch, size.patch)
        self.conv1 = nn.Conv3d(3, size.width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(size.width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(places, size.width))
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, size.frames, size.width))
        self.ln_pre = nn.LayerNorm(size.width)
        self.transformer = _Transformer(size.width, size.layers, size.heads)
        self.ln_post = nn.LayerNorm(size.width)
        self.proj = nn.Parameter(scale * torch.randn(size.width, size.space))

    def forward(self, clips: Tensor) -> Tensor:
        batch, frames, _, height, width = clips.shape
        if frames not in (1, self.size.frames) or (height, width) != (self.size.side, self.size.side):
            raise ValueError(
                f"clips of {self.size.frames} frames (or a single one) of {self.size.side} px are wanted, "
                f"not {tuple(clips.shape)}"
            )
        patches = self.conv1(clips.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)  # (B, T, P, W)
        times = self.temporal_positional_embedding
        if frames == 1:
            times = times.mean(1, keepdim=True)  # a picture is at no time: so the authors' code has it
        patches = patches + self.positional_embedding[1:] + times[:, :, None]
        clip = (self.class_embedding + self.positional_embedding[0]).expand(batch, 1, -1)
        x = self.transformer(self.ln_pre(torch.cat([clip, patches.flatten(1, 2)], dim=1)))
        return self.ln_post(x[:, 0]) @ self.proj


class _TextTower(nn.Module):
    """Tokens (B, L) to (B, D): the place of the largest token, which is the end of the text, sees all before it."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(size.words, size.text_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(size.tokens, size.text_width))
        self.transformer = _Transformer(size.text_width, size.text_layers, size.text_heads)
        self.ln_final = nn.LayerNorm(size.text_width)
        self.text_projection = nn.Parameter(size.text_width**-0.5 * torch.randn(size.text_width, size.space))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.transformer(self.token_embedding(tokens) + self.positional_embedding, causal=True)
        ends = x[torch.arange(len(tokens)), tokens.argmax(dim=-1)]
        return self.ln_final(ends) @ self.text_projection


class ViClip(nn.Module):
    """Both towers. `temp` is the temperature of training; no score depends on it."""

    def __init__(self, size: Size = L14) -> None:
        super().__init__()
        self.size = size
        self.vision_encoder = _VisionTower(size)
        self.text_encoder = _TextTower(size)
        self.temp = nn.Parameter(torch.tensor(0.01))

    def clips(self, pixels: Tensor) -> Tensor:
        """Normalised frames (B, T, 3, H, W), T the trained number or 1, to rows of length 1 (B, D)."""
        return F.normalize(self.vision_encoder(pixels), dim=-1)

    def texts(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) to rows of length 1 (B, D)."""
        return F.normalize(self.text_encoder(tokens), dim=-1)


def load(weights: Path, device: str = "cpu", size: Size = L14) -> ViClip:
    """The published network from the folder of weights. Raises GokuError where it is missing or another one."""
    path = obtain(twin(SOURCE, weights), weights)
    return adopt(ViClip(size), read_tensors(path, ("model",)), path, SOURCE).to(device)
