"""Alternating repeats: A B, B A, A B, ... so that a machine that slows down slows both sides."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Call = Callable[[], object]


@dataclass
class Timing:
    """Seconds of each repeat; on CUDA also the peak of allocated memory in GiB, weights and inputs included."""

    seconds: list[float] = field(default_factory=list)
    peak_gib: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast `side` is as `against`: median of the repeats' ratios, and their least and greatest."""

    side: str
    against: str
    ratio: float
    low: float
    high: float
    repeats: int


def alternate(
    sides: dict[str, Call],
    device: torch.device,
    repeats: int,
    warmup: int = 1,
    on_side: Callable[[str], None] = print,
    between: Call = lambda: None,
) -> dict[str, Timing]:
    """Calls every side `warmup` times, then `repeats` times in alternating order. `on_side` hears of each before it starts;
    `between` is called after each, untimed: what a side has left running in the background ends there."""
    timings = {name: Timing() for name in sides}
    gc.collect()
    gc.freeze()  # what lives now is looked at no more: `once` would else spend a second in a large process
    for round_number in range(-warmup, repeats):
        order = list(sides) if round_number % 2 == 0 else list(reversed(sides))
        for name in order:
            on_side(f"{name}, {'warm-up' if round_number < 0 else f'repeat {round_number + 1} of {repeats}'}")
            seconds, peak = once(sides[name], device)
            between()
            if round_number >= 0:
                timings[name].seconds.append(seconds)
                if peak is not None:
                    timings[name].peak_gib = max(peak, timings[name].peak_gib or 0.0)
    gc.unfreeze()
    return timings


def once(call: Call, device: torch.device) -> tuple[float, float | None]:
    """Seconds of one call, and the peak of memory in GiB on CUDA."""
    gc.collect()
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    if cuda:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    return seconds, torch.cuda.max_memory_allocated(device) / 2**30 if cuda else None


def compare(timings: dict[str, Timing], side: str, against: str) -> Ratio:
    """Ratio of the seconds of two sides, repeat by repeat."""
    pairs = zip(timings[against].seconds, timings[side].seconds, strict=True)
    ratios = [other / own for other, own in pairs]
    return Ratio(side, against, statistics.median(ratios), min(ratios), max(ratios), len(ratios))
