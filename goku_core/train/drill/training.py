"""One training of a drill: the stage in a process of its own, its launcher, its ranks, and what can be seen of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from goku_core.pipeline.context import Context, SilentTracker
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import read_json_lines
from goku_core.train.health import incidents
from goku_core.train.health.heart import Pulse, pulses
from goku_core.train.request import TrainRequest

OUTPUTS = ("model.safetensors", "training.safetensors", "metrics.jsonl")
PATIENCE = 180.0  # for anything that a drill waits for, s


class DrillFailed(Exception):
    """What should have happened did not."""


class Training:
    """A run in `place`. `start` it, look at it, harm it, and `start` it again.

    environment  variables added to those of this process; GOKU_DRILL_TRACKED makes the stage talk to a tracking server
    """

    def __init__(
        self, workspace: Path, place: Path, request: TrainRequest, environment: Mapping[str, str] | None = None
    ) -> None:
        self.workspace, self.place, self.scratch = workspace, place, place / "scratch"
        self.environment = dict(environment or {})
        self.scratch.mkdir(parents=True, exist_ok=True)
        (place / "request.json").write_text(request.model_dump_json())
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The stage, with its staging folder cleared, as the pipeline starts it."""
        shutil.rmtree(self.place / "out", ignore_errors=True)
        command = [sys.executable, "-m", "goku_core.train.drill.training", str(self.workspace), str(self.place)]
        with (self.place / "stage.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"} | self.environment
            )

    def wait(self, code: int | None = 0) -> int:
        """The exit code of the stage; raises `DrillFailed` unless it is `code`."""
        try:
            found = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired as late:
            raise DrillFailed(f"the training did not end within {PATIENCE:.0f} s; {self.tail()}") from late
        if code is not None and found != code:
            raise DrillFailed(f"the training ended with code {found} instead of {code}; {self.tail()}")
        return found

    def end(self) -> None:
        """Whatever still runs is ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pulse in self.beats():
            self.kill(pulse)

    @property
    def attempt(self) -> int:
        found = [int(path.name.removeprefix("attempt-")) for path in (self.scratch / "hearts").glob("attempt-*")]
        return max(found, default=0)

    def beats(self, attempt: int | None = None) -> list[Pulse]:
        return pulses(self.scratch / "hearts" / f"attempt-{attempt or self.attempt:04d}")

    def reach(self, step: int, attempt: int, ranks: int = 2) -> list[Pulse]:
        """Waits until all ranks have done `step`."""

        def there() -> list[Pulse]:
            found = self.beats(attempt)
            return found if len(found) == ranks and all(pulse.step >= step for pulse in found) else []

        return self.until(there, f"step {step} of attempt {attempt}")

    def until(self, condition: Callable[[], Any], what: str, pause: float = 0.01) -> Any:
        """Looks every `pause` seconds; what the condition gave when it gave something."""
        end = time.monotonic() + PATIENCE
        while not (found := condition()):
            if self.process.poll() is not None:
                raise DrillFailed(f"the training ended (code {self.process.returncode}) before {what}; {self.tail()}")
            if time.monotonic() > end:
                raise DrillFailed(f"waited {PATIENCE:.0f} s in vain for {what}; {self.tail()}")
            time.sleep(pause)
        return found

    def kill(self, pulse: Pulse, number: signal.Signals = signal.SIGKILL) -> None:
        """Nothing where that rank has ended: its process id may be somebody else's by now."""
        try:
            if b"launch.member" in Path(f"/proc/{pulse.pid}/cmdline").read_bytes():
                os.kill(pulse.pid, number)
        except (FileNotFoundError, ProcessLookupError):
            return

    def launcher(self, pulse: Pulse) -> int:
        """Process id of the launcher of a rank."""
        return int(Path(f"/proc/{pulse.pid}/stat").read_text().rpartition(")")[2].split()[1])

    def incidents(self, kind: str | None = None) -> list[dict[str, Any]]:
        return [line for line in incidents.recorded(self.scratch) if kind in (None, line["kind"])]

    def first_step_at(self, attempt: int) -> float:
        """Wall clock when all ranks of an attempt had done a step."""
        self.until(
            lambda: len(b := self.beats(attempt)) == 2 and all(p.first >= 0 for p in b), f"attempt {attempt} trains"
        )
        return time.time()

    def digest(self) -> str:
        """Of everything that the run has to give: averaged weights, raw weights, the log of its losses."""
        folder = self.place / "out/models/drill"
        return hashlib.sha256(b"".join((folder / name).read_bytes() for name in OUTPUTS)).hexdigest()

    def log(self) -> list[dict[str, float]]:
        return list(read_json_lines(self.place / "out/models/drill/metrics.jsonl"))

    def tail(self) -> str:
        path = self.place / "stage.log"
        return path.read_text(errors="replace")[-600:].strip() if path.is_file() else "no log"


def main() -> None:
    """The stage, as the pipeline would call it."""
    from goku_core.train.stage import run

    workspace, place = Path(sys.argv[1]), Path(sys.argv[2])
    request = TrainRequest.model_validate_json((place / "request.json").read_text())
    tracker: Any = SilentTracker()
    if "GOKU_DRILL_TRACKED" in os.environ:
        from goku_core import tracking

        values = json.loads((place / "request.json").read_text())
        tracker = tracking.MlflowTracker(workspace, place.name, "drill", values, tracking.Request(), {})
    run(request, Context(workspace, place / "out", place / "scratch", seed=5, tracker=tracker, cores=2))
    if not isinstance(tracker, SilentTracker):
        tracker.finish("FINISHED")


if __name__ == "__main__":
    try:
        main()
    except GokuError as error:
        print(error, file=sys.stderr)
        sys.exit(75 if type(error).__name__ == "Preempted" else 2)
