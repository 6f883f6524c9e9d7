"""Laws of the training timestep t in [0, 1] (t=0 noise, t=1 data), as maps from a uniform draw.

The paper does not name its law. Our default is logit-normal, as in the field since SD3 (Esser et al. 2024, section 3.1); a
shift moves weight towards noise, which longer sequences need: at equal t they have seen more of the signal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LAWS = ("uniform", "logit-normal", "mode")
SHIFT_LAWS = ("constant", "tokens")
# Outside of these the mode law's map from uniform draws to times would turn back on itself.
MODE_SCALES = (-1.0, 2.0 / (math.pi - 2.0))


def timestep_of_uniform(
    uniform: Tensor, law: str = "logit-normal", location: float = 0.0, scale: float = 1.0
) -> Tensor:
    """Uniform draws in (0, 1) -> times. Raises ValueError for an unknown law and for a scale that the law cannot have.

    "uniform"       the draws themselves
    "logit-normal"  sigmoid of a normal with this location and scale > 0
    "mode"          SD3's heavy-tailed law with scale s in [-1, 2/(pi-2)]: u + s*(cos^2(pi*u/2) - 1 + u). s > 0 draws more
                    times around 1/2, s < 0 more at both ends, 0 is uniform; every time keeps some density, unlike under
                    logit-normal. SD3 counts time from data to noise; the law is symmetric, so only the sign of t-1/2 turns.

    A map from a uniform draw, and not a sampler, so that a time is a function of (seed, sample, step) alone.
    """
    if law == "uniform":
        return uniform
    if law == "logit-normal":
        if scale <= 0:
            raise ValueError(f"logit-normal law: its scale is a deviation and must be above 0, got {scale}")
        normal = math.sqrt(2.0) * torch.erfinv(2.0 * uniform.clamp(1e-6, 1 - 1e-6) - 1.0)
        return torch.sigmoid(location + scale * normal)
    if law == "mode":
        low, high = MODE_SCALES
        if not low <= scale <= high:
            raise ValueError(f"mode law: scale must be between {low:g} and {high:.4f}, got {scale}")
        return uniform + scale * (torch.cos(math.pi / 2 * uniform).square() - 1 + uniform)
    raise ValueError(f'timestep law "{law}": known are {", ".join(LAWS)}')


def shift_time(time: Tensor, shift: float | Tensor) -> Tensor:
    """Moves times towards noise (t=0) for shift > 1; identity for 1. Same curve as the shift of SD3, with data at t=1."""
    return time / (shift - (shift - 1.0) * time)


def shift_of_size(size: float | Tensor, base_size: float) -> float | Tensor:
    """sqrt(size / base_size): the shift under which samples of both sizes are equally uncertain (SD3, section 5.3.2).

    `size` and `base_size` count the same thing, tokens or pixels. The mean of n equally noised values is known n/m times
    as precisely as that of m values; the shift undoes the difference. Tokens of a clip count as those of a picture (our
    choice: neighbouring frames are as alike as neighbouring pixels). Raises ValueError for a size that is not positive.
    """
    smallest = size.min().item() if isinstance(size, Tensor) else size
    if smallest <= 0 or base_size <= 0:
        raise ValueError(f"sizes must be above 0, got {smallest} and base {base_size}")
    return (size / base_size) ** 0.5


def shift_by_law(shift: float, law: str, tokens: float | Tensor, base_tokens: float) -> float | Tensor:
    """Shift for samples of that many tokens: "constant", `shift` for all; "tokens", `shift` at `base_tokens` and grown or
    shrunk by the square root of the ratio. Raises ValueError for an unknown law."""
    if law == "constant":
        return shift
    if law == "tokens":
        return shift * shift_of_size(tokens, base_tokens)
    raise ValueError(f'shift law "{law}": known are {", ".join(SHIFT_LAWS)}')
