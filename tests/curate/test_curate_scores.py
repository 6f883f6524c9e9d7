"""Every score separates what it is there to separate."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from goku_core.curate.scores import picture
from goku_core.curate.scores.motion import MotionMeter
from goku_core.curate.scores.shots import ShotFinder
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
    marked = ((frame, index == 0) for index, frame in enumerate(decode.frames(path)))
    (span,) = recorder.record(marked)
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
    assert meter.measure(first, second) == before  # one pair leaves nothing behind for the next
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


def starts(path) -> list[int]:
    finder = ShotFinder(probe(path).fps, 3.0, 10.0, 0.5)
    return [index for index, (_, begins) in enumerate(finder.mark(decode.frames(path))) if begins]


def test_shots_are_found_to_the_frame(library, painter) -> None:
    film = library.video("film.mp4", painter.film([11, 12, 13, 14], 1.5))
    assert starts(film) == [0, 36, 72, 108]
    assert starts(library.video("shaking.mp4", painter.shaking(3, 2.0))) == [0]
    assert starts(library.video("static.mp4", painter.static(4, 2.0))) == [0]


def test_a_cut_just_before_the_end_is_found(library, painter) -> None:
    frames = [*painter.moving(21, 2.0), *list(painter.moving(22, 1.0))[:2]]
    assert starts(library.video("late.mp4", frames)) == [0, 48]


def test_long_shots_are_divided_without_loss(library, painter) -> None:
    ground = painter.ground(31)
    small = (cv2.resize(painter.disc(ground, 0.3 + 0.0005 * k, 31), (160, 120)) for k in range(24 * 11))
    path = library.video("long.mp4", small)
    info = probe(path)
    for longest, shortest, expected in ((10, 2, 2), (4, 2, 3), (5, 1, 3), (12, 2, 1)):
        recorder = SpanRecorder(info.time_base, info.fps, longest, shortest)
        marked = ((frame, index == 0) for index, frame in enumerate(decode.frames(path)))
        spans = list(recorder.record(marked))
        ticks = [(span.start, span.end) for span in spans]
        assert len(ticks) == expected, ticks
        assert all(ticks[k][1] == ticks[k + 1][0] for k in range(len(ticks) - 1))
        assert ticks[0][0] == 0 and ticks[-1][1] * info.time_base == Fraction(11)
        lengths = [float((end - start) * info.time_base) for start, end in ticks]
        assert all(shortest <= length <= longest + 1 / 24 for length in lengths)
        assert all(span.samples and span.motion is not None for span in spans)
