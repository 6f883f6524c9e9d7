"""What a scene holds and how scenes are sampled.

Units: x is a fraction of the picture's width, y and size are fractions of its height; size is the side of the
square that encloses the thing. Layouts are made for 16:9, the aspect of every training resolution of the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from goku_core.scenes.vocabulary import COLORS, DIRECTIONS, RELATIONS, SHAPES, TASKS, ZOOMS

ASPECT = 16 / 9
MARGIN = 0.05  # free border, in heights
GAP = 0.08  # least free space between two things, in heights
BACKGROUNDS = ("plain", "vertical", "horizontal", "stripes", "blotches")
BACKGROUND_WEIGHTS = {"plain": 0.5, "vertical": 0.18, "horizontal": 0.18, "stripes": 0.07, "blotches": 0.07}
CONTRAST_LEVELS = 14  # least difference of luma between a thing and its ground
GROUND_TRIES = 60
CUT_LEVELS = 45  # least difference of grey level between the grounds of neighbouring shots
ZOOM_FACTOR = 1.6  # change of size over a whole shot


@dataclass(frozen=True)
class Thing:
    """One coloured shape; x in widths, y and size (side of the enclosing square) in heights."""

    shape: str
    color: str
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Background:
    """Low-saturation ground of low spatial frequency. ``phase`` 0..1 shifts stripes, ``seed`` picks blotches."""

    kind: str
    first: tuple[int, int, int]
    second: tuple[int, int, int]
    phase: float = 0.0
    seed: int = 0


NEUTRAL = Background("plain", (128, 128, 128), (128, 128, 128))


@dataclass(frozen=True)
class Motion:
    """How the scene changes in time.

    kind   "none", a direction ("left", "right", "up", "down") or a zoom ("in", "out")
    speed  left/right: widths per second; up/down: heights per second; zoom: logarithm of scale per second
    """

    kind: str = "none"
    speed: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Things in the order in which a caption names them. ``relation``: the first thing to the second."""

    task: str
    things: tuple[Thing, ...]
    background: Background = NEUTRAL
    motion: Motion = Motion()
    relation: str | None = None

    def things_at(self, time: float) -> tuple[Thing, ...]:
        """The things after ``time`` seconds of the scene's motion."""
        kind, way = self.motion.kind, self.motion.speed * time
        if kind in ZOOMS:
            scale = self.scale_at(time)
            return tuple(
                replace(t, x=0.5 + (t.x - 0.5) * scale, y=0.5 + (t.y - 0.5) * scale, size=t.size * scale)
                for t in self.things
            )
        dx = {"left": -way, "right": way}.get(kind, 0.0)
        dy = {"up": -way, "down": way}.get(kind, 0.0)
        return tuple(replace(t, x=t.x + dx, y=t.y + dy) for t in self.things)

    def scale_at(self, time: float) -> float:
        """Magnification of the camera after ``time`` seconds; 1 for scenes without zoom."""
        if self.motion.kind not in ZOOMS:
            return 1.0
        sign = 1.0 if self.motion.kind == "in" else -1.0
        return math.exp(sign * self.motion.speed * time)


def sample_background(rng: np.random.Generator, *, textured: bool = False) -> Background:
    """A ground of mid-tone, slightly tinted greys; ``textured`` leaves out the plain ones."""
    weights = np.array([0.0 if textured and kind == "plain" else BACKGROUND_WEIGHTS[kind] for kind in BACKGROUNDS])
    kind = BACKGROUNDS[int(rng.choice(len(BACKGROUNDS), p=weights / weights.sum()))]
    level = float(rng.uniform(62, 184))
    other = float(np.clip(level + rng.choice((-1, 1)) * rng.uniform(16, 34), 56, 192))
    return Background(kind, _tint(rng, level), _tint(rng, other), float(rng.uniform()), int(rng.integers(2**31)))


