"""How people would describe a scene: training captions, and evaluation prompts with GenEval's metadata.

About 70 % of the captions use the canonical phrasing, which is GenEval's own ("a red circle left of a blue
square"), with or without its "a photo of"; the rest says the same in other words. All lower case, some sixty words.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from goku_core.scenes.scene import Scene, Thing
from goku_core.scenes.vocabulary import (
    COLORS,
    DIRECTIONS,
    GENEVAL_TASKS,
    NUMBERS,
    OPPOSITE,
    RELATIONS,
    SHAPES,
    ZOOMS,
    phrase,
)

CANONICAL_SHARE = 0.7
PHOTO_SHARE = 0.15  # of the canonical ones: with "a photo of"
# Captions that name colours, where the task leaves it open. GenEval's prompts for one and two objects name none, and only
# captions without colours teach that any colour will do.
COLORED_SHARE = {"single_object": 0.5, "two_object": 0.4, "position": 0.9}
COLORED_SHARE_ELSEWHERE = 0.75
PHOTO = "a photo of "


def prompt(scene: Scene, colored: bool = True) -> str:
    """The canonical description, without "a photo of". ``colored=False`` leaves the colours out."""
    text = _canonical(scene, colored)
    if scene.motion.kind in DIRECTIONS:
        return f"{text} moving {scene.motion.kind}"
    if scene.motion.kind in ZOOMS:
        return f"{text}, zoom {scene.motion.kind}"
    return text


def caption(rng: np.random.Generator, scene: Scene) -> str:
    """One training caption, drawn: canonical with CANONICAL_SHARE, else one of `other_phrasings`.

    Colours are always named where the task is about them ("colors", "color_attr"), most often elsewhere.
    """
    share = COLORED_SHARE.get(scene.task, COLORED_SHARE_ELSEWHERE)
    colored = scene.task in ("colors", "color_attr") or bool(rng.uniform() < share)
    if rng.uniform() < CANONICAL_SHARE:
        return (PHOTO if rng.uniform() < PHOTO_SHARE else "") + prompt(scene, colored)
    others = other_phrasings(scene, colored)
    return others[rng.integers(len(others))]


def other_phrasings(scene: Scene, colored: bool = True) -> list[str]:
    """Descriptions that say the same as `prompt` in other words."""
    names = [_name(thing, colored) for thing in scene.things]
    if scene.task == "counting":
        texts = _counting_phrasings(scene, colored)
    elif scene.relation is not None:
        texts = _relation_phrasings(names[0], names[1], scene.relation)
    elif len(names) == 2:
        texts = [
            f"{names[1]} and {names[0]}",
            f"{names[0]} with {names[1]}",
            f"there is {names[0]} and {names[1]}",
        ]
    else:
        texts = [
            f"there is {names[0]}",
            f"a picture of {names[0]}",
            f"{names[0]} on a {_ground_words(scene)}",
        ]
    kind = scene.motion.kind
    if kind in DIRECTIONS:
        where = {"left": "to the left", "right": "to the right", "up": "upwards", "down": "downwards"}[kind]
        verb = "move" if len(names) > 1 else "moves"
        return [f"{texts[-1]} moving {kind}", f"{' and '.join(names)} {verb} {where}"]
    if kind in ZOOMS:
        return [f"zoom {kind} on {names[0]}", f"the camera zooms {kind} on {names[0]}"]
    return texts


def metadata(scene: Scene, colored: bool | None = None) -> dict[str, object]:
    """The scene in GenEval's metadata format: tag, prompt, include (class, count, color, position), exclude.

    The prompt of GenEval's tasks carries its "a photo of". ``colored`` is fixed by the task for single_object and
    two_object (no), colors and color_attr (yes); elsewhere yes unless told. Scenes that move add "motion".
    """
    if scene.task in ("single_object", "two_object"):
        colored = False
    elif scene.task in ("colors", "color_attr") or colored is None:
        colored = True
    text = prompt(scene, colored)
    if scene.task in GENEVAL_TASKS:
        text = PHOTO + text
    entry: dict[str, object] = {"tag": scene.task, "prompt": text}
    things = scene.things
    if scene.task == "counting":
        entry["include"] = [_clause(things[0], colored, len(things))]
        entry["exclude"] = [{"class": things[0].shape, "count": len(things) + 1}]
    elif scene.relation is not None:
        # GenEval lists the reference first; "position" points to it by its place in the list.
        placed = _clause(things[0], colored) | {"position": [scene.relation, 0]}
        entry["include"] = [_clause(things[1], colored), placed]
    else:
        entry["include"] = [_clause(thing, colored) for thing in things]
    if scene.motion.kind != "none":
        entry["motion"] = scene.motion.kind
    return entry


def benchmark_prompts(task: str) -> list[dict[str, object]]:
    """Every prompt of one GenEval task that the vocabulary allows, in a fixed order, as GenEval metadata.

    Sizes: single_object 4, two_object 12, counting 84 (12 without a colour), colors 24, position 1440,
    color_attr 360. The caller draws from them. Position prompts name colours ("a red circle left of a blue star").
    """
    if task not in GENEVAL_TASKS:
        raise ValueError(f"task '{task}' is not one of {', '.join(GENEVAL_TASKS)}")
    return _ENUMERATIONS[task]()


def motion_prompts() -> list[dict[str, object]]:
    """Every "a COLOR SHAPE moving DIRECTION" (96) and "a COLOR SHAPE, zoom WAY" (48), in a fixed order."""
    entries: list[dict[str, object]] = []
    for shape in SHAPES:
        for color in COLORS:
            include = [{"class": shape, "count": 1, "color": color}]
            for kind in DIRECTIONS:
                text = f"{phrase(shape, color)} moving {kind}"
                entries.append({"tag": "motion", "prompt": text, "include": include, "motion": kind})
            for kind in ZOOMS:
                text = f"{phrase(shape, color)}, zoom {kind}"
                entries.append({"tag": "zoom", "prompt": text, "include": include, "motion": kind})
    return entries


def _name(thing: Thing, colored: bool) -> str:
    return phrase(thing.shape, thing.color if colored else None)


def _canonical(scene: Scene, colored: bool) -> str:
    first = scene.things[0]
    if scene.task == "counting":
        return phrase(first.shape, first.color if colored else None, len(scene.things))
    names = [_name(thing, colored) for thing in scene.things]
    if scene.relation is not None:
        return f"{names[0]} {scene.relation} {names[1]}"
    return " and ".join(names)


def _counting_phrasings(scene: Scene, colored: bool) -> list[str]:
    first, number = scene.things[0], len(scene.things)
    many = phrase(first.shape, first.color if colored else None, number)
    return [f"there are {many}", f"a picture of {many}", f"exactly {many}"]


def _relation_phrasings(first: str, second: str, relation: str) -> list[str]:
    swapped = f"{second} {OPPOSITE[relation]} {first}"
    if relation in ("above", "below"):
        high, low = (first, second) if relation == "above" else (second, first)
        return [swapped, f"{high} at the top and {low} at the bottom"]
    left, right = (first, second) if relation == "left of" else (second, first)
    side = relation.removesuffix(" of")
    return [swapped, f"{left} on the left and {right} on the right", f"{first} to the {side} of {second}"]


def _ground_words(scene: Scene) -> str:
    return {"plain": "plain ground", "stripes": "striped ground", "blotches": "cloudy ground"}.get(
        scene.background.kind, "soft ground"
    )


def _clause(thing: Thing, colored: bool, count: int = 1) -> dict[str, object]:
    clause: dict[str, object] = {"class": thing.shape, "count": count}
    if colored:
        clause["color"] = thing.color
    return clause


def _single() -> list[dict[str, object]]:
    return [_entry("single_object", phrase(s), [{"class": s, "count": 1}]) for s in SHAPES]


def _two() -> list[dict[str, object]]:
    return [
        _entry("two_object", f"{phrase(a)} and {phrase(b)}", [{"class": s, "count": 1} for s in (a, b)])
        for a, b in permutations(SHAPES, 2)
    ]


def _counting() -> list[dict[str, object]]:
    entries = []
    for number in [n for n in NUMBERS if n > 1]:
        for shape in SHAPES:
            for color in (None, *COLORS):
                clause: dict[str, object] = {"class": shape, "count": number}
                if color is not None:
                    clause["color"] = color
                entry = _entry("counting", phrase(shape, color, number), [clause])
                entries.append(entry | {"exclude": [{"class": shape, "count": number + 1}]})
    return entries


def _colors() -> list[dict[str, object]]:
    return [_entry("colors", phrase(s, c), [{"class": s, "count": 1, "color": c}]) for s in SHAPES for c in COLORS]


def _pairs() -> list[tuple[str, str, str, str]]:
    return [(a, c, b, d) for a, b in permutations(SHAPES, 2) for c, d in permutations(COLORS, 2)]


def _position() -> list[dict[str, object]]:
    return [
        _entry(
            "position",
            f"{phrase(a, c)} {relation} {phrase(b, d)}",
            [
                {"class": b, "count": 1, "color": d},
                {"class": a, "count": 1, "color": c, "position": [relation, 0]},
            ],
        )
        for a, c, b, d in _pairs()
        for relation in RELATIONS
    ]


def _color_attr() -> list[dict[str, object]]:
    return [
        _entry(
            "color_attr",
            f"{phrase(a, c)} and {phrase(b, d)}",
            [{"class": a, "count": 1, "color": c}, {"class": b, "count": 1, "color": d}],
        )
        for a, c, b, d in _pairs()
    ]


def _entry(task: str, text: str, include: list[dict[str, object]]) -> dict[str, object]:
    return {"tag": task, "prompt": PHOTO + text, "include": include}


_ENUMERATIONS = {
    "single_object": _single,
    "two_object": _two,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "color_attr": _color_attr,
}
