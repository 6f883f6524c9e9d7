"""The Inception of FID: TensorFlow's graph of 2015-12-05 (1008 classes), with the weights torch-fidelity converted.

It is not torchvision's Inception v3: average pools do not count their padding, the last block pools by maximum, pictures
are resized as TensorFlow 1 does (corners not aligned, no half-pixel shift) and scaled by (x - 128) / 128. Names of
attributes are those of the file, so it loads with strict=True. Source of names, shapes and order: toshas/torch-fidelity
(Apache-2.0) feature_extractor_inceptionv3.py at 5e211a9.
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
    name="inception-2015-12-05",
    place="weights-inception-2015-12-05-6726825d.pth",
    get="curl -L -o weights/weights-inception-2015-12-05-6726825d.pth https://github.com/toshas/torch-fidelity/"
    "releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    licence="Apache-2.0",
)
SIDE = 299
CLASSES = 1008
SPATIAL = 7
"""Channels of mixed_6/conv that sFID keeps: 7 x 17 x 17 = 2023 values, about as many as pool_3 has."""
BATCH = 32


class Convolution(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int | tuple[int, int], stride: int = 1, padding: bool = False):
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        edge = (height // 2, width // 2) if padding else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, edge, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


def _chain(x: torch.Tensor, *layers: nn.Module) -> torch.Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _average(x: torch.Tensor) -> torch.Tensor:
    """3 x 3 mean of what is inside the picture: TensorFlow does not count the padding."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35 x 35: 1 x 1, 5 x 5, twice 3 x 3, pool."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64, 1)
        self.branch5x5_1 = Convolution(inputs, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=True)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=True)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=True)
        self.branch_pool = Convolution(inputs, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        five = _chain(x, self.branch5x5_1, self.branch5x5_2)
        three = _chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_average(x))], dim=1)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=True)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = _chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3)
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockC(nn.Module):
    """17 x 17: 7 x 7 in rows and columns. `spatial`: the branch that TensorFlow calls mixed_N/conv."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Convolution(inputs, 192, 1)
        self.branch7x7_1 = Convolution(inputs, width, 1)
        self.branch7x7_2 = Convolution(width, width, row, padding=True)
        self.branch7x7_3 = Convolution(width, 192, column, padding=True)
        self.branch7x7dbl_1 = Convolution(inputs, width, 1)
        self.branch7x7dbl_2 = Convolution(width, width, column, padding=True)
        self.branch7x7dbl_3 = Convolution(width, width, row, padding=True)
        self.branch7x7dbl_4 = Convolution(width, width, column, padding=True)
        self.branch7x7dbl_5 = Convolution(width, 192, row, padding=True)
        self.branch_pool = Convolution(inputs, 192, 1)

    def spatial(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch1x1(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seven = _chain(x, self.branch7x7_1, self.branch7x7_2, self.branch7x7_3)
        twice = _chain(
            x, self.branch7x7dbl_1, self.branch7x7dbl_2, self.branch7x7dbl_3, self.branch7x7dbl_4, self.branch7x7dbl_5
        )
        return torch.cat([self.branch1x1(x), seven, twice, self.branch_pool(_average(x))], dim=1)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(inputs, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(inputs, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=True)
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=True)
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = _chain(x, self.branch3x3_1, self.branch3x3_2)
        seven = _chain(x, self.branch7x7x3_1, self.branch7x7x3_2, self.branch7x7x3_3, self.branch7x7x3_4)
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], dim=1)


class BlockE(nn.Module):
    """8 x 8. by_maximum: the last block of TensorFlow's graph pools so, the one before it by mean."""

    def __init__(self, inputs: int, by_maximum: bool) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 320, 1)
        self.branch3x3_1 = Convolution(inputs, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), padding=True)
        self.branch3x3_2b = Convolution(384, 384, (3, 1), padding=True)
        self.branch3x3dbl_1 = Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=True)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), padding=True)
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), padding=True)
        self.branch_pool = Convolution(inputs, 192, 1)
        self._by_maximum = by_maximum

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_1(x)
        twice = _chain(x, self.branch3x3dbl_1, self.branch3x3dbl_2)
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self._by_maximum else _average(x)
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(twice),
            self.branch3x3dbl_3b(twice),
            self.branch_pool(pooled),
        ]
        return torch.cat(parts, dim=1)


class Inception(nn.Module):
    """Pictures to the three features of ADM's suite."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=True)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, by_maximum=False)
        self.Mixed_7c = BlockE(2048, by_maximum=True)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """uint8 (n, 3, h, w) of any size -> "pool" (n, 2048), "spatial" (n, 2023), float32.

        "spatial" is flattened height, width, channel, as TensorFlow lays it out; channels first gives a sFID near 300.
        """
        x = (resize(pictures.float(), SIDE) - 128) / 128
        x = F.max_pool2d(_chain(x, self.Conv2d_1a_3x3, self.Conv2d_2a_3x3, self.Conv2d_2b_3x3), 3, stride=2)
        x = F.max_pool2d(_chain(x, self.Conv2d_3b_1x1, self.Conv2d_4a_3x3), 3, stride=2)
        x = _chain(x, self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b, self.Mixed_6c)
        spatial = self.Mixed_6d.spatial(x)[:, :SPATIAL].permute(0, 2, 3, 1).flatten(1)
        x = _chain(x, self.Mixed_6d, self.Mixed_6e, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c)
        return {"pool": x.mean(dim=(2, 3)), "spatial": spatial}


def resize(pictures: torch.Tensor, side: int) -> torch.Tensor:
    """float32 (n, c, h, w) -> (n, c, side, side): TensorFlow 1's bilinear resize, where output i looks at i * h / side."""
    pictures = _along(pictures, side, dim=3)
    return _along(pictures, side, dim=2)


def _along(pictures: torch.Tensor, side: int, dim: int) -> torch.Tensor:
    length = pictures.shape[dim]
    place = torch.arange(side, dtype=torch.float32, device=pictures.device) * (length / side)
    low = place.long().clamp_max(length - 1)
    high = (low + 1).clamp_max(length - 1)
    shape = [1, 1, 1, 1]
    shape[dim] = side
    share = (place - low).view(shape)
    first, second = pictures.index_select(dim, low), pictures.index_select(dim, high)
    return first + (second - first) * share


def load(weights: Path, device: str = "cpu") -> Inception:
    """The network with the official weights. weights: the folder of weights. Raises GokuError where they are not there."""
    path = obtain(SOURCE, weights)
    return adopt(Inception(), read_tensors(path), path, SOURCE).to(device)


def fingerprint(weights: Path) -> str:
    """Names what the features depend on, but for the rounding of the machine."""
    return f"inception-{digest(obtain(SOURCE, weights))[:16]}-tf1-bilinear-{SIDE}-float32"


def classifier(weights: Path) -> torch.Tensor:
    """(1008, 2048): the weight of the last layer. Its bias is not part of any Inception Score."""
    return read_tensors(obtain(SOURCE, weights))["fc.weight"]
