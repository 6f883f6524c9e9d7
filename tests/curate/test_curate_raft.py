"""RAFT: the published names and sizes, correlations against a second implementation, flow of a picture that moves."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from tiny_scorers import formula_pair, formula_tensors, pictures, random_raft

from goku_core.curate.models.flow import FlowMeter
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.raft import LARGE, SMALL, Correlations, Raft, load_raft


@pytest.mark.parametrize("size, parameters", [(LARGE, 5_257_536), (SMALL, 990_162)], ids=["large", "small"])
def test_sizes_are_the_published_ones(size, parameters) -> None:
    """Counts: torchvision's pages of raft_large and raft_small."""
    assert sum(p.numel() for p in Raft(size).parameters()) == parameters


# Made once with torchvision 0.28.0's own raft_large and raft_small in float32, tensors and pictures by formula: digest of
# "name shape" of every tensor, and the flow after 4 updates at every 45th row and 50th column, x then y, px.
REFERENCE = {
    "large": (
        "23b50731fc53e26ae87cbca92e0532e4098a7c157a2269509c8f819e7860f434",
        [
            [8.977064, -15.09088, -25.061432, -7.189177],
            [-18.255852, -43.317074, -16.102843, -32.847462],
            [-20.086666, -52.168526, -21.090075, -21.451557],
            [-12.718977, -38.062065, -44.205811, -31.564079],
            [11.255357, 17.949814, 8.211523, 8.284470],
            [22.074898, 43.155087, 40.141418, 31.965311],
            [23.697235, 30.026630, 21.162252, 19.029350],
            [15.308573, 32.659168, 27.951656, 20.164638],
        ],
    ),
    "small": (
        "b52844207e5a43c48b531e21242a63b775b5e556d38eb5545e847e2acf44dd88",
        [
            [5.428972, -20.833145, -4.644287, 5.634538],
            [12.984895, 24.325527, 31.321133, -12.025625],
            [29.155500, 50.132336, 16.288620, -26.628550],
            [1.615655, 28.712078, -2.725208, -28.964722],
            [-4.831716, 22.991264, 8.805859, 12.889212],
            [-2.675430, -62.860706, -41.457916, -50.206570],
            [-17.768590, -85.564796, -83.291580, -47.058739],
            [-21.861725, -22.415451, -69.307327, -47.367367],
        ],
    ),
}


@pytest.mark.parametrize("name, size", [("large", LARGE), ("small", SMALL)])
def test_names_and_flow_are_torchvisions(name, size) -> None:
    network = Raft(size).eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    digest, flow = REFERENCE[name]
    listed = "\n".join(sorted(f"{key} {shape}" for key, shape in shapes.items()))
    assert hashlib.sha256(listed.encode()).hexdigest() == digest
    network.load_state_dict(formula_tensors(shapes))
    with torch.no_grad():
        found = network(*(picture.float() for picture in formula_pair()), updates=4)
    assert found[0, :, ::45, ::50].numpy().reshape(8, 4) == pytest.approx(np.array(flow), abs=2e-3)


