"""A checkpoint as files that others load: the folder that a finished phase would have written, or diffusers' folders."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint.files import Block, make_file, raw, split, write
from goku_core.train.checkpoint.folder import INDEX, STATE
from goku_core.train.checkpoint.index import Index, Reader
from goku_core.train.checkpoint.state import AVERAGED, WEIGHTS

# The names that diffusers 0.42 gives a network's files, and the size at which it begins another.
DIFFUSERS_NAME = "diffusion_pytorch_model"
DIFFUSERS_BYTES = 5 * 10**9
NO_CLASS = (
    "diffusers has no class for this network, so its from_pretrained cannot build it. The weights load with safetensors, under "
    "the names of goku_core.models.Goku; `goku` is the config of that class."
)


def export_goku(checkpoint: Path, folder: Path) -> None:
    """model.safetensors (averaged weights), training.safetensors and config.json, as `models/<phase>` has them.

    Raises GokuError where the checkpoint does not say what network it is of, or where `folder` holds something.
    """
    source = _Source(checkpoint)

    def fill(staging: Path) -> None:
        source.write(source.blocks(AVERAGED), AVERAGED, staging / "model.safetensors")
        source.write(source.blocks(WEIGHTS), WEIGHTS, staging / "training.safetensors")
        (staging / "config.json").write_text(
            json.dumps(source.config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )

    _make(folder, fill)


def export_diffusers(checkpoint: Path, folder: Path, limit: int = DIFFUSERS_BYTES) -> None:
    """transformer/config.json and transformer/diffusion_pytorch_model.safetensors (averaged weights); above `limit` bytes in
    parts, with diffusers' index of them. Raises as `export_goku`.
    """
    source = _Source(checkpoint)
    runs = split(source.blocks(AVERAGED), limit)
    names = [f"{DIFFUSERS_NAME}-{n + 1:05d}-of-{len(runs):05d}.safetensors" for n in range(len(runs))]

    def fill(staging: Path) -> None:
        transformer = staging / "transformer"
        transformer.mkdir()
        if len(runs) > 1:
            owners = {block.name: name for run, name in zip(runs, names, strict=True) for block in run}
            total = sum(block.bytes for run in runs for block in run)
            listed = {"metadata": {"total_size": total}, "weight_map": owners}
            _write_json(transformer / f"{DIFFUSERS_NAME}.safetensors.index.json", listed)
        for run, name in zip(runs, names if len(runs) > 1 else [f"{DIFFUSERS_NAME}.safetensors"], strict=True):
            source.write(run, AVERAGED, transformer / name)
        described = {"_class_name": None, "note": NO_CLASS, "goku": source.config["model"]}
        _write_json(transformer / "config.json", described | _diffusers_version())

    _make(folder, fill)


LAYOUTS: dict[str, Callable[[Path, Path], None]] = {"goku": export_goku, "diffusers": export_diffusers}


class _Source:
    """A checkpoint that is read tensor by tensor: exporting needs the memory of the largest one."""

    def __init__(self, checkpoint: Path) -> None:
        self.index, self.reader = Index.read(checkpoint / INDEX), Reader(checkpoint)
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        self.config: dict[str, Any] = state["lineage"].get("config")
        if self.config is None:
            raise GokuError(f"{checkpoint} does not say what network it is of: its run gave no config.json along.")

    def blocks(self, section: str) -> list[Block]:
        """The whole tensors of a section, under the names of their parameters."""
        prefix = f"{section}."
        return [
            Block(name.removeprefix(prefix), saved.dtype, saved.shape, (0,) * len(saved.shape))
            for name, saved in self.index.tensors.items()
            if name.startswith(prefix)
        ]

    def write(self, blocks: list[Block], section: str, path: Path) -> None:
        file = make_file(path.name, blocks)
        values = (raw(self.reader.whole(self.index.tensors[f"{section}.{block.name}"])) for block in file.blocks)
        write(path, (part for parts in ([file.header], values) for part in parts))


def _make(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fills a folder that appears whole or not at all."""
    if folder.exists() and any(folder.iterdir()):
        raise GokuError(f"{folder} holds something already. Name another folder, or empty it.")
    staging = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    fill(staging)
    if folder.exists():
        folder.rmdir()
    staging.rename(folder)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _diffusers_version() -> dict[str, str]:
    try:
        return {"_diffusers_version": importlib.metadata.version("diffusers")}
    except importlib.metadata.PackageNotFoundError:
        return {}
