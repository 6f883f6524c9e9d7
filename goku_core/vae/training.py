"""The training loop: pictures and clips in every step, each kind with the same weight.

Terms: absolute and squared error, KL, and, where their weights are above 0, a perceptual and an adversarial one. Every draw is a
function of (seed, purpose, step), so that a run continued from a checkpoint is the unbroken one, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from goku_core.models import VideoVAE
from goku_core.packing import philox
from goku_core.pipeline.context import Context
from goku_core.vae import checkpoint
from goku_core.vae.discriminator import PatchDiscriminator, adaptive_weight, generator_loss, hinge_loss
from goku_core.vae.media import Media, floats
from goku_core.vae.perceptual import PerceptualDistance
from goku_core.vae.request import VaeRequest

LOG_EVERY = 20


@dataclass
class Trained:
    """Networks and optimizers of a run; the discriminator and the perceptual network only where their terms are on."""

    vae: VideoVAE
    optimizer: torch.optim.Optimizer
    discriminator: PatchDiscriminator | None = None
    discriminator_optimizer: torch.optim.Optimizer | None = None
    perceptual: PerceptualDistance | None = None

    def networks(self) -> dict[str, nn.Module]:
        found = {"vae": self.vae, "discriminator": self.discriminator}
        return {name: network for name, network in found.items() if network is not None}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        found = {"vae_optimizer": self.optimizer, "discriminator_optimizer": self.discriminator_optimizer}
        return {name: optimizer for name, optimizer in found.items() if optimizer is not None}


def train(vae: VideoVAE, media: Media, request: VaeRequest, context: Context) -> tuple[list[dict[str, float]], int]:
    """Trains to the last step, from the newest valid checkpoint in scratch. Returns (metrics, the step it began at)."""
    run = prepare(vae, request, context)
    folder = context.scratch / "checkpoints"
    metrics: list[dict[str, float]] = []
    first = 0
    if newest := checkpoint.newest_valid(folder):
        first, metrics = checkpoint.restore(newest, run.networks(), run.optimizers())
        context.say(f"vae: continued from step {first}")
    with context.progress("vae: train", request.steps, "steps") as bar:
        bar.advance(first)
        for step in range(first, request.steps):
            videos = [floats(pixels[rows]) for pixels, rows in _batch(media, request, context.seed, step)]
            terms = train_step(run, videos, request, context.seed, step)
            if (step + 1) % LOG_EVERY == 0 or step + 1 == request.steps:
                values = {name: term.item() for name, term in terms.items()}
                metrics.append({"step": step + 1, **{name: round(value, 6) for name, value in values.items()}})
                context.tracker.log_metrics(values, step=step + 1)
            if (step + 1) % request.checkpoint_every == 0 and step + 1 < request.steps:
                checkpoint.save(folder, step + 1, run.networks(), run.optimizers(), metrics)
            bar.advance(1, loss=terms["loss"].item())
    return metrics, first


def prepare(vae: VideoVAE, request: VaeRequest, context: Context) -> Trained:
    """Optimizers, and the networks of the terms that are on. Raises `GokuError` where weights are missing."""
    run = Trained(
        vae, torch.optim.AdamW(vae.parameters(), lr=request.learning_rate, weight_decay=0.0, betas=(0.9, 0.95))
    )
    if request.perceptual.weight:
        run.perceptual = PerceptualDistance(context.input(request.perceptual.weights))
    if request.adversarial.weight:
        run.discriminator = PatchDiscriminator(request.adversarial.width, request.adversarial.depth)
        run.discriminator_optimizer = torch.optim.AdamW(
            run.discriminator.parameters(), lr=request.adversarial.learning_rate, weight_decay=0.0, betas=(0.5, 0.9)
        )
    return run


def train_step(run: Trained, videos: list[Tensor], request: VaeRequest, seed: int, step: int) -> dict[str, Tensor]:
    """One step of the VAE and, once it has begun, of the discriminator. videos: one batch of each kind, in [-1, 1].

    Returns the loss and the terms that are on, detached.
    """
    rate = request.learning_rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / request.steps))
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    restored, losses = zip(*(_restore(run, video, request, seed, step) for video in videos), strict=True)
    loss = torch.stack(losses).mean()
    terms: dict[str, Tensor] = {}
    if run.perceptual is not None:
        distances = [
            run.perceptual(*_pictures(video, other, request.perceptual.frames, seed, step))
            for video, other in zip(videos, restored, strict=True)
        ]
        terms["perceptual"] = torch.stack(distances).mean()
        loss = loss + request.perceptual.weight * terms["perceptual"]
    judged = run.discriminator is not None and step >= request.adversarial.start
    if judged:
        loss = loss + _adversarial(run, restored, loss, request, terms)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.vae.parameters(), 1.0)
    run.optimizer.step()
    if judged:
        terms["discriminator"] = _train_discriminator(run, videos, restored)
    return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}


def _batch(media: Media, request: VaeRequest, seed: int, step: int) -> list[tuple[Tensor, Tensor]]:
    draws = philox(seed, "vae batch", step=step)
    return [
        (pixels, torch.from_numpy(draws.integers(0, len(pixels), count)))
        for pixels, count in ((media.images, request.batch_images), (media.clips, request.batch_clips))
        if count and len(pixels)
    ]


def _restore(run: Trained, video: Tensor, request: VaeRequest, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Reconstruction from a noised code, and its loss: absolute and squared error, and KL.

    The noise is our choice: the flow's latents are never exact, and a decoder that has seen errors up to half a deviation draws
    a whole shape from them. It costs about half a decibel of reconstruction.
    """
    vae = run.vae
    mean, log_variance = vae.posterior(video)
    draws = philox(seed, "vae noise", str(tuple(video.shape)), step)
    noise, other = (torch.from_numpy(draws.standard_normal(mean.shape, "f4")) for _ in range(2))
    strength = torch.from_numpy(draws.random((len(mean), 1, 1, 1, 1), "f4")) * request.latent_noise
    code = mean + noise * (0.5 * log_variance).exp() + other * strength * vae.latent_scale[:, None, None, None]
    restored = vae.decode_raw(code)
    difference = restored - video
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    # The squared share is our choice: PSNR is what is reported, and L1 alone trades it for median colours at edges.
    error = request.l1_weight * difference.abs().mean() + request.l2_weight * difference.square().mean()
    return restored, error + request.kl_weight * kl


