"""kill -9 at any moment of a save: the last checkpoint that was told to be durable is there, whole, or a newer one."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import torch
from torch import nn

from goku_core.train.checkpoint import Checkpoints, State


def state(width: int = 200) -> State:
    model, ema = nn.Linear(width, width), nn.Linear(width, width)
    return State(model, ema.requires_grad_(False), {"adamw": torch.optim.AdamW(model.parameters())})


def train(folder: Path, durable: Path) -> None:
    """Every value of step k is k: what a checkpoint is made of shows. Tells the durable ones."""
    torch.set_num_threads(1)
    one, checkpoints = state(), Checkpoints(folder)
    found = checkpoints.newest()
    first = checkpoints.load(found, one)["step"] + 1 if found else 1
    for step in range(first, 1_000_000):
        with torch.no_grad():
            for parameter in (*one.model.parameters(), *one.ema.parameters()):
                parameter.fill_(float(step))
        checkpoints.save(step, one, {"step": step})
        if step % 3 == 0:
            checkpoints.wait()
            with durable.open("a") as file:
                file.write(f"{step}\n")


def test_no_kill_costs_what_was_durable(tmp_path: Path) -> None:
    draws, durable, reached = random.Random(7), tmp_path / "durable", []
    for _ in range(12):
        process = multiprocessing.get_context("fork").Process(target=train, args=(tmp_path / "run", durable))
        process.start()
        before = durable.stat().st_size if durable.exists() else 0
        deadline = time.monotonic() + 20
        while (durable.stat().st_size if durable.exists() else 0) == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(draws.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        told = [int(line) for line in durable.read_text().split()]
        checkpoints, one = Checkpoints(tmp_path / "run"), state()
        found = checkpoints.newest()
        assert found is not None and found.step >= told[-1]
        assert checkpoints.load(found, one) == {"step": found.step}
        weights = [*one.model.parameters(), *one.ema.parameters()]
        assert all((value == float(found.step)).all() for value in weights)
        reached.append(found.step)
    assert reached == sorted(set(reached)), "every run went on from where the one before was killed"
