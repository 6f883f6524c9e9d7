"""One phase of training on several arrangements of ranks: who has which part of the weights, of the samples, of the tokens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import latent_workspace
import ranks
import torch
import torch.distributed as dist
from torch import Tensor

from goku_core.models import GokuConfig
from goku_core.models.text import WordEncoder
from goku_core.pipeline.context import Context
from goku_core.train import loop
from goku_core.train.data import Loader, Pack
from goku_core.train.job import Job, Start
from goku_core.train.parallel.mesh import alone, joined
from goku_core.train.rank import work
from goku_core.train.request import TrainRequest

SEED = 5
STEPS = 5


@dataclass(frozen=True)
class Arrangement:
    """`parallel` as in params.yaml; `phase` are the phase's own changes, `request` those of the whole."""

    parallel: dict[str, Any] = field(default_factory=dict)
    phase: dict[str, Any] = field(default_factory=dict)
    request: dict[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> int:
        return self.parallel.get("ranks_per_node", 1)

    def job(self, workspace: Path, place: Path) -> Job:
        changes = {"steps": STEPS, "tokens": 96, "warmup": 2, "decay": 0.0, "learning_rate": 3e-3, **self.phase}
        asked = latent_workspace.request("second", init_from="vae", **changes).model_dump()
        parallel = {"precision": "float64", "device": "cpu", **self.parallel}
        asked |= {
            "optimizer": "adamw",
            "log_every": 1,
            "checkpoint_every": 1000,
            "clip_norm": 0.5,
            "parallel": parallel,
            **self.request,
        }
        (place / "scratch").mkdir(parents=True, exist_ok=True)
        context = Context(workspace, place / "out", place / "scratch", seed=SEED, cores=1)
        return Job.of(TrainRequest.model_validate(asked), CONFIG, context)


CONFIG = GokuConfig(depth=2, width=48, heads=3, ffn=64, latent_channels=4, text_width=16)

SHARDED_2 = {"ranks_per_node": 2}
SEQUENCE_2 = {"ranks_per_node": 2, "sequence": 2}
ALONE = {
    "one rank": Arrangement(),
    "small packs": Arrangement(phase={"pack_tokens": 24}),
    "muon": Arrangement(request={"optimizer": "muon"}),
}
SPREAD = {
    "two copies": Arrangement({"ranks_per_node": 2, "shard": 1}),
    "two on a pack, full": Arrangement(SEQUENCE_2 | {"recomputation": "full"}),
    "two shards, small packs, selective": Arrangement(SHARDED_2 | {"recomputation": "selective"}, {"pack_tokens": 24}),
    "two copies of two shards": Arrangement({"ranks_per_node": 4, "shard": 2}),
    "two copies of two shards, after each block": Arrangement(
        {"ranks_per_node": 4, "shard": 2, "reshard": "after_block"}, {"pack_tokens": 24}
    ),
    "two shards of two on a pack": Arrangement({"ranks_per_node": 4, "sequence": 2}),
    "muon, two shards": Arrangement(SHARDED_2, request={"optimizer": "muon"}),
    "bfloat16, two shards": Arrangement(SHARDED_2 | {"precision": "bfloat16"}),
}
MORE = {
    "two shards": Arrangement(SHARDED_2),
    "two on a pack": Arrangement(SEQUENCE_2),
    "two shards, after each block": Arrangement(SHARDED_2 | {"reshard": "after_block"}, {"pack_tokens": 24}),
    "four shards": Arrangement({"ranks_per_node": 4}),
    "four copies": Arrangement({"ranks_per_node": 4, "shard": 1}),
    "two copies of two on a pack": Arrangement({"ranks_per_node": 4, "sequence": 2, "shard": 1}),
    "four on a pack": Arrangement({"ranks_per_node": 4, "sequence": 4}),
    "four on a pack, after each block, selective": Arrangement(
        {"ranks_per_node": 4, "sequence": 4, "reshard": "after_block", "recomputation": "selective"}
    ),
    "two shards, compiled": Arrangement(SHARDED_2 | {"compile": True}),
    "two on a pack, compiled, full": Arrangement(SEQUENCE_2 | {"compile": True, "recomputation": "full"}),
}
OF_ONE = ALONE | {"bfloat16, one rank": Arrangement({"precision": "bfloat16"})}


class Witness:
    """Notes what each sample of each step was (the bytes of its data, noise, time and text), and the losses, unrounded."""

    def __init__(self) -> None:
        self.seen: dict[int, list[str]] = {}
        self.packs: dict[int, list[int]] = {}
        self.losses: list[float] = []
        self.original, self.original_step = Loader.step, loop.optimizer_step

    def __enter__(self) -> Witness:
        witness = self

        def step(loader: Loader, data_step: int) -> list[Pack]:
            packs = witness.original(loader, data_step)
            witness.packs[data_step] = [len(pack.data) for pack in packs]
            witness.seen[data_step] = [digest for pack in packs for digest in samples_of(pack)]
            return packs

        def optimizer_step(*arguments: Any) -> tuple[Tensor, Tensor]:
            loss, norm = witness.original_step(*arguments)
            witness.losses.append(loss.item())
            return loss, norm

        Loader.step, loop.optimizer_step = step, optimizer_step
        return self

    def __exit__(self, *_: object) -> None:
        Loader.step, loop.optimizer_step = self.original, self.original_step

    def write(self, file: Path) -> None:
        file.write_text(json.dumps({"samples": self.seen, "packs": self.packs}))


def samples_of(pack: Pack) -> list[str]:
    digests = []
    for number in range(len(pack.time)):
        tokens = slice(int(pack.cu_seqlens[number]), int(pack.cu_seqlens[number + 1]))
        text = slice(int(pack.text_cu_seqlens[number]), int(pack.text_cu_seqlens[number + 1]))
        parts = (pack.data[tokens], pack.noise[tokens], pack.noised[tokens], pack.coords[tokens], pack.time[number])
        digest = hashlib.sha256()
        for part in (*parts, pack.weight[tokens], pack.text[text]):
            digest.update(part.contiguous().numpy().tobytes())
        digests.append(digest.hexdigest())
    return digests


def run_one(arrangement: Arrangement, workspace: Path, place: Path, rank: int = 0) -> None:
    """One rank's part; rank 0 leaves the result, every rank what it has seen."""
    job = arrangement.job(workspace, place)
    torch.manual_seed(SEED)
    start = Start.here(WordEncoder(16, 16).encode(""))
    context = Context(job.workspace, job.staging, job.scratch, seed=job.seed, cores=1)
    with Witness() as witness:
        mesh = (joined if dist.is_initialized() else alone)(job.request.parallel)
        trained = work(job, start, context, mesh)
    if mesh.is_first_of_group:
        witness.write(place / f"seen-{rank}.json")
    if rank == 0:
        (place / "trained.json").write_text(json.dumps(trained.position.as_json() | {"losses": witness.losses}))


def on_each_rank(rank: int, world: int, folder: Path, workspace: Path, names: list[str]) -> None:
    """Every arrangement in turn; ranks that one does not need wait."""
    for name in names:
        arrangement = (SPREAD | MORE)[name]
        if rank < arrangement.world:
            ranks.join(rank, arrangement.world, folder / f"store of {name}")
            run_one(arrangement, workspace, folder / name, rank)
            dist.destroy_process_group()
