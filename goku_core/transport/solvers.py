"""Solvers of dx/dt = velocity(x, t) from noise at t=0 to data at t=1. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from goku_core.transport.timesteps import shift_time

Velocity = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Velocity, Tensor, Tensor, Tensor], Tensor]


def time_grid(steps: int, shift: float = 1.0) -> Tensor:
    """steps+1 times from 0 to 1; shift > 1 spends more of them near noise. Raises ValueError for fewer than one step."""
    if steps < 1:
        raise ValueError(f"{steps} sampling steps: at least 1 is needed")
    return shift_time(torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64), shift)


def euler(velocity: Velocity, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """First order, one evaluation."""
    return x + (end - start) * velocity(x, start)


def midpoint(velocity: Velocity, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Second order, two evaluations."""
    half = (end - start) / 2
    return x + (end - start) * velocity(x + half * velocity(x, start), start + half)


def heun(velocity: Velocity, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Second order, two evaluations."""
    first = velocity(x, start)
    second = velocity(x + (end - start) * first, end)
    return x + (end - start) * (first + second) / 2


SOLVERS: dict[str, Step] = {"euler": euler, "midpoint": midpoint, "heun": heun}


def integrate(
    velocity: Velocity,
    noise: Tensor,
    times: Tensor,
    solver: str = "euler",
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """x at times[-1], starting from `noise` at times[0]. Raises ValueError for an unknown solver."""
    if solver not in SOLVERS:
        raise ValueError(f'solver "{solver}": known are {", ".join(SOLVERS)}')
    step = SOLVERS[solver]
    x = noise
    for index, (start, end) in enumerate(pairwise(times)):
        x = step(velocity, x, start.to(x.dtype), end.to(x.dtype))
        if on_step is not None:
            on_step(index + 1)
    return x
