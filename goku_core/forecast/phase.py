"""All that can be said of one phase before it is begun."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from goku_core.forecast import memory, network, speed
from goku_core.forecast.arrangement import NODE, Arrangement
from goku_core.forecast.devices import Device, Rates
from goku_core.forecast.fitting import nearest, obstacle
from goku_core.forecast.lengths import Lengths
from goku_core.forecast.memory import MASTER, Memory
from goku_core.forecast.network import Operations, Parameters
from goku_core.forecast.speed import Step
from goku_core.packing import plan

if TYPE_CHECKING:
    from goku_core.models import GokuConfig
    from goku_core.train.request import Phase

STEPS_PLANNED = 4
# Mean time between failures at 1,024 GPUs (Meta: 7.9 h), shorter in proportion to more GPUs.
FAILURE_HOURS_OF_1024 = 7.9
# Share of the time that training gets on (our choice: below the "over 90 %" of MegaScale).
PRODUCTIVE = 0.9
# Bytes/s of one GPU into host memory, and of one machine into its store (our choice: a careful PCIe 4, and 16 Gbit/s).
TO_HOST, TO_STORE = 20e9, 2e9


@dataclass(frozen=True)
class Packs:
    """Over the planned steps. fill: tokens of a pack over the most it may hold; imbalance: dearest group over the mean, less 1."""

    samples: float
    tokens: float
    packs: float
    packs_per_group: float
    fill: float
    imbalance: float
    idle_groups: float


@dataclass(frozen=True)
class Saving:
    """Checkpoints: bytes of one, s that training waits for its copy, s until it is stored, and how often to make one."""

    bytes: float
    stall: float
    stored: float
    every_seconds: float
    every_steps: int


@dataclass(frozen=True)
class Forecast:
    """One phase on so many GPUs. `obstacle`: why it does not fit; `advice`: the least to change, where anything helps."""

    phase: str
    steps: int
    arrangement: Arrangement
    parameters: Parameters
    memory: Memory
    free: float
    packs: Packs
    step: Step
    saving: Saving
    lengths: str
    rates: str
    obstacle: str | None
    advice: list[str]

    @property
    def days(self) -> float:
        return self.steps * self.step.total / PRODUCTIVE / 86400

    @property
    def gpu_hours(self) -> float:
        return self.days * 24 * self.arrangement.gpus

    def as_json(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "steps": self.steps,
            "arrangement": asdict(self.arrangement)
            | {"groups": self.arrangement.groups, "replicas": self.arrangement.replicas},
            "parameters": asdict(self.parameters),
            "memory_gib": self.memory.gigabytes() | {"free": round(self.free / memory.GIB, 2)},
            "packs": asdict(self.packs),
            "step_seconds": asdict(self.step) | {"total": self.step.total},
            "days": self.days,
            "gpu_hours": self.gpu_hours,
            "checkpoint": asdict(self.saving),
            "lengths": self.lengths,
            "rates": self.rates,
            "obstacle": self.obstacle,
            "advice": self.advice,
        }


def forecast(
    name: str,
    phase: Phase,
    config: GokuConfig,
    parameters: Parameters,
    lengths: Lengths,
    arranged: Arrangement,
    gpu: Device,
    rates: Rates,
    seed: int,
) -> Forecast:
    """Raises `GokuError` where the GPUs do not fill the mesh, or the data lacks a kind of sample."""
    arranged.checked()
    mix, longest = lengths.mix(phase), lengths.longest(phase)
    mean, square = lengths.mean(phase)

    def needs(one: Arrangement, pack: int | None = None) -> Memory:
        pack = pack or one.largest_pack(longest, phase.tokens)
        return memory.of(config, parameters, one, pack, lengths.text_tokens * pack / mean)

    def seconds(one: Arrangement) -> float:
        """About: as if all groups had the same."""
        samples = phase.tokens / mean
        work = network.operations(config, phase.tokens, samples * square, lengths.text_tokens, samples)
        each = Operations(work.matmul / one.gpus, work.attention / one.gpus)
        return speed.kernel_seconds(each, rates, one.recomputation)

    price = speed.cost(config, lengths.text_tokens, rates, arranged.recomputation)
    dealt = [_deal(lengths, mix, phase, arranged, price, seed, step) for step in range(STEPS_PLANNED)]
    groups = [[lengths.tokens[rows] for rows in packs] for packs in dealt[0]]
    tight = arranged.pack_tokens is not None and arranged.pack_tokens < longest
    taken = needs(arranged, max(int(lengths.tokens[pack].sum()) for packs in dealt for own in packs for pack in own))
    step = speed.of(config, parameters, arranged, gpu, rates, groups, lengths.text_tokens)
    why = obstacle(taken, gpu.memory)
    if tight:
        short = f"its longest sample has {longest} tokens, and a pack of {arranged.pack_tokens} does not hold it"
        why = f"{short}; with room for it, it {why}" if why else short
    better = nearest(arranged, longest, needs, seconds, gpu.memory) if why else None
    return Forecast(
        phase=name,
        steps=phase.steps,
        arrangement=arranged,
        parameters=parameters,
        memory=taken,
        free=memory.room(gpu.memory),
        packs=_statistics(lengths, dealt, arranged, price),
        step=step,
        saving=_saving(parameters, arranged, step),
        lengths=lengths.source,
        rates=rates.source,
        obstacle=why,
        advice=better.differences(arranged) if better else [],
    )


def _deal(
    lengths: Lengths, mix: Any, phase: Phase, arranged: Arrangement, price: tuple[float, float], seed: int, step: int
) -> list[list[np.ndarray]]:
    """Rows of each pack of each group."""
    most, rounds = arranged.pack_tokens, "equal" if arranged.reshard == "after_block" else "free"
    if most is not None:  # too small a pack is told as what does not fit; here it is as large as it must be
        most = max(most, lengths.longest(phase))
    return plan(lengths.tokens, mix, phase.tokens, seed, step, arranged.groups, price, most, rounds)


def _statistics(
    lengths: Lengths,
    dealt: list[list[list[np.ndarray]]],
    arranged: Arrangement,
    price: tuple[float, float],
) -> Packs:
    full = [pack for groups in dealt for packs in groups for pack in packs if len(pack)]
    held = np.array([lengths.tokens[pack].sum() for pack in full], np.float64)
    costs = np.array([[_price(lengths.tokens[np.concatenate(packs)], price) for packs in groups] for groups in dealt])
    steps = len(dealt)
    return Packs(
        samples=sum(len(pack) for pack in full) / steps,
        tokens=held.sum() / steps,
        packs=len(full) / steps,
        packs_per_group=len(full) / steps / arranged.groups,
        fill=float(held.mean() / (arranged.pack_tokens or held.max())),
        imbalance=float((costs.max(axis=1) / costs.mean(axis=1)).mean() - 1),
        idle_groups=float((costs == 0).sum(axis=1).mean()),
    )


def _price(tokens: np.ndarray, price: tuple[float, float]) -> float:
    n = tokens.astype(np.float64)
    return float((price[0] * n + price[1] * n**2).sum())


def _saving(parameters: Parameters, arranged: Arrangement, step: Step) -> Saving:
    """How often: sqrt(2 x wait x time between failures), the interval at which waiting and lost work cost least together
    (Young 1974), and never more often than one is stored."""
    size = float(MASTER * (2 * parameters.total + parameters.moments))
    per_gpu = size / arranged.sharers
    stall = per_gpu / TO_HOST
    machines = max(1, math.ceil(arranged.sharers / NODE))
    stored = size / machines / TO_STORE
    between_failures = FAILURE_HOURS_OF_1024 * 3600 * 1024 / arranged.gpus
    every = max(math.sqrt(2 * stall * between_failures), stored)
    return Saving(size, stall, stored, every, max(1, round(every / step.total)))
