"""What ranks tell the stage: rank 0 writes it down line by line, the stage reads along.

Only the stage talks to trackers and to the terminal; a rank that waited for a tracking server would stop all others.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from goku_core.pipeline.context import Context
from goku_core.pipeline.files import append_json_line
from goku_core.pipeline.progress import Bar

EVERY = 0.5  # seconds between two lines of progress, and between two looks at them


class RankContext(Context):
    """The context of a rank: what a stage would show, rank 0 writes to `events`; the others, with None, say nothing."""

    def __init__(self, events: Path | None, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, tracker=_Tracker(events), **named)
        self.events = events

    def progress(self, description: str, total: float | None = None, unit: str = "items") -> Bar:
        return _Bar(self.events, description, total, unit)  # type: ignore[return-value]

    def say(self, message: str) -> None:
        _write(self.events, "say", message=message)


class _Tracker:
    def __init__(self, events: Path | None) -> None:
        self.events = events

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        _write(self.events, "metrics", metrics=dict(metrics), step=step)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        _write(self.events, "artifact", path=str(path), folder=folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        _write(self.events, "tags", tags=dict(tags))


class _Bar:
    """Counts like a `Bar`; says how far it has come in all, as a rank that starts again counts from its checkpoint."""

    def __init__(self, events: Path | None, description: str, total: float | None, unit: str) -> None:
        self.events, self.done, self.notes = events, 0.0, {}
        self._written = 0.0
        _write(events, "started", description=description, total=total, unit=unit)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()

    def advance(self, n: float = 1, **notes: Any) -> None:
        self.done += n
        self.notes |= notes
        if time.monotonic() - self._written > EVERY:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        _write(self.events, "progress", done=self.done, notes=self.notes)


def _write(events: Path | None, kind: str, **values: Any) -> None:
    if events is not None:
        append_json_line(events, {"event": kind, **values})


@contextmanager
def followed(events: Path, context: Context) -> Iterator[None]:
    """Meanwhile what is written to `events` reaches the context; what stood there before does not."""
    reader, ended = _Follower(events, context), threading.Event()
    thread = threading.Thread(target=reader.follow, args=(ended,), name="events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Follower:
    def __init__(self, events: Path, context: Context) -> None:
        self.events, self.context = events, context
        self.place = events.stat().st_size if events.exists() else 0
        self.bar: Bar | None = None

    def follow(self, ended: threading.Event) -> None:
        last = False
        while not last:
            last = ended.wait(EVERY)
            for line in self._lines():
                self._pass_on(**line)
        if self.bar is not None:
            self.bar.__exit__(None, None, None)

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.events.exists():
            return
        with self.events.open("rb") as file:
            file.seek(self.place)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.place += len(whole)
        yield from map(json.loads, whole.splitlines())

    def _pass_on(self, event: str, **values: Any) -> None:
        if event == "metrics":
            self.context.tracker.log_metrics(values["metrics"], step=values["step"])
        elif event == "artifact":
            self.context.tracker.log_artifact(Path(values["path"]), values["folder"])
        elif event == "tags":
            self.context.tracker.set_tags(values["tags"])
        elif event == "say":
            self.context.say(values["message"])
        elif event == "started" and self.bar is None:
            self.bar = self.context.progress(values["description"], values["total"], values["unit"])
            self.bar.__enter__()
        elif event == "progress" and self.bar is not None:
            self.bar.advance(values["done"] - self.bar.done, **values["notes"])
