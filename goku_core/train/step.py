"""One optimizer step over the packs of this rank's group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from goku_core.train.checkpoint import State
from goku_core.train.data import Pack
from goku_core.train.health import Heart
from goku_core.train.optimizers import set_learning_rate
from goku_core.train.parallel.mesh import Mesh
from goku_core.train.parallel.prepare import locals_of, meet
from goku_core.train.request import TrainRequest
from goku_core.transport import RectifiedFlow


def optimizer_step(
    state: State, packs: Sequence[Pack], rate: float, step: int, request: TrainRequest, heart: Heart, mesh: Mesh
) -> tuple[Tensor, Tensor]:
    """Returns loss and gradient norm of all ranks. The mean is over samples, not tokens: a clip counts as a picture."""
    set_learning_rate(state.optimizers, rate, request.muon_ratio)
    losses = []
    for number, pack in enumerate(packs):
        meet(state.model, request.parallel, last=number == len(packs) - 1)
        with heart.phase("forward"):
            loss = pack_loss(state.model, pack, mesh)
        with heart.phase("backward"):
            loss.backward()
        losses.append(loss.detach())
    with heart.phase("optimizer"):
        norm = clip(state.model, request.clip_norm, mesh)
        for optimizer in state.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        average(state, min(request.ema_decay, (step + 1) / (step + 10)))
    return mesh.total(torch.stack(losses).sum()), norm


def pack_loss(model: nn.Module, pack: Pack, mesh: Mesh) -> Tensor:
    """This rank's share of a pack's loss; the sum over all packs and ranks is that of the step."""
    own, spread = mesh.own(pack)
    inputs = [own.noised, own.text] + ([] if own.condition is None else [own.condition])
    noised, text, *condition = (x if mesh.compute is None else x.to(mesh.compute) for x in inputs)
    velocity = model(noised, own.coords, own.cu_seqlens, own.time, text, own.text_cu_seqlens, *condition, spread=spread)
    # Noise and data stay float32, so that in half precision the loss is computed in float32.
    per_token = RectifiedFlow().loss_per_token(velocity, own.noise, own.data)
    return (per_token * own.weight).sum()


@torch.no_grad()
def clip(model: nn.Module, most: float, mesh: Mesh) -> Tensor:
    """Scales the gradients of all ranks down to a norm of `most`; returns the norm they had."""
    gradients = locals_of(p.grad for p in model.parameters() if p.grad is not None)
    norm = nn.utils.get_total_norm(gradients)
    if mesh.weights is not None:
        squared = norm.to(mesh.device).square()
        dist.all_reduce(squared, group=mesh.sharers)
        norm = squared.sqrt()
    torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
    return norm


@torch.no_grad()
def average(state: State, decay: float) -> None:
    """Moves the averaged weights, part by part on the rank that holds them."""
    torch._foreach_lerp_(locals_of(state.ema.parameters()), locals_of(state.model.parameters()), 1.0 - decay)
