"""Seconds of a step: kernels of the dearest group at the device's rates, and what ranks send one another.

Communication of weights and gradients is taken to hide behind the kernels, as far as these last; that of a sequence group is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from goku_core.forecast import network
from goku_core.forecast.arrangement import NODE, Arrangement
from goku_core.forecast.devices import Device, Rates
from goku_core.forecast.memory import HALF, MASTER
from goku_core.forecast.network import Operations, Parameters, Recomputation

if TYPE_CHECKING:
    from goku_core.models import GokuConfig

# Bytes that the optimizer and the average read and write per weight: weight, gradient, two moments, average.
UPDATE_BYTES = 40
BACKWARD_KERNEL = 2.5  # products of attention's backward over its forward


@dataclass(frozen=True)
class Step:
    """Seconds of one optimizer step, and the share of the peak that the network's own operations are (no recomputation)."""

    kernels: float
    sequence: float
    weights: float
    update: float
    mfu: float

    @property
    def total(self) -> float:
        return max(self.kernels + self.sequence, self.weights) + self.update


def kernel_seconds(work: Operations, rates: Rates, recomputation: Recomputation) -> float:
    """Forward and backward on one GPU."""
    again = 1 if recomputation == "full" else 0
    matmul = (3 + again) * work.matmul / rates.matmul
    attention = work.attention * ((1 + again) / rates.attention_forward + BACKWARD_KERNEL / rates.attention_backward)
    return (matmul + attention) * (1 + rates.everything_else)


def cost(config: GokuConfig, text_tokens: float, rates: Rates, recomputation: Recomputation) -> tuple[float, float]:
    """(a, b) of a*n + b*n^2: seconds of a sample of n tokens on one GPU."""
    linear = network.operations(config, 1.0, 0.0, text_tokens, 0.0)
    square = network.operations(config, 0.0, 1.0, 0.0, 0.0)
    return kernel_seconds(linear, rates, recomputation), kernel_seconds(square, rates, recomputation)


def of(
    config: GokuConfig,
    parameters: Parameters,
    arranged: Arrangement,
    gpu: Device,
    rates: Rates,
    groups: Sequence[Sequence[np.ndarray]],
    text_tokens: float,
) -> Step:
    """groups: the lengths of the samples of each pack of each group."""
    seconds = [[_pack_seconds(config, pack, text_tokens, rates, arranged) for pack in packs] for packs in groups]
    if arranged.reshard == "after_block":
        # Every pack is a set of collectives of all groups: each waits for the dearest.
        rounds = max(len(packs) for packs in seconds)
        kernels = sum(max((packs[i] for packs in seconds if i < len(packs)), default=0.0) for i in range(rounds))
    else:
        kernels = max(sum(packs) for packs in seconds)
    most_tokens = max(sum(int(pack.sum()) for pack in packs) for packs in groups)
    lengths = np.concatenate([pack for packs in groups for pack in packs]).astype(np.float64)
    work = network.operations(config, lengths.sum(), (lengths**2).sum(), text_tokens, len(lengths))
    step = Step(
        kernels,
        _sequence_seconds(config, most_tokens, arranged, gpu),
        _weight_seconds(parameters, arranged, gpu, max(len(packs) for packs in groups)),
        UPDATE_BYTES * parameters.trained / arranged.sharers / gpu.hbm,
        0.0,
    )
    used = 3 * (work.matmul + work.attention) / arranged.gpus / step.total
    return Step(step.kernels, step.sequence, step.weights, step.update, used / gpu.peak)


def _pack_seconds(
    config: GokuConfig, pack: np.ndarray, text_tokens: float, rates: Rates, arranged: Arrangement
) -> float:
    lengths = pack.astype(np.float64)
    work = network.operations(config, lengths.sum(), (lengths**2).sum(), text_tokens, len(pack))
    return kernel_seconds(work, rates, arranged.recomputation) / arranged.sequence


def _sequence_seconds(config: GokuConfig, tokens: int, arranged: Arrangement, gpu: Device) -> float:
    """All-to-all of q, k, v and the result of every self-attention, forward and backward."""
    ranks = arranged.sequence
    if ranks == 1:
        return 0.0
    passes = 3 if arranged.recomputation == "full" else 2
    sent = passes * config.depth * 4 * HALF * config.width * tokens / ranks * (ranks - 1) / ranks
    return sent / (gpu.node_link if ranks <= NODE else gpu.network)


def _weight_seconds(parameters: Parameters, arranged: Arrangement, gpu: Device, packs: int) -> float:
    """Gathering weights, scattering gradients, and their sum over the replicas."""
    sharers, replicas = arranged.sharers, arranged.replicas
    times = packs if arranged.reshard == "after_block" else 1
    gathers = 2 * times if arranged.reshard == "after_block" else 1
    each = (sharers - 1) / sharers
    within = (gathers * HALF * parameters.total + times * MASTER * parameters.trained) * each
    across = 2 * MASTER * parameters.trained / sharers * (replicas - 1) / replicas
    return within / (gpu.node_link if sharers <= NODE else gpu.network) + across / gpu.network