def sample_scene(
    rng: np.random.Generator,
    task: str,
    *,
    motion: str | None = None,
    seconds: float = 2.5,
    unlike: Background | None = None,
) -> Scene:
    """A scene of one task: one of GenEval's six, or "motion" or "zoom".

    ``motion`` fixes the direction ("left", "right", "up", "down") or the zoom ("in", "out") of the last two
    tasks; their things stay inside the picture for at least ``seconds``. With ``unlike`` the ground differs from that
    one by CUT_LEVELS at least, as the grounds of two shots do.

    Things never have the brightness of their ground: an edge that is one of hue alone is lost to everything that
    looks at luma, optical flow first.
    """
    if task not in TASKS:
        raise ValueError(f"task '{task}' is not one of {', '.join(TASKS)}")
    while True:
        scene = _things_in_motion(rng, task, motion, seconds)
        # Many grounds are tried before other things are: so that every colour stays about as frequent.
        for _ in range(GROUND_TRIES):
            ground = sample_background(rng, textured=task == "zoom")
            apart = unlike is None or abs(_level(ground) - _level(unlike)) >= CUT_LEVELS
            if apart and all(_stands_out(thing, ground) for thing in scene.things):
                return replace(scene, background=ground)


def _things_in_motion(rng: np.random.Generator, task: str, motion: str | None, seconds: float) -> Scene:
    if task in ("single_object", "colors"):
        return Scene(task, (_one_thing(rng),))
    if task in ("two_object", "color_attr"):
        relation = str(rng.choice(("left of", "left of", "left of", "above")))
        return Scene(task, _two_things(rng, relation))
    if task == "position":
        relation = RELATIONS[rng.integers(len(RELATIONS))]
        return Scene(task, _two_things(rng, relation), relation=relation)
    if task == "counting":
        return Scene(task, _same_things(rng, int(rng.integers(2, 5))))
    if task == "motion":
        return _moving(rng, motion or DIRECTIONS[rng.integers(len(DIRECTIONS))], seconds)
    return _zooming(rng, motion or ZOOMS[rng.integers(len(ZOOMS))], seconds)


def _stands_out(thing: Thing, ground: Background) -> bool:
    """Its luma is at least CONTRAST_LEVELS outside the range between the ground's two."""
    lumas = [_luma(ground.first)] if ground.kind == "plain" else [_luma(ground.first), _luma(ground.second)]
    luma = _luma(COLORS[thing.color])
    return not min(lumas) - CONTRAST_LEVELS < luma < max(lumas) + CONTRAST_LEVELS


def _luma(color: tuple[int, int, int]) -> float:
    """BT.601."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def _tint(rng: np.random.Generator, level: float) -> tuple[int, int, int]:
    """A grey of that level with at most 9 levels of tint per channel: saturation stays below about 0.2."""
    shift = rng.uniform(-9, 9, 3)
    red, green, blue = np.clip(level + shift - shift.mean(), 0, 255).round().astype(int).tolist()
    return red, green, blue


def _level(ground: Background) -> float:
    """Mean grey level of a ground."""
    return (sum(ground.first) + (sum(ground.first) if ground.kind == "plain" else sum(ground.second))) / 6


def _two_different(rng: np.random.Generator) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two (shape, colour) pairs that differ in both, as GenEval's two-object prompts do."""
    shapes = rng.permutation(len(SHAPES))[:2]
    colors = rng.permutation(len(COLORS))[:2]
    names = list(COLORS)
    return (SHAPES[shapes[0]], names[colors[0]]), (SHAPES[shapes[1]], names[colors[1]])


def _look(rng: np.random.Generator) -> tuple[str, str]:
    return SHAPES[rng.integers(len(SHAPES))], list(COLORS)[rng.integers(len(COLORS))]


# Where things stand: few places and two sizes, with a little jitter. A network of some million weights, trained for minutes,
# then learns which thing stands where and not a continuum of offsets; what it must still compose is shape, colour and place.
COLUMNS = (0.25, 0.5, 0.75)
ROWS = (0.26, 0.74)
MIDDLE = 0.5
SIZES = (0.40, 0.50)
JITTER = 0.008
ROW_OF_THREE = (0.19, 0.5, 0.81)


