"""How a rank is doing."""

from goku_core.train.health.heart import Heart, Phase
from goku_core.train.health.watch import Watch

__all__ = ["Heart", "Phase", "Watch"]
