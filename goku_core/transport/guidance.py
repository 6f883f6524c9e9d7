"""Classifier-free guidance."""

from __future__ import annotations

from torch import Tensor


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Velocity pushed away from the unconditional one; scale 1 is the conditional model itself."""
    return unconditional + scale * (conditional - unconditional)
