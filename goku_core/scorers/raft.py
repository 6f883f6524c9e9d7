"""RAFT (arXiv 2003.12039): optical flow by repeated look-ups in the correlations of all pairs of places.

Our own code, torch only. Its tensors carry the names of torchvision's raft_large and raft_small, whose published
weights load into it as they are (torchvision itself cannot be imported beside a CPU build of torch, and is 8 MB of
which this is one file). The authors' own files are renamed when read (`raft_names`).

Shapes: B pairs, H W pixels, h w = H/8, W/8 cells, D channels of a feature, r radius, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.raft_names import is_authors, torchvisions
from goku_core.scorers.sources import Source
from goku_core.scorers.tensors import read_tensors

THINGS = Source(
    "raft-things (torchvision's C_T_V1)",
    "raft_large_C_T_V1-22a6c259.pth",
    "curl -L -o weights/raft_large_C_T_V1-22a6c259.pth "
    "https://download.pytorch.org/models/raft_large_C_T_V1-22a6c259.pth",
    "BSD-3-Clause",
)
"""The authors' raft-things as torchvision ported it."""
AUTHORS_THINGS = Source(
    "raft-things",
    "raft-things.pth",
    "hf download ddrfan/RAFT raft-things.pth --local-dir weights",
    "BSD-3-Clause",
    "fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
)
"""The authors' file, from a mirror: they publish it within an archive (models.zip)."""

CELL = 8  # px per cell: three halvings
LEVELS = 4
LEAST_SIDE = CELL * 2**LEVELS  # px: below, the coarsest level has a single cell, where positions mean nothing


@dataclass(frozen=True)
class Size:
    """One of the two published sizes.

    encoder  channels after the stem, after each of three stages, and of the features
    context  of the context network's output beyond the state
    state    channels of the recurrent state
    """

    encoder: tuple[int, int, int, int, int]
    narrow: bool
    context_norm: type[nn.Module] | None
    state: int
    context: int
    radius: int
    correlation: tuple[int, ...]
    flow: tuple[int, int]
    motion: int
    kernels: tuple[tuple[int, int], ...]
    head: int
    learned_upsampling: bool


LARGE = Size(
    encoder=(64, 64, 96, 128, 256),
    narrow=False,
    context_norm=nn.BatchNorm2d,
    state=128,
    context=128,
    radius=4,
    correlation=(256, 192),
    flow=(128, 64),
    motion=128,
    kernels=((1, 5), (5, 1)),
    head=256,
    learned_upsampling=True,
)
SMALL = Size(
    encoder=(32, 32, 64, 96, 128),
    narrow=True,
    context_norm=None,
    state=96,
    context=64,
    radius=3,
    correlation=(96,),
    flow=(64, 32),
    motion=82,
    kernels=((3, 3),),
    head=128,
    learned_upsampling=False,
)


