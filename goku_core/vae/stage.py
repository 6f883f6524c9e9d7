"""Stage `vae`: principal components as the start, then a short training of the whole network."""

from __future__ import annotations

import json
import math
import time

import torch
from safetensors.torch import save_file
from torch import Tensor

from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.packing import philox
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.vae.components import principal_components
from goku_core.vae.media import Media, floats, load_media
from goku_core.vae.pictures import write_pictures
from goku_core.vae.report import Report
from goku_core.vae.request import VaeRequest

OUTPUT = "models/vae"


def run(request: VaeRequest, context: Context) -> Report:
    """Writes models/vae: model.safetensors, config.json and report/ (metrics, originals beside reconstructions)."""
    torch.set_num_threads(context.cores)
    torch.manual_seed(context.seed)
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
    metrics = train(vae, trained, request, context)
    seconds = time.monotonic() - started
    set_latent_statistics(vae, trained)
    reached = psnr(vae, judged)
    overall = reached["all"]
    if overall < request.minimum_psnr:
        raise GokuError(
            f"VAE reconstruction reaches {overall:.2f} dB on held-out media, below vae.minimum_psnr "
            f"{request.minimum_psnr:g}. Raise vae.steps or vae.width, or lower the bound."
        )
    context.tracker.log_metrics({f"psnr_{k}": v for k, v in reached.items()}, step=request.steps)
    report = Report(
        psnr_images=reached.get("images"),
        psnr_clips=reached.get("clips"),
        psnr=overall,
        psnr_components=at_start["all"],
        steps=request.steps,
        parameters=sum(p.numel() for p in vae.parameters()),
        held_out_images=len(held.images),
        held_out_clips=len(held.clips),
        seconds=seconds,
        samples_per_second=request.steps * (request.batch_images + request.batch_clips) / max(seconds, 1e-9),
    )
    _write(vae, judged, metrics, report, request, context)
    return report


def train(vae: VideoVAE, media: Media, request: VaeRequest, context: Context) -> list[dict[str, float]]:
    """L1 with a share of squared error, and KL. Pictures and clips in every step, each kind with the same weight."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=request.learning_rate, weight_decay=0.0, betas=(0.9, 0.95))
    metrics: list[dict[str, float]] = []
    with context.progress("vae: train", request.steps, "steps") as bar:
        for step in range(request.steps):
            rate = (
                request.learning_rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / request.steps))
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses = [
                _loss(vae, floats(pixels[rows]), request, context.seed, step)
                for pixels, rows in _batch(media, request, context.seed, step)
            ]
            loss = torch.stack(losses).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
            if (step + 1) % 20 == 0 or step + 1 == request.steps:
                metrics.append({"step": step + 1, "loss": round(loss.item(), 6)})
                context.tracker.log_metrics({"loss": loss.item()}, step=step + 1)
            bar.advance(1, loss=loss.item())
    return metrics


def _batch(media: Media, request: VaeRequest, seed: int, step: int) -> list[tuple[Tensor, Tensor]]:
    draws = philox(seed, "vae batch", step=step)
    return [
        (pixels, torch.from_numpy(draws.integers(0, len(pixels), count)))
        for pixels, count in ((media.images, request.batch_images), (media.clips, request.batch_clips))
        if count and len(pixels)
    ]


def _loss(vae: VideoVAE, video: Tensor, request: VaeRequest, seed: int, step: int) -> Tensor:
    """Reconstruction from a noised code, and KL.

    The noise is our choice: the flow's latents are never exact, and a decoder that has seen errors up to half a deviation draws
    a whole shape from them. It costs about half a decibel of reconstruction.
    """
    mean, log_variance = vae.posterior(video)
    draws = philox(seed, "vae noise", str(tuple(video.shape)), step)
    noise, other = (torch.from_numpy(draws.standard_normal(mean.shape, "f4")) for _ in range(2))
    strength = torch.from_numpy(draws.random((len(mean), 1, 1, 1, 1), "f4")) * request.latent_noise
    code = mean + noise * (0.5 * log_variance).exp() + other * strength * vae.latent_scale[:, None, None, None]
    difference = vae.decode_raw(code) - video
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    # The squared share is our choice: PSNR is what is reported, and L1 alone trades it for median colours at edges.
    return 0.3 * difference.abs().mean() + 3.0 * difference.square().mean() + request.kl_weight * kl


@torch.no_grad()
def psnr(vae: VideoVAE, media: Media) -> dict[str, float]:
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
    vae: VideoVAE, judged: Media, metrics: list[dict[str, float]], report: Report, request: VaeRequest, context: Context
) -> None:
    folder = context.output(OUTPUT)
    (folder / "report").mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in vae.state_dict().items()}, folder / "model.safetensors")
    config = {"kind": "goku-vae", "vae": vae.config.to_json()}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    lines = "".join(json.dumps(entry) + "\n" for entry in metrics)
    (folder / "report" / "metrics.jsonl").write_text(lines)
    measured = report.model_dump(exclude={"seconds", "samples_per_second"})
    (folder / "report" / "report.json").write_text(json.dumps(measured, indent=2, sort_keys=True) + "\n")
    write_pictures(vae, judged.images, judged.clips, request.fps, folder / "report")
