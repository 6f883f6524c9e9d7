"""How a rank is doing: its heartbeat, whether its steps are sound, and its way back to the last good state."""

from goku_core.train.health.heart import Heart, Phase, open_heart
from goku_core.train.health.watch import Watch

__all__ = ["Heart", "Phase", "Watch", "open_heart"]
