"""Every score separates what it is there to separate."""

import cv2
import numpy as np
import pytest

from goku_core.curate.scores import picture
from goku_core.curate.scores.motion import MotionMeter
from goku_core.curate.scores.text import text_meter
from goku_core.curate.spans import SpanRecorder
from goku_core.media import decode
from goku_core.media.probe import probe
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import sample_scene
from goku_core.scenes.vocabulary import TASKS


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return draw(sample_scene(rng, TASKS[seed % len(TASKS)]), 480, 854)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])


def motion_of(path) -> float:
    info = probe(path)
    recorder = SpanRecorder(info.time_base, info.fps, 10, 2)
    for frame in decode.frames(path):
        recorder.add(frame)
    (span,) = recorder.finish()
    return span.motion


def test_motion_of_real_files(library, painter) -> None:
    static = motion_of(library.video("static.mp4", painter.static(1, 2.5, grain=10.0)))
    moving = motion_of(library.video("moving.mp4", painter.moving(2)))
    shaking = motion_of(library.video("shaking.mp4", painter.shaking(3, 2.5)))
    assert static < 0.3, static
    assert 0.5 < moving < 6, moving
    assert shaking > 20, shaking


def test_motion_has_a_unit() -> None:
    # A texture shifted by 5 px as a whole has a flow of 5 px.
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (256, 460), np.uint8), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    assert MotionMeter().measure(texture[:, :450].copy(), texture[:, 5:455].copy()) == pytest.approx(5, abs=0.3)
    assert MotionMeter().measure(texture, texture) == 0


def test_a_camera_thrown_far_is_not_mistaken_for_a_slow_one() -> None:
    ground = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (256, 700), np.uint8), (0, 0), 9)
    ground = cv2.normalize(ground, None, 0, 255, cv2.NORM_MINMAX)
    meter = MotionMeter()
    first, second = ground[:, :455].copy(), ground[:, 4:459].copy()
    before = meter.measure(first, second)
    thrown = meter.measure(first, ground[:, 85:540].copy())
    # One pair leaves nothing behind for the next. The last digits are not the same twice: sums run over memory that lies
    # differently each time.
    assert meter.measure(first, second) == pytest.approx(before, rel=1e-9)
    assert thrown == pytest.approx(85 * 370 / 455, rel=0.25)  # where the frames overlap; the rest is anybody's guess


def test_motion_is_per_quarter_second_at_any_rate(library, painter) -> None:
    scores = [motion_of(library.video(f"{fps}.mp4", painter.moving(5, 2.5, fps), fps)) for fps in (24, 30)]
    assert scores[0] == pytest.approx(scores[1], rel=0.15)


def test_text_is_found_and_shapes_are_not() -> None:
    meter = text_meter()
    shapes = [meter.coverage(scene(seed), 0.01) for seed in range(40)]
    assert max(shapes) <= 0.01
    for seed in range(12):
        image = scene(seed).copy()
        rng = np.random.default_rng(seed)
        if seed % 3 == 0:
            cv2.putText(image, "watch this now", (60, 430), 0, 1.3, (255, 255, 255), 3, cv2.LINE_AA)
        elif seed % 3 == 1:
            for line in range(8):
                cv2.putText(image, "lorem ipsum dolor sit amet", (20, 55 + 55 * line), 2, 1.0, (0, 0, 0), 2)
        else:
            cv2.putText(image, str(rng.choice(["PREVIEW", "SAMPLE"])), (40, 280), 0, 4, (250, 250, 250), 10)
        assert meter.coverage(jpeg(image, 85), 0.01) > 0.02, seed


def test_text_coverage_is_an_area() -> None:
    image = np.full((480, 854, 3), 120, np.uint8)
    cv2.putText(image, "HELLO", (200, 280), 0, 4, (255, 255, 255), 10, cv2.LINE_AA)
    (width, height), _ = cv2.getTextSize("HELLO", 0, 4, 10)
    assert text_meter().coverage(image, 0.01) == pytest.approx(width * height / image[..., 0].size, rel=0.5)
    assert text_meter().coverage(np.full((480, 854, 3), 120, np.uint8), 0.01) == 0


def test_sharpness_exposure_and_heuristic(painter) -> None:
    sharp = cv2.cvtColor(scene(3), cv2.COLOR_RGB2GRAY)
    soft = cv2.GaussianBlur(sharp, (0, 0), 6)
    assert picture.sharpness(sharp) > 5 * picture.sharpness(soft)
    assert picture.exposure(np.full((9, 9), 128, np.uint8)) == 1 and picture.exposure(np.zeros((9, 9), np.uint8)) == 0
    assert picture.heuristic(1e6, 1.0) == 10 and picture.heuristic(0, 0) == 0
    assert picture.heuristic(100, 1) > picture.heuristic(10, 1) > picture.heuristic(10, 0.5)
