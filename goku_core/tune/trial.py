"""One training of a search: watched while it runs, stopped where it falls behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from goku_core.pipeline.errors import StageFailed
from goku_core.pipeline.executor import OpenTracker, RunTracker
from goku_core.pipeline.files import read_json_lines
from goku_core.pipeline.line import Cell
from goku_core.tune import place
from goku_core.tune.place import Work

METRIC = "validation_loss"
Behind = Callable[[int, float], bool]  # (step, validation loss) -> shall the trial be stopped?


class Stopped(Exception):
    """Raised inside a training that is no longer worth its time."""


@dataclass
class Result:
    """What became of a trial. `losses`: (step, validation loss) in order; `why`: of a trial that failed."""

    state: Literal["done", "pruned", "failed"]
    fingerprint: str
    losses: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    why: str = ""
    retriable: bool = False

    @property
    def loss(self) -> float:
        return self.losses[-1][1]


class Watching:
    """The tracker of a trial: passes everything on, and looks at each validation loss."""

    def __init__(self, inner: RunTracker, behind: Behind, tags: Mapping[str, str]) -> None:
        self._inner, self._behind = inner, behind
        inner.set_tags(tags)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._inner.log_metrics(metrics, step)
        if METRIC not in metrics or step is None or not self._behind(step, metrics[METRIC]):
            return
        # A phase on several ranks reports from another thread, in which an error stops nothing: it trains to its end.
        if threading.current_thread() is threading.main_thread():
            self._inner.set_tags({"goku.pruned": f"at step {step}"})
            raise Stopped(f"behind the other trials at step {step}")

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self._inner.log_artifact(path, folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._inner.set_tags(tags)

    def finish(self, status: Literal["FINISHED", "FAILED"]) -> str | None:
        return self._inner.finish(status)


def run(
    asked: Work,
    workspace: Path,
    folder: Path,
    open_tracker: OpenTracker,
    behind: Behind,
    tags: Mapping[str, str],
) -> Result:
    """Trains, or finds that this very training has been done. `folder` is the trial's own, empty again afterwards."""
    seen: list[tuple[int, float]] = []

    def watch(step: int, loss: float) -> bool:
        seen.append((step, loss))
        return behind(step, loss)

    def opened(root: Path, cell: Cell, fingerprint: str, attempt: int, driver: str) -> RunTracker:
        return Watching(open_tracker(root, cell, fingerprint, attempt, driver), watch, tags)

    try:
        outcome = place.do(asked, workspace, folder, opened)
        losses = validation_losses(folder / asked.target.outputs[0])
        if outcome.status != "ran":  # its MLflow run shall be found below this study too
            opened(folder, asked.target, outcome.fingerprint, int(outcome.record.value["attempt"]), "direct").finish(
                "FINISHED"
            )
        return Result("done", outcome.fingerprint, losses, outcome.record.seconds)
    except StageFailed as error:
        if isinstance(error.__cause__, Stopped):
            return Result("pruned", "", seen)
        return Result("failed", "", seen, why=str(error), retriable=error.retriable)
    finally:
        place.clear(folder)


def validation_losses(model: Path) -> list[tuple[int, float]]:
    """(step, validation loss) of a trained phase."""
    lines: list[dict[str, Any]] = list(read_json_lines(model / "metrics.jsonl"))
    return [(int(line["step"]), float(line[METRIC])) for line in lines if METRIC in line]
