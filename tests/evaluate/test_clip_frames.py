"""Which frames a clip network is shown, and what becomes of their pixels, against second formulations."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goku_core.evaluate.judges.frames import middle_frames, middle_of
from goku_core.evaluate.judges.video.pixels import CLIP, IMAGENET, umt_pixels, viclip_pixels
from goku_core.pipeline.errors import GokuError


@given(st.integers(1, 2000), st.sampled_from([1, 2, 8, 16]))
def test_middles_of_equal_intervals(count, wanted):
    """numpy's evenly spaced borders, cut to integers, are what VBench computes; a loop goes through the intervals."""
    intervals = min(count, wanted)
    borders = np.linspace(0, count, intervals + 1).astype(int)
    expected = []
    for number in range(intervals):
        first, last = borders[number], borders[number + 1] - 1
        expected.append((first + last) // 2)
    while len(expected) < wanted:
        expected.append(expected[-1])
    if intervals in (1, 2, 8, 16):  # elsewhere the float borders may fall below a whole number
        assert middle_frames(count, wanted) == expected


@given(st.integers(1, 400), st.integers(1, 40))
def test_every_frame_is_there_and_none_goes_back(count, wanted):
    frames = middle_frames(count, wanted)
    assert len(frames) == wanted and frames == sorted(frames) and frames[0] >= 0 and frames[-1] < count
    assert len(set(frames)) == min(count, wanted)
    if wanted <= count:  # frames of a clip played backwards are the same, but for what a whole frame cannot halve
        mirrored = [count - 1 - k for k in reversed(frames)]
        assert max(abs(a - b) for a, b in zip(frames, mirrored, strict=True)) <= 2


def test_known_picks():
    assert middle_frames(16, 16) == list(range(16))
    assert middle_frames(32, 8) == [1, 5, 9, 13, 17, 21, 25, 29]
    assert middle_frames(3, 8) == [0, 1, 2, 2, 2, 2, 2, 2]
    assert middle_frames(17, 8) == [0, 2, 4, 6, 8, 10, 12, 15]
    assert middle_of(np.arange(32)[:, None], 8)[:, 0].tolist() == [1, 5, 9, 13, 17, 21, 25, 29]
    with pytest.raises(GokuError, match="a clip of 0"):
        middle_frames(0, 8)


@pytest.mark.parametrize("shape", [(2, 40, 72, 3), (1, 90, 51, 3)])
def test_viclip_pixels_by_a_loop(shape):
    """Bicubic by Keys' kernel (a = -0.75) on half-pixel centres, border repeated, 8 bits, written out."""
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    side = 28
    found = viclip_pixels(frames, side)
    height, width = shape[1:3]
    rows, columns = (side, int(side * width / height)) if height < width else (int(side * height / width), side)
    across, down = _bicubic(width, columns), _bicubic(height, rows)
    resized = np.einsum("yh,thwc,xw->tyxc", down, frames.astype(np.float64), across)
    resized = np.rint(np.clip(resized, 0, 255))
    top, left = round((rows - side) / 2), round((columns - side) / 2)
    expected = (resized[:, top : top + side, left : left + side] / 255 - CLIP[0]) / CLIP[1]
    level = 1 / 255 / min(CLIP[1])  # a value on the edge between two levels may fall to either side in float32
    away = np.abs(found.numpy() - expected.transpose(0, 3, 1, 2))
    assert found.shape == (shape[0], 3, side, side) and away.max() < 1.01 * level and (away > 1e-5).mean() < 1e-3


def _bicubic(before, after):
    matrix = np.zeros((after, before))
    for out in range(after):
        at = (out + 0.5) * before / after - 0.5
        base = int(np.floor(at))
        for k in range(base - 1, base + 3):
            d, a = abs(at - k), -0.75
            weight = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[out, min(max(k, 0), before - 1)] += weight
    return matrix


def test_umt_pixels_are_opencvs_and_centred():
    frames = np.random.default_rng(1).integers(0, 256, (3, 60, 101, 3), dtype=np.uint8)
    found = umt_pixels(frames, 32, 28)
    small = np.stack([cv2.resize(frame, (53, 32), interpolation=cv2.INTER_LINEAR) for frame in frames])
    expected = (small[:, 2:30, 12:40].astype(np.float64) / 255 - IMAGENET[0]) / IMAGENET[1]  # (53-28)/2 = 12.5 -> 12
    assert torch.allclose(found.double(), torch.from_numpy(expected.transpose(0, 3, 1, 2).copy()), atol=1e-6)


def test_pixels_of_the_right_side_are_left_alone():
    frames = np.random.default_rng(2).integers(0, 256, (1, 28, 28, 3), dtype=np.uint8)
    for found, (mean, deviation) in ((viclip_pixels(frames, 28), CLIP), (umt_pixels(frames, 28, 28), IMAGENET)):
        back = found.numpy().transpose(0, 2, 3, 1) * deviation + mean
        assert np.abs(back * 255 - frames).max() < 1e-3
