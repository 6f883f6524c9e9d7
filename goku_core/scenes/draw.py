"""Draws a scene: anti-aliased shapes on a soft ground. About 1 ms for 480x854 on one core."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from goku_core.scenes.scene import Background, Scene, Thing
from goku_core.scenes.vocabulary import COLORS, ZOOMS

SHIFT = 4  # fractional bits of OpenCV's coordinates: corners are exact to a sixteenth of a pixel
STAR_INNER = 0.48  # inner over outer radius; a regular pentagram has 0.38, a fuller star survives small pictures
# Circumscribed radius over half the size, so that width and height stay within the size.
RADIUS = {"circle": 0.92, "square": 1.19, "triangle": 1.13, "star": 1.05}
GROUND_ROOM = 1.7  # a zooming camera sees parts of the ground this much larger than the picture


def draw(scene: Scene, height: int, width: int, time: float = 0.0) -> np.ndarray:
    """The scene after ``time`` seconds as uint8 (height, width, 3) RGB."""
    picture = _ground_at(scene, height, width, time)
    for thing in scene.things_at(time):
        _draw_thing(picture, thing)
    return picture


def outline(thing: Thing, height: int, width: int) -> np.ndarray:
    """Corners of a thing in pixels, float64 (n, 2) as (x, y); of a circle its four extreme points.

    Every shape fits a square of side ``thing.size`` around (x, y); within it their areas are made alike.
    """
    radius = thing.size * height / 2 * RADIUS[thing.shape]
    centre = np.array([thing.x * width - 0.5, thing.y * height - 0.5])
    if thing.shape == "square":
        angles, radii = np.array([45, 135, 225, 315]), np.full(4, radius)
    elif thing.shape == "triangle":
        angles, radii = np.array([-90, 30, 150]), np.full(3, radius)
    elif thing.shape == "star":
        angles = -90 + 36 * np.arange(10)
        radii = np.where(np.arange(10) % 2 == 0, radius, radius * STAR_INNER)
    else:
        angles, radii = np.array([0, 90, 180, 270]), np.full(4, radius)
    corners = np.radians(angles)
    points = centre + radii[:, None] * np.stack([np.cos(corners), np.sin(corners)], 1)
    if thing.shape == "triangle":
        points[:, 1] += radius * 0.25  # the box around it, not the centroid, sits on (x, y)
    elif thing.shape == "star":
        points[:, 1] += radius * 0.0955
    return points


def _draw_thing(picture: np.ndarray, thing: Thing) -> None:
    height, width = picture.shape[:2]
    color = COLORS[thing.color]
    scale = 1 << SHIFT
    if thing.shape == "circle":
        centre = (round((thing.x * width - 0.5) * scale), round((thing.y * height - 0.5) * scale))
        radius = round(thing.size * height / 2 * RADIUS["circle"] * scale)
        cv2.circle(picture, centre, radius, color, -1, cv2.LINE_AA, SHIFT)
        return
    points = np.round(outline(thing, height, width) * scale).astype(np.int32)
    cv2.fillPoly(picture, [points], color, cv2.LINE_AA, SHIFT)


def _ground_at(scene: Scene, height: int, width: int, time: float) -> np.ndarray:
    if scene.motion.kind not in ZOOMS:
        return _ground(scene.background, height, width).copy()
    # The camera zooms: the ground moves with the things. It is drawn once, larger than any part that is seen.
    large_height, large_width = math.ceil(height * GROUND_ROOM), math.ceil(width * GROUND_ROOM)
    large = _ground(scene.background, large_height, large_width)
    scale = scene.scale_at(time)
    shift_x = (width - 1) / 2 - scale * (large_width - 1) / 2
    shift_y = (height - 1) / 2 - scale * (large_height - 1) / 2
    matrix = np.array([[scale, 0, shift_x], [0, scale, shift_y]])
    return cv2.warpAffine(large, matrix, (width, height), flags=cv2.INTER_LINEAR)


@lru_cache(maxsize=8)
def _ground(ground: Background, height: int, width: int) -> np.ndarray:
    """The pattern as a mix of the ground's two colours; at most about three periods per picture."""
    if ground.kind == "plain":
        picture = np.full((height, width, 3), ground.first, np.uint8)
    else:
        # The mix is smooth: a quarter of the resolution is enough, and 256 steps of it are finer than the colours'.
        mix = cv2.resize(_mix(ground, height // 4, width // 4), (width, height), interpolation=cv2.INTER_LINEAR)
        steps = cv2.convertScaleAbs(mix, alpha=255.0)
        first, second = (np.array(c, np.float32) for c in (ground.first, ground.second))
        table = first + np.linspace(0, 1, 256, dtype=np.float32)[:, None] * (second - first)
        table = np.round(table).astype(np.uint8)
        picture = cv2.LUT(cv2.merge([steps] * 3), table[:, None, :])
    picture.setflags(write=False)
    return picture


def _mix(ground: Background, height: int, width: int) -> np.ndarray:
    """How much of the second colour, 0..1, float32 (height, width)."""
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    if ground.kind == "vertical":
        return np.repeat(y, width, axis=1)
    if ground.kind == "horizontal":
        return np.repeat(x, height, axis=0)
    if ground.kind == "stripes":
        along = 2.5 * x + (1.5 if ground.seed % 2 else -1.5) * y
        return 0.5 + 0.5 * np.sin(2 * np.pi * (along + ground.phase), dtype=np.float32)
    coarse = np.random.default_rng(ground.seed).uniform(0, 1, (4, 6)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
