"""Which GPUs a machine has, asked of its driver's files (a plan must not load torch), and how many of them a cell uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goku_core.costs.prices import GPU

KINDS: tuple[str, ...] = GPU.__args__  # type: ignore[attr-defined]
DRIVER = Path("/proc/driver/nvidia/gpus")


def gpus(driver: Path = DRIVER) -> list[str]:
    """Model names: ["NVIDIA H100 80GB HBM3", ...]; empty on a machine without."""
    found = []
    for file in sorted(driver.glob("*/information")):
        lines = (line.partition(":") for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
        found.append(next((value.strip() for key, _, value in lines if key.strip() == "Model"), "unknown GPU"))
    return found


def facts() -> dict[str, Any]:
    """For a commit record."""
    names = gpus()
    return {"gpus": len(names), "gpu": names[0] if names else None}


def kind(model: str | None) -> str | None:
    """Name in the price table of a model name; None where it has none."""
    return next((one for one in KINDS if model and one in model.lower()), None)


def used(stage: str, request: dict[str, Any], here: int) -> int:
    """GPUs that a cell takes on a machine (or machines) with `here` of them each.

    Training takes what `parallel` says: without GPUs here it counts them only where several machines or ranks are asked
    for, for then it is not meant for this one. Encoding takes all, the VAE and sampling one, the others none.
    """
    if told := request.get("parallel"):
        ranks = told["nodes"] * told["ranks_per_node"]
        return ranks if told["device"] == "cuda" or (told["device"] == "auto" and (here or ranks > 1)) else 0
    if stage == "precompute":
        return here if request.get("device") != "cpu" else 0
    return min(here, 1) if stage in ("vae", "evaluate") else 0
