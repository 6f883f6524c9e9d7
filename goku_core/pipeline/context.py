"""What a stage's `run(request, context)` is given: where to read, where to write, how to report.

A stage never writes to a final place. It writes below ``context.output(path)``; when `run` returns, the executor
swaps every declared output into the workspace and writes the commit record last.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from goku_core.pipeline.progress import Bar, console


class Tracker(Protocol):
    """Where metrics go. One tracking run per fingerprint, resumed when an attempt is repeated."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def log_artifact(self, path: Path, folder: str = "") -> None: ...

    def set_tags(self, tags: Mapping[str, str]) -> None: ...


class SilentTracker:
    """Keeps metrics in memory only: for tests and for calling a stage body without a pipeline."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int | None, dict[str, float]]] = []
        self.tags: dict[str, str] = {}
        self.artifacts: list[Path] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.metrics.append((step, dict(metrics)))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self.artifacts.append(path)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self.tags.update(tags)


def available_cores() -> int:
    """Cores this process may use (respects CPU affinity and `GOKU_CORES`)."""
    if wanted := os.environ.get("GOKU_CORES"):
        return max(1, int(wanted))
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity call
        return os.cpu_count() or 1


@dataclass
class Context:
    """Handed to a stage's `run`.

    workspace    the folder that holds params.yaml; declared inputs are relative to it
    staging      temporary place for outputs; swapped into the workspace when `run` returns
    scratch      survives a kill and belongs to this fingerprint alone: checkpoints, partial results
    fingerprint  digest that names this exact piece of work
    seed         the run seed; every random draw is a function of (seed, purpose, sample id, step)
    """

    workspace: Path
    staging: Path
    scratch: Path
    fingerprint: str = "unnamed"
    seed: int = 0
    tracker: Tracker = field(default_factory=SilentTracker)
    cores: int = field(default_factory=available_cores)

    def input(self, path: str | Path) -> Path:
        """A declared input; absolute paths (a user's own media folder) are returned as they are."""
        return self.workspace / path

    def output(self, path: str | Path) -> Path:
        """Where to write a declared output (its parent exists); the path as declared: ``data/clips.parquet``."""
        place = self.staging / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def cache(self, name: str) -> Path:
        """A folder that outlives attempts and fingerprints; what it holds may be deleted at any time, to cost time only."""
        place = self.workspace / ".goku" / "cache" / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    def progress(self, description: str, total: float | None = None, unit: str = "items") -> Bar:
        return Bar(description, total, unit)

    def say(self, message: str) -> None:
        """One line for the person who watches."""
        console().print(message, soft_wrap=True)
