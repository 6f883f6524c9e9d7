"""I3D (Carreira and Zisserman, arXiv 1705.07750) on Kinetics-400: the network of the Frechet Video Distance.

The weights are those of DeepMind's TensorFlow module, as VideoGPT converted them to PyTorch (`i3d_pretrained_400.pt`; names of
piergiaj/pytorch-i3d). The other file in circulation, `i3d_torchscript.pt` of StyleGAN-V, holds the same network as
TorchScript, which is a program: it is not opened here. TensorFlow's "same" padding puts the odd pixel behind.
Source of names and shapes: wilson1yan/VideoGPT videogpt/fvd/pytorch_i3d.py at c6655e8 (MIT).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from goku_core.scorers.sources import Source, obtain
from goku_core.scorers.tensors import adopt, read_tensors
from goku_core.scorers.weights import digest

SOURCE = Source(
    name="i3d-kinetics-400",
    place="i3d_pretrained_400.pt",
    get="curl -L -o weights/i3d_pretrained_400.pt "
    '"https://drive.google.com/uc?export=download&id=1mQK8KD8G6UWRa5t87SRMm5PVXtlpneJT"',
    licence="not stated for the file; the network it was converted from is Apache-2.0 (deepmind/kinetics-i3d)",
)
SIDE = 224
CLASSES = 400
STRIDE = 8
"""Frames per step of the last feature map; clips of fewer than 9 frames leave nothing for its pool of two steps."""

Triple = tuple[int, int, int]


def _same(x: torch.Tensor, size: Triple, stride: Triple, value: float = 0.0) -> torch.Tensor:
    """Padded so that the output has ceil(length / stride) places; the odd place goes behind."""
    edges: list[int] = []
    for length, kernel, step in zip(x.shape[:1:-1], reversed(size), reversed(stride), strict=True):
        missing = max((-(-length // step) - 1) * step + kernel - length, 0)
        edges += [missing // 2, missing - missing // 2]
    return F.pad(x, edges, value=value)


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU; the last one of the network is a convolution with bias alone."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, last: bool = False) -> None:
        super().__init__()
        self._size, self._stride = (size,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, self._size, self._stride, bias=last)
        if not last:
            self.bn = nn.BatchNorm3d(outputs, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv3d(_same(x, self._size, self._stride))
        return F.relu(self.bn(x)) if hasattr(self, "bn") else x


def _pool(x: torch.Tensor, size: Triple, stride: Triple) -> torch.Tensor:
    # After a ReLU nothing is below the zeros of the padding.
    return F.max_pool3d(_same(x, size, stride), size, stride)


class Mixed(nn.Module):
    """widths: 1 x 1; reduction and 3 x 3; reduction and 3 x 3; behind the pool."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit(inputs, widths[0], 1)
        self.b1a = Unit(inputs, widths[1], 1)
        self.b1b = Unit(widths[1], widths[2], 3)
        self.b2a = Unit(inputs, widths[3], 1)
        self.b2b = Unit(widths[3], widths[4], 3)
        self.b3b = Unit(inputs, widths[5], 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.b3b(_pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], dim=1)


class I3D(nn.Module):
    """Clips to the 400 logits on which FVD is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        self.Mixed_3b = Mixed(192, (64, 96, 128, 16, 32, 32))
        self.Mixed_3c = Mixed(256, (128, 128, 192, 32, 96, 64))
        self.Mixed_4b = Mixed(480, (192, 96, 208, 16, 48, 64))
        self.Mixed_4c = Mixed(512, (160, 112, 224, 24, 64, 64))
        self.Mixed_4d = Mixed(512, (128, 128, 256, 24, 64, 64))
        self.Mixed_4e = Mixed(512, (112, 144, 288, 32, 64, 64))
        self.Mixed_4f = Mixed(528, (256, 160, 320, 32, 128, 128))
        self.Mixed_5b = Mixed(832, (256, 160, 320, 32, 128, 128))
        self.Mixed_5c = Mixed(832, (384, 192, 384, 48, 128, 128))
        self.logits = Unit(1024, CLASSES, 1, last=True)

    def forward(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        """float32 (n, 3, t, 224, 224) in -1..1, t at least 9 -> "logits" (n, 400)."""
        x = _pool(self.Conv3d_1a_7x7(clips), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Mixed_3c(self.Mixed_3b(x)), (3, 3, 3), (2, 2, 2))
        for block in (self.Mixed_4b, self.Mixed_4c, self.Mixed_4d, self.Mixed_4e, self.Mixed_4f):
            x = block(x)
        x = self.Mixed_5c(self.Mixed_5b(_pool(x, (2, 2, 2), (2, 2, 2))))
        return {"logits": self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1)).mean(dim=(2, 3, 4))}


def load(weights: Path, device: str = "cpu") -> I3D:
    """The network with the published weights. weights: the folder of weights. Raises GokuError where they are not there."""
    path = obtain(SOURCE, weights)
    return adopt(I3D(), read_tensors(path), path, SOURCE).to(device)


def fingerprint(weights: Path) -> str:
    return f"i3d-{digest(obtain(SOURCE, weights))[:16]}-float32"
