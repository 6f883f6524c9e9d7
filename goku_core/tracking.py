"""MLflow tracking: one run per fingerprint, resumed by id, attempts as a tag.

What a stage logs is appended to ``.goku/tracking/<fingerprint>.jsonl`` (the spool), which is the truth. A small process
of its own, the mirror, copies the spool to MLflow while the stage works. So importing MLflow (2.4 s) and creating its
database (4.5 s) cost a stage no time, importing it beside torch in threads is not needed, and a tracking server that is
slow, down or broken cannot stop a training: the spool is copied at the next chance.

Copying is idempotent (MLflow ignores a metric row it has: same key, step, time stamp, value), so a killed mirror is no
special case. Steps that an earlier attempt has logged are not logged again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from goku_core.pipeline.files import append_json_line, lock, lock_if_free, write_json
from goku_core.pipeline.progress import console

if TYPE_CHECKING:
    from goku_core.pipeline.executor import OpenTracker
    from goku_core.pipeline.line import Cell

URI = "MLFLOW_TRACKING_URI"
PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
FINGERPRINT_TAG = "goku.fingerprint"
PARAM_LENGTH = 500  # MLflow admits 6,000 characters; a longer list is unreadable in its table anyway
BATCH = 100
POLL_SECONDS = 0.25
FLUSH_SECONDS = 2.0
FINISH_SECONDS = 60.0
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "PYTHONWARNINGS": "ignore",
}


class Request(BaseModel):
    """The section `tracking:` of params.yaml. No part of a fingerprint: where results are shown changes no result."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field(
        default="sqlite:///mlflow.db",
        min_length=1,
        description="MLflow tracking URI; a SQLite path is relative to the workspace. MLFLOW_TRACKING_URI overrules it",
    )
    experiment: str = Field(default="goku", min_length=1, description="name of the MLflow experiment")

    @field_validator("uri")
    @classmethod
    def _holds_no_password(cls, uri: str) -> str:
        """params.yaml is in version control, and in the lineage of all that is made."""
        if PASSWORD.search(uri):
            raise ValueError(f"an address with a password does not belong here. Set {URI} in the environment instead")
        return uri


def resolve_uri(uri: str, workspace: Path) -> str:
    """The URI that clients use: MLFLOW_TRACKING_URI if set, else `uri` with a relative SQLite path made absolute."""
    uri = os.environ.get(URI) or uri
    prefix = "sqlite:///"
    if uri.startswith(prefix):
        return f"{prefix}{workspace.resolve() / uri.removeprefix(prefix)}"
    return uri


def run_id(workspace: Path, fingerprint: str) -> str | None:
    """MLflow run of a piece of work, as far as it has been mirrored."""
    state = _spool_files(workspace, fingerprint)[1]
    return json.loads(state.read_text())["run_id"] if state.is_file() else None


def _spool_files(workspace: Path, fingerprint: str) -> tuple[Path, Path]:
    folder = workspace / ".goku" / "tracking"
    return folder / f"{fingerprint}.jsonl", folder / f"{fingerprint}.mirrored.json"


