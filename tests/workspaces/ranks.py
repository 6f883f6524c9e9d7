"""Runs a function on several ranks, each a process, on this machine.

Processes come from a server that has imported torch once: eight of them start in the time of one. The function must be
importable, so it lives in a module of this folder.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PRELOAD = ["goku_core.train.rank", "safetensors.torch"]


def on_ranks(body: Callable[..., None], world: int, folder: Path, *arguments: Any, seconds: float = 240) -> None:
    """body(rank, world, folder, *arguments) on `world` ranks; raises what the first one to fail said. None outlives the call."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    folder.mkdir(parents=True, exist_ok=True)
    processes = [
        context.Process(target=_enter, args=(body, rank, world, folder, arguments), daemon=True)
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + seconds
    try:
        while any(process.is_alive() for process in processes):
            if time.monotonic() > deadline:
                raise TimeoutError(f"ranks did not end within {seconds:g} s")
            if any(process.exitcode for process in processes):
                break
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill() if process.is_alive() else None
            process.join()
    failed = sorted(folder.glob("error-*.txt"), key=lambda file: file.stat().st_mtime)
    if failed or any(process.exitcode for process in processes):
        told = failed[0].read_text() if failed else f"exit codes {[process.exitcode for process in processes]}"
        raise AssertionError(f"{failed[0].stem if failed else 'ranks'}: {told}")


def _enter(body: Callable[..., None], rank: int, world: int, folder: Path, arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        body(rank, world, folder, *arguments)
    except BaseException:
        (folder / f"error-{rank}.txt").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def join(rank: int, world: int, store: Path) -> None:
    """Meets the other ranks at a file."""
    from datetime import timedelta

    import torch.distributed as dist

    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
