"""The training loop of one phase. Killed anywhere, it continues from its newest valid checkpoint as if it had not been."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_core.models import Goku
from goku_core.models.recomputation import counted
from goku_core.packing import plan
from goku_core.pipeline.context import Context
from goku_core.train.checkpoint import Checkpoints, State
from goku_core.train.checkpoint.checkpoints import open_checkpoints
from goku_core.train.data import Loader, Pack, Packer
from goku_core.train.health import open_heart
from goku_core.train.health.errors import Preempted
from goku_core.train.health.leave import Leave
from goku_core.train.health.rewind import Guard
from goku_core.train.optimizers import learning_rate, make_optimizers
from goku_core.train.parallel.mesh import Mesh
from goku_core.train.parallel.prepare import hollow, prepare
from goku_core.train.parallel.verify import described, verify, verify_recomputation
from goku_core.train.position import Position
from goku_core.train.request import Phase, TrainRequest
from goku_core.train.step import optimizer_step
from goku_core.train.validation import Validator


@dataclass
class Trained:
    """What a phase has come to; `parameters` of the network, `seconds` of this attempt."""

    position: Position
    resumed_from: int
    seconds: float
    parameters: int


def train_phase(
    name: str,
    phase: Phase,
    request: TrainRequest,
    model: Goku,
    ema: Goku | None,
    loader: Loader,
    lineage: Mapping[str, Any],
    context: Context,
    mesh: Mesh,
) -> tuple[State, Trained]:
    """Trains `model` for `phase.steps`. `ema` continues the average of the phase before; None starts one here. Of several
    ranks only rank 0 brings weights, others `hollow` networks. `lineage` says in every checkpoint what the run is:
    fingerprint, phase, config.json of the network.

    Raises `GokuError` when ranks do not work together as the parameters say, `Diverged` when bad steps go on although the run went
    back, and `Preempted`, after saving, when it is asked to leave.
    """
    shared_out = mesh.world > 1
    if ema is None:
        ema = hollow(model.config) if shared_out else copy.deepcopy(model)
    ema.requires_grad_(False)
    parallel = request.parallel_of(phase)
    prepare(model, ema, mesh, parallel, from_first=shared_out)
    verify(model, mesh)
    state = State(model, ema, make_optimizers(model, request))
    if mesh.world > 1:
        context.say(described(model, state.optimizers, mesh, parallel))
    checkpoints = open_checkpoints(request.checkpoint, context.scratch / "checkpoints", lineage, context.say)
    position = _resume(state, checkpoints, context)
    resumed_from = position.step
    heart = open_heart(context.scratch, mesh.rank)
    told = context.scratch if mesh.rank == 0 else None
    guard = Guard(request.watch, state, position, heart, told, lambda data_step: _sample_ids(loader.packer, data_step))
    validator = Validator(phase, request, loader, mesh)
    started = time.monotonic()
    with Leave() as leave, context.progress(f"train {name}", phase.steps, "steps") as bar:
        bar.advance(position.step)
        while position.step < phase.steps:
            with heart.phase("data"):
                packs = loader.step(position.data_step)
            rate = learning_rate(phase, position.step)
            with counted() as operators:
                loss, norm = optimizer_step(state, packs, rate, position.step, request, heart, mesh)
            before = position.step
            if guard.rewinds(loss.item(), norm.item()):
                bar.advance(position.step - before)
                continue
            if position.step == resumed_from:  # what only a step shows
                verify(model, mesh)
                verify_recomputation(model, mesh, operators)
            _count(position, packs, mesh)
            heart.step(position.step)
            validator.after(state, position, context)
            position.window.append(loss.item())
            if position.step % request.log_every == 0 or position.step == phase.steps:
                entry = _entry(position, norm, rate)
                position.window = []
                position.log.append(entry)
                context.tracker.log_metrics({k: v for k, v in entry.items() if k != "step"}, step=position.step)
                bar.advance(0, loss=entry["loss"])
            bar.advance(1)
            leaving = leave.agreed(mesh.device)
            due = position.step % request.checkpoint.every == 0
            if (due or leaving) and position.step < phase.steps:
                with heart.phase("checkpoint"):
                    checkpoints.save(position.step, state, position.as_json())
            guard.keep(now=due)
            if leaving and position.step < phase.steps:
                with heart.phase("checkpoint"):
                    checkpoints.wait()
                raise Preempted(f"asked to leave: saved at step {position.step}; the same command goes on from there")
    heart.finish()
    checkpoints.wait()
    parameters = sum(p.numel() for p in model.parameters())
    return state, Trained(position, resumed_from, time.monotonic() - started, parameters)


def _resume(state: State, checkpoints: Checkpoints, context: Context) -> Position:
    found = checkpoints.newest()
    if found is None:
        return Position()
    position = Position(**checkpoints.load(found, state))
    context.say(f"resuming from step {position.step} ({found.path.name})")
    return position


def _count(position: Position, packs: list[Pack], mesh: Mesh) -> None:
    """Adds what all groups have seen."""
    own = [
        sum(pack.counts[0] for pack in packs),
        sum(pack.counts[1] for pack in packs),
        sum(len(pack.data) for pack in packs if any(pack.counts)),
    ]
    images, clips, tokens = mesh.total(torch.tensor(own) * mesh.is_first_of_group).tolist()
    position.step += 1
    position.images += images
    position.clips += clips
    position.tokens += tokens


def _sample_ids(packer: Packer, data_step: int) -> list[str]:
    """The samples of a data step, of all groups."""
    rows = np.hstack(plan(packer.lengths, packer.mix, packer.phase.tokens, packer.seed, data_step)[0])
    return [str(packer.reader.index["sample_id"][row]) for row in rows]


def _entry(position: Position, norm: Tensor, rate: float) -> dict[str, float]:
    return {
        "step": position.step,
        "loss": round(torch.tensor(position.window, dtype=norm.dtype).mean().item(), 6),
        "gradient_norm": round(norm.item(), 6),
        "learning_rate": round(rate, 9),
        "images": position.images,
        "clips": position.clips,
        "tokens": position.tokens,
    }


def log_lines(log: list[dict[str, float]]) -> str:
    """The log as JSON lines."""
    return "".join(json.dumps(entry) + "\n" for entry in log)
