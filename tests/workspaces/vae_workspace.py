"""A short training of a tiny VAE with every term that has a state, in this process or as one that a test kills."""

from __future__ import annotations

import sys
from pathlib import Path

from goku_core.pipeline.context import Context
from goku_core.vae import Request, run
from goku_core.vae.report import Report

TINY = {
    "height": 16,
    "image_width": 32,
    "frames": 5,
    "width": 8,
    "encoder_depth": 1,
    "decoder_depth": 1,
    "batch_images": 2,
    "batch_clips": 1,
    "held_out": 0.2,
    "checkpoint_every": 4,
    "adversarial": {"weight": 0.1, "start": 2, "width": 8, "depth": 2},
}


def train_vae(workspace: Path, place: Path, **changes: object) -> Report:
    """Outputs land in place/out, checkpoints in place/scratch."""
    (place / "scratch").mkdir(parents=True, exist_ok=True)
    context = Context(workspace, place / "out", place / "scratch", seed=3, cores=1)
    return run(Request(**{**TINY, "steps": 14, **changes}), context)


if __name__ == "__main__":
    train_vae(Path(sys.argv[1]), Path(sys.argv[2]), steps=int(sys.argv[3]))