def test_correlations_equal_sums_over_all_pairs() -> None:
    """A second implementation with loops: inner product, means of blocks, bilinear look-up with zero outside."""
    radius, (rows, columns) = 2, (16, 17)
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1, 3, rows, columns, generator=generator, dtype=torch.float64) for _ in range(2))
    places = torch.rand(1, 2, rows, columns, generator=generator, dtype=torch.float64) * 22 - 3
    found = Correlations(first, second, radius).around(places)[0].numpy()
    a, b, where = first[0].numpy(), second[0].numpy(), places[0].numpy()
    side = 2 * radius + 1
    assert found.shape == (4 * side * side, rows, columns)
    for y, x in [(0, 0), (3, 16), (15, 8), (9, 2)]:
        level = np.array([[a[:, y, x] @ b[:, i, j] / 3**0.5 for j in range(columns)] for i in range(rows)])
        for number in range(4):
            if number:
                h, w = level.shape[0] // 2, level.shape[1] // 2
                blocks = [[level[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(w)] for i in range(h)]
                level = np.array(blocks)
            at_x, at_y = where[:, y, x] / 2**number
            expected = [
                bilinear(level, at_y + down, at_x + right)
                for right, down in product(range(-radius, radius + 1), repeat=2)
            ]
            part = found[number * side * side : (number + 1) * side * side, y, x]
            assert part == pytest.approx(expected, abs=1e-9)


def bilinear(values: np.ndarray, y: float, x: float) -> float:
    total = 0.0
    for i, j in product((int(np.floor(y)), int(np.floor(y)) + 1), (int(np.floor(x)), int(np.floor(x)) + 1)):
        if 0 <= i < values.shape[0] and 0 <= j < values.shape[1]:
            total += values[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def test_correlations_find_where_a_place_went() -> None:
    """Features shifted by (3, -2): the best match of every inner place lies there."""
    generator = torch.Generator().manual_seed(1)
    first = torch.nn.functional.normalize(torch.randn(1, 32, 20, 24, generator=generator), dim=1)
    second = torch.roll(first, shifts=(-2, 3), dims=(2, 3))
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    found = Correlations(first, second, 4).around(torch.stack([x, y])[None])[0, :81]
    best = found[:, 5:15, 5:15].argmax(dim=0)
    assert (best == (3 + 4) * 9 + (-2 + 4)).all()  # to the right outside, downwards inside


@pytest.mark.parametrize("size", [LARGE, SMALL], ids=["large", "small"])
def test_flow_has_the_size_of_the_pictures_and_pairs_stay_apart(size) -> None:
    torch.manual_seed(0)
    network = Raft(size).eval()
    first, second = torch.rand(2, 2, 3, 136, 128) * 2 - 1
    with torch.no_grad():
        both = network(first, second, updates=2)
        alone = network(first[1:], second[1:], updates=2)
    assert both.shape == (2, 2, 136, 128) and both[1] == pytest.approx(alone[0], abs=1e-4)
    for bad in (torch.zeros(1, 3, 136, 130), torch.zeros(1, 3, 120, 136)):
        with pytest.raises(ValueError, match=r"multiples of 8 and at least 128"):
            network(bad, bad)


def test_upsampling_keeps_a_flow_that_is_the_same_everywhere() -> None:
    """Weights of nine neighbours sum to one: 2.5 cells to the right are 20 px, wherever zeros do not reach in."""
    torch.manual_seed(0)
    flow = torch.tensor([2.5, -1.0]).view(1, 2, 1, 1).expand(1, 2, 6, 7)
    for size in (LARGE, SMALL):
        with torch.no_grad():
            fine = Raft(size)._upsampled(flow, torch.randn(1, size.state, 6, 7))[..., 8:-8, 8:-8]
        assert fine[0, 0].numpy() == pytest.approx(20.0, abs=1e-4)
        assert fine[0, 1].numpy() == pytest.approx(-8.0, abs=1e-4)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_is_read_as_large_or_small(tmp_path, suffix) -> None:
    assert load_raft(random_raft(tmp_path / f"small{suffix}")).size is SMALL
    large = load_raft(random_raft(tmp_path / f"large{suffix}", large=True))
    assert large.size is LARGE and not large.training
    torch.save({"module.fnet.conv1.weight": torch.zeros(1)}, tmp_path / "things.pth")
    with pytest.raises(GokuError, match=r"raft_large or raft_small.*docs/weights.md"):
        load_raft(tmp_path / "things.pth")


class Constant(torch.nn.Module):
    """In place of the network: the same flow everywhere."""

    def forward(self, first: torch.Tensor, second: torch.Tensor, updates: int) -> torch.Tensor:
        assert first.shape[-2] % 8 == 0 and first.shape[-1] % 8 == 0 and min(first.shape[-2:]) >= 128
        assert first.min() >= -1 and first.max() <= 1
        return first.new_tensor([6.0, 8.0]).view(1, 2, 1, 1).expand(len(first), 2, *first.shape[-2:])


@pytest.mark.parametrize("height, width", [(252, 448), (448, 252), (448, 120)])
def test_motion_is_px_at_256_per_quarter_second(tmp_path, height, width) -> None:
    meter = FlowMeter(random_raft(tmp_path / "raft.pth"), pairs=3)
    meter._network = Constant()
    frames = [(index * 12, image) for index, image in enumerate(pictures(9, 0, height, width))]
    flow = meter.flow([frames[0][1]], [frames[1][1]])
    assert flow.shape == (1, 2, 256, round(width * 256 / height))
    # 10 px between frames that are 12 ticks of 1/24 s apart: 5 px per 0.25 s.
    assert meter.score(frames, Fraction(1, 24)) == pytest.approx(5.0)
    assert meter.score(frames[:1], Fraction(1, 24)) is None


def test_motion_is_the_same_whatever_else_is_scored(tmp_path) -> None:
    meter = FlowMeter(random_raft(tmp_path / "raft.safetensors"), updates=1, pairs=2)
    clip = [(index, image) for index, image in enumerate(pictures(3, 0, 128, 96))]
    other = [(index, image) for index, image in enumerate(pictures(2, 7, 128, 96))]
    once = meter.score(clip, Fraction(1, 2))
    meter.score(other, Fraction(1, 2))
    assert once == meter.score(clip, Fraction(1, 2)) and once != meter.score(other, Fraction(1, 2)) and once > 0
