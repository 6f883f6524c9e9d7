"""The folder of a run's checkpoints: names, the marker that is written last, what is damaged, what goes.

step-00000400/complete.json              SHA-256 and size of every other file: without it this is no checkpoint
              index.json                 where each tensor lies
              state.json                 the position of the run and where it comes from
              model-00000-00.safetensors the network's weights, rank 0, part 0; ema-..., adamw-..., muon-...
.step-00000500/                          being written
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import sync_folder, write_json

MARKER, INDEX, STATE = "complete.json", "index.json", "state.json"
NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Written:
    """What a finished file is: its size in bytes and the SHA-256 of its content."""

    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Written:
        return cls(int(value["bytes"]), str(value["sha256"]))


@dataclass(frozen=True)
class Checkpoint:
    """One that is complete and whole."""

    path: Path
    step: int


@dataclass(frozen=True)
class Marker:
    """complete.json. `saved`: UTC time, ISO 8601."""

    step: int
    saved: str
    files: Mapping[str, Written]

    @classmethod
    def now(cls, step: int, files: Mapping[str, Written]) -> Marker:
        return cls(step, datetime.now(UTC).isoformat(timespec="milliseconds"), files)

    @classmethod
    def parse(cls, text: str | bytes) -> Marker | None:
        """None where the text is no marker (cut off, or that of an earlier format)."""
        try:
            value = json.loads(text)
            files = {str(name): Written.from_json(entry) for name, entry in value["files"].items()}
            return cls(int(value["step"]), str(value["saved"]), files)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, folder: Path) -> None:
        files = {name: vars(file) for name, file in self.files.items()}
        write_json(folder / MARKER, {"step": self.step, "saved": self.saved, "files": files})


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def read_marker(checkpoint: Path) -> Marker | None:
    """What a checkpoint's marker says, None where there is none that can be read."""
    try:
        return Marker.parse((checkpoint / MARKER).read_bytes())
    except OSError:
        return None


def listed(folder: Path) -> list[Checkpoint]:
    """Folders that are named like checkpoints, newest first. Whether they are whole is for `damage` to say."""
    found = [(match, path) for path in folder.glob("step-*") if (match := NAME.fullmatch(path.name)) and path.is_dir()]
    return sorted((Checkpoint(path, int(match[1])) for match, path in found), key=lambda one: -one.step)


def damage(checkpoint: Path, marker: Marker | None, only: Collection[str] | None = None) -> list[str]:
    """What is wrong with a checkpoint, one sentence each; every file is read once.

    only  names of the files to look at (ranks share them); None: all of them
    """
    if marker is None:
        return [
            f"{checkpoint.name} has no {MARKER} that can be read: it was not finished, or an earlier release wrote it"
        ]
    wrong = []
    for name, wanted in marker.files.items():
        if only is not None and name not in only:
            continue
        try:
            if (checkpoint / name).stat().st_size != wanted.bytes:
                wrong.append(f"{checkpoint.name}/{name} is not {wanted.bytes} bytes long")
            elif _sha256(checkpoint / name) != wanted.sha256:
                wrong.append(f"{checkpoint.name}/{name} is not what was written: its SHA-256 differs")
        except OSError as error:
            wrong.append(f"{checkpoint.name}/{name} cannot be read: {error.strerror or error}")
    return wrong


def publish(staging: Path, marker: Marker) -> Path:
    """Writes the marker of a finished folder and gives it its name. Returns the new path."""
    for stray in {path.name for path in staging.iterdir()} - marker.files.keys():
        (staging / stray).unlink()  # of an attempt that was cut off, by other ranks
    marker.write(staging)  # and waits for the disk, for the names of the other files too
    return _name(staging)


def mend(folder: Path) -> None:
    """Names what a kill left finished but without its name."""
    for staging in folder.glob(".step-*"):
        if (staging / MARKER).is_file():
            _name(staging)


def sweep(folder: Path, step: int, keep: int, keep_every: int | None, spared: Iterable[Path] = ()) -> None:
    """Removes what is not kept, once the checkpoint of `step` is there: a later one belongs to a course the run has left."""
    before = [one for one in listed(folder) if one.step <= step and read_marker(one.path) is not None]
    kept = {one.path for one in before[:keep]} | set(spared)
    kept |= {one.path for one in before if keep_every and one.step % keep_every == 0}
    for one in listed(folder):
        if one.path not in kept:
            (one.path / MARKER).unlink(missing_ok=True)  # first: half a checkpoint must not look like one
            shutil.rmtree(one.path)
    for staging in folder.glob(".step-*"):
        shutil.rmtree(staging)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(staging: Path) -> Path:
    target = staging.with_name(staging.name.removeprefix("."))
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    sync_folder(target.parent)
    return target
