"""AMT-S (arXiv 2304.09790): the frame half-way between two, by flows refined with correlations of all pairs of places.

UNVERIFIED AGAINST OFFICIAL VALUES. The official code is CC BY-NC 4.0 and no line of it is here: this file is written from
the paper and its description of the method, from the two networks it builds on, RAFT (arXiv 2003.12039, BSD-3) and IFRNet
(arXiv 2205.14620, MIT), and from the names, shapes and constants of `amt-s.pth` (key "state_dict"). Names and shapes leave
open, and nobody has compared:
- the order of channels a decoder gives out: here both flows, then the content, as in IFRNet; in the last one all flows to
  the first frame, all to the second, all masks, all residuals;
- the order of correlations: here first-to-second, then second-to-first, each as RAFT orders a window, divided by the
  square root of the channels;
- what an update is given: here correlation features and flow features as in RAFT's small motion encoder, with this
  network's leaky ReLU; then flows and content, in the order in which the constructor adds up their channels;
- the way between scales: here bilinear, not averaged, flows divided and multiplied by the factor;
- the end: here the mean of the candidates is added to what the last two layers make of them;
- the mean colour of both frames: here taken off before both encoders, and part of every candidate again, as in IFRNet.
A wrong choice among these shows as a badly drawn frame, which the judge's check on a moving texture is there to catch; equal
digits would need one comparison with the official network.

Half-way is the only time there is here: both flows then reach across the whole step when doubled (the paper's scaled
look-up). Sizes are never shrunk; VBench shrinks by the memory of the GPU, see the judge.

Shapes: B pairs, H W px (multiples of 16, at least 128), h w = H/8, W/8, C channels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from goku_core.scorers.raft import Correlations
from goku_core.scorers.sources import Source, obtain
from goku_core.scorers.tensors import adopt, read_tensors, twin

SOURCE = Source(
    name="amt-s",
    place="amt/amt-s.pth",
    get="hf download lalala125/AMT amt-s.pth --local-dir weights/amt",
    licence="CC BY-NC 4.0, non-commercial use only",
)
CHANNELS = (20, 32, 44, 56)
"""Of the content at halves, quarters, eighths and sixteenths of the side."""
SIDE, FIELDS, RADIUS, LEVELS = 20, 3, 3, 4
STEP = 16
"""Sides are multiples of it: four halvings."""
LEAST_SIDE = 128
"""px: below, the coarsest correlations have a single cell, where positions mean nothing."""


def _layer(given: int, made: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, made, 3, stride, 1), nn.PReLU(made))


class _Bottleneck(nn.Module):
    """RAFT's narrow residual block with instance norms, which have no tensors."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, made // 4, 1)
        self.conv2 = nn.Conv2d(made // 4, made // 4, 3, stride, 1)
        self.conv3 = nn.Conv2d(made // 4, made, 1)
        self.downsample = nn.Sequential(nn.Conv2d(given, made, 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in (self.conv1, self.conv2, self.conv3):
            y = F.relu(F.instance_norm(conv(y)))
        if self.downsample is not None:
            x = F.instance_norm(self.downsample(x))
        return F.relu(x + y)


class _CorrelationEncoder(nn.Module):
    """(B, 3, H, W) to features to be compared, (B, 84, h, w): RAFT's small encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, 3)
        for number, (given, made, stride) in enumerate(((32, 32, 1), (32, 64, 2), (64, 96, 2)), start=1):
            blocks = nn.Sequential(_Bottleneck(given, made, stride), _Bottleneck(made, made, 1))
            self.add_module(f"layer{number}", blocks)
        self.conv2 = nn.Conv2d(96, 84, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.instance_norm(self.conv1(x)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


class _ContentEncoder(nn.Module):
    """(B, 3, H, W) to content at four scales, finest first (IFRNet's pyramid)."""

    def __init__(self) -> None:
        super().__init__()
        before = 3
        for number, made in enumerate(CHANNELS, start=1):
            self.add_module(f"pyramid{number}", nn.Sequential(_layer(before, made, 2), _layer(made, made)))
            before = made

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for number in range(1, len(CHANNELS) + 1):
            x = self.get_submodule(f"pyramid{number}")(x)
            found.append(x)
        return found


class _SideBlock(nn.Module):
    """IFRNet's residual block: two of its layers work on the last `SIDE` channels alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _layer(channels, channels), _layer(SIDE, SIDE)
        self.conv3, self.conv4 = _layer(channels, channels), _layer(SIDE, SIDE)
        self.conv5 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for whole, side in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            y = whole(y)
            y = torch.cat([y[:, :-SIDE], side(y[:, -SIDE:])], dim=1)
        return self.prelu(x + self.conv5(y))


class _Decoder(nn.Module):
    """Given channels, widened to `inner`, to `made` at twice the side."""

    def __init__(self, given: int, inner: int, made: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            _layer(given, inner), _SideBlock(inner), nn.ConvTranspose2d(inner, made, 4, 2, 1)
        )

    def forward(self, *parts: Tensor) -> Tensor:
        return self.convblock(torch.cat(parts, dim=1))


class _Update(nn.Module):
    """Correlations, flows (B, 4, h, w) and content at the eighth, to what is added to content and flows at full `scale`."""

    def __init__(self, content: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        hidden, flow, correlation, motion = 76, 20, 64, 68
        self.convc1 = nn.Conv2d(2 * LEVELS * (2 * RADIUS + 1) ** 2, correlation, 1)
        self.convf1 = nn.Conv2d(4, 2 * flow, 7, padding=3)
        self.convf2 = nn.Conv2d(2 * flow, flow, 3, padding=1)
        self.conv = nn.Conv2d(correlation + flow, motion, 3, padding=1)
        self.gru = _two_layers(motion + 4 + content, hidden, hidden)
        self.feat_head = _two_layers(hidden, hidden, content)
        self.flow_head = _two_layers(hidden, hidden, 4)

    def forward(self, correlation: Tensor, flows: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
        """flows and content as they are at `scale` times an eighth of the side."""
        flows, content = resized(flows, 1 / self.scale) / self.scale, resized(content, 1 / self.scale)
        seen = _leaky(self.convc1(correlation))
        moved = _leaky(self.convf2(_leaky(self.convf1(flows))))
        motion = _leaky(self.conv(torch.cat([seen, moved], dim=1)))
        state = self.gru(torch.cat([motion, flows, content], dim=1))
        more_content, more_flow = self.feat_head(state), self.flow_head(state)
        return resized(more_content, self.scale), self.scale * resized(more_flow, self.scale)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def _two_layers(given: int, inner: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, inner, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(inner, made, 3, padding=1))


class AmtS(nn.Module):
    """first, second: float (B, 3, H, W) in 0..1. The frame between them, (B, 3, H, W) in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        finest, fine, coarse, coarsest = CHANNELS
        self.feat_encoder = _CorrelationEncoder()
        self.encoder = _ContentEncoder()
        self.decoder4 = _Decoder(2 * coarsest + 1, 2 * coarsest, coarse + 4)
        self.decoder3 = _Decoder(3 * coarse + 4, 3 * coarse, fine + 4)
        self.decoder2 = _Decoder(3 * fine + 4, 3 * fine, finest + 4)
        self.decoder1 = _Decoder(3 * finest + 4, 3 * finest, 8 * FIELDS)
        self.update4, self.update3, self.update2 = _Update(coarse, 1), _Update(fine, 2), _Update(finest, 4)
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * FIELDS, 6 * FIELDS, 3, 1, 1), nn.PReLU(6 * FIELDS), nn.Conv2d(6 * FIELDS, 3, 3, 1, 1)
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        if first.shape != second.shape or height % STEP or width % STEP or min(height, width) < LEAST_SIDE:
            raise ValueError(
                f"need two equal batches with sides that are multiples of {STEP} and at least {LEAST_SIDE} px; "
                f"got {tuple(first.shape)} and {tuple(second.shape)}"
            )
        mean = torch.cat([first, second], dim=2).mean(dim=(1, 2, 3), keepdim=True)
        first, second = first - mean, second - mean
        features = self.feat_encoder(torch.cat([first, second])).chunk(2)
        ahead, back = Correlations(*features, RADIUS), Correlations(*reversed(features), RADIUS)
        contents = list(zip(self.encoder(first), self.encoder(second), strict=True))

        half = first.new_full((len(first), 1, height // STEP, width // STEP), 0.5)
        flows, content = self.decoder4(*contents[3], half).tensor_split([4], dim=1)
        for number, decoder in ((3, self.decoder3), (2, self.decoder2), (1, self.decoder1)):
            update: _Update = self.get_submodule(f"update{number + 1}")
            more_content, more_flow = update(_looked_up(ahead, back, flows, update.scale), flows, content)
            flows, content = flows + more_flow, content + more_content
            before, after = contents[number - 1]
            drawn = decoder(content, warped(before, flows[:, :2]), warped(after, flows[:, 2:]), flows)
            flows = 2 * resized(flows, 2)
            if number > 1:
                flows, content = flows + drawn[:, :4], drawn[:, 4:]
        return self._combined(first, second, mean, flows, drawn).clamp(0, 1)

    def _combined(self, first: Tensor, second: Tensor, mean: Tensor, flows: Tensor, drawn: Tensor) -> Tensor:
        """One frame of the candidates of all fields. flows (B, 4, H, W), drawn (B, 8 * FIELDS, H, W)."""
        to_first, to_second, masks, residuals = drawn.split([2 * FIELDS, 2 * FIELDS, FIELDS, 3 * FIELDS], dim=1)
        candidates = []
        for field in range(FIELDS):
            two, three = slice(2 * field, 2 * field + 2), slice(3 * field, 3 * field + 3)
            share = torch.sigmoid(masks[:, field : field + 1])
            before = warped(first, flows[:, :2] + to_first[:, two])
            after = warped(second, flows[:, 2:] + to_second[:, two])
            candidates.append(share * before + (1 - share) * after + mean + residuals[:, three])
        return torch.stack(candidates).mean(dim=0) + self.comb_block(torch.cat(candidates, dim=1))


def _looked_up(ahead: Correlations, back: Correlations, flows: Tensor, scale: int) -> Tensor:
    """Correlations around the places that flows at `scale` times the eighth name: (B, 2 * LEVELS * (2 RADIUS + 1)^2, h, w).

    From half-way, twice the flow to the second frame leads from the first to the second, and the other way round.
    """
    coarse = 2 * resized(flows, 1 / scale) / scale
    rows, columns = coarse.shape[-2:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    origin = torch.stack([x, y]).to(coarse)
    return torch.cat([ahead.around(origin + coarse[:, 2:]), back.around(origin + coarse[:, :2])], dim=1)


def resized(x: Tensor, factor: float) -> Tensor:
    """(B, C, h, w), sides times the factor, bilinear."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def warped(picture: Tensor, flow: Tensor) -> Tensor:
    """What lies at every place plus its flow (B, 2, h, w; x and y in px): (B, C, h, w). Beyond the border, the border."""
    rows, columns = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    at = torch.stack([x, y]).to(flow) + flow
    extent = flow.new_tensor([columns - 1, rows - 1])
    grid = 2 * at.permute(0, 2, 3, 1) / extent - 1
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=True)


def load(weights: Path, device: str = "cpu") -> AmtS:
    """The published network from the folder of weights. Raises GokuError where it is missing or another one."""
    path = obtain(twin(SOURCE, weights), weights)
    return adopt(AmtS(), read_tensors(path, ("state_dict",)), path, SOURCE).to(device)
