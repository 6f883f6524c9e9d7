"""One optimizer step over the packs of this group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from goku_core.train.checkpoint import State
from goku_core.train.data import Pack
from goku_core.train.health import Heart
from goku_core.train.optimizers import set_learning_rate
from goku_core.train.request import TrainRequest
from goku_core.transport import RectifiedFlow


def optimizer_step(
    state: State, packs: Sequence[Pack], rate: float, step: int, request: TrainRequest, heart: Heart
) -> tuple[Tensor, Tensor]:
    """Returns loss and gradient norm. The mean is over samples, not tokens: a clip counts as a picture."""
    set_learning_rate(state.optimizers, rate, request.muon_ratio)
    losses = [_backward(state.model, pack, heart) for pack in packs]
    with heart.phase("optimizer"):
        norm = nn.utils.clip_grad_norm_(state.model.parameters(), request.clip_norm)
        for optimizer in state.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        average(state, min(request.ema_decay, (step + 1) / (step + 10)))
    return torch.stack(losses).sum(), norm.detach()


def _backward(model: nn.Module, pack: Pack, heart: Heart) -> Tensor:
    with heart.phase("forward"):
        velocity = model(
            pack.noised, pack.coords, pack.cu_seqlens, pack.time, pack.text, pack.text_cu_seqlens, pack.condition
        )
        per_token = RectifiedFlow().loss_per_token(velocity, pack.noise, pack.data)
        loss = (per_token * pack.weight).sum()
    with heart.phase("backward"):
        loss.backward()
    return loss.detach()


@torch.no_grad()
def average(state: State, decay: float) -> None:
    torch._foreach_lerp_(list(state.ema.parameters()), list(state.model.parameters()), 1.0 - decay)
