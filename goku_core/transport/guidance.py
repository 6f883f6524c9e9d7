"""Classifier-free guidance: pure functions of predictions (velocity or noise), all of one shape (samples first).

The paper does not say how it guides (facts: sampler, steps and scale are unknown), so all of this is our choice among the
field's methods, each named below.
"""

from __future__ import annotations

import torch
from torch import Tensor


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Velocity pushed away from the unconditional one; scale 1 is the conditional model itself (Ho and Salimans 2022)."""
    return unconditional + scale * (conditional - unconditional)


def guided_by_text_and_image(
    both: Tensor, image_only: Tensor, neither: Tensor, text_scale: float, image_scale: float
) -> Tensor:
    """Text and image guidance with scales of their own, from three evaluations (InstructPix2Pix, Brooks et al. 2023, eq. 3).

    both        under text and image
    image_only  under the null (or negative) text and the image
    neither     under the null (or negative) text and a zero image

    Both scales 1 is the conditional model itself; image_scale 1 is text guidance alone.
    """
    return neither + image_scale * (image_only - neither) + text_scale * (both - image_only)


def rescaled(velocity: Tensor, conditional: Tensor, amount: float) -> Tensor:
    """Guided velocity (S, ...) with the spread of the conditional one, per sample: large scales no longer over-saturate.

    amount 0 leaves it, 1 gives every sample exactly the conditional standard deviation, between them it is a mixture
    (Lin et al. 2023, section 3.4). Raises ValueError for an amount outside of [0, 1].
    """
    if not 0.0 <= amount <= 1.0:
        raise ValueError(f"guidance rescale {amount}: must be between 0 and 1")
    if amount == 0.0:
        return velocity
    each = tuple(range(1, velocity.ndim))
    wanted = conditional.std(dim=each, keepdim=True, correction=0)
    found = velocity.std(dim=each, keepdim=True, correction=0).clamp_min(torch.finfo(velocity.dtype).tiny)
    return velocity * (amount * wanted / found + (1.0 - amount))


def acts(time: float, interval: tuple[float, float]) -> bool:
    """Is guidance on at this time? It is for low <= t < high, and at t=1 where high is 1 (Kynkaanniemi et al. 2024).

    Guidance is harmful near noise and needless near data; outside of the interval the unconditional evaluation is saved.
    Times within 1e-6 of an end count as the end itself, so that the rounding of a time grid decides nothing.
    """
    low, high = interval
    return low - 1e-6 <= time and (time < high - 1e-6 or high >= 1.0)


def check_interval(interval: tuple[float, float]) -> tuple[float, float]:
    """The interval itself; raises ValueError where it is not 0 <= low < high <= 1."""
    low, high = interval
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"guidance interval [{low:g}, {high:g}]: needs 0 <= low < high <= 1 (0 noise, 1 data)")
    return low, high
