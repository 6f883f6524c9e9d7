"""What finished records have cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from goku_core.costs import machine
from goku_core.costs.prices import PlanRequest
from goku_core.pipeline.commit import Record


@dataclass(frozen=True)
class Spent:
    """machine_hours: wall time; GPU-hours of all ranks, idle ones too; money: None where the GPU has no price."""

    name: str
    machine_hours: float
    gpu_hours: float
    money: float | None


def of(record: Record, plan: PlanRequest) -> Spent:
    """Of one record. Training knows the hours of its ranks over all attempts; the others count this attempt's wall time."""
    here = record.value.get("machine") or {"gpus": 0, "gpu": None}
    request = record.value["request"] | record.value.get("arrangement", {})
    hours = record.seconds / 3600
    if record.stage == "train":
        on_gpus = bool(here["gpus"]) and request.get("parallel.device") != "cpu"
        gpu_hours = record.report.get("goodput", {}).get("rank_hours", hours) if on_gpus else 0.0
    elif record.stage == "precompute" and request.get("device") == "cpu":
        gpu_hours = 0.0
    else:
        used = {"precompute": here["gpus"], "vae": min(here["gpus"], 1), "evaluate": min(here["gpus"], 1)}
        gpu_hours = hours * used.get(record.stage, 0)
    return Spent(record.cell, hours, gpu_hours, plan.money(gpu_hours, hours, machine.kind(here["gpu"])))


def together(name: str, spent: Iterable[Spent]) -> Spent:
    """A sum; its money is None where one has none."""
    found = list(spent)
    money = [one.money for one in found]
    return Spent(
        name,
        sum(one.machine_hours for one in found),
        sum(one.gpu_hours for one in found),
        None if None in money else sum(one for one in money if one is not None),
    )
