"""A tiny published data set and VAE in a folder, made by the project's own writers; and a phase to train on it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.models.folders import weights_digest
from goku_core.models.text import WordEncoder
from goku_core.pipeline.context import Context
from goku_core.shards import ShardWriter, write_index
from goku_core.train import Request
from goku_core.train.stage import run

TEXT = {"kind": "words", "width": 16, "max_tokens": 16}
PHASES = {
    "first": {"init_from": "vae", "resolution": "low", "steps": 12, "tokens": 48, "learning_rate": 3e-3},
    "second": {"init_from": "first", "resolution": "low", "steps": 6, "tokens": 64, "clips": 0.5, "images": 0.5},
    "i2v": {
        "init_from": "second",
        "resolution": "low",
        "steps": 4,
        "tokens": 64,
        "clips": 1.0,
        "images": 0.0,
        "image_condition": True,
    },
}


def request(phase: str, ema_decay: float = 0.999, **changes: object) -> Request:
    """The request of one phase; `changes` are the phase's own."""
    everything = Request(
        ema_decay=ema_decay,
        model={"name": "custom", "depth": 2, "width": 32, "heads": 2, "ffn": 64},
        phases={name: {**values, **(changes if name == phase else {})} for name, values in PHASES.items()},
        optimizer="muon",
        checkpoint={"every": 4},
        log_every=2,
        sampling={"steps": 2},
        previews={"images": ["a red circle"], "clips": ["a red circle moving left"]},
    )
    return everything.for_phase(phase)


def make_workspace(folder: Path) -> Path:
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=8, encoder_depth=1, decoder_depth=1))
    (folder / "models/vae").mkdir(parents=True)
    save_file(vae.state_dict(), folder / "models/vae/model.safetensors")
    described = {"kind": "goku-vae", "vae": vae.config.to_json()}
    (folder / "models/vae/config.json").write_text(json.dumps(described))
    resolutions = json.dumps({"low": {"height": 32, "width": 32, "frames": 5, "fps": 8.0}})
    draws, encoder = np.random.default_rng(0), WordEncoder(16, 16)
    made_by = {"vae": weights_digest(folder / "models/vae"), "text": encoder.fingerprint}
    encoders = made_by | {"text_request": json.dumps(TEXT), "resolutions": resolutions}
    writer = ShardWriter(folder / "data/latents/low")
    for number in range(24):
        clip = number % 3 == 0
        caption = ("a red circle", "two blue stars", "a green square above a star")[number % 3]
        latent = draws.standard_normal((4, 2 if clip else 1, 4, 4)).astype(np.float32)
        row = {"sample_id": f"{number:03d}", "clip_id": f"{number:03d}", "first_seconds": 0.0, "text": caption}
        row |= {"kind": "video" if clip else "image", "tokens": 8 if clip else 4}
        writer.add(row, latent, encoder.encode(caption).numpy())
    write_index(folder / "data/latents/low/index.parquet", writer.close(), encoders)
    (folder / "data/latents/encoders.json").write_text(json.dumps(encoders))
    return folder


def train(workspace: Path, phase: str, place: Path, **changes: object):
    """Runs one phase; outputs land in place/out, checkpoints in place/scratch."""
    (place / "scratch").mkdir(parents=True, exist_ok=True)
    context = Context(workspace, place / "out", place / "scratch", seed=5, cores=1)
    return run(request(phase, **changes), context)


if __name__ == "__main__":  # as a process of its own, for tests that kill it
    train(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), steps=int(sys.argv[4]))
