"""Bytes of one GPU, by what they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from goku_core.forecast import network
from goku_core.forecast.arrangement import Arrangement
from goku_core.forecast.network import Parameters

if TYPE_CHECKING:
    from goku_core.models import GokuConfig

GIB = 2.0**30
MASTER, HALF = 4, 2  # bytes of a float32 weight, and of the bfloat16 copy that computes
# Of a GPU's memory, for the context, communication buffers and the allocator's gaps (our choice).
RESERVE = 0.08


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU at the worst moment of a step.

    weights, average, moments  float32, this GPU's part
    gradients                  float32: its part, and all of them where gradients meet once per step
    gathered                   bfloat16 weights that other GPUs' parts are gathered into
    activations                kept for the backward pass, of the largest pack
    working                    one block computed again, its gradients, and the edges of the network
    """

    weights: float
    average: float
    moments: float
    gradients: float
    gathered: float
    activations: float
    working: float

    @property
    def total(self) -> float:
        return sum(asdict(self).values())

    @property
    def state(self) -> float:
        return self.weights + self.average + self.moments

    def gigabytes(self) -> dict[str, float]:
        return {name: round(value / GIB, 2) for name, value in {**asdict(self), "total": self.total}.items()}


def of(config: GokuConfig, parameters: Parameters, arranged: Arrangement, pack: int, text_tokens: float) -> Memory:
    """pack: tokens of the largest pack of a group; text_tokens: of all its texts."""
    held = 1 / arranged.sharers
    gradients = MASTER * parameters.trained * held
    if arranged.reshard == "after_step":
        gradients = MASTER * parameters.trained
        gathered = HALF * parameters.total
    else:
        # The block at work and the next one, and the gradients of the one before on their way.
        gathered = (2 * HALF + MASTER) * parameters.largest_block
    tokens = pack / arranged.sequence
    kept = network.kept_of_block(config, arranged.recomputation, tokens, text_tokens)
    one_block = network.kept_of_block(config, "none", tokens, text_tokens)
    again = one_block if arranged.recomputation != "none" else 0.0
    return Memory(
        weights=MASTER * parameters.total * held,
        average=MASTER * parameters.total * held,
        moments=MASTER * parameters.moments * held,
        gradients=gradients,
        gathered=gathered,
        activations=config.depth * kept,
        working=again + working_per_token(config) * tokens + network.edges_per_token(config) * tokens,
    )


def working_per_token(config: GokuConfig) -> float:
    """Bytes of a token that a block's backward pass needs beside what was kept: gradients of the widest layers."""
    return HALF * 2.0 * config.ffn + 4.0 * 4 * config.width


def room(gigabytes: float) -> float:
    """Bytes that a step may take."""
    return gigabytes * GIB * (1 - RESERVE)