def _pictures(video: Tensor, restored: Tensor, frames: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """The same frames of both as pictures (N, 3, H, W): all of a short clip, else `frames` drawn ones."""
    count = video.shape[2]
    draws = philox(seed, "vae perceptual frames", str(count), step)
    chosen = torch.from_numpy(draws.permutation(count)[:frames].copy())
    return tuple(x[:, :, chosen].transpose(1, 2).flatten(0, 1) for x in (video, restored))


def _adversarial(
    run: Trained, restored: tuple[Tensor, ...], loss: Tensor, request: VaeRequest, terms: dict[str, Tensor]
) -> Tensor:
    """The weighted term of the decoder. The discriminator's own gradients from it are dropped before its step."""
    assert run.discriminator is not None
    terms["adversarial"] = torch.stack([generator_loss(run.discriminator(video)) for video in restored]).mean()
    weight = torch.tensor(request.adversarial.weight)
    if request.adversarial.adaptive:
        weight = weight * adaptive_weight(loss, terms["adversarial"], run.vae.decoder_out.weight)
    return weight * terms["adversarial"]


def _train_discriminator(run: Trained, videos: list[Tensor], restored: tuple[Tensor, ...]) -> Tensor:
    assert run.discriminator is not None and run.discriminator_optimizer is not None
    losses = [
        hinge_loss(run.discriminator(video), run.discriminator(other.detach()))
        for video, other in zip(videos, restored, strict=True)
    ]
    loss = torch.stack(losses).mean()
    run.discriminator_optimizer.zero_grad(set_to_none=True)
    loss.backward()
    run.discriminator_optimizer.step()
    return loss
