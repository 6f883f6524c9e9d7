"""Originals beside reconstructions, for the person who decides whether the latent space is good enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goku_core.media.encode import write_image, write_video
from goku_core.models.vae_interface import CausalVAE
from goku_core.vae.media import floats

PICTURES = 8
CLIPS = 4


@torch.no_grad()
def write_pictures(vae: CausalVAE, images: Tensor, clips: Tensor, fps: float, folder: Path) -> None:
    """originals.png and reconstructions.png (a row of pictures each), clips.mp4 (originals above reconstructions)."""
    pictures = images if len(images) else clips[:, :, :1]
    if len(pictures):
        video = floats(pictures[:PICTURES])
        write_image(folder / "originals.png", _row(video)[0])
        write_image(folder / "reconstructions.png", _row(_restore(vae, video))[0])
    if len(clips):
        video = floats(clips[:CLIPS])
        both = np.concatenate((_row(video), _row(_restore(vae, video))), axis=1)
        write_video(folder / "clips.mp4", both, fps, crf=16)


def _restore(vae: CausalVAE, video: Tensor) -> Tensor:
    return vae.decode_raw(vae.posterior(video)[0]).clamp(-1, 1)


def _row(video: Tensor) -> np.ndarray:
    """(n, 3, T, H, W) in [-1, 1] -> uint8 (T, H, n * W, 3)."""
    pixels = ((video + 1) * 127.5).round().byte()
    return pixels.permute(2, 3, 0, 4, 1).flatten(2, 3).numpy()
