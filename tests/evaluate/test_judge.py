"""The colour-and-contour judge on renders, softened renders and things it must not see."""

import cv2
import numpy as np
import pytest

from goku_core.evaluate import suite
from goku_core.evaluate.ground_truth import check_judge, direction_share, require
from goku_core.evaluate.judges.contour import ContourJudge
from goku_core.evaluate.judges.detector import check_sight
from goku_core.evaluate.judges.judge import Bench, asked_of, judge_named
from goku_core.evaluate.judges.pixels import consistency, psnr, temporal_flicker
from goku_core.evaluate.motion import direction_verdict, follow
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
    with pytest.raises(GokuError, match="no neighbour"):
        temporal_flicker(black[None])


def test_flicker_is_that_of_the_official_loop():
    """vbench/temporal_flickering.py, written out: the mean over the pairs of the mean over the pixels, in BGR."""
    clip = np.random.default_rng(5).integers(0, 255, (6, 20, 30, 3), dtype=np.uint8)
    steps = [np.mean(cv2.absdiff(*(f[..., ::-1].astype(np.float32) for f in pair))) for pair in zip(clip, clip[1:])]  # noqa: B905, RUF007
    assert temporal_flicker(clip) == pytest.approx((255.0 - np.mean(np.array(steps)).item()) / 255.0, abs=1e-6)


def test_consistency_by_the_loop_of_vbench():
    """vbench/subject_consistency.py: mean of the floored cosines to the frame before and to the first."""
    rows = np.random.default_rng(2).normal(0.3, 1, (5, 7))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    total = 0.0
    for t in range(1, 5):
        total += (max(0.0, rows[t] @ rows[t - 1]) + max(0.0, rows[t] @ rows[0])) / 2
    assert consistency(rows) == pytest.approx(total / 4)


@pytest.mark.parametrize("name", ["contour", "direction", "flicker", "embedded", "first_frame"])
def test_judges_without_weights_pass_their_checks(name):
    judge = judge_named(name, Bench())
    judge.check()
    assert judge.missing() == "" and judge.fingerprint == judge_named(name, Bench()).fingerprint
    assert all(
        benchmark in {"geneval", "motion", "i2v", "vbench"} for benchmark in (d.split("/")[0] for d in judge.dimensions)
    )


def test_the_contour_judge_speaks_only_about_what_it_knows():
    from goku_core.evaluate.manifest import Prompt, plan

    def asked(*clauses):
        (sample,) = plan(
            "geneval", "image", [Prompt("geneval-00000", "p", "t", ("geneval",), {"include": clauses})], 1, 0
        )
        return asked_of(JUDGE, sample)

    assert asked({"class": "star", "count": 1, "color": "red"}) == {"geneval"}
    assert asked({"class": "star", "count": 1}, {"class": "bench", "count": 1}) == frozenset()
    assert asked({"class": "star", "count": 1, "color": "pink"}) == frozenset()
    assert JUDGE.sees(96, 176) and not JUDGE.sees(8, 12)
