"""Stage `vae`: principal components as the start, then training of the whole network; or a pretrained one, fetched and checked."""

from __future__ import annotations

import json
import math
import time

import torch
from safetensors.torch import save_file

from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.models.vae_interface import CausalVAE
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.vae.components import principal_components
from goku_core.vae.media import Media, floats, load_media
from goku_core.vae.pictures import write_pictures
from goku_core.vae.report import Report
from goku_core.vae.request import VaeRequest
from goku_core.vae.training import train

OUTPUT = "models/vae"


def run(request: VaeRequest, context: Context) -> Report:
    """Writes models/vae: model.safetensors, config.json and report/ (metrics, originals beside reconstructions)."""
    torch.set_num_threads(context.cores)
    torch.manual_seed(context.seed)
    if request.kind != "trained":
        return _take(request, context)
    trained, held = load_media(request, context)
    config = VideoVAEConfig(
        latent_channels=request.latent_channels,
        width=request.width,
        encoder_depth=request.encoder_depth,
        decoder_depth=request.decoder_depth,
    )
    vae = VideoVAE(config)
    vae.start_from_components(*principal_components(vae, trained, context.seed))
    judged = held if len(held.images) + len(held.clips) else trained
    set_latent_statistics(vae, trained)  # the scale of the noise below; measured again once training is over
    at_start = psnr(vae, judged)
    started = time.monotonic()
    metrics, first = train(vae, trained, request, context)
    seconds = time.monotonic() - started
    set_latent_statistics(vae, trained)
    done = (request.steps - first) * (request.batch_images + request.batch_clips)
    report = Report(
        **_judge(vae, judged, request, context),
        psnr_components=at_start["all"],
        steps=request.steps,
        parameters=sum(p.numel() for p in vae.parameters()),
        held_out_images=len(held.images),
        held_out_clips=len(held.clips),
        seconds=seconds,
        samples_per_second=done / max(seconds, 1e-9),
        resumed_from=first,
    )
    _write(vae, judged, metrics, report, request, context)
    return report


def _take(request: VaeRequest, context: Context) -> Report:
    """The pretrained VAE, checked on the kept media. Raises `GokuError` saying how to get the weights where they are missing."""
    from goku_core.models.vae_pretrained import from_weights

    local = context.input(request.weights)  # relative paths count from the workspace
    started = time.monotonic()
    try:
        vae = from_weights(request.kind, str(local) if local.is_dir() else request.weights)
        vae.config.latent_shape(request.frames, request.height, request.image_width)
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        raise GokuError(str(error)) from error
    media, held = load_media(request, context)
    judged = held if len(held.images) + len(held.clips) else media
    report = Report(
        **_judge(vae, judged, request, context),
        psnr_components=None,
        steps=0,
        parameters=sum(p.numel() for p in vae.parameters()),
        held_out_images=len(held.images),
        held_out_clips=len(held.clips),
        seconds=time.monotonic() - started,
        samples_per_second=0.0,
        resumed_from=0,
    )
    _write(vae, judged, [], report, request, context)
    return report


def _judge(vae: CausalVAE, judged: Media, request: VaeRequest, context: Context) -> dict[str, float | None]:
    """PSNR on the media that are judged. Raises `GokuError` where it lies below the bound."""
    reached = psnr(vae, judged)
    if reached["all"] < request.minimum_psnr:
        cure = "Raise vae.steps or vae.width" if request.kind == "trained" else "Take other weights"
        raise GokuError(
            f"VAE reconstruction reaches {reached['all']:.2f} dB on held-out media, below vae.minimum_psnr "
            f"{request.minimum_psnr:g}. {cure}, or lower the bound."
        )
    context.tracker.log_metrics({f"psnr_{k}": v for k, v in reached.items()}, step=request.steps)
    return {"psnr_images": reached.get("images"), "psnr_clips": reached.get("clips"), "psnr": reached["all"]}


@torch.no_grad()
def psnr(vae: CausalVAE, media: Media) -> dict[str, float]:
    """PSNR in dB of pictures, of clips, and of both with equal weight; kinds without media are left out."""
    errors: dict[str, float] = {}
    for name, pixels in (("images", media.images), ("clips", media.clips)):
        if not len(pixels):
            continue
        total = 0.0
        for part in pixels.split(16):
            video = floats(part)
            restored = vae.decode_raw(vae.posterior(video)[0]).clamp(-1, 1)
            total += ((restored - video) / 2).square().mean().item() * len(part)
        errors[name] = total / len(pixels)
    errors["all"] = sum(errors.values()) / len(errors)
    return {name: -10.0 * math.log10(max(error, 1e-10)) for name, error in errors.items()}


@torch.no_grad()
def set_latent_statistics(vae: VideoVAE, media: Media, limit: int = 512) -> None:
    """Mean and scale that normalise the latent.

    Scale: the geometric mean of each channel's deviation and the overall one. Our choice: dividing each channel by its own
    deviation would make edges as loud as colours, and the flow would spend itself on them; one common scale would leave
    the quiet channels below the noise until the last steps.
    """
    raws = []
    for pixels in (media.images, media.clips):
        for part in pixels[:limit].split(16):
            raws.append(vae.posterior(floats(part))[0].transpose(0, 1).flatten(1))
    raw = torch.cat(raws, dim=1)
    mean = raw.mean(dim=1)
    centred = raw - mean[:, None]
    deviation = centred.square().mean(dim=1).sqrt()
    scale = (deviation * centred.square().mean().sqrt()).sqrt()
    scale = scale * (centred / scale[:, None]).square().mean().sqrt()
    vae.latent_mean.copy_(mean)
    vae.latent_scale.copy_(scale)


def _write(
    vae: CausalVAE,
    judged: Media,
    metrics: list[dict[str, float]],
    report: Report,
    request: VaeRequest,
    context: Context,
) -> None:
    folder = context.output(OUTPUT)
    (folder / "report").mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in vae.state_dict().items()}, folder / "model.safetensors")
    config = {"kind": "goku-vae", "vae": vae.config.to_json()}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    lines = "".join(json.dumps(entry) + "\n" for entry in metrics)
    (folder / "report" / "metrics.jsonl").write_text(lines)
    measured = report.model_dump(exclude={"seconds", "samples_per_second", "resumed_from"})
    (folder / "report" / "report.json").write_text(json.dumps(measured, indent=2, sort_keys=True) + "\n")
    write_pictures(vae, judged.images, judged.clips, request.fps, folder / "report")
