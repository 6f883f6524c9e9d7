"""Laws of the training timestep t in [0, 1] (t=0 noise, t=1 data), as maps from a uniform draw.

The paper does not name its law. Our default is logit-normal, as in the field since SD3; a shift moves weight towards noise,
which longer sequences need: at equal t they have seen more of the signal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def timestep_of_uniform(
    uniform: Tensor, law: str = "logit-normal", location: float = 0.0, scale: float = 1.0
) -> Tensor:
    """Uniform draws in (0, 1) -> times. Laws: "uniform", "logit-normal" (location and scale of the normal).

    A map from a uniform draw, and not a sampler, so that a time is a function of (seed, sample, step) alone.
    """
    if law == "uniform":
        return uniform
    if law == "logit-normal":
        normal = math.sqrt(2.0) * torch.erfinv(2.0 * uniform.clamp(1e-6, 1 - 1e-6) - 1.0)
        return torch.sigmoid(location + scale * normal)
    raise ValueError(f'timestep law "{law}": known are "uniform" and "logit-normal"')


def shift_time(time: Tensor, shift: float) -> Tensor:
    """Moves times towards noise (t=0) for shift > 1; identity for 1. Same curve as the shift of SD3, with data at t=1."""
    return time / (shift - (shift - 1.0) * time)
