"""What one process of a training phase does, from files to files: `python -m goku_core.train.rank JOB.json` for each rank.

A phase of one process runs the same `work` inside the stage.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.elastic.multiprocessing.errors import record

from goku_core.models import Goku, GokuConfig
from goku_core.models.folders import WEIGHTS, read_config
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import write_json
from goku_core.shards import ShardReader, refuse_other_encoders
from goku_core.train.data import Loader, Packer, open_latents
from goku_core.train.events import RankContext
from goku_core.train.freezing import freeze
from goku_core.train.health.collectives import check_collectives
from goku_core.train.job import EVENTS, RESULT, Job, NullText, Start
from goku_core.train.lineage import lineage
from goku_core.train.loop import Trained, train_phase
from goku_core.train.memory import keep_freed_memory
from goku_core.train.parallel.mesh import Mesh, device_of, joined
from goku_core.train.parallel.prepare import collected, hollow
from goku_core.train.request import FROM_SCRATCH, Phase

TRAINING_WEIGHTS = "training.safetensors"
UNREADABLE = "unreadable.jsonl"  # samples that could not be read, written by all ranks
# How long a rank waits in a collective for the others. Ranks that are slow or gone are found by their heartbeats, long before.
PATIENCE = timedelta(minutes=30)


def work(job: Job, start: Start, context: Context, mesh: Mesh) -> Trained:
    """Trains the job's phase; rank 0 writes its weights to models/<phase>, averaged and raw. All ranks of the mesh call it."""
    name, phase = job.phase
    data, equal = job.request.data, job.request.parallel.reshard == "after_block"
    reader = open_latents(data, context.input("data/latents") / phase.resolution)
    torch.set_rng_state(start.random_state)
    if mesh.rank == 0:
        model, ema = _initial(job.config, phase, reader, context)
    else:  # rank 0 shares its weights out
        model, ema = hollow(job.config), None if phase.init_from == FROM_SCRATCH else hollow(job.config)
    freeze(model, phase.freeze)
    record, rounds = context.scratch / UNREADABLE, "equal" if equal else "free"
    packer = Packer(reader, phase, job.request, NullText(start.null_text), context.seed, record, rounds)
    loader = Loader(packer, mesh.group, mesh.groups, data.ahead, data.threads)
    try:
        described = lineage(job.request, job.config, reader, context)
        state, trained = train_phase(name, phase, job.request, model, ema, loader, described, context, mesh)
    finally:
        loader.close()
    for network, file in ((state.ema, WEIGHTS), (state.model, TRAINING_WEIGHTS)):
        weights = collected(network)
        if mesh.rank == 0:
            folder = context.output(f"models/{name}")
            folder.mkdir(exist_ok=True)
            save_file(weights, folder / file)
    return trained


def _initial(config: GokuConfig, phase: Phase, reader: ShardReader, context: Context) -> tuple[Goku, Goku | None]:
    """Random weights, or those of the phase it continues: raw ones to train on, averaged ones to average on."""
    model = Goku(config)
    if phase.init_from == FROM_SCRATCH:
        return model, None
    before = context.input(f"models/{phase.init_from}")
    ema = Goku(config)
    try:
        trained_on = read_config(before, "goku").get("encoders", {})
        refuse_other_encoders(reader.metadata, trained_on, reader.where, f"the latents that {before} was trained on")
        for network, weights in ((model, TRAINING_WEIGHTS), (ema, WEIGHTS)):
            found = load_file(before / weights)
            missing, unexpected = network.load_state_dict(found, strict=False)
            # Only the image condition may be new: it starts at zero, so that step 0 equals the phase before.
            strange = [key for key in missing if not key.startswith("embed_condition.")] + unexpected
            if strange:
                raise ValueError(f"{before}: weights do not fit this network: {', '.join(strange[:4])}")
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        raise GokuError(f"phase cannot continue {phase.init_from}: {error}") from error
    return model, ema


def _join(job: Job, rank: int) -> Mesh:
    """Meets the other ranks at the address that the launcher has set."""
    parallel = job.request.parallel
    device = device_of(parallel, int(os.environ["LOCAL_RANK"]))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=int(os.environ["WORLD_SIZE"]), timeout=PATIENCE)
    return joined(parallel)


@record  # a rank that fails leaves the reason where the launcher looks for it
def main() -> None:
    job = Job.read(Path(sys.argv[1]))
    keep_freed_memory()
    torch.set_num_threads(max(1, job.cores // job.request.parallel.ranks_per_node))
    rank = int(os.environ["RANK"])
    events = job.scratch / EVENTS if rank == 0 else None
    context = RankContext(
        events, job.workspace, job.staging, job.scratch, job.fingerprint, job.seed, cores=torch.get_num_threads()
    )
    mesh = _join(job, rank)
    bandwidth = check_collectives(mesh.device)
    context.say(f"{mesh.world} ranks reach each other, all-reduce at {bandwidth / 1e9:.2f} GB/s")
    trained = work(job, Start.read(job.scratch), context, mesh)
    if rank == 0:
        write_json(job.scratch / RESULT, asdict(trained))
    dist.barrier()  # the weights are written: no rank ends before, as its end may be taken for a failure
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
