"""Where pretrained weights come from: every network that needs some declares a `Source`, and `docs/weights.md` lists them all.

Nothing is downloaded unless it is asked for. The licence is said once per process, when weights are first used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.progress import console


@dataclass(frozen=True)
class Source:
    """Weights of one network.

    name     "dino-vitb16": how messages and records call them
    place    file or folder below the folder of weights
    get      the command that fetches them to that place
    licence  of the weights, as their publisher states it; "non-commercial" is in it where that is so
    sha256   of the file as published; "" where it is not known here
    """

    name: str
    place: str
    get: str
    licence: str
    sha256: str = ""


_said: set[str] = set()


def lacks(source: Source, weights: Path) -> str:
    """Why the source cannot be used, in one line; "" when it is there."""
    if (weights / source.place).exists():
        return ""
    return f"{weights / source.place} ({source.name}, {source.licence}); get it: {source.get}"


def obtain(source: Source, weights: Path) -> Path:
    """The path of the weights. Raises GokuError saying how to get them. Says the licence at the first use."""
    if missing := lacks(source, weights):
        raise GokuError(f"weights are missing: {missing}. See docs/weights.md")
    if source.name not in _said:
        _said.add(source.name)
        console().print(f"weights {source.name}: {source.licence}", style="dim")
    return weights / source.place
