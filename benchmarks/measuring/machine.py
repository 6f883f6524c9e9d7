"""What a figure was measured on. Nothing that names the host or a place in its file system."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

MEASURED_ROOMS = ("models", "transport", "packing")


def describe(device: torch.device) -> dict[str, Any]:
    """CPU, cores, threads, torch, device and, for a GPU, its memory and driver-independent properties."""
    machine: dict[str, Any] = {
        "cpu": cpu_fact("model name") or platform.processor() or platform.machine(),
        "cpu_family_and_model": f"{cpu_fact('cpu family')}, {cpu_fact('model')}",
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": "cpu",
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        machine |= {"device": card.name, "device_memory_gib": round(card.total_memory / 2**30, 1)}
        machine |= {"multiprocessors": card.multi_processor_count, "cuda": torch.version.cuda}
    for package in ("diffusers", "flash_attn"):
        try:
            machine[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            machine[package] = None
    return machine


def slug(machine: dict[str, Any]) -> str:
    """Part of the result's file name: `nvidia-h200`, `amd-epyc-2-cores`."""
    name = f"{machine['cpu']} {machine['cores']} cores" if machine["device"] == "cpu" else machine["device"]
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)|@.*ghz|processor", " ", name.lower())).strip("-")


def cpu_fact(key: str) -> str:
    """A line of Linux's description of the first core; empty where there is none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next(
        (value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key), ""
    )


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> list[float]:
    """Load averages of the last 1, 5 and 15 minutes: who else was at work."""
    return [round(value, 2) for value in os.getloadavg()]


def code_digest() -> str:
    """SHA-256 over the measured rooms and the benchmarks: which code the figures belong to."""
    root = Path(__file__).resolve().parents[2]
    folders = [*(root / "goku_core" / room for room in MEASURED_ROOMS), root / "benchmarks"]
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
