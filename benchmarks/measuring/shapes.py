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
TRIES = 200  # draws after which a task counts as having no new scene
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
    """Up to so many scenes of which none is by chance what another is; the tasks in turn, each as long as it has new ones."""
    rng = np.random.default_rng([21, len(tasks)])
    seen: set[tuple] = set()
    left, number = list(tasks), 0
    while number < count:
        task = left[number % len(left)]
        pair = next((pair for pair in (_pair(rng, task) for _ in range(TRIES)) if not _names(pair) & seen), None)
        if pair is None:  # a single thing in the middle has few looks
            left.remove(task)
            if not left:
                return
            continue
        seen |= _names(pair)
        yield from ((number, take, scene) for take, scene in enumerate(pair))
        number += 1


def _pair(rng: np.random.Generator, task: str) -> tuple[Scene, Scene]:
    """A scene, and the same with other shapes."""
    first = sample_scene(rng, task)
    return first, replace(first, things=tuple(replace(t, shape=_next(t.shape)) for t in first.things))


def _names(scenes: tuple[Scene, ...]) -> set[tuple]:
    return {_composition(scene) for scene in scenes}


def _next(shape: str) -> str:
    return SHAPES[(SHAPES.index(shape) + 1) % len(SHAPES)]


def _composition(scene: Scene) -> tuple:
    things = sorted((t.shape, t.color, round(4 * t.x), round(4 * t.y)) for t in scene.things)
    return scene.motion.kind, *things


def _jpeg(image: np.ndarray, quality: int = 70) -> np.ndarray:
    data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])
