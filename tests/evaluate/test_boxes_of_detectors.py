"""Cutting out, suppressing and correcting boxes without compiled kernels, against loops over single numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.evaluate.networks.grit.boxes import clipped, kept, levels, moved, pooled, roi_align


def at(channel: np.ndarray, y: float, x: float) -> float:
    """torchvision's bilinear sample of one channel (h, w), of which pixel centres lie at whole numbers."""
    height, width = channel.shape
    if y < -1.0 or y > height or x < -1.0 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = (0.0 if top == height - 1 else y - top), (0.0 if left == width - 1 else x - left)
    upper = channel[top, left] * (1 - along) + channel[top, right] * along
    lower = channel[bottom, left] * (1 - along) + channel[bottom, right] * along
    return upper * (1 - down) + lower * down


def slow_roi_align(features: np.ndarray, box: list[float], side: int) -> np.ndarray:
    """aligned=True, sampling_ratio=0: every sample by itself."""
    left, top = box[0] - 0.5, box[1] - 0.5
    width, height = box[2] - box[0], box[3] - box[1]
    down, along = math.ceil(height / side), math.ceil(width / side)
    found = np.zeros((len(features), side, side))
    for row in range(side):
        for column in range(side):
            for channel in range(len(features)):
                total = 0.0
                for j in range(down):
                    for i in range(along):
                        y = top + row * height / side + (j + 0.5) * height / side / down
                        x = left + column * width / side + (i + 0.5) * width / side / along
                        total += at(features[channel], y, x)
                found[channel, row, column] = total / max(down * along, 1)
    return found


@pytest.mark.parametrize("side", [3, 7])
def test_cells_are_means_of_bilinear_samples(side) -> None:
    generator = np.random.default_rng(side)
    features = generator.normal(size=(2, 9, 13))
    boxes = [
        [2.0, 1.0, 9.0, 8.0],
        [0.3, 0.2, 12.9, 1.1],  # wide and flat: many samples along one axis, one along the other
        [-5.0, -3.0, 20.0, 14.0],  # sticks out on all sides
        [4.0, 4.0, 4.0, 6.0],  # no width: nothing is sampled
        [11.7, 7.7, 13.0, 9.0],  # the last corner
        [30.0, 30.0, 40.0, 40.0],  # elsewhere
    ]
    found = roi_align(torch.tensor(features), torch.tensor(boxes, dtype=torch.float64), side).numpy()
    for box, one in zip(boxes, found, strict=True):
        np.testing.assert_allclose(one, slow_roi_align(features, box, side), atol=1e-12)
    assert not found[3].any() and not found[5].any()


def test_a_plane_is_sampled_exactly() -> None:
    """Of values that grow evenly, the mean over a cell is the value at its centre; pixel (0, 0) has its centre at a half."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    plane = (3 * (x + 0.5) - 2 * (y + 0.5))[None].double()
    left, top, right, bottom = 4.2, 3.1, 21.7, 15.9
    (found,) = roi_align(plane, torch.tensor([[left, top, right, bottom]], dtype=torch.float64), 5)
    centres_x = left + (torch.arange(5) + 0.5) * (right - left) / 5
    centres_y = top + (torch.arange(5) + 0.5) * (bottom - top) / 5
    torch.testing.assert_close(found[0], (3 * centres_x[None, :] - 2 * centres_y[:, None]).double(), atol=1e-5, rtol=0)


def test_each_box_is_cut_out_of_the_map_of_its_size() -> None:
    maps = [torch.full((2, 512 // stride, 512 // stride), float(stride)) for stride in (8, 16, 32)]
    sides = {0.0: 8, 20.0: 8, 223.9: 8, 224.1: 16, 447.9: 16, 448.1: 32, 5000.0: 32}  # 224 px: stride 16 begins
    boxes = torch.tensor([[0.0, 0.0, side, side] for side in sides])
    assert levels(boxes, 3, 5).tolist() == [{8: 3, 16: 4, 32: 5}[stride] for stride in sides.values()]
    found = pooled(maps, (8, 16, 32), boxes[1:6], 2)
    assert found[:, 0, 0, 0].tolist() == pytest.approx(list(sides.values())[1:6], rel=1e-5)
    assert pooled(maps, (8, 16, 32), boxes[:0], 2).shape == (0, 2, 2, 2)


def slow_kept(boxes: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    left: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda n: -scores[n]):  # stable: equal scores in their order
        a = boxes[number]
        for other in left:
            b = boxes[other]
            width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            shared = max(width, 0) * max(height, 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
            if union and shared / union > threshold:
                break
        else:
            left.append(number)
    return left


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([0.1, 0.5, 0.9]))
def test_suppression_is_the_greedy_loop(seed, count, threshold) -> None:
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 12, (count, 2))
    boxes = np.concatenate([first, first + generator.integers(0, 10, (count, 2))], axis=1).astype(float)
    scores = generator.integers(0, 8, count) / 8  # with ties
    found = kept(torch.tensor(boxes), torch.tensor(scores), threshold).tolist()
    expected = slow_kept(boxes.tolist(), scores.tolist(), threshold)
    assert found == expected
    for at_most in (1, 3):
        some = kept(torch.tensor(boxes), torch.tensor(scores), threshold, at_most).tolist()
        last = scores[expected[min(at_most, len(expected)) - 1]]
        assert some == [number for number in expected if scores[number] >= last]  # the last one's equals too


def test_nothing_is_suppressed_among_nothing() -> None:
    assert kept(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_regression_by_its_definition() -> None:
    """Centre by sides, growth by exponential, with weights; the growth is at most 62.5-fold."""
    box, deltas, weights = (10.0, 20.0, 50.0, 40.0), (1.0, -2.0, 0.5, 99.0), (10.0, 10.0, 5.0, 5.0)
    (found,) = moved(torch.tensor([box]), torch.tensor([deltas]), weights).tolist()
    x, y = 30 + 1.0 / 10 * 40, 30 - 2.0 / 10 * 20
    width, height = 40 * math.exp(0.1), 20 * 1000 / 16
    assert found == pytest.approx([x - width / 2, y - height / 2, x + width / 2, y + height / 2], rel=1e-6)
    assert clipped(torch.tensor([[-3.0, 2.0, 70.0, 99.0]]), height=48, width=64).tolist() == [[0.0, 2.0, 64.0, 48.0]]
