"""Optimizers by name, and the learning-rate schedule of a phase."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from goku_core.train.parallel.muon import ShardedMuon
from goku_core.train.request import Phase, TrainRequest


def make_optimizers(model: nn.Module, request: TrainRequest) -> dict[str, torch.optim.Optimizer]:
    """By name. "muon" orthogonalises the updates of the blocks' matrices; everything else stays with AdamW.

    Muon's rate is matched to the size of AdamW's updates, so that one learning rate serves both (our choice: Muon roughly halves
    the steps of a small network to the same loss, and costs a few matrix products more per step).
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if request.optimizer == "muon" and is_block_matrix(name, p)]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adamw": torch.optim.AdamW(rest, lr=1.0, weight_decay=request.weight_decay, betas=(0.9, 0.95), fused=True)
    }
    if matrices:
        whole = not any(isinstance(p, DTensor) for p in matrices)
        optimizers["muon"] = (torch.optim.Muon if whole else ShardedMuon)(
            matrices, lr=1.0, weight_decay=request.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
    return optimizers


def is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and name.startswith("blocks.") and "modulation" not in name


def set_learning_rate(optimizers: dict[str, torch.optim.Optimizer], rate: float, muon_ratio: float) -> None:
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = rate * (muon_ratio if name == "muon" else 1.0)


def learning_rate(phase: Phase, step: int) -> float:
    """Linear warm-up, constant, linear decay to a hundredth over the last `decay` share of the phase."""
    warm = min(1.0, (step + 1) / max(1, phase.warmup))
    decay_steps = phase.decay * phase.steps
    left = phase.steps - step
    cooled = min(1.0, max(0.01, left / decay_steps)) if decay_steps >= 1 else 1.0
    return phase.learning_rate * warm * cooled
