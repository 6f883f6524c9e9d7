"""DINO's vision transformer (arXiv 2104.14294): features of pictures of any shape. VBench's subject consistency looks through it.

Our own code, torch only. Its tensors carry the names of `dino_vitbase16_pretrain.pth` (facebookresearch/dino, Apache-2.0);
a folder of transformers (facebook/dino-vitb16, the same weights) is renamed when read. transformers' own ViT is not used
because it stretches the position embedding otherwise than the original, and VBench's pictures are never square.

Shapes: B pictures, H W pixels, h w = H/16, W/16 patches (cut to whole ones), D channels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source
from goku_core.scorers.tensors import read_tensors
from goku_core.scorers.weights import folder_command

SOURCE = Source(
    "dino-vitb16",
    "dino_vitbase16_pretrain.pth",
    "curl -L -o weights/dino_vitbase16_pretrain.pth "
    "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    "Apache-2.0",
)
FOLDER = Source("dino-vitb16", "dino-vitb16", folder_command("facebook/dino-vitb16", "dino-vitb16"), "Apache-2.0")
"""The same weights as transformers keeps them."""

HEAD = 64  # channels


@dataclass(frozen=True)
class Size:
    """Of ViT-B/16. grid: patches along a side of the training pictures (224 px); the position embedding has one entry for each."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 16
    grid: int = 14


class _Attention(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.proj = nn.Linear(size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        pictures, tokens, width = x.shape
        query, key, value = self.qkv(x).view(pictures, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(pictures, tokens, width))


class _Mlp(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size.width, 4 * size.width)
        self.fc2 = nn.Linear(4 * size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size.width, eps=1e-6)
        self.attn = _Attention(size)
        self.norm2 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = _Mlp(size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Patches(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, size.width, size.patch, size.patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Dino(nn.Module):
    """float (B, 3, H, W), normalised by ImageNet's mean and deviation, sides at least 16: the class token, (B, D)."""

    def __init__(self, size: Size = Size()) -> None:
        super().__init__()
        self.size = size
        self.patch_embed = _Patches(size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, size.grid**2 + 1, size.width))
        self.blocks = nn.ModuleList(_Block(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=1e-6)

    def forward(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        x = self.patch_embed(pictures)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.positions(height, width)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    def positions(self, height: int, width: int) -> Tensor:
        """The position embedding stretched to the patches of such a picture: (1, 1 + h*w, D).

        As the original does it: bicubic by the factors (h + 0.1)/14 and (w + 0.1)/14, which also say where each patch looks.
        The tenth was added against rounding and is therefore part of every published score.
        """
        grid, patch = self.size.grid, self.size.patch
        rows, columns = height // patch, width // patch
        if rows * columns == grid**2 and height == width:
            return self.pos_embed
        square = self.pos_embed[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        factors = ((rows + 0.1) / grid, (columns + 0.1) / grid)
        stretched = F.interpolate(square, scale_factor=factors, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], stretched.flatten(2).transpose(1, 2)], dim=1)


_NAMES = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.", r"blocks.\1.attn.\2."),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"layernorm\.", "norm."),
)


def from_transformers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a ViT folder of transformers under the original's names. What else is in it (a pooler) is left out."""
    named: dict[str, Tensor] = {}
    for name, values in tensors.items():
        for pattern, replacement in _NAMES:
            renamed, matches = re.subn(rf"^(?:vit\.)?{pattern}", replacement, name)
            if matches:
                named[renamed] = values
                break
    for start in sorted({name.removesuffix("query.weight") for name in named if name.endswith("query.weight")}):
        for kind in ("weight", "bias"):
            parts = [named.pop(f"{start}{part}.{kind}") for part in ("query", "key", "value")]
            named[f"{start}qkv.{kind}"] = torch.cat(parts)
    return named


def size_of(tensors: Mapping[str, Tensor]) -> Size:
    """The size that tensors of `Dino` say; heads are 64 wide in every published one. KeyError where they are another's."""
    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    depth = sum(name.endswith("attn.qkv.weight") for name in tensors)
    return Size(width, depth, width // HEAD, patch, math.isqrt(tensors["pos_embed"].shape[1] - 1))


def load_dino(path: Path, device: str = "cpu") -> Dino:
    """The network of the official file, or of a folder of transformers. Raises GokuError where the tensors do not fit."""
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise GokuError(f"{path} holds no *.safetensors; pickled weights of a folder are not read. {SOURCE.get}")
        tensors = from_transformers({name: values for file in files for name, values in read_tensors(file).items()})
    else:
        tensors = read_tensors(path)
    try:
        network = Dino(size_of(tensors))
        network.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise GokuError(f"{path} does not hold a vision transformer of DINO ({reason}). See docs/weights.md") from error
    return network.eval().requires_grad_(False).to(device)
