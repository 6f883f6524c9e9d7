"""Plain shapes before plain grounds: pictures and clips that differ in the shape alone, and copies of them.

What tells a star from a circle of the same colour, size and place is an outline: little of the picture, and all of its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from benchmarks.measuring import footage
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import Scene, sample_scene
from goku_core.scenes.vocabulary import MOTION_TASKS, SHAPES, TASKS

HEIGHT, WIDTH = 480, 864
KINDS = ("re-encoded", "scaled to 1.25")
Found = tuple[tuple[int, int], str, list[np.ndarray]]  # scene and take, kind, frames (`footage.FPS` a second, or one)


def pictures(count: int) -> Iterator[Found]:
    """Of each scene the original, its copies, and take 1: the same with other shapes."""
    for number, take, scene in _scenes(count, [task for task in TASKS if task not in MOTION_TASKS]):
        image = draw(scene, HEIGHT, WIDTH)
        yield (number, take), "original", [image]
        if take == 0:
            larger = cv2.resize(image, None, fx=1.25, fy=1.25, interpolation=cv2.INTER_CUBIC)
            yield from (((number, 0), kind, [_jpeg(one)]) for kind, one in zip(KINDS, (image, larger), strict=True))


def clips(count: int, seconds: float = 2.5) -> Iterator[Found]:
    """The same in motion."""
    for number, take, scene in _scenes(count, MOTION_TASKS):
        frames = [
            draw(scene, HEIGHT // 2, WIDTH // 2, time=k / footage.FPS) for k in range(round(seconds * footage.FPS))
        ]
        yield (number, take), "original", frames
        if take == 0:
            made = footage.recoded(frames, 28), footage.recoded(footage.scaled(frames, 1.25), 28)
            yield from (((number, 0), kind, copy) for kind, copy in zip(KINDS, made, strict=True))


def _scenes(count: int, tasks: tuple[str, ...] | list[str]) -> Iterator[tuple[int, int, Scene]]:
    """Scenes of which none is by chance what another is."""
    rng = np.random.default_rng([21, len(tasks)])
    seen: set[tuple] = set()
    number = 0
    while number < count:
        first = sample_scene(rng, tasks[number % len(tasks)])
        other = replace(first, things=tuple(replace(t, shape=_next(t.shape)) for t in first.things))
        names = {_composition(first), _composition(other)}
        if not names & seen:
            seen |= names
            yield number, 0, first
            yield number, 1, other
            number += 1


def _next(shape: str) -> str:
    return SHAPES[(SHAPES.index(shape) + 1) % len(SHAPES)]


def _composition(scene: Scene) -> tuple:
    things = sorted((t.shape, t.color, round(4 * t.x), round(4 * t.y)) for t in scene.things)
    return scene.motion.kind, *things


def _jpeg(image: np.ndarray, quality: int = 70) -> np.ndarray:
    data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])
