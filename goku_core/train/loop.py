"""The training loop of one phase. Killed anywhere, it continues from its newest valid checkpoint as if it had not been."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from goku_core.models import Goku
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.train import checkpoint
from goku_core.train.batch import Pack, Packer
from goku_core.train.optimizers import learning_rate, make_optimizers, set_learning_rate
from goku_core.train.request import Phase, TrainRequest
from goku_core.transport import RectifiedFlow


@dataclass
class Progress:
    """What the loop has counted so far; part of every checkpoint."""

    step: int = 0
    images: int = 0
    clips: int = 0
    tokens: int = 0
    log: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Trained:
    model: Goku
    ema: Goku
    progress: Progress
    resumed_from: int
    seconds: float


def train_phase(
    name: str, phase: Phase, request: TrainRequest, model: Goku, ema: Goku | None, packer: Packer, context: Context
) -> Trained:
    """Trains `model` for `phase.steps`. `ema` continues the average of the phase before; None starts one here.

    Raises `GokuError` when the loss stops being finite.
    """
    ema = ema if ema is not None else copy.deepcopy(model)
    ema.requires_grad_(False)
    state = checkpoint.State(model, ema, make_optimizers(model, request))
    progress = _resume(state, context)
    resumed_from = progress.step
    window: list[Tensor] = []
    started = time.monotonic()
    with context.progress(f"train {name}", phase.steps, "steps") as bar:
        bar.advance(progress.step)
        while progress.step < phase.steps:
            pack = packer.pack(progress.step)
            rate = learning_rate(phase, progress.step)
            loss, norm = _step(state, pack, rate, progress.step, request)
            progress.step += 1
            progress.images += pack.counts[0]
            progress.clips += pack.counts[1]
            progress.tokens += len(pack.data)
            window.append(loss)
            if progress.step % request.log_every == 0 or progress.step == phase.steps:
                entry = _entry(progress, window, norm, rate)
                window = []
                progress.log.append(entry)
                context.tracker.log_metrics({k: v for k, v in entry.items() if k != "step"}, step=progress.step)
                bar.advance(0, loss=entry["loss"])
            bar.advance(1)
            # Windows of the log end at checkpoints too, so that a resumed run averages the same steps.
            if progress.step % request.checkpoint_every == 0 and not window and progress.step < phase.steps:
                checkpoint.save(context.scratch / "checkpoints", progress.step, state, _extra(progress))
    return Trained(model, ema, progress, resumed_from, time.monotonic() - started)


def _resume(state: checkpoint.State, context: Context) -> Progress:
    found = checkpoint.newest_valid(context.scratch / "checkpoints")
    if found is None:
        return Progress()
    progress = Progress(**checkpoint.restore(found, state))
    context.say(f"resuming from step {progress.step} ({found.name})")
    return progress


def _extra(progress: Progress) -> dict[str, Any]:
    return {k: v for k, v in vars(progress).items() if k != "step"}


def _step(state: checkpoint.State, pack: Pack, rate: float, step: int, request: TrainRequest) -> tuple[Tensor, Tensor]:
    """One optimizer step; returns loss and gradient norm. The mean is over samples, not tokens: a clip counts as a picture."""
    set_learning_rate(state.optimizers, rate, request.muon_ratio)
    velocity = state.model(
        pack.noised, pack.coords, pack.cu_seqlens, pack.time, pack.text, pack.text_cu_seqlens, pack.condition
    )
    per_token = RectifiedFlow().loss_per_token(velocity, pack.noise, pack.data)
    loss = (per_token * pack.weight).sum()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), request.clip_norm)
    for optimizer in state.optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    _average(state, min(request.ema_decay, (step + 1) / (step + 10)))
    return loss.detach(), norm.detach()


@torch.no_grad()
def _average(state: checkpoint.State, decay: float) -> None:
    torch._foreach_lerp_(list(state.ema.parameters()), list(state.model.parameters()), 1.0 - decay)


def _entry(progress: Progress, window: list[Tensor], norm: Tensor, rate: float) -> dict[str, float]:
    loss = torch.stack(window).mean().item()
    if not math.isfinite(loss):
        raise GokuError(
            f"the loss is {loss} near step {progress.step}. Lower the phase's learning_rate or clip_norm; the run "
            "continues from its last checkpoint once the parameters have changed back or forth."
        )
    return {
        "step": progress.step,
        "loss": round(loss, 6),
        "gradient_norm": round(norm.item(), 6),
        "learning_rate": round(rate, 9),
        "images": progress.images,
        "clips": progress.clips,
        "tokens": progress.tokens,
    }


def log_lines(log: list[dict[str, float]]) -> str:
    """The log as JSON lines."""
    return "".join(json.dumps(entry) + "\n" for entry in log)
