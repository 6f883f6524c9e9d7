"""MUSIQ (arXiv 2108.05997): how good a picture looks technically, judged at three sizes without cutting it to a square.

Our own code, written from the paper and Google's release (google-research/musiq, Apache-2.0). Tensors carry the names of
the converted file that VBench uses (pyiqa's `musiq_spaq_ckpt-358bb6af.pth`); Google's own `spaq_ckpt.npz` holds the same
weights and is renamed when read (`musiq_google`). Three things are as in the converted model and not as in Google's, since
VBench's numbers come from the former: GELU is exact, kernels are standardised by the unbiased deviation (the group norm
behind them takes most of it out again), and pictures are shrunk by plain bicubic interpolation instead of a Gaussian.

Patches of 32 px are taken from the picture at long sides of 224 and 384 px and at its own size. Each becomes one token, with
an embedding of its size (3) and one of its place on a 10 x 10 grid laid over the picture. The originals fill the tokens of
the two smaller sizes up to 49 and 144 and mask the filling; a masked token has weight exp(-1000) = 0, so here there is none.

Shapes: B pictures of one size H x W, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source
from goku_core.scorers.tensors import read_tensors

SOURCE = Source(
    "musiq-spaq",
    "musiq_spaq_ckpt-358bb6af.pth",
    "curl -L -o weights/musiq_spaq_ckpt-358bb6af.pth "
    "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
    "non-commercial (PolyForm Noncommercial 1.0.0 and S-Lab 1.0, those of IQA-PyTorch)",
)
GOOGLE = Source(
    "musiq-spaq (Google)",
    "spaq_ckpt.npz",
    "curl -L -o weights/spaq_ckpt.npz https://storage.googleapis.com/gresearch/musiq/spaq_ckpt.npz",
    "Apache-2.0 (the code's, published beside it)",
)
"""The same weights from their authors, without the non-commercial terms of the converted file."""

PATCH = 32  # px
GRID = 10  # places along a side
LONG_SIDES = (224, 384)  # px; the picture's own size comes third
STEM = 64  # channels
HEAD = 64  # channels
TOKEN_SIDE = PATCH // 4  # the stem halves twice


@dataclass(frozen=True)
class Size:
    width: int = 384
    inner: int = 1152
    heads: int = 6
    depth: int = 14


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zeros around (B, C, H, W) so that a kernel gives ceil(H/stride) rows; an odd one goes below and to the right."""
    fill: list[int] = []
    for extent in (x.shape[-1], x.shape[-2]):
        total = (-(-extent // stride) - 1) * stride + kernel - extent
        fill += [total // 2, total - total // 2]
    return F.pad(x, fill)


class _Conv(nn.Conv2d):
    """Convolution with standardised kernels (arXiv 1903.10520), "same" zeros, no bias."""

    def __init__(self, given: int, made: int, kernel: int, stride: int = 1) -> None:
        super().__init__(given, made, kernel, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(same(x, self.kernel_size[0], self.stride[0]), weight, stride=self.stride)


class _Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 beside a projection, four times as many channels."""

    def __init__(self, given: int) -> None:
        super().__init__()
        self.conv1, self.gn1 = _Conv(given, given, 1), nn.GroupNorm(32, given, eps=1e-4)
        self.conv2, self.gn2 = _Conv(given, given, 3), nn.GroupNorm(32, given, eps=1e-4)
        self.conv3, self.gn3 = _Conv(given, 4 * given, 1), nn.GroupNorm(32, 4 * given, eps=1e-4)
        self.conv_proj, self.gn_proj = _Conv(given, 4 * given, 1), nn.GroupNorm(32, 4 * given, eps=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.gn1(self.conv1(x)))
        y = F.relu(self.gn2(self.conv2(y)))
        return F.relu(self.gn3(self.conv3(y)) + self.gn_proj(self.conv_proj(x)))


class _Attention(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.query, self.key, self.value, self.out = (nn.Linear(size.width, size.width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        pictures, tokens, width = x.shape
        parts = (
            layer(x).view(pictures, tokens, self.heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return self.out(F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(pictures, tokens, width))


class _Mlp(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size.width, size.inner), nn.Linear(size.inner, size.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(size.width, eps=1e-6) for _ in range(2))
        self.attention, self.mlp = _Attention(size), _Mlp(size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Places(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.position_emb = nn.Parameter(torch.zeros(1, GRID**2, size.width))


class _Scales(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.scale_emb = nn.Parameter(torch.zeros(len(LONG_SIDES) + 1, size.width))


class _Encoder(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.posembed_input, self.scaleembed_input = _Places(size), _Scales(size)
        self.cls = nn.Parameter(torch.zeros(1, 1, size.width))
        self.transformer = nn.ModuleDict({f"encoderblock_{number}": _Block(size) for number in range(size.depth)})
        self.encoder_norm = nn.LayerNorm(size.width, eps=1e-6)

    def forward(self, x: Tensor, places: Tensor, scales: Tensor) -> Tensor:
        """x (B, N, D), places and scales (N,): the class token, (B, D)."""
        x = x + self.posembed_input.position_emb[0, places] + self.scaleembed_input.scale_emb[scales]
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        for block in self.transformer.values():
            x = block(x)
        return self.encoder_norm(x)[:, 0]


class Musiq(nn.Module):
    """float (B, 3, H, W) in 0..1, all of one size: opinion scores (B,), about 0..100 for the SPAQ weights."""

    def __init__(self, size: Size = Size()) -> None:
        super().__init__()
        self.conv_root, self.gn_root = _Conv(3, STEM, 7, 2), nn.GroupNorm(32, STEM, eps=1e-6)
        self.block1 = _Bottleneck(STEM)
        self.embedding = nn.Linear(4 * STEM * TOKEN_SIDE**2, size.width)
        self.transformer_encoder = _Encoder(size)
        self.head = nn.Linear(size.width, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        patches, places, scales = multiscale_patches(2.0 * pictures - 1.0)
        count, tokens = patches.shape[:2]
        x = F.relu(self.gn_root(self.conv_root(patches.flatten(0, 1))))
        x = self.block1(F.max_pool2d(same(x, 3, 2), 3, 2))
        x = x.permute(0, 2, 3, 1).reshape(count, tokens, -1)  # rows, columns, channels: the order of the embedding
        return self.head(self.transformer_encoder(self.embedding(x), places, scales))[:, 0]


def multiscale_patches(pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, H, W): patches (B, N, 3, 32, 32), their places 0..99 (N,) and sizes 0..2 (N,), row by row, smallest size first."""
    height, width = pictures.shape[-2:]
    patches, places, scales = [], [], []
    for scale, side in enumerate((*LONG_SIDES, None)):
        shown = pictures
        if side is not None:
            ratio = side / max(height, width)
            size = (round(height * ratio), round(width * ratio))
            shown = F.interpolate(pictures, size=size, mode="bicubic", align_corners=False)
        rows, columns = -(-shown.shape[-2] // PATCH), -(-shown.shape[-1] // PATCH)
        cut = F.unfold(same(shown, PATCH, PATCH), PATCH, stride=PATCH)
        patches.append(cut.transpose(1, 2).reshape(len(pictures), rows * columns, 3, PATCH, PATCH))
        places.append(hashed_places(rows, columns).to(pictures.device))
        scales.append(torch.full((rows * columns,), scale, device=pictures.device))
    return torch.cat(patches, dim=1), torch.cat(places), torch.cat(scales)


def hashed_places(rows: int, columns: int) -> Tensor:
    """Where on the 10 x 10 grid each of rows x columns patches lies: int64 (rows*columns,), row by row."""
    down, right = (torch.arange(count) * GRID // count for count in (rows, columns))
    return (down[:, None] * GRID + right).flatten()


def size_of(tensors: Mapping[str, Tensor]) -> Size:
    """The size that tensors of `Musiq` say; heads are 64 wide in the published one. KeyError where they are another's."""
    width = tensors["embedding.weight"].shape[0]
    inner = tensors["transformer_encoder.transformer.encoderblock_0.mlp.fc1.weight"].shape[0]
    return Size(width, inner, width // HEAD, sum(name.endswith("mlp.fc1.weight") for name in tensors))


def load_musiq(file: Path, device: str = "cpu") -> Musiq:
    """The network of the converted file (.pth, .safetensors) or of Google's (.npz). Raises GokuError where it does not fit."""
    if file.suffix == ".npz":
        from goku_core.evaluate.networks.musiq_google import read_google

        tensors = read_google(file)
    else:
        tensors = read_tensors(file)
    try:
        network = Musiq(size_of(tensors))
        network.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise GokuError(f"{file} does not hold MUSIQ with one score ({reason}). See docs/weights.md") from error
    return network.eval().requires_grad_(False).to(device)
