"""Checkpoints of a run: weights, averaged weights, optimizer state, position. safetensors and JSON, no pickle.

A checkpoint is a folder. Its last file is `complete.json` with the SHA-256 of every other file: without it, or with a digest
that does not match, the folder is not a checkpoint. The newest valid one wins.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MARKER = "complete.json"
KEEP = 2


@dataclass
class State:
    """Everything that a step changes."""

    model: nn.Module
    ema: nn.Module
    optimizers: Mapping[str, torch.optim.Optimizer]


@dataclass(frozen=True)
class Checkpoint:
    """One that is complete and whole."""

    path: Path
    step: int


class Checkpoints:
    """Those of one run, in `folder`; the `keep` newest stay."""

    def __init__(self, folder: Path, keep: int = KEEP) -> None:
        self.folder, self.keep = folder, keep

    def save(self, step: int, state: State, position: Mapping[str, Any]) -> None:
        """Writes `folder/step-<step>`; older ones beyond the newest are removed afterwards."""
        target = self.folder / f"step-{step:08d}"
        staging = self.folder / f".step-{step:08d}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        save_file(_tensors(state.model.state_dict()), staging / "model.safetensors")
        save_file(_tensors(state.ema.state_dict()), staging / "ema.safetensors")
        for name, optimizer in state.optimizers.items():
            save_file(_optimizer_tensors(optimizer), staging / f"{name}.safetensors")
        (staging / "state.json").write_text(json.dumps({**position, "step": step}))
        digests = {path.name: _sha256(path) for path in sorted(staging.iterdir())}
        for path in staging.iterdir():
            _flush(path)
        (staging / MARKER).write_text(json.dumps(digests))
        _flush(staging / MARKER)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
            shutil.rmtree(old)

    def wait(self) -> None:
        """Returns when everything saved is durable: at once, as `save` writes before it returns."""

    def newest(self) -> Checkpoint | None:
        """The newest whose files are all there with the digests of its marker."""
        for candidate in sorted(self.folder.glob("step-*"), reverse=True):
            if is_valid(candidate):
                return Checkpoint(candidate, int(candidate.name.removeprefix("step-")))
        return None

    def load(self, checkpoint: Checkpoint, state: State) -> dict[str, Any]:
        """Loads everything into `state`; returns the position that `save` was given, with the step."""
        state.model.load_state_dict(load_file(checkpoint.path / "model.safetensors"))
        state.ema.load_state_dict(load_file(checkpoint.path / "ema.safetensors"))
        for name, optimizer in state.optimizers.items():
            _restore_optimizer(optimizer, load_file(checkpoint.path / f"{name}.safetensors"))
        return json.loads((checkpoint.path / "state.json").read_text())


def is_valid(checkpoint: Path) -> bool:
    marker = checkpoint / MARKER
    try:
        digests = json.loads(marker.read_text())
        return all(_sha256(checkpoint / name) == digest for name, digest in digests.items())
    except (OSError, ValueError):
        return False


def _tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in state.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State as "<parameter number>.<name>"; the order of parameters is that of the model."""
    return {
        f"{number}.{name}": value.detach().contiguous()
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        entries.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
