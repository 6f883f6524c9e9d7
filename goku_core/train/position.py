"""Where a run is: part of every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Position:
    """What the loop has counted so far.

    step     optimizer steps done
    skipped  data steps that were left out because they harmed the run
    rewinds  data steps that the run went back for
    norms, losses  of the last good steps, by which the next ones are judged
    window   losses since the last entry of the log
    log      entries of the log
    validation  losses of held-out samples: {step, validation_loss}
    """

    step: int = 0
    images: int = 0
    clips: int = 0
    tokens: int = 0
    skipped: list[int] = field(default_factory=list)
    rewinds: list[int] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    window: list[float] = field(default_factory=list)
    log: list[dict[str, float]] = field(default_factory=list)
    validation: list[dict[str, float]] = field(default_factory=list)

    @property
    def data_step(self) -> int:
        """The data step that the next optimizer step uses: the `step`-th of those not skipped. All draws are functions of it."""
        place = self.step
        for skipped in sorted(self.skipped):
            place += skipped <= place
        return place

    def as_json(self) -> dict[str, Any]:
        """Lists are new, their entries (which nobody changes) are not: the log of a long run is copied at every save."""
        return {name: list(value) if isinstance(value, list) else value for name, value in vars(self).items()}
