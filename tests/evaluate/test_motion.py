"""Direction is judged on its own: a thing that lost its shape still goes somewhere, and noise goes nowhere."""

from __future__ import annotations

import numpy as np
import pytest

from goku_core.evaluate.judges.contour import ContourJudge
from goku_core.evaluate.motion import direction_verdict, follow

STEPS = {"left": (-3, 0), "right": (3, 0), "up": (0, -1.5), "down": (0, 1.5)}


def blob_clip(direction: str, color: tuple[int, int, int] = (250, 130, 14)) -> np.ndarray:
    """17 frames of 48x80 with a ragged patch of no known shape that moves."""
    draws = np.random.default_rng(0)
    frames = np.full((17, 48, 80, 3), 128, np.uint8)
    dx, dy = STEPS[direction]
    for t, frame in enumerate(frames):
        x, y = 40 + dx * (t - 8), 24 + dy * (t - 8)
        for _ in range(14):
            top, left = int(y + draws.integers(-6, 4)), int(x + draws.integers(-9, 6))
            frame[max(0, top) : top + 4, max(0, left) : left + 3] = color
    return frames


@pytest.mark.parametrize("direction", STEPS)
def test_direction_of_a_shapeless_thing(direction: str) -> None:
    path = follow(blob_clip(direction), ContourJudge(), "circle", "orange")
    assert direction_verdict(path, direction) == (True, "")
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}[direction]
    assert not direction_verdict(path, opposite)[0]


def test_another_colour_and_stillness_are_not_followed() -> None:
    judge, clip = ContourJudge(), blob_clip("right")
    assert not direction_verdict(follow(clip, judge, "circle", "blue"), "right")[0]
    still = np.repeat(clip[8:9], 17, axis=0)
    right, reason = direction_verdict(follow(still, judge, "circle", "orange"), "right")
    assert not right and "travel" in reason


def test_grey_noise_has_no_place() -> None:
    noise = np.random.default_rng(1).integers(100, 156, (3, 48, 80, 1), dtype=np.uint8).repeat(3, axis=3)
    assert ContourJudge().locate(noise, "red") == [None] * 3
