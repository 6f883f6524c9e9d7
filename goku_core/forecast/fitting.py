"""Does a phase fit a GPU, and if not, what is the least to change so that it does?"""

from __future__ import annotations

from collections.abc import Callable

from goku_core.forecast.arrangement import Arrangement, alternatives
from goku_core.forecast.memory import GIB, Memory, room

Needs = Callable[[Arrangement], Memory]
Seconds = Callable[[Arrangement], float]


def obstacle(needs: Memory, gigabytes: float) -> str | None:
    """Why it does not fit; None where it does."""
    free = room(gigabytes)
    if needs.total <= free:
        return None
    parts = sorted(needs.gigabytes().items(), key=lambda part: -part[1])
    largest = ", ".join(f"{name} {value:.1f}" for name, value in parts if name != "total" and value >= 0.5)
    return f"needs {needs.total / GIB:.1f} GiB of a GPU, {free / GIB:.1f} are free ({largest})"


def nearest(given: Arrangement, longest: int, needs: Needs, seconds: Seconds, gigabytes: float) -> Arrangement | None:
    """Of the arrangements that fit with the fewest changes the quickest; None where none fits on so many GPUs."""
    whole = [one for one in alternatives(given, longest) if one.pack_tokens is None or one.pack_tokens >= longest]
    fitting = [one for one in whole if needs(one).total <= room(gigabytes)]
    if not fitting:
        return None
    fewest = len(fitting[0].differences(given))
    return min((one for one in fitting if len(one.differences(given)) == fewest), key=seconds)
