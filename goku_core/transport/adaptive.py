"""Adaptive integration of dx/dt = velocity(x, t) with the embedded pair of Bogacki and Shampine, 3(2).

Own code and not torchdiffeq: this room needs torch alone, sampling wants a hard bound on evaluations of the network with an
error that says how far it came, and the pair is forty lines. Third order and not Dormand-Prince's fifth: at the tolerances
of sampling a step of three evaluations (the fourth is the next step's first) reaches further per evaluation than one of six.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]

# The error of a step grows as its length to the third power; 0.9 aims below the limit, so that most steps are accepted.
SAFETY, SHRINK, GROW, ERROR_ORDER = 0.9, 0.2, 5.0, 3
FIRST_STEP = 0.1


@dataclass(frozen=True)
class Solved:
    """x at the end, and what it cost: evaluations of the velocity, steps accepted and rejected."""

    x: Tensor
    evaluations: int
    accepted: int
    rejected: int


def bogacki_shampine(
    velocity: Velocity, x: Tensor, first: Tensor, start: float, step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of three evaluations. `first` is the velocity at the start.

    Returns x at start + step (third order), the velocity there, and the difference to the embedded second-order result.
    """
    second = velocity(x + step / 2 * first, _time(start + step / 2, x))
    third = velocity(x + 3 * step / 4 * second, _time(start + 3 * step / 4, x))
    reached = x + step * (2 / 9 * first + 1 / 3 * second + 4 / 9 * third)
    last = velocity(reached, _time(start + step, x))
    error = step * (-5 / 72 * first + 1 / 12 * second + 1 / 9 * third - 1 / 8 * last)
    return reached, last, error


def integrate_adaptive(
    velocity: Velocity,
    x: Tensor,
    start: float = 0.0,
    end: float = 1.0,
    tolerance: float = 1e-3,
    max_evaluations: int = 500,
    on_step: Callable[[int], None] | None = None,
) -> Solved:
    """From `x` at `start` to `end` > `start`, with steps as long as the tolerance allows.

    A step is accepted or refused for the state as a whole: where the root mean square of error / (tolerance + tolerance *
    |x|) is at most 1. So a state of several samples takes the steps of all of them together; what must not depend on its
    neighbours is integrated alone. `on_step(k)` is called after the k-th accepted step.

    Raises ValueError for a tolerance that is not positive, for a velocity that is not finite, and where the evaluations
    run out before the end.
    """
    if tolerance <= 0 or end <= start:
        raise ValueError(f"adaptive solver: needs tolerance > 0 and end > start, got {tolerance}, {start}, {end}")
    time, step = start, FIRST_STEP * (end - start)
    evaluations, accepted, rejected = 1, 0, 0
    slope = velocity(x, _time(start, x))
    limit = GROW
    while time < end:
        if evaluations + 3 > max_evaluations:
            raise ValueError(
                f"adaptive solver: {max_evaluations} evaluations of the velocity are not enough at tolerance "
                f"{tolerance:g}: reached t={time:.4f} of {end:g}. Raise max_evaluations or loosen the tolerance."
            )
        # The last step ends exactly at the end and never leaves a sliver for another one.
        lands = time + step * (1 + 1e-9) >= end
        length = end - time if lands else step
        reached, last, error = bogacki_shampine(velocity, x, slope, time, length)
        evaluations += 3
        scale = tolerance * (1 + torch.maximum(x.abs(), reached.abs()))
        size = (error / scale).square().mean().sqrt().item()
        if not math.isfinite(size):
            raise ValueError(
                f"adaptive solver: the velocity is not finite between t={time:.4f} and {time + length:.4f}"
            )
        if size <= 1.0:
            x, slope, time = reached, last, end if lands else time + length
            accepted += 1
            if on_step is not None:
                on_step(accepted)
        else:
            rejected += 1
        best = SAFETY * size ** (-1 / ERROR_ORDER) if size > 0 else GROW
        step = length * min(limit if size <= 1.0 else 1.0, max(SHRINK, best))
        # Right after a refusal the step does not grow again: it would meet the same obstacle.
        limit = GROW if size <= 1.0 else 1.0
    return Solved(x, evaluations, accepted, rejected)


def _time(value: float, x: Tensor) -> Tensor:
    return torch.tensor(value, dtype=x.dtype, device=x.device)
