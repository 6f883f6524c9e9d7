"""Tiny VAEs of diffusers with random weights, saved as their authors publish the large ones."""

from __future__ import annotations

from pathlib import Path

import torch

KINDS = {"wan": "wan", "wan2.2": "wan", "cogvideox": "cogvideox"}
MEAN, STD = [0.1, -0.4, 0.7, 0.0], [0.5, 2.0, 1.5, 3.0]
SCALING = 0.7


def make(name: str, folder: Path):
    """Saves a VAE of that kind and returns it. `wan2.2` has stride 16 in space: 2x2 pixels are patched first."""
    import diffusers

    torch.manual_seed(0)
    if name == "cogvideox":
        vae = diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            scaling_factor=SCALING,
        )
    else:
        newer = {
            "is_residual": True,
            "patch_size": 2,
            "in_channels": 12,
            "out_channels": 12,
            "scale_factor_spatial": 16,
        }
        vae = diffusers.AutoencoderKLWan(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 2, 2, 2],
            num_res_blocks=1,
            latents_mean=MEAN,
            latents_std=STD,
            **(newer if name == "wan2.2" else {}),
        )
    with torch.no_grad():
        for key, value in vae.named_parameters():
            if key.endswith("bias"):  # some start at zero, and would hide a layer that was left out
                value.normal_(std=0.1)
    vae.save_pretrained(folder)
    return vae.eval()
