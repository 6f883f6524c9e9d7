"""A rank of a small real training, for tests of what surrounds ranks: `python -m small_rank JOB.json` under the launcher.

Data parallel over gloo: every rank learns its share of each step's samples, gradients are summed over ranks. All is a function of
(seed, data step), so that runs with the same ranks end with the same bits.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint import Checkpoints, State
from goku_core.train.health import Heart
from goku_core.train.health.errors import Preempted
from goku_core.train.health.leave import Leave
from goku_core.train.health.request import WatchSettings
from goku_core.train.health.rewind import Guard
from goku_core.train.position import Position

BATCH = 32


def batch(job: dict, data_step: int, rank: int, world: int) -> tuple[Tensor, Tensor]:
    draws = np.random.Generator(np.random.Philox(key=[job["seed"], data_step]))
    x = torch.from_numpy(draws.standard_normal((BATCH, 8), np.float32))
    y = torch.sin(x.sum(1, keepdim=True)) + 0.1 * torch.from_numpy(draws.standard_normal((BATCH, 1), np.float32))
    if data_step in job.get("poison", {}).get("data_steps", []):
        y = y + float(job["poison"]["value"])
    return x[rank::world], y[rank::world]


def train(job: dict, rank: int = 0, world: int = 1) -> tuple[State, Position]:
    """The run of `job`: scratch, seed, steps, checkpoint_every; pause (s, each step); poison; fail (raise at a step); watch."""
    torch.manual_seed(job["seed"])
    scratch = Path(job["scratch"])
    model = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 1))
    state = State(model, copy.deepcopy(model), {"adamw": torch.optim.AdamW(model.parameters(), lr=1e-2)})
    checkpoints, position = Checkpoints(scratch / "checkpoints"), Position()
    if (found := checkpoints.newest()) is not None:
        position = Position(**checkpoints.load(found, state))
    heart, leave = Heart(rank=rank), Leave()
    guard = Guard(
        WatchSettings(**job.get("watch", {})), state, position, heart, scratch if rank == 0 else None,
        lambda data_step: [f"sample-{data_step}"],
    )  # fmt: skip
    while position.step < job["steps"]:
        with heart.phase("data"):
            x, y = batch(job, position.data_step, rank, world)
        with heart.phase("forward"):
            time.sleep(job.get("pause", 0))
            loss = (model(x) - y).square().sum() / BATCH
        with heart.phase("backward"):
            loss.backward()
        with heart.phase("optimizer"):
            norm, total = _update(state, loss.detach(), world)
        if guard.rewinds(total, norm):
            continue
        position.step += 1
        heart.step(position.step)
        if position.step == job.get("fail"):
            raise RuntimeError("a fault of its own")
        if position.step == job.get("refuse"):
            raise GokuError("the learning rate is a colour")
        leaving = leave.agreed()
        guard.keep()
        if leaving or position.step % job["checkpoint_every"] == 0:
            with heart.phase("checkpoint"):
                checkpoints.save(position.step, state, position.as_json())
        if leaving:
            with heart.phase("checkpoint"):
                checkpoints.wait()
            raise Preempted(f"asked to leave, saved at step {position.step}")
    leave.close()
    heart.finish()
    checkpoints.wait()
    return state, position


def _update(state: State, loss: Tensor, world: int) -> tuple[float, float]:
    gradients = [parameter.grad for parameter in state.model.parameters()]
    if world > 1:
        for tensor in (*gradients, loss):
            dist.all_reduce(tensor)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimizers["adamw"].step()
    state.optimizers["adamw"].zero_grad()
    with torch.no_grad():
        for mean, parameter in zip(state.ema.parameters(), state.model.parameters(), strict=True):
            mean.lerp_(parameter, 0.01)
    return norm.item(), loss.item()


def outcome(job: dict) -> dict[str, Tensor]:
    """Weights and average that the run ended with."""
    folder = Path(job["scratch"])
    return {f"{n}.{k}": v for n in ("model", "ema") for k, v in load_file(folder / f"{n}.safetensors").items()}


def reference(job: dict, ranks: int) -> dict[str, Tensor]:
    """What `outcome` is of a run that nothing befell, computed in one process without checkpoints, ranks or a launcher."""
    torch.manual_seed(job["seed"])
    model = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 1))
    state = State(model, copy.deepcopy(model), {"adamw": torch.optim.AdamW(model.parameters(), lr=1e-2)})
    for step in range(job["steps"]):
        shares = []
        for rank in range(ranks):
            x, y = batch(job, step, rank, ranks)
            ((model(x) - y).square().sum() / BATCH).backward()
            shares.append([parameter.grad for parameter in model.parameters()])
            model.zero_grad()
        for parameter, *own in zip(model.parameters(), *shares, strict=True):
            parameter.grad = sum(own)
        _update(state, torch.zeros(()), 1)
    return {f"{n}.{k}": v for n, m in (("model", model), ("ema", state.ema)) for k, v in m.state_dict().items()}


if __name__ == "__main__":
    told = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    done, _ = train(told, dist.get_rank(), dist.get_world_size())
    if dist.get_rank() == 0:
        scratch = Path(told["scratch"])
        save_file(done.model.state_dict(), scratch / "model.safetensors")
        save_file(done.ema.state_dict(), scratch / "ema.safetensors")
    dist.barrier()
    dist.destroy_process_group()
