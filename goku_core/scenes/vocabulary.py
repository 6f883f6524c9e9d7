"""The words of the procedural world."""

from __future__ import annotations

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star")

# Saturated, hues about 0, 29, 53, 129, 227 and 282 degrees: far enough apart that colour survives the VAE.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (216, 36, 36),
    "orange": (250, 130, 14),
    "yellow": (246, 222, 30),
    "green": (32, 164, 52),
    "blue": (36, 76, 220),
    "purple": (152, 48, 196),
}

NUMBERS: dict[int, str] = {1: "one", 2: "two", 3: "three", 4: "four"}

# GenEval's names, paper arXiv:2310.11513.
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
OPPOSITE: dict[str, str] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

DIRECTIONS: tuple[str, ...] = ("left", "right", "up", "down")
ZOOMS: tuple[str, ...] = ("in", "out")

GENEVAL_TASKS: tuple[str, ...] = (
    "single_object",
    "two_object",
    "counting",
    "colors",
    "position",
    "color_attr",
)
MOTION_TASKS: tuple[str, ...] = ("motion", "zoom")
TASKS: tuple[str, ...] = GENEVAL_TASKS + MOTION_TASKS


def plural(shape: str) -> str:
    """All shape names form their plural with an s."""
    return shape + "s"


def phrase(shape: str, color: str | None = None, number: int = 1) -> str:
    """``a red circle``, ``an orange star``, ``three green stars``, ``a circle``."""
    words = shape if color is None else f"{color} {shape}"
    if number == 1:
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
    return f"{NUMBERS[number]} {plural(words)}"
