"""What frames are turned into before a network of VBench sees them, against sums over taps and against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_scorers import CLIP_MEAN, CLIP_STD, SIDE, pictures, tiny_clip
from torch.nn import functional as F

from goku_core.scorers.clip import Clip
from goku_core.scorers.pictures import Pictures
from goku_core.scorers.resizing import (
    centre,
    clip_pixels,
    clip_pixels_of_pictures,
    dino_pixels,
    scaled,
    short_side,
    tensor,
)


def tap(distance: float, mode: str) -> float:
    d = abs(distance)
    if mode == "bilinear":
        return max(0.0, 1 - d)
    a = -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resampled(plane: np.ndarray, size: tuple[int, int], row: int, column: int, mode: str) -> float:
    """One pixel of a plane (H, W) scaled to ``size``, as the sum over the four or sixteen around its centre."""
    reach, total = (1, 2)[mode == "bicubic"], 0.0
    y = (row + 0.5) * plane.shape[0] / size[0] - 0.5
    x = (column + 0.5) * plane.shape[1] / size[1] - 0.5
    for i in range(int(np.floor(y)) - reach + 1, int(np.floor(y)) + reach + 1):
        for j in range(int(np.floor(x)) - reach + 1, int(np.floor(x)) + reach + 1):
            value = plane[min(max(i, 0), plane.shape[0] - 1), min(max(j, 0), plane.shape[1] - 1)]
            total += tap(y - i, mode) * tap(x - j, mode) * value
    return total


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_scaling_looks_at_the_nearest_pixels_only_however_much_it_shrinks(mode) -> None:
    pixels = tensor(np.random.default_rng(0).integers(0, 256, (1, 90, 160, 3), dtype=np.uint8))
    small = scaled(pixels, (22, 39), mode)
    assert torch.equal(small, F.interpolate(pixels, (22, 39), mode=mode, align_corners=False, antialias=False))
    for row, column in [(0, 0), (21, 38), (7, 20), (13, 1)]:
        expected = [resampled(plane.numpy(), (22, 39), row, column, mode) for plane in pixels[0].double()]
        assert small[0, :, row, column].numpy() == pytest.approx(expected, abs=1e-2)  # of 255
    if mode == "bicubic":
        assert small.min() < 0 or small.max() > 255  # nothing is clamped on the way


@pytest.mark.parametrize(
    "given, side, made",
    [
        ((720, 1280), 224, (224, 398)),
        ((480, 854), 224, (224, 398)),
        ((854, 480), 224, (398, 224)),
        ((64, 64), 224, (224, 224)),
    ],
)
def test_the_longer_side_is_cut_to_whole_pixels(given, side, made) -> None:
    """480 x 854 would be 398.5 columns."""
    assert short_side(*given, side) == made


def test_the_middle_of_an_odd_remainder_goes_to_the_even_pixel() -> None:
    assert centre(torch.arange(11)[None].expand(8, 11), 8)[0, 0] == 2  # 1.5
    assert centre(torch.arange(9)[None].expand(8, 9), 8)[0, 0] == 0  # 0.5


def test_dino_sees_the_whole_picture() -> None:
    frames = np.stack(pictures(2, height=90, width=160))
    pixels = dino_pixels(frames, 48)
    assert pixels.shape == (2, 3, 48, 85) and pixels.dtype == torch.float32
    plane = frames[1, :, :, 2].astype(np.float64)
    assert pixels[1, 2, 40, 80].item() == pytest.approx(
        (resampled(plane, (48, 85), 40, 80, "bilinear") / 255 - 0.406) / 0.225, abs=1e-5
    )


def test_clip_of_background_consistency_sees_the_middle_not_averaged() -> None:
    frames = np.stack(pictures(2, height=90, width=160))
    pixels = clip_pixels(frames, 48)
    assert pixels.shape == (2, 3, 48, 48)
    left = round((85 - 48) / 2)
    for channel in range(3):
        value = resampled(frames[0, :, :, channel].astype(np.float64), (48, 85), 11, left + 5, "bicubic")
        expected = (value / 255 - CLIP_MEAN[channel]) / CLIP_STD[channel]
        assert pixels[0, channel, 11, 5].item() == pytest.approx(expected, abs=1e-4)


def test_clip_of_appearance_style_sees_what_transformers_and_pil_make(tmp_path) -> None:
    """Two libraries more: the processor of a CLIP folder, and PIL's own resize and crop."""
    frames = np.stack(pictures(2, height=90, width=160))
    pixels = clip_pixels_of_pictures(frames, SIDE)
    folder = tiny_clip(tmp_path / "clip")
    assert pixels.numpy() == pytest.approx(Pictures(folder, "cpu", 2).prepare(list(frames)).numpy(), abs=1e-6)
    picture = Image.fromarray(frames[1]).resize((56, SIDE), Image.Resampling.BICUBIC).crop((12, 0, 12 + SIDE, SIDE))
    expected = (np.asarray(picture) / 255.0 - CLIP_MEAN) / CLIP_STD
    assert pixels[1].permute(1, 2, 0).numpy() == pytest.approx(expected, abs=1e-5)
    noise = np.random.default_rng(0).integers(0, 256, (1, 90, 160, 3), dtype=np.uint8)
    assert (
        clip_pixels(noise, SIDE).std() > 1.5 * clip_pixels_of_pictures(noise, SIDE).std()
    )  # VBench's two paths are two


def test_clip_of_a_benchmark_takes_the_benchmarks_pixels(tmp_path) -> None:
    folder = tiny_clip(tmp_path / "clip")
    frames = np.stack(pictures(5))
    clip = Clip(folder, batch=2)
    ours = clip.features(frames, clip_pixels_of_pictures)
    assert ours / np.linalg.norm(ours, axis=1, keepdims=True) == pytest.approx(clip.images(list(frames)), abs=1e-5)
    assert np.array_equal(clip.features(frames[3:4], clip_pixels), clip.features(frames, clip_pixels)[3:4])
