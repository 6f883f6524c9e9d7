"""What records depend on beside the judges' rules: decoder, libraries, device, weights. Written beside them."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from goku_core.evaluate.judges.judge import Judge
from goku_core.pipeline.files import digest_json
from goku_core.scorers import weights as weight_files
from goku_core.scorers.sources import Source

PACKAGES = ("numpy", "opencv-python-headless", "pillow", "av", "torch", "transformers")


def environment(device: str) -> dict[str, Any]:
    """Versions and device, without importing a network library. device: "cpu" or "cuda"."""
    import av

    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine(), "device": device}
    found |= {name: _version(name) for name in PACKAGES}
    found["ffmpeg"] = {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
    if device == "cuda":
        found["gpu"] = _gpus()
    return found


def key(environment: dict[str, Any]) -> str:
    return digest_json(environment)[:12]


def sources_of(judge: Judge) -> list[Source]:
    """The sources of a judge's weights, alternatives among them: those that it names (`sources`, nested or not), else those
    that its module declares or imports, or that a module of ours declares which it imports."""
    named = getattr(judge, "sources", None)
    values = vars(sys.modules[type(judge).__module__]).values() if named is None else named
    return list({source.name: source for source in _flat(values)}.values())


def _flat(values: Iterable[Any]) -> Iterator[Source]:
    for value in values:
        if isinstance(value, Source):
            yield value
        elif isinstance(value, tuple | list):
            yield from _flat(value)
        elif isinstance(value, ModuleType) and value.__name__.startswith("goku_core."):
            yield from (one for one in vars(value).values() if isinstance(one, Source))


def described(judge: Judge, weights: Path) -> dict[str, Any]:
    """Name and dimensions of a judge that can work; with weights also their digests, and the precision of its networks."""
    found: dict[str, Any] = {"name": judge.name, "dimensions": sorted(judge.dimensions)}
    if sources := sources_of(judge):
        digests = {source.name: _digest(weights / source.place) for source in sources}
        found["precision"] = getattr(judge, "precision", "float32")
        found["weights"] = [
            {"name": source.name, "licence": source.licence, "sha256": digests[source.name]}
            for source in sources
            if digests[source.name] is not None  # of alternatives only one need be there
        ]
    return found


def _digest(place: Path) -> str | None:
    return weight_files.digest(place) if place.is_file() or any(place.glob("*.safetensors")) else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return []
    return sorted(set(told.stdout.splitlines()))