def _layer(
    given: int, made: int, kernel: int, stride: int = 1, norm: type[nn.Module] | None = None, relu: bool = True
) -> nn.Sequential:
    """Convolution, norm where there is one, ReLU: the places in the sequence are part of the tensors' names."""
    parts: list[nn.Module] = [nn.Conv2d(given, made, kernel, stride, padding=kernel // 2)]
    if norm is not None:
        parts.append(norm(made))
    if relu:
        parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts)


class _Block(nn.Module):
    """Residual block: two 3x3 layers, or, narrow, 1x1, 3x3, 1x1 with a quarter of the channels between."""

    def __init__(self, given: int, made: int, stride: int, norm: type[nn.Module] | None, narrow: bool) -> None:
        super().__init__()
        inner = made // 4
        steps = [(given, inner, 1, 1), (inner, inner, 3, stride), (inner, made, 1, 1)]
        if not narrow:
            steps = [(given, made, 3, stride), (made, made, 3, 1)]
        self.count = len(steps)
        for number, (before, after, kernel, step) in enumerate(steps, start=1):
            self.add_module(f"convnormrelu{number}", _layer(before, after, kernel, step, norm))
        self.downsample = nn.Identity() if stride == 1 else _layer(given, made, 1, stride, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for number in range(1, self.count + 1):
            y = self.get_submodule(f"convnormrelu{number}")(y)
        return F.relu(self.downsample(x) + y)


class _Encoder(nn.Module):
    """(B, 3, H, W) to (B, D, h, w)."""

    def __init__(self, size: Size, made: int, norm: type[nn.Module] | None) -> None:
        super().__init__()
        stem, *stages, _ = size.encoder
        self.convnormrelu = _layer(3, stem, 7, 2, norm)
        before = stem
        for number, (after, stride) in enumerate(zip(stages, (1, 2, 2), strict=True), start=1):
            blocks = (_Block(before, after, stride, norm, size.narrow), _Block(after, after, 1, norm, size.narrow))
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            before = after
        self.conv = nn.Conv2d(before, made, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.layer3(self.layer2(self.layer1(self.convnormrelu(x)))))


class _MotionEncoder(nn.Module):
    """What is known of the motion: correlations and flow to (B, motion, h, w), the flow itself as its last two channels."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        given = LEVELS * (2 * size.radius + 1) ** 2
        self.convcorr1 = _layer(given, size.correlation[0], 1)
        self.convcorr2 = _layer(*size.correlation, 3) if len(size.correlation) == 2 else nn.Identity()
        self.convflow1 = _layer(2, size.flow[0], 7)
        self.convflow2 = _layer(*size.flow, 3)
        self.conv = _layer(size.correlation[-1] + size.flow[-1], size.motion - 2, 3)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        seen = torch.cat([self.convcorr2(self.convcorr1(correlation)), self.convflow2(self.convflow1(flow))], dim=1)
        return torch.cat([self.conv(seen), flow], dim=1)


class _Gru(nn.Module):
    """Convolutional gated recurrent unit."""

    def __init__(self, given: int, state: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        for gate in ("convz", "convr", "convq"):
            self.add_module(gate, nn.Conv2d(state + given, state, kernel, padding=padding))

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([state, x], dim=1)
        update, reset = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        fresh = torch.tanh(self.convq(torch.cat([reset * state, x], dim=1)))
        return (1 - update) * state + update * fresh


class _Recurrence(nn.Module):
    """One unit, or one along rows and one along columns."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.count = len(size.kernels)
        for number, kernel in enumerate(size.kernels, start=1):
            self.add_module(f"convgru{number}", _Gru(size.motion + size.context, size.state, kernel))

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        for number in range(1, self.count + 1):
            state = self.get_submodule(f"convgru{number}")(state, x)
        return state


class _FlowHead(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(size.state, size.head, 3, padding=1)
        self.conv2 = nn.Conv2d(size.head, 2, 3, padding=1)

    def forward(self, state: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(state)))


class _Update(nn.Module):
    """One refinement: a new state, and what it adds to the flow."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.motion_encoder = _MotionEncoder(size)
        self.recurrent_block = _Recurrence(size)
        self.flow_head = _FlowHead(size)

    def forward(self, state: Tensor, context: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        state = self.recurrent_block(state, torch.cat([context, self.motion_encoder(flow, correlation)], dim=1))
        return state, self.flow_head(state)


class _Shares(nn.Module):
    """For each pixel, how much of the nine cells around it makes its flow: (B, 576, h, w) before the softmax."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.convrelu = _layer(size.state, 2 * size.state, 3)
        self.conv = nn.Conv2d(2 * size.state, CELL * CELL * 9, 1)

    def forward(self, state: Tensor) -> Tensor:
        return 0.25 * self.conv(self.convrelu(state))  # the factor with which the published weights were trained


class Correlations:
    """Inner products of every place of the first picture with every place of the second, at `LEVELS` coarsenesses."""

    def __init__(self, first: Tensor, second: Tensor, radius: int) -> None:
        """first, second: (B, D, h, w)."""
        pairs, channels, rows, columns = first.shape
        volume = first.flatten(2).transpose(1, 2) @ second.flatten(2) / channels**0.5
        volume = volume.reshape(pairs * rows * columns, 1, rows, columns)
        self._levels = [volume]
        for _ in range(LEVELS - 1):
            volume = F.avg_pool2d(volume, 2)
            self._levels.append(volume)
        steps = torch.arange(-radius, radius + 1, device=first.device, dtype=first.dtype)
        # The step to the right is the outer index, the one downwards the inner: so the published weights expect it.
        self._offsets = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)

    def around(self, places: Tensor) -> Tensor:
        """Correlations near ``places`` (B, 2, h, w; x, y in cells of the second picture): (B, L*(2r+1)^2, h, w)."""
        pairs, _, rows, columns = places.shape
        centres = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        found = []
        for level, volume in enumerate(self._levels):
            extent = places.new_tensor([volume.shape[-1] - 1, volume.shape[-2] - 1])
            where = 2 * (centres / 2**level + self._offsets) / extent - 1
            found.append(F.grid_sample(volume, where, align_corners=True).view(pairs, rows, columns, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2).contiguous()


class Raft(nn.Module):
    """first, second: float (B, 3, H, W) in -1..1, sides multiples of 8 and at least 128. Flow in px: (B, 2, H, W), x and y."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.feature_encoder = _Encoder(size, size.encoder[-1], nn.InstanceNorm2d)
        self.context_encoder = _Encoder(size, size.state + size.context, size.context_norm)
        self.update_block = _Update(size)
        self.mask_predictor = _Shares(size) if size.learned_upsampling else None

    def forward(self, first: Tensor, second: Tensor, updates: int = 20) -> Tensor:
        height, width = first.shape[-2:]
        if first.shape != second.shape or height % CELL or width % CELL or min(height, width) < LEAST_SIDE:
            raise ValueError(
                f"need two equal batches with sides that are multiples of {CELL} and at least {LEAST_SIDE} px; "
                f"got {tuple(first.shape)} and {tuple(second.shape)}"
            )
        features = self.feature_encoder(torch.cat([first, second]))
        correlations = Correlations(*features.chunk(2), self.size.radius)
        state, context = self.context_encoder(first).split([self.size.state, self.size.context], dim=1)
        state, context = torch.tanh(state), F.relu(context)
        origin = _places(len(first), height // CELL, width // CELL, first)
        flow = torch.zeros_like(origin)
        for _ in range(updates):
            state, change = self.update_block(state, context, correlations.around(origin + flow), flow)
            flow = flow + change
        return self._upsampled(flow, state)

    def _upsampled(self, flow: Tensor, state: Tensor) -> Tensor:
        """(B, 2, h, w) in cells to (B, 2, H, W) in px."""
        pairs, _, rows, columns = flow.shape
        if self.mask_predictor is None:
            size = (rows * CELL, columns * CELL)
            return CELL * F.interpolate(flow, size=size, mode="bilinear", align_corners=True)
        shares = self.mask_predictor(state).view(pairs, 1, 9, CELL, CELL, rows, columns).softmax(dim=2)
        near = F.unfold(CELL * flow, 3, padding=1).view(pairs, 2, 9, 1, 1, rows, columns)
        fine = (shares * near).sum(dim=2)
        return fine.permute(0, 1, 4, 2, 5, 3).reshape(pairs, 2, rows * CELL, columns * CELL)


def _places(pairs: int, rows: int, columns: int, like: Tensor) -> Tensor:
    """x and y of every cell: (B, 2, h, w)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([x, y]).to(like).expand(pairs, -1, -1, -1)


def load_raft(file: Path, device: str = "cpu") -> Raft:
    """The network of a published file, torchvision's or the authors', large or small as its tensors say.

    Raises GokuError where they fit neither.
    """
    tensors = read_tensors(file)
    if is_authors(list(tensors)):
        tensors = torchvisions(tensors)
    size = LARGE if any(name.startswith("mask_predictor.") for name in tensors) else SMALL
    network = Raft(size)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise GokuError(
            f"{file} does not hold raft_large or raft_small of torchvision, nor the authors' raft-things.pth or its kin "
            f"({str(error).splitlines()[1].strip()[:200]}). See docs/weights.md"
        ) from error
    return network.eval().requires_grad_(False).to(device)
