"""What four gloo processes do with checkpoints: write in every arrangement, read in every other, run out of disk."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from checkpoint_states import digests, everything, make_state
from torch.distributed.device_mesh import DeviceMesh

from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint import Checkpoints
from goku_core.train.checkpoint import folder as checkpoint_folder

# How the ranks are arranged. "4 x 1": ranks that share a pack hold the same shards, as replicas do.
MESHES: dict[str, tuple[list[int] | list[list[int]], tuple[str, ...]]] = {
    "1": ([0], ("shard",)),
    "2": ([0, 1], ("shard",)),
    "4": ([0, 1, 2, 3], ("shard",)),
    "2 x 2": ([[0, 1], [2, 3]], ("replicate", "shard")),
    "4 x 1": ([[0], [1], [2], [3]], ("sequence", "shard")),
}


def members(name: str) -> list[int]:
    return torch.tensor(MESHES[name][0]).flatten().tolist()


def run(rank: int, folder: Path, results: Path) -> None:
    """One rank; leaves what it found in results/RANK.json."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=4)
    torch.set_num_threads(1)
    meshes = {name: DeviceMesh("cpu", ranks, mesh_dim_names=axes) for name, (ranks, axes) in MESHES.items()}
    groups = {name: dist.new_group(members(name)) for name in MESHES}
    told: dict[str, Any] = {"saved": {}, "loaded": {}, "read": {}}

    def state(name: str, seed: int, steps: int = 1) -> Any:
        return make_state(seed, None if name == "1" else meshes[name], steps)

    for seed, name in enumerate(MESHES):
        if rank in members(name):
            one = state(name, seed)
            told["saved"][name] = digests(everything(one))
            checkpoints = Checkpoints(folder / name, group=groups[name])
            checkpoints.save(seed, one, {"written by": name})
            checkpoints.wait()
        dist.barrier()
    for source in MESHES:
        for target in MESHES:
            if rank in members(target):
                key, read = f"{source} -> {target}", _count_reads()
                checkpoints = Checkpoints(folder / source, group=groups[target])
                found = checkpoints.newest()
                told["read"][key] = list(read)
                one = state(target, 99, steps=len(source) % 2)  # new optimizers, and such as have moments already
                told["loaded"][key] = [checkpoints.load(found, one), digests(everything(one))]
            dist.barrier()
    told["full disk"] = _full_disk(rank, folder, state("2 x 2", 7), groups["2 x 2"])
    told["misfit"] = _misfit(rank, folder, meshes["4"], groups["4"])
    (results / f"{rank}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


def _count_reads() -> list[str]:
    """From now on, the files that this rank reads for their digest."""
    read: list[str] = []
    plain = checkpoint_folder.__dict__.setdefault("plain_sha256", checkpoint_folder._sha256)
    checkpoint_folder._sha256 = lambda path: read.append(path.name) or plain(path)
    return read


def _full_disk(rank: int, folder: Path, state: Any, group: dist.ProcessGroup) -> list[Any]:
    """Rank 2 may write no file above 1 kB: a save, what came of it; the limit goes, and another save."""
    checkpoints, told = Checkpoints(folder / "full", group=group), []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints.save(1, state, {})
    checkpoints.wait()
    if rank == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    checkpoints.save(2, state, {})
    try:
        checkpoints.wait()
    except GokuError as error:
        told.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    dist.barrier()
    told += [checkpoints.newest().step, sorted(path.name for path in (folder / "full").iterdir())]
    dist.barrier()  # all have looked
    checkpoints.save(3, state, {})
    return [*told, checkpoints.newest().step]


def _misfit(rank: int, folder: Path, mesh: DeviceMesh, group: dist.ProcessGroup) -> str:
    """Rank 1 makes the index unreadable after it was verified."""
    if rank == 0:
        shutil.copytree(folder / "4", folder / "misfit")
    dist.barrier()
    checkpoints = Checkpoints(folder / "misfit", group=group)
    found = checkpoints.newest()
    if rank == 1:
        (found.path / "index.json").write_text("{}")
    dist.barrier()
    try:
        checkpoints.load(found, make_state(1, mesh))
    except GokuError as error:
        return str(error)
    return "loaded"
