"""The colour-and-contour judge on renders, softened renders and things it must not see."""

import cv2
import numpy as np
import pytest

from goku_core.evaluate import suite
from goku_core.evaluate.ground_truth import check_judge, direction_share, require
from goku_core.evaluate.judges.contour import ContourJudge
from goku_core.evaluate.judges.detector import check_sight
from goku_core.evaluate.motion import direction_verdict, follow, psnr, temporal_flicker
from goku_core.pipeline.errors import GokuError

JUDGE = ContourJudge()


@pytest.mark.parametrize("size", [(64, 112), (96, 176), (160, 288)])
def test_ground_truth_at_every_size(size):
    prompts = suite.image_prompts(8, seed=1)
    check = check_judge(JUDGE, prompts, suite.image_samples(prompts, 8, 2, seed=1), size, seed=1)
    require(check, JUDGE, 0.98)
    assert min(check.softened.values()) >= 0.9, check.softened


def test_directions_of_ground_truth_clips():
    assert direction_share(JUDGE, suite.clip_samples("motion", 12, 1, seed=2), (64, 112), 17, 8.0, seed=2) == 1.0


def test_grey_noise_and_shapeless_things_are_not_seen():
    rng = np.random.default_rng(0)
    noise = np.clip(rng.normal(128, 20, (64, 112, 1)) + np.zeros(3), 0, 255).astype(np.uint8)
    bar, moon = np.full((64, 112, 3), 120, np.uint8), np.full((64, 112, 3), 120, np.uint8)
    cv2.rectangle(bar, (10, 28), (100, 36), (216, 36, 36), -1)
    cv2.circle(moon, (50, 32), 20, (216, 36, 36), -1)
    cv2.circle(moon, (60, 32), 18, (120, 120, 120), -1)
    assert JUDGE.detect(np.stack([noise, bar, moon])) == [[], [], []]


def test_colour_noise_scores_nothing():
    """What an untrained model draws: blocks of random colour, one for each cell of the latent."""
    rng = np.random.default_rng(3)
    coarse = rng.normal(128, 45, (60, 8, 14, 3)).clip(0, 255).astype(np.uint8)
    noise = np.stack([cv2.resize(c, (112, 64), interpolation=cv2.INTER_NEAREST) for c in coarse])
    noise = np.stack([cv2.GaussianBlur(n, (0, 0), 1.0) for n in noise])
    assert sum(len(things) for things in JUDGE.detect(noise)) <= 6


def test_touching_things_of_two_colours_are_two():
    picture = np.full((64, 112, 3), 120, np.uint8)
    cv2.circle(picture, (36, 32), 14, (216, 36, 36), -1, cv2.LINE_AA)
    cv2.rectangle(picture, (51, 18), (79, 46), (36, 76, 220), -1)
    assert {(d.label, d.color) for d in JUDGE.detect(picture[None])[0]} == {("circle", "red"), ("square", "blue")}


def test_the_same_answer_every_time():
    pictures = np.random.default_rng(1).integers(0, 255, (4, 8, 14, 3), dtype=np.uint8)
    pictures = np.stack([cv2.resize(p, (112, 64), interpolation=cv2.INTER_CUBIC) for p in pictures])
    first = JUDGE.detect(pictures)
    assert all(JUDGE.detect(pictures) == first for _ in range(3))
    assert JUDGE.fingerprint == ContourJudge().fingerprint


def test_a_blind_judge_is_called_blind():
    with pytest.raises(GokuError, match="found nothing in 6 of 10"):
        check_sight(JUDGE, [[]] * 6 + [[object()]] * 4)


def test_a_judge_below_the_minimum_stops_the_stage():
    prompts = suite.image_prompts(2, seed=1)
    check = check_judge(JUDGE, prompts, suite.image_samples(prompts, 2, 1, seed=1), (64, 112), seed=1)
    check.tasks["counting"] = 0.9
    with pytest.raises(GokuError, match=r"counting 0\.900"):
        require(check, JUDGE, 0.98)


def test_standing_still_is_no_direction():
    sample = suite.clip_samples("motion", 1, 1, seed=0)[0]
    scene = suite.true_scene(sample.prompt.metadata, np.random.default_rng(0))
    from goku_core.scenes.draw import draw

    clip = np.stack([draw(scene, 64, 112)] * 9)
    right, reason = direction_verdict(follow(clip, JUDGE, None, None), "left")
    assert not right and "heights of travel" in reason
    assert temporal_flicker(clip) == 1.0


def test_flicker_and_psnr_by_hand():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert temporal_flicker(np.stack([black, white])) == 0.0
    assert temporal_flicker(np.stack([black, black + 51])) == pytest.approx(0.8)
    assert psnr(black, black) == 99.0 and psnr(black, white) == 0.0