class MlflowTracker:
    """Tracker of one attempt: writes the spool, starts the mirror, waits for it at the end."""

    def __init__(
        self,
        workspace: Path,
        fingerprint: str,
        name: str,
        request: Mapping[str, Any],
        settings: Request,
        tags: Mapping[str, str],
    ) -> None:
        self._workspace, self._fingerprint = workspace.resolve(), fingerprint
        self._spool, _ = _spool_files(self._workspace, fingerprint)
        self._spool.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(self._spool)
        self._logged = _last_steps(self._spool)
        self._write("start", name=name, params=flatten(request), tags=dict(tags))
        self._log_file = self._spool.with_suffix(".log")
        with self._log_file.open("wb") as log:
            self._mirror = subprocess.Popen(
                [sys.executable, "-m", "goku_core.tracking", "--workspace", str(self._workspace),
                 "--fingerprint", fingerprint, "--experiment", settings.experiment, "--parent", str(os.getpid())],
                # the address may hold a password, and a command line can be read by everybody on the machine
                env=os.environ | QUIET | {URI: resolve_uri(settings.uri, self._workspace)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # an interrupt at the terminal ends the stage; the mirror then copies the rest
            )  # fmt: skip

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is not None:
            metrics = {key: value for key, value in metrics.items() if self._logged.get(key, -1) < step}
            self._logged.update(dict.fromkeys(metrics, step))
        if metrics:
            self._write("metrics", metrics={k: _json_number(v) for k, v in metrics.items()}, step=step)

    def log_artifact(self, path: Path, folder: str = "") -> None:
        self._write("artifact", path=str(path.resolve()), folder=folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._write("tags", tags=dict(tags))

    def finish(self, status: Literal["FINISHED", "FAILED"]) -> str | None:
        """End the attempt; returns the MLflow run id, or None (with one warning) where MLflow could not be reached."""
        self._write("finish", status=status)
        try:
            code = self._mirror.wait(FINISH_SECONDS if status == "FINISHED" else 10.0)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            why = f"exit code {code}, see {self._log_file.name}" if code else "it is still busy"
            console().print(
                f"Tracking: MLflow has not got everything of this attempt ({why}). Nothing is lost: it is kept in "
                f".goku/tracking/ and copied at the next chance.",
                soft_wrap=True,
                markup=False,
            )
        return run_id(self._workspace, self._fingerprint)

    def _write(self, kind: str, **facts: Any) -> None:
        append_json_line(self._spool, {"kind": kind, "time": int(time.time() * 1000), **facts})


def log_beside(workspace: Path, fingerprint: str, metrics: Mapping[str, float], step: int) -> bool:
    """Metrics of another process for the run of a piece of work that is under way; False where it has ended, or never began.

    The mirror of the running attempt carries them to MLflow. What is logged behind the end would wait there for nobody.
    """
    spool, _ = _spool_files(workspace.resolve(), fingerprint)
    if not spool.is_file() or _ended(spool):
        return False
    facts = {"metrics": {key: _json_number(value) for key, value in metrics.items()}, "step": step}
    append_json_line(spool, {"kind": "metrics", "time": int(time.time() * 1000), **facts})
    return True


def last_steps(workspace: Path, fingerprint: str) -> dict[str, int]:
    """Highest step by metric that the run of a piece of work has."""
    return _last_steps(_spool_files(workspace.resolve(), fingerprint)[0])


def opener(settings: Request) -> OpenTracker:
    """What `executor.execute` takes to open the tracker of an attempt."""

    def open_tracker(workspace: Path, cell: Cell, fingerprint: str, attempt: int, driver: str) -> MlflowTracker:
        tags = {
            "goku.cell": cell.name,
            "goku.stage": cell.stage,
            "goku.attempts": str(attempt),
            "goku.driver": driver,
        }
        return MlflowTracker(workspace, fingerprint, cell.name, cell.request_json(), settings, tags)

    return open_tracker


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested request -> MLflow params with dotted names and values cut to `PARAM_LENGTH` characters."""
    flat: dict[str, str] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            flat |= flatten(inner, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(inner) if isinstance(inner, list) else str(inner)
    return {key: text[:PARAM_LENGTH] for key, text in flat.items()}


def _json_number(value: float) -> float | str:
    value = float(value)
    return value if value - value == 0 else str(value)  # JSON has no nan and inf


def _cut_torn_line(spool: Path) -> None:
    """Drop a last line that a kill cut off, so that the next line does not grow on it."""
    if spool.is_file() and (content := spool.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(spool, content.rfind(b"\n") + 1)


def _last_steps(spool: Path) -> dict[str, int]:
    """Highest step per metric that earlier attempts have logged. Metrics without a step are not counted."""
    last: dict[str, int] = {}
    for line in _lines(spool):
        if line["kind"] == "metrics" and line["step"] is not None:
            last |= {key: max(line["step"], last.get(key, -1)) for key in line["metrics"]}
    return last


def _lines(spool: Path) -> Iterator[dict[str, Any]]:
    for line in spool.read_bytes().split(b"\n")[:-1] if spool.is_file() else ():
        yield json.loads(line)


# ---- the mirror: everything below runs in its own process ----


@dataclass
class _Target:
    client: Any  # mlflow.MlflowClient
    experiment_id: str


def _connect(uri: str, experiment: str, workspace: Path) -> _Target:
    os.environ.update(QUIET)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        # Beside a database of our own artifacts lie in the workspace; a server knows its own place.
        place = (workspace / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
        try:
            return _Target(client, client.create_experiment(experiment, artifact_location=place))
        except MlflowException:  # another mirror was quicker
            found = client.get_experiment_by_name(experiment)
            if found is None:
                raise
    return _Target(client, found.experiment_id)


class _Copier:
    """Copies one spool into its MLflow run, from the first line on, as often as asked."""

    def __init__(self, workspace: Path, fingerprint: str, target: _Target) -> None:
        self.spool, self.state = _spool_files(workspace, fingerprint)
        self.workspace, self.fingerprint, self.target = workspace, fingerprint, target
        self.offset = 0
        self.status = "RUNNING"
        self.run = ""

    def copy(self) -> bool:
        """Copy what is new; True when there was something."""
        content = self.spool.read_bytes()[self.offset :]
        content = content[: content.rfind(b"\n") + 1]
        if not content:
            return False
        metrics: list[Any] = []
        for line in (json.loads(text) for text in content.splitlines()):
            kind = line["kind"]
            if kind == "start":
                self._start(line)
            elif kind == "metrics":
                metrics += self._metrics(line)
            elif kind == "artifact":
                self._artifact(line)
            elif kind == "tags":
                self._batch(tags=line["tags"])
            elif kind == "finish":
                self.status = line["status"]
        for first in range(0, len(metrics), BATCH):
            self.target.client.log_batch(self.run, metrics=metrics[first : first + BATCH])
        self.offset += len(content)
        return True

    def end(self, status: str) -> None:
        """Give the run its state and remember how much of the spool is in MLflow."""
        self.target.client.set_terminated(self.run, status=status)
        write_json(self.state, {"run_id": self.run, "bytes": self.offset, "status": status})

    def _start(self, line: Mapping[str, Any]) -> None:
        client = self.target.client
        if not self.run:
            found = client.search_runs(
                [self.target.experiment_id], f"tags.`{FINGERPRINT_TAG}` = '{self.fingerprint}'", max_results=1
            )
            # The tag is part of the creation: a kill in between cannot leave a run that is not found again.
            tags = {FINGERPRINT_TAG: self.fingerprint, "mlflow.source.name": line["name"]}
            run = found[0] if found else client.create_run(
                self.target.experiment_id, start_time=line["time"], tags=tags, run_name=line["name"]
            )  # fmt: skip
            self.run = run.info.run_id
            client.update_run(self.run, status="RUNNING")
            write_json(self.state, {"run_id": self.run, "bytes": 0, "status": "RUNNING"})
        # MLflow never changes a param: a study that is continued with another one would be refused for ever, and all behind it.
        there = client.get_run(self.run).data.params
        changed = {f"changed.{k}": v for k, v in line["params"].items() if there.get(k, v) != v}
        new = {k: v for k, v in line["params"].items() if k not in there}
        self._batch(tags=line["tags"] | changed, params=new)

    def _batch(self, tags: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None) -> None:
        from mlflow.entities import Param, RunTag

        pairs = list((params or {}).items())
        for first in range(0, max(len(pairs), 1), BATCH):
            self.target.client.log_batch(
                self.run,
                params=[Param(k, v) for k, v in pairs[first : first + BATCH]],
                tags=[RunTag(k, v) for k, v in (tags or {}).items()],
            )

    def _metrics(self, line: Mapping[str, Any]) -> list[Any]:
        from mlflow.entities import Metric

        return [Metric(key, float(value), line["time"], line["step"] or 0) for key, value in line["metrics"].items()]

    def _artifact(self, line: Mapping[str, Any]) -> None:
        path = Path(line["path"])
        staging = self.workspace / ".goku" / "staging" / self.fingerprint
        if not path.exists() and path.is_relative_to(staging):  # copied late: the output lies in the workspace now
            path = self.workspace / path.relative_to(staging)
        if path.is_dir():
            self.target.client.log_artifacts(self.run, str(path), line["folder"] or None)
        elif path.exists():
            self.target.client.log_artifact(self.run, str(path), line["folder"] or None)
        else:
            print(f"artifact {path} is gone, not copied", flush=True)


def _mirror(workspace: Path, fingerprint: str, uri: str, experiment: str, parent: int) -> None:
    """Follow the spool until its attempt ends or the stage's process is gone; then catch up with older spools."""
    with lock(workspace / ".goku" / "locks" / f"mirror-{fingerprint}.lock"):
        target = _connect(uri, experiment, workspace)
        copier = _Copier(workspace, fingerprint, target)
        copied = time.monotonic() - FLUSH_SECONDS
        alive = True
        while alive and not _ended(copier.spool):
            alive = os.getppid() == parent
            if time.monotonic() - copied >= FLUSH_SECONDS:
                copier.copy()
                copied = time.monotonic()
            time.sleep(POLL_SECONDS)
        copier.copy()
        copier.end(copier.status if _ended(copier.spool) else "KILLED")
    for spool in sorted((workspace / ".goku" / "tracking").glob("*.jsonl")):
        if spool.stem != fingerprint:
            _catch_up(workspace, spool.stem, target)


def _catch_up(workspace: Path, fingerprint: str, target: _Target) -> None:
    """Copy a spool whose mirror failed. One that somebody is copying, or that is complete, is left alone."""
    spool, state = _spool_files(workspace, fingerprint)
    known = json.loads(state.read_text())["bytes"] if state.is_file() else -1
    if known >= spool.stat().st_size or not _ended(spool):
        return
    with lock_if_free(workspace / ".goku" / "locks" / f"mirror-{fingerprint}.lock") as free:
        if free:
            copier = _Copier(workspace, fingerprint, target)
            copier.copy()
            copier.end(copier.status)


def copy_again(workspace: Path, settings: Request) -> list[str]:
    """Give MLflow the runs that it has lost with its database. Returns their fingerprints.

    They get new ids; the tag `goku.recorded_run` has the one that the records name. An attempt under way is left alone.
    """
    target = _connect(resolve_uri(settings.uri, workspace), settings.experiment, workspace)
    copied = []
    for spool in sorted((workspace / ".goku" / "tracking").glob("*.jsonl")):
        _, state = _spool_files(workspace, spool.stem)
        before = run_id(workspace, spool.stem)
        query = f"tags.`{FINGERPRINT_TAG}` = '{spool.stem}'"
        if not _ended(spool) or target.client.search_runs([target.experiment_id], query, max_results=1):
            continue
        state.unlink(missing_ok=True)
        _catch_up(workspace, spool.stem, target)
        now = run_id(workspace, spool.stem)
        if now is None:  # a mirror has begun with it in this moment
            continue
        if before:
            target.client.set_tag(now, "goku.recorded_run", before)
        copied.append(spool.stem)
    return copied


def _ended(spool: Path) -> bool:
    """Is the last line the end of an attempt?"""
    with spool.open("rb") as file:
        file.seek(max(0, spool.stat().st_size - 200))
        tail = file.read()
    if not tail.endswith(b"\n"):
        return False
    last = tail[:-1].rsplit(b"\n", 1)[-1]
    return last.startswith(b'{"kind":"finish"')


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description="Copy what a stage logs to MLflow (started by the pipeline).")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--fingerprint", required=True)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    _mirror(given.workspace, given.fingerprint, os.environ[URI], given.experiment, given.parent)


if __name__ == "__main__":
    main()
