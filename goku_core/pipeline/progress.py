"""Progress that says what is being done, how fast, and how long it will take.

On a terminal: a live bar. In a log file or under CI: one line every few seconds, so that a log stays readable.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_EVERY_SECONDS = 10.0


def console() -> Console:
    """The console every progress line goes to (standard error, so that `--json` output stays clean)."""
    return Console(stderr=True, highlight=False)


class Bar:
    """Counts units of work. Use as a context manager; `advance(n)` after each piece of work.

    Keyword notes given to `advance` (``loss=0.31``) are shown behind the rate.
    """

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0.0
        self.notes: dict[str, object] = {}
        self._started = time.monotonic()
        self._logged = self._started
        self._console = console()
        self._live: Progress | None = None

    def __enter__(self) -> Bar:
        self._started = self._logged = time.monotonic()
        if sys.stderr.isatty():
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                transient=False,
            )
            self._live.start()
            self._task = self._live.add_task(self.description, total=self.total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif kind is None:
            self._log(final=True)

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / self.seconds

    def advance(self, n: float = 1, **notes: object) -> None:
        self.done += n
        self.notes.update(notes)
        if self._live is not None:
            self._live.update(self._task, completed=self.done, note=self._note())
        elif time.monotonic() - self._logged >= LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            self._log()

    def _note(self) -> str:
        parts = [f"{self.rate:.3g} {self.unit}/s"]
        parts += [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in self.notes.items()]
        return "  ".join(parts)

    def _log(self, final: bool = False) -> None:
        of = f"/{self.total:g}" if self.total else ""
        left = ""
        if self.total and not final and self.done:
            left = f", {(self.total - self.done) / self.rate:.0f} s left"
        self._console.print(
            f"{self.description}: {self.done:g}{of} {self.unit}, {self._note()}, {self.seconds:.0f} s{left}",
            soft_wrap=True,
        )
