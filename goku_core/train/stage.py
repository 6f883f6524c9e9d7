"""Stage `train`: one phase of the curriculum (paper section 2.4)."""

from __future__ import annotations

import json
import time

import torch
import torch.distributed as dist

from goku_core.generate import Generator
from goku_core.models.folders import load_goku, load_vae, text_encoder
from goku_core.models.text import TextEncoder
from goku_core.models.vae_interface import CausalVAE
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.files import read_json_lines
from goku_core.shards import ShardReader
from goku_core.train import goodput
from goku_core.train.data import open_latents
from goku_core.train.events import followed
from goku_core.train.job import EVENTS, RESULT, Job, Start
from goku_core.train.launch import launch
from goku_core.train.lineage import config_json
from goku_core.train.loop import Trained, log_lines
from goku_core.train.memory import keep_freed_memory
from goku_core.train.network import network_config
from goku_core.train.parallel.mesh import alone
from goku_core.train.position import Position
from goku_core.train.previews import write_previews
from goku_core.train.rank import UNREADABLE, work
from goku_core.train.report import Report
from goku_core.train.request import Phase, TrainRequest


def run(request: TrainRequest, context: Context) -> Report:
    """Writes models/<phase>: model.safetensors (averaged weights), training.safetensors, config.json, metrics, samples."""
    if len(request.phases) != 1:
        raise GokuError(f"one phase at a time, got {', '.join(request.phases)}; use request.for_phase(name)")
    (name, phase), *_ = request.phases.items()
    keep_freed_memory()
    torch.set_num_threads(context.cores)
    torch.manual_seed(context.seed)
    reader = open_latents(request.data, context.input("data/latents") / phase.resolution)
    text_spec = json.loads(reader.metadata["text_request"])
    vae, encoder = _same_encoders(text_spec, reader, context)
    config = network_config(request, phase, vae.config.latent_channels, encoder.width)
    job, start = Job.of(request, config, context), Start.here(encoder.encode(""))
    trained = _in_this_process(job, start, context) if request.parallel.world == 1 else _by_ranks(job, start, context)
    spent = goodput.of_run(context.scratch, time.time(), request.faults.price_per_gpu_hour)
    context.tracker.log_metrics(spent.metrics())
    folder = context.output(f"models/{name}")  # rank 0 has made it, for the weights
    described = config_json(request, config, reader, context)
    (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    (folder / "metrics.jsonl").write_text(log_lines(trained.position.log + trained.position.validation))
    generator = Generator(load_goku(folder)[0], vae, encoder, described)
    write_previews(generator, phase, request, reader, folder / "samples", context)
    unreadable = len({line["sample_id"] for line in read_json_lines(context.scratch / UNREADABLE)})
    return _report(name, phase, trained, spent, unreadable)


def _in_this_process(job: Job, start: Start, context: Context) -> Trained:
    try:
        return work(job, start, context, alone(job.request.parallel))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _by_ranks(job: Job, start: Start, context: Context) -> Trained:
    context.scratch.mkdir(parents=True, exist_ok=True)
    start.write(context.scratch)
    with followed(context.scratch / EVENTS, context):
        launch(job.write())
    result = json.loads((context.scratch / RESULT).read_text(encoding="utf-8"))
    return Trained(**{**result, "position": Position(**result["position"])})


def _same_encoders(
    text_spec: dict[str, object], reader: ShardReader, context: Context
) -> tuple[CausalVAE, TextEncoder]:
    """The encoders that the latents were made with. Raises `GokuError` where others have taken their place."""
    try:
        vae = load_vae(context.input("models/vae"), reader.metadata["vae"])
        return vae, text_encoder(text_spec, reader.metadata["text"], context.workspace)
    except (FileNotFoundError, ValueError) as error:
        raise GokuError(str(error)) from error


def _report(name: str, phase: Phase, trained: Trained, spent: goodput.Goodput, unreadable: int) -> Report:
    log, position = trained.position.log, trained.position
    own = max(0, position.step - trained.resumed_from) / max(1, position.step)
    tail = log[-max(1, len(log) // 10) :]
    samples = position.images + position.clips
    return Report(
        phase=name,
        resolution=phase.resolution,
        steps=position.step,
        resumed_from=trained.resumed_from,
        loss_first=log[0]["loss"],
        loss=sum(entry["loss"] for entry in tail) / len(tail),
        validation_loss=position.validation[-1]["validation_loss"] if position.validation else None,
        parameters=trained.parameters,
        images=position.images,
        clips=position.clips,
        tokens=position.tokens,
        unreadable=unreadable,
        seconds=trained.seconds,
        samples_per_second=own * samples / max(trained.seconds, 1e-9),
        tokens_per_second=own * position.tokens / max(trained.seconds, 1e-9),
        goodput=spent,
    )
