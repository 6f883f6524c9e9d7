"""Shots: cuts to the frame, fades and dissolves trimmed, flashes and shaking left alone, at any frame times."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.measuring.films import TICKS, Film, Scene
from goku_core.curate.refine import Appearance, Refiner, features_of
from goku_core.curate.request import Refine, Request
from goku_core.curate.scores.looks import Boundary
from goku_core.curate.spans import Span, SpanRecorder
from goku_core.curate.survey import spans
from goku_core.media import decode
from goku_core.media.probe import probe
from goku_core.pipeline.errors import GokuError


def spans_of(path: Path, request: Request | None = None) -> list[Span]:
    info = probe(path)
    return list(spans(decode.frames(path), info, info.time_base, request or Request()))


def frame_starts(path: Path) -> list[int]:
    """Numbers of the frames with which spans begin."""
    numbers = {frame.pts: index for index, frame in enumerate(decode.frames(path))}
    return [numbers[span.start] for span in spans_of(path)]


def test_shots_are_found_to_the_frame(library, painter) -> None:
    film = library.video("film.mp4", painter.film([11, 12, 13, 14], 1.5))
    assert frame_starts(film) == [0, 36, 72, 108]
    assert frame_starts(library.video("shaking.mp4", painter.shaking(3, 2.0))) == [0]
    assert frame_starts(library.video("static.mp4", painter.static(4, 2.0))) == [0]


def test_a_cut_just_before_the_end_is_found(library, painter) -> None:
    frames = [*painter.moving(21, 2.0), *list(painter.moving(22, 1.0))[:2]]
    assert frame_starts(library.video("late.mp4", frames)) == [0, 48]


@pytest.mark.parametrize("kind", ["fade-black", "fade-white", "dissolve"])
def test_frames_of_transitions_are_in_no_clip(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "film.mp4"
    (truth,) = Film(kind, 3, 2, 144, 256).write(path)
    first, transition, second = spans_of(path)
    assert (first.transition, transition.transition, second.transition) == (None, kind.partition("-")[0], None)
    assert first.end == transition.start and transition.end == second.start
    frame = TICKS // 24
    # Up to two faint frames at either side: of a fade's first frame 96 % are still the shot's.
    assert truth.start - 4 * frame <= transition.start <= truth.start + 2 * frame
    assert truth.end - 2 * frame <= transition.end <= truth.end + 8 * frame


def test_flashes_are_no_cuts(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    truths = Film("flash", 5, 2, 144, 256).write(path)
    assert [span.start for span in spans_of(path)] == [0, truths[0].start]


def test_every_clip_ends_with_a_frame_of_its_own_shot_at_varying_rates(tmp_path: Path) -> None:
    """The bug that users of shot detectors met for years: times by frame numbers drift, a frame of the next shot leaks."""
    path = tmp_path / "film.mp4"
    film = Film("vfr", 7, 3, 144, 256)
    truths = film.write(path)
    times = [frame.pts for frame in decode.frames(path)]
    assert len({b - a for a, b in pairwise(times)}) > 2, "the film varies its rate"
    found = spans_of(path)
    assert [span.start for span in found] == [0, *(truth.start for truth in truths)]
    for span, truth in zip(found, truths, strict=False):
        last = max(pts for pts in times if pts < span.end)
        assert last < truth.start == span.end, "the last frame lies before the cut, and no frame between them is lost"


def test_an_hour_of_black_is_not_waited_for(library, painter) -> None:
    """Memory: black goes out in parts, and what was measured on it is let go."""
    dark = np.zeros((96, 160, 3), np.uint8)
    small = [cv2.resize(frame, (160, 96)) for frame in painter.moving(23, 2.0)]
    path = library.video("dark.mp4", [*small, *[dark] * (24 * 12), *small])
    found = spans_of(path)
    assert found[0].transition is None and found[-1].transition is None and len(found) >= 4
    assert all(span.transition == "fade" and len(span.samples) <= 1 for span in found[1:-1])
    assert all((span.end - span.start) * probe(path).time_base < 6 for span in found[1:-1])
    assert all(one.end == two.start for one, two in pairwise(found))


def recorded(path: Path, longest: float, shortest: float, boundaries: list[Boundary]) -> list[Span]:
    info = probe(path)
    recorder = SpanRecorder(info.time_base, info.fps, longest, shortest)
    waiting, found = list(boundaries), []
    for frame in decode.frames(path):
        recorder.add(frame)
        known = frame.pts - round(3 / info.time_base)  # boundaries are known three seconds late
        while waiting and waiting[0].end <= known:
            found += recorder.cut(waiting.pop(0))
        found += recorder.settle(known)
    for boundary in waiting:
        found += recorder.cut(boundary)
    return [*found, *recorder.finish()]


def test_long_shots_are_divided_without_loss(library, painter) -> None:
    ground = painter.ground(31)
    small = (cv2.resize(painter.disc(ground, 0.3 + 0.0005 * k, 31), (160, 120)) for k in range(24 * 11))
    path = library.video("long.mp4", small)
    time_base = probe(path).time_base
    for longest, shortest, expected in ((10, 2, 2), (4, 2, 3), (5, 1, 3), (12, 2, 1)):
        found = recorded(path, longest, shortest, [])
        ticks = [(span.start, span.end) for span in found]
        assert len(ticks) == expected, ticks
        assert all(ticks[k][1] == ticks[k + 1][0] for k in range(len(ticks) - 1))
        assert ticks[0][0] == 0 and ticks[-1][1] * time_base == Fraction(11)
        lengths = [float((end - start) * time_base) for start, end in ticks]
        assert all(shortest <= length <= longest + 1 / 24 for length in lengths)
        assert all(span.samples and span.motion is not None for span in found)


def test_a_boundary_that_comes_late_takes_its_frames_out(library, painter) -> None:
    path = library.video("long.mp4", (cv2.resize(f, (160, 120)) for f in painter.moving(32, 9.0)))
    second = round(1 / probe(path).time_base)
    found = recorded(path, 10, 2, [Boundary("dissolve", 3 * second, 4 * second, 3 * second)])
    assert [(s.start // second, s.end // second, s.transition) for s in found] == [
        (0, 3, None),
        (3, 4, "dissolve"),
        (4, 9, None),
    ]
    assert all(span.start <= sample.pts < span.end for span in found for sample in span.samples)


def test_refinement_cuts_at_the_largest_change(library, painter) -> None:
    """Two pictures that creep into one another: features see it, the cut lies where most changed."""

    class Sides:
        def embed(self, frames):
            return np.stack([np.eye(2, dtype=np.float32)[int(frame[0, 0, 0] > 128)] for frame in frames])

    def look(bright: range) -> tuple[list, set, list]:
        images = [np.full((96, 160, 3), 190 if k in bright else 40, np.uint8) for k in range(120)]
        frames = list(decode.frames(library.video(f"{bright.start}-{bright.stop}.mp4", images)))
        changes = [(frame.pts, float(index == bright.start)) for index, frame in enumerate(frames)]
        return frames[::12], {frame.pts for frame in frames[::24]}, changes

    samples, seconds, changes = look(range(61, 120))
    assert Refiner(Sides(), 0.85).cuts(samples, seconds, changes) == [changes[61][0]]
    assert Refiner(Sides(), -1.0).cuts(samples, seconds, changes) == []
    for flash in (range(71, 74), range(95, 97)):  # on a compared second, one of them the last
        assert Refiner(Sides(), 0.85).cuts(*look(flash)) == []


def test_the_embedded_features_follow_a_camera_and_tell_places_apart() -> None:
    features, least = Appearance(), Refine().embedded_min
    places = [Scene(np.random.default_rng(seed), 144, 256, "motion") for seed in range(6)]
    rows = [features.embed([place.at(float(second)) for second in range(3)]) for place in places]
    assert all(one.dtype == np.float32 and np.linalg.norm(one, axis=1) == pytest.approx(1, abs=1e-5) for one in rows)
    assert min(float(one[k] @ one[k + 1]) for one in rows for k in range(2)) > least + 0.1
    apart = [float(one[0] @ two[0]) < least for one, two in pairwise(rows)]
    assert sum(apart) >= 3, "colours alone tell at least half of the places apart"


def test_missing_weights_are_named() -> None:
    with pytest.raises(GokuError, match=r"no folder .*nowhere.*docs/weights.md"):
        features_of(Refine(kind="dinov2", weights="nowhere"))
    with pytest.raises(ValueError, match="names no folder"):
        Refine(kind="dinov2")
    assert features_of(Refine(kind="none")) is None
    refine = Refine(kind="dinov2", weights="x")
    assert (refine.least(480), refine.least(720), refine.least(1080)) == (0.85, 0.90, 0.90)  # paper Table 4
