"""Principal components of 4x8x8 patches: the linear code that VAE training starts from."""

from __future__ import annotations

import torch
from torch import Tensor

from goku_core.models import VideoVAE
from goku_core.packing import philox
from goku_core.pipeline.errors import GokuError
from goku_core.vae.media import Media, floats

PATCHES = 40_000


@torch.no_grad()
def principal_components(vae: VideoVAE, media: Media, seed: int) -> tuple[Tensor, Tensor]:
    """(mean (P,), components (C, P)) of a sample of patches, pictures and clips with equal weight."""
    groups = [_patches(vae, pixels, seed) for pixels in (media.images, media.clips) if len(pixels)]
    if sum(len(g) for g in groups) < vae.config.latent_channels:
        raise GokuError(
            f"only {sum(len(g) for g in groups)} patches of 4x8x8 pixels in the kept media, "
            f"fewer than vae.latent_channels {vae.config.latent_channels}"
        )
    weights = [(len(g), 1.0 / len(g)) for g in groups]
    patches = torch.cat(groups).double()
    weight = torch.cat([torch.full((n, 1), w, dtype=torch.float64) for n, w in weights]) / len(groups)
    mean = (weight * patches).sum(dim=0)
    centred = patches - mean
    _, vectors = torch.linalg.eigh(centred.T @ (weight * centred))
    components = vectors.flip(1).T[: vae.config.latent_channels]
    # An eigenvector's sign is arbitrary: fix it, so that the code is the same on every machine.
    sign = torch.sign(components[torch.arange(len(components)), components.abs().argmax(dim=1)])
    return mean.float(), (components * sign[:, None]).float()


def _patches(vae: VideoVAE, pixels: Tensor, seed: int) -> Tensor:
    """A sample of patches (n, P)."""
    per_medium = vae.to_patches(floats(pixels[:1]))[0, 0].numel()
    enough = max(1, PATCHES // per_medium)
    order = philox(seed, "vae components", str(tuple(pixels.shape[2:]))).permutation(len(pixels))[:enough]
    patches = vae.to_patches(floats(pixels[torch.from_numpy(order)]))
    return patches.permute(0, 2, 3, 4, 1).flatten(0, 3)
