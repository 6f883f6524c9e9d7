"""After a bad step a run goes back to its last good state and leaves the bad data out, a bounded number of times.

Weights, moments and average go back: leaving out the updates alone leaves moments behind that a run does not recover from (170 of
180 steps skipped, in a public case). Everything random is a function of the data step, so the steps in between come out again
as they were, and the run is the one that would have been without the bad data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from goku_core.train.checkpoint import State
from goku_core.train.health import incidents
from goku_core.train.health.errors import Diverged
from goku_core.train.health.heart import Heart
from goku_core.train.health.request import WatchSettings
from goku_core.train.health.snapshots import Snapshots
from goku_core.train.health.watch import Watch
from goku_core.train.position import Position


@dataclass(frozen=True)
class Verdict:
    """What to leave out (data steps), or that the run has diverged."""

    skip: tuple[int, ...] = ()
    diverged: bool = False


def decide(bad: int, snapshot: int, rewinds: Sequence[int], skipped: Sequence[int], settings: WatchSettings) -> Verdict:
    """What a bad step at data step `bad` leads to.

    snapshot  data step that the state to go back to uses next
    rewinds   data steps that earlier rewinds were for; only those within `window` of this one count
    skipped   data steps left out already

    The first rewind leaves out the bad step alone. When that does not help, the harm was done before it showed: the next ones
    leave out everything since the snapshot.
    """
    near = sum(abs(bad - other) <= settings.window for other in rewinds)
    if near >= settings.rewinds:
        return Verdict(diverged=True)
    first = bad if near == 0 else snapshot
    known = set(skipped)
    return Verdict(tuple(step for step in range(first, bad + 1) if step not in known))


class Guard:
    """Watches the steps of a run, keeps its last good state, and takes the run back to it.

    scratch  where incidents are recorded; None on all ranks but one
    samples  names the samples of a data step, for the record

    Every rank decides by the same numbers (loss and norm are those of the whole step), so no word between them is needed.
    """

    def __init__(
        self,
        settings: WatchSettings,
        state: State,
        position: Position,
        heart: Heart,
        scratch: Path | None = None,
        samples: Callable[[int], Sequence[str]] | None = None,
    ) -> None:
        self.settings, self.position, self.heart = settings, position, heart
        self.scratch, self.samples = scratch, samples
        self.watch = Watch(settings, position.norms, position.losses)
        self.snapshots = Snapshots(state) if settings.snapshot_every else None
        self._keep()

    def rewinds(self, loss: float, norm: float) -> bool:
        """False after a good step. After a bad one the run has gone back (True): state and position are those of the snapshot.

        Call it before the step is counted. Raises `Diverged` when there is nothing to go back to, or going back has not helped.
        """
        why = self.watch.judge(loss, norm)
        if why is None:
            self.position.norms, self.position.losses = list(self.watch.norms), list(self.watch.losses)
            return False
        position, bad = self.position, self.position.data_step
        facts = {"step": position.step, "data_step": bad, "why": why, "loss": loss, "gradient_norm": norm}
        facts["samples"] = list(self.samples(bad)) if self.samples else []
        if self.snapshots is None:
            self._record("diverged", facts)
            raise Diverged(
                f"{_where(facts)}, and train.watch.snapshot_every is 0: there is no state to go back to.{_REMEDY}"
            )
        rewinds, skipped = list(position.rewinds), list(position.skipped)
        kept = Position(**self.snapshots.restore())
        # What is left out is known to the run from now on, also where it goes back beyond.
        verdict = decide(bad, _next_data_step(kept.step, skipped), rewinds, skipped, self.settings)
        if verdict.diverged:
            self._record("diverged", facts)
            count = self.settings.rewinds
            raise Diverged(f"{_where(facts)}, after {count} rewinds within {self.settings.window} data steps.{_REMEDY}")
        vars(position).update(vars(kept))
        position.skipped, position.rewinds = sorted({*skipped, *verdict.skip}), [*rewinds, bad]
        self.watch = Watch(self.settings, position.norms, position.losses)
        steps = facts["step"] - position.step
        seconds = self.heart.rewound(position.step)
        self._record(
            "rewind", facts | {"to": position.step, "steps": steps, "skipped": list(verdict.skip), "seconds": seconds}
        )
        return True

    def keep(self, now: bool = False) -> None:
        """Takes a snapshot when one is due, or `now` (the run is saved here, and may begin here again)."""
        if self.snapshots is not None and (now or self.position.step % self.settings.snapshot_every == 0):
            self._keep()

    def _keep(self) -> None:
        if self.snapshots is not None:
            self.snapshots.take(self.position.step, self.position.as_json())
            self.heart.mark(self.position.step)

    def _record(self, kind: str, facts: dict[str, object]) -> None:
        if self.scratch is not None:
            incidents.record(self.scratch, kind, rank=self.heart.pulse.rank, **facts)


_REMEDY = (
    " Look at the samples that incidents.jsonl names, lower the phase's learning_rate or clip_norm, or raise "
    "train.watch.norm_ratio if the steps were sound."
)


def _where(facts: dict[str, object]) -> str:
    return f"{facts['why']} at step {facts['step']} (data step {facts['data_step']})"


def _next_data_step(step: int, skipped: Sequence[int]) -> int:
    return Position(step=step, skipped=list(skipped)).data_step
