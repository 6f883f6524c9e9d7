"""Checkpoints of VAE training: one safetensors file each, named by step and digest, renamed into place when it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

KEEP = 2

Networks = Mapping[str, nn.Module]
Optimizers = Mapping[str, torch.optim.Optimizer]


def save(folder: Path, step: int, networks: Networks, optimizers: Optimizers, metrics: list[dict[str, float]]) -> None:
    """Writes `folder/step-<step>-<digest>.safetensors`; those beyond the two newest are removed afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{name}:{key}": value for name, network in networks.items() for key, value in network.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}:{number}.{key}": value for key, value in state.items()}
    partial = folder / f".step-{step:08d}.tmp"
    described = {"step": str(step), "metrics": json.dumps(metrics)}
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, partial, metadata=described)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(folder / f"step-{step:08d}-{_digest(partial)}.safetensors")
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEEP]:
        old.unlink()


def newest_valid(folder: Path) -> Path | None:
    """The newest checkpoint whose bytes are those its name tells."""
    for candidate in sorted(folder.glob("step-*.safetensors"), reverse=True):
        if candidate.stem.endswith(_digest(candidate)):
            return candidate
    return None


def restore(path: Path, networks: Networks, optimizers: Optimizers) -> tuple[int, list[dict[str, float]]]:
    """Loads everything and returns the step and the metrics so far."""
    found: dict[str, dict[str, Tensor]] = {}
    with safe_open(path, framework="pt") as file:
        described: dict[str, Any] = file.metadata()
        for full in file.keys():  # noqa: SIM118 - not a mapping
            name, key = full.split(":", 1)
            found.setdefault(name, {})[key] = file.get_tensor(full)
    for name, network in networks.items():
        network.load_state_dict(found[name])
    for name, optimizer in optimizers.items():
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in found.get(name, {}).items():
            number, _, entry = key.partition(".")
            states.setdefault(int(number), {})[entry] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return int(described["step"]), json.loads(described["metrics"])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
