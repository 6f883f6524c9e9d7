"""VBench's rules without networks: consistency, what moves and what stands still, against their official wording."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.evaluate.judges.vbench.consistency import consistency
from goku_core.evaluate.judges.vbench.dynamic_degree import moves, needed, stride, threshold
from goku_core.evaluate.judges.vbench.flow import _fill, _fill_to, fastest
from goku_core.evaluate.judges.vbench.protocol import stamp
from goku_core.evaluate.judges.vbench.static_filter import allowed, stands_still


def test_consistency_is_the_mean_of_two_cosines_floored_at_zero() -> None:
    """A second formulation: torch's cosine of normalised rows, one frame after the other."""
    features = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(features, dim=-1)
    expected = []
    for number in range(1, 7):
        previous = max(0.0, torch.cosine_similarity(unit[number - 1], unit[number], dim=0).item())
        first = max(0.0, torch.cosine_similarity(unit[0], unit[number], dim=0).item())
        expected.append((previous + first) / 2)
    assert min(expected) < 0.05  # the floor is at work
    assert consistency(features.numpy()) == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 10**6), st.integers(2, 9), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_equal_frames_are_exactly_consistent_and_scale_means_nothing(seed, frames, factor) -> None:
    row = np.random.default_rng(seed).normal(size=24).astype(np.float32)
    assert (consistency(np.repeat(row[None], frames, axis=0)) == 1.0).all()
    some = np.random.default_rng(seed + 1).normal(size=(frames, 24))
    scores = consistency(some)
    assert scores == pytest.approx(consistency(some * factor), abs=1e-9)
    assert (scores >= 0).all() and (scores <= 1 + 1e-12).all()


def official_speed(flow: np.ndarray, share: float) -> float:
    """As worded in vbench/dynamic_degree.py: lengths sorted, the first int(h*w*share) averaged."""
    lengths = np.sort(np.sqrt(flow[0] ** 2 + flow[1] ** 2).ravel())[::-1]
    return float(lengths[: int(flow.shape[1] * flow.shape[2] * share)].mean())


@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.02]))
@settings(max_examples=20, deadline=None)
def test_the_fastest_share_of_a_flow(seed, share) -> None:
    flow = np.random.default_rng(seed).normal(0, 9, (2, 40, 64)).astype(np.float32)
    assert fastest(torch.from_numpy(flow), share) == pytest.approx(official_speed(flow, share), rel=1e-5)


@given(
    st.integers(64, 720), st.integers(64, 720), st.floats(0.5, 12.0), st.floats(0, 2 * math.pi), st.floats(0.06, 0.5)
)
@settings(max_examples=40, deadline=None)
def test_a_part_that_shifts_by_a_known_way_moves_when_it_passes_the_threshold(
    height, width, per256, angle, part
) -> None:
    """A still picture with one region (more than a twentieth) that goes ``per256`` px, for a short side of 256, any way."""
    px = per256 * min(height, width) / 256
    flow = torch.zeros(2, height, width)
    rows = math.ceil(part * height)
    flow[0, :rows], flow[1, :rows] = px * math.cos(angle), px * math.sin(angle)
    speed = fastest(flow, 0.05)
    assert speed == pytest.approx(px, rel=1e-4)
    if abs(per256 - 6.0) > 1e-2:
        assert moves([speed] * 15, threshold(height, width), needed(16, "official")) == (per256 > 6.0)
    if abs(per256 - 3.0) > 1e-2:
        still = stands_still([speed] * 15, [0.0, 0.0], threshold(height, width, 3.0), allowed(16))
        assert still == (per256 < 3.0)


def test_a_part_smaller_than_a_twentieth_is_diluted() -> None:
    flow = torch.zeros(2, 100, 100)
    flow[0, :1] = 10.0  # 100 of the 500 pixels that count
    assert fastest(flow, 0.05) == pytest.approx(2.0)
    assert fastest(flow, 0.02) == pytest.approx(5.0)


@pytest.mark.parametrize(
    "fps, every", [(8, 1), (4, 1), (12, 2), (16, 2), (20, 2), (23.976, 3), (24, 3), (30, 4), (60, 8)]
)
def test_one_frame_in_an_eighth_of_a_second(fps, every) -> None:
    """round(7.5) = 8 and round(2.5) = 2: Python's rounding to even is part of the rule."""
    assert stride(fps) == every


def test_how_many_pairs_must_move() -> None:
    assert [needed(n, "official") for n in (1, 2, 3, 4, 6, 10, 14, 16, 49)] == [0, 0, 1, 1, 2, 2, 4, 4, 12]
    assert [needed(n, "corrected") for n in (1, 2, 3, 16)] == [1, 1, 1, 4]
    least = threshold(256, 400)
    assert least == 6.0 and threshold(720, 1280) == 16.875
    assert moves([7.0] * 4 + [5.0] * 11, least, 4) and not moves([7.0] * 3 + [6.0] * 12, least, 4)  # 6.0 is not above
    assert moves([0.0], least, needed(2, "official")) and not moves([0.0], least, needed(2, "corrected"))
    assert not moves([], least, needed(1, "official"))


def test_what_stands_still() -> None:
    """k = round(2n/16) neighbours may move, and the ends may be 2k thresholds apart."""
    assert [allowed(n) for n in (4, 5, 12, 16, 20, 49)] == [0, 1, 2, 2, 2, 6]
    quiet = [1.0] * 13
    assert stands_still([9.0, 9.0, *quiet], [12.0, 12.0], 3.0, 2)
    assert not stands_still([9.0, 9.0, 9.0, *quiet], [0.0, 0.0], 3.0, 2)
    for ends in ([12.1, 0.0], [0.0, 12.1]):
        assert not stands_still([0.0, *quiet], ends, 3.0, 2)


@pytest.mark.parametrize("height, width", [(480, 854), (720, 1280), (63, 121)])
def test_sides_are_filled_up_half_on_each_side(height, width) -> None:
    left, right, top, bottom = _fill(height, width, 8)
    assert (width + left + right) % 8 == 0 == (height + top + bottom) % 8
    assert 0 <= right - left <= 1 and 0 <= bottom - top <= 1 and left + right < 8 and top + bottom < 8
    room = _fill_to(64, 120, 128)
    assert room == (4, 4, 32, 32)


def test_a_stamp_names_facts_in_any_order() -> None:
    one = stamp("x", 1, {"a": [1, 2], "b": "c"})
    assert one == stamp("x", 1, {"b": "c", "a": [1, 2]}) and one.startswith("x-")
    assert (
        len({one, stamp("x", 2, {"a": [1, 2], "b": "c"}), stamp("x", 1, {"a": [2, 1], "b": "c"}), stamp("y", 1, {})})
        == 4
    )