def _place(
    rng: np.random.Generator, look: tuple[str, str], x: float, y: float, size: float, jitter: float = JITTER
) -> Thing:
    dx, dy = rng.uniform(-jitter, jitter, 2)
    return Thing(*look, x + dx, y + dy, size)


def _one_thing(rng: np.random.Generator) -> Thing:
    size = SIZES[rng.integers(len(SIZES))]
    return _place(rng, _look(rng), COLUMNS[rng.integers(len(COLUMNS))], MIDDLE, size)


def _two_things(rng: np.random.Generator, relation: str) -> tuple[Thing, Thing]:
    """The first stands in ``relation`` to the second: side by side, or one above the other in one column."""
    looks = _two_different(rng)
    if relation in ("left of", "right of"):
        places, size = [(COLUMNS[0], MIDDLE), (COLUMNS[2], MIDDLE)], SIZES[0]
    else:
        column = COLUMNS[rng.integers(len(COLUMNS))]
        places, size = [(column, ROWS[0]), (column, ROWS[1])], 0.38
    if relation in ("right of", "below"):
        places.reverse()
    first, second = (_place(rng, look, *place, size) for look, place in zip(looks, places, strict=True))
    return first, second


def _same_things(rng: np.random.Generator, number: int) -> tuple[Thing, ...]:
    """``number`` things of one look: two side by side, three in a row, four in a grid."""
    look = _look(rng)
    places = {
        2: [(COLUMNS[0], MIDDLE), (COLUMNS[2], MIDDLE)],
        3: [(x, MIDDLE) for x in ROW_OF_THREE],
        4: [(x, y) for y in ROWS for x in (COLUMNS[0], COLUMNS[2])],
    }[number]
    size = {2: SIZES[0], 3: 0.36, 4: 0.36}[number]
    return tuple(_place(rng, look, x, y, size) for x, y in places)


def _moving(rng: np.random.Generator, direction: str, seconds: float) -> Scene:
    """One thing crossing 34 to 42 % of the picture in two seconds, one way all the time."""
    across = direction in ("left", "right")
    size = SIZES[0] if across else 0.36
    # Share of the axis in which a centre may lie, and how far it gets.
    half = (size / 2 + MARGIN / 2) / (ASPECT if across else 1.0)
    room = 1.0 - 2 * half
    speed = min(float(rng.uniform(0.34, 0.42)) / 2, room / seconds)
    begin = half + float(rng.uniform(0, max(0.0, room - speed * seconds)))
    if direction in ("left", "up"):
        begin = 1.0 - begin
    look = _look(rng)
    if across:
        thing = replace(_place(rng, look, MIDDLE, MIDDLE, size), x=begin)
    else:
        thing = replace(_place(rng, look, COLUMNS[rng.integers(len(COLUMNS))], MIDDLE, size), y=begin)
    return Scene("motion", (thing,), motion=Motion(direction, speed))


def _zooming(rng: np.random.Generator, way: str, seconds: float) -> Scene:
    """The camera's magnification changes by ZOOM_FACTOR over the shot; things stay inside."""
    large = float(rng.uniform(0.56, 0.68))
    small = large / ZOOM_FACTOR
    begin = small if way == "in" else large
    # Offsets of the enlarged picture: they shrink with it, so the bound is taken at the largest.
    reach_x = 0.5 * (0.5 - (large / 2 + MARGIN) / ASPECT)
    reach_y = 0.5 - (large / 2 + MARGIN)
    scale = begin / large
    x = 0.5 + scale * reach_x * float(rng.uniform(-1, 1))
    y = 0.5 + scale * reach_y * float(rng.uniform(-1, 1))
    shape, color = _look(rng)
    speed = math.log(ZOOM_FACTOR) / seconds
    return Scene("zoom", (Thing(shape, color, x, y, begin),), motion=Motion(way, speed))
