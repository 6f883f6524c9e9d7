"""Stage `train`: one phase of the curriculum (paper section 2.4)."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file, save_file

from goku_core.generate import Generator
from goku_core.models import CONFIGS, Goku, GokuConfig
from goku_core.models.folders import WEIGHTS, load_vae, read_config, text_encoder
from goku_core.models.text import TextEncoder
from goku_core.models.vae_interface import CausalVAE
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader, refuse_other_encoders
from goku_core.train.data import Loader, Packer, open_latents
from goku_core.train.loop import Trained, log_lines, train_phase
from goku_core.train.memory import keep_freed_memory
from goku_core.train.previews import write_previews
from goku_core.train.report import Report
from goku_core.train.request import FROM_SCRATCH, Phase, TrainRequest

TRAINING_WEIGHTS = "training.safetensors"


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
    config = _config(request, phase, vae.config.latent_channels, encoder.width)
    model, ema = _initial(config, phase, reader, context)
    packer = Packer(reader, phase, request, encoder, context.seed, context.scratch / "unreadable.jsonl")
    loader = Loader(packer, ahead=request.data.ahead, threads=request.data.threads)
    try:
        trained = train_phase(name, phase, request, model, ema, loader, context)
    finally:
        loader.close()
    folder = context.output(f"models/{name}")
    folder.mkdir()
    described = _describe(name, phase, request, config, text_spec, reader, context)
    _write(trained, described, folder)
    generator = Generator(trained.ema, vae, encoder, described)
    write_previews(generator, phase, request, reader, folder / "samples", context)
    return _report(name, phase, trained)


def _config(request: TrainRequest, phase: Phase, latent_channels: int, text_width: int) -> GokuConfig:
    size = request.model
    if size.name == "custom":
        shape = {"depth": size.depth, "width": size.width, "heads": size.heads, "ffn": size.ffn}
    else:
        named = CONFIGS[size.name]
        shape = {"depth": named.depth, "width": named.width, "heads": named.heads, "ffn": named.ffn}
    return GokuConfig(
        **shape, latent_channels=latent_channels, text_width=text_width, image_condition=phase.image_condition
    )


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


def _same_encoders(
    text_spec: dict[str, object], reader: ShardReader, context: Context
) -> tuple[CausalVAE, TextEncoder]:
    """The encoders that the latents were made with. Raises `GokuError` where others have taken their place."""
    try:
        vae = load_vae(context.input("models/vae"), reader.metadata["vae"])
        return vae, text_encoder(text_spec, reader.metadata["text"], context.workspace)
    except (FileNotFoundError, ValueError) as error:
        raise GokuError(str(error)) from error


def _describe(
    name: str,
    phase: Phase,
    request: TrainRequest,
    config: GokuConfig,
    text_spec: dict[str, object],
    reader: ShardReader,
    context: Context,
) -> dict[str, object]:
    resolutions = json.loads((context.input("data/latents") / "encoders.json").read_text())["resolutions"]
    return {
        "kind": "goku",
        "phase": name,
        "model": config.to_json(),
        "resolution": {"name": phase.resolution, **json.loads(resolutions)[phase.resolution]},
        "sampling": request.sampling.model_dump(),
        "text": text_spec,
        "encoders": {"vae": reader.metadata["vae"], "text": reader.metadata["text"]},
    }


def _write(trained: Trained, described: dict[str, object], folder) -> None:
    for network, file in ((trained.ema, WEIGHTS), (trained.model, TRAINING_WEIGHTS)):
        save_file({k: v.detach().contiguous() for k, v in network.state_dict().items()}, folder / file)
    (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n")
    (folder / "metrics.jsonl").write_text(log_lines(trained.position.log))


def _report(name: str, phase: Phase, trained: Trained) -> Report:
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
        parameters=sum(p.numel() for p in trained.model.parameters()),
        images=position.images,
        clips=position.clips,
        tokens=position.tokens,
        seconds=trained.seconds,
        samples_per_second=own * samples / max(trained.seconds, 1e-9),
        tokens_per_second=own * position.tokens / max(trained.seconds, 1e-9),
    )
