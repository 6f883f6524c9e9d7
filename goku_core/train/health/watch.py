"""Is a step sound?"""

from __future__ import annotations

import math


class Watch:
    def judge(self, loss: float, norm: float) -> str | None:
        """Why the step of this loss and gradient norm is bad; None where it is not."""
        for name, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                return f"the {name} is {value}"
        return None
