"""Is a step sound? The gradient norm is asked before the loss: it shows a spike about a hundred steps earlier."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable

from goku_core.train.health.request import WatchSettings

NORMAL = 1.4826  # the median absolute deviation of a normal distribution, in units of its standard deviation


class Watch:
    """Judges steps against the good ones before them.

    norms, losses  of the last good steps: part of a run's position, so that a resumed run judges as the unbroken one
    """

    def __init__(
        self, settings: WatchSettings | None = None, norms: Iterable[float] = (), losses: Iterable[float] = ()
    ) -> None:
        self.settings = settings or WatchSettings()
        self.norms = deque(norms, self.settings.window)
        self.losses = deque(losses, self.settings.window)

    def judge(self, loss: float, norm: float) -> str | None:
        """Why the step of this loss and gradient norm is bad; None where it is not, and the next are judged by it too."""
        for name, value in (("gradient norm", norm), ("loss", loss)):
            if not math.isfinite(value):
                return f"the {name} is {value}"
        settings = self.settings
        for name, value, before, ratio in (
            ("gradient norm", norm, self.norms, settings.norm_ratio),
            ("loss", loss, self.losses, settings.loss_ratio),
        ):
            if why := self._spike(name, value, before, ratio):
                return why
        self.norms.append(norm)
        self.losses.append(loss)
        return None

    def _spike(self, name: str, value: float, before: deque[float], ratio: float) -> str | None:
        if len(before) < self.settings.least_history:
            return None
        median = statistics.median(before)
        if value <= ratio * median:
            return None
        deviation = NORMAL * statistics.median(abs(one - median) for one in before)
        if value <= median + self.settings.deviations * deviation:
            return None
        return f"the {name} is {value:.4g}, {value / max(median, 1e-30):.1f} times its median of the last {len(before)} steps"
